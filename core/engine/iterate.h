#pragma once
/// Walking several strided operands together. Axes are merged where all operands allow it, so that most calls become a
/// single contiguous run; the rest are visited run by run along the innermost merged axis.

#include <algorithm>
#include <cstdint>

#include "solvent/core/parallel.h"
#include "solvent/core/shape.h"

namespace solvent::engine {

/// Largest number of operands walked together.
inline constexpr int kMaxOperands = 6;

/// The merged iteration space of up to kMaxOperands operands of equal shape.
struct Loops {
  int rank = 0;                                      ///< after merging; 0 means exactly one element
  std::int64_t extent[kMaxRank] = {};                ///< outermost first
  std::int64_t stride[kMaxOperands][kMaxRank] = {};  ///< in elements
  std::int64_t total = 1;                            ///< product of extents (0 if any extent is 0)

  /// Elements of a run.
  [[nodiscard]] std::int64_t inner() const noexcept { return rank == 0 ? 1 : extent[rank - 1]; }
  /// Distance between the elements of a run of operand `op`.
  [[nodiscard]] std::int64_t inner_stride(int op) const noexcept { return rank == 0 ? 1 : stride[op][rank - 1]; }
  /// Number of runs.
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

/// Elements per block of parallel elementwise work.
inline constexpr std::int64_t kElementGrain = 32768;

/// Calls body(offsets, count) for runs that cover the whole space: `count` elements from offsets[op] with
/// loops.inner_stride(op). Runs are split and grouped into blocks of about kElementGrain elements, which are spread over
/// threads. body must not throw.
template <class Body>
void parallel_runs(const Loops& loops, int operands, Body&& body) {
  if (loops.total == 0) return;
  const std::int64_t inner = loops.inner();
  const std::int64_t outer = loops.total / inner;
  if (outer == 1) {
    parallel_for(inner, kElementGrain, [&](std::int64_t begin, std::int64_t end) {
      std::int64_t offsets[kMaxOperands];
      for (int op = 0; op < operands; ++op) offsets[op] = begin * loops.inner_stride(op);
      body(offsets, end - begin);
    });
    return;
  }
  const std::int64_t grain = std::max<std::int64_t>(1, kElementGrain / inner);
  parallel_for(outer, grain, [&](std::int64_t begin, std::int64_t end) {
    std::int64_t offsets[kMaxOperands];
    std::int64_t index[kMaxRank] = {};
    run_offsets(loops, begin, operands, offsets);
    for (std::int64_t rest = begin, axis = loops.rank - 2; axis >= 0; --axis) {
      index[axis] = rest % loops.extent[axis];
      rest /= loops.extent[axis];
    }
    for (std::int64_t run = begin;;) {
      body(static_cast<const std::int64_t*>(offsets), inner);
      if (++run == end) break;
      for (int axis = loops.rank - 2; axis >= 0; --axis) {  // odometer
        for (int op = 0; op < operands; ++op) offsets[op] += loops.stride[op][axis];
        if (++index[axis] < loops.extent[axis]) break;
        for (int op = 0; op < operands; ++op) offsets[op] -= loops.extent[axis] * loops.stride[op][axis];
        index[axis] = 0;
      }
    }
  });
}

}  // namespace solvent::engine
