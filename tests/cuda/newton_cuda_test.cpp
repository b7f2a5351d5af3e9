// The fused Newton kernels for the GRU; the generic path on the same device is their twin.

#include <cmath>
#include <limits>

#include "solvent/autodiff/transforms.h"
#include "solvent/core/error.h"
#include "solvent/core/rng.h"
#include "solvent/ops/ops.h"
#include "solvent/solvers/sequence.h"
#include "solvent/tests/cuda/cuda_device.h"
#include "solvent/tests/cuda/gru_problem.h"
#include "solvent/tests/cuda/same_bits.h"
#include "solvent/tests/support/catch.h"

namespace solvent::solvers {
namespace {

const Device kGpu = testing::cuda_test_device();
using testing::has_cuda_test_device;
using Problem = testing::GruProblem;

Solution solve(const Problem& p, Deer method, bool fused, const Options& options = {}) {
  method.fused = fused;
  return solve_sequence(p.cell, p.h0, p.xs, p.theta, method, options);
}

/// Certain that a kernel ran: the generic path counts linear solves, fused ones do not.
bool ran_fused(const Solution& s) { return s.stats.linear_solves == 0; }

double largest_difference(const Tensor& a, const Tensor& b) { return max(abs(a - b)).item(); }

/// Both paths to a tight tolerance, but in float32 not one that the rounding of a residual decides.
void check_case(std::int64_t n, std::int64_t steps, std::int64_t batch, DType dtype,
                nn::RecurrentInit init = nn::RecurrentInit::equinox) {
  INFO("n " << n << " T " << steps << " B " << batch << " " << to_string(dtype));
  const Problem p = testing::gru_problem(n, steps, batch, dtype, 1.0, init);
  Options options;
  options.termination.atol = dtype == float32 ? 1e-5 : 1e-12;
  options.termination.rtol = 0;
  const Solution expected = solve(p, Deer{}, false, options), got = solve(p, Deer{}, true, options);
  REQUIRE(ran_fused(got));
  REQUIRE(!ran_fused(expected));
  CHECK(got.ok());
  CHECK(got.value.device() == kGpu);
  CHECK(largest_difference(got.value, expected.value) < (dtype == float32 ? 2e-5 : 1e-11));
  CHECK(got.stats.steps_per_item == expected.stats.steps_per_item);
  CHECK(got.stats.best_step == expected.stats.best_step);
  CHECK(got.max_steps == expected.max_steps);
  // The certificate is the defect of the states that were returned, up to the rounding of the two evaluations.
  const double defect = max(abs(sequence_residual(p.cell, got.value, p.h0, p.xs, p.theta))).item();
  CHECK(std::abs(got.stats.residual - defect) < (dtype == float32 ? 1e-6 : 2e-15));
}

TEST_CASE("cuda newton: states and steps are those of the generic path, whatever the sizes", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const DType dtype : {float32, float64}) {
    for (const std::int64_t n : {1, 2, 3, 4, 5, 8, 16, 17, 32})
      for (const std::int64_t steps : {1, 2, 31, 70}) {
        check_case(n, steps, 1, dtype);
        if (n != 3 && n != 17) check_case(n, steps, 3, dtype);
      }
  }
}

TEST_CASE("cuda newton: many chunks", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const DType dtype : {float32, float64}) {
    for (const std::int64_t n : {1, 2, 3, 4}) check_case(n, 4097, n == 2 ? 3 : 1, dtype);
    for (const std::int64_t n : {5, 8}) check_case(n, 1000, 3, dtype);
  }
  check_case(8, 4097, 1, float32);
  check_case(16, 1000, 1, float64);
  check_case(16, 1000, 3, float32);
  check_case(17, 400, 1, float64);
  check_case(32, 500, 1, float32);
  check_case(32, 200, 3, float64);
}

// Orthogonal recurrent weights remember for longer and take more steps.
TEST_CASE("cuda newton: weights as Flax draws them", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const std::int64_t n : {2, 4, 7}) check_case(n, 500, 2, float64, nn::RecurrentInit::flax);
}

TEST_CASE("cuda newton: default tolerances, windows and strided operands", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const std::int64_t n : {3, 6}) {
    Problem p = testing::gru_problem(n, 200, 2, float32);
    for (const std::int64_t window : {0, 1, 33, 150, 200, 500}) {
      INFO("n " << n << " window " << window);
      const Deer method{.window = window};
      const Solution expected = solve(p, method, false), got = solve(p, method, true);
      REQUIRE(ran_fused(got));
      CHECK(got.stats.steps_per_item == expected.stats.steps_per_item);
      CHECK(got.stats.windows == expected.stats.windows);
      CHECK(got.stats.history.size() == expected.stats.history.size());
      CHECK(got.max_steps == expected.max_steps);
      CHECK(largest_difference(got.value, expected.value) < 1e-5);
    }
    const Tensor dense = solve(p, Deer{}, true).value;
    p.xs = transpose(contiguous(transpose(p.xs, 0, 1)), 0, 1);
    p.theta[1] = mT(contiguous(mT(p.theta[1])));
    CHECK(testing::same_bits(solve(p, Deer{}, true).value, dense));
  }
}

