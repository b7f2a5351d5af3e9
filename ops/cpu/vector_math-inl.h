// Vector mathematical functions. Included once per Highway target (no #pragma once); the functions take and return
// registers of float or double lanes.
//
// Polynomials are minimax fits (Remez exchange in 60 digits, relative weights); the bound beside each is its maximum error
// before rounding of coefficients and arithmetic. tests/ops/vector_kernels_test.cpp measures the total error against the C
// library in double or long double. Without fused multiply-add (baseline target) errors may be about twice as large, and
// compensated tails (gelu, erf for |x| > 3) lose more.
//
// NaN lanes stay NaN. Everything is branch-free but sin, cos and pow, which leave rare lanes to the C library.

#if defined(SOLVENT_OPS_CPU_VECTOR_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SOLVENT_OPS_CPU_VECTOR_MATH_INL_H_
#undef SOLVENT_OPS_CPU_VECTOR_MATH_INL_H_
#else
#define SOLVENT_OPS_CPU_VECTOR_MATH_INL_H_
#endif

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace solvent::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Layout of a float type and constants of the argument reductions.
template <class T>
struct FloatTraits;
template <>
struct FloatTraits<float> {
  using Bits = std::uint32_t;
  static constexpr int kMantissaBits = 23;
  static constexpr int kBias = 127;
  static constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer held in the low bits
  static constexpr float kLn2Hi = 0.693145752f;   // 15 bits: products with exponents are exact
  static constexpr float kLn2Lo = 1.42860677e-6f;
  static constexpr float kExpMax = 89.0f;     // e^x overflows before
  static constexpr float kExpMin = -105.0f;   // e^x rounds to 0 before
  static constexpr float kExpm1Min = -18.0f;  // e^x - 1 rounds to -1 before
  static constexpr float kTanhMax = 9.5f;     // tanh rounds to 1 before
  static constexpr float kGaussMax = 13.25f;  // e^(-x^2/2) is below the normal numbers from here on
  static constexpr float kErfMax = 4.2f;      // erf rounds to 1 before
  static constexpr Bits kSqrtHalfBits = 0x3F3504F3u;
  static constexpr Bits kOneBits = 0x3F800000u;
  static constexpr Bits kMantissaMask = 0x007FFFFFu;
  static constexpr Bits kIntegerBits = 0x4B000000u;  // 2^23: or-ing an integer below gives 2^23 + integer
  static constexpr float kIntegerBase = 8388608.0f;
  static constexpr float kDenormalScale = 16777216.0f;  // 2^24
  static constexpr float kDenormalShift = 24.0f;
};
template <>
struct FloatTraits<double> {
  using Bits = std::uint64_t;
  static constexpr int kMantissaBits = 52;
  static constexpr int kBias = 1023;
  static constexpr double kRounder = 6755399441055744.0;
  static constexpr double kLn2Hi = 0x1.62e42feep-1;  // 32 bits
  static constexpr double kLn2Lo = 0x1.a39ef35793c76p-33;
  static constexpr double kExpMax = 710.0;
  static constexpr double kExpMin = -746.0;
  static constexpr double kExpm1Min = -38.0;
  static constexpr double kTanhMax = 20.0;
  static constexpr double kGaussMax = 37.66;
  static constexpr double kErfMax = 6.2;
  static constexpr Bits kSqrtHalfBits = 0x3FE6A09E667F3BCDull;
  static constexpr Bits kOneBits = 0x3FF0000000000000ull;
  static constexpr Bits kMantissaMask = 0x000FFFFFFFFFFFFFull;
  static constexpr Bits kIntegerBits = 0x4330000000000000ull;
  static constexpr double kIntegerBase = 4503599627370496.0;
  static constexpr double kDenormalScale = 18014398509481984.0;  // 2^54
  static constexpr double kDenormalShift = 54.0;
};

template <class D>
using Traits = FloatTraits<hn::TFromD<D>>;

template <class D>
HWY_INLINE hn::Vec<D> constant(D d, double value) {
  return hn::Set(d, static_cast<hn::TFromD<D>>(value));
}

