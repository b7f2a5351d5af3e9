// The gated recurrent unit on a GPU at sizes that reach every kernel: values, gradients with and without kept gates, and the
// cell with its Jacobian, against the CPU in float64.

#include <cmath>
#include <cstring>

#include "solvent/autodiff/transforms.h"
#include "solvent/core/rng.h"
#include "solvent/nn/gru.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/cuda/cuda_device.h"
#include "solvent/tests/cuda/same_bits.h"
#include "solvent/tests/support/catch.h"
#include "solvent/tests/support/larger.h"

namespace solvent::testing {
namespace {

const Device kGpu = cuda_test_device();

struct Sizes {
  std::int64_t steps, batch, input, hidden;
};

// xs, h0, w_ih, w_hh, b, b_hn
Tensors arguments(const Sizes& s) {
  const Key key(42);
  const double scale = 1 / std::sqrt(static_cast<double>(s.hidden));
  return {normal(key.fold_in(0), {s.steps, s.batch, s.input}, 0.0, 1.0, float64),
          normal(key.fold_in(1), {s.batch, s.hidden}, 0.0, 1.0, float64),
          uniform(key.fold_in(2), {3 * s.hidden, s.input}, -scale, scale, float64),
          uniform(key.fold_in(3), {3 * s.hidden, s.hidden}, -scale, scale, float64),
          uniform(key.fold_in(4), {3 * s.hidden}, -scale, scale, float64),
          uniform(key.fold_in(5), {s.hidden}, -scale, scale, float64)};
}

Tensors as(const Tensors& xs, DType dtype, Device device) {
  Tensors out;
  for (const Tensor& x : xs) out.push_back(to(cast(x, dtype), device));
  return out;
}

double largest_error(const Tensor& got, const Tensor& expected) {
  const std::vector<double> a = cast(to(got, cpu_device), float64).to_vector<double>();
  const std::vector<double> b = cast(to(expected, cpu_device), float64).to_vector<double>();
  if (a.size() != b.size()) return INFINITY;
  double worst = 0, scale = 1;
  for (const double v : b) scale = std::max(scale, std::abs(v));
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double error = std::abs(a[i] - b[i]) / scale;
    worst = larger(worst, error);
  }
  return worst;
}

Tensors run(const Tensors& x) {
  Tensors out;
  out.push_back(gru_sequence(x[0], x[1], x[2], x[3], x[4], x[5]));
  return out;
}

void check(const Sizes& s, DType dtype) {
  INFO("T " << s.steps << " B " << s.batch << " I " << s.input << " H " << s.hidden << " " << to_string(dtype));
  const double tolerance = dtype == float32 ? 5e-6 : 1e-13;
  const Tensors wide = as(arguments(s), dtype, cpu_device);  // rounded to dtype, computed in float64
  const Tensors exact = as(wide, float64, cpu_device);
  const Tensors moved = as(wide, dtype, kGpu);
  CHECK(largest_error(run(moved)[0], run(exact)[0]) < tolerance);
  VjpResult expected = vjp(run, exact), got = vjp(run, moved), again = vjp(run, moved);
  const Tensor seed = normal(Key(7), {s.steps, s.batch, s.hidden}, 0.0, 1.0, float64);
  CHECK(same_bits(got.values[0], run(moved)[0]));  // the gates that are kept change nothing
  const Tensors reference = expected.pullback(Tensors{seed});
  const Tensors device_seed = {to(cast(seed, dtype), kGpu)};
  const Tensors grads = got.pullback(device_seed), twice = again.pullback(device_seed);
  for (std::size_t i = 0; i < grads.size(); ++i) {
    INFO("gradient " << i);
    CHECK(largest_error(grads[i], reference[i]) < 4 * tolerance);
    CHECK(same_bits(grads[i], twice[i]));
  }
}

TEST_CASE("cuda gru: persistent kernels, values and gradients", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const Sizes& s :
       {Sizes{1, 1, 1, 1}, Sizes{9, 2, 3, 5}, Sizes{70, 3, 2, 8}, Sizes{33, 2, 4, 9}, Sizes{40, 2, 1, 16},
        Sizes{12, 2, 3, 17}, Sizes{11, 1, 6, 32}, Sizes{7, 2, 3, 33}, Sizes{10, 1, 2, 64}, Sizes{600, 1, 1, 2}})
    for (const DType dtype : {float32, float64}) check(s, dtype);
}

