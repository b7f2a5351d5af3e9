#pragma once
/// CUDA kernels of matmul and outer, as cpu/linalg_kernels.h describes them: functions on tensors, and under the same names
/// those of the records.

#include "solvent/autodiff/op.h"

namespace solvent::cuda {

/// (..., m, k) x (..., k, n) with equal leading axes, any strides. float32 as matmul_precision() says; always float32 if
/// the call is `exact`, if all of m, n and k are at most 32, and for most products with vectors (m or n is 1). bfloat16 in float32, rounded once.
Tensor matmul(const Tensor& a, const Tensor& b, bool exact = false);
TensorVec matmul(std::span<Tensor> inputs, const Attrs*);

/// (..., m), (..., n) -> (..., m, n) with equal leading axes, any strides.
Tensor outer(const Tensor& a, const Tensor& b);
TensorVec outer(std::span<Tensor> inputs, const Attrs*);

}  // namespace solvent::cuda
