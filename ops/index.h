#pragma once
/// Gathering and scattering with int64 indices. Negative indices are errors. Results are deterministic.
///
/// On a GPU the error of an index out of range comes later: see core/stream.h. Index 0 stands in for such an index until then.

#include "solvent/autodiff/basis.h"

namespace solvent {

/// take_along_axis: out[i][j][k] = x[index[i][j][k]][j][k] (axis 0). `index` has x's rank and broadcasts against x on the
/// other axes. @throws ShapeError; ValueError for an index out of range
SOLVENT_API Tensor gather(Tensor x, Tensor index, std::int64_t axis);
/// The name of `gather` in NumPy.
inline Tensor take_along_axis(Tensor x, Tensor index, std::int64_t axis) {
  return gather(std::move(x), std::move(index), axis);
}
/// Adjoint of gather: zeros of extent `size` along `axis`, x added at `index`. Fixed order of additions.
SOLVENT_API Tensor scatter_add(Tensor x, Tensor index, std::int64_t axis, std::int64_t size);
/// Whole slices x[index] along `axis` for a 1-d index: out.shape[axis] = index.numel().
SOLVENT_API Tensor index_select(Tensor x, Tensor index, std::int64_t axis = 0);
/// Rows of a table: weight (V, D), index (...,) -> (..., D). The gradient of `weight` adds the rows' cotangents in the
/// order of `index`. @throws ShapeError unless weight has two axes; ValueError for an index outside [0, V)
SOLVENT_API Tensor embedding(Tensor weight, Tensor index);
/// Rows of float zeros and ones: index (...,) -> (..., classes).
SOLVENT_API Tensor one_hot(Tensor index, std::int64_t classes, DType dtype = DType::float32);

}  // namespace solvent
