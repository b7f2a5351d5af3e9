#pragma once
/// CPU kernels of the operations that move elements: they trust their inputs and know nothing of derivatives.
/// Bound by memory: every element is read and written once (pad writes its filling as well).

#include <span>

#include "solvent/core/tensor.h"

namespace solvent::cpu {

/// Extent `size` along `axis`, filled with `value`, x's elements at first + i * step.
Tensor pad(const Tensor& x, int axis, std::int64_t size, std::int64_t first, std::int64_t step, double value);
Tensor concat(std::span<const Tensor> xs, int axis);
/// `axis` is the new axis of the result.
Tensor stack(std::span<const Tensor> xs, int axis);
Tensor clone(const Tensor& x);

}  // namespace solvent::cpu
