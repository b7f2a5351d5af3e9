// Entries of the table of operations: elementwise operations, activations and their derivatives.
//
// A new unary operation is one line here: unary("name", front end, reference, sampler, {}).

#include <algorithm>
#include <cmath>
#include <utility>

#include "solvent/ops/derivatives.h"
#include "solvent/ops/elementwise.h"
#include "solvent/tests/ops/op_table.h"

namespace solvent::testing {
namespace {

using Lists = std::vector<Tensors>;
using Scalar1 = double (*)(double);
using Scalar2 = double (*)(double, double);
using Unary = Tensor (*)(Tensor);
using Binary = Tensor (*)(Tensor, Tensor);

// --- inputs -------------------------------------------------------------------------------------------------------------------

// Values of one operand: uniform in [low, high), moved away from kinks.
struct Range {
  double low = -2.5;
  double high = 2.5;
  std::vector<double> kinks = {};
};

Tensor draw(const Range& range, Key key, std::uint64_t n, const Shape& shape, DType dtype) {
  constexpr double kMargin = 0.05;
  const Array raw(uniform_sample(key, n, shape, float64, range.low, range.high));
  const Array moved = map(raw, [&](double v) {
    for (const double kink : range.kinks)
      if (std::abs(v - kink) < kMargin) v = kink + (v < kink ? -2 : 2) * kMargin;
    return v;
  });
  if (dtype == float64) return from_vector(moved.values, shape);
  return from_vector(std::vector<float>(moved.values.begin(), moved.values.end()), shape);
}

const std::vector<Shape> kUnaryShapes = {{2, 3}, {37}, {3, 2, 2}, {}, {1, 1}, {0}, {2, 0, 3}};
// Equal, bias-like, both broadcast, 0-d, single, empty, with a vector tail.
const std::vector<std::pair<Shape, Shape>> kBinaryShapes = {{{2, 3}, {2, 3}}, {{2, 3}, {3}}, {{2, 1}, {1, 3}},
                                                            {{}, {4}},        {{1}, {1}},    {{0}, {0}},
                                                            {{2, 0}, {1}},    {{37}, {37}},  {{3, 1, 2}, {2, 1}}};
constexpr std::int64_t kLarge = 100'003;  // several parallel blocks and a tail

ErrorCase integer_error(const char* name, std::function<void(Tensor)> call) {
  return {"integer tensor",
          [call] { call(zeros({2}, int64)); },
          "DtypeError",
          {std::string("[") + name + "]", "int64(2,)", "expected float32 or float64", "cast(x, dtype)"}};
}

std::vector<ErrorCase> binary_errors(const char* name, std::function<void(Tensor, Tensor)> call) {
  const std::string tag = std::string("[") + name + "]";
  return {{"shapes",
           [call] {
             call(zeros({2, 3}), zeros({2}));
           },
           "ShapeError",
           {tag, "(2, 3)", "(2,)", "reshape"}},
          {"dtypes",
           [call] { call(zeros({2}), zeros({2}, float64)); },
           "DtypeError",
           {tag, "float32(2,)", "float64(2,)", "cast(x, dtype)"}}};
}

// --- builders -----------------------------------------------------------------------------------------------------------------

OpCase unary(const char* name, Unary f, Scalar1 reference, Range range, std::vector<std::string> derivatives) {
  OpCase c;
  c.name = name;
  c.covers = {name};
  c.covers.insert(c.covers.end(), derivatives.begin(), derivatives.end());
  c.function = [f](Tensors x) { return detail::one(f(std::move(x[0]))); };
  c.reference = [reference](const Arrays& x) { return Arrays{map(x[0], reference)}; };
  c.samples = [range](Key key, DType dtype) {
    Lists lists;
    for (std::size_t i = 0; i < kUnaryShapes.size(); ++i)
      lists.push_back({draw(range, key, i, kUnaryShapes[i], dtype)});
    return lists;
  };
  c.large = [range](Key key, DType dtype) { return Tensors{draw(range, key, 99, {kLarge}, dtype)}; };
  c.errors = {integer_error(name, [f](Tensor x) { (void)f(std::move(x)); })};
  return c;
}

OpCase binary(const char* name, Binary f, Scalar2 reference, Range first, Range second) {
  OpCase c;
  c.name = name;
  c.covers = {name};
  c.function = [f](Tensors x) { return detail::one(f(std::move(x[0]), std::move(x[1]))); };
  c.reference = [reference](const Arrays& x) { return Arrays{map(x[0], x[1], reference)}; };
  c.samples = [first, second](Key key, DType dtype) {
    Lists lists;
    std::uint64_t n = 0;
    for (const auto& [a, b] : kBinaryShapes) {
      lists.push_back({draw(first, key, n, a, dtype), draw(second, key, n + 1, b, dtype)});
      n += 2;
    }
    return lists;
  };
  c.large = [first, second](Key key, DType dtype) {
    return Tensors{draw(first, key, 98, {kLarge}, dtype), draw(second, key, 99, {kLarge}, dtype)};
  };
  c.errors = binary_errors(name, [f](Tensor a, Tensor b) { (void)f(std::move(a), std::move(b)); });
  return c;
}

OpCase constant(OpCase c, const char* reason) {
  c.not_differentiable = reason;
  return c;
}

OpCase linear(OpCase c) {
  c.linear = true;
  return c;
}

OpCase with_errors(OpCase c, std::vector<ErrorCase> errors) {
  c.errors = std::move(errors);
  return c;
}

// An operation with scalar arguments: `c` with another call and reference.
OpCase with_call(OpCase c, Tensor (*f)(Tensor), Scalar1 reference) {
  c.function = [f](Tensors x) { return detail::one(f(std::move(x[0]))); };
  c.reference = [reference](const Arrays& x) { return Arrays{map(x[0], reference)}; };
  return c;
}

double cdf(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }
double pdf(double x) { return std::exp(-0.5 * x * x) / std::sqrt(2.0 * 3.14159265358979323846); }
double logistic(double x) { return 1.0 / (1.0 + std::exp(-x)); }
double gelu_tanh_value(double x) {
  return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
}
double gelu_tanh_slope(double x) {
  const double c = std::sqrt(2.0 / 3.14159265358979323846);
  const double t = std::tanh(c * (x + 0.044715 * x * x * x));
  return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * c * (1.0 + 3.0 * 0.044715 * x * x);
}

const Range kAny;
const Range kPositive{0.2, 3.0, {}};
const Range kOffZero{-2.5, 2.5, {0.0}};
const Range kWide{-8.0, 8.0, {}};

// --- arithmetic -----------------------------------------------------------------------------------------------------------------

std::vector<OpCase> arithmetic_cases() {
  std::vector<OpCase> cases;
  cases.push_back(linear(binary(
      "sub", sub, [](double a, double b) { return a - b; }, kAny, kAny)));
  cases.push_back(binary(
      "mul", mul, [](double a, double b) { return a * b; }, kAny, kAny));
  cases.push_back(binary(
      "div", div, [](double a, double b) { return a / b; }, kAny, kOffZero));
  cases.push_back(binary(
      "pow", [](Tensor a, Tensor b) { return pow(std::move(a), std::move(b)); }, std::pow, kPositive, kAny));
  cases.push_back(binary(
      "minimum", minimum, [](double a, double b) { return std::min(a, b); }, kAny, kAny));
  cases.push_back(binary(
      "maximum", maximum, [](double a, double b) { return std::max(a, b); }, kAny, kAny));
  cases.push_back(with_call(
      unary("pow_scalar", neg, std::sqrt, kPositive, {}), [](Tensor x) { return pow(std::move(x), 2.7); },
      [](double x) { return std::pow(x, 2.7); }));
  cases.back().errors = {integer_error("pow", [](Tensor x) { (void)pow(std::move(x), 0.5); })};
  cases.push_back(with_call(
      cases.back(), [](Tensor x) { return pow(std::move(x), -1.5); }, [](double x) { return std::pow(x, -1.5); }));
  cases.back().name = "pow_scalar/negative";

  const ErrorCase bytes = {"bool tensor",
                           [] { (void)neg(zeros({2}, boolean)); },
                           "DtypeError",
                           {"[neg]", "bool(2,)", "expected float32, float64 or int64", "cast(x, dtype)"}};
  cases.push_back(with_errors(linear(unary("neg", neg, [](double x) { return -x; }, kAny, {})), {bytes}));
  cases.push_back(
      with_errors(unary("abs", abs, std::fabs, kOffZero, {"abs_grad"}),
                  {{"bool tensor", [] { (void)abs(zeros({2}, boolean)); }, "DtypeError", {"[abs]", "int64"}}}));
  cases.push_back(
      with_errors(unary("square", square, [](double x) { return x * x; }, kAny, {"square_grad"}),
                  {{"bool tensor", [] { (void)square(zeros({2}, boolean)); }, "DtypeError", {"[square]"}}}));
  cases.push_back(
      with_errors(constant(unary("sign", sign, [](double x) { return x > 0   ? 1.0
                                                                     : x < 0 ? -1.0
                                                                             : 0.0; }, kAny, {}),
                           "piecewise constant"),
                  {{"uint8 tensor", [] { (void)sign(zeros({2}, uint8)); }, "DtypeError", {"[sign]", "uint8(2,)"}}}));
  cases.push_back(unary("reciprocal", reciprocal, [](double x) { return 1.0 / x; }, kPositive, {"reciprocal_grad"}));
  cases.push_back(unary("sqrt", sqrt, std::sqrt, kPositive, {"sqrt_grad"}));
  cases.push_back(unary("rsqrt", rsqrt, [](double x) { return 1.0 / std::sqrt(x); }, kPositive, {"rsqrt_grad"}));
  cases.push_back(constant(unary("floor", floor, std::floor, kWide, {}), "piecewise constant"));
  cases.push_back(constant(unary("ceil", ceil, std::ceil, kWide, {}), "piecewise constant"));
  cases.push_back(constant(unary("round", round, std::nearbyint, kWide, {}), "piecewise constant"));
  cases.push_back(with_call(
      unary("clip", neg, std::fabs, {-2.5, 2.5, {-1.0, 1.5}}, {"clip_grad"}),
      [](Tensor x) { return clip(std::move(x), -1.0, 1.5); },
      [](double x) { return std::min(std::max(x, -1.0), 1.5); }));
  cases.back().errors = {
      {"bounds", [] { (void)clip(zeros({2}), 2.0, 1.0); }, "ValueError", {"[clip]", "2", "1", "low <= high"}},
      {"fraction",
       [] { (void)clip(zeros({2}, int64), 0.0, 1.5); },
       "DtypeError",
       {"[clip]", "1.5", "cast(x, float64)"}}};
  return cases;
}

std::vector<OpCase> exponential_cases() {
  std::vector<OpCase> cases;
  cases.push_back(unary("exp", exp, std::exp, kAny, {}));
  cases.push_back(unary("expm1", expm1, std::expm1, kAny, {"expm1_grad"}));
  cases.push_back(unary("log", log, std::log, kPositive, {}));
  cases.push_back(unary("log1p", log1p, std::log1p, {-0.7, 3.0, {}}, {"log1p_grad"}));
  cases.push_back(unary("sin", sin, std::sin, kWide, {"sin_grad", "cos_grad"}));
  cases.push_back(unary("cos", cos, std::cos, kWide, {"cos_grad", "sin_grad"}));
  cases.push_back(unary("erf", erf, std::erf, kAny, {"erf_grad"}));
  return cases;
}

// --- comparison and selection -----------------------------------------------------------------------------------------------------

OpCase comparison(const char* name, Binary f, Scalar2 reference) {
  // Integers from a small range, so that ties occur.
  OpCase c = constant(binary(name, f, reference, kAny, kAny), "bool result");
  c.samples = [](Key key, DType dtype) {
    Lists lists;
    std::uint64_t n = 0;
    for (const auto& [a, b] : kBinaryShapes) {
      lists.push_back(
          {cast(integer_sample(key, n, a, -1, 2), dtype), cast(integer_sample(key, n + 1, b, -1, 2), dtype)});
      n += 2;
    }
    lists.push_back({integer_sample(key, n, {2, 3}, -1, 2), integer_sample(key, n + 1, {3}, -1, 2)});
    lists.push_back({boolean_sample(key, n + 2, {2, 3}), boolean_sample(key, n + 3, {2, 3})});
    return lists;
  };
  return c;
}

OpCase logical(const char* name, Binary f, Scalar2 reference) {
  OpCase c = comparison(name, f, reference);
  c.samples = [](Key key, DType) {
    Lists lists;
    std::uint64_t n = 0;
    for (const auto& [a, b] : kBinaryShapes) {
      lists.push_back({boolean_sample(key, n, a), boolean_sample(key, n + 1, b)});
      n += 2;
    }
    return lists;
  };
  c.large = [](Key key, DType) { return Tensors{boolean_sample(key, 0, {kLarge}), boolean_sample(key, 1, {kLarge})}; };
  const std::string tag = std::string("[") + name + "]";
  c.errors = {
      {"not bool",
       [f] { (void)f(zeros({2}), zeros({2})); },
       "DtypeError",
       {tag, "float32(2,)", "expected bool", "cast"}},
      {"shapes", [f] { (void)f(zeros({2}, boolean), zeros({3}, boolean)); }, "ShapeError", {tag, "(2,)", "(3,)"}}};
  return c;
}

std::vector<OpCase> comparison_cases() {
  std::vector<OpCase> cases;
  cases.push_back(comparison("equal", equal, [](double a, double b) { return double(a == b); }));
  cases.push_back(comparison("not_equal", not_equal, [](double a, double b) { return double(a != b); }));
  cases.push_back(comparison("less", less, [](double a, double b) { return double(a < b); }));
  cases.push_back(comparison("less_equal", less_equal, [](double a, double b) { return double(a <= b); }));
  cases.push_back(comparison("greater", greater, [](double a, double b) { return double(a > b); }));
  cases.push_back(comparison("greater_equal", greater_equal, [](double a, double b) { return double(a >= b); }));
  cases.push_back(logical("logical_and", logical_and, [](double a, double b) { return a * b; }));
  cases.push_back(logical("logical_or", logical_or, [](double a, double b) { return std::max(a, b); }));

  OpCase inverse =
      constant(unary("logical_not", logical_not, [](double x) { return 1.0 - x; }, kAny, {}), "bool result");
  inverse.samples = [](Key key, DType) {
    Lists lists;
    for (std::size_t i = 0; i < kUnaryShapes.size(); ++i) lists.push_back({boolean_sample(key, i, kUnaryShapes[i])});
    return lists;
  };
  inverse.large = [](Key key, DType) { return Tensors{boolean_sample(key, 0, {kLarge})}; };
  inverse.errors = {
      {"not bool", [] { (void)logical_not(zeros({2}, int64)); }, "DtypeError", {"[logical_not]", "expected bool"}}};
  cases.push_back(inverse);

  OpCase finite =
      constant(unary("isfinite", isfinite, [](double x) { return double(std::isfinite(x)); }, kAny, {}), "bool result");
  finite.samples = [](Key key, DType dtype) {
    Lists lists;
    for (std::size_t i = 0; i < kUnaryShapes.size(); ++i)  // 1 / x for x = 0 and log(x) for x = -1 give inf and NaN
      lists.push_back({log(cast(integer_sample(key, i, kUnaryShapes[i], -1, 3), dtype))});
    return lists;
  };
  cases.push_back(finite);
  return cases;
}

OpCase where_case() {
  OpCase c;
  c.name = "where";
  c.covers = {"where"};
  c.linear = true;
  c.function = [](Tensors x) { return detail::one(where(std::move(x[0]), std::move(x[1]), std::move(x[2]))); };
  c.reference = [](const Arrays& x) {
    const Shape shape = broadcast_shapes("where", broadcast_shapes("where", x[0].shape, x[1].shape), x[2].shape);
    const Array condition = broadcast(x[0], shape);
    const Array a = broadcast(x[1], shape);
    Array out = broadcast(x[2], shape);
    for (std::int64_t i = 0; i < out.numel(); ++i)
      if (condition[i] != 0.0) out[i] = a[i];
    return Arrays{out};
  };
  c.samples = [](Key key, DType dtype) {
    const std::vector<std::vector<Shape>> shapes = {{{2, 3}, {2, 3}, {2, 3}}, {{2, 1}, {3}, {}}, {{3}, {2, 3}, {2, 1}},
                                                    {{1}, {1}, {1}},          {{0}, {0}, {1}},   {{37}, {37}, {37}}};
    Lists lists;
    std::uint64_t n = 0;
    for (const auto& s : shapes) {
      lists.push_back({boolean_sample(key, n, s[0]), normal_sample(key, n + 1, s[1], dtype),
                       normal_sample(key, n + 2, s[2], dtype)});
      n += 3;
    }
    lists.push_back({boolean_sample(key, n, {2, 3}), integer_sample(key, n + 1, {2, 3}, 0, 9),
                     integer_sample(key, n + 2, {3}, 0, 9)});
    return lists;
  };
  c.large = [](Key key, DType dtype) {
    return Tensors{boolean_sample(key, 0, {kLarge}), normal_sample(key, 1, {kLarge}, dtype),
                   normal_sample(key, 2, {1}, dtype)};
  };
  c.errors = {{"condition",
               [] { (void)where(zeros({2}), zeros({2}), zeros({2})); },
               "DtypeError",
               {"[where]", "expected bool", "not_equal"}},
              {"dtypes",
               [] { (void)where(zeros({2}, boolean), zeros({2}), zeros({2}, int64)); },
               "DtypeError",
               {"[where]", "int64(2,)", "cast"}},
              {"shapes",
               [] {
                 (void)where(zeros({4}, boolean), zeros({2, 3}), zeros({3}));
               },
               "ShapeError",
               {"[where]", "(4,)", "(2, 3)"}}};
  return c;
}

std::vector<OpCase> cast_cases() {
  std::vector<OpCase> cases;
  // There and back, so that both precisions of input pass through the operation.
  OpCase c = with_call(
      unary("cast", neg, std::fabs, kAny, {}),
      [](Tensor x) {
        const DType back = x.dtype();
        return cast(cast(std::move(x), back == float32 ? float64 : float32), back);
      },
      [](double x) { return static_cast<double>(static_cast<float>(x)); });
  c.tolerance_f64 = 0.0;
  c.gradcheck_eps = 0.5;  // linear up to rounding to float32, of which a small step would see nothing else
  c.mode_tol = 1e-5;      // tangents and cotangents are rounded to float32 too
  c.errors.clear();
  c.no_errors = "takes every dtype";
  cases.push_back(c);

  OpCase data = with_call(
      unary("cast_constant", neg, std::fabs, kWide, {}), [](Tensor x) { return cast(std::move(x), int64); },
      std::trunc);
  data.not_differentiable = "integers have no tangents";
  data.errors.clear();
  data.no_errors = "takes every dtype";
  cases.push_back(data);
  data = with_call(
      data, [](Tensor x) { return cast(cast(std::move(x), boolean), uint8); },
      [](double x) { return double(x != 0.0); });
  data.name = "cast_constant/bool";
  cases.push_back(data);
  return cases;
}

// --- derivatives ----------------------------------------------------------------------------------------------------------------

// g * slope(s)
OpCase derivative(const char* name, Binary f, Scalar2 reference, Range s) {
  return binary(name, f, reference, kAny, s);
}

std::vector<OpCase> derivative_cases() {
  std::vector<OpCase> cases;
  cases.push_back(derivative(
      "abs_grad", detail::abs_grad, [](double g, double x) { return x > 0 ? g : -g; }, kOffZero));
  cases.push_back(derivative(
      "square_grad", detail::square_grad, [](double g, double x) { return 2 * g * x; }, kAny));
  cases.push_back(derivative(
      "reciprocal_grad", detail::reciprocal_grad, [](double g, double y) { return -g * y * y; }, kAny));
  cases.push_back(derivative(
      "sqrt_grad", detail::sqrt_grad, [](double g, double y) { return g / (2 * y); }, kPositive));
  cases.push_back(derivative(
      "rsqrt_grad", detail::rsqrt_grad, [](double g, double y) { return -0.5 * g * y * y * y; }, kAny));
  cases.push_back(derivative(
      "expm1_grad", detail::expm1_grad, [](double g, double y) { return g * (y + 1); }, kAny));
  cases.push_back(
      derivative("log1p_grad", detail::log1p_grad, [](double g, double x) { return g / (1 + x); }, {-0.7, 3.0, {}}));
  cases.push_back(derivative(
      "sin_grad", detail::sin_grad, [](double g, double x) { return g * std::cos(x); }, kWide));
  cases.push_back(derivative(
      "cos_grad", detail::cos_grad, [](double g, double x) { return -g * std::sin(x); }, kWide));
  cases.push_back(derivative(
      "erf_grad", detail::erf_grad,
      [](double g, double x) { return g * 2.0 / std::sqrt(3.14159265358979323846) * std::exp(-x * x); }, kAny));
  cases.push_back(derivative(
      "clip_grad", [](Tensor g, Tensor x) { return detail::clip_grad(std::move(g), std::move(x), -1.0, 1.5); },
      [](double g, double x) { return x >= -1.0 && x <= 1.5 ? g : 0.0; }, {-2.5, 2.5, {-1.0, 1.5}}));
  cases.push_back(derivative(
      "tanh_grad", detail::tanh_grad, [](double g, double y) { return g * (1 - y * y); }, kAny));
  cases.push_back(derivative(
      "sigmoid_grad", detail::sigmoid_grad, [](double g, double y) { return g * y * (1 - y); }, kAny));
  cases.push_back(derivative(
      "softplus_grad", detail::softplus_grad, [](double g, double x) { return g * logistic(x); }, kWide));
  cases.push_back(derivative(
      "relu_grad", detail::relu_grad, [](double g, double y) { return y > 0 ? g : 0.0; }, kOffZero));
  cases.push_back(derivative(
      "leaky_relu_grad", [](Tensor g, Tensor x) { return detail::leaky_relu_grad(std::move(g), std::move(x), 0.2); },
      [](double g, double x) { return x > 0 ? g : 0.2 * g; }, kOffZero));
  cases.push_back(derivative(
      "elu_grad", [](Tensor g, Tensor x) { return detail::elu_grad(std::move(g), std::move(x), 1.5); },
      [](double g, double x) { return x > 0 ? g : 1.5 * g * std::exp(x); }, kOffZero));
  cases.push_back(derivative(
      "silu_grad", detail::silu_grad, [](double g, double x) { return g * logistic(x) * (1 + x * (1 - logistic(x))); },
      kWide));
  cases.push_back(derivative(
      "gelu_grad", detail::gelu_grad, [](double g, double x) { return g * (cdf(x) + x * pdf(x)); }, kAny));
  cases.push_back(derivative(
      "gelu_tanh_grad", detail::gelu_tanh_grad, [](double g, double x) { return g * gelu_tanh_slope(x); }, kAny));
  return cases;
}

}  // namespace

std::vector<OpCase> elementwise_cases() {
  std::vector<OpCase> cases;
  for (auto& family : {arithmetic_cases(), exponential_cases(), comparison_cases(), cast_cases(), derivative_cases()})
    cases.insert(cases.end(), family.begin(), family.end());
  cases.push_back(where_case());
  return cases;
}

std::vector<OpCase> activation_cases() {
  std::vector<OpCase> cases;
  cases.push_back(unary("tanh", tanh, std::tanh, kAny, {"tanh_grad"}));
  cases.push_back(unary("sigmoid", sigmoid, logistic, kWide, {"sigmoid_grad"}));
  cases.push_back(
      unary("log_sigmoid", log_sigmoid, [](double x) { return std::log(logistic(x)); }, kWide, {"softplus_grad"}));
  cases.push_back(
      unary("softplus", softplus, [](double x) { return std::log1p(std::exp(x)); }, kWide, {"softplus_grad"}));
  cases.push_back(unary("relu", relu, [](double x) { return std::max(x, 0.0); }, kOffZero, {"relu_grad"}));
  cases.push_back(with_call(
      unary("leaky_relu", neg, std::fabs, kOffZero, {"leaky_relu_grad"}),
      [](Tensor x) { return leaky_relu(std::move(x), 0.2); }, [](double x) { return x > 0 ? x : 0.2 * x; }));
  cases.back().errors = {integer_error("leaky_relu", [](Tensor x) { (void)leaky_relu(std::move(x)); })};
  cases.push_back(with_call(
      unary("elu", neg, std::fabs, kOffZero, {"elu_grad"}), [](Tensor x) { return elu(std::move(x), 1.5); },
      [](double x) { return x > 0 ? x : 1.5 * std::expm1(x); }));
  cases.back().errors = {integer_error("elu", [](Tensor x) { (void)elu(std::move(x)); })};
  cases.push_back(unary("silu", silu, [](double x) { return x * logistic(x); }, kWide, {"silu_grad"}));
  cases.push_back(unary("gelu", gelu, [](double x) { return x * cdf(x); }, kAny, {"gelu_grad"}));
  cases.push_back(unary("gelu_tanh", gelu_tanh, gelu_tanh_value, kAny, {"gelu_tanh_grad"}));
  return cases;
}

}  // namespace solvent::testing
