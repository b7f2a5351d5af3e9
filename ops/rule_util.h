#pragma once
/// Small helpers shared by derivative rules and front ends. Internal to ops/.

#include <algorithm>
#include <span>

#include "solvent/autodiff/op.h"
#include "solvent/core/engine/view.h"

namespace solvent::detail {

/// A zero of the given shape: one stored element, stride 0 everywhere.
inline Tensor zeros_view(const Shape& shape, DType dtype, Device device) {
  const Tensor zero = zeros(Dims::filled(shape.rank(), 1), {dtype, device});
  return engine::view(zero, shape, Dims::filled(shape.rank(), 0), 0);
}

/// The first tangent (cotangent) that is not a zero, or null. Operations with one kind of input use it for what all
/// of them have in common.
inline const Tensor* first_defined(std::span<const Tensor> values) noexcept {
  const auto it = std::find_if(values.begin(), values.end(), [](const Tensor& t) { return t.defined(); });
  return it == values.end() ? nullptr : &*it;
}

/// `axis` in [0, rank) counted from the right, so that it stays valid with leading axes of directions.
inline std::int64_t from_right(int axis, int rank) noexcept { return axis - rank; }

}  // namespace solvent::detail
