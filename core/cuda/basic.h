#pragma once
/// The arithmetic and copies that core and autodiff need on a GPU: twins of engine/basic.h and engine/view.h. Internal.

#include "solvent/core/tensor.h"

namespace solvent::cuda {

/// All elements of the dense tensor `t` become `value`, converted to its dtype.
void fill(Tensor& t, double value);
/// dst = src for any strides on one device; equal shapes and dtypes.
void copy_strided(const Tensor& src, Tensor& dst);
/// See engine/basic.h.
/// @{
Tensor add(Tensor& a, Tensor& b);
Tensor affine(Tensor& x, double scale, double shift);
Tensor sum_to(const Tensor& x, const Shape& shape);
/// @}

}  // namespace solvent::cuda
