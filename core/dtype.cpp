#include "solvent/core/dtype.h"

#include <fmt/format.h>

#include "solvent/core/error.h"

namespace solvent {

std::string_view to_string(DType dtype) noexcept {
  switch (dtype) {
    case DType::float32: return "float32";
    case DType::float64: return "float64";
    case DType::int64: return "int64";
    case DType::boolean: return "bool";
    case DType::uint8: return "uint8";
    case DType::bfloat16: return "bfloat16";
  }
  return "unknown";
}

namespace detail {

std::string_view floating_advice(DType dtype) noexcept {
  if (!is_storage_type(dtype)) return "Convert with cast(x, float32).";
  return "bfloat16 is a storage type: cast, operations that move or compare elements, add, sub, mul, neg, affine, sum, "
         "scatter_add, matmul, outer and convolutions take it. Compute in float32 with cast(x, float32), and "
         "store results with cast(y, bfloat16).";
}

void throw_not_floating(const char* op, DType dtype) {
  throw DtypeError(
      fmt::format("[{}] got dtype {}; expected float32 or float64. {}", op, to_string(dtype), floating_advice(dtype)));
}

}  // namespace detail
}  // namespace solvent
