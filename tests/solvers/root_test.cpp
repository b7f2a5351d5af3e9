#include "solvent/solvers/root.h"

#include <cmath>

#include "solvent/autodiff/gradcheck.h"
#include "solvent/core/error.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/support/catch.h"

using namespace solvent;
using namespace solvent::solvers;

namespace {

Tensor two_layer(const Tensor& y, const Tensors& t) { return matmul(tanh(matmul(y, t[0]) + t[1]), t[2]) + y - t[3]; }

Tensors two_layer_theta(std::int64_t n) {
  return {normal(Key(1), {n, n}, 0, 0.3, float64), normal(Key(2), {n}, 0, 1, float64),
          normal(Key(3), {n, n}, 0, 0.3, float64), normal(Key(4), {n}, 0, 1, float64)};
}

Tensor deq(const Tensor& y, const Tensors& t) { return tanh(matmul(y, t[0]) + t[1]); }

}  // namespace

TEST_CASE("Newton, Picard and Anderson find the same root with a small residual") {
  const Tensors theta = two_layer_theta(5);
  const Tensor y0 = zeros({1, 5}, float64);
  Options o;
  o.termination.atol = 1e-11;
  o.termination.rtol = 0;
  const Solution newton = solve_root(two_layer, y0, theta, Newton{}, o);
  INFO(newton.message());
  CHECK(newton.ok());
  CHECK(max(abs(two_layer(newton.value, theta))).item() <= 1e-11);
  CHECK(newton.stats.steps <= 8);
  for (const RootMethod& method : std::vector<RootMethod>{Picard{}, Anderson{}, Picard{.damping = 0.3}}) {
    const Solution s = solve_root(two_layer, y0, theta, method, o);
    CHECK(s.ok());
    CHECK(max(abs(s.value - newton.value)).item() < 1e-9);
  }
  CHECK(solve_root(two_layer, y0, theta, Anderson{}, o).stats.steps <
        solve_root(two_layer, y0, theta, Picard{}, o).stats.steps);
}

TEST_CASE("a batch of fixed points: rows finish on their own and differentiate") {
  const Tensor w = normal(Key(1), {4, 4}, 0, 0.35, float64), x = normal(Key(2), {6, 4}, 0, 1, float64);
  Options o;
  o.termination.atol = 1e-13;
  o.termination.rtol = 0;
  const Tensor y0 = zeros({6, 4}, float64);
  const Solution newton = solve_fixed_point(deq, y0, {w, x}, Newton{}, o, Batch::rows);
  for (const RootMethod& method : std::vector<RootMethod>{Picard{}, Anderson{}}) {
    const Solution s = solve_fixed_point(deq, y0, {w, x}, method, o, Batch::rows);
    CHECK(s.ok());
    CHECK(s.stats.steps_per_item.size() == 6);
    CHECK(max(abs(s.value - newton.value)).item() < 1e-11);
  }
  for (const Batch batch : {Batch::rows, Batch::whole}) {
    for (const RootMethod& method : std::vector<RootMethod>{Newton{}, Anderson{}}) {
      const GradcheckReport report = gradcheck(
          [&](const Tensors& v) -> Tensors {
            return {solve_fixed_point(deq, y0, {v[0], v[1]}, method, o, batch).value};
          },
          {w, x});
      INFO(report.message);
      CHECK(report.ok);
    }
  }
}

TEST_CASE("implicit and unrolled gradients agree at convergence") {
  const Tensor w = normal(Key(1), {3, 3}, 0, 0.3, float64), x = normal(Key(2), {2, 3}, 0, 1, float64);
  const auto loss = [&](const RootMethod& method, Adjoint adjoint) {
    return [&, method, adjoint](const Tensors& v) {
      Options o;
      o.adjoint = adjoint;
      o.termination.atol = 1e-14;
      o.termination.rtol = 0;
      return sum(square(solve_fixed_point(deq, zeros({2, 3}, float64), v, method, o).value));
    };
  };
  const Tensors implicit = grad(loss(Newton{}, Adjoint::implicit), {w, x});
  for (const RootMethod& method : std::vector<RootMethod>{Newton{}, Picard{}}) {
    const Tensors unrolled = grad(loss(method, Adjoint::unrolled), {w, x});
    for (std::size_t i = 0; i < 2; ++i) CHECK(max(abs(unrolled[i] - implicit[i])).item() < 1e-9);
  }
  for (const Tensor& g : grad(loss(Newton{}, Adjoint::none), {w, x})) CHECK(max(abs(g)).item() == 0.0);
}

TEST_CASE("failures have a status, a residual and advice") {
  const auto no_root = [](const Tensor& y, const Tensors&) { return y * y + 1.0; };
  const Tensor y0 = tensor({0.7}, float64);
  Options o;
  o.termination.max_steps = 20;
  CHECK_THROWS_AS(solve_root(no_root, y0, {}, Newton{}, o), SolverError);
  o.on_failure = OnFailure::return_best;
  const Solution s = solve_root(no_root, y0, {}, Newton{}, o);
  CHECK_FALSE(s.ok());
  CHECK(s.stats.residual >= 1.0);
  CHECK(max(abs(no_root(s.value, {}))).item() == Approx(s.stats.residual));
  const auto undefined = [](const Tensor& y, const Tensors&) { return log(y); };
  CHECK(solve_root(undefined, tensor({-1}, float64), {}, Newton{}, o).status == Status::non_finite);
  CHECK_THROWS_AS(solve_root(no_root, arange(0, 2), {}), DtypeError);
  CHECK_THROWS_AS(solve_root([](const Tensor& y, const Tensors&) { return sum(y); }, ones({2}, float64), {}),
                  ShapeError);
  CHECK_THROWS_AS(solve_root(no_root, y0, {}, Newton{.damping = 1.0}), ValueError);
  CHECK_THROWS_AS(solve_root(no_root, y0, {}, Anderson{.memory = 0}), ValueError);
}

TEST_CASE("Newton with line search passes a region where full steps overshoot") {
  const auto f = [](const Tensor& y, const Tensors&) {
    return y / sqrt(1.0 + y * y);
  };  // full steps diverge for |y| > 1
  const Tensor y0 = tensor({3.0}, float64);
  CHECK(solve_root(f, y0, {}, Newton{}).ok());
  Options o;
  o.on_failure = OnFailure::return_best;
  CHECK_FALSE(solve_root(f, y0, {}, Newton{.line_search = false}, o).ok());
}

TEST_CASE("a singular Jacobian at the start is regularised, not fatal") {
  const auto f = [](const Tensor& y, const Tensors&) {
    const Tensor a = slice(y, 0, 0, 1), b = slice(y, 0, 1, 2);
    return concat({a + b - 1.0, 2.0 * (a + b) - 2.0}, 0);  // rank one everywhere, but solvable
  };
  const Solution s = solve_root(f, zeros({2}, float64), {}, Newton{});
  CHECK(s.ok());
}
