#pragma once
/// Sorting along an axis. All orders are stable (equal elements keep their order, also when descending) and total: a NaN
/// counts as larger than every number and -0 equals 0, so NaNs come last in ascending and first in descending order.
/// Values differentiate to any order: the result is a gather by the index, whose cotangent is scattered back.

#include "solvent/ops/reduce.h"

namespace solvent {

/// Elements in order along an axis, and where each one was. float32, float64 or int64. @throws ShapeError, DtypeError
SOLVENT_API ValueAndIndex sort(Tensor x, std::int64_t axis = -1, bool descending = false);
/// The int64 index of `sort` alone: gather(x, argsort(x, axis), axis) is sorted.
SOLVENT_API Tensor argsort(const Tensor& x, std::int64_t axis = -1, bool descending = false);
/// The k largest (or smallest) elements along an axis in descending (ascending) order and their int64 positions: the first
/// k of `sort`, at less cost. @throws ValueError unless 0 <= k <= extent; ShapeError, DtypeError
SOLVENT_API ValueAndIndex topk(Tensor x, std::int64_t k, std::int64_t axis = -1, bool largest = true);

}  // namespace solvent
