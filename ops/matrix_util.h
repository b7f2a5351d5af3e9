#pragma once
/// What the families on matrices (linalg, factor, spectral, matrix_functions) share. Internal to ops/.

#include "solvent/autodiff/basis.h"

namespace solvent::detail {

/// Broadcasts the leading axes of two operands whose last `inner` axes are their own (2: matrices, 1: vectors).
/// @throws ShapeError if they do not broadcast
void align_leading(const char* op, Tensor& a, Tensor& b, int inner = 2);

/// @throws DtypeError unless floating; ShapeError unless (..., m, n)
void check_matrices(const char* op, const Tensor& a);

/// @throws DtypeError unless floating; ShapeError unless (..., n, n)
void check_square(const char* op, const Tensor& a);

/// (x + x^T) / 2
Tensor symmetric_part(const Tensor& x);

}  // namespace solvent::detail
