#pragma once
/// From the words of a Philox stream to values of a distribution: the same bits on every machine and device, because every
/// product that feeds a sum is an explicit fma and nothing but correctly rounded operations is used. Internal to ops/.
///
/// A map takes one word of 32 bits per element or two as 64 bits, the first in the upper half: its type Word says which.

#include <cmath>
#include <cstdint>

#include "solvent/ops/normal_quantile.h"

namespace solvent::detail {

/// The word a map for T takes.
template <class T>
struct WordFor {
  using type = std::uint64_t;
};
template <>
struct WordFor<float> {
  using type = std::uint32_t;
};

/// A probability strictly between 0 and 1 and exact in double, as is its complement.
/// @{
SOLVENT_INLINE_HD double open_unit(std::uint32_t w) { return (static_cast<double>(w) + 0.5) * 0x1p-32; }
SOLVENT_INLINE_HD double open_unit(std::uint64_t w) { return (static_cast<double>(w >> 12) + 0.5) * 0x1p-52; }
/// @}
/// In [0, 1): 24 bits for float, 53 for double.
/// @{
SOLVENT_INLINE_HD float half_open_unit(std::uint32_t w) { return static_cast<float>(w >> 8) * 0x1p-24f; }
SOLVENT_INLINE_HD double half_open_unit(std::uint64_t w) { return static_cast<double>(w >> 11) * 0x1p-53; }
/// @}

/// low + (high - low) u, kept below high where rounding would reach it.
template <class T>
struct UniformMap {
  using Word = typename WordFor<T>::type;
  T low;
  T width;
  T last;

  UniformMap(double a, double b)
      : low(static_cast<T>(a)),
        width(static_cast<T>(b) - static_cast<T>(a)),
        last(std::nextafter(static_cast<T>(b), static_cast<T>(a))) {}
  SOLVENT_INLINE_HD T operator()(Word w) const {
    const T v = std::fma(width, half_open_unit(w), low);
    return v > last ? last : v;
  }
};

/// Mean a, standard deviation b.
template <class T>
struct NormalMap {
  using Word = typename WordFor<T>::type;
  double a, b;
  SOLVENT_INLINE_HD T operator()(Word w) const { return static_cast<T>(std::fma(b, normal_quantile(open_unit(w)), a)); }
};

/// |z| <= a, scaled by b.
template <class T>
struct TruncatedMap {
  using Word = typename WordFor<T>::type;
  double a, b;
  double tail;   // probability below -a; the rest is cut off on both sides
  double width;  // of what is left

  TruncatedMap(double bound, double scale)
      : a(bound), b(scale), tail(0.5 * std::erfc(bound * 0.70710678118654752440)), width(1.0 - 2.0 * tail) {}
  SOLVENT_INLINE_HD T operator()(Word w) const {
    const double z = normal_quantile(std::fma(width, open_unit(w), tail));
    return static_cast<T>(b * (z < -a ? -a : z > a ? a : z));
  }
};

/// True with probability p.
struct BernoulliMap {
  using Word = std::uint64_t;
  double p;
  SOLVENT_INLINE_HD bool operator()(Word w) const { return half_open_unit(w) < p; }
};

/// [low, low + range)
struct RandintMap {
  using Word = std::uint64_t;
  std::uint64_t low, range;
  SOLVENT_INLINE_HD std::int64_t operator()(Word w) const {
    __extension__ using Wide = unsigned __int128;
    return static_cast<std::int64_t>(low + static_cast<std::uint64_t>(Wide{w} * range >> 64));
  }
};

/// The words themselves, by whose order a permutation is made.
struct WordMap {
  using Word = std::uint64_t;
  SOLVENT_INLINE_HD std::uint64_t operator()(Word w) const { return w; }
};

}  // namespace solvent::detail
