#pragma once
/// What the tests of the vector kernels share: wider arithmetic, errors in units in the last place, instruction sets.

#include "solvent/ops/cpu/simd_targets.h"  // before Highway: which targets the kernels have

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "hwy/targets.h"
#include "solvent/tests/support/catch.h"

namespace solvent::vector_test {

/// The arithmetic references are computed in.
template <class T>
struct Wider {
  using type = double;
};
template <>
struct Wider<double> {
  using type = long double;
};
template <class T>
using Wide = typename Wider<T>::type;

/// Distance of two results in units in the last place of T at the reference, or at `scale` if that is larger. Results near
/// the end of the normal numbers are measured against 1024 times the smallest one: products with denormal factors lose
/// digits there. 0 for equal special values, infinity for unequal ones.
template <class T>
double ulps(T got, Wide<T> want, Wide<T> scale = 0) {
  const T rounded = static_cast<T>(want);
  const double infinity = std::numeric_limits<double>::infinity();
  if (rounded != rounded) return got != got ? 0.0 : infinity;
  if (std::isinf(rounded)) return got == rounded ? 0.0 : infinity;
  if (!std::isfinite(got)) return infinity;
  const Wide<T> least = static_cast<Wide<T>>(std::numeric_limits<T>::min()) * 1024;
  const Wide<T> size = std::max({std::abs(want), scale, least});
  int exponent = 0;
  std::frexp(size, &exponent);
  return static_cast<double>(std::abs(static_cast<Wide<T>>(got) - want) /
                             std::ldexp(Wide<T>{1}, exponent - std::numeric_limits<T>::digits));
}

/// Runs `body(fused)` once for every instruction set that is compiled in and present, the portable one included; `fused`
/// tells whether it has fused multiply-add.
template <class Body>
void for_each_target(const Body& body) {
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    INFO("instruction set " << hwy::TargetName(target));
    body((target & (HWY_SCALAR | HWY_EMU128)) == 0);
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

template <class T>
std::vector<T> random_vector(std::size_t n, std::uint32_t seed, double low = -3.0, double high = 3.0) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> uniform(low, high);
  std::vector<T> x(n);
  for (T& v : x) v = static_cast<T>(uniform(random));
  return x;
}

inline std::int64_t length(std::size_t n) { return static_cast<std::int64_t>(n); }

}  // namespace solvent::vector_test
