// Vector exp2, sigmoid and tanh for the gates of recurrent cells. Included once per Highway target (no #pragma once).
//
// Weights and biases are scaled when they are packed (`GateScale`), so that the gates need no multiplication:
//   sigmoid(x) = 1 / (1 + 2^t)      with t = -log2(e) x
//   tanh(x)    = 1 - 2 / (1 + 2^t)  with t = 2 log2(e) x
// Accuracy: 2^t has a relative error of 1e-8 (float) / 6e-16 (double) plus rounding; tanh is accurate absolutely, not
// relatively, near 0. NaN stays NaN and +-inf saturates.

#if defined(SOLVENT_OPS_CPU_GRU_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SOLVENT_OPS_CPU_GRU_MATH_INL_H_
#undef SOLVENT_OPS_CPU_GRU_MATH_INL_H_
#else
#define SOLVENT_OPS_CPU_GRU_MATH_INL_H_
#endif

#include <cstdint>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace solvent::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Factors applied to the pre-activations of r and z (sigmoid) and n (tanh).
template <class T>
struct GateScale {
  static constexpr T kSigmoid = static_cast<T>(-1.4426950408889634074);
  static constexpr T kTanh = static_cast<T>(2.8853900817779268147);
  static constexpr T kInverseTanh = static_cast<T>(0.34657359027997265471);
};

/// Limits t to the exponents of normal numbers. Written so that NaN passes: on x86, Min and Max return their second
/// operand when either is NaN; elsewhere the comparison with NaN is false and keeps t.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V clamp_exponent(D d, V t) {
  using T = hn::TFromD<D>;
  const V hi = hn::Set(d, sizeof(T) == 4 ? T{126} : T{1022});
  const V lo = hn::Set(d, sizeof(T) == 4 ? T{-126} : T{-1022});
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_SSSE3
  return hn::Max(lo, hn::Min(hi, t));
#else
  t = hn::IfThenElse(hn::Gt(t, hi), hi, t);
  return hn::IfThenElse(hn::Lt(t, lo), lo, t);
#endif
}

/// 2^f for |f| <= 1/2: minimax polynomials with constant term 1 (so 2^0 = 1 exactly), Estrin's order for short latency.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V exp2_poly(D d, V f) {
  using T = hn::TFromD<D>;
  const auto c = [d](double x) HWY_ATTR { return hn::Set(d, static_cast<T>(x)); };
  const V f2 = hn::Mul(f, f);
  const V f4 = hn::Mul(f2, f2);
  if constexpr (sizeof(T) == 4) {
    const V p01 = hn::MulAdd(f, c(6.931471880262288e-1), c(1.0));
    const V p23 = hn::MulAdd(f, c(5.550357114219078e-2), c(2.4022650760568126e-1));
    const V p45 = hn::MulAdd(f, c(1.3390863364671234e-3), c(9.618082557277852e-3));
    const V p46 = hn::MulAdd(f2, c(1.545316294512069e-4), p45);
    return hn::MulAdd(f4, p46, hn::MulAdd(f2, p23, p01));
  } else {
    const V p01 = hn::MulAdd(f, c(0.69314718055994617), c(1.0));
    const V p23 = hn::MulAdd(f, c(0.05550410866465167), c(0.24022650695910075));
    const V p45 = hn::MulAdd(f, c(0.0013333558200794592), c(0.0096181291076186653));
    const V p67 = hn::MulAdd(f, c(1.5252672924850737e-05), c(0.00015403530424776529));
    const V p89 = hn::MulAdd(f, c(1.0205905413765595e-07), c(1.3215451633221434e-06));
    const V p03 = hn::MulAdd(f2, p23, p01);
    const V p47 = hn::MulAdd(f2, p67, p45);
    const V p8a = hn::MulAdd(f2, c(7.0709778665081383e-09), p89);
    return hn::MulAdd(hn::Mul(f4, f4), p8a, hn::MulAdd(f4, p47, p03));
  }
}

/// 1 + 2^t. Adding `shift` rounds t to an integer and leaves (integer + exponent bias) in the low mantissa bits.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V one_plus_exp2(D d, V t) {
  using T = hn::TFromD<D>;
  const hn::RebindToUnsigned<D> du;
  constexpr int kMantissa = sizeof(T) == 4 ? 23 : 52;
  const V shift =
      hn::Set(d, sizeof(T) == 4 ? static_cast<T>(12582912.0 + 127.0) : static_cast<T>(6755399441055744.0 + 1023.0));
  t = clamp_exponent(d, t);
  const V rounded = hn::Add(t, shift);
  const V f = hn::Sub(t, hn::Sub(rounded, shift));
  // A product instead of an integer addition to the exponent field: a NaN in f stays a NaN whatever its payload.
  const V scale = hn::BitCast(d, hn::ShiftLeft<kMantissa>(hn::BitCast(du, rounded)));
  // Fused by name: a compiler that fuses a product and a sum in one kernel but not in another would change bits.
  return hn::MulAdd(exp2_poly(d, f), scale, hn::Set(d, T{1}));
}

/// sigmoid(x) from t = -log2(e) x. True division: no Newton step that would turn 0 * inf into NaN.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V sigmoid_scaled(D d, V t) {
  return hn::Div(hn::Set(d, hn::TFromD<D>{1}), one_plus_exp2(d, t));
}

/// tanh(x) from t = 2 log2(e) x.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V tanh_scaled(D d, V t) {
  using T = hn::TFromD<D>;
  const V one = hn::Set(d, T{1});
  return hn::NegMulAdd(hn::Set(d, T{2}), hn::Div(one, one_plus_exp2(d, t)), one);
}

}  // namespace solvent::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SOLVENT_OPS_CPU_GRU_MATH_INL_H_
