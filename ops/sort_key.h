#pragma once
/// The order in which sort puts values, for the CPU and for kernels. Internal to ops/.

#include <bit>
#include <cstdint>
#include <type_traits>

#include "solvent/core/export.h"

namespace solvent::detail {

/// Unsigned integer as wide as T.
template <class T>
using SortKey = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;

/// Order-preserving map to unsigned integers; NaN (of either sign) is the largest, -0 equals 0. Complement it to descend.
template <class T>
SOLVENT_HD constexpr SortKey<T> sort_key(T v) noexcept {
  using Key = SortKey<T>;
  constexpr Key kSign = Key{1} << (sizeof(Key) * 8 - 1);
  if constexpr (std::is_integral_v<T>) {
    return static_cast<Key>(v) ^ kSign;
  } else {
    if (v != v) return ~Key{0};
    const Key bits = std::bit_cast<Key>(v == T{0} ? T{0} : v);
    return bits & kSign ? ~bits : bits | kSign;
  }
}

}  // namespace solvent::detail