/// max(low, x) and min(high, x) that keep a NaN in x. On x86, Max and Min return their second operand if either is NaN.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V at_least(D d, double low, V x) {
  const V bound = constant(d, low);
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_SSSE3
  return hn::Max(bound, x);
#else
  return hn::IfThenElse(hn::Lt(x, bound), bound, x);
#endif
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE V at_most(D d, double high, V x) {
  const V bound = constant(d, high);
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_SSSE3
  return hn::Min(bound, x);
#else
  return hn::IfThenElse(hn::Gt(x, bound), bound, x);
#endif
}

/// Coefficients I, I+2, I+4, ... evaluated at x2 by Horner's rule.
template <std::size_t I, class D, class V, std::size_t N>
HWY_INLINE V every_second(D d, V x2, const double (&c)[N]) {
  if constexpr (I + 2 >= N) {
    return constant(d, c[I]);
  } else {
    return hn::MulAdd(every_second<I + 2>(d, x2, c), x2, constant(d, c[I]));
  }
}

/// c[0] + c[1] x + ...; even and odd powers are independent chains (half the latency of Horner's rule).
template <class D, class V, std::size_t N>
HWY_INLINE V polynomial(D d, V x, V x2, const double (&c)[N]) {
  return hn::MulAdd(every_second<1>(d, x2, c), x, every_second<0>(d, x2, c));
}
template <class D, class V, std::size_t N>
HWY_INLINE V polynomial(D d, V x, const double (&c)[N]) {
  return polynomial(d, x, hn::Mul(x, x), c);
}

// --- exponentials -------------------------------------------------------------------------------------------------------

/// (e^r - 1 - r) / r^2 for |r| <= ln(2)/2. Maximum error, relative to e^r and times r^2: 2^-28 (float), 2^-64 (double).
template <class D, class V = hn::Vec<D>>
HWY_INLINE V expm1_quotient(D d, V r, V r2) {
  if constexpr (sizeof(hn::TFromD<D>) == 4) {
    constexpr double kC[] = {0.49999994, 0.1666652, 0.041668393, 0.00836878, 0.0013814496};
    return polynomial(d, r, r2, kC);
  } else {
    constexpr double kC[] = {0.5,
                             0.16666666666666682,
                             0.04166666666666609,
                             0.008333333333316921,
                             0.0013888888889117628,
                             0.00019841269896672765,
                             2.4801586923921192e-05,
                             2.755723456573046e-06,
                             2.7557583348031e-07,
                             2.511214241974019e-08,
                             2.0826375035717487e-09};
    return polynomial(d, r, r2, kC);
  }
}

/// e^r - 1 on the same interval.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V expm1_reduced(D d, V r) {
  const V r2 = hn::Mul(r, r);
  return hn::MulAdd(expm1_quotient(d, r, r2), r2, r);
}

/// x = n ln(2) + r. `shifted` holds n + offset in its low mantissa bits.
template <class V>
struct ReducedExponent {
  V shifted;
  V r;
};
template <class D, class V = hn::Vec<D>>
HWY_INLINE ReducedExponent<V> reduce_exponent(D d, V x, int offset) {
  using F = Traits<D>;
  const V rounder = hn::Set(d, F::kRounder + static_cast<hn::TFromD<D>>(offset));
  const V shifted = hn::MulAdd(x, constant(d, 1.4426950408889634074), rounder);
  const V n = hn::Sub(shifted, rounder);
  V r = hn::NegMulAdd(n, hn::Set(d, F::kLn2Hi), x);
  r = hn::NegMulAdd(n, hn::Set(d, F::kLn2Lo), r);
  return {shifted, r};
}

/// The low bits of `shifted` as an exponent: 2^(low bits - bias).
template <class D, class V = hn::Vec<D>>
HWY_INLINE V power_of_two(D d, V shifted) {
  const hn::RebindToUnsigned<D> du;
  return hn::BitCast(d, hn::ShiftLeft<Traits<D>::kMantissaBits>(hn::BitCast(du, shifted)));
}

