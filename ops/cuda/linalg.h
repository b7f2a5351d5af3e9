#pragma once
/// CUDA kernels of matmul and outer, as cpu/linalg_kernels.h describes them: functions on tensors, and under the same names
/// those of the records.

#include "solvent/autodiff/op.h"

namespace solvent::cuda {

/// (..., m, k) x (..., k, n) with equal leading axes, any strides. float32 as matmul_precision() says, except where all
/// of m, n and k are at most 32 or the call is `exact`: those products are always float32.
Tensor matmul(const Tensor& a, const Tensor& b, bool exact = false);
TensorVec matmul(std::span<Tensor> inputs, const Attrs*);

/// (..., m), (..., n) -> (..., m, n) with equal leading axes, any strides.
Tensor outer(const Tensor& a, const Tensor& b);
TensorVec outer(std::span<Tensor> inputs, const Attrs*);

}  // namespace solvent::cuda
