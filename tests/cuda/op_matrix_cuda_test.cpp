// The table of operations on a GPU: values and derivatives in every mode, to second order, equal those of the CPU within the
// tolerances of docs/gpu-tolerances.md, and two runs have the same bits.
// Without a device (and without the emulator) every case says that it was skipped.

#include <algorithm>
#include <cmath>

#include "solvent/core/engine/view.h"
#include "solvent/ops/all_ops.h"
#include "solvent/ops/shape_ops.h"
#include "solvent/tests/cuda/cuda_device.h"
#include "solvent/tests/cuda/same_bits.h"
#include "solvent/tests/ops/device_tolerance.h"
#include "solvent/tests/ops/op_table.h"
#include "solvent/tests/support/catch.h"

namespace solvent::testing {
namespace {

const Key kKey(20261121);

Key key_of(const OpCase& c) {
  std::uint64_t hash = 1469598103934665603u;
  for (const char letter : c.name) hash = (hash ^ static_cast<unsigned char>(letter)) * 1099511628211u;
  return kKey.fold_in(hash);
}

Tensors moved(const Tensors& xs, Device device) {
  Tensors out;
  for (const Tensor& x : xs) out.push_back(x.defined() ? to(x, device) : x);
  return out;
}

// "" or what differs: |got - expected| <= tol * max(1, |expected|), NaN equal to NaN, on the device's side of `got`.
std::string difference(const Tensor& got, const Tensor& expected, double tolerance) {
  if (got.defined() != expected.defined())
    return got.defined() ? "defined, expected a zero" : "a zero, expected a tensor";
  if (!got.defined()) return "";
  if (got.device() != cuda_test_device()) return "lives on " + to_string(got.device());
  if (got.dtype() != expected.dtype() || !(got.shape() == expected.shape()))
    return describe(got) + ", expected " + describe(expected);
  const Array g(to(got, cpu_device));
  const Array e(expected);
  for (std::int64_t i = 0; i < g.numel(); ++i) {
    if (g[i] == e[i] || (std::isnan(g[i]) && std::isnan(e[i]))) continue;
    if (!(std::abs(g[i] - e[i]) <= tolerance * std::max(1.0, std::abs(e[i]))))
      return "element " + std::to_string(i) + ": " + to_string(scalar(g[i], float64), 17) + ", expected " +
             to_string(scalar(e[i], float64), 17);
  }
  return "";
}

void check_equal(const Tensors& got, const Tensors& expected, double tolerance) {
  REQUIRE(got.size() == expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) CHECK(difference(got[i], expected[i], tolerance) == "");
}

// Runs `check(case, inputs, tolerance)` for the samples of every entry in both floating types.
template <class F>
void for_samples(Compared what, F check) {
  for (const DType dtype : {float64, float32})
    for (const OpCase& c : op_table()) {
      if (dtype == float32 && !c.no_float32.empty()) continue;
      for (const Tensors& xs : c.samples(key_of(c), dtype)) {
        if (xs.empty())
          continue;  // makes its tensors on the CPU whatever the inputs; random_cuda_test.cpp compares these
        std::string shapes;
        for (const Tensor& x : xs) shapes += " " + describe(x);
        INFO(c.name << shapes);
        try {
          check(c, xs, device_tolerance(c, dtype, what));
        } catch (const std::exception& e) {
          FAIL_CHECK(e.what());
        }
      }
    }
}

// Tangents or cotangents: one of each, or `count` stacked in front.
Tensors directions_like(const Tensors& xs, Key key, std::int64_t count = 0) {
  Tensors out;
  for (std::size_t i = 0; i < xs.size(); ++i) {
    const Shape shape = count > 0 ? prepend(count, xs[i].shape()) : xs[i].shape();
    out.push_back(normal_sample(key, i, shape, xs[i].dtype()));
  }
  return out;
}

Tensors floating_ones(const Tensors& xs) {
  Tensors out;
  for (const Tensor& x : xs)
    if (is_floating(x.dtype())) out.push_back(x);
  return out;
}

constexpr std::int64_t kDirections = 3;
// Larger samples (matrix functions of 25 x 25) have one nesting: the others would take the emulator too long.
constexpr std::int64_t kManyElements = 200;

std::int64_t total(const Tensors& xs) {
  std::int64_t n = 0;
  for (const Tensor& x : xs) n += x.numel();
  return n;
}

// An entry's function from its floating inputs to its floating outputs, at one point on one device, and the directions of
// its derivatives.
struct Point {
  TensorsFn f;
  Tensors xs;
  Tensors u, v, us;  // like xs; `us` are several
  Tensors w;         // like f(xs)

