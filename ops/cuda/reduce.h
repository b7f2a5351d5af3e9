#pragma once
/// CUDA kernels of reductions, row-wise normalisations and losses: twins of ops/cpu/reduce.h, with its preconditions. An operand
/// that is not dense is copied first. Internal to ops/.

#include <span>

#include "solvent/autodiff/op.h"

namespace solvent::cuda {

TensorVec max_with_index(std::span<Tensor> inputs, const Attrs* attrs);
TensorVec min_with_index(std::span<Tensor> inputs, const Attrs* attrs);
TensorVec all(std::span<Tensor> inputs, const Attrs*);
TensorVec any(std::span<Tensor> inputs, const Attrs*);

TensorVec logsumexp_rows(std::span<Tensor> inputs, const Attrs*);
TensorVec softmax_rows(std::span<Tensor> inputs, const Attrs*);
TensorVec log_softmax_rows(std::span<Tensor> inputs, const Attrs*);
TensorVec softmax_grad_rows(std::span<Tensor> inputs, const Attrs*);
TensorVec layer_norm_rows(std::span<Tensor> inputs, const Attrs* attrs);
TensorVec layer_norm_grad_rows(std::span<Tensor> inputs, const Attrs* attrs);

/// A label that is no class makes the mean, or its row of the gradient, NaN: the host does not wait to see the labels.
/// @{
TensorVec cross_entropy_mean(std::span<Tensor> inputs, const Attrs*);
TensorVec cross_entropy_mean_grad(std::span<Tensor> inputs, const Attrs*);
/// @}

}  // namespace solvent::cuda
