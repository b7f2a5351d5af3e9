#pragma once
/// Elementwise operations. Binary ones broadcast by NumPy's rules; operands must have one dtype (no promotion) and one
/// device. Floating operations accept float32 and float64; add, sub, mul, minimum, maximum, neg, abs, sign, square and clip
/// also int64, which wraps around. Python-style scalars are doubles, rounded once to the tensor's dtype. NaN in gives NaN
/// out; comparisons with NaN are false, but not_equal. Every function throws DtypeError, ShapeError or DeviceError for
/// operands that do not fit, and differentiates to any order unless it says that its result is a constant.

#include "solvent/autodiff/basis.h"

namespace solvent {

// --- arithmetic ---------------------------------------------------------------------------------------------------------
/// a - b. `add` is declared in autodiff/basis.h. @throws ShapeError, DtypeError, DeviceError (all binary operations)
SOLVENT_API Tensor sub(Tensor a, Tensor b);
/// a * b
SOLVENT_API Tensor mul(Tensor a, Tensor b);
/// a / b
SOLVENT_API Tensor div(Tensor a, Tensor b);
/// a^b for a > 0, or any a if b holds integers (else NaN); derivative in b is 0 where a == 0 and b >= 0.
SOLVENT_API Tensor pow(Tensor a, Tensor b);
/// x^p for a constant p (derivative p x^(p-1)).
SOLVENT_API Tensor pow(Tensor x, double p);
/// Smaller and larger of two; at ties each operand gets half of the cotangent. NaN propagates.
/// @{
SOLVENT_API Tensor minimum(Tensor a, Tensor b);
SOLVENT_API Tensor maximum(Tensor a, Tensor b);
/// @}
SOLVENT_API Tensor neg(Tensor x);         ///< -x
SOLVENT_API Tensor abs(Tensor x);         ///< derivative sign(x); 0 at 0
SOLVENT_API Tensor sign(Tensor x);        ///< -1, 0, 1; not differentiable (constant result)
SOLVENT_API Tensor reciprocal(Tensor x);  ///< 1 / x
SOLVENT_API Tensor square(Tensor x);      ///< x^2
SOLVENT_API Tensor sqrt(Tensor x);        ///< NaN for x < 0; infinite derivative at 0
SOLVENT_API Tensor rsqrt(Tensor x);       ///< 1 / sqrt(x)
/// The derivative of `clip` where x equals a bound; any value between 0 and 1 is a subgradient there.
enum class SlopeAtBounds : std::uint8_t { one, half, zero };
/// min(max(x, low), high); derivative 1 inside, 0 outside, and `slope` where x equals a bound: `one` passes gradients
/// through values that lie on a bound (hard sigmoids that saturate, the convention of equilibrium propagation), `zero` is
/// the derivative of the clipped side, `half` their mean (that of maximum and minimum at ties).
SOLVENT_API Tensor clip(Tensor x, double low, double high, SlopeAtBounds slope = SlopeAtBounds::one);
/// Round down, up, to nearest even, towards zero; constants for differentiation.
/// @{
SOLVENT_API Tensor floor(Tensor x);
SOLVENT_API Tensor ceil(Tensor x);
SOLVENT_API Tensor round(Tensor x);
SOLVENT_API Tensor trunc(Tensor x);
/// @}
/// What an integer division leaves: `fmod` has the sign of a (as in C), `remainder` that of b (as in Python). Exact; NaN
/// for b == 0. The derivative in b is minus the integer quotient.
/// @{
SOLVENT_API Tensor fmod(Tensor a, Tensor b);
SOLVENT_API Tensor remainder(Tensor a, Tensor b);
/// @}

// --- exponentials and friends -----------------------------------------------------------------------------------------
SOLVENT_API Tensor exp(Tensor x);    ///< e^x
SOLVENT_API Tensor expm1(Tensor x);  ///< e^x - 1, accurate near 0
SOLVENT_API Tensor exp2(Tensor x);   ///< 2^x
SOLVENT_API Tensor log(Tensor x);    ///< natural logarithm; -inf at 0, NaN below
SOLVENT_API Tensor log1p(Tensor x);  ///< log(1 + x), accurate near 0
SOLVENT_API Tensor log2(Tensor x);   ///< logarithm to base 2
SOLVENT_API Tensor log10(Tensor x);  ///< logarithm to base 10
SOLVENT_API Tensor logit(Tensor x);  ///< log(x / (1 - x)), the inverse of sigmoid
SOLVENT_API Tensor sin(Tensor x);    ///< of radians
SOLVENT_API Tensor cos(Tensor x);    ///< of radians
SOLVENT_API Tensor tan(Tensor x);    ///< of radians
SOLVENT_API Tensor sinh(Tensor x);   ///< hyperbolic sine
SOLVENT_API Tensor cosh(Tensor x);   ///< hyperbolic cosine
SOLVENT_API Tensor tanh(Tensor x);   ///< hyperbolic tangent
SOLVENT_API Tensor erf(Tensor x);    ///< error function

// --- activations --------------------------------------------------------------------------------------------------------
SOLVENT_API Tensor sigmoid(Tensor x);                          ///< 1 / (1 + e^-x), accurate for x << 0
SOLVENT_API Tensor log_sigmoid(Tensor x);                      ///< log(sigmoid(x)), safe for large |x|
SOLVENT_API Tensor softplus(Tensor x);                         ///< log(1 + e^x), safe for large |x|
SOLVENT_API Tensor relu(Tensor x);                             ///< derivative 0 at 0
SOLVENT_API Tensor leaky_relu(Tensor x, double slope = 0.01);  ///< x for x > 0, else slope x; derivative slope at 0
SOLVENT_API Tensor elu(Tensor x, double alpha = 1.0);  ///< x for x > 0, else alpha (e^x - 1); derivative alpha at 0
SOLVENT_API Tensor silu(Tensor x);                     ///< x sigmoid(x)
SOLVENT_API Tensor gelu(Tensor x);                     ///< x Phi(x), exact (erf) form
SOLVENT_API Tensor gelu_tanh(Tensor x);                ///< tanh approximation of gelu
/// elu of x and -x, joined along an axis whose extent doubles (Salimans et al. 2017, after Shang et al. 2016).
SOLVENT_API Tensor concat_elu(Tensor x, std::int64_t axis = -1);
/// Gated linear unit (Dauphin et al. 2017): first half of an axis times sigmoid of the second. @throws ShapeError if its
/// extent is odd
SOLVENT_API Tensor glu(Tensor x, std::int64_t axis = -1);

// --- comparisons and selection (bool results; constants for differentiation) -----------------------------------------------
SOLVENT_API Tensor equal(Tensor a, Tensor b);          ///< a == b
SOLVENT_API Tensor not_equal(Tensor a, Tensor b);      ///< a != b; true if either is NaN
SOLVENT_API Tensor less(Tensor a, Tensor b);           ///< a < b
SOLVENT_API Tensor less_equal(Tensor a, Tensor b);     ///< a <= b
SOLVENT_API Tensor greater(Tensor a, Tensor b);        ///< a > b
SOLVENT_API Tensor greater_equal(Tensor a, Tensor b);  ///< a >= b
SOLVENT_API Tensor logical_and(Tensor a, Tensor b);    ///< both hold; bool operands
SOLVENT_API Tensor logical_or(Tensor a, Tensor b);     ///< at least one holds; bool operands
SOLVENT_API Tensor logical_xor(Tensor a, Tensor b);    ///< exactly one holds; bool operands
SOLVENT_API Tensor logical_not(Tensor x);              ///< of a bool tensor
SOLVENT_API Tensor isfinite(Tensor x);                 ///< neither infinite nor NaN
SOLVENT_API Tensor isnan(Tensor x);                    ///< NaN
SOLVENT_API Tensor isinf(Tensor x);                    ///< infinite, of either sign
/// a where `condition` (bool) holds, else b; broadcasts all three.
SOLVENT_API Tensor where(Tensor condition, Tensor a, Tensor b);
/// Other element type; differentiable between float32 and float64, a constant otherwise. Float to integer truncates, with
/// NaN as 0 and values out of range as the nearest bound; integers wrap; to bool: whether not 0.
SOLVENT_API Tensor cast(Tensor x, DType dtype);

// --- operators (found by argument-dependent lookup) ------------------------------------------------------------------------
/// The functions add, sub, mul, div and neg; with a scalar, `affine`.
/// @{
inline Tensor operator+(Tensor a, Tensor b) { return add(std::move(a), std::move(b)); }
inline Tensor operator-(Tensor a, Tensor b) { return sub(std::move(a), std::move(b)); }
inline Tensor operator*(Tensor a, Tensor b) { return mul(std::move(a), std::move(b)); }
inline Tensor operator/(Tensor a, Tensor b) { return div(std::move(a), std::move(b)); }
inline Tensor operator-(Tensor x) { return neg(std::move(x)); }
inline Tensor operator+(Tensor x, double s) { return affine(std::move(x), 1.0, s); }
inline Tensor operator+(double s, Tensor x) { return affine(std::move(x), 1.0, s); }
inline Tensor operator-(Tensor x, double s) { return affine(std::move(x), 1.0, -s); }
inline Tensor operator-(double s, Tensor x) { return affine(std::move(x), -1.0, s); }
inline Tensor operator*(Tensor x, double s) { return affine(std::move(x), s, 0.0); }
inline Tensor operator*(double s, Tensor x) { return affine(std::move(x), s, 0.0); }
inline Tensor operator/(Tensor x, double s) { return affine(std::move(x), 1.0 / s, 0.0); }
inline Tensor operator/(double s, Tensor x) { return affine(reciprocal(std::move(x)), s, 0.0); }
/// @}
inline Tensor operator==(const Tensor&, const Tensor&) = delete;  // ambiguous: use equal() or compare shapes and data

}  // namespace solvent
