#include "solvent/nn/optim/ema.h"

#include <cmath>

#include <fmt/format.h>

#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/core/parallel.h"
#include "solvent/nn/cpu/optim_kernels.h"
#if SOLVENT_WITH_CUDA
#include "solvent/nn/cuda/optim_kernels.h"
#endif
#include "solvent/ops/elementwise.h"

namespace solvent::nn {

namespace {

/// average + weight (x - average) as a new tensor: someone may hold the old one.
template <class T>
Tensor averaged(const Tensor& average, const Tensor& x, double weight) {
#if SOLVENT_WITH_CUDA
  if (!(x.device() == cpu_device)) return cuda::average_update(average, x, weight);
#endif
  Tensor next = engine::empty(average.shape(), average.dtype());
  engine::copy_into(average, next);
  const Tensor dense = engine::contiguous(x);
  T* const a = engine::mutable_ptr<T>(next);
  const T* const b = engine::ptr<T>(dense);
  parallel_for(next.numel(), cpu::kOptimGrain, [&](std::int64_t begin, std::int64_t end) noexcept {
    cpu::average_update(a + begin, b + begin, end - begin, weight);
  });
  return next;
}

}  // namespace

Ema::Ema(Module& module, EmaOptions options) : options_(options) {
  if (!(options.decay >= 0 && options.decay < 1))
    throw ValueError(fmt::format("[Ema] got decay {}; expected 0 <= decay < 1.", options.decay));
  for (const auto& [name, slot] : module.named_parameters()) {
    names_.push_back(name);
    averages_.emplace_back(slot->value());
  }
  updates_ = Buffer(from_vector<std::int64_t>({0}, {}));
}

void Ema::check(const char* op, const ParameterList& parameters) const {
  if (parameters.size() != averages_.size())
    throw ShapeError(fmt::format("[{}] got a module with {} parameters; the averages were made for {}.", op,
                                 parameters.size(), averages_.size()));
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    detail::SlotAccess::require_assignable(*parameters[i], op);
    const Tensor& p = parameters[i]->value();
    const Tensor& a = averages_[i].value();
    if (p.shape() != a.shape())
      throw ShapeError(
          fmt::format("[{}] parameter {} is a {}, its average a {}; use the module the averages were made "
                      "for.",
                      op, names_[i], describe(p), describe(a)));
    if (p.dtype() != a.dtype())
      throw DtypeError(fmt::format("[{}] parameter {} is a {}, its average a {}; convert both with Module::to.", op,
                                   names_[i], describe(p), describe(a)));
    if (!(p.device() == a.device()))
      throw DeviceError(fmt::format("[{}] parameter {} is on {}, its average on {}; move both with Module::to.", op,
                                    names_[i], to_string(p.device()), to_string(a.device())));
  }
}

void Ema::update(Module& module) {
  const ParameterList parameters = module.parameters();
  check("Ema::update", parameters);
  const std::int64_t before = updates();
  const double weight = 1.0 - options_.decay;
  Tensors next;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const Tensor& p = parameters[i]->value();
    const bool first = before == 0;
    const Tensor average =
        first && options_.bias_correction ? zeros(p.shape(), {p.dtype(), p.device()}) : averages_[i].value();
    if (first && !options_.bias_correction) {
      next.push_back(p);
    } else {
      next.push_back(p.dtype() == float32 ? averaged<float>(average, p, weight) : averaged<double>(average, p, weight));
    }
  }
  Tensor count = from_vector<std::int64_t>({before + 1}, {});
  for (std::size_t i = 0; i < next.size(); ++i) averages_[i].assign(next[i]);
  updates_.assign(count);
}

Tensors Ema::values() const {
  const std::int64_t count = updates();
  Tensors list;
  for (const Buffer& average : averages_) {
    // expm1 and log1p keep the digits that 1 - decay^t loses for decays near 1.
    const double sum_of_weights = -std::expm1(static_cast<double>(count) * std::log1p(-(1.0 - options_.decay)));
    list.push_back(options_.bias_correction && count > 0 ? average.value() / sum_of_weights : average.value());
  }
  return list;
}

std::int64_t Ema::updates() const { return updates_.value().to_vector<std::int64_t>()[0]; }

EmaScope Ema::applied_to(Module& module) const {
  const ParameterList parameters = module.parameters();
  check("Ema::applied_to", parameters);
  return {parameters, values()};
}

void Ema::copy_to(Module& module) const {
  const ParameterList parameters = module.parameters();
  check("Ema::copy_to", parameters);
  const Tensors averages = values();
  for (std::size_t i = 0; i < parameters.size(); ++i) parameters[i]->assign(averages[i]);
}

void Ema::visit(Visitor& visitor) {
  visitor("updates", updates_);
  for (std::size_t i = 0; i < averages_.size(); ++i) visitor("average." + names_[i], averages_[i]);
}

EmaScope::EmaScope(ParameterList slots, const Tensors& values) : slots_(std::move(slots)) {
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    saved_.push_back(slots_[i]->value());
    slots_[i]->assign(values[i]);
  }
}

EmaScope::~EmaScope() {
  for (std::size_t i = 0; i < slots_.size(); ++i) detail::SlotAccess::set(*slots_[i], std::move(saved_[i]));
}

}  // namespace solvent::nn