/// e^x for x <= kExpMax, down to the smallest denormal: the exponent is split in two factors.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V exp_bounded_above(D d, V x) {
  using F = Traits<D>;
  const hn::RebindToUnsigned<D> du;
  const auto [shifted, r] = reduce_exponent(d, at_least(d, F::kExpMin, x), 2 * F::kBias);
  const auto bits = hn::BitCast(du, shifted);
  const auto half = hn::ShiftRight<1>(bits);  // the rounder's own bits leave at the top when shifted to the exponent
  const V scale1 = hn::BitCast(d, hn::ShiftLeft<F::kMantissaBits>(half));
  const V scale2 = hn::BitCast(d, hn::ShiftLeft<F::kMantissaBits>(hn::Sub(bits, half)));
  return hn::Mul(hn::MulAdd(expm1_reduced(d, r), scale1, scale1), scale2);
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V exp(D d, V x) {
  return exp_bounded_above(d, at_most(d, Traits<D>::kExpMax, x));
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V expm1(D d, V x) {
  using F = Traits<D>;
  const V bounded = at_least(d, F::kExpm1Min, at_most(d, F::kExpMax, x));
  // Half the scale, so that n = 128 (1024) is representable and only the last doubling overflows.
  const auto [shifted, r] = reduce_exponent(d, bounded, F::kBias - 1);
  const V scale = power_of_two(d, shifted);
  const V half = hn::MulAdd(expm1_reduced(d, r), scale, hn::Sub(scale, constant(d, 0.5)));
  return hn::CopySign(hn::Add(half, half), x);  // the sign of zero
}

/// tanh(x) = -E / (2 + E) with E = e^(-2|x|) - 1: relative accuracy everywhere.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V tanh(D d, V x) {
  using F = Traits<D>;
  const V a = at_most(d, F::kTanhMax, hn::Abs(x));
  const auto [shifted, r] = reduce_exponent(d, hn::Mul(constant(d, -2.0), a), F::kBias);
  const V scale = power_of_two(d, shifted);
  const V e = hn::MulAdd(expm1_reduced(d, r), scale, hn::Sub(scale, constant(d, 1.0)));
  return hn::CopySign(hn::Div(e, hn::Add(constant(d, 2.0), e)), x);
}

/// Sigmoid of x and of -x, and their product, the derivative.
template <class V>
struct SigmoidPair {
  V value;
  V slope;
};
template <class D, class V = hn::Vec<D>>
HWY_INLINE V sigmoid(D d, V x) {
  const V one = constant(d, 1.0);
  const V e = exp_bounded_above(d, hn::Neg(hn::Abs(x)));
  return hn::Div(hn::IfThenElse(hn::Lt(x, hn::Zero(d)), e, one), hn::Add(one, e));
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE SigmoidPair<V> sigmoid_pair(D d, V x) {
  const V one = constant(d, 1.0);
  const V e = exp_bounded_above(d, hn::Neg(hn::Abs(x)));
  const V s = hn::Div(one, hn::Add(one, e));
  const V es = hn::Mul(e, s);
  return {hn::IfThenElse(hn::Lt(x, hn::Zero(d)), es, s), hn::Mul(es, s)};
}

// --- logarithms -----------------------------------------------------------------------------------------------------------

/// log(x) + correction for positive normal x. With x = 2^k (1 + f), sqrt(1/2) <= 1 + f < sqrt(2), s = f / (2 + f):
/// log(1 + f) = f - (f^2/2 - s (f^2/2 + R(s^2))), where log((1+s)/(1-s)) = 2s + s R. Error of the fit: 2^-37, 2^-66.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V log_normal(D d, V x, V exponent_shift, V correction) {
  using F = Traits<D>;
  const hn::RebindToUnsigned<D> du;
  const auto bits = hn::Add(hn::BitCast(du, x), hn::Set(du, F::kOneBits - F::kSqrtHalfBits));
  const auto exponent = hn::ShiftRight<F::kMantissaBits>(bits);  // k + bias, as an integer
  const V k = hn::Sub(hn::BitCast(d, hn::Or(exponent, hn::Set(du, F::kIntegerBits))),
                      hn::Add(constant(d, F::kIntegerBase + F::kBias), exponent_shift));
  const auto mantissa = hn::Add(hn::And(bits, hn::Set(du, F::kMantissaMask)), hn::Set(du, F::kSqrtHalfBits));
  const V f = hn::Sub(hn::BitCast(d, mantissa), constant(d, 1.0));
  const V s = hn::Div(f, hn::Add(constant(d, 2.0), f));
  const V z = hn::Mul(s, s);
  V tail;
  if constexpr (sizeof(hn::TFromD<D>) == 4) {
    constexpr double kC[] = {0.6666666, 0.40000337, 0.2853717, 0.23584977};
    tail = hn::Mul(z, polynomial(d, z, kC));
  } else {
    constexpr double kC[] = {0.6666666666666666, 0.4000000000000633,  0.2857142856905849,  0.22222222650943194,
                             0.1818177533214981, 0.15387105400162418, 0.13249786491420312, 0.13254357986650292};
    tail = hn::Mul(z, polynomial(d, z, kC));
  }
  const V half_square = hn::Mul(constant(d, 0.5), hn::Mul(f, f));
  const V low = hn::MulAdd(k, hn::Set(d, F::kLn2Lo), correction);
  const V small = hn::Sub(half_square, hn::MulAdd(s, hn::Add(half_square, tail), low));
  return hn::MulAdd(k, hn::Set(d, F::kLn2Hi), hn::Sub(f, small));
}

