#pragma once
/// CUDA kernels of eigh and svd: results, order, signs and errors of cpu/factor_kernels.h.

#include "solvent/autodiff/op.h"

namespace solvent::cuda {

/// @throws ValueError without convergence
/// @{
TensorVec eigh(std::span<Tensor> inputs, const Attrs*);
TensorVec svd(std::span<Tensor> inputs, const Attrs*);
/// @}

}  // namespace solvent::cuda
