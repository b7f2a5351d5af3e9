#include "solvent/nn/optim/adamax.h"

#include <cmath>

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/nn/cpu/optim_kernels.h"

namespace solvent::nn {

namespace {

AdamaxOptions checked(AdamaxOptions o) {
  const auto is_beta = [](double beta) { return beta >= 0 && beta < 1; };
  if (!is_beta(o.beta1) || !is_beta(o.beta2))
    throw ValueError(fmt::format("[Adamax] got beta1 {} and beta2 {}; expected 0 <= beta < 1.", o.beta1, o.beta2));
  if (!(o.eps >= 0)) throw ValueError(fmt::format("[Adamax] got eps {}; expected a number >= 0.", o.eps));
  return o;
}

}  // namespace

Adamax::Adamax(AdamaxOptions options)
    : Optimizer("Adamax", options.learning_rate, options.weight_decay, {"exp_avg", "exp_inf"}),
      options_(checked(options)) {}

template <class T>
void Adamax::update(T* p, const T* g, T* const* state, std::int64_t count, const StepContext& context) const noexcept {
  const cpu::AdamaxScalars scalars{
      .beta1 = options_.beta1,
      .beta2 = options_.beta2,
      .step_size = context.learning_rate / (1.0 - std::pow(options_.beta1, static_cast<double>(context.step))),
      .eps = options_.eps,
      .weight_decay = context.weight_decay};
  cpu::adamax_update(p, g, state[0], state[1], count, scalars);
}

void Adamax::update_block(float* p, const float* g, float* const* state, std::int64_t count,
                          const StepContext& context) const noexcept {
  update(p, g, state, count, context);
}
void Adamax::update_block(double* p, const double* g, double* const* state, std::int64_t count,
                          const StepContext& context) const noexcept {
  update(p, g, state, count, context);
}

}  // namespace solvent::nn
