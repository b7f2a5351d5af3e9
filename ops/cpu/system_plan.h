#pragma once
/// How the right-hand sides of batched linear systems are gathered, so that each distinct matrix is factored once.

#include "solvent/core/tensor.h"

namespace solvent::cpu {

/// Leading axes are of two kinds: `own` ones, along which matrices differ, and shared ones (stride 0 in `a`).
struct SystemPlan {
  Tensor matrices;         // (own..., n, n), own memory
  Tensor rhs;              // (own..., n, shared..., k), own memory, holds b and then x
  Strides result;          // strides of `rhs` in the axis order of b
  std::int64_t count = 1;  // number of matrices
  std::int64_t columns = 1;
};

/// a (..., n, n), b (..., n, k) with equal leading axes and any strides; b is not empty.
SystemPlan plan_systems(const Tensor& a, const Tensor& b);

}  // namespace solvent::cpu
