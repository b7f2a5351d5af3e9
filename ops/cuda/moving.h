#pragma once
/// What kernels that only move elements share: units of up to 16 bytes instead of elements, and divisions by constants.
/// For `.cu` files only.

#include <cstdint>
#include <cstring>

#include "solvent/core/cuda/strided.h"
#include "solvent/core/engine/view.h"

namespace solvent::cuda {

/// 16 bytes that are moved at once.
using Unit16 = Pack<std::uint64_t, 2>;

/// The widest unit (1, 2, 4, 8 or 16 bytes) that divides every length, stride and address ORed into `bytes`.
inline int widest_unit(std::uint64_t bytes) noexcept {
  if (bytes % 16 == 0) return 16;
  if (bytes % 8 == 0) return 8;
  if (bytes % 4 == 0) return 4;
  return bytes % 2 == 0 ? 2 : 1;
}
inline std::uint64_t address_bits(const void* p) noexcept { return reinterpret_cast<std::uintptr_t>(p) % 16; }

/// Calls f(TypeTag<U>) for the type of `width` bytes.
template <class F>
void dispatch_unit(int width, F&& f) {
  switch (width) {
    case 1: return f(solvent::detail::TypeTag<std::uint8_t>{});
    case 2: return f(solvent::detail::TypeTag<std::uint16_t>{});
    case 4: return f(solvent::detail::TypeTag<std::uint32_t>{});
    case 8: return f(solvent::detail::TypeTag<std::uint64_t>{});
    default: return f(solvent::detail::TypeTag<Unit16>{});
  }
}

/// A unit filled with the bits of `value` as an element of type `dtype`.
template <class U>
U repeated(DType dtype, double value) {
  U unit{};
  dispatch_all(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T element = static_cast<T>(value);
    for (std::size_t at = 0; at + sizeof(T) <= sizeof(U); at += sizeof(T))
      std::memcpy(reinterpret_cast<std::byte*>(&unit) + at, &element, sizeof(T));
  });
  return unit;
}

/// First element of `t`, of any dtype.
inline const std::byte* first_byte(const Tensor& t) noexcept {
  const solvent::detail::TensorImpl& impl = *t.impl();
  return static_cast<const std::byte*>(impl.storage->data) +
         impl.offset * static_cast<std::int64_t>(size_of(impl.dtype));
}

/// Division of positions below `limit` by a constant of at least 1: a multiplication where everything has 31 bits.
struct Division {
  std::int64_t divisor = 1;
  Divider fast;
  bool small = true;

  Division() = default;
  Division(std::int64_t d, std::int64_t limit) : divisor(d), small(limit < INT32_MAX && d < INT32_MAX) {
    if (small) fast = Divider(static_cast<std::uint32_t>(d));
  }
  /// quotient and remainder of i
  __device__ void split(std::int64_t i, std::int64_t& quotient, std::int64_t& remainder) const {
    quotient = small ? static_cast<std::int64_t>(fast.divide(static_cast<std::uint32_t>(i))) : i / divisor;
    remainder = i - quotient * divisor;
  }
};

}  // namespace solvent::cuda
