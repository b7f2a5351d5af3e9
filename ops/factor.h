#pragma once
/// Factorisations of matrices and what follows from them, on batches: matrices are the last two axes, leading axes are
/// independent problems and broadcast where there are two operands. float32 and float64; every function is
/// differentiable to any order unless it says otherwise, and gives the same bits for any number of threads.
/// All throw ShapeError, DtypeError or DeviceError for operands that do not fit. `solve` is in linalg.h, `eigh` and
/// `svd` are in spectral.h, `expm` and `phi1` in matrix_functions.h.

#include "solvent/autodiff/basis.h"

namespace solvent {

/// Lower triangular L with L L^T = (a + a^T) / 2 for a (..., n, n).
///
/// Only the symmetric part of `a` counts, in value and derivative, so gradients are symmetric.
/// Derivative: dL = L P(L^-1 dA L^-T), P = lower part with half the diagonal (Murray 2016, arXiv:1602.07527).
/// @throws ValueError naming matrix and pivot if one is not positive definite; NaN gives NaN
SOLVENT_API Tensor cholesky(Tensor a);

/// Which triangle `triangular_solve` reads, and how.
struct TriangularOptions {
  bool upper = false;          ///< read the upper triangle instead of the lower one
  bool transposed = false;     ///< solve with a^T (of the triangle that is read)
  bool right = false;          ///< solve x a = b instead of a x = b
  bool unit_diagonal = false;  ///< take the diagonal as ones, without reading it
};
/// Solution x of a x = b, or one of its variants, by substitution: a (..., n, n) of which one triangle is read, and
/// b (..., n, k), with `right` b (..., k, n).
///
/// Gradients are zero in the elements that are not read. One matrix with many right-hand sides along broadcast leading
/// axes is read once. @throws ValueError for a zero on the diagonal
SOLVENT_API Tensor triangular_solve(Tensor a, Tensor b, TriangularOptions options = {});

/// a^-1 for a (..., n, n), by LU. To solve a system use `solve`, which is faster and more accurate.
/// @throws ValueError for a singular matrix
SOLVENT_API Tensor inverse(Tensor a);

/// Determinant of a (..., n, n) -> (...), by LU; 1 for n = 0. It over- and underflows easily: see slogdet.
/// The derivative det(a) a^-T needs the inverse: @throws ValueError when differentiated at a singular matrix.
SOLVENT_API Tensor det(Tensor a);

/// Result of `slogdet`.
struct SignAndLog {
  Tensor sign;     ///< -1, 0 or 1 (...); constant for differentiation
  Tensor log_abs;  ///< log|det| (...); -inf for a singular matrix
};
/// Sign and logarithm of the absolute value of the determinant of a (..., n, n).
/// @throws ValueError when differentiated at a singular matrix
SOLVENT_API SignAndLog slogdet(Tensor a);

/// Result of `qr`.
struct QrFactors {
  Tensor q;  ///< (..., m, k) with orthonormal columns, k = min(m, n)
  Tensor r;  ///< (..., k, n), upper triangular (trapezoidal for m < n), diagonal >= 0
};
/// Thin factorisation a = q r of a (..., m, n) by Householder reflections; unique for full rank.
///
/// Derivatives solve with r (its first k columns). @throws ValueError when differentiated at a matrix whose first
/// min(m, n) columns are linearly dependent so that an element of r's diagonal is 0
SOLVENT_API QrFactors qr(Tensor a);

/// Least squares: the x (..., n, k) with smallest |a x - b| in each column, for a (..., m, n) of full rank and
/// b (..., m, k); for m < n the solution with the smallest |x|. By QR of a or a^T.
///
/// @throws ValueError naming the matrix if an element of r's diagonal is below max(m, n) eps times the largest one: then
///         the rank is deficient to working precision (pivot-free QR can miss rare cases; svd cannot)
SOLVENT_API Tensor lstsq(Tensor a, Tensor b);

}  // namespace solvent
