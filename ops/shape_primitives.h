#pragma once
/// Slices and pads with exact positions, for derivative rules. Internal to ops/.
///
/// `axis` counts from the right. Both are differentiable front ends; slice_exact(pad_exact(x)) with equal arguments is x.

#include "solvent/autodiff/basis.h"

namespace solvent::detail {

/// View of the `count` elements first, first + step, ... of an axis; all must lie on the axis. `step` may be negative.
Tensor slice_exact(Tensor x, std::int64_t axis, std::int64_t first, std::int64_t count, std::int64_t step);

/// An axis of extent `size` filled with `value`, with x's elements at first, first + step, ...; the adjoint of
/// slice_exact for value 0.
Tensor pad_exact(Tensor x, std::int64_t axis, std::int64_t size, std::int64_t first, std::int64_t step, double value);

}  // namespace solvent::detail
