// Sequence solvers against the step-by-step loop: values, gradients, convergence behaviour, errors.

#include "solvent/solvers/sequence.h"

#include <cmath>
#include <limits>

#include "solvent/autodiff/gradcheck.h"
#include "solvent/core/error.h"
#include "solvent/core/parallel.h"
#include "solvent/nn/elman.h"
#include "solvent/nn/gru.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/support/catch.h"

using namespace solvent;
using namespace solvent::solvers;

namespace {

double largest(const Tensor& t) { return max(abs(t)).item(); }
double distance(const Tensor& a, const Tensor& b) { return largest(a - b); }

// A user's cell: theta = {w_h (n, n), w_x (m, n), b (n)}.
Tensor tanh_cell(const Tensor& h, const Tensor& x, const Tensors& theta) {
  return tanh(matmul(h, theta[0]) + matmul(x, theta[1]) + theta[2]);
}

struct Setup {
  Tensor h0, xs;
  Tensors theta;
};

Setup tanh_setup(std::int64_t steps, std::int64_t batch, std::int64_t n, std::int64_t m, double scale,
                 DType dtype = float64) {
  const double s = scale / std::sqrt(static_cast<double>(n));
  return {
      normal(Key(1), {batch, n}, 0, 0.5, dtype),
      normal(Key(2), {steps, batch, m}, 0, 1, dtype),
      {normal(Key(3), {n, n}, 0, s, dtype), normal(Key(4), {m, n}, 0, 0.7, dtype), normal(Key(5), {n}, 0, 0.2, dtype)}};
}

const std::vector<SequenceMethod>& parallel_methods() {
  static const std::vector<SequenceMethod> methods = {Jacobi{},
                                                      Jacobi{.window = 7},
                                                      GaussSeidel{.block = 5},
                                                      Deer{},
                                                      Deer{.damping = 0.2},
                                                      Deer{.window = 9},
                                                      Deer{.jacobian = JacobianKind::diagonal},
                                                      Shooting{.chunk = 8, .burn_in = 4}};
  return methods;
}

Options tight() {
  Options o;
  o.termination.atol = 1e-13;
  o.termination.rtol = 0;
  return o;
}

}  // namespace

TEST_CASE("every method reaches the sequential result of a user's cell, and says so") {
  const Setup s = tanh_setup(41, 3, 4, 2, 0.8);
  const Tensor expected = solve_sequence(tanh_cell, s.h0, s.xs, s.theta, Sequential{}).value;
  for (const SequenceMethod& method : parallel_methods()) {
    const Solution r = solve_sequence(tanh_cell, s.h0, s.xs, s.theta, method, tight());
    INFO(r.message());
    CHECK(r.ok());
    CHECK(distance(r.value, expected) < 1e-12);
    CHECK(r.stats.residual <= 1e-13);
    CHECK(r.stats.steps >= 1);
    CHECK(r.stats.steps_per_item.size() == 3);
    CHECK(r.stats.f_evals >= r.stats.steps);
    SequenceCell cell;
    cell.step = tanh_cell;
    CHECK(largest(sequence_residual(cell, r.value, s.h0, s.xs, s.theta)) <= 2e-13);
  }
}

TEST_CASE("a single step and single sequence work: T = 1, B = 1, n = 1") {
  const Setup s = tanh_setup(1, 1, 1, 1, 0.8);
  const Tensor expected = tanh_cell(s.h0, select(s.xs, 0, 0), s.theta);
  for (const SequenceMethod& method : parallel_methods())
    CHECK(distance(select(solve_sequence(tanh_cell, s.h0, s.xs, s.theta, method, tight()).value, 0, 0), expected) <
          1e-14);
}

