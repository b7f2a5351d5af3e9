#pragma once
/// CUDA kernels of matmul and outer, as cpu/linalg_kernels.h describes them: functions on tensors, and outer's of the record.

#include "solvent/autodiff/op.h"
#include "solvent/core/matmul_precision.h"

namespace solvent::cuda {

/// (..., m, k) x (..., k, n) with equal leading axes, any strides. float32 as `precision` says; always float32 if all of
/// m, n and k are at most 32, and for most products with vectors (m or n is 1). bfloat16 in float32, rounded once.
Tensor matmul(const Tensor& a, const Tensor& b, MatmulPrecision precision = MatmulPrecision::highest);

/// (..., m), (..., n) -> (..., m, n) with equal leading axes, any strides.
Tensor outer(const Tensor& a, const Tensor& b);
TensorVec outer(std::span<Tensor> inputs, const Attrs*);

}  // namespace solvent::cuda
