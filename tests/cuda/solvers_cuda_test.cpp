// Solvers on a GPU: the CPU's solutions, steps and gradients.

#include <cmath>
#include <limits>

#include "solvent/autodiff/transforms.h"
#include "solvent/core/rng.h"
#include "solvent/nn/gru.h"
#include "solvent/ops/ops.h"
#include "solvent/solvers/root.h"
#include "solvent/solvers/sequence.h"
#include "solvent/solvers/termination.h"
#include "solvent/tests/cuda/cuda_device.h"
#include "solvent/tests/cuda/device_error.h"
#include "solvent/tests/support/catch.h"

namespace solvent::solvers {
namespace {

const Device kGpu = testing::cuda_test_device();
using testing::has_cuda_test_device;

void check_norms(const Shape& shape, int item_axis) {
  INFO(to_string(shape) << " items along " << item_axis);
  for (const DType dtype : {float32, float64}) {
    const Tensor r = normal(Key(1), shape, 0.0, 1.0, dtype), y = normal(Key(2), shape, 0.0, 1.0, dtype);
    const detail::ItemNorms expected = detail::item_norms(r, y, item_axis, {1e-3, 1e-2});
    const detail::ItemNorms got = detail::item_norms(to(r, kGpu), to(y, kGpu), item_axis, {1e-3, 1e-2});
    CHECK(got.ratio == expected.ratio);
    CHECK(got.residual == expected.residual);
  }
}

TEST_CASE("cuda solvers: norms per item are those of the CPU, bit by bit", "[cuda]") {
  if (!has_cuda_test_device()) return;
  check_norms({7}, -1);
  check_norms({3, 5}, 0);
  check_norms({4099, 2, 3}, 1);  // several slices
  check_norms({50, 1, 700}, 1);
  check_norms({2000, 1}, 0);
  check_norms({0, 3}, 1);
}

TEST_CASE("cuda solvers: what is not finite counts as infinite, for its own item only", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const double inf = std::numeric_limits<double>::infinity(), nan = std::nan("");
  const Tensor r = tensor({0.5, nan, 0.5, inf, 0.0}, float64), y = tensor({1, 1, inf, 1, 0}, float64);
  for (const detail::Tolerance tol : {detail::Tolerance{1.0, 0.0}, detail::Tolerance{0.0, 1.0}}) {
    const detail::ItemNorms expected = detail::item_norms(r, y, 0, tol);
    const detail::ItemNorms got = detail::item_norms(to(r, kGpu), to(y, kGpu), 0, tol);
    CHECK(got.ratio == expected.ratio);
    CHECK(got.residual == expected.residual);
    CHECK(got.ratio[0] == 0.5);
    CHECK(std::isinf(got.ratio[1]));
  }
  CHECK(detail::finite_items(to(y, kGpu), 0) == std::vector<bool>{true, true, false, true, true});
}

struct Setup {
  Tensor h0, xs;
  Tensors theta;
};

Setup setup(Device device, DType dtype) {
  const nn::GruCell cell(2, 5, Key(3), {.dtype = dtype});
  Setup s{
      to(normal(Key(1), {3, 5}, 0.0, 0.5, dtype), device), to(normal(Key(2), {37, 3, 2}, 0.0, 1.0, dtype), device), {}};
  for (const Tensor& t : cell.theta()) s.theta.push_back(to(t, device));
  return s;
}

const std::vector<SequenceMethod>& methods() {
  static const std::vector<SequenceMethod> list = {Sequential{},
                                                   Sequential{.fused = false},
                                                   Jacobi{},
                                                   Jacobi{.window = 7},
                                                   GaussSeidel{.block = 5},
                                                   Deer{},
                                                   Deer{.damping = 0.2},
                                                   Deer{.window = 9},
                                                   Deer{.jacobian = JacobianKind::diagonal},
                                                   Shooting{.chunk = 8, .burn_in = 4},
                                                   Shooting{.chunk = 8, .burn_in = 4, .fused = false}};
  return list;
}

TEST_CASE("cuda solvers: every method of solve_sequence reaches the CPU's solution", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const SequenceCell cell = sequence_cell(nn::GruCell(2, 5, Key(3)).functions());
  for (const DType dtype : {float32, float64}) {
    const Setup on_cpu = setup(cpu_device, dtype), on_gpu = setup(kGpu, dtype);
    Options options;
    options.termination.atol = dtype == float32 ? 1e-6 : 1e-12;
    options.termination.rtol = 0;
    const Tensor exact = solve_sequence(cell, on_cpu.h0, on_cpu.xs, on_cpu.theta, Sequential{}, options).value;
    for (const SequenceMethod& method : methods()) {
      INFO(name_of(method) << " " << to_string(dtype));
      const Solution got = solve_sequence(cell, on_gpu.h0, on_gpu.xs, on_gpu.theta, method, options);
      CHECK(got.ok());
      CHECK(got.value.device() == kGpu);
      CHECK(testing::error(got.value, exact) < (dtype == float32 ? 2e-5 : 1e-10));
    }
  }
}

// The generic path is the fused kernel's twin.
TEST_CASE("cuda solvers: fused shooting ends with the bits of one rollout, whatever the chunks are", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const SequenceCell cell = sequence_cell(nn::GruCell(2, 5, Key(3)).functions());
  for (const DType dtype : {float32, float64}) {
    const Setup s = setup(kGpu, dtype);
    const Tensor exact = solve_sequence(cell, s.h0, s.xs, s.theta, Shooting{.chunk = 37}).value;  // one chunk
    CHECK(testing::error(exact, to(cell.sequence(s.h0, s.xs, s.theta), cpu_device)) <
          (dtype == float32 ? 1e-6 : 1e-14));
    for (const std::int64_t chunk : {1, 8, 36, 37, 50, 0})
      for (const std::int64_t burn_in : {0, 3, -1}) {
        INFO("chunk " << chunk << " burn-in " << burn_in);
        Options options;
        options.termination.atol = 0;  // every border must agree in all bits
        options.termination.rtol = 0;
        const Solution got =
            solve_sequence(cell, s.h0, s.xs, s.theta, Shooting{.chunk = chunk, .burn_in = burn_in}, options);
        CHECK(got.ok());
        CHECK(got.stats.residual == 0);
        CHECK(cast(got.value, float64).to_vector<double>() == cast(exact, float64).to_vector<double>());
      }
  }
}

TEST_CASE("cuda solvers: fused shooting reports its defect, and what is not finite", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const SequenceCell cell = sequence_cell(nn::GruCell(2, 5, Key(3)).functions());
  Setup s = setup(kGpu, float64);
  Options options;
  options.termination.max_steps = 1;
  options.termination.atol = 1e-12;
  options.termination.rtol = 0;
  options.on_failure = OnFailure::return_best;
  const Shooting method{.chunk = 8, .burn_in = 0};
  const Solution early = solve_sequence(cell, s.h0, s.xs, s.theta, method, options);
  CHECK(early.status == Status::max_steps);
  CHECK(early.stats.residual > 1e-3);
  CHECK(early.stats.residual < 2);
  std::vector<double> values = s.xs.to_vector<double>();
  values[20 * 6] = std::nan("");
  s.xs = from_vector(values, s.xs.shape(), kGpu);
  options.termination.max_steps = 100;
  CHECK(solve_sequence(cell, s.h0, s.xs, s.theta, method, options).status == Status::non_finite);
}

TEST_CASE("cuda solvers: Newton takes as many steps as on the CPU", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const SequenceCell cell = sequence_cell(nn::GruCell(2, 5, Key(3)).functions());
  const Setup on_cpu = setup(cpu_device, float64), on_gpu = setup(kGpu, float64);
  const Deer generic{.fused = false};
  const Solution expected = solve_sequence(cell, on_cpu.h0, on_cpu.xs, on_cpu.theta, generic);
  const Solution got = solve_sequence(cell, on_gpu.h0, on_gpu.xs, on_gpu.theta, generic);
  CHECK(got.stats.steps_per_item == expected.stats.steps_per_item);
  CHECK(got.stats.residual == Approx(expected.stats.residual).epsilon(1e-2).margin(1e-14));
}

TEST_CASE("cuda solvers: implicit gradients of a sequence equal the CPU's", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const SequenceCell cell = sequence_cell(nn::GruCell(2, 5, Key(3)).functions());
  Options options;
  options.termination.atol = 1e-12;
  options.termination.rtol = 0;
  const auto gradients = [&](Device device) {
    const Setup s = setup(device, float64);
    Tensors all = {s.h0, s.xs};
    all.insert(all.end(), s.theta.begin(), s.theta.end());
    const auto loss = [&](const Tensors& x) -> Tensors {
      Tensors out;
      out.push_back(
          sum(square(solve_sequence(cell, x[0], x[1], Tensors(x.begin() + 2, x.end()), Deer{}, options).value)));
      return out;
    };
    VjpResult r = vjp(loss, all);
    return r.pullback(Tensors{ones({}, {float64, device})});
  };
  const Tensors expected = gradients(cpu_device), got = gradients(kGpu);
  for (std::size_t i = 0; i < got.size(); ++i) {
    INFO("argument " << i);
    CHECK(testing::error(got[i], expected[i]) < 1e-9);
  }
}

// y^3 + 2 y = x per element, batched as rows.
TEST_CASE("cuda solvers: roots and their gradients equal the CPU's", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const auto residual = [](const Tensor& y, const Tensors& theta) { return y * square(y) + 2.0 * y - theta[0]; };
  const Tensor x = normal(Key(4), {5, 3}, 0.0, 2.0, float64);
  Options options;
  options.termination.atol = 1e-13;
  for (const RootMethod& method : {RootMethod(Newton{}), RootMethod(Newton{.line_search = true})}) {
    const auto run = [&](const Tensor& v) {
      return solve_root(residual, zeros(v.shape(), {float64, v.device()}), {v}, method, options, Batch::rows).value;
    };
    const Tensor on_gpu = to(x, kGpu);
    CHECK(testing::error(run(on_gpu), run(x)) < 1e-12);
    const auto loss = [&](const Tensor& v) { return sum(square(run(v))); };
    CHECK(testing::error(grad(loss, on_gpu), grad(loss, x)) < 1e-11);
  }
}

TEST_CASE("cuda: dense Jacobians by seeds equal the CPU's", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const auto f = [](const Tensor& v) { return sin(v) * sum(square(v)); };
  const Tensor x = normal(Key(4), {7}, 0.0, 1.0, float64), moved = to(x, kGpu);
  CHECK(testing::error(jacfwd(f, moved), jacfwd(f, x)) < 1e-13);
  CHECK(testing::error(jacrev(f, moved), jacrev(f, x)) < 1e-13);
}

}  // namespace
}  // namespace solvent::solvers
