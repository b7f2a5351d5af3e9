#pragma once
/// Adam (Kingma and Ba 2015, arXiv:1412.6980), as PyTorch's `torch.optim.Adam`.

#include "solvent/nn/optim/optimizer.h"

namespace solvent::nn {

/// Options of Adam and AdamW; defaults are the paper's.
struct AdamOptions {
  double learning_rate = 1e-3;  ///< step size
  double beta1 = 0.9;           ///< decay of the first moment
  double beta2 = 0.999;         ///< decay of the second moment
  double eps = 1e-8;            ///< added to the root of the bias-corrected second moment
  double weight_decay = 0.0;    ///< Adam: added to the gradient; AdamW: see there
  /// AMSGrad (Reddi et al. 2018, arXiv:1904.09237): the largest v so far takes v's place in the step.
  bool amsgrad = false;
};

/// m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;
/// p <- p - lr / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + eps).
class SOLVENT_API Adam : public Optimizer {
 public:
  /// @throws ValueError unless rate, eps, decay >= 0 and 0 <= beta < 1
  explicit Adam(AdamOptions options = {});

  /// For schedules of the momentum (one-cycle training). @throws ValueError unless 0 <= beta1 < 1
  void set_beta1(double beta1);

 protected:
  /// Where weight decay acts: on the gradient, or on the parameter itself (AdamW).
  enum class Decay : bool { coupled, decoupled };
  /// For variants. @throws as the public constructor
  Adam(std::string name, AdamOptions options, Decay decay);

 private:
  void update_block(float* p, const float* g, float* const* state, std::int64_t count,
                    const StepContext& context) const noexcept override;
  void update_block(double* p, const double* g, double* const* state, std::int64_t count,
                    const StepContext& context) const noexcept override;
  void update_on_device(const detail::DeviceUpdates& updates, const StepContext& context) const override;

  AdamOptions options_;
  Decay decay_;
};

}  // namespace solvent::nn
