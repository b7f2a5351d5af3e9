#pragma once
/// CPU kernels of triangles and diagonals of the last two axes. Any strides, any dtype.

#include "solvent/core/tensor.h"

namespace solvent::cpu {

/// x on and below (`lower`) or on and above the diagonal `offset`, zeros elsewhere.
Tensor triangle(const Tensor& x, std::int64_t offset, bool lower);
/// (..., rows, columns) -> (..., length), a view.
Tensor diagonal_view(const Tensor& x, std::int64_t offset, std::int64_t length);
/// (..., length) -> (..., rows, columns) with x on the diagonal `offset`, zeros elsewhere.
Tensor diag_embed(const Tensor& x, std::int64_t offset, std::int64_t rows, std::int64_t columns);

}  // namespace solvent::cpu
