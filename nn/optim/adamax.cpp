#include "solvent/nn/optim/adamax.h"

#include <cmath>

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/nn/cpu/optim_kernels.h"
#if SOLVENT_WITH_CUDA
#include "solvent/nn/cuda/optim_kernels.h"
#endif

namespace solvent::nn {

namespace {

AdamaxOptions checked(AdamaxOptions o) {
  const auto is_beta = [](double beta) { return beta >= 0 && beta < 1; };
  if (!is_beta(o.beta1) || !is_beta(o.beta2))
    throw ValueError(fmt::format("[Adamax] got beta1 {} and beta2 {}; expected 0 <= beta < 1.", o.beta1, o.beta2));
  if (!(o.eps >= 0)) throw ValueError(fmt::format("[Adamax] got eps {}; expected a number >= 0.", o.eps));
  return o;
}

template <class Context>
cpu::AdamaxScalars scalars_of(const AdamaxOptions& o, const Context& context) {
  return {.beta1 = o.beta1,
          .beta2 = o.beta2,
          .step_size = context.learning_rate / (1.0 - std::pow(o.beta1, static_cast<double>(context.step))),
          .eps = o.eps,
          .weight_decay = context.weight_decay};
}

}  // namespace

Adamax::Adamax(AdamaxOptions options)
    : Optimizer("Adamax", options.learning_rate, options.weight_decay, {"exp_avg", "exp_inf"}),
      options_(checked(options)) {}

void Adamax::update_block(float* p, const float* g, float* const* state, std::int64_t count,
                          const StepContext& context) const noexcept {
  cpu::adamax_update(p, g, state[0], state[1], count, scalars_of(options_, context));
}
void Adamax::update_block(double* p, const double* g, double* const* state, std::int64_t count,
                          const StepContext& context) const noexcept {
  cpu::adamax_update(p, g, state[0], state[1], count, scalars_of(options_, context));
}

void Adamax::update_on_device(const detail::DeviceUpdates& updates, const StepContext& context) const {
#if SOLVENT_WITH_CUDA
  cuda::adamax_update(updates, scalars_of(options_, context));
#else
  Optimizer::update_on_device(updates, context);
#endif
}

}  // namespace solvent::nn
