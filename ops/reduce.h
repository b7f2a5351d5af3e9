#pragma once
/// Reductions and row-wise normalisations. `axes` may be negative; an empty list means all axes. NaN propagates.
/// Sums are blocked in a fixed order: the same bits for any number of threads.

#include "solvent/autodiff/basis.h"

namespace solvent {

/// Sum over `axes` (all if empty). @throws ShapeError for an axis out of range or named twice (all reductions)
SOLVENT_API Tensor sum(Tensor x, const Axes& axes = {}, bool keepdims = false);
/// Mean; of an empty set NaN.
SOLVENT_API Tensor mean(Tensor x, const Axes& axes = {}, bool keepdims = false);
/// Variance, sum of squared deviations / (count - correction).
SOLVENT_API Tensor var(Tensor x, const Axes& axes = {}, bool keepdims = false, double correction = 0.0);

/// Vector norm over `axes` (all if empty): (sum |x|^p)^(1/p) for p >= 1, max |x| for p = infinity.
///
/// Derivatives: p = 1: sign(x), 0 at 0. 1 < p < inf: 0 where the norm is 0, like every higher derivative there (a
/// subgradient; second derivatives for p < 2 are infinite where an element is 0). p = inf: of the first largest |x|, sign
/// 0 at 0. Squares overflow for |x| > 1e19 in float32. @throws ValueError for p < 1 or NaN; ShapeError, DtypeError
SOLVENT_API Tensor norm(Tensor x, double p = 2.0, const Axes& axes = {}, bool keepdims = false);

/// An extreme element and where it is.
struct ValueAndIndex {
  Tensor value;  ///< the element
  Tensor index;  ///< int64 position along the axis
};
/// Largest element along one axis and the index of its first occurrence (which gets the cotangent). @throws ShapeError for
/// an empty axis
/// @{
SOLVENT_API ValueAndIndex max_with_arg(Tensor x, std::int64_t axis, bool keepdims = false);
SOLVENT_API ValueAndIndex min_with_arg(Tensor x, std::int64_t axis, bool keepdims = false);
SOLVENT_API Tensor max(Tensor x, std::int64_t axis, bool keepdims = false);
SOLVENT_API Tensor min(Tensor x, std::int64_t axis, bool keepdims = false);
/// @}
/// Over all elements (a 0-d tensor). @throws ShapeError for an empty tensor
/// @{
SOLVENT_API Tensor max(Tensor x);
SOLVENT_API Tensor min(Tensor x);
/// @}
/// Index (int64) of the first largest or smallest element along one axis; a constant. @throws ShapeError for an empty
/// axis
/// @{
SOLVENT_API Tensor argmax(const Tensor& x, std::int64_t axis, bool keepdims = false);
SOLVENT_API Tensor argmin(const Tensor& x, std::int64_t axis, bool keepdims = false);
/// @}
/// Whether all / any elements of a bool tensor hold.
/// @{
SOLVENT_API Tensor all(const Tensor& x);
SOLVENT_API Tensor any(const Tensor& x);
/// @}

/// log(sum(exp(x))) without overflow; -inf for a row of -inf.
SOLVENT_API Tensor logsumexp(Tensor x, std::int64_t axis = -1, bool keepdims = false);
/// exp(x) / sum(exp(x)) along an axis, without overflow; NaN for a row of -inf.
SOLVENT_API Tensor softmax(Tensor x, std::int64_t axis = -1);
/// x - logsumexp(x) along an axis: the logarithm of softmax without loss of digits.
SOLVENT_API Tensor log_softmax(Tensor x, std::int64_t axis = -1);
/// (x - mean) / sqrt(var + eps) over the last axis (Ba et al. 2016); scale and shift are separate operations.
SOLVENT_API Tensor layer_norm(Tensor x, double eps = 1e-5);

}  // namespace solvent