// Sequences that are done earlier leave; they have the bits they would have alone, and at every run.
TEST_CASE("cuda newton: the same bits in any batch and at every run", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const auto& [n, steps] : {std::pair{2, 300}, {1, 4500}, {9, 300}, {6, 4500}}) {
    Problem p = testing::gru_problem(n, steps, 4, float32, n == 2 || n == 9 ? 2.0 : 1.0);
    std::vector<double> xs = cast(p.xs, float64).to_vector<double>();
    for (std::size_t i = 0; i < xs.size(); ++i) xs[i] *= static_cast<double>(i / 2 % 4) / 2;
    p.xs = cast(from_vector(xs, p.xs.shape(), kGpu), float32);
    Options options;
    options.termination.atol = 1e-5;
    options.termination.rtol = 0;
    const Solution all = solve(p, Deer{}, true, options);
    REQUIRE(ran_fused(all));
    CHECK(all.stats.steps_per_item == solve(p, Deer{}, false, options).stats.steps_per_item);
    CHECK(testing::same_bits(solve(p, Deer{}, true, options).value, all.value));
    const auto [fewest, most] = std::minmax_element(all.stats.steps_per_item.begin(), all.stats.steps_per_item.end());
    CHECK(*fewest < *most);
    for (std::int64_t b = 0; b < 4; ++b) {
      Problem one = p;
      one.h0 = slice(p.h0, 0, b, b + 1);
      one.xs = slice(p.xs, 1, b, b + 1);
      CHECK(testing::same_bits(contiguous(slice(all.value, 1, b, b + 1)), solve(one, Deer{}, true, options).value));
    }
  }
}

/// Status, steps, limit and the best iterate of both paths, for solves that are cut short too. Ratios to the tolerance may
/// differ where they consist of rounding.
void check_same(const Problem& p, const Options& options, double tolerance, const Deer& method = {}) {
  const Solution expected = solve(p, method, false, options), got = solve(p, method, true, options);
  REQUIRE(ran_fused(got));
  CHECK(got.status == expected.status);
  CHECK(got.max_steps == expected.max_steps);
  CHECK(got.stats.steps_per_item == expected.stats.steps_per_item);
  CHECK(got.stats.best_step == expected.stats.best_step);
  CHECK(got.stats.residual == Approx(expected.stats.residual).epsilon(1e-4).margin(1e-13));
  CHECK(largest_difference(got.value, expected.value) <= tolerance);
  REQUIRE(got.stats.history.size() == expected.stats.history.size());
  for (std::size_t k = 0; k < got.stats.history.size(); ++k)
    CHECK(got.stats.history[k] == Approx(expected.stats.history[k]).epsilon(1e-3).margin(1e-3));
}

TEST_CASE("cuda newton: too few steps end with the best iterate", "[cuda]") {
  if (!has_cuda_test_device()) return;
  Options options;
  options.on_failure = OnFailure::return_best;
  options.termination.atol = 1e-11;
  options.termination.rtol = 0;
  for (const std::int64_t n : {1, 4, 8, 20})
    for (const int limit : {1, 2, 3}) {
      INFO("n " << n << " limit " << limit);
      options.termination.max_steps = limit;
      check_same(testing::gru_problem(n, 150, 2, float64), options, 1e-9);
      CHECK(solve(testing::gru_problem(n, 150, 2, float64), Deer{}, true, options).status == Status::max_steps);
    }
}

// Expanding cells: residuals go up and down, so that the best iterate is none of the last two for some sequences.
TEST_CASE("cuda newton: expanding cells, with the best iterate long ago", "[cuda]") {
  if (!has_cuda_test_device()) return;
  Options options;
  options.on_failure = OnFailure::return_best;
  options.termination.rtol = 0;
  options.termination.atol = 1e-11;
  bool early_best = false, other_status = false;
  for (const double scale : {6.0, 20.0})
    for (const std::int64_t n : {2, 6})
      for (const int limit : {3, 5, 6}) {
        INFO("n " << n << " scale " << scale << " limit " << limit);
        const Problem p = testing::gru_problem(n, 60, 3, float64, scale);
        options.termination.max_steps = limit;
        options.termination.divergence_factor = scale > 6 ? 1e3 : 1e6;
        check_same(p, options, 1e-6);
        const Solution got = solve(p, Deer{}, true, options);
        early_best = early_best || got.stats.best_step + 2 <= got.stats.steps;
        other_status = other_status || got.status == Status::diverged;
      }
  CHECK(early_best);
  CHECK(other_status);
}