TEST_CASE("after k steps the first k states are exact, and T steps always suffice") {
  const Setup s = tanh_setup(30, 2, 3, 2, 6.0);  // expanding
  SequenceCell cell;
  cell.step = tanh_cell;
  const SequenceProblem problem(cell, s.h0, s.xs, s.theta);
  const Tensor expected = solve_sequence(tanh_cell, s.h0, s.xs, s.theta, Sequential{}).value;
  for (const SequenceMethod& method :
       std::vector<SequenceMethod>{Jacobi{}, Deer{}, Deer{.jacobian = JacobianKind::diagonal}}) {
    Stats stats;
    SequenceState state = begin(problem, problem.default_guess());
    for (std::int64_t k = 1; k <= 30; ++k) {
      state = step(method, problem, state, stats);
      CHECK(distance(slice(state.h, 0, 0, k), slice(expected, 0, 0, k)) < 1e-9);
    }
    CHECK(distance(state.h, expected) < 1e-9);
  }
  Options o;
  o.termination.divergence_factor = 0;
  for (const SequenceMethod& method : std::vector<SequenceMethod>{Jacobi{}, Deer{}, GaussSeidel{.block = 4}}) {
    const Solution r = solve_sequence(tanh_cell, s.h0, s.xs, s.theta, method, o);
    CHECK(r.ok());
    CHECK(r.stats.steps <= 31);
  }
}

TEST_CASE("Newton solves an affine cell in one step; Gauss-Seidel with one block is the loop") {
  const Setup s = tanh_setup(50, 2, 3, 2, 0.9);
  const auto affine_cell = [](const Tensor& h, const Tensor& x, const Tensors& t) {
    return matmul(h, t[0]) + matmul(x, t[1]) + t[2];
  };
  const Solution newton = solve_sequence(affine_cell, s.h0, s.xs, s.theta, Deer{});
  CHECK(newton.stats.steps == 1);
  CHECK(distance(newton.value, solve_sequence(affine_cell, s.h0, s.xs, s.theta, Sequential{}).value) < 1e-12);
  const Solution gs = solve_sequence(tanh_cell, s.h0, s.xs, s.theta, GaussSeidel{.block = 50});
  CHECK(gs.stats.steps == 1);
  CHECK(distance(gs.value, solve_sequence(tanh_cell, s.h0, s.xs, s.theta, Sequential{}).value) == 0.0);
}

TEST_CASE("a warm start with the solution costs no step and returns it unchanged; the guess has no derivative") {
  const Setup s = tanh_setup(64, 2, 4, 2, 0.8);
  const Tensor solution = solve_sequence(tanh_cell, s.h0, s.xs, s.theta, Sequential{}).value;
  Options o;
  o.initial_guess = solution;
  for (const SequenceMethod& method : std::vector<SequenceMethod>{Deer{}, Jacobi{}, Shooting{.chunk = 8}}) {
    const Solution r = solve_sequence(tanh_cell, s.h0, s.xs, s.theta, method, o);
    CHECK(r.stats.steps == 0);
    CHECK(r.value.to_vector<double>() == solution.to_vector<double>());
  }
  o.termination.on = Criterion::step;  // as the original counts: one step to see that nothing moves
  CHECK(solve_sequence(tanh_cell, s.h0, s.xs, s.theta, Deer{}, o).stats.steps == 1);
  o.initial_guess = ones({64, 2, 3}, float64);
  CHECK_THROWS_WITH(solve_sequence(tanh_cell, s.h0, s.xs, s.theta, Deer{}, o), Catch::Contains("initial_guess"));
}

TEST_CASE("a guess that is not finite is replaced, counted, and does not harm the other sequences") {
  const Setup s = tanh_setup(32, 3, 2, 2, 0.8);
  std::vector<double> guess(32 * 3 * 2, 0.1);
  guess[2 * (3 * 5 + 1)] = std::numeric_limits<double>::quiet_NaN();  // step 5, sequence 1
  Options o = tight();
  o.initial_guess = from_vector(guess, {32, 3, 2});
  const Solution r = solve_sequence(tanh_cell, s.h0, s.xs, s.theta, Deer{}, o);
  CHECK(r.ok());
  CHECK(r.stats.replaced_guesses == 1);
  CHECK(distance(r.value, solve_sequence(tanh_cell, s.h0, s.xs, s.theta, Sequential{}).value) < 1e-12);
}

