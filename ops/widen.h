#pragma once
/// bfloat16 operands as float32 and back, for kernels that have no bfloat16 form of their own. Internal to ops/.

#include "solvent/core/tensor.h"

namespace solvent::detail {

/// The values of a bfloat16 tensor as float32, on its device. Axes keep their order in memory, so that a transposed matrix is
/// still a transposed one, and axes of stride 0 stay so.
Tensor widened(const Tensor& x);

/// Rounds a float32 tensor to bfloat16.
Tensor narrowed(Tensor x);

}  // namespace solvent::detail