// All rows at once, and small gradients of weights by partial sums.
TEST_CASE("cuda gru: many sequences of one step, and many rows", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const Sizes& s :
       {Sizes{1, 1023, 2, 3}, Sizes{1, 1024, 2, 3}, Sizes{1, 1023, 1, 1}, Sizes{1, 1024, 1, 1}, Sizes{1, 1090, 2, 2},
        Sizes{1, 4500, 5, 4}, Sizes{1, 4200, 0, 2}, Sizes{1, 4100, 3, 9}, Sizes{25, 200, 2, 3}})
    for (const DType dtype : {float32, float64}) check(s, dtype);
}

TEST_CASE("cuda gru: more than 64 units", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const Sizes& s : {Sizes{1, 1, 2, 65}, Sizes{6, 3, 5, 70}})
    for (const DType dtype : {float32, float64}) check(s, dtype);
}

TEST_CASE("cuda gru: inputs of width 0 and empty batches", "[cuda]") {
  if (!has_cuda_test_device()) return;
  check({5, 2, 0, 3}, float64);
  const Tensors x = as(arguments({4, 0, 2, 3}), float32, kGpu);
  CHECK(run(x)[0].shape() == Shape{4, 0, 3});
  VjpResult r = vjp(run, x);
  const Tensors grads = r.pullback(Tensors{zeros({4, 0, 3}, {float32, kGpu})});
  CHECK(grads[3].to_vector<float>() == std::vector<float>(27, 0.0f));
}

// Beyond 64 MiB of gates they are not kept but computed again from the states.
TEST_CASE("cuda gru: gradients without kept gates", "[cuda][slow]") {
  if (!has_cuda_test_device()) return;
  const Sizes s{3, 700000, 1, 2};
  const Tensors x = as(arguments(s), float32, kGpu);
  VjpResult got = vjp(run, x), expected = vjp(run, as(x, float32, cpu_device));
  const Tensor seed = normal(Key(7), {s.steps, s.batch, s.hidden}, 0.0, 1.0, float32);
  const Tensors grads = got.pullback(Tensors{to(seed, kGpu)}), reference = expected.pullback(Tensors{seed});
  for (std::size_t i = 0; i < grads.size(); ++i) {
    INFO("gradient " << i);
    CHECK(largest_error(grads[i], reference[i]) < 2e-5);
  }
}

TEST_CASE("cuda gru: the cell's value, Jacobian and diagonal equal the CPU's", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const std::int64_t hidden : {1, 5, 16, 70, 1030}) {
    const std::int64_t rows = hidden > 1000 ? 2 : 300;
    INFO("H " << hidden);
    const nn::GruCell cell(3, hidden, Key(5), {.dtype = float64});
    const Tensors theta = as(cell.theta(), float64, cpu_device), moved = as(theta, float64, kGpu);
    const Tensor h = normal(Key(1), {rows, hidden}, 0.0, 1.0, float64);
    const Tensor xw = nn::GruCell::project(normal(Key(2), {rows, 3}, 0.0, 1.0, float64), theta);
    const Tensor h_gpu = to(h, kGpu), xw_gpu = to(xw, kGpu);
    CHECK(largest_error(nn::GruCell::step_projected(h_gpu, xw_gpu, moved), nn::GruCell::step_projected(h, xw, theta)) <
          1e-14);
    const nn::StepJacobian dense = nn::GruCell::jacobian_projected(h_gpu, xw_gpu, moved);
    const nn::StepJacobian dense_cpu = nn::GruCell::jacobian_projected(h, xw, theta);
    CHECK(dense.jacobian.device() == kGpu);
    CHECK(largest_error(dense.value, dense_cpu.value) < 1e-14);
    CHECK(largest_error(dense.jacobian, dense_cpu.jacobian) < 1e-14);
    const nn::StepJacobian diagonal = nn::GruCell::jacobian_diagonal_projected(h_gpu, xw_gpu, moved);
    CHECK(largest_error(diagonal.value, dense_cpu.value) < 1e-14);
    CHECK(largest_error(diagonal.jacobian, nn::GruCell::jacobian_diagonal_projected(h, xw, theta).jacobian) < 1e-14);
  }
}

}  // namespace
}  // namespace solvent::testing