TEST_CASE("implicit gradients equal backpropagation through time for every method") {
  const Setup s = tanh_setup(33, 2, 3, 2, 0.8);
  const Tensor w = normal(Key(9), {33, 2, 3}, 0, 1, float64);
  const auto loss = [&](const SequenceMethod& method, Adjoint adjoint) {
    return [&, method, adjoint](const Tensors& v) {
      Options o = tight();
      o.adjoint = adjoint;
      return sum(w * sin(solve_sequence(tanh_cell, v[0], v[1], {v[2], v[3], v[4]}, method, o).value));
    };
  };
  const Tensors at = {s.h0, s.xs, s.theta[0], s.theta[1], s.theta[2]};
  const Tensors expected = grad(loss(Sequential{}, Adjoint::implicit), at);
  for (const SequenceMethod& method : parallel_methods()) {
    const Tensors implicit = grad(loss(method, Adjoint::implicit), at);
    for (std::size_t i = 0; i < at.size(); ++i) {
      INFO(name_of(method) << " input " << i);
      CHECK(distance(implicit[i], expected[i]) <= 1e-11 * (1 + largest(expected[i])));
    }
  }
  // Through all steps: Newton's are differentiated with their Jacobians, so one more order is needed of the cell.
  for (const SequenceMethod& method : std::vector<SequenceMethod>{Jacobi{}, Deer{}, GaussSeidel{.block = 5}}) {
    const Tensors unrolled = grad(loss(method, Adjoint::unrolled), at);
    for (std::size_t i = 0; i < at.size(); ++i)
      CHECK(distance(unrolled[i], expected[i]) <= 1e-7 * (1 + largest(expected[i])));
  }
  for (const Tensor& g : grad(loss(Deer{}, Adjoint::none), at)) CHECK(largest(g) == 0.0);
}

TEST_CASE("implicit derivatives are right in all modes and nestings, for closed-form cells too") {
  const Setup s = tanh_setup(6, 2, 2, 2, 0.8);
  const auto by_lambda = [&](const Tensors& v) -> Tensors {
    return {solve_sequence(tanh_cell, v[0], v[1], {v[2], s.theta[1], s.theta[2]}, Deer{}, tight()).value};
  };
  GradcheckReport report = gradcheck(by_lambda, {s.h0, s.xs, s.theta[0]});
  INFO(report.message);
  CHECK(report.ok);
  const nn::GruCell gru(2, 2, Key(7), {.dtype = float64});
  const SequenceCell cell = sequence_cell(gru.functions());
  const Tensors theta = gru.theta();
  report = gradcheck(
      [&](const Tensors& v) -> Tensors {
        return {solve_sequence(cell, v[0], v[1], {v[2], v[3], v[4], v[5]}, Deer{}, tight()).value};
      },
      {s.h0, s.xs, theta[0], theta[1], theta[2], theta[3]});
  INFO(report.message);
  CHECK(report.ok);
}

TEST_CASE("gradient of a long float64 GRU equals backpropagation to 1e-12 (1 + |g|)") {
  const nn::GruCell gru(4, 8, Key(3), {.init = nn::RecurrentInit::equinox, .dtype = float64});
  const Tensor xs = normal(Key(4), {600, 3, 4}, 0, 1, float64), h0 = normal(Key(5), {3, 8}, 0, 1, float64);
  const Tensor w = normal(Key(6), {600, 3, 8}, 0, 1, float64);
  const SequenceCell cell = sequence_cell(gru.functions());
  const auto loss = [&](const SequenceMethod& method) {
    return [&, method](const Tensors& v) {
      return sum(w * solve_sequence(cell, v[0], v[1], {v[2], v[3], v[4], v[5]}, method, tight()).value);
    };
  };
  Tensors at = {h0, xs};
  for (const Tensor& t : gru.theta()) at.push_back(t);
  const Tensors expected = grad(loss(Sequential{.fused = false}), at);
  for (const SequenceMethod& method :
       std::vector<SequenceMethod>{Deer{}, Deer{.jacobian = JacobianKind::diagonal}, Shooting{}}) {
    const Tensors got = grad(loss(method), at);
    for (std::size_t i = 0; i < at.size(); ++i) {
      INFO(name_of(method) << " input " << i);
      CHECK(distance(got[i], expected[i]) <= 1e-12 * (1 + largest(expected[i])));
    }
  }
}

