#pragma once
/// Products of matrices.

#include "solvent/autodiff/basis.h"
#include "solvent/core/matmul_precision.h"

namespace solvent {

/// (..., m, k) x (..., k, n) -> (..., m, n); leading axes broadcast. A 1-d left operand is a row, a 1-d right operand a
/// column, and the added axis is removed again. Transposed operands (`mT`) are read in place. float32 products accumulate
/// in float32. @throws ShapeError, DtypeError, DeviceError
SOLVENT_API Tensor matmul(Tensor a, Tensor b);
/// The same, multiplied on a GPU with `precision` instead of what set_matmul_precision() says; so are its derivatives.
SOLVENT_API Tensor matmul(Tensor a, Tensor b, MatmulPrecision precision);
/// Sum of elementwise products over the last axis.
SOLVENT_API Tensor dot(Tensor a, Tensor b);
/// a_i b_j over the last axes: (..., m), (..., n) -> (..., m, n).
SOLVENT_API Tensor outer(Tensor a, Tensor b);
/// Solution of a x = b by LU with partial pivoting: a (..., n, n), b (..., n, k). Leading axes broadcast; `a` is factored
/// once per distinct matrix. @throws ShapeError; ValueError for a singular matrix
SOLVENT_API Tensor solve(Tensor a, Tensor b);

}  // namespace solvent
