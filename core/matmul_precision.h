#pragma once
/// How exactly GPUs multiply float32 matrices: for a whole process, or for one call of matmul() or a convolution.

#include <cstdint>
#include <string>

#include "solvent/core/export.h"

namespace solvent {

/// Precision of products of float32 matrices on a GPU. Sums are float32 in every mode.
enum class MatmulPrecision : std::uint8_t {
  highest,  ///< float32 throughout, 24 bits: the default
  tf32,     ///< factors may be rounded to TF32, 11 bits (relative error about 5e-4 per factor)
  bf16,     ///< factors may be rounded to bfloat16, 8 bits (relative error about 4e-3 per factor)
};

/// Sets the precision of products and convolutions that are called without one, from now on and in all threads. It permits,
/// and does not promise, the rounding: small products and products with vectors stay exact. float64 and the CPU are not
/// affected. Derivatives of a product or a convolution are computed with the precision of its call, whenever that is.
SOLVENT_API void set_matmul_precision(MatmulPrecision precision) noexcept;

/// What set_matmul_precision() set last; `highest` at the start.
SOLVENT_API MatmulPrecision matmul_precision() noexcept;

/// "highest", "tf32" or "bf16".
SOLVENT_API std::string to_string(MatmulPrecision precision);

}  // namespace solvent
