#include "solvent/nn/optim/sgd.h"

#include <utility>
#include <vector>

#include <fmt/format.h>

#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/core/parallel.h"
#include "solvent/nn/cpu/optim_kernels.h"
#if SOLVENT_WITH_CUDA
#include "solvent/nn/cuda/optim_kernels.h"
#include "solvent/nn/optim/device_updates.h"
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

// --- sgd_step -----------------------------------------------------------------------------------------------------------------

namespace {

void check_operand(const char* what, std::size_t i, const Tensor& p, const Tensor& t) {
  if (!p.defined() || !t.defined())
    throw ShapeError(fmt::format("[sgd_step] parameter or {} {} is an empty handle; expected tensors.", what, i));
  if (engine::is_boxed(p) || engine::is_boxed(t))
    throw AutodiffError(
        fmt::format("[sgd_step] parameter or {} {} is being differentiated; expected plain tensors. Step outside the "
                    "transform, or write the update with ops.",
                    what, i));
  if (!is_floating(p.dtype()) || is_storage_type(p.dtype()))
    throw DtypeError(
        fmt::format("[sgd_step] parameter {} is a {}; expected float32 or float64. Use cast.", i, describe(p)));
  if (p.shape() != t.shape())
    throw ShapeError(fmt::format("[sgd_step] parameter {} is a {} and its {} a {}; expected the same shape.", i,
                                 describe(p), what, describe(t)));
  if (p.dtype() != t.dtype())
    throw DtypeError(fmt::format("[sgd_step] parameter {} is a {} and its {} a {}; expected the same dtype. Use cast.",
                                 i, describe(p), what, describe(t)));
  if (!(p.device() == t.device()))
    throw DeviceError(
        fmt::format("[sgd_step] parameter {} is on {} and its {} on {}; expected one device. Use to(x, device).", i,
                    to_string(p.device()), what, to_string(t.device())));
}

void check_operands(const Tensors& parameters, const Tensors& velocities, const Tensors& grads, bool has_momentum) {
  const std::size_t count = parameters.size();
  if (grads.size() != count || velocities.size() != (has_momentum ? count : 0))
    throw ShapeError(
        fmt::format("[sgd_step] got {} parameters, {} velocities and {} gradients; expected as many of each, and no "
                    "velocities without momentum.",
                    count, velocities.size(), grads.size()));
  for (std::size_t i = 0; i < count; ++i) {
    check_operand("gradient", i, parameters[i], grads[i]);
    if (has_momentum) check_operand("velocity", i, parameters[i], velocities[i]);
  }
}

void update_on_host(Tensor& p, Tensor* v, const Tensor& g, const cpu::SgdScalars& scalars) {
  const auto own = [](Tensor& t) {
    if (engine::can_donate(t)) return;
    Tensor copy = engine::empty(t.shape(), t.dtype(), t.device());
    engine::copy_into(t, copy);
    t = std::move(copy);
  };
  own(p);
  if (v != nullptr) own(*v);
  dispatch_float(p.dtype(), "sgd_step", [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* const to = engine::mutable_ptr<T>(p);
    T* const velocity = v != nullptr ? engine::mutable_ptr<T>(*v) : nullptr;
    const T* const from = engine::ptr<T>(g);
    parallel_for(p.numel(), cpu::kOptimGrain, [&](std::int64_t begin, std::int64_t end) noexcept {
      cpu::sgd_update(to + begin, from + begin, velocity != nullptr ? velocity + begin : nullptr, end - begin, scalars);
    });
  });
}

#if SOLVENT_WITH_CUDA

// Updates of one dtype on one device, and what they read.
struct DeviceStep {
  detail::DeviceUpdates updates;
  std::vector<detail::DeviceUpdate> items;
  Tensors old;  // read by the kernel
};

// Puts the tensor that is written in the place of `t`, which is itself if nobody else holds it. @returns where to write; sets
// `from` to where to read if that is another place.
template <class T>
void* target_of(Tensor& t, const void*& from, Tensors& old) {
  if (!engine::can_donate(t)) {
    old.push_back(engine::contiguous(t));
    from = engine::ptr<T>(old.back());
    t = engine::empty(t.shape(), t.dtype(), t.device());
  }
  return engine::mutable_ptr<T>(t);
}

void add_update(std::vector<DeviceStep>& steps, Tensor& p, Tensor* v, const Tensor& g) {
  DeviceStep* step = nullptr;
  for (DeviceStep& s : steps)
    if (s.updates.device == p.device() && s.updates.dtype == p.dtype()) step = &s;
  if (step == nullptr) {
    step = &steps.emplace_back();
    step->updates = {.device = p.device(), .dtype = p.dtype(), .items = {}};
  }
  step->old.push_back(g);
  dispatch_float(p.dtype(), "sgd_step", [&](auto tag) {
    using T = typename decltype(tag)::type;
    detail::DeviceUpdate item{.grad = engine::ptr<T>(g), .count = p.numel()};
    item.parameter = target_of<T>(p, item.old_parameter, step->old);
    if (v != nullptr) item.state[0] = target_of<T>(*v, item.old_state[0], step->old);
    step->items.push_back(item);
  });
}

#endif

}  // namespace

SgdStep sgd_step(Tensors parameters, Tensors velocities, const Tensors& grads, const SgdOptions& options) {
  const Sgd checks_options(options);
  const bool has_momentum = options.momentum != 0;
  check_operands(parameters, velocities, grads, has_momentum);
  const cpu::SgdScalars scalars{.rate = options.learning_rate,
                                .momentum = options.momentum,
                                .gradient_weight = 1.0 - options.dampening,
                                .momentum_weight = options.momentum,
                                .weight_decay = options.weight_decay,
                                .nesterov = options.nesterov};
#if SOLVENT_WITH_CUDA
  std::vector<DeviceStep> on_gpus;
#endif
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const Tensor g = engine::contiguous(grads[i]);
    Tensor* const v = has_momentum ? &velocities[i] : nullptr;
#if SOLVENT_WITH_CUDA
    if (!(g.device() == cpu_device)) {
      add_update(on_gpus, parameters[i], v, g);
      continue;
    }
#endif
    update_on_host(parameters[i], v, g, scalars);
  }
#if SOLVENT_WITH_CUDA
  for (DeviceStep& step : on_gpus) {
    step.updates.items = step.items;
    cuda::sgd_update(step.updates, scalars);
  }
#endif
  return {std::move(parameters), std::move(velocities)};
}

}  // namespace solvent::nn
