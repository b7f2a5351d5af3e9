#include "solvent/autodiff/custom.h"

#include <cmath>

#include "solvent/autodiff/gradcheck.h"
#include "solvent/core/error.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/support/catch.h"

using namespace solvent;

namespace {

using Fn = std::function<Tensor(const Tensor&)>;

Tensor num(double v) { return scalar(v, float64); }

Tensors list(Tensor t) {
  Tensors v;
  v.push_back(std::move(t));
  return v;
}

// y with y^3 = theta, elementwise, by Newton on plain numbers.
Tensors cube_root_solve(const Tensors& theta) {
  Tensor y = ones_like(theta[0]);
  for (int i = 0; i < 60; ++i) y = y - (y * y * y - theta[0]) / (3.0 * y * y);
  return list(y);
}
Tensors cube_residual(const Tensors& y, const Tensors& theta) { return list(y[0] * y[0] * y[0] - theta[0]); }
Tensors cube_tangent(const Tensors& y, const Tensors&, const Tensors& rhs, bool) {
  return list(rhs[0] / (3.0 * y[0] * y[0]));
}

Tensor cube_root(const Tensor& theta) { return custom_root(cube_residual, {theta}, cube_root_solve, cube_tangent)[0]; }

Fn derivative(const Fn& f, char mode) {
  if (mode == 'f') return [f](const Tensor& x) { return jvp(f, x, ones_like(stop_gradient(x))).tangent; };
  return [f](const Tensor& x) { return grad(f, x); };
}

}  // namespace

TEST_CASE("custom_root: derivatives of the cube root to third order in all nestings") {
  const double t = 2.5;
  const double expected[] = {std::pow(t, -2.0 / 3) / 3, -2.0 / 9 * std::pow(t, -5.0 / 3),
                             10.0 / 27 * std::pow(t, -8.0 / 3)};
  for (const std::string modes :
       {"f", "r", "ff", "fr", "rf", "rr", "fff", "ffr", "frf", "rff", "frr", "rfr", "rrf", "rrr"}) {
    Fn f = cube_root;
    for (const char m : modes) f = derivative(f, m);
    INFO(modes);
    CHECK(f(num(t)).item() == Approx(expected[modes.size() - 1]).epsilon(1e-10));
  }
  const GradcheckReport report =
      gradcheck([](const Tensors& v) { return list(cube_root(exp(v[0]))); }, {tensor({0.1, 0.8, -0.4}, float64)});
  INFO(report.message);
  CHECK(report.ok);
}

TEST_CASE("custom_root: two differentiable Newton steps from the detached root give the same derivatives") {
  // k steps are exact through order 2^k - 1: an oracle that shares nothing with the implicit rule.
  const Fn lifted = [](const Tensor& theta) {
    Tensor y = stop_gradient(cube_root_solve({stop_gradient(theta)})[0]);
    for (int i = 0; i < 2; ++i) y = y - (y * y * y - theta) / (3.0 * y * y);
    return y;
  };
  for (const std::string modes : {"r", "fr", "rfr"}) {
    Fn a = cube_root, b = lifted;
    for (const char m : modes) {
      a = derivative(a, m);
      b = derivative(b, m);
    }
    CHECK(a(num(1.7)).item() == Approx(b(num(1.7)).item()).epsilon(1e-11));
  }
}

