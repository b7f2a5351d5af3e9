#pragma once
/// BFloat16: the upper half of a float32, for storing tensors in half the memory.

#include <bit>
#include <concepts>
#include <cstdint>

namespace solvent {

/// A number of 16 bits: sign, the 8 exponent bits of a float32 and 7 bits of fraction. It has float32's range and a precision
/// of 2^-8. Every value is a float32, to which it converts by itself, so expressions are computed in float32; the way back is
/// explicit, because it rounds: to nearest, ties to even. Values beyond the range become infinite, NaNs stay (quiet) NaNs.
/// Works in kernels as well. Its element type is `bfloat16` (core/dtype.h).
struct BFloat16 {
  std::uint16_t bits;  ///< as in memory and in files

  /// Uninitialised, like a float; `BFloat16{}` is 0.
  BFloat16() = default;
  /// Rounds once, whatever the source: also a float64 or an int64 does not pass through a rounded float32.
  /// @{
  explicit constexpr BFloat16(float value) noexcept : bits(round(std::bit_cast<std::uint32_t>(value))) {}
  explicit constexpr BFloat16(double value) noexcept : bits(round(odd_float(value))) {}
  template <std::integral I>
  explicit constexpr BFloat16(I value) noexcept : BFloat16(odd_double(static_cast<std::int64_t>(value))) {
    static_assert(sizeof(I) < 8 || std::signed_integral<I>);
  }
  /// @}

  /// Exact.
  constexpr operator float() const noexcept {  // NOLINT: implicit, nothing is lost
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }

  /// The number with these bits.
  static constexpr BFloat16 from_bits(std::uint16_t pattern) noexcept {
    BFloat16 value{};
    value.bits = pattern;
    return value;
  }

 private:
  static constexpr std::uint16_t round(std::uint32_t f) noexcept {
    if ((f & 0x7fffffffU) > 0x7f800000U)
      return static_cast<std::uint16_t>(f >> 16 | 0x40U);  // NaN: quiet, as in hardware
    return static_cast<std::uint16_t>((f + 0x7fffU + (f >> 16 & 1U)) >> 16);
  }

  // Rounding to odd keeps what a second rounding to fewer digits must know (Boldo & Melquiond 2008): whether the value was
  // exact, and on which side of a tie it lies.
  static constexpr std::uint32_t odd_float(double value) noexcept {
    // Conversions of NaNs keep different bits on different processors.
    if (value != value)
      return static_cast<std::uint32_t>(std::bit_cast<std::uint64_t>(value) >> 63) << 31 | 0x7fc00000U;
    const auto nearest = static_cast<float>(value);
    const auto f = std::bit_cast<std::uint32_t>(nearest);
    const auto wide = static_cast<double>(nearest);
    if (wide == value || (f & 1U) != 0) return f;
    const bool beyond = (wide < 0 ? -wide : wide) > (value < 0 ? -value : value);
    return beyond ? f - 1 : f + 1;
  }
  static constexpr double odd_double(std::int64_t value) noexcept {
    constexpr std::int64_t kExact = std::int64_t{1} << 53;
    if (value >= -kExact && value <= kExact) return static_cast<double>(value);
    constexpr std::int64_t kLow = (1 << 11) - 1;
    return static_cast<double>((value & ~kLow) | ((value & kLow) != 0 ? kLow + 1 : 0));
  }
};

}  // namespace solvent