/// log with the limits: -inf at 0, NaN below, inf at inf.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V log(D d, V x) {
  using T = hn::TFromD<D>;
  using F = Traits<D>;
  const V zero = hn::Zero(d);
  const V infinity = hn::Set(d, std::numeric_limits<T>::infinity());
  const auto denormal = hn::Lt(x, hn::Set(d, std::numeric_limits<T>::min()));
  const V scaled = hn::IfThenElse(denormal, hn::Mul(x, hn::Set(d, F::kDenormalScale)), x);
  const V shift = hn::IfThenElseZero(denormal, hn::Set(d, F::kDenormalShift));
  const V y = log_normal(d, scaled, shift, zero);
  const V outside = hn::IfThenElse(hn::Eq(x, zero), hn::Neg(infinity), hn::Sqrt(hn::Min(x, zero)));  // NaN below 0
  const V special = hn::IfThenElse(hn::Eq(x, infinity), x, hn::IfThenElse(hn::Le(x, zero), outside, x));
  return hn::IfThenElse(hn::And(hn::Gt(x, zero), hn::Lt(x, infinity)), y, special);
}

/// log(1 + x) for x >= 0 or -1 < x: log of the rounded sum u plus its rounding error over u.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V log1p_normal(D d, V x) {
  const V one = constant(d, 1.0);
  const V u = hn::Add(one, x);
  // For large x the sum absorbs the 1, for small x it loses digits of x; each difference is exact in its range.
  const V error = hn::IfThenElse(hn::Gt(x, one), hn::Sub(one, hn::Sub(u, x)), hn::Sub(x, hn::Sub(u, one)));
  return log_normal(d, u, hn::Zero(d), hn::Div(error, u));
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V log1p(D d, V x) {
  using T = hn::TFromD<D>;
  const V zero = hn::Zero(d);
  const V minus_one = constant(d, -1.0);
  const V infinity = hn::Set(d, std::numeric_limits<T>::infinity());
  const auto regular = hn::And(hn::And(hn::Gt(x, minus_one), hn::Lt(x, infinity)), hn::Ne(x, zero));
  const V y = log1p_normal(d, hn::IfThenElse(regular, x, constant(d, 1.0)));
  const V below = hn::IfThenElse(hn::Eq(x, minus_one), hn::Neg(infinity), hn::Sqrt(hn::Min(x, minus_one)));
  const V special = hn::IfThenElse(hn::Le(x, minus_one), below, x);  // +-0, inf and NaN are their own values
  return hn::IfThenElse(regular, y, special);
}