TEST_CASE("custom_root detects captured differentiable tensors instead of losing their gradient") {
  struct Shared {
    Tensor captured;
  };
  const auto slot = std::make_shared<Shared>();
  const auto residual_captures =
      by_value([slot](const Tensors& y, const Tensors& theta) { return list(y[0] - theta[0] * slot->captured); });
  const auto residual_plain = [](const Tensors& y, const Tensors& theta) { return list(y[0] - theta[0] * 2.0); };
  const auto solve_captures = by_value([slot](const Tensors& theta) { return list(theta[0] * slot->captured); });
  const auto solve_plain =
      by_value([slot](const Tensors& theta) { return list(theta[0] * stop_gradient(slot->captured)); });
  const auto identity = [](const Tensors&, const Tensors&, const Tensors& rhs, bool) { return rhs; };
  // The captured tensor carries the only active level: theta itself is a constant to it (0.0 instead of a gradient if unnoticed).
  const auto through = [&](auto residual, auto solve) {
    return [=](const Tensor& x) {
      slot->captured = x;
      const Tensor y = custom_root(residual, {num(0.7)}, solve, identity)[0];
      slot->captured = Tensor();
      return y;
    };
  };
  for (const char mode : {'f', 'r'}) {
    CHECK_THROWS_WITH(derivative(through(residual_captures, solve_plain), mode)(num(2)), Catch::Contains("captured"));
    CHECK_THROWS_WITH(derivative(through(residual_plain, solve_captures), mode)(num(2)),
                      Catch::Contains("Pass it in theta"));
    CHECK_NOTHROW(derivative(through(residual_plain, solve_plain), mode)(num(2)));
  }
  // Two levels: theta carries the inner, the capture the outer one.
  const Fn nested = [&](const Tensor& x) {
    slot->captured = x;
    const Tensor g =
        grad([&](const Tensor& t) { return custom_root(residual_captures, {t}, solve_plain, identity)[0]; }, num(0.7));
    return g;
  };
  CHECK_THROWS_WITH(derivative(nested, 'r')(num(2)), Catch::Contains("captured"));
  slot->captured = Tensor();
  CHECK(grad(cube_root, num(8)).item() == Approx(1.0 / 12));  // bars are lifted after the errors
}

TEST_CASE("custom_root: a solver that differentiates inside may do so") {
  // solve uses its own transform (pushed inside the barred region), the residual too.
  const auto solve = [](const Tensors& theta) {
    Tensor y = ones_like(theta[0]);
    for (int i = 0; i < 50; ++i) {
      const Tensor d = grad([&](const Tensor& v) { return sum(v * v * v * v * 0.25 - theta[0] * v); }, y);
      y = y - d / (3.0 * y * y);
    }
    return list(y);
  };
  const auto residual = [](const Tensors& y, const Tensors& theta) {  // stationarity of v^4 / 4 - theta v
    return list(
        vjp([](const Tensor& v) { return v * v * v * v * 0.25; }, y[0]).pullback(ones_like(stop_gradient(y[0]))) -
        theta[0]);
  };
  const Fn f = [=](const Tensor& t) { return custom_root(residual, {t}, solve, cube_tangent)[0]; };
  for (const char m : {'f', 'r'})
    CHECK(derivative(f, m)(num(2.5)).item() == Approx(std::pow(2.5, -2.0 / 3) / 3).epsilon(1e-10));
}

TEST_CASE("custom_linear_solve differentiates in matrix and right-hand side") {
  const Tensor a = tensor({{3, 1}, {-0.5, 2}}, float64), b = tensor({1, -2}, float64);
  const auto matvec = [](const Tensors& theta, const Tensors& x) { return list(matmul(theta[0], x[0])); };
  const auto solver = [](const Tensors& theta, const Tensors& rhs, bool transposed) {
    const Tensor m = transposed ? mT(theta[0]) : theta[0];
    return list(squeeze(solve(m, unsqueeze(rhs[0], -1)), -1));
  };
  const auto f = [=](const Tensors& v) { return custom_linear_solve(matvec, {v[0]}, {v[1]}, solver); };
  const GradcheckReport report = gradcheck(f, {a, b});
  INFO(report.message);
  CHECK(report.ok);
}

TEST_CASE("custom_vjp and custom_jvp replace the derivative, and differentiate again") {
  const auto cube = [](const Tensors& x) { return list(x[0] * x[0] * x[0]); };
  const auto vjp_rule = [](const Tensors& x, const Tensors&, const Tensors& g) {
    return list(3.0 * x[0] * x[0] * g[0]);
  };
  const auto jvp_rule = [](const Tensors& x, const Tensors& t) { return list(3.0 * x[0] * x[0] * t[0]); };
  const Fn by_vjp = [=](const Tensor& x) { return custom_vjp(cube, vjp_rule, {x})[0]; };
  const Fn by_jvp = [=](const Tensor& x) { return custom_jvp(cube, jvp_rule, {x})[0]; };
  CHECK(grad(by_vjp, num(2)).item() == 12);
  CHECK(derivative(derivative(by_vjp, 'r'), 'r')(num(2)).item() == 12);
  CHECK_THROWS_AS(derivative(derivative(by_vjp, 'r'), 'f')(num(2)),
                  AutodiffError);  // the value itself needs a forward rule
  CHECK_THROWS_WITH(jvp(by_vjp, num(2), num(1)), Catch::Contains("custom_jvp"));
  for (const std::string modes : {"f", "r", "ff", "fr", "rf", "rr"}) {
    Fn f = by_jvp;
    for (const char m : modes) f = derivative(f, m);
    CHECK(f(num(2)).item() == 12);
  }
  CHECK_THROWS_AS(grad(
                      [=](const Tensor& x) {
                        return custom_vjp(
                            cube, [](const Tensors&, const Tensors&, const Tensors&) { return Tensors{}; }, {x})[0];
                      },
                      num(1)),
                  ShapeError);
  // A rule may deviate on purpose: a straight-through rounding.
  const auto straight = [](const Tensors& x) {
    return custom_vjp([](const Tensors& v) { return list(round(v[0])); },
                      [](const Tensors&, const Tensors&, const Tensors& g) { return g; }, x);
  };
  CHECK(grad([=](const Tensor& x) { return straight({x})[0] * 2.0; }, num(1.4)).item() == 2);
}

