// The table of operations on a GPU: values and derivatives equal those of the CPU, and two runs have the same bits.
// Without a device (and without the emulator) every case says that it was skipped.

#include <algorithm>
#include <cmath>
#include <cstring>

#include "solvent/core/engine/view.h"
#include "solvent/ops/all_ops.h"
#include "solvent/ops/shape_ops.h"
#include "solvent/tests/cuda/cuda_device.h"
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

double tolerance_for(const OpCase& c, DType dtype) { return dtype == float32 ? c.tolerance_f32 : c.tolerance_f64; }

// Runs `check(case, inputs, tolerance)` for the samples of every entry in both floating types.
template <class F>
void for_samples(F check) {
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
          check(c, xs, tolerance_for(c, dtype));
        } catch (const std::exception& e) {
          FAIL_CHECK(e.what());
        }
      }
    }
}

// The entry's function of its floating inputs, on one device.
struct Restricted {
  TensorsFn f;
  Tensors xs;
};

Restricted restrict_to_floats(const OpCase& c, const Tensors& xs) {
  Restricted r;
  std::vector<std::size_t> active;
  for (std::size_t i = 0; i < xs.size(); ++i)
    if (is_floating(xs[i].dtype())) {
      active.push_back(i);
      r.xs.push_back(xs[i]);
    }
  r.f = [&c, xs, active](const Tensors& floats) {
    Tensors all = xs;
    for (std::size_t k = 0; k < active.size(); ++k) all[active[k]] = floats[k];
    return c.function(std::move(all));
  };
  return r;
}

Tensors directions_like(const Tensors& xs, Key key) {
  Tensors out;
  for (std::size_t i = 0; i < xs.size(); ++i)
    out.push_back(is_floating(xs[i].dtype()) ? normal_sample(key, i, xs[i].shape(), xs[i].dtype()) : Tensor());
  return out;
}

bool is_differentiable(const OpCase& c, const Tensors& xs) {
  return c.not_differentiable.empty() &&
         std::any_of(xs.begin(), xs.end(), [](const Tensor& x) { return is_floating(x.dtype()); });
}

TEST_CASE("cuda: values equal the CPU's", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for_samples([](const OpCase& c, const Tensors& xs, double tolerance) {
    const Tensors expected = c.function(xs);
    const Tensors got = c.function(moved(xs, cuda_test_device()));
    check_equal(got, expected, tolerance);
  });
}

TEST_CASE("cuda: reverse-mode derivatives equal the CPU's", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for_samples([](const OpCase& c, const Tensors& xs, double tolerance) {
    if (!is_differentiable(c, xs)) return;
    const Restricted on_cpu = restrict_to_floats(c, xs);
    VjpResult expected = vjp(on_cpu.f, on_cpu.xs);
    const Tensors seeds = directions_like(expected.values, key_of(c).fold_in(1));
    const Restricted on_gpu = restrict_to_floats(c, moved(xs, cuda_test_device()));
    VjpResult got = vjp(on_gpu.f, on_gpu.xs);
    check_equal(got.pullback(moved(seeds, cuda_test_device())), expected.pullback(seeds), 10 * tolerance);
  });
}

TEST_CASE("cuda: forward-mode derivatives equal the CPU's", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for_samples([](const OpCase& c, const Tensors& xs, double tolerance) {
    if (!is_differentiable(c, xs) || !c.no_forward.empty()) return;
    const Restricted on_cpu = restrict_to_floats(c, xs);
    const Tensors tangents = directions_like(on_cpu.xs, key_of(c).fold_in(2));
    const JvpResult expected = jvp(on_cpu.f, on_cpu.xs, tangents);
    const Restricted on_gpu = restrict_to_floats(c, moved(xs, cuda_test_device()));
    const JvpResult got = jvp(on_gpu.f, on_gpu.xs, moved(tangents, cuda_test_device()));
    check_equal(got.tangents, expected.tangents, 10 * tolerance);
  });
}

TEST_CASE("cuda: strided inputs give the same values", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for_samples([](const OpCase& c, const Tensors& xs, double tolerance) {
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
  for_samples([](const OpCase& c, const Tensors& xs, double) {
    const Tensors first = c.function(moved(xs, cuda_test_device()));
    const Tensors second = c.function(moved(xs, cuda_test_device()));
    REQUIRE(first.size() == second.size());
    for (std::size_t i = 0; i < first.size(); ++i) {
      const Tensor a = to(first[i], cpu_device);
      const Tensor b = to(second[i], cpu_device);
      dispatch_all(a.dtype(), [&](auto tag) {
        using T = typename decltype(tag)::type;
        CHECK((a.numel() == 0 ||
               std::memcmp(a.data<T>(), b.data<T>(), static_cast<std::size_t>(a.numel()) * sizeof(T)) == 0));
      });
    }
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