/// log(1 + e^x) = max(x, 0) + log(1 + e) with e = e^-|x| <= 1, s = e / (2 + e): log(1 + e) = 2s + s R(s^2) as above, on a
/// longer interval. Error of the fit: 2^-33, 2^-64.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V softplus(D d, V x) {
  const V two = constant(d, 2.0);
  const V e = exp_bounded_above(d, hn::Neg(hn::Abs(x)));
  const V s = hn::Div(e, hn::Add(two, e));
  const V z = hn::Mul(s, s);
  V ratio;
  if constexpr (sizeof(hn::TFromD<D>) == 4) {
    constexpr double kC[] = {0.666666756140765, 0.3999887831364929, 0.2861687404724508, 0.2142772886264255,
                             0.2430080389103604};
    ratio = polynomial(d, z, kC);
  } else {
    constexpr double kC[] = {0.6666666666666667,  0.3999999999999398,  0.28571428572510016, 0.22222222125470764,
                             0.18181823202933145, 0.1538445193133415,  0.13336805840909569, 0.11715950350095017,
                             0.10972569434209364, 0.06994235521013122, 0.1646765564631168};
    ratio = polynomial(d, z, kC);
  }
  return hn::Add(at_least(d, 0.0, x), hn::MulAdd(hn::Mul(s, z), ratio, hn::Add(s, s)));
}

// --- error function and normal distribution -----------------------------------------------------------------------------

/// n / d to about 1 ulp, for d of moderate size. AVX-512 has reciprocals of 14 bits, of which one correction of the quotient
/// makes 28, in a third of the time of its division.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V quotient(D, V n, V d) {
#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86
  if constexpr (sizeof(hn::TFromD<D>) == 4) {
    const V r = hn::ApproximateReciprocal(d);
    const V q = hn::Mul(n, r);
    return hn::MulAdd(hn::NegMulAdd(d, q, n), r, q);
  }
#endif
  return hn::Div(n, d);
}

/// e^(x^2/2) Phi(-x) = e^(x^2/2) erfc(x / sqrt(2)) / 2 for x in [0, 13.3] (float) or [0, 37.7] (double), as N(x) / D(x).
/// As powers of x all coefficients are positive: no cancellation, every factor is accurate. They are written for powers of
/// h = -x^2/2, which the caller has: c[2k] and c[2k + 1] carry a factor (-2)^k. Maximum relative error: 2^-27.6, 2^-60.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V scaled_normal_tail(D d, V x, V h) {
  if constexpr (sizeof(hn::TFromD<D>) == 4) {
    constexpr double kN[] = {0.5000000024851068, 0.43568667395938016, -0.36261409108720605, -0.07996855102875164,
                             0.016080830882334748};
    constexpr double kD[] = {
        1.0, 1.6692582670400664, -2.3889707069486263, -0.9287621910919612, 0.4009323869187211, 0.040308092504497406};
    return quotient(d, polynomial(d, x, h, kN), polynomial(d, x, h, kD));
  } else {
    constexpr double kN[] = {0.5,
                             0.8270274673369274,
                             -1.3564225434004085,
                             -0.71253620059178,
                             0.5260762201429801,
                             0.14195521013410126,
                             -0.056634506913712426,
                             -0.00825692624835569,
                             0.0016904438152695312,
                             0.00011048428280796206,
                             -7.088401395612225e-06};
    constexpr double kD[] = {1.0,
                             2.4519394954767204,
                             -5.6255744217280865,
                             -3.9936149229866444,
                             3.9079516195253867,
                             1.3875618785195107,
                             -0.7320779911692826,
                             -0.144071429410087,
                             0.04167103262210264,
                             0.00424619825765365,
                             -0.0005538860543786069,
                             -1.7767987360170736e-05};
    return hn::Div(polynomial(d, x, h, kN), polynomial(d, x, h, kD));
  }
}

/// e^(z^2) erfc(z) for z in [1, 4.2] (float) or [1, 6.2] (double). Maximum relative error: 2^-22, 2^-58 (there erfc is below
/// 0.16 and is subtracted from 1).
template <class D, class V = hn::Vec<D>>
HWY_INLINE V scaled_erfc(D d, V z) {
  if constexpr (sizeof(hn::TFromD<D>) == 4) {
    constexpr double kN[] = {1.0040086373247137, 0.8415865862075215, 0.30920918890997906};
    constexpr double kD[] = {1.0, 1.9919011802609667, 1.5000155009409664, 0.5475757474651924};
    return hn::Div(polynomial(d, z, kN), polynomial(d, z, kD));
  } else {
    constexpr double kN[] = {0.9999999913235255, 1.8506933411416722,  1.6884198395951626,   0.9538740124996161,
                             0.3570487770259126, 0.08859571798113344, 0.013627545290075406, 0.0010321493978407393};
    constexpr double kD[] = {1.0,
                             2.9790724138560836,
                             4.0499435827352945,
                             3.296924679478192,
                             1.7683058849465316,
                             0.64492905153746,
                             0.15794656797847625,
                             0.024154194194702043,
                             0.0018294371897143798};
    return hn::Div(polynomial(d, z, kN), polynomial(d, z, kD));
  }
}

