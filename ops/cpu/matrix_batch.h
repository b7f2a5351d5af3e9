#pragma once
/// Batches of matrices in the kernels: counting, copying, and splitting them over threads.

#include <algorithm>
#include <cstdint>

#include "solvent/core/engine/view.h"
#include "solvent/core/parallel.h"

namespace solvent::cpu {

inline Tensor dense_copy(const Tensor& a) {
  Tensor copy = engine::empty(a.shape(), a.dtype(), a.device());
  engine::copy_into(a, copy);
  return copy;
}

/// Number of matrices in a (..., m, n).
inline std::int64_t matrix_count(const Tensor& a) {
  std::int64_t count = 1;
  for (int axis = 0; axis < a.rank() - 2; ++axis) count *= a.shape()[axis];
  return count;
}

/// Matrices per task for at least about 20 us of work.
inline std::int64_t grain_for(std::int64_t flops) {
  return std::max<std::int64_t>(1, (1 << 16) / std::max<std::int64_t>(flops, 1));
}

/// A batch split into a few tasks, each with its own working memory.
struct Tasks {
  Tasks(std::int64_t matrices, std::int64_t flops) : count(matrices) {
    constexpr std::int64_t kMost = 32;
    const std::int64_t grain = grain_for(flops);
    number = std::min(kMost, (count + grain - 1) / grain);
    const std::int64_t divisor = std::max<std::int64_t>(number, 1);
    share = (count + divisor - 1) / divisor;
  }
  /// Calls body(task, matrix) for every matrix.
  template <class Body>
  void run(const Body& body) const {
    parallel_for(number, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t task = begin; task < end; ++task)
        for (std::int64_t i = task * share; i < std::min(count, (task + 1) * share); ++i) body(task, i);
    });
  }

  std::int64_t count;
  std::int64_t number;
  std::int64_t share;
};

}  // namespace solvent::cpu
