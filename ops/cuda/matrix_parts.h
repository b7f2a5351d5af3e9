#pragma once
/// CUDA kernels of triangles and diagonals; see ops/cpu/matrix_parts.h (diagonals are views on every device). Internal to
/// ops/.

#include "solvent/core/tensor.h"

namespace solvent::cuda {

Tensor triangle(const Tensor& x, std::int64_t offset, bool lower);
Tensor diag_embed(const Tensor& x, std::int64_t offset, std::int64_t rows, std::int64_t columns);

}  // namespace solvent::cuda
