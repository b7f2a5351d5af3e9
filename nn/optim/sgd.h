#pragma once
/// Stochastic gradient descent with momentum, as PyTorch's `torch.optim.SGD`.

#include "solvent/nn/optim/optimizer.h"

namespace solvent::nn {

/// Options of Sgd.
struct SgdOptions {
  double learning_rate = 1e-2;  ///< step size
  double momentum = 0.0;        ///< decay of the velocity; 0: no velocity is kept
  double dampening = 0.0;       ///< part of a gradient that does not enter the velocity
  double weight_decay = 0.0;    ///< added to the gradient times the parameter
  bool nesterov = false;        ///< Nesterov's momentum
};

/// g <- grad + weight_decay p;  v <- g (first step), then momentum v + (1 - dampening) g;
/// p <- p - lr (g + momentum v) with Nesterov's momentum, else p - lr v.
class SOLVENT_API Sgd final : public Optimizer {
 public:
  /// @throws ValueError for a negative rate, momentum or decay, or Nesterov without momentum or with dampening
  explicit Sgd(SgdOptions options = {});

  /// For schedules of the momentum (one-cycle training). @throws ValueError as the constructor, and if an optimizer made
  /// without momentum gets one, or one made with it loses it
  void set_momentum(double momentum);

 private:
  void update_block(float* p, const float* g, float* const* state, std::int64_t count,
                    const StepContext& context) const noexcept override;
  void update_block(double* p, const double* g, double* const* state, std::int64_t count,
                    const StepContext& context) const noexcept override;
  void update_on_device(const detail::DeviceUpdates& updates, const StepContext& context) const override;

  SgdOptions options_;
};

}  // namespace solvent::nn
