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

/// Checks that all indices are in [0, size): `raise` is called for the first that is not, later, when the host gets to know
/// (core/cuda/checks.h). With `make_safe` the result is a copy with 0 in place of such indices, for kernels that would read
/// beyond their operands; otherwise it is `index`. The host waits where size is 0.
Tensor check_index(const Tensor& index, std::int64_t size, bool make_safe, Raise raise);

}  // namespace solvent::cuda
