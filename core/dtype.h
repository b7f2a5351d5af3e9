#pragma once
/// Element types. float32 and float64 are first-class and differentiable; int64, bool and uint8 hold data. bfloat16 is
/// differentiable too, but a storage type: few operations take it, and they compute in float32.

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include "solvent/core/bfloat16.h"
#include "solvent/core/export.h"

namespace solvent {

/// Element types.
enum class DType : std::uint8_t { float32, float64, int64, boolean, uint8, bfloat16 };

/// Short names of the element types, as in `zeros({2, 3}, float64)`. A bool cannot have its own name, hence `boolean`.
/// @{
inline constexpr DType float32 = DType::float32;
inline constexpr DType float64 = DType::float64;
inline constexpr DType int64 = DType::int64;
inline constexpr DType boolean = DType::boolean;
inline constexpr DType uint8 = DType::uint8;
inline constexpr DType bfloat16 = DType::bfloat16;
/// @}

/// Size of one element in bytes.
constexpr std::size_t size_of(DType dtype) noexcept {
  switch (dtype) {
    case DType::float32: return 4;
    case DType::float64:
    case DType::int64: return 8;
    case DType::bfloat16: return 2;
    default: return 1;
  }
}

/// True for the differentiable types.
constexpr bool is_floating(DType dtype) noexcept {
  return dtype == DType::float32 || dtype == DType::float64 || dtype == DType::bfloat16;
}

/// True for bfloat16, which most operations refuse. Taken by cast, operations that move or compare elements, add, sub, mul,
/// neg, affine, sum, scatter_add, matmul, outer and convolutions: they compute in float32 and round each result once.
constexpr bool is_storage_type(DType dtype) noexcept { return dtype == DType::bfloat16; }

/// "float32", "float64", "int64", "bool", "uint8" or "bfloat16".
SOLVENT_API std::string_view to_string(DType dtype) noexcept;

/// Machine epsilon of a floating type (1.19e-7, 2.22e-16 or 7.8e-3), 0 for the others.
constexpr double epsilon_of(DType dtype) noexcept {
  switch (dtype) {
    case DType::float32: return 1.1920928955078125e-07;
    case DType::float64: return 2.220446049250313e-16;
    case DType::bfloat16: return 0.0078125;
    default: return 0.0;
  }
}

namespace detail {
template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::float32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::float64;
};
template <>
struct DTypeOf<std::int64_t> {
  static constexpr DType value = DType::int64;
};
template <>
struct DTypeOf<bool> {
  static constexpr DType value = DType::boolean;
};
template <>
struct DTypeOf<std::uint8_t> {
  static constexpr DType value = DType::uint8;
};
template <>
struct DTypeOf<BFloat16> {
  static constexpr DType value = DType::bfloat16;
};
template <class T>
struct TypeTag {
  using type = T;
};
// What to do where float32 or float64 was expected and `dtype` came: sentences.
SOLVENT_API std::string_view floating_advice(DType dtype) noexcept;
[[noreturn]] SOLVENT_API void throw_not_floating(const char* op, DType dtype);
}  // namespace detail

/// The DType of a C++ element type; a bool tensor stores one byte (0 or 1) per element.
template <class T>
inline constexpr DType dtype_of = detail::DTypeOf<T>::value;

/// Calls `f(TypeTag<float>{})` or `f(TypeTag<double>{})`. @throws DtypeError naming `op` for other types, bfloat16 among them.
///
///     dispatch_float(x.dtype(), "exp", [&](auto tag) { using T = typename decltype(tag)::type; ... });
template <class F>
decltype(auto) dispatch_float(DType dtype, const char* op, F&& f) {
  if (dtype == DType::float32) return std::forward<F>(f)(detail::TypeTag<float>{});
  if (dtype != DType::float64) detail::throw_not_floating(op, dtype);
  return std::forward<F>(f)(detail::TypeTag<double>{});
}

/// Like dispatch_float with BFloat16, for operations that take it: they compute in float32 and round each result once.
template <class F>
decltype(auto) dispatch_floating(DType dtype, const char* op, F&& f) {
  if (dtype == DType::bfloat16) return std::forward<F>(f)(detail::TypeTag<BFloat16>{});
  return dispatch_float(dtype, op, std::forward<F>(f));
}

/// Like dispatch_float over all six element types.
template <class F>
decltype(auto) dispatch_all(DType dtype, F&& f) {
  switch (dtype) {
    case DType::float32: return std::forward<F>(f)(detail::TypeTag<float>{});
    case DType::float64: return std::forward<F>(f)(detail::TypeTag<double>{});
    case DType::int64: return std::forward<F>(f)(detail::TypeTag<std::int64_t>{});
    case DType::boolean: return std::forward<F>(f)(detail::TypeTag<bool>{});
    case DType::bfloat16: return std::forward<F>(f)(detail::TypeTag<BFloat16>{});
    default: return std::forward<F>(f)(detail::TypeTag<std::uint8_t>{});
  }
}

}  // namespace solvent
