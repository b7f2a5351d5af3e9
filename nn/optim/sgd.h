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

/// What sgd_step returns.
struct SgdStep {
  Tensors parameters;  ///< after the step
  Tensors velocities;  ///< the same; none without momentum
};

/// One step of Sgd as a function of tensors: what is recorded with graph(), where an optimizer, which changes itself, has no
/// place. On a GPU one launch updates up to 64 parameters. Parameters and velocities that nobody else holds are updated in place.
///
/// `velocities` are as many as `parameters`, zeros before the first step (so that the first gradient is dampened, too), or
/// none without momentum.
///
///     const nn::SgdStep next = nn::sgd_step(parameters, velocities, grads, {.learning_rate = 0.1, .momentum = 0.9});
///
/// @throws ShapeError, DtypeError, DeviceError if a gradient or a velocity does not fit its parameter; AutodiffError for
/// tensors that are being differentiated; ValueError for options that Sgd refuses
[[nodiscard]] SOLVENT_API SgdStep sgd_step(Tensors parameters, Tensors velocities, const Tensors& grads,
                                           const SgdOptions& options);

}  // namespace solvent::nn
