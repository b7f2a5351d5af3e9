#pragma once
/// The operations the mechanism itself needs: accumulation of cotangents and moving axes of Jacobians. They are ordinary
/// ops (with entries in the op table), declared here because autodiff/ may not see ops/.

#include "solvent/autodiff/apply.h"

namespace solvent {

/// a + b elementwise with broadcasting. @throws ShapeError, DtypeError
SOLVENT_API Tensor add(Tensor a, Tensor b);
/// a * x + b elementwise for scalars a, b, rounded once to x's floating dtype (float32 for bfloat16); for integer tensors a and b must be
/// integers. @throws DtypeError
SOLVENT_API Tensor affine(Tensor x, double a, double b);
/// View (or copy, if strides do not allow a view) with another shape; one extent may be -1. @throws ShapeError
SOLVENT_API Tensor reshape(Tensor x, Shape shape);
/// Stride-0 view with NumPy broadcasting rules to exactly `shape`. @throws ShapeError
SOLVENT_API Tensor broadcast_to(Tensor x, const Shape& shape);
/// Adjoint of broadcast_to: sums the axes along which `shape` was broadcast. @throws ShapeError
SOLVENT_API Tensor sum_to(Tensor x, const Shape& shape);
/// View with axes in the given order (each axis once; negative allowed). @throws ShapeError
SOLVENT_API Tensor permute(Tensor x, const Axes& order);

namespace detail {
/// Brings two operands to one shape with reshape and broadcast_to views (the rank rule). Checks dtypes and devices.
SOLVENT_API void align(const char* op, Tensor& a, Tensor& b);
SOLVENT_API void check_same_dtype(const char* op, const Tensor& a, const Tensor& b);
/// float32 or float64, in which all operations compute.
SOLVENT_API void check_floating(const char* op, const Tensor& x);
/// One of these, or bfloat16.
SOLVENT_API void check_floating_or_storage(const char* op, const Tensor& x);
}  // namespace detail

}  // namespace solvent
