#include "solvent/nn/optim/adam.h"

#include <cmath>

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/nn/cpu/optim_kernels.h"

namespace solvent::nn {

namespace {

AdamOptions checked(const std::string& name, AdamOptions o) {
  const auto is_beta = [](double beta) { return beta >= 0 && beta < 1; };
  if (!is_beta(o.beta1) || !is_beta(o.beta2))
    throw ValueError(fmt::format("[{}] got beta1 {} and beta2 {}; expected 0 <= beta < 1.", name, o.beta1, o.beta2));
  if (!(o.eps >= 0) || !(o.weight_decay >= 0))
    throw ValueError(
        fmt::format("[{}] got eps {} and weight_decay {}; expected both >= 0.", name, o.eps, o.weight_decay));
  return o;
}

}  // namespace

Adam::Adam(AdamOptions options) : Adam("Adam", options, Decay::coupled) {}

Adam::Adam(std::string name, AdamOptions options, Decay decay)
    : Optimizer(name, options.learning_rate, {"exp_avg", "exp_avg_sq"}),
      options_(checked(name, options)),
      decay_(decay) {}

void Adam::begin_step(std::int64_t step) noexcept {
  const auto t = static_cast<double>(step);
  step_size_ = learning_rate() / (1.0 - std::pow(options_.beta1, t));
  inverse_root_ = 1.0 / std::sqrt(1.0 - std::pow(options_.beta2, t));
}

template <class T>
void Adam::update(T* p, const T* g, T* const* state, std::int64_t count) const noexcept {
  const bool coupled = decay_ == Decay::coupled;
  const cpu::AdamScalars scalars{.beta1 = options_.beta1,
                                 .beta2 = options_.beta2,
                                 .step_size = step_size_,
                                 .inverse_root = inverse_root_,
                                 .eps = options_.eps,
                                 .coupled_decay = coupled ? options_.weight_decay : 0.0,
                                 .parameter_weight = coupled ? 1.0 : 1.0 - learning_rate() * options_.weight_decay};
  cpu::adam_update(p, g, state[0], state[1], count, scalars);
}

void Adam::update_block(float* p, const float* g, float* const* state, std::int64_t count) const noexcept {
  update(p, g, state, count);
}
void Adam::update_block(double* p, const double* g, double* const* state, std::int64_t count) const noexcept {
  update(p, g, state, count);
}

}  // namespace solvent::nn
