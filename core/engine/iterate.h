#pragma once
/// Walking several strided operands together. Axes are merged where all operands allow it, so that most calls become a
/// single contiguous run; the rest are visited run by run along the innermost merged axis.

#include <cstdint>

#include "solvent/core/shape.h"

namespace solvent::engine {

inline constexpr int kMaxOperands = 6;

/// The merged iteration space of up to kMaxOperands operands of equal shape.
struct Loops {
  int rank = 0;                                     // after merging; 0 means exactly one element
  std::int64_t extent[kMaxRank] = {};               // outermost first
  std::int64_t stride[kMaxOperands][kMaxRank] = {}; // in elements
  std::int64_t total = 1;                           // product of extents (0 if any extent is 0)

  [[nodiscard]] std::int64_t inner() const noexcept { return rank == 0 ? 1 : extent[rank - 1]; }
  [[nodiscard]] std::int64_t inner_stride(int op) const noexcept { return rank == 0 ? 1 : stride[op][rank - 1]; }
  [[nodiscard]] std::int64_t outer() const noexcept { return total == 0 ? 0 : total / inner(); }
};

/// Merges axes. `strides[i]` points to operand i's strides (all for `shape`). Extent-1 axes are dropped.
inline Loops merge_axes(const Shape& shape, const Strides* const* strides, int operands) noexcept {
  Loops loops;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    const std::int64_t n = shape[axis];
    loops.total *= n;
    if (n == 1) continue;
    bool mergeable = loops.rank > 0;
    for (int op = 0; op < operands && mergeable; ++op)
      mergeable = loops.stride[op][loops.rank - 1] == (*strides[op])[axis] * n;
    if (mergeable) {
      loops.extent[loops.rank - 1] *= n;
    } else {
      loops.extent[loops.rank++] = n;
    }
    for (int op = 0; op < operands; ++op) loops.stride[op][loops.rank - 1] = (*strides[op])[axis];
  }
  return loops;
}

/// Offsets of run `index` (0 <= index < loops.outer()) of every operand, in elements.
inline void run_offsets(const Loops& loops, std::int64_t index, int operands, std::int64_t* offsets) noexcept {
  for (int op = 0; op < operands; ++op) offsets[op] = 0;
  for (int axis = loops.rank - 2; axis >= 0; --axis) {
    const std::int64_t i = index % loops.extent[axis];
    index /= loops.extent[axis];
    for (int op = 0; op < operands; ++op) offsets[op] += i * loops.stride[op][axis];
  }
}

}  // namespace solvent::engine
