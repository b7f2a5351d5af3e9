#pragma once
/// Scalar definitions of the elementwise functions, one per operation.
///
/// They are the single statement of what each function computes: CUDA kernels and integer loops instantiate them, and the
/// tests use them (in double) as the reference for the vector twins in ops/cpu/vector_math-inl.h. They favour clarity over
/// speed but avoid avoidable cancellation. NaN inputs give NaN unless a docstring says otherwise.

#include <cmath>
#include <cstdint>

#include "solvent/core/export.h"

namespace solvent::functor {

/// Two scalar attributes; their meaning belongs to the function (slope, alpha, bounds, scale and offset).
struct Params {
  double a = 0.0;  ///< first
  double b = 0.0;  ///< second
};

/// Functions of one float argument.
enum class UnaryFn : std::uint8_t {
  identity,
  affine,  ///< a*x + b, rounded once where the target has fused multiply-add
  neg,
  abs,
  sign,  ///< -1, 0, 1; NaN stays NaN
  reciprocal,
  square,
  sqrt,
  rsqrt,  ///< 1 / sqrt(x)
  clip,   ///< min(max(x, a), b)
  floor,
  ceil,
  round,  ///< to nearest, ties to even
  trunc,
  exp,
  expm1,
  log,
  log1p,
  sin,
  cos,
  tanh,
  erf,
  sigmoid,
  log_sigmoid,
  softplus,  ///< log(1 + e^x)
  relu,
  leaky_relu,  ///< x > 0 ? x : a*x
  elu,         ///< x > 0 ? x : a*(e^x - 1)
  silu,        ///< x * sigmoid(x); -0 at -inf
  gelu,        ///< x * Phi(x), Phi the normal distribution function; relative accuracy in the left tail
  gelu_tanh,   ///< x * sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3)), the same as the usual form with tanh
  step,        ///< derivative of relu: 1 for x > 0, else 0
  leaky_relu_derivative,
  elu_derivative,
  clip_derivative,  ///< 1 for a <= x <= b, else 0
  silu_derivative,
  gelu_derivative,
  gelu_tanh_derivative,
  erf_derivative,  ///< 2/sqrt(pi) * exp(-x^2)
};
/// Number of unary functions.
inline constexpr int kUnaryFnCount = static_cast<int>(UnaryFn::erf_derivative) + 1;

/// Functions of two float arguments. The `*_grad` functions are g * f'(.), with g the first argument and, as the second,
/// the input x or (where noted) the output y of f.
enum class BinaryFn : std::uint8_t {
  add,
  sub,
  mul,
  div,
  pow,
  minimum,  ///< NaN if either is NaN
  maximum,
  add_scaled,          ///< x + a*y
  squared_difference,  ///< (x - y)^2
  abs_grad,
  square_grad,
  reciprocal_grad,  ///< from y: -g y^2
  sqrt_grad,        ///< from y: g / (2 y)
  rsqrt_grad,       ///< from y: -g y^3 / 2
  expm1_grad,       ///< from y: g (y + 1)
  log1p_grad,
  sin_grad,
  cos_grad,
  tanh_grad,     ///< from y: g (1 - y^2)
  sigmoid_grad,  ///< from y: g y (1 - y)
  softplus_grad,
  relu_grad,
  leaky_relu_grad,
  elu_grad,
  clip_grad,
  silu_grad,
  gelu_grad,
  gelu_tanh_grad,
  erf_grad,
};
/// Number of binary functions.
inline constexpr int kBinaryFnCount = static_cast<int>(BinaryFn::erf_grad) + 1;

/// Comparisons of two floats; false if either is NaN, except not_equal (true).
enum class CompareFn : std::uint8_t { equal, not_equal, less, less_equal, greater, greater_equal };
/// Number of comparisons.
inline constexpr int kCompareFnCount = static_cast<int>(CompareFn::greater_equal) + 1;

/// Functions of two truth values (bytes 0 or 1).
enum class LogicalFn : std::uint8_t { logical_and, logical_or, logical_xor };
/// Number of logical functions.
inline constexpr int kLogicalFnCount = static_cast<int>(LogicalFn::logical_xor) + 1;

/// Truth values of one float.
enum class PredicateFn : std::uint8_t { is_finite, is_nan, is_inf };
/// Number of predicates.
inline constexpr int kPredicateFnCount = static_cast<int>(PredicateFn::is_inf) + 1;

inline constexpr double kTwoOverSqrtPi = 1.1283791670955125739;      ///< 2 / sqrt(pi)
inline constexpr double kOneOverSqrtTwoPi = 0.39894228040143267794;  ///< 1 / sqrt(2 pi)
inline constexpr double kSqrtTwoOverPi = 0.79788456080286535588;     ///< sqrt(2 / pi)
inline constexpr double kGeluCubic = 0.044715;                       ///< coefficient of x^3 in gelu_tanh

/// Natural logarithm of 1 + e^x without overflow.
template <class T>
SOLVENT_HD T softplus(T x) {
  return (x > T{0} ? x : (x == x ? T{0} : x)) + std::log1p(std::exp(-std::fabs(x)));
}

/// 1 / (1 + e^-x); keeps relative accuracy for large negative x.
template <class T>
SOLVENT_HD T sigmoid(T x) {
  const T e = std::exp(-std::fabs(x));
  return (x < T{0} ? e : T{1}) / (T{1} + e);
}

/// sigmoid'(x) = sigmoid(x) sigmoid(-x)
template <class T>
SOLVENT_HD T sigmoid_slope(T x) {
  const T e = std::exp(-std::fabs(x));
  return e / ((T{1} + e) * (T{1} + e));
}

/// Distribution function of the standard normal distribution.
template <class T>
SOLVENT_HD T normal_cdf(T x) {
  return T{0.5} * std::erfc(-std::sqrt(T{0.5}) * x);
}
/// Density of the standard normal distribution.
template <class T>
SOLVENT_HD T normal_pdf(T x) {
  return static_cast<T>(kOneOverSqrtTwoPi) * std::exp(T{-0.5} * x * x);
}

/// The value of a unary function, chosen at compile time.
template <UnaryFn kFn, class T>
SOLVENT_HD T unary(T x, Params p = {}) {
  const T a = static_cast<T>(p.a);
  const T b = static_cast<T>(p.b);
  if constexpr (kFn == UnaryFn::identity) return x;
  if constexpr (kFn == UnaryFn::affine) return std::fma(a, x, b);
  if constexpr (kFn == UnaryFn::neg) return -x;
  if constexpr (kFn == UnaryFn::abs) return std::fabs(x);
  if constexpr (kFn == UnaryFn::sign) return x > T{0} ? T{1} : (x < T{0} ? T{-1} : (x == x ? T{0} : x));
  if constexpr (kFn == UnaryFn::reciprocal) return T{1} / x;
  if constexpr (kFn == UnaryFn::square) return x * x;
  if constexpr (kFn == UnaryFn::sqrt) return std::sqrt(x);
  if constexpr (kFn == UnaryFn::rsqrt) return T{1} / std::sqrt(x);
  if constexpr (kFn == UnaryFn::clip) return x < a ? a : (x > b ? b : x);
  if constexpr (kFn == UnaryFn::floor) return std::floor(x);
  if constexpr (kFn == UnaryFn::ceil) return std::ceil(x);
  if constexpr (kFn == UnaryFn::round) return std::nearbyint(x);
  if constexpr (kFn == UnaryFn::trunc) return std::trunc(x);
  if constexpr (kFn == UnaryFn::exp) return std::exp(x);
  if constexpr (kFn == UnaryFn::expm1) return std::expm1(x);
  if constexpr (kFn == UnaryFn::log) return std::log(x);
  if constexpr (kFn == UnaryFn::log1p) return std::log1p(x);
  if constexpr (kFn == UnaryFn::sin) return std::sin(x);
  if constexpr (kFn == UnaryFn::cos) return std::cos(x);
  if constexpr (kFn == UnaryFn::tanh) return std::tanh(x);
  if constexpr (kFn == UnaryFn::erf) return std::erf(x);
  if constexpr (kFn == UnaryFn::sigmoid) return sigmoid(x);
  if constexpr (kFn == UnaryFn::log_sigmoid) return -softplus(-x);
  if constexpr (kFn == UnaryFn::softplus) return softplus(x);
  if constexpr (kFn == UnaryFn::relu) return x <= T{0} ? T{0} : x;
  if constexpr (kFn == UnaryFn::leaky_relu) return x > T{0} ? x : a * x;
  if constexpr (kFn == UnaryFn::elu) return x > T{0} ? x : a * std::expm1(x);
  if constexpr (kFn == UnaryFn::silu) return x < T{-1e4} ? T{-0.0} : x * sigmoid(x);
  if constexpr (kFn == UnaryFn::gelu) return x < T{-100} ? T{-0.0} : x * normal_cdf(x);
  if constexpr (kFn == UnaryFn::gelu_tanh) {
    const T u = static_cast<T>(kSqrtTwoOverPi) * x * (T{1} + static_cast<T>(kGeluCubic) * x * x);
    return x < T{-100} ? T{-0.0} : x * sigmoid(T{2} * u);
  }
  if constexpr (kFn == UnaryFn::step) return x > T{0} ? T{1} : (x == x ? T{0} : x);
  if constexpr (kFn == UnaryFn::leaky_relu_derivative) return x > T{0} ? T{1} : (x == x ? a : x);
  if constexpr (kFn == UnaryFn::elu_derivative) return x > T{0} ? T{1} : a * std::exp(x);
  if constexpr (kFn == UnaryFn::clip_derivative) return x != x ? x : (x >= a && x <= b ? T{1} : T{0});
  if constexpr (kFn == UnaryFn::silu_derivative) {
    const T bounded = x < T{-1e4} ? T{-1e4} : (x > T{1e4} ? T{1e4} : x);
    return sigmoid(bounded) + bounded * sigmoid_slope(bounded);
  }
  if constexpr (kFn == UnaryFn::gelu_derivative) {
    const T bounded = x < T{-100} ? T{-100} : (x > T{100} ? T{100} : x);
    return normal_cdf(bounded) + bounded * normal_pdf(bounded);
  }
  if constexpr (kFn == UnaryFn::gelu_tanh_derivative) {
    const T bounded = x < T{-100} ? T{-100} : (x > T{100} ? T{100} : x);
    const T cubic = static_cast<T>(kGeluCubic) * bounded * bounded;
    const T u = T{2} * static_cast<T>(kSqrtTwoOverPi) * bounded * (T{1} + cubic);
    const T du = T{2} * static_cast<T>(kSqrtTwoOverPi) * (T{1} + T{3} * cubic);
    return sigmoid(u) + bounded * sigmoid_slope(u) * du;
  }
  if constexpr (kFn == UnaryFn::erf_derivative) return static_cast<T>(kTwoOverSqrtPi) * std::exp(-x * x);
}

/// The value of a binary function, chosen at compile time.
template <BinaryFn kFn, class T>
SOLVENT_HD T binary(T x, T y, Params p = {}) {
  if constexpr (kFn == BinaryFn::add) return x + y;
  if constexpr (kFn == BinaryFn::sub) return x - y;
  if constexpr (kFn == BinaryFn::mul) return x * y;
  if constexpr (kFn == BinaryFn::div) return x / y;
  if constexpr (kFn == BinaryFn::pow) return std::pow(x, y);
  if constexpr (kFn == BinaryFn::minimum) return x != x ? x : (y < x || y != y ? y : x);
  if constexpr (kFn == BinaryFn::maximum) return x != x ? x : (y > x || y != y ? y : x);
  if constexpr (kFn == BinaryFn::add_scaled) return std::fma(static_cast<T>(p.a), y, x);
  if constexpr (kFn == BinaryFn::squared_difference) return (x - y) * (x - y);
  if constexpr (kFn == BinaryFn::abs_grad) return x * unary<UnaryFn::sign>(y);
  if constexpr (kFn == BinaryFn::square_grad) return T{2} * x * y;
  if constexpr (kFn == BinaryFn::reciprocal_grad) return -x * y * y;
  if constexpr (kFn == BinaryFn::sqrt_grad) return T{0.5} * x / y;
  if constexpr (kFn == BinaryFn::rsqrt_grad) return T{-0.5} * x * y * y * y;
  if constexpr (kFn == BinaryFn::expm1_grad) return x * (y + T{1});
  if constexpr (kFn == BinaryFn::log1p_grad) return x / (y + T{1});
  if constexpr (kFn == BinaryFn::sin_grad) return x * std::cos(y);
  if constexpr (kFn == BinaryFn::cos_grad) return -x * std::sin(y);
  if constexpr (kFn == BinaryFn::tanh_grad) return x * (T{1} - y * y);
  if constexpr (kFn == BinaryFn::sigmoid_grad) return x * y * (T{1} - y);
  if constexpr (kFn == BinaryFn::softplus_grad) return x * sigmoid(y);
  if constexpr (kFn == BinaryFn::relu_grad) return y > T{0} ? x : (y == y ? T{0} : y);
  if constexpr (kFn == BinaryFn::leaky_relu_grad) return x * unary<UnaryFn::leaky_relu_derivative>(y, p);
  if constexpr (kFn == BinaryFn::elu_grad) return x * unary<UnaryFn::elu_derivative>(y, p);
  if constexpr (kFn == BinaryFn::clip_grad) {
    if (y != y) return y;
    return y >= static_cast<T>(p.a) && y <= static_cast<T>(p.b) ? x : T{0};
  }
  if constexpr (kFn == BinaryFn::silu_grad) return x * unary<UnaryFn::silu_derivative>(y);
  if constexpr (kFn == BinaryFn::gelu_grad) return x * unary<UnaryFn::gelu_derivative>(y);
  if constexpr (kFn == BinaryFn::gelu_tanh_grad) return x * unary<UnaryFn::gelu_tanh_derivative>(y);
  if constexpr (kFn == BinaryFn::erf_grad) return x * unary<UnaryFn::erf_derivative>(y);
}

/// The value of a comparison, chosen at compile time.
template <CompareFn kFn, class T>
SOLVENT_HD bool compare(T x, T y) {
  if constexpr (kFn == CompareFn::equal) return x == y;
  if constexpr (kFn == CompareFn::not_equal) return x != y;
  if constexpr (kFn == CompareFn::less) return x < y;
  if constexpr (kFn == CompareFn::less_equal) return x <= y;
  if constexpr (kFn == CompareFn::greater) return x > y;
  if constexpr (kFn == CompareFn::greater_equal) return x >= y;
}

}  // namespace solvent::functor
