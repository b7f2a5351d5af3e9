#pragma once
/// Limits on gradients.

#include <vector>

#include "solvent/core/tensor.h"

namespace solvent::nn {

/// Gradients within a limit.
struct ClippedGrads {
  Tensors grads;    ///< as they came, or scaled
  double norm = 0;  ///< before clipping; not finite if a gradient is not
};

/// Square root of the sum of all squares, accumulated in float64 in a fixed order.
/// @throws DtypeError for tensors that are not floating; AutodiffError for differentiated ones
SOLVENT_API double global_norm(const Tensors& grads);

/// Scales all gradients by min(1, max_norm / (norm + eps)), as PyTorch's `clip_grad_norm_`. Gradients within the limit
/// are returned as they are. Non-finite gradients are not repaired: look at `norm`.
/// @throws ValueError unless max_norm > 0 and eps >= 0
SOLVENT_API ClippedGrads clip_by_global_norm(Tensors grads, double max_norm, double eps = 1e-6);

/// Gradients each within a limit.
struct SeparatelyClippedGrads {
  Tensors grads;              ///< as they came, or scaled
  std::vector<double> norms;  ///< of each gradient, before clipping
};

/// clip_by_global_norm of each gradient by itself. @throws as clip_by_global_norm
SOLVENT_API SeparatelyClippedGrads clip_each_by_norm(Tensors grads, double max_norm, double eps = 1e-6);

/// Limits every element to [-limit, limit], as PyTorch's `clip_grad_value_`; NaN stays NaN.
/// @throws ValueError unless limit > 0
SOLVENT_API Tensors clip_by_value(Tensors grads, double limit);

}  // namespace solvent::nn
