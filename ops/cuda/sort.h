#pragma once
/// CUDA kernel of sort, argsort and topk; see ops/cpu/sort_kernels.h. Same bits as the CPU's. Internal to ops/.

#include <utility>

#include "solvent/core/tensor.h"

namespace solvent::cuda {

std::pair<Tensor, Tensor> sort(const Tensor& x, int axis, std::int64_t count, bool descending);

}  // namespace solvent::cuda