TEST_CASE("cuda newton: stalls are told from too few steps", "[cuda]") {
  if (!has_cuda_test_device()) return;
  Options options;
  options.on_failure = OnFailure::return_best;
  options.termination.patience = 1;
  for (const std::int64_t n : {2, 6}) {
    const Problem p = testing::gru_problem(n, 60, 3, float64, 6.0);
    check_same(p, options, 1e-6);
    CHECK(solve(p, Deer{}, true, options).status == Status::stalled);
  }
}

TEST_CASE("cuda newton: what is not finite is reported, for its own sequence only", "[cuda]") {
  if (!has_cuda_test_device()) return;
  Options options;
  options.on_failure = OnFailure::return_best;
  for (const std::int64_t n : {1, 4, 5, 17}) {
    INFO("n " << n);
    Problem p = testing::gru_problem(n, 50, 2, float32);
    const Tensor good = solve(p, Deer{}, true, options).value;
    std::vector<float> xs = p.xs.to_vector<float>();
    xs[20 * 4] = std::nanf("");  // sequence 0
    Problem bad = p;
    bad.xs = from_vector(xs, p.xs.shape(), kGpu);
    const Solution got = solve(bad, Deer{}, true, options);
    CHECK(got.status == Status::non_finite);
    CHECK(std::isinf(got.stats.residual));
    CHECK(got.stats.steps_per_item == solve(bad, Deer{}, false, options).stats.steps_per_item);
    CHECK(testing::same_bits(contiguous(slice(got.value, 1, 1, 2)), contiguous(slice(good, 1, 1, 2))));
    for (const double value : {std::nan(""), std::numeric_limits<double>::infinity()}) {
      bad = p;
      bad.theta[1] = full({3 * n, n}, value, {float32, kGpu});
      const Solution of_bad = solve(bad, Deer{}, true, options);
      CHECK(of_bad.status == solve(bad, Deer{}, false, options).status);
      if (std::isnan(value)) CHECK(of_bad.status == Status::non_finite);
    }
  }
}

/// An iterate near nothing in particular.
Tensor some_guess(const Problem& p, double scale) {
  const Shape shape{p.xs.size(0), p.h0.size(0), p.h0.size(1)};
  return to(normal(Key(8), shape, 0.0, scale, p.h0.dtype()), kGpu);
}

// Steps are cut off at 4, where residuals are well above rounding: then iterates are compared, not only their limit.
TEST_CASE("cuda newton: damping and warm starts give the iterates of the generic path", "[cuda]") {
  if (!has_cuda_test_device()) return;
  Options options;
  options.on_failure = OnFailure::return_best;
  options.termination.atol = 1e-11;
  options.termination.rtol = 0;
  options.termination.max_steps = 4;
  for (const auto& [n, steps] : {std::pair{1, 700}, {2, 100}, {3, 40}, {4, 100}, {6, 150}, {16, 70}, {20, 70}})
    for (const double damping : {0.0, 0.2, 0.7, 1.0})
      for (const bool warm : {false, true}) {
        INFO("n " << n << " damping " << damping << " warm " << warm);
        const Problem p = testing::gru_problem(n, steps, 2, float64);
        options.initial_guess = warm ? some_guess(p, 0.5) : Tensor();
        check_same(p, options, 1e-9, Deer{.damping = damping});
      }
}

TEST_CASE("cuda newton: damping and warm starts converge in as many steps as on the generic path", "[cuda]") {
  if (!has_cuda_test_device()) return;
  Options options;
  options.termination.atol = 1e-8;
  options.termination.rtol = 0;
  for (const std::int64_t n : {2, 7})
    for (const std::int64_t window : {0, 33}) {
      INFO("n " << n << " window " << window);
      const Problem p = testing::gru_problem(n, 130, 3, float64);
      options.initial_guess = Tensor();
      const Tensor exact = solve(p, Deer{}, true, options).value;
      check_same(p, options, 1e-7, Deer{.damping = 0.3, .window = window});
      CHECK(largest_difference(solve(p, Deer{.damping = 0.3, .window = window}, true, options).value, exact) < 1e-6);
      options.initial_guess = some_guess(p, 0.2);
      check_same(p, options, 1e-7, Deer{.window = window});
      CHECK(largest_difference(solve(p, Deer{.window = window}, true, options).value, exact) < 1e-6);
      // A small change of the weights: close to the old solution, and fewer steps than from h0.
      Problem changed = p;
      changed.theta[1] = p.theta[1] * 1.001;
      options.initial_guess = exact;
      check_same(changed, options, 1e-7, Deer{.window = window});
      const int warm = solve(changed, Deer{.window = window}, true, options).stats.steps;
      options.initial_guess = Tensor();
      CHECK(warm < solve(changed, Deer{.window = window}, true, options).stats.steps);
    }
}