TEST_CASE("sequences finish on their own and have the same bits in any batch") {
  const nn::GruCell gru(2, 3, Key(3), {.dtype = float64});
  // Different difficulty per sequence: inputs of very different size.
  Tensor xs = normal(Key(4), {80, 4, 2}, 0, 1, float64) * reshape(tensor({0.0, 0.1, 1.0, 6.0}, float64), {4, 1});
  const Tensor h0 = zeros({4, 3}, float64);
  const SequenceCell cell = sequence_cell(gru.functions());
  for (const SequenceMethod& method :
       std::vector<SequenceMethod>{Deer{.fused = false}, Jacobi{}, Deer{.jacobian = JacobianKind::diagonal}}) {
    const Solution all = solve_sequence(cell, h0, xs, gru.theta(), method);
    const auto& steps = all.stats.steps_per_item;
    CHECK(*std::min_element(steps.begin(), steps.end()) < *std::max_element(steps.begin(), steps.end()));
    for (std::int64_t i = 0; i < 4; ++i) {
      const Solution one = solve_sequence(cell, slice(h0, 0, i, i + 1), slice(xs, 1, i, i + 1), gru.theta(), method);
      CHECK(one.stats.steps == steps[static_cast<std::size_t>(i)]);
      CHECK(contiguous(one.value).to_vector<double>() == contiguous(slice(all.value, 1, i, i + 1)).to_vector<double>());
    }
  }
}

TEST_CASE("results have the same bits for any number of threads") {
  const nn::GruCell gru(3, 4, Key(3));
  const Tensor xs = normal(Key(4), {3000, 2, 3}), h0 = zeros({2, 4});
  const SequenceCell cell = sequence_cell(gru.functions());
  for (const SequenceMethod& method :
       std::vector<SequenceMethod>{Sequential{}, Deer{}, Deer{.fused = false}, Shooting{}, Shooting{.fused = false}}) {
    std::vector<float> first;
    for (const int threads : {1, 2}) {
      const NumThreadsGuard guard(threads);
      const auto v = solve_sequence(cell, h0, xs, gru.theta(), method).value.to_vector<float>();
      if (first.empty()) first = v;
      INFO(name_of(method));
      CHECK(v == first);
    }
  }
}

TEST_CASE("a solve that does not converge is never taken for one that did") {
  const Setup s = tanh_setup(60, 2, 3, 2, 6.0);
  Options o;
  o.termination.max_steps = 3;
  CHECK_THROWS_AS(solve_sequence(tanh_cell, s.h0, s.xs, s.theta, Jacobi{}, o), SolverError);
  CHECK_THROWS_WITH(solve_sequence(tanh_cell, s.h0, s.xs, s.theta, Jacobi{}, o),
                    Catch::Contains("max_steps after 3 of 3 steps"));
  o.on_failure = OnFailure::return_best;
  const Solution r = solve_sequence(tanh_cell, s.h0, s.xs, s.theta, Jacobi{}, o);
  CHECK(r.status == Status::max_steps);
  CHECK_FALSE(r.ok());
  CHECK(r.stats.residual > 1e-6);
  CHECK(r.stats.history.size() == 4);
  CHECK_THROWS_AS(r.value_or_throw(), SolverError);
  // The best iterate is returned, and its residual is the one reported.
  SequenceCell cell;
  cell.step = tanh_cell;
  CHECK(largest(sequence_residual(cell, r.value, s.h0, s.xs, s.theta)) == Approx(r.stats.residual));
  // An implicit gradient of it would be meaningless.
  CHECK_THROWS_WITH(
      grad([&](const Tensor& h0) { return sum(solve_sequence(tanh_cell, h0, s.xs, s.theta, Jacobi{}, o).value); },
           s.h0),
      Catch::Contains("needs a converged solution"));
  // Convergence on the last allowed step is convergence.
  Options exact = tight();
  const int needed = solve_sequence(tanh_cell, s.h0, s.xs, s.theta, Jacobi{}, exact).stats.steps;
  exact.termination.max_steps = needed;
  CHECK(solve_sequence(tanh_cell, s.h0, s.xs, s.theta, Jacobi{}, exact).ok());
  exact.termination.max_steps = needed - 1;
  CHECK_THROWS_AS(solve_sequence(tanh_cell, s.h0, s.xs, s.theta, Jacobi{}, exact), SolverError);
}

