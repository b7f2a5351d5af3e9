// Elementwise operations: what the table of operations does not say: special values, conventions at kinks, integers,
// operators, memory.

#include "solvent/ops/elementwise.h"

#include <cmath>
#include <limits>
#include <map>

#include "solvent/autodiff/debug.h"
#include "solvent/autodiff/gradcheck.h"
#include "solvent/core/allocator.h"
#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/ops/derivatives.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/support/catch.h"

namespace solvent {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

std::vector<double> values(const Tensor& t) { return cast(t, float64).to_vector<double>(); }

double at(Tensor (*f)(Tensor), double x, DType dtype = float64) { return f(scalar(x, dtype)).item(); }

double slope(Tensor (*f)(Tensor), double x) {
  return grad([f](const Tensor& t) { return f(t); }, scalar(x, float64)).item();
}

TEST_CASE("elementwise: NaN gives NaN") {
  for (const DType dtype : {float32, float64}) {
    for (Tensor (*f)(Tensor) :
         {neg,   abs, sign, reciprocal, square, sqrt,    rsqrt,       floor,    ceil, round, exp,  expm1,    log,
          log1p, sin, cos,  tanh,       erf,    sigmoid, log_sigmoid, softplus, relu, silu,  gelu, gelu_tanh})
      CHECK(std::isnan(at(f, kNan, dtype)));
    CHECK(std::isnan(clip(scalar(kNan, dtype), -1.0, 1.0).item()));
    CHECK(std::isnan(leaky_relu(scalar(kNan, dtype)).item()));
    CHECK(std::isnan(elu(scalar(kNan, dtype)).item()));
    CHECK(std::isnan(pow(scalar(kNan, dtype), 0.5).item()));
    const Tensor nan = scalar(kNan, dtype);
    const Tensor one = ones({}, dtype);
    for (Tensor (*f)(Tensor, Tensor) : {add, sub, mul, div, minimum, maximum}) {
      CHECK(std::isnan(f(nan, one).item()));
      CHECK(std::isnan(f(one, nan).item()));
    }
  }
}

TEST_CASE("elementwise: comparisons with NaN are false, but not_equal") {
  const Tensor nan = scalar(kNan);
  const Tensor one = ones({});
  for (Tensor (*f)(Tensor, Tensor) : {equal, less, less_equal, greater, greater_equal}) {
    CHECK(f(nan, one).item() == 0.0);
    CHECK(f(one, nan).item() == 0.0);
    CHECK(f(nan, nan).item() == 0.0);
  }
  CHECK(not_equal(nan, nan).item() == 1.0);
}

TEST_CASE("elementwise: values at the ends of the range") {
  for (const DType dtype : {float32, float64}) {
    CHECK(at(exp, -kInf, dtype) == 0.0);
    CHECK(at(exp, kInf, dtype) == kInf);
    CHECK(at(exp, 1000.0, dtype) == kInf);
    CHECK(at(log, 0.0, dtype) == -kInf);
    CHECK(std::isnan(at(log, -1.0, dtype)));
    CHECK(at(log1p, -1.0, dtype) == -kInf);
    CHECK(at(expm1, -kInf, dtype) == -1.0);
    CHECK(at(tanh, kInf, dtype) == 1.0);
    CHECK(at(tanh, -100.0, dtype) == -1.0);
    CHECK(at(sigmoid, -kInf, dtype) == 0.0);
    CHECK(at(sigmoid, kInf, dtype) == 1.0);
    CHECK(at(softplus, 1e4, dtype) == 1e4);
    CHECK(at(softplus, -1e4, dtype) == 0.0);
    CHECK(at(log_sigmoid, -1e4, dtype) == -1e4);
    CHECK(at(gelu, -1e4, dtype) == 0.0);
    CHECK(at(silu, kInf, dtype) == kInf);
    CHECK(at(rsqrt, 0.0, dtype) == kInf);
    CHECK(at(reciprocal, 0.0, dtype) == kInf);
    CHECK(std::isnan(at(sqrt, -1.0, dtype)));
  }
  CHECK(std::signbit(at(neg, 0.0)));  // not 0 - x, which loses the sign
}

TEST_CASE("elementwise: derivatives stay finite where the function saturates") {
  for (Tensor (*f)(Tensor) : {tanh, sigmoid, log_sigmoid, softplus, silu, gelu, gelu_tanh, relu, erf}) {
    for (const double x : {-1e4, -50.0, 50.0, 1e4}) {
      CHECK(std::isfinite(slope(f, x)));
      const auto derivative = [f](const Tensor& t) { return grad([f](const Tensor& u) { return f(u); }, t); };
      CHECK(std::isfinite(grad(derivative, scalar(x, float64)).item()));
    }
  }
  // alpha e^x right of 0 would overflow although it is not used there
  CHECK(grad([](const Tensor& t) { return grad([](const Tensor& u) { return elu(u); }, t); }, scalar(1e4, float64))
            .item() == 0.0);
}

TEST_CASE("elementwise: conventions at kinks") {
  CHECK(slope(relu, 0.0) == 0.0);
  CHECK(slope(abs, 0.0) == 0.0);
  CHECK(grad([](const Tensor& x) { return leaky_relu(x, 0.2); }, scalar(0.0)).item() == Approx(0.2));
  const auto clipped = [](const Tensor& x) { return clip(x, -1.0, 1.0); };
  CHECK(grad(clipped, scalar(1.0)).item() == 1.0);
  CHECK(grad(clipped, scalar(-1.0)).item() == 1.0);
  CHECK(grad(clipped, scalar(1.5)).item() == 0.0);
  for (const DType dtype : {float32, float64})
    for (const double bound : {-0.1, 0.3}) {
      const auto slope = [&](SlopeAtBounds at, double x) {
        return grad([at](const Tensor& t) { return clip(t, -0.1, 0.3, at); }, scalar(x, dtype)).item();
      };
      CHECK(slope(SlopeAtBounds::one, bound) == 1.0);
      CHECK(slope(SlopeAtBounds::half, bound) == 0.5);
      CHECK(slope(SlopeAtBounds::zero, bound) == 0.0);
      for (const SlopeAtBounds at : {SlopeAtBounds::one, SlopeAtBounds::half, SlopeAtBounds::zero}) {
        CHECK(slope(at, 0.99999 * bound) == 1.0);
        CHECK(slope(at, 1.00001 * bound) == 0.0);
        CHECK(std::isnan(slope(at, kNan)));
      }
    }
  for (Tensor (*f)(Tensor, Tensor) : {minimum, maximum}) {  // each operand gets half at ties
    const Tensors g = grad([f](const Tensors& x) { return f(x[0], x[1]); }, {scalar(2.0), scalar(2.0)});
    CHECK(g[0].item() == 0.5);
    CHECK(g[1].item() == 0.5);
  }
}

TEST_CASE("pow: zeros and negative bases") {
  CHECK(pow(scalar(-2.0), scalar(3.0)).item() == Approx(-8.0));
  CHECK(std::isnan(pow(scalar(-2.0), scalar(0.5)).item()));
  CHECK(pow(scalar(0.0), scalar(0.0)).item() == 1.0);
  const auto derivatives = [](double a, double b) {
    const Tensors g = grad([](const Tensors& x) { return pow(x[0], x[1]); }, {scalar(a, float64), scalar(b, float64)});
    return std::pair(g[0].item(), g[1].item());
  };
  CHECK(derivatives(0.0, 2.0) == std::pair(0.0, 0.0));  // not 0 * log 0
  CHECK(derivatives(0.0, 0.0) == std::pair(0.0, 0.0));  // not 0 * 0^-1
  CHECK(derivatives(-2.0, 3.0).first == Approx(12.0));
  // b = 0 with a > 0: the mixed derivative d/db (b a^(b-1)) = 1/a there, which a guard on b alone would lose.
  const auto slope_in_a = [](const Tensor& b) {
    return grad([&b](const Tensor& a) { return pow(a, b); }, scalar(4.0, float64));
  };
  CHECK(grad(slope_in_a, scalar(0.0, float64)).item() == Approx(0.25));
  // Constant exponents.
  CHECK(grad([](const Tensor& x) { return pow(x, 0.0); }, scalar(0.0)).item() == 0.0);
  CHECK(grad([](const Tensor& x) { return pow(x, 3.0); }, scalar(0.0)).item() == 0.0);
  CHECK(grad([](const Tensor& x) { return pow(x, 1.0); }, scalar(0.0)).item() == 1.0);
  CHECK(
      grad([](const Tensor& x) { return grad([](const Tensor& y) { return pow(y, 2.0); }, x); }, scalar(0.0)).item() ==
      2.0);
}

TEST_CASE("where: the branch not taken gets no NaN") {
  const Tensor x = tensor({0.0, 4.0}, float64);
  const auto f = [](const Tensor& t) {
    const Tensor positive = greater(t, zeros({}, float64));
    return sum(where(positive, sqrt(where(positive, t, ones({}, float64))), zeros({}, float64)));
  };
  CHECK(values(grad(f, x)) == std::vector<double>{0.0, 0.25});
  // A cotangent of NaN at an unselected element stays there.
  VjpResult r = vjp([](const Tensors& t) { return Tensors{where(tensor({1, 0}, boolean), t[0], t[1])}; }, {x, x});
  const Tensors g = r.pullback(Tensors{tensor({kNan, 1.0}, float64)});
  CHECK(values(g[1]) == std::vector<double>{0.0, 1.0});
}

TEST_CASE("elementwise: integers") {
  const Tensor a = from_vector<std::int64_t>({-3, 0, 7}, {3});
  const Tensor b = from_vector<std::int64_t>({2, 5, -7}, {3});
  CHECK(sub(a, b).to_vector<std::int64_t>() == std::vector<std::int64_t>{-5, -5, 14});
  CHECK(mul(a, b).to_vector<std::int64_t>() == std::vector<std::int64_t>{-6, 0, -49});
  CHECK(minimum(a, b).to_vector<std::int64_t>() == std::vector<std::int64_t>{-3, 0, -7});
  CHECK(maximum(a, b).to_vector<std::int64_t>() == std::vector<std::int64_t>{2, 5, 7});
  CHECK(neg(a).to_vector<std::int64_t>() == std::vector<std::int64_t>{3, 0, -7});
  CHECK(abs(a).to_vector<std::int64_t>() == std::vector<std::int64_t>{3, 0, 7});
  CHECK(sign(a).to_vector<std::int64_t>() == std::vector<std::int64_t>{-1, 0, 1});
  CHECK(square(a).to_vector<std::int64_t>() == std::vector<std::int64_t>{9, 0, 49});
  CHECK(clip(a, -1.0, kInf).to_vector<std::int64_t>() == std::vector<std::int64_t>{-1, 0, 7});
  const std::int64_t lowest = std::numeric_limits<std::int64_t>::min();
  CHECK(neg(from_vector<std::int64_t>({lowest}, {1})).to_vector<std::int64_t>()[0] == lowest);  // wraps around
  CHECK_THROWS_AS(div(a, b), DtypeError);
  CHECK_THROWS_AS(mul(zeros({2}, uint8), zeros({2}, uint8)), DtypeError);
}

TEST_CASE("cast: rounding, truncation, NaN and values out of range") {
  CHECK(cast(tensor({-1.9, 1.9, kNan, 1e30, -kInf}, float64), int64).to_vector<std::int64_t>() ==
        std::vector<std::int64_t>{-1, 1, 0, std::numeric_limits<std::int64_t>::max(),
                                  std::numeric_limits<std::int64_t>::min()});
  CHECK(cast(tensor({-3.0, 255.7, 300.0, kNan}), uint8).to_vector<std::uint8_t>() ==
        std::vector<std::uint8_t>{0, 255, 255, 0});
  CHECK(cast(tensor({0.0, -0.0, 0.5, kNan}), boolean).to_vector<bool>() == std::vector<bool>{false, false, true, true});
  CHECK(cast(tensor({0.1}, float64), float32).to_vector<float>()[0] == 0.1f);
  const Tensor x = ones({2});
  CHECK(cast(x, float32).impl() == x.impl());
  // A cotangent comes back in the type of the input.
  const Tensor g = grad([](const Tensor& t) { return sum(square(cast(t, float64))); }, tensor({1.0, 2.0}));
  CHECK(g.dtype() == float32);
  CHECK(values(g) == std::vector<double>{2.0, 4.0});
}

TEST_CASE("operators: as written on paper") {
  const Tensor x = tensor({1.0, 2.0}, float64);
  const Tensor y = tensor({4.0, 5.0}, float64);
  CHECK(values(x + y) == std::vector<double>{5, 7});
  CHECK(values(x - y) == std::vector<double>{-3, -3});
  CHECK(values(x * y) == std::vector<double>{4, 10});
  CHECK(values(y / x) == std::vector<double>{4, 2.5});
  CHECK(values(-x) == std::vector<double>{-1, -2});
  CHECK(values(x + 1.0) == std::vector<double>{2, 3});
  CHECK(values(1.0 - x) == std::vector<double>{0, -1});
  CHECK(values(x - 1.0) == std::vector<double>{0, 1});
  CHECK(values(2.0 * x) == std::vector<double>{2, 4});
  CHECK(values(x / 2.0) == std::vector<double>{0.5, 1});
  CHECK(values(2.0 / x) == std::vector<double>{2, 1});
}

TEST_CASE("elementwise: dying inputs give their memory to the result, also under a transform") {
  const auto allocated = [](auto f) {
    const std::uint64_t before = memory_stats().allocations;
    f();
    return memory_stats().allocations - before;
  };
  const Shape shape{1 << 16};  // not from the thread-local lists, so that allocations are counted
  const auto chain = [](Tensor x) { return tanh(exp(neg(mul(std::move(x), scalar(2.0))))); };
  const Tensor warm = chain(ones(shape));
  CHECK(allocated([&] { (void)chain(ones(shape)); }) <= 2);  // the input and the scalar
  CHECK(allocated([&] {
          (void)jvp([&](const Tensor& x) { return stop_gradient(neg(abs(sign(x)))); }, ones(shape), ones(shape));
        }) <= 6);
}

TEST_CASE("elementwise: one tensor given twice is not reused") {
  Tensor x = tensor({1.0, 2.0, 3.0});
  CHECK(values(mul(x, x)) == std::vector<double>{1, 4, 9});
  CHECK(values(x) == std::vector<double>{1, 2, 3});
  Tensor same = x;
  CHECK(values(sub(std::move(x), std::move(same))) == std::vector<double>{0, 0, 0});
}

TEST_CASE("elementwise: first derivatives cost one operation each") {
  const auto nodes_of_derivative = [](Tensor (*f)(Tensor)) {
    const auto first = [f](const Tensors& x) {
      return Tensors{vjp([f](const Tensor& t) { return f(t); }, x[0]).pullback(ones({2}))};
    };
    return vjp(first, {tensor({0.5, 1.5})}).pullback.num_nodes();
  };
  for (Tensor (*f)(Tensor) : {abs, reciprocal, square, sqrt, rsqrt, exp, expm1, log, log1p, sin, cos, tanh, erf,
                              sigmoid, softplus, relu, silu, gelu, gelu_tanh})
    CHECK(nodes_of_derivative(f) == 2);  // f itself and its derivative
}

TEST_CASE("elementwise: empty handles are refused") {
  CHECK_THROWS_AS(mul(Tensor(), ones({2})), Error);
  CHECK_THROWS_AS(exp(Tensor()), Error);
}

}  // namespace
}  // namespace solvent
