#pragma once
/// Parts of matrices: triangles and diagonals of the last two axes. `offset` 0 is the main diagonal, positive ones lie
/// above, negative ones below it. Linear; differentiable to any order.

#include "solvent/autodiff/basis.h"

namespace solvent {

/// The elements on and below (`tril`) or on and above (`triu`) a diagonal of the matrices (..., m, n); zeros elsewhere, also
/// where x is inf or NaN. Any dtype. @throws ShapeError for fewer than two axes
/// @{
SOLVENT_API Tensor tril(Tensor x, std::int64_t offset = 0);
SOLVENT_API Tensor triu(Tensor x, std::int64_t offset = 0);
/// @}

/// A diagonal of the matrices of two axes as a view: (..., m, n) -> (..., length), length 0 if the diagonal lies outside.
/// With other axes, those two are removed and the diagonal is the last one. @throws ShapeError for fewer than two axes
SOLVENT_API Tensor diagonal(Tensor x, std::int64_t offset = 0, std::int64_t row_axis = -2,
                            std::int64_t column_axis = -1);
/// Square matrices with x on a diagonal and zeros elsewhere: (..., n) -> (..., n + |offset|, n + |offset|).
/// @throws ShapeError for a 0-d tensor
SOLVENT_API Tensor diag_embed(Tensor x, std::int64_t offset = 0);
/// As in NumPy: a vector becomes a matrix (diag_embed), a matrix gives its diagonal. @throws ShapeError for other ranks
SOLVENT_API Tensor diag(Tensor x, std::int64_t offset = 0);
/// Sum of a diagonal: (..., m, n) -> (...). @throws ShapeError, DtypeError
SOLVENT_API Tensor trace(Tensor x, std::int64_t offset = 0);

}  // namespace solvent
