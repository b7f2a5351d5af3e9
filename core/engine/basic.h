#pragma once
/// The arithmetic that autodiff's basis operations need, on raw tensors (no derivative information): float32, float64,
/// int64, and bfloat16, which is computed in float32 and rounded once per result.

#include "solvent/core/tensor.h"

namespace solvent::engine {

/// a + b for equal shapes; reuses the memory of a or b if it may (engine::take_or_empty).
SOLVENT_API Tensor add(Tensor& a, Tensor& b);

/// scale * x + shift for a floating or int64 tensor.
SOLVENT_API Tensor affine(Tensor& x, double scale, double shift);

/// Sums axes of `x` to `shape` (same rank; shape[i] is x.shape[i] or 1). float32 sums are accumulated in blocks of at
/// most 4096 elements in float32, and blocks in float64; the order depends on shapes only.
SOLVENT_API Tensor sum_to(const Tensor& x, const Shape& shape);

}  // namespace solvent::engine
