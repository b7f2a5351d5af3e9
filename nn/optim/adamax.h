#pragma once
/// Adamax (Kingma and Ba 2015, arXiv:1412.6980, algorithm 2), as PyTorch's `torch.optim.Adamax`.

#include "solvent/nn/optim/optimizer.h"

namespace solvent::nn {

/// Options of Adamax; defaults are PyTorch's.
struct AdamaxOptions {
  double learning_rate = 2e-3;  ///< step size
  double beta1 = 0.9;           ///< decay of the first moment
  double beta2 = 0.999;         ///< decay of the largest gradient
  double eps = 1e-8;            ///< added to |g|
  double weight_decay = 0.0;    ///< added to the gradient times the parameter
};

/// g <- grad + weight_decay p;  m <- b1 m + (1 - b1) g;  u <- max(b2 u, |g| + eps);  p <- p - lr / (1 - b1^t) m / u.
class SOLVENT_API Adamax final : public Optimizer {
 public:
  /// @throws ValueError unless rate, eps, decay >= 0 and 0 <= beta < 1
  explicit Adamax(AdamaxOptions options = {});

 private:
  void update_block(float* p, const float* g, float* const* state, std::int64_t count,
                    const StepContext& context) const noexcept override;
  void update_block(double* p, const double* g, double* const* state, std::int64_t count,
                    const StepContext& context) const noexcept override;
  void update_on_device(const detail::DeviceUpdates& updates, const StepContext& context) const override;

  AdamaxOptions options_;
};

}  // namespace solvent::nn
