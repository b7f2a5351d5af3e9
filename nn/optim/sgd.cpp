#include "solvent/nn/optim/sgd.h"

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/nn/cpu/optim_kernels.h"

namespace solvent::nn {

namespace {

SgdOptions checked(SgdOptions o) {
  if (!(o.momentum >= 0) || !(o.weight_decay >= 0))
    throw ValueError(
        fmt::format("[Sgd] got momentum {} and weight_decay {}; expected both >= 0.", o.momentum, o.weight_decay));
  if (o.nesterov && (o.momentum == 0 || o.dampening != 0))
    throw ValueError(
        fmt::format("[Sgd] got nesterov with momentum {} and dampening {}; it needs momentum > 0 and dampening 0.",
                    o.momentum, o.dampening));
  return o;
}

cpu::SgdScalars scalars_of(const SgdOptions& o, double rate, bool first) {
  return {.rate = rate,
          .momentum = o.momentum,
          .gradient_weight = first ? 1.0 : 1.0 - o.dampening,
          .momentum_weight = first ? 0.0 : o.momentum,
          .weight_decay = o.weight_decay,
          .nesterov = o.nesterov};
}

}  // namespace

Sgd::Sgd(SgdOptions options)
    : Optimizer("Sgd", options.learning_rate,
                options.momentum != 0 ? std::vector<std::string>{"momentum"} : std::vector<std::string>{}),
      options_(checked(options)) {}

void Sgd::update_block(float* p, const float* g, float* const* state, std::int64_t count) const noexcept {
  cpu::sgd_update(p, g, state[0], count, scalars_of(options_, learning_rate(), first_));
}
void Sgd::update_block(double* p, const double* g, double* const* state, std::int64_t count) const noexcept {
  cpu::sgd_update(p, g, state[0], count, scalars_of(options_, learning_rate(), first_));
}

}  // namespace solvent::nn
