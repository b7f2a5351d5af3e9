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
  }
  return "unknown";
}

namespace detail {

void throw_not_floating(const char* op, DType dtype) {
  throw DtypeError(fmt::format("[{}] got dtype {}; expected float32 or float64. Convert with cast(x, float32).", op,
                               to_string(dtype)));
}

}  // namespace detail
}  // namespace solvent