  Point(const OpCase& c, const Tensors& inputs) : xs(floating_ones(inputs)) {
    f = [&c, inputs](const Tensors& floats) {
      Tensors all = inputs;
      std::size_t next = 0;
      for (Tensor& x : all)
        if (is_floating(x.dtype())) x = floats[next++];
      return floating_ones(c.function(std::move(all)));
    };
  }
  void make_directions(Key key) {
    u = directions_like(xs, key.fold_in(1)), v = directions_like(xs, key.fold_in(2));
    us = directions_like(xs, key.fold_in(3), kDirections);
    w = directions_like(f(xs), key.fold_in(4));
  }
  void take_directions(const Point& p, Device device) {
    u = moved(p.u, device), v = moved(p.v, device), us = moved(p.us, device), w = moved(p.w, device);
  }
};

Tensors forward(const Point& p, const Tensors& at) { return jvp(p.f, at, p.u).tangents; }
Tensors reverse(const Point& p, const Tensors& at) { return vjp(p.f, at).pullback(p.w); }
Tensors batched(const Point& p, const Tensors& at) { return jvp_batched(p.f, at, p.us, kDirections).tangents; }

using Derivative = Tensors (*)(const Point& p, const Tensors& at);
template <Derivative inner>
Tensors forward_over(const Point& p) {
  return jvp([&p](const Tensors& at) { return inner(p, at); }, p.xs, p.v).tangents;
}
// The cotangents of a pushforward are like outputs, those of a pullback like inputs.
Tensors reverse_over_forward(const Point& p) {
  return vjp([&p](const Tensors& at) { return forward(p, at); }, p.xs).pullback(p.w);
}
Tensors reverse_over_reverse(const Point& p) {
  return vjp([&p](const Tensors& at) { return reverse(p, at); }, p.xs).pullback(p.u);
}
Tensors batched_over_batched(const Point& p) {
  return jvp_batched([&p](const Tensors& at) { return batched(p, at); }, p.xs, p.us, kDirections).tangents;
}

// Runs `check(case, on the GPU, on the CPU, tolerance)` for the samples of differentiable entries.
template <class F>
void for_points(F check) {
  for_samples(Compared::derivatives, [&](const OpCase& c, const Tensors& xs, double tolerance) {
    if (!c.not_differentiable.empty() || floating_ones(xs).empty()) return;
    Point cpu(c, xs), gpu(c, moved(xs, cuda_test_device()));
    cpu.make_directions(key_of(c));
    gpu.take_directions(cpu, cuda_test_device());
    check(c, gpu, cpu, tolerance);
  });
}

TEST_CASE("cuda: values equal the CPU's", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for_samples(Compared::values, [](const OpCase& c, const Tensors& xs, double tolerance) {
    const Tensors expected = c.function(xs);
    const Tensors got = c.function(moved(xs, cuda_test_device()));
    check_equal(got, expected, tolerance);
  });
}

TEST_CASE("cuda: reverse-mode derivatives equal the CPU's", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for_points([](const OpCase&, const Point& gpu, const Point& cpu, double tolerance) {
    check_equal(reverse(gpu, gpu.xs), reverse(cpu, cpu.xs), tolerance);
  });
}

TEST_CASE("cuda: forward-mode derivatives equal the CPU's, in one direction and in several", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for_points([](const OpCase& c, const Point& gpu, const Point& cpu, double tolerance) {
    if (!c.no_forward.empty()) return;
    check_equal(forward(gpu, gpu.xs), forward(cpu, cpu.xs), tolerance);
    check_equal(batched(gpu, gpu.xs), batched(cpu, cpu.xs), tolerance);
  });
}

TEST_CASE("cuda: second derivatives equal the CPU's in every nesting of the modes", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for_points([](const OpCase& c, const Point& gpu, const Point& cpu, double tolerance) {
    if (!c.no_second_order.empty()) return;
    const auto compare = [&](const char* nesting, Tensors (*derivative)(const Point&)) {
      INFO(nesting);
      check_equal(derivative(gpu), derivative(cpu), tolerance);
    };
    compare("reverse over reverse", reverse_over_reverse);
    if (!c.no_forward.empty() || total(gpu.xs) > kManyElements) return;
    compare("forward over forward", forward_over<forward>);
    compare("forward over reverse", forward_over<reverse>);
    compare("reverse over forward", reverse_over_forward);
    compare("directions over directions", batched_over_batched);
  });
}

TEST_CASE("cuda: strided inputs give the same values", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for_samples(Compared::values, [](const OpCase& c, const Tensors& xs, double tolerance) {
    if (!c.no_strided.empty()) return;
    Tensors strided;
    for (const Tensor& x : moved(xs, cuda_test_device())) {  // every second element of twice as much memory, shifted
      const Tensor memory =
          full({2 * x.numel() + 3}, is_floating(x.dtype()) ? std::nan("") : 1.0, {x.dtype(), x.device()});
      Strides strides = contiguous_strides(x.shape());
      for (std::int64_t& s : strides) s *= 2;
      Tensor y = engine::view(memory, x.shape(), strides, 1);
      engine::copy_into(x, y);
      strided.push_back(y);
    }
    check_equal(c.function(strided), c.function(xs), tolerance);
  });
}

TEST_CASE("cuda: two runs have the same bits", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for_samples(Compared::values, [](const OpCase& c, const Tensors& xs, double) {
    const Tensors first = c.function(moved(xs, cuda_test_device()));
    const Tensors second = c.function(moved(xs, cuda_test_device()));
    REQUIRE(first.size() == second.size());
    for (std::size_t i = 0; i < first.size(); ++i) CHECK(same_bits(first[i], second[i]));
  });
}

TEST_CASE("cuda: every operation has a kernel", "[cuda]") {
  for (const OpDef* op : all_ops()) {
    INFO(op->name);
    CHECK(op->cuda != nullptr);
  }
}

}  // namespace
}  // namespace solvent::testing
