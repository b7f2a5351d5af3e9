#pragma once
/// Views and rearrangements. `reshape`, `permute`, `broadcast_to` and `sum_to` are declared in autodiff/basis.h.

#include "solvent/autodiff/basis.h"

namespace solvent {

/// x[..., start:stop:step, ...] along one axis as a view; bounds are clamped like NumPy's, step may not be 0; a negative
/// step reads backwards.
SOLVENT_API Tensor slice(Tensor x, std::int64_t axis, std::int64_t start, std::int64_t stop, std::int64_t step = 1);
/// One index of an axis, which is removed (a view).
SOLVENT_API Tensor select(Tensor x, std::int64_t axis, std::int64_t index);
/// Zeros (or `value`) before and after along one axis.
SOLVENT_API Tensor pad(Tensor x, std::int64_t axis, std::int64_t before, std::int64_t after, double value = 0.0);
/// Joins along an existing axis. @throws ShapeError for an empty list or different shapes
SOLVENT_API Tensor concat(Tensors xs, std::int64_t axis = 0);
/// Joins along a new axis.
SOLVENT_API Tensor stack(Tensors xs, std::int64_t axis = 0);
/// Views of all indices of an axis (the way to loop over time: one backward pass for all, where T slices cost T^2).
SOLVENT_API Tensors unstack(Tensor x, std::int64_t axis = 0);
/// Pieces of the given sizes along an axis. @throws ShapeError unless they add up
SOLVENT_API Tensors split(Tensor x, const std::vector<std::int64_t>& sizes, std::int64_t axis = 0);
/// Reversed order along an axis (a view with negative stride where possible).
SOLVENT_API Tensor flip(Tensor x, std::int64_t axis);
/// Swaps the last two axes.
SOLVENT_API Tensor mT(Tensor x);
/// View with two axes swapped. @throws ShapeError
SOLVENT_API Tensor transpose(Tensor x, std::int64_t axis_a, std::int64_t axis_b);
SOLVENT_API Tensor squeeze(Tensor x, std::int64_t axis);    ///< removes an axis of extent 1
SOLVENT_API Tensor unsqueeze(Tensor x, std::int64_t axis);  ///< inserts an axis of extent 1
/// Dense row-major copy if needed.
SOLVENT_API Tensor contiguous(Tensor x);
/// A copy with its own memory.
SOLVENT_API Tensor clone(const Tensor& x);
/// The tensor on another device (itself if already there).
SOLVENT_API Tensor to(Tensor x, Device device);

}  // namespace solvent
