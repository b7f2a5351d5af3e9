#pragma once
/// CPU kernels of matmul, outer and solve.

#include "solvent/core/tensor.h"

namespace solvent::cpu {

/// (..., m, k) x (..., k, n) with equal leading axes, any strides. Operands with a unit stride in one of the last two
/// axes are read in place, transposed or not; others are copied once (axes of stride 0 are not walked).
Tensor matmul(const Tensor& a, const Tensor& b);

/// (..., m), (..., n) -> (..., m, n) with equal leading axes, any strides.
Tensor outer(const Tensor& a, const Tensor& b);

/// x with a x = b by LU with partial pivoting: a (..., n, n), b (..., n, k), equal leading axes. Along leading axes where
/// `a` has stride 0 it is factored once and all right-hand sides are solved together. @throws ValueError if singular
Tensor solve(const Tensor& a, const Tensor& b);

}  // namespace solvent::cpu
