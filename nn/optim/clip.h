#pragma once
/// Limits on gradients.

#include "solvent/core/tensor.h"

namespace solvent::nn {

struct ClippedGrads {
  Tensors grads;
  double norm = 0;  ///< before clipping; not finite if a gradient is not
};

/// Square root of the sum of all squares, accumulated in float64 in a fixed order.
/// @throws DtypeError for tensors that are not floating; AutodiffError for differentiated ones
SOLVENT_API double global_norm(const Tensors& grads);

/// Scales all gradients by min(1, max_norm / (norm + 1e-6)), as PyTorch's `clip_grad_norm_`. Gradients within the limit
/// are returned as they are. Non-finite gradients are not repaired: look at `norm`.
/// @throws ValueError unless max_norm > 0
SOLVENT_API ClippedGrads clip_by_global_norm(Tensors grads, double max_norm);

}  // namespace solvent::nn
