#pragma once
/// CPU kernels of affine_scan, affine_scan_reversed, cumsum and cumprod on tensors: bring operands into the layouts of
/// scan_kernels.h and call those.

#include "solvent/core/tensor.h"

namespace solvent::cpu {

/// h_t = A_t h_{t-1} + b_t; shapes as in ops/scan.h, leading axes of b and h0 equal. May reuse b's memory.
Tensor scan_forward(const Tensor& a, Tensor b, const Tensor& h0);
/// l_t = A_{t+1}^T l_{t+1} + b_t. May reuse b's memory.
Tensor scan_reversed(const Tensor& a, Tensor b);
/// Running sums along `axis`, each added up in order of the axis (from the end if reversed), on any strides.
Tensor cumsum(const Tensor& x, int axis, bool reversed);
/// Running products along `axis` in order of the axis, on any strides; int64 wraps around.
Tensor cumprod(const Tensor& x, int axis);

}  // namespace solvent::cpu