TEST_CASE("cuda newton: the solution as a warm start is returned as it is, a guess that is not finite replaced",
          "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const std::int64_t n : {1, 3, 9}) {
    INFO("n " << n);
    const Problem p = testing::gru_problem(n, 90, 2, float64);
    Options options;
    options.initial_guess = solve(p, Deer{}, true).value;
    Solution got = solve(p, Deer{}, true, options);
    CHECK(ran_fused(got));
    CHECK(got.stats.steps == 0);
    CHECK(largest_difference(got.value, options.initial_guess) == 0);
    // Strided: the same numbers.
    options.initial_guess = transpose(contiguous(transpose(options.initial_guess, 0, 1)), 0, 1);
    CHECK(testing::same_bits(solve(p, Deer{}, true, options).value, got.value));

    std::vector<double> values = got.value.to_vector<double>();
    values[static_cast<std::size_t>(5 * 2 * n)] = std::nan("");  // sequence 0
    options.initial_guess = from_vector(values, got.value.shape(), kGpu);
    const Solution repaired = solve(p, Deer{}, true, options), expected = solve(p, Deer{}, false, options);
    CHECK(ran_fused(repaired));
    CHECK(repaired.ok());
    CHECK(repaired.stats.replaced_guesses == 1);
    CHECK(expected.stats.replaced_guesses == 1);
    CHECK(repaired.stats.steps_per_item == expected.stats.steps_per_item);
    CHECK(repaired.stats.steps_per_item[1] == 0);
  }
  const Problem p = testing::gru_problem(3, 20, 2, float64);
  Options options;
  options.initial_guess = to(some_guess(p, 0.1), cpu_device);
  CHECK_THROWS_AS(solve(p, Deer{}, true, options), DeviceError);
  CHECK_THROWS_WITH(solve(p, Deer{}, true, options),
                    Catch::Contains("initial_guess") && Catch::Contains("to(x, device)"));
}

TEST_CASE("cuda newton: the kernel leaves to the generic path what it does not do", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const Problem p = testing::gru_problem(3, 40, 2, float64);
  CHECK(!ran_fused(solve(p, Deer{.jacobian = JacobianKind::diagonal}, true)));
  CHECK(!ran_fused(solve(testing::gru_problem(33, 3, 1, float32), Deer{}, true)));
  Options step;
  step.termination.on = Criterion::step;
  CHECK(!ran_fused(solve(p, Deer{}, true, step)));
  Options watched;
  watched.each_step = [](const StepInfo&) {};
  CHECK(!ran_fused(solve(p, Deer{}, true, watched)));
}

Tensors gradients(const Problem& p, Device device, Deer method, const Options& options) {
  Tensors all = {to(p.h0, device), to(p.xs, device)};
  for (const Tensor& t : p.theta) all.push_back(to(t, device));
  const auto loss = [&](const Tensors& x) -> Tensors {
    Tensors out;
    const Tensors theta(x.begin() + 2, x.end());
    out.push_back(sum(square(solve_sequence(p.cell, x[0], x[1], theta, method, options).value)));
    return out;
  };
  return vjp(loss, all).pullback(Tensors{ones({}, {p.h0.dtype(), device})});
}

TEST_CASE("cuda newton: implicit gradients equal those of the generic path on the CPU", "[cuda]") {
  if (!has_cuda_test_device()) return;
  Options options;
  options.termination.atol = 1e-12;
  options.termination.rtol = 0;
  for (const auto& [n, steps] : {std::pair{1, 2100}, {4, 90}, {6, 90}, {17, 40}}) {
    const Problem p = testing::gru_problem(n, steps, 2, float64);
    const Tensors expected = gradients(p, cpu_device, Deer{.fused = false}, options);
    const Tensors got = gradients(p, kGpu, Deer{}, options), again = gradients(p, kGpu, Deer{}, options);
    REQUIRE(got.size() == expected.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      INFO("n " << n << " argument " << i);
      CHECK(testing::same_bits(got[i], again[i]));
      CHECK(largest_difference(to(got[i], cpu_device), expected[i]) < 1e-9 * (1 + max(abs(expected[i])).item()));
    }
  }
}

}  // namespace
}  // namespace solvent::solvers
