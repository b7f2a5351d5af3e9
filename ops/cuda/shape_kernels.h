#pragma once
/// CUDA kernels of the operations that move elements; see ops/cpu/shape_kernels.h. Internal to ops/.

#include <span>

#include "solvent/core/tensor.h"

namespace solvent::cuda {

Tensor pad(const Tensor& x, int axis, std::int64_t size, std::int64_t first, std::int64_t step, double value);
Tensor concat(std::span<const Tensor> xs, int axis);
Tensor stack(std::span<const Tensor> xs, int axis);
Tensor clone(const Tensor& x);

}  // namespace solvent::cuda
