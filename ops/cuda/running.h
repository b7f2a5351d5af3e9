#pragma once
/// CUDA kernels of cumsum and cumprod; see ops/cpu/scan_glue.h. Internal to ops/.

#include "solvent/core/tensor.h"

namespace solvent::cuda {

/// float32 is accumulated in double; the order of additions depends on the shape only.
Tensor cumsum(const Tensor& x, int axis, bool reversed);
/// Floats are multiplied as fraction and exponent, so that only results beyond the range of the type overflow, whatever the
/// order of the products.
Tensor cumprod(const Tensor& x, int axis);

}  // namespace solvent::cuda