TEST_CASE("stalling, divergence and non-finite values have their own status") {
  const Tensor h0 = full({1, 1}, 0.5, float64), xs = zeros({40, 1, 1}, float64);
  Options o;
  o.on_failure = OnFailure::return_best;
  // Linear growth by 1e3 per step: Jacobi's residual grows until the prefix has passed.
  const auto growing = [](const Tensor& h, const Tensor&, const Tensors&) { return h * 1000.0; };
  Options absolute = o;
  absolute.termination.rtol = 0;
  absolute.termination.divergence_factor = 100;
  CHECK(solve_sequence(growing, h0, slice(xs, 0, 0, 12), {}, Jacobi{}, absolute).status == Status::diverged);
  absolute.termination.divergence_factor = 0;  // never: twelve sweeps then give the exact result
  CHECK(solve_sequence(growing, h0, slice(xs, 0, 0, 12), {}, Jacobi{}, absolute).ok());
  const auto overflowing = [](const Tensor& h, const Tensor&, const Tensors&) { return exp(h * 800.0); };
  const Solution bad = solve_sequence(overflowing, h0, xs, {}, Deer{}, o);
  CHECK(bad.status == Status::non_finite);
  CHECK(isfinite(sum(bad.value)).item() == 1);  // the best iterate, with its residual
  CHECK(bad.stats.residual > 1e100);
  for (const SequenceMethod& method : std::vector<SequenceMethod>{Sequential{}, Jacobi{}, Shooting{.chunk = 8}}) {
    CHECK(solve_sequence(overflowing, h0, xs, {}, method, o).status == Status::non_finite);
    CHECK_THROWS_WITH(solve_sequence(overflowing, h0, xs, {}, method), Catch::Contains("non_finite"));
  }
  // A tolerance below rounding cannot be met: stalled when patience is given, max_steps otherwise.
  const Setup s = tanh_setup(400, 1, 4, 2, 0.8);
  Options impossible;
  impossible.on_failure = OnFailure::return_best;
  impossible.termination.atol = 1e-19;
  impossible.termination.rtol = 0;
  impossible.termination.patience = 3;
  CHECK(solve_sequence(tanh_cell, s.h0, s.xs, s.theta, Deer{}, impossible).status == Status::stalled);
}

TEST_CASE("statistics of each step can be watched") {
  const Setup s = tanh_setup(50, 2, 3, 2, 0.8);
  std::vector<double> residuals;
  Options o;
  o.each_step = [&](const StepInfo& info) {
    residuals.push_back(info.residual);
    CHECK(info.step + 1 == static_cast<int>(residuals.size()));
    CHECK(info.active_items >= 1);
  };
  const Solution r = solve_sequence(tanh_cell, s.h0, s.xs, s.theta, Deer{}, o);
  CHECK(static_cast<int>(residuals.size()) == r.stats.steps + 1);
  CHECK(residuals.back() < residuals.front());
  CHECK(r.stats.jacobian_evals == r.stats.steps);
  CHECK(r.stats.linear_solves == r.stats.steps);
}

