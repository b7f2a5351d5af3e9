#pragma once
/// CPU kernel of sort, argsort and topk.

#include <utility>

#include "solvent/core/tensor.h"

namespace solvent::cpu {

/// Positions along a line are kept in 32 bits while it is sorted.
inline constexpr std::int64_t kMaxSortExtent = 0xffffffff;

/// The first `count` elements of every line along `axis` in stable order and their positions. Any strides.
std::pair<Tensor, Tensor> sort(const Tensor& x, int axis, std::int64_t count, bool descending);

}  // namespace solvent::cpu