/// h = -x^2/2 rounded, and the rounding error, which an exponential would magnify.
template <class V>
struct HalfSquare {
  V h;
  V error;
};
template <class D, class V = hn::Vec<D>>
HWY_INLINE HalfSquare<V> minus_half_square(D d, V x) {
  const V half = hn::Mul(constant(d, -0.5), x);
  const V h = hn::Mul(half, x);
  return {h, hn::MulSub(half, x, h)};
}

/// e^(-x^2/2) for 0 <= x <= kGaussMax, 0 where it is not a normal number. Ordered for short latency: this is the critical
/// path of gelu.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V gaussian(D d, HalfSquare<V> x) {
  using F = Traits<D>;
  const V rounder = hn::Set(d, F::kRounder + static_cast<hn::TFromD<D>>(F::kBias));
  const V shifted = hn::MulAdd(x.h, constant(d, 1.4426950408889634074), rounder);
  const V n = hn::Sub(shifted, rounder);
  const V scale = power_of_two(d, shifted);  // n = -bias, reached at kGaussMax, gives 0
  const V low = hn::NegMulAdd(n, hn::Set(d, F::kLn2Lo), x.error);
  const V r = hn::Add(hn::NegMulAdd(n, hn::Set(d, F::kLn2Hi), x.h), low);
  const V r2 = hn::Mul(r, r);
  return hn::MulAdd(expm1_quotient(d, r, r2), hn::Mul(scale, r2), hn::MulAdd(scale, r, scale));
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V erf(D d, V x) {
  const V a = at_most(d, Traits<D>::kErfMax, hn::Abs(x));
  const V z = hn::Mul(a, a);
  V small;
  if constexpr (sizeof(hn::TFromD<D>) == 4) {  // erf(x) / x - 1 for |x| < 1: errors 2^-34, 2^-62
    constexpr double kC[] = {0.12837917,  -0.37612638,   0.11283782,   -0.0268654,
                             0.005220946, -0.0008482833, 0.0001125696, -9.641507e-06};
    small = hn::MulAdd(a, polynomial(d, z, kC), a);
  } else {
    constexpr double kC[] = {0.1283791670955126,     -0.3761263890318375,     0.11283791670954858,
                             -0.02686617064507296,   0.00522397762478137,     -0.0008548326978765149,
                             0.00012055331037551108, -1.4925593518728226e-05, 1.6460972954153765e-06,
                             -1.635002619207727e-07, 1.4657883530919653e-08,  -1.136567067182716e-09,
                             5.945255584223488e-11};
    small = hn::MulAdd(a, polynomial(d, z, kC), a);
  }
  const auto [shifted, r] = reduce_exponent(d, hn::Neg(z), Traits<D>::kBias);
  const V scale = power_of_two(d, shifted);
  const V e = hn::MulAdd(expm1_reduced(d, r), scale, scale);  // the error of z = a^2 vanishes beside 1
  const V large = hn::NegMulAdd(scaled_erfc(d, a), e, constant(d, 1.0));
  return hn::CopySign(hn::IfThenElse(hn::Lt(a, constant(d, 1.0)), small, large), x);
}

/// gelu(x) = x Phi(x) = max(x, 0) - |x| Phi(-|x|): no cancellation in either tail. The last product is the only one that may
/// leave the normal numbers; left of about -13.24 (double: -37.65) the result is 0.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V gelu(D d, V x) {
  const V t = at_most(d, Traits<D>::kGaussMax, hn::Abs(x));
  const HalfSquare<V> square = minus_half_square(d, t);
  const V product = hn::Mul(hn::Mul(t, scaled_normal_tail(d, t, square.h)), gaussian(d, square));
  return hn::Sub(at_least(d, 0.0, x), product);
}

