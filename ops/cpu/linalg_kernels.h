#pragma once
/// CPU kernels of matmul, outer, solve and slogdet.

#include "solvent/autodiff/op.h"

namespace solvent::cpu {

/// (..., m, k) x (..., k, n) with equal leading axes, any strides. Operands with a unit stride in one of the last two
/// axes are read in place, transposed or not; others are copied once (axes of stride 0 are not walked).
Tensor matmul(const Tensor& a, const Tensor& b);

/// (..., m), (..., n) -> (..., m, n) with equal leading axes, any strides.
Tensor outer(const Tensor& a, const Tensor& b);

/// x with a x = b by LU with partial pivoting: a (..., n, n), b (..., n, k), equal leading axes. Along leading axes where
/// `a` has stride 0 it is factored once and all right-hand sides are solved together. @throws ValueError if singular, in
/// the name of `op`
Tensor solve(const Tensor& a, const Tensor& b, const char* op = "solve");

/// Sign and logarithm of the absolute value of the determinants of a (..., n, n) by LU: two tensors (...). A pivot that
/// is exactly 0 gives 0 and -inf.
TensorVec slogdet(const Tensor& a);
/// Product of the pivots: (..., n, n) -> (...).
Tensor det(const Tensor& a);

}  // namespace solvent::cpu
