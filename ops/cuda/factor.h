#pragma once
/// CUDA kernels of linear systems and factorisations: results, conventions and errors of cpu/linalg_kernels.h and
/// cpu/factor_kernels.h. Each call that can fail copies one pair of numbers back to the host.

#include "solvent/autodiff/op.h"

namespace solvent::cuda {

/// x with a x = b: a (..., n, n), b (..., n, k), equal leading axes. @throws ValueError if singular, in the name of `op`
Tensor solve(const Tensor& a, const Tensor& b, const char* op = "solve");
TensorVec solve(std::span<Tensor> inputs, const Attrs*);
TensorVec inverse(std::span<Tensor> inputs, const Attrs*);
TensorVec det(std::span<Tensor> inputs, const Attrs*);
TensorVec slogdet(std::span<Tensor> inputs, const Attrs*);

/// @throws ValueError for a zero on the diagonal, unless `unit`
Tensor triangular_solve(const Tensor& a, const Tensor& b, bool upper, bool unit);

/// @throws ValueError if a matrix is not positive definite
TensorVec cholesky(std::span<Tensor> inputs, const Attrs*);

TensorVec qr(std::span<Tensor> inputs, const Attrs*);

}  // namespace solvent::cuda
