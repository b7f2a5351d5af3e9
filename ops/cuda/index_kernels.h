#pragma once
/// CUDA kernels of gather, scatter_add and one_hot; preconditions as in ops/cpu/index_kernels.h. Internal to ops/.

#include "solvent/core/cuda/checks.h"
#include "solvent/core/tensor.h"
#include "solvent/ops/cpu/index_kernels.h"

namespace solvent::cuda {

Tensor gather(const Tensor& x, const Tensor& index, int axis);

/// Deterministic: no atomic operations on the values. Sums of up to 64 addends are in order of position; longer ones are
/// sums of sums of neighbours, in an order that depends on shapes and indices only, accumulated in double.
Tensor scatter_add(const Tensor& x, const Tensor& index, int axis, std::int64_t size);

Tensor one_hot(const Tensor& index, std::int64_t classes, DType dtype);

/// `raise` for the first index outside of [0, size): the host waits for one word. While a graph is recorded its replays do
/// (core/cuda/checks.h); then, with `make_safe`, the result is a copy with 0 in place of such indices, for kernels that would
/// read beyond their operands. Otherwise the result is `index`.
Tensor check_index(const Tensor& index, std::int64_t size, bool make_safe, Raise raise);

}  // namespace solvent::cuda