/// gelu'(x) = Phi(x) + x phi(x). With t = |x| and g = Phi(-t) - t phi(t): 1 - g right of 0, else g.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V gelu_derivative(D d, V x) {
  const V t = at_most(d, Traits<D>::kGaussMax, hn::Abs(x));
  const HalfSquare<V> square = minus_half_square(d, t);
  const V factor = hn::NegMulAdd(constant(d, 0.39894228040143267794), t, scaled_normal_tail(d, t, square.h));
  const V g = hn::Mul(factor, gaussian(d, square));
  return hn::IfThenElse(hn::Lt(x, hn::Zero(d)), g, hn::Sub(constant(d, 1.0), g));
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V erf_derivative(D d, V x) {
  // e^(-x^2) reaches denormals: square bounded so that the exponent stays in the two-factor range.
  const V square = hn::Mul(x, x);
  const V error = hn::MulSub(x, x, square);
  const V e = exp_bounded_above(d, hn::Neg(square));
  const V correction = hn::IfThenElseZero(hn::Lt(square, constant(d, 800.0)), hn::Mul(e, error));
  return hn::Mul(constant(d, 1.1283791670955125739), hn::Sub(e, correction));
}

// --- activations built from the above -----------------------------------------------------------------------------------

/// x sigmoid(x); the lower bound keeps -inf from meeting 0.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V silu(D d, V x) {
  return hn::Mul(at_least(d, 2 * Traits<D>::kExpMin, x), sigmoid(d, x));
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V silu_derivative(D d, V x) {
  const V bounded = at_most(d, -2 * Traits<D>::kExpMin, at_least(d, 2 * Traits<D>::kExpMin, x));
  const auto [value, slope] = sigmoid_pair(d, x);
  return hn::MulAdd(bounded, slope, value);
}

/// 2 sqrt(2/pi) (x + 0.044715 x^3) and, for the derivative, 1 + 3 * 0.044715 x^2.
inline constexpr double kGeluTanhScale = 1.5957691216057307118;
inline constexpr double kGeluTanhCubic = 0.044715;
inline constexpr double kGeluTanhBound = 40.0;  // beyond it sigmoid is 0 or 1 in both types