TEST_CASE("wrong arguments are reported with the way out") {
  const Setup s = tanh_setup(5, 2, 3, 2, 0.8);
  const auto message = [&](auto&& call) {
    try {
      call();
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  CHECK_THROWS_AS(solve_sequence(tanh_cell, s.h0, zeros({0, 2, 2}, float64), s.theta), ShapeError);
  CHECK(message([&] {
          solve_sequence(tanh_cell, s.h0, zeros({0, 2, 2}, float64), s.theta);
        }).find("T = 0") != std::string::npos);
  CHECK_THROWS_AS(solve_sequence(tanh_cell, s.h0, zeros({5, 3, 2}, float64), s.theta), ShapeError);
  CHECK(message([&] { solve_sequence(tanh_cell, select(s.h0, 0, 0), s.xs, s.theta); }).find("unsqueeze") !=
        std::string::npos);
  CHECK_THROWS_AS(solve_sequence(tanh_cell, s.h0, cast(s.xs, float32), s.theta), DtypeError);
  CHECK_THROWS_AS(solve_sequence([](const Tensor& h, const Tensor&, const Tensors&) { return sum(h); }, s.h0, s.xs, {}),
                  ShapeError);
  CHECK_THROWS_AS(solve_sequence(tanh_cell, s.h0, s.xs, s.theta, Deer{.damping = 1.5}), ValueError);
  CHECK_THROWS_AS(solve_sequence(tanh_cell, s.h0, s.xs, s.theta, GaussSeidel{.block = 0}), ValueError);
  SequenceCell empty;
  CHECK_THROWS_WITH(solve_sequence(empty, s.h0, s.xs, s.theta), Catch::Contains("step"));
  // A captured differentiable parameter is detected, not silently constant.
  const auto slot = std::make_shared<Tensor>();
  const auto capturing =
      by_value([slot](const Tensor& h, const Tensor&, const Tensors&) { return tanh(matmul(h, *slot)); });
  CHECK_THROWS_WITH(grad(
                        [&](const Tensor& w) {
                          *slot = w;
                          return sum(solve_sequence(capturing, s.h0, s.xs, {}, Deer{}).value);
                        },
                        s.theta[0]),
                    Catch::Contains("captured"));
}

TEST_CASE("the chain z_t = logsigmoid(b_t + z_{t-1} W_t) with weights as inputs, to 1e-6") {
  const std::int64_t steps = 1000;
  const double a = 1 / std::sqrt(2.0);
  const Tensor xs = uniform(Key(1), {steps, 1, 6}, -a, a, float64);  // W_t (2, 2), b_t (2)
  const auto cell = [](const Tensor& h, const Tensor& x, const Tensors&) {
    const Tensor w = reshape(slice(x, -1, 0, 4), {x.size(0), 2, 2});
    return log_sigmoid(slice(x, -1, 4, 6) + squeeze(matmul(unsqueeze(h, 1), w), 1));
  };
  const Tensor h0 = zeros({1, 2}, float64);
  const Tensor expected = solve_sequence(cell, h0, xs, {}, Sequential{}).value;
  const Solution r = solve_sequence(cell, h0, xs, {}, Deer{});
  CHECK(distance(r.value, expected) < 1e-6);
}

TEST_CASE("the difficult GRU: weights times 100, inputs divided by 100") {
  nn::GruCell gru(2, 2, Key(11));
  Tensors theta = gru.theta();
  theta[0] = theta[0] * 100.0;
  const Tensor xs = normal(Key(12), {100, 3, 2}) * 0.01, h0 = zeros({3, 2});
  const SequenceCell cell = sequence_cell(gru.functions());
  const Tensor expected = solve_sequence(cell, h0, xs, theta, Sequential{}).value;
  for (const SequenceMethod& method : std::vector<SequenceMethod>{Deer{}, Deer{.fused = false}, Shooting{}}) {
    const Solution r = solve_sequence(cell, h0, xs, theta, method);
    CHECK(r.ok());
    CHECK(distance(r.value, expected) < 2e-5);
  }
}

TEST_CASE("Newton converges quadratically") {
  const nn::GruCell gru(8, 8, Key(2), {.init = nn::RecurrentInit::flax, .dtype = float64});
  const Tensor xs = normal(Key(3), {2000, 1, 8}, 0, 1, float64), h0 = zeros({1, 8}, float64);
  const SequenceCell cell = sequence_cell(gru.functions());
  const Tensor exact = solve_sequence(cell, h0, xs, gru.theta(), Sequential{}).value;
  std::vector<double> errors;
  Options o = tight();
  o.each_step = [&](const StepInfo& info) { errors.push_back(distance(info.iterate, exact)); };
  solve_sequence(cell, h0, xs, gru.theta(), Deer{.fused = false}, o);
  REQUIRE(errors.size() >= 4);
  for (std::size_t k = 1; k + 1 < errors.size(); ++k)
    if (errors[k] < 0.1) CHECK(errors[k + 1] <= 50 * errors[k] * errors[k] + 2e-14);
}
