#pragma once
/// CPU kernels of gather, scatter_add and one_hot. They trust their inputs (indices in range, equal shapes on the other
/// axes) and take any strides.

#include "solvent/core/tensor.h"

namespace solvent::cpu {

/// out[.., i, ..] = x[.., index[.., i, ..], ..] along `axis`.
Tensor gather(const Tensor& x, const Tensor& index, int axis);

/// Zeros of extent `size` along `axis` with out[.., index[.., i, ..], ..] += x[.., i, ..], i ascending.
///
/// Deterministic: each line along `axis` is summed by one thread in order of i; only independent lines run in parallel.
Tensor scatter_add(const Tensor& x, const Tensor& index, int axis, std::int64_t size);

/// (...) -> (..., classes), contiguous.
Tensor one_hot(const Tensor& index, std::int64_t classes, DType dtype);

struct BadIndex {
  std::int64_t value = 0;
  std::int64_t position = -1;  ///< row-major position of the first index outside [0, size); -1 if there is none
};
/// Where position `walk` of the row-major walk over `walked` stands in `whole`, of which it is the first index on some axes.
std::int64_t position_in_whole(const Shape& walked, const Shape& whole, std::int64_t walk);
/// Reads each stored element once: axes of stride 0 are not walked.
BadIndex find_bad_index(const Tensor& index, std::int64_t size);

}  // namespace solvent::cpu
