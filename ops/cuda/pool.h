#pragma once
/// CUDA kernels of pooling and resampling; attributes, operands and results as in ops/cpu/pool.h. Internal to ops/.

#include <span>

#include "solvent/ops/cpu/pool.h"

namespace solvent::cuda {

TensorVec max_pool_maps(std::span<Tensor> inputs, const Attrs* attrs);
TensorVec avg_pool_maps(std::span<Tensor> inputs, const Attrs* attrs);
TensorVec avg_pool_maps_grad(std::span<Tensor> inputs, const Attrs* attrs);
TensorVec pool_take_maps(std::span<Tensor> inputs, const Attrs*);
TensorVec max_unpool_maps(std::span<Tensor> inputs, const Attrs* attrs);
TensorVec resample_axis(std::span<Tensor> inputs, const Attrs* attrs);

}  // namespace solvent::cuda
