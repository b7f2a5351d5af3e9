#pragma once
/// The inverse of the normal distribution function, the same bits on every machine and device. Internal to ops/.
///
/// Only correctly rounded operations are used (+, -, *, /, sqrt, fma), and every product that feeds a sum is an explicit
/// fma, so no compiler has anything left to contract. The logarithm is our own for the same reason.

#include <bit>
#include <cmath>
#include <cstdint>

#include "solvent/core/export.h"

/// Inlined, shared with CUDA device code.
#if defined(__CUDACC__)
#define SOLVENT_INLINE_HD SOLVENT_HD inline
#else
#define SOLVENT_INLINE_HD __attribute__((always_inline)) inline  // so that callers compiled for FMA inline it as such
#endif

namespace solvent::detail {

/// p(x) by Horner's rule with fused multiply-adds, highest coefficient first.
template <int kSize>
SOLVENT_INLINE_HD double horner(const double (&coefficients)[kSize], double x) {
  double p = coefficients[0];
  for (int i = 1; i < kSize; ++i) p = std::fma(p, x, coefficients[i]);
  return p;
}

/// log(x) for normal 0 < x < inf; relative error below 3e-16.
///
/// x = 2^e m with m in [sqrt(1/2), sqrt(2)); log m = 2 artanh(s), s = (m - 1) / (m + 1), |s| < 0.172.
SOLVENT_INLINE_HD double portable_log(double x) {
  constexpr double kSeries[] = {1.0 / 23, 1.0 / 21, 1.0 / 19, 1.0 / 17, 1.0 / 15, 1.0 / 13,
                                1.0 / 11, 1.0 / 9,  1.0 / 7,  1.0 / 5,  1.0 / 3};
  constexpr double kLn2High = 0x1.62e42fee00000p-1;  // 32 bits, so that e * kLn2High is exact
  constexpr double kLn2Low = 0x1.a39ef35793c76p-33;
  constexpr std::uint64_t kSqrtHalfBits = 0x3FE6A09E667F3BCDu;
  const auto bits = std::bit_cast<std::uint64_t>(x);
  const auto exponent = static_cast<std::int64_t>(bits - kSqrtHalfBits) >> 52;
  const double m = std::bit_cast<double>(bits - (static_cast<std::uint64_t>(exponent) << 52));
  const double e = static_cast<double>(exponent);
  const double s = (m - 1.0) / (m + 1.0);
  const double ss = s * s;
  const double tail = ss * horner(kSeries, ss);  // artanh(s) / s - 1
  const double low = std::fma(2.0 * s, tail, e * kLn2Low);
  return std::fma(e, kLn2High, std::fma(2.0, s, low));
}

/// z with Phi(z) = p for 0 < p < 1; relative error below 1e-15 (measured against 50-digit arithmetic).
///
/// Wichura 1988, "Algorithm AS 241: the percentage points of the normal distribution", routine PPND16: rational functions
/// of degree 7 on |p - 1/2| <= 0.425 and, in r = sqrt(-log(min(p, 1 - p))), on r <= 5 and beyond.
SOLVENT_INLINE_HD double normal_quantile(double p) {
  constexpr double kCentreA[] = {2.5090809287301226727e+3, 3.3430575583588128105e+4, 6.7265770927008700853e+4,
                                 4.5921953931549871457e+4, 1.3731693765509461125e+4, 1.9715909503065514427e+3,
                                 1.3314166789178437745e+2, 3.3871328727963666080e0};
  constexpr double kCentreB[] = {
      5.2264952788528545610e+3, 2.8729085735721942674e+4, 3.9307895800092710610e+4, 2.1213794301586595867e+4,
      5.3941960214247511077e+3, 6.8718700749205790830e+2, 4.2313330701600911252e+1, 1.0};
  constexpr double kMiddleC[] = {7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
                                 1.27045825245236838258e0,  3.64784832476320460504e0,  5.76949722146069140550e0,
                                 4.63033784615654529590e0,  1.42343711074968357734e0};
  constexpr double kMiddleD[] = {
      1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
      6.89767334985100004550e-1, 1.67638483018380384940e0,  2.05319162663775882187e0,  1.0};
  constexpr double kFarE[] = {2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
                              2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580e0,
                              5.46378491116411436990e0,  6.65790464350110377720e0};
  constexpr double kFarF[] = {
      2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
      1.48753612908506148525e-2,  1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0};
  const double q = p - 0.5;
  if (std::fabs(q) <= 0.425) {
    const double r = std::fma(-q, q, 0.180625);
    return q * horner(kCentreA, r) / horner(kCentreB, r);
  }
  const double r = std::sqrt(-portable_log(q < 0.0 ? p : 1.0 - p));
  const double z = r <= 5.0 ? horner(kMiddleC, r - 1.6) / horner(kMiddleD, r - 1.6)
                            : horner(kFarE, r - 5.0) / horner(kFarF, r - 5.0);
  return q < 0.0 ? -z : z;
}

}  // namespace solvent::detail
