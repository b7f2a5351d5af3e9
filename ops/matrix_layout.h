#pragma once
/// How the last two axes of a tensor lie in memory, as products of matrices see them. Internal to ops/, for all devices.

#include <algorithm>
#include <cstdint>

#include "solvent/core/engine/view.h"

namespace solvent::detail {

/// How a GEMM reads a matrix: row-major with leading dimension `ld`, or the transpose of such a one.
struct MatrixLayout {
  bool readable = false;
  bool transposed = false;
  std::int64_t ld = 1;
};

inline MatrixLayout layout_of(std::int64_t rows, std::int64_t cols, std::int64_t row_stride, std::int64_t col_stride) {
  const std::int64_t min_row = std::max<std::int64_t>(cols, 1);
  const std::int64_t min_col = std::max<std::int64_t>(rows, 1);
  if ((col_stride == 1 || cols == 1) && (row_stride >= min_row || rows == 1))
    return {true, false, rows == 1 ? min_row : row_stride};
  if ((row_stride == 1 || rows == 1) && (col_stride >= min_col || cols == 1))
    return {true, true, cols == 1 ? min_col : col_stride};
  return {};
}

inline MatrixLayout layout_of(const Tensor& t) {
  const int rank = t.rank();
  if (t.numel() == 0)
    return {true, false, std::max<std::int64_t>(t.shape()[rank - 1], 1)};  // an empty batch has any strides
  return layout_of(t.shape()[rank - 2], t.shape()[rank - 1], t.strides()[rank - 2], t.strides()[rank - 1]);
}

/// A copy whose matrices are row-major; leading axes of stride 0 keep it.
inline Tensor dense_matrices(const Tensor& t) {
  Shape distinct = t.shape();
  for (int axis = 0; axis < t.rank() - 2; ++axis)
    if (t.strides()[axis] == 0) distinct[axis] = 1;
  const Tensor copy = engine::contiguous(engine::view(t, distinct, t.strides(), t.impl()->offset));
  Strides strides = copy.strides();
  for (int axis = 0; axis < t.rank() - 2; ++axis)
    if (distinct[axis] != t.shape()[axis]) strides[axis] = 0;
  return engine::view(copy, t.shape(), strides, copy.impl()->offset);
}

/// The leading axes: all but the last `inner`.
inline Dims leading_axes(const Dims& d, int inner = 2) {
  return Dims(std::span(d.begin(), static_cast<std::size_t>(d.rank() - inner)));
}

}  // namespace solvent::detail
