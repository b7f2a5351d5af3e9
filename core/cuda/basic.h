#pragma once
/// The arithmetic and copies that core and autodiff need on a GPU: twins of engine/basic.h and engine/view.h. Internal.

#include <cstddef>
#include <span>

#include "solvent/core/tensor.h"

namespace solvent::cuda {

/// All elements of the dense tensor `t` become `value`, converted to its dtype.
void fill(Tensor& t, double value);
/// dst = src for any strides on one device; equal shapes and dtypes.
void copy_strided(const Tensor& src, Tensor& dst);
/// to[i] = from[i] for tensors on `device`, in stream order; equal shapes and dtypes. Dense ones share launches, so that many
/// small copies cost the time of few. No target may overlap another or a source.
void copy_all(std::span<const Tensor> from, std::span<Tensor> to, Device device);
/// See engine/basic.h.
/// @{
Tensor add(Tensor& a, Tensor& b);
Tensor affine(Tensor& x, double scale, double shift);
Tensor sum_to(const Tensor& x, const Shape& shape);
/// @}

}  // namespace solvent::cuda
