#include "solvent/nn/optim/adam.h"

#include <cmath>

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/nn/cpu/optim_kernels.h"
#if SOLVENT_WITH_CUDA
#include "solvent/nn/cuda/optim_kernels.h"
#endif

namespace solvent::nn {

namespace {

AdamOptions checked(const std::string& name, AdamOptions o) {
  const auto is_beta = [](double beta) { return beta >= 0 && beta < 1; };
  if (!is_beta(o.beta1) || !is_beta(o.beta2))
    throw ValueError(fmt::format("[{}] got beta1 {} and beta2 {}; expected 0 <= beta < 1.", name, o.beta1, o.beta2));
  if (!(o.eps >= 0)) throw ValueError(fmt::format("[{}] got eps {}; expected a number >= 0.", name, o.eps));
  return o;
}

std::vector<std::string> state_names(const AdamOptions& o) {
  std::vector<std::string> names{"exp_avg", "exp_avg_sq"};
  if (o.amsgrad) names.emplace_back("max_exp_avg_sq");
  return names;
}

template <class Context>
cpu::AdamScalars scalars_of(const AdamOptions& o, bool coupled, const Context& context) {
  const auto t = static_cast<double>(context.step);
  return {.beta1 = o.beta1,
          .beta2 = o.beta2,
          .step_size = context.learning_rate / (1.0 - std::pow(o.beta1, t)),
          .inverse_root = 1.0 / std::sqrt(1.0 - std::pow(o.beta2, t)),
          .eps = o.eps,
          .coupled_decay = coupled ? context.weight_decay : 0.0,
          .parameter_weight = coupled ? 1.0 : 1.0 - context.learning_rate * context.weight_decay};
}

}  // namespace

Adam::Adam(AdamOptions options) : Adam("Adam", options, Decay::coupled) {}

Adam::Adam(std::string name, AdamOptions options, Decay decay)
    : Optimizer(name, options.learning_rate, options.weight_decay, state_names(options)),
      options_(checked(name, options)),
      decay_(decay) {}

void Adam::set_beta1(double beta1) {
  AdamOptions next = options_;
  next.beta1 = beta1;
  options_ = checked("Adam", next);
}

void Adam::update_block(float* p, const float* g, float* const* state, std::int64_t count,
                        const StepContext& context) const noexcept {
  cpu::adam_update(p, g, state[0], state[1], state[2], count, scalars_of(options_, decay_ == Decay::coupled, context));
}
void Adam::update_block(double* p, const double* g, double* const* state, std::int64_t count,
                        const StepContext& context) const noexcept {
  cpu::adam_update(p, g, state[0], state[1], state[2], count, scalars_of(options_, decay_ == Decay::coupled, context));
}

void Adam::update_on_device(const detail::DeviceUpdates& updates, const StepContext& context) const {
#if SOLVENT_WITH_CUDA
  cuda::adam_update(updates, scalars_of(options_, decay_ == Decay::coupled, context));
#else
  Optimizer::update_on_device(updates, context);
#endif
}

}  // namespace solvent::nn
