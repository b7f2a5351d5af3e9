#include "solvent/nn/optim/sgd.h"

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/nn/cpu/optim_kernels.h"
#if SOLVENT_WITH_CUDA
#include "solvent/nn/cuda/optim_kernels.h"
#endif

namespace solvent::nn {

namespace {

SgdOptions checked(SgdOptions o) {
  if (!(o.momentum >= 0)) throw ValueError(fmt::format("[Sgd] got momentum {}; expected a number >= 0.", o.momentum));
  if (o.nesterov && (o.momentum == 0 || o.dampening != 0))
    throw ValueError(
        fmt::format("[Sgd] got nesterov with momentum {} and dampening {}; it needs momentum > 0 and dampening 0.",
                    o.momentum, o.dampening));
  return o;
}

template <class Context>
cpu::SgdScalars scalars_of(const SgdOptions& o, const Context& context) {
  const bool first = context.step == 1;
  return {.rate = context.learning_rate,
          .momentum = o.momentum,
          .gradient_weight = first ? 1.0 : 1.0 - o.dampening,
          .momentum_weight = first ? 0.0 : o.momentum,
          .weight_decay = context.weight_decay,
          .nesterov = o.nesterov};
}

}  // namespace

Sgd::Sgd(SgdOptions options)
    : Optimizer("Sgd", options.learning_rate, options.weight_decay,
                options.momentum != 0 ? std::vector<std::string>{"momentum"} : std::vector<std::string>{}),
      options_(checked(options)) {}

void Sgd::set_momentum(double momentum) {
  SgdOptions next = options_;
  next.momentum = momentum;
  if ((checked(next).momentum == 0) != (options_.momentum == 0))
    throw ValueError(
        fmt::format("[Sgd] got momentum {} after {}; zero and other momenta have different states. Make another "
                    "optimizer.",
                    momentum, options_.momentum));
  options_ = next;
}

void Sgd::update_block(float* p, const float* g, float* const* state, std::int64_t count,
                       const StepContext& context) const noexcept {
  cpu::sgd_update(p, g, state[0], count, scalars_of(options_, context));
}
void Sgd::update_block(double* p, const double* g, double* const* state, std::int64_t count,
                       const StepContext& context) const noexcept {
  cpu::sgd_update(p, g, state[0], count, scalars_of(options_, context));
}

void Sgd::update_on_device(const detail::DeviceUpdates& updates, const StepContext& context) const {
#if SOLVENT_WITH_CUDA
  cuda::sgd_update(updates, scalars_of(options_, context));
#else
  Optimizer::update_on_device(updates, context);
#endif
}

}  // namespace solvent::nn
