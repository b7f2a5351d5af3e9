#pragma once
/// CUDA kernels of random tensors; see ops/cpu/random.h. Same key, same bits as on the CPU. Internal to ops/.

#include <span>

#include "solvent/autodiff/op.h"

namespace solvent::cuda {

TensorVec uniform(std::span<Tensor>, const Attrs* attrs);
TensorVec normal(std::span<Tensor>, const Attrs* attrs);
TensorVec truncated_normal(std::span<Tensor>, const Attrs* attrs);
TensorVec bernoulli(std::span<Tensor>, const Attrs* attrs);
TensorVec randint(std::span<Tensor>, const Attrs* attrs);
/// @throws ValueError for 2^32 elements and more.
TensorVec permutation(std::span<Tensor>, const Attrs* attrs);

}  // namespace solvent::cuda
