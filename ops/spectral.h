#pragma once
/// Eigenvalues of symmetric matrices and singular values, on batches; float32 and float64, the same bits for any number
/// of threads. Both functions throw ShapeError, DtypeError or DeviceError for operands that do not fit, and ValueError if
/// an iteration does not converge (not seen with finite matrices). NaN or infinity in a matrix gives NaN.

#include "solvent/autodiff/basis.h"

namespace solvent {

/// Result of `eigh`.
struct EighResult {
  Tensor values;   ///< (..., n), ascending
  Tensor vectors;  ///< (..., n, n), orthonormal columns; the component of largest magnitude is positive
};
/// Eigenvalues and eigenvectors of the symmetric part (a + a^T) / 2 of a (..., n, n); gradients are symmetric.
///
/// Values alone are differentiable wherever they are distinct, and at repeated eigenvalues for functions that treat
/// equal ones alike (their sum, say). Vectors have no derivative there: the rule divides by differences of eigenvalues,
/// so tangents and cotangents of `vectors`, and second derivatives of `values`, are then infinite or NaN, and lose digits
/// in proportion near by. Functions that do not depend on the choice of vectors (a spectral function, a projector) keep
/// their derivative in exact arithmetic, but not through this rule at equal eigenvalues. Source: Giles 2008, "An extended
/// collection of matrix derivative results".
SOLVENT_API EighResult eigh(Tensor a);

/// Result of `svd`.
struct SvdResult {
  Tensor u;   ///< (..., m, k), orthonormal columns, k = min(m, n)
  Tensor s;   ///< (..., k), descending, >= 0
  Tensor vt;  ///< (..., k, n), orthonormal rows
};
/// Thin singular value decomposition a = u diag(s) vt of a (..., m, n). The component of largest magnitude of each
/// column of u (for m < n: of each row of vt) is positive. Errors of singular values are of the order of eps times the
/// largest. Up to k = 64, and in builds without LAPACK, they are relative to each value if a is a well-conditioned matrix
/// with scaled columns.
///
/// Singular values alone are differentiable where they are distinct and positive (tangents of `s` exist, one choice of
/// several, at repeated or zero ones too). The vectors have a derivative only where all k of them are distinct and, for
/// m != n, positive: elsewhere it is infinite or NaN. Source: Townsend 2016, "Differentiating the singular value
/// decomposition".
SOLVENT_API SvdResult svd(Tensor a);

}  // namespace solvent