template <class D, class V = hn::Vec<D>>
HWY_INLINE V gelu_tanh(D d, V x) {
  const V bounded = at_least(d, -kGeluTanhBound, x);
  const V scaled = hn::Mul(constant(d, kGeluTanhScale), bounded);
  const V cubic = hn::Mul(constant(d, kGeluTanhCubic), hn::Mul(bounded, bounded));
  return hn::Mul(bounded, sigmoid(d, hn::MulAdd(scaled, cubic, scaled)));
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V gelu_tanh_derivative(D d, V x) {
  const V bounded = at_most(d, kGeluTanhBound, at_least(d, -kGeluTanhBound, x));
  const V scaled = hn::Mul(constant(d, kGeluTanhScale), bounded);
  const V cubic = hn::Mul(constant(d, kGeluTanhCubic), hn::Mul(bounded, bounded));
  const auto [value, slope] = sigmoid_pair(d, hn::MulAdd(scaled, cubic, scaled));
  const V inner =
      hn::MulAdd(scaled, hn::Mul(constant(d, 3.0), cubic), scaled);  // x times the derivative of the argument
  return hn::MulAdd(inner, slope, value);
}

// --- functions that may need the C library for some lanes ---------------------------------------------------------------

/// f(x) lane by lane.
template <class D, class F, class V = hn::Vec<D>>
HWY_NOINLINE V map_lanes(D d, V x, F f) {
  using T = hn::TFromD<D>;
  HWY_ALIGN T lanes[hn::MaxLanes(d)];
  hn::Store(x, d, lanes);
  for (std::size_t i = 0; i < hn::Lanes(d); ++i) lanes[i] = f(lanes[i]);
  return hn::Load(d, lanes);
}

inline constexpr double kTrigonometricBound = 30000.0;  // Highway's argument reduction is accurate to about 39000

template <class D, class V = hn::Vec<D>>
HWY_INLINE bool small_angles(D d, V x) {
  return hn::AllTrue(d, hn::Lt(hn::Abs(x), constant(d, kTrigonometricBound)));
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V sin(D d, V x) {
  using T = hn::TFromD<D>;
  if (HWY_LIKELY(small_angles(d, x))) return hn::Sin(d, x);
  return map_lanes(d, x, [](T lane) { return std::sin(lane); });
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE V cos(D d, V x) {
  using T = hn::TFromD<D>;
  if (HWY_LIKELY(small_angles(d, x))) return hn::Cos(d, x);
  return map_lanes(d, x, [](T lane) { return std::cos(lane); });
}

#if HWY_TARGET != HWY_SCALAR
/// a^y for float lanes a >= 0 by way of double: the product y log(a) needs more digits than the result has.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V power_of_magnitude(D d, V a, V y) {
  const hn::Repartition<double, D> d64;
  const hn::Half<D> half;
  const auto low_base = hn::PromoteTo(d64, hn::LowerHalf(half, a));
  const auto high_base = hn::PromoteTo(d64, hn::UpperHalf(half, a));
  const auto low_exponent = hn::PromoteTo(d64, hn::LowerHalf(half, y));
  const auto high_exponent = hn::PromoteTo(d64, hn::UpperHalf(half, y));
  const auto low = exp(d64, hn::Mul(low_exponent, log(d64, low_base)));
  const auto high = exp(d64, hn::Mul(high_exponent, log(d64, high_base)));
  return hn::Combine(d, hn::DemoteTo(half, high), hn::DemoteTo(half, low));
}
#endif

/// x^y with the special cases of std::pow. Double lanes use the C library.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V pow_lanes(D d, V x, V y) {
  using T = hn::TFromD<D>;
  HWY_ALIGN T base[hn::MaxLanes(d)];
  HWY_ALIGN T exponent[hn::MaxLanes(d)];
  hn::Store(x, d, base);
  hn::Store(y, d, exponent);
  for (std::size_t i = 0; i < hn::Lanes(d); ++i) base[i] = std::pow(base[i], exponent[i]);
  return hn::Load(d, base);
}

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128  // the latter clamps infinity when it narrows double to float
template <class D, class V = hn::Vec<D>>
HWY_INLINE V pow(D d, V x, V y) {
  return pow_lanes(d, x, y);
}
#else
template <class D, class V = hn::Vec<D>>
HWY_INLINE V pow(D d, V x, V y) {
  using T = hn::TFromD<D>;
  if constexpr (sizeof(T) == 8) {
    return pow_lanes(d, x, y);
  } else {
    const V a = hn::Abs(x);
    const V one = constant(d, 1.0);
    const V zero = hn::Zero(d);
    const V minus_infinity = hn::Set(d, -std::numeric_limits<T>::infinity());
    // 1^y = x^0 = 1 even for infinite or NaN partners, and (-1)^(+-inf) = 1.
    const auto is_one = hn::Or(hn::Or(hn::Eq(y, zero), hn::Eq(x, one)), hn::And(hn::Eq(a, one), hn::Eq(y, y)));
    const V power = hn::IfThenElse(is_one, one, power_of_magnitude(d, a, y));
    // Negative bases: integer exponents only, and the sign of odd ones.
    const V half_y = hn::Mul(y, constant(d, 0.5));
    const auto integer = hn::Eq(hn::Round(y), y);
    const auto odd = hn::And(integer, hn::Ne(hn::Round(half_y), half_y));
    const V signed_power = hn::IfThenElse(odd, hn::Or(power, hn::And(hn::SignBit(d), x)), power);
    const auto fraction = hn::AndNot(integer, hn::Eq(y, y));
    const auto negative = hn::And(hn::Lt(x, zero), hn::Gt(x, minus_infinity));
    const V nan = hn::Set(d, std::numeric_limits<T>::quiet_NaN());
    return hn::IfThenElse(hn::And(negative, fraction), nan, signed_power);
  }
}
#endif

}  // namespace solvent::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SOLVENT_OPS_CPU_VECTOR_MATH_INL_H_
