#pragma once
/// CUDA kernels of the matrix exponential, phi1 and their Frechet derivatives, as cpu/exponential_kernels.h describes them.

#include "solvent/core/tensor.h"
#include "solvent/ops/cpu/exponential_kernels.h"

namespace solvent::cuda {

/// f(a) for a (..., n, n).
Tensor matrix_function(cpu::MatrixFn fn, const Tensor& a);

/// Derivative of f at `a` in the direction of `e`: both (..., n, n) with equal leading axes.
Tensor matrix_function_derivative(cpu::MatrixFn fn, const Tensor& a, const Tensor& e);

}  // namespace solvent::cuda