namespace {

std::size_t peak_of(const std::function<void()>& f) {
  reset_peak_memory();
  const std::size_t before = memory_stats().active;
  f();
  return memory_stats().peak - before;
}

// 1000 operations on 1000 numbers; every tanh saves its output (8 kB).
Tensor long_chain(const Tensor& x) {
  Tensor y = x;
  for (int i = 0; i < 1000; ++i) y = tanh(y);
  return y;
}

// The chain as 31 checkpointed pieces.
Tensor checkpointed_chain(const Tensor& x) {
  Tensors y = list(x);
  for (int i = 0; i < 31; ++i)
    y = checkpoint(
        [](const Tensors& v) {
          Tensor z = v[0];
          for (int k = 0; k < 32; ++k) z = tanh(z);
          return list(z);
        },
        y);
  return y[0];
}

}  // namespace

TEST_CASE("checkpoint gives the same derivatives in every mode") {
  const auto f = [](const Tensors& v) {
    return checkpoint([](const Tensors& x) -> Tensors { return {sin(x[0]) * x[1], exp(x[1])}; }, v);
  };
  const GradcheckReport report = gradcheck(f, {tensor({0.4, -1.2}, float64), tensor({0.3, 0.9}, float64)});
  INFO(report.message);
  CHECK(report.ok);
}

TEST_CASE("checkpoint saves memory at first and at second order") {
  const Tensor x = normal(Key(3), {1000}, 0, 1, float64);
  const auto plain = [](const Tensor& v) { return sum(long_chain(v)); };
  const auto saved = [](const Tensor& v) { return sum(checkpointed_chain(v)); };
  const std::size_t reverse = peak_of([&] { static_cast<void>(grad(plain, x)); });
  const std::size_t reverse_saved = peak_of([&] { static_cast<void>(grad(saved, x)); });
  CHECK(reverse > 7'000'000);
  CHECK(reverse_saved < 1'500'000);
  const auto second = [&](auto f) {
    return [&, f] { static_cast<void>(grad([&](const Tensor& v) { return sum(jvp(f, v, x).tangent); }, x)); };
  };
  const std::size_t over_forward = peak_of(second(plain)), over_forward_saved = peak_of(second(saved));
  CHECK(over_forward > 15'000'000);
  CHECK(over_forward_saved < 4'000'000);
  const auto twice = [&](auto f) {
    return [&, f] { static_cast<void>(grad([&](const Tensor& v) { return sum(grad(f, v) * x); }, x)); };
  };
  CHECK(peak_of(twice(saved)) < peak_of(twice(plain)) / 4);
}

TEST_CASE("checkpoint refuses captured differentiable tensors") {
  const auto slot = std::make_shared<Tensor>();
  const Fn f = [slot](const Tensor& w) {
    *slot = w;
    return sum(checkpoint(by_value([slot](const Tensors& v) { return list(v[0] * *slot); }), {ones({2}, float64)})[0]);
  };
  CHECK_THROWS_WITH(grad(f, ones({2}, float64)), Catch::Contains("checkpoint"));
  slot->reset();
}

// Compile-time contract: a capturing lambda is not an owning callable, a captureless one and by_value are.
namespace {
int g_dummy = 0;
[[maybe_unused]] const auto capturing = [&r = g_dummy](const Tensors& v) { return r ? v : v; };
[[maybe_unused]] const auto captureless = [](const Tensors& v) { return v; };
static_assert(!OwningCallable<decltype(capturing)>);
static_assert(OwningCallable<decltype(captureless)>);
static_assert(OwningCallable<decltype(by_value(capturing))>);
}  // namespace
