#pragma once
/// CUDA kernels of batch normalisation, layer normalisation with weight and bias, and dropout: twins of ops/cpu/norm.h, with its
/// preconditions. Internal to ops/.

#include <span>

#include "solvent/autodiff/op.h"

namespace solvent::cuda {

TensorVec batch_moments(std::span<Tensor> inputs, const Attrs*);
TensorVec batch_normalise(std::span<Tensor> inputs, const Attrs* attrs);
TensorVec batch_normalise_grad(std::span<Tensor> inputs, const Attrs* attrs);
TensorVec channel_affine_map(std::span<Tensor> inputs, const Attrs*);
TensorVec layer_norm_affine_rows(std::span<Tensor> inputs, const Attrs* attrs);
TensorVec layer_norm_affine_rows_grad(std::span<Tensor> inputs, const Attrs* attrs);
/// The CPU's bits: the mask is a function of the key and the element's index.
TensorVec dropout_mask(std::span<Tensor> inputs, const Attrs* attrs);

}  // namespace solvent::cuda
