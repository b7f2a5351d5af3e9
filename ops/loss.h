#pragma once
/// Losses; all return a 0-d mean over the batch.

#include "solvent/autodiff/basis.h"

namespace solvent {

/// Mean over rows of -log softmax(logits)[label]: logits (..., C), labels int64 (...). One fused operation.
/// @throws ShapeError, DtypeError; ValueError for a label outside [0, C). On a GPU that error comes later (core/stream.h), and
/// the label makes the loss and its row of the gradient NaN.
SOLVENT_API Tensor cross_entropy(Tensor logits, Tensor labels);
/// Mean of (a - b)^2.
SOLVENT_API Tensor mse_loss(Tensor prediction, Tensor target);

}  // namespace solvent
