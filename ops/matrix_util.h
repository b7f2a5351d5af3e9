#pragma once
/// What the families on matrices (linalg, factor, spectral, matrix_functions) share. Internal to ops/.

#include "solvent/autodiff/basis.h"

namespace solvent::detail {

/// Broadcasts the leading axes of two operands whose last `inner` axes are their own (2: matrices, 1: vectors).
/// @throws ShapeError if they do not broadcast
void align_leading(const char* op, Tensor& a, Tensor& b, int inner = 2);

/// @throws DtypeError unless floating; ShapeError unless (..., n, n)
void check_square(const char* op, const Tensor& a);

/// Elements of the last two axes on one side of the diagonal, the others 0; `strict`: without the diagonal.
Tensor lower_part(const Tensor& x, bool strict);
Tensor upper_part(const Tensor& x, bool strict);

/// The matrix (..., n, n) with the vectors (..., n) on its diagonal.
Tensor diagonal_matrix(const Tensor& d);

/// (x + x^T) / 2
Tensor symmetric_part(const Tensor& x);

}  // namespace solvent::detail
