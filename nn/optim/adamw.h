#pragma once
/// Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101), as PyTorch's `torch.optim.AdamW`.

#include "solvent/nn/optim/adam.h"

namespace solvent::nn {

/// Like Adam, but the decay acts on the parameter itself: p <- (1 - lr weight_decay) p before the step.
class SOLVENT_API AdamW final : public Adam {
 public:
  /// PyTorch's default decay is 1e-2; here it is whatever `options` says (0 if not given).
  /// @throws ValueError as Adam
  explicit AdamW(AdamOptions options = {}) : Adam("AdamW", options, Decay::decoupled) {}
};

}  // namespace solvent::nn
