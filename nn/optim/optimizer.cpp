#include "solvent/nn/optim/optimizer.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include <fmt/format.h>

#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/core/parallel.h"
#include "solvent/nn/cpu/optim_kernels.h"

namespace solvent::nn {

namespace {

constexpr int kMaxStates = 2;

/// A tensor with its own memory and the same values.
Tensor private_copy(const Tensor& t) {
  Tensor copy = engine::empty(t.shape(), t.dtype());
  engine::copy_into(t, copy);
  return copy;
}

/// What a step needs, allocated before anything is written. An empty handle means "update in place".
struct Prepared {
  std::vector<Tensor> values;
  std::vector<Tensor> grads;
  std::vector<std::vector<Tensor>> state;
};

}  // namespace

Optimizer::Optimizer(std::string name, double learning_rate, std::vector<std::string> state_names)
    : name_(std::move(name)), learning_rate_(0), state_names_(std::move(state_names)) {
  set_learning_rate(learning_rate);
}

Optimizer::~Optimizer() = default;

void Optimizer::set_learning_rate(double rate) {
  if (!std::isfinite(rate) || rate < 0)
    throw ValueError(fmt::format("[{}] got learning rate {}; expected a finite number >= 0.", name_, rate));
  learning_rate_ = rate;
}

void Optimizer::check(const ParameterList& parameters, const Tensors& grads) const {
  if (parameters.size() != grads.size())
    throw ShapeError(
        fmt::format("[{}] got {} parameters and {} gradients; expected as many, as nn::value_and_grad returns "
                    "them for the same module.",
                    name_, parameters.size(), grads.size()));
  if (!state_.empty() && state_.size() != parameters.size())
    throw ShapeError(
        fmt::format("[{}] got {} parameters, but its state belongs to {}; use one optimizer per list of "
                    "parameters.",
                    name_, parameters.size(), state_.size()));
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const Parameter& slot = *parameters[i];
    const Tensor& g = grads[i];
    detail::SlotAccess::require_assignable(slot, name_.c_str());
    if (!slot.defined() || !g.defined())
      throw ShapeError(fmt::format("[{}] parameter or gradient {} is an empty handle; expected tensors.", name_, i));
    const Tensor& p = slot.value();
    if (engine::is_boxed(p) || engine::is_boxed(g))
      throw AutodiffError(
          fmt::format("[{}] parameter or gradient {} is being differentiated; optimizer steps are not "
                      "differentiable. Step outside the transform, or write the update with ops.",
                      name_, i));
    if (p.shape() != g.shape())
      throw ShapeError(fmt::format("[{}] parameter {} is a {} and its gradient a {}; expected the same shape.", name_,
                                   i, describe(p), describe(g)));
    if (p.dtype() != g.dtype())
      throw DtypeError(
          fmt::format("[{}] parameter {} is a {} and its gradient a {}; expected the same dtype. Use cast.", name_, i,
                      describe(p), describe(g)));
    if (!(p.device() == cpu_device) || !(g.device() == cpu_device))
      throw DeviceError(
          fmt::format("[{}] parameter {} is on {} and its gradient on {}; this build updates on the cpu. Use "
                      "to(x, cpu_device).",
                      name_, i, to_string(p.device()), to_string(g.device())));
    if (!state_.empty())
      for (const Tensor& s : state_[i])
        if (s.shape() != p.shape() || s.dtype() != p.dtype())
          throw ShapeError(
              fmt::format("[{}] parameter {} is a {}, but its state a {}; the state belongs to other parameters "
                          "(another model, or another order).",
                          name_, i, describe(p), describe(s)));
  }
}

template <class T>
void Optimizer::update_all(const Optimizer& optimizer, Tensor& value, const Tensor& grad,
                           std::vector<Tensor>& state) noexcept {
  T* const p = engine::mutable_ptr<T>(value);
  const T* const g = engine::ptr<T>(grad);
  T* s[kMaxStates] = {};
  for (std::size_t k = 0; k < state.size(); ++k) s[k] = engine::mutable_ptr<T>(state[k]);
  parallel_for(value.numel(), cpu::kOptimGrain, [&](std::int64_t begin, std::int64_t end) noexcept {
    T* block[kMaxStates] = {};
    for (int k = 0; k < kMaxStates; ++k) block[k] = s[k] != nullptr ? s[k] + begin : nullptr;
    optimizer.update_block(p + begin, g + begin, block, end - begin);
  });
}

void Optimizer::step(const ParameterList& parameters, const Tensors& grads) {
  check(parameters, grads);
  const std::size_t count = parameters.size();
  Prepared ready{std::vector<Tensor>(count), std::vector<Tensor>(count), std::vector<std::vector<Tensor>>(count)};
  const bool first = state_.empty();
  for (std::size_t i = 0; i < count; ++i) {
    const Tensor& p = parameters[i]->value();
    if (!engine::can_donate(p)) ready.values[i] = private_copy(p);
    ready.grads[i] = engine::contiguous(grads[i]);
    ready.state[i].resize(state_names_.size());
    for (std::size_t k = 0; k < state_names_.size(); ++k) {
      if (first) {
        ready.state[i][k] = zeros(p.shape(), p.dtype());
      } else if (!engine::can_donate(state_[i][k])) {
        ready.state[i][k] = private_copy(state_[i][k]);
      }
    }
  }
  if (first) state_.resize(count, std::vector<Tensor>(state_names_.size()));
  // From here on nothing can fail.
  begin_step(++steps_);
  for (std::size_t i = 0; i < count; ++i) {
    Tensor value = detail::SlotAccess::take(*parameters[i]);
    if (ready.values[i].defined()) value = std::move(ready.values[i]);
    for (std::size_t k = 0; k < state_names_.size(); ++k)
      if (ready.state[i][k].defined()) state_[i][k] = std::move(ready.state[i][k]);
    if (value.dtype() == float32) {
      update_all<float>(*this, value, ready.grads[i], state_[i]);
    } else {
      update_all<double>(*this, value, ready.grads[i], state_[i]);
    }
    detail::SlotAccess::set(*parameters[i], std::move(value));
  }
}

StateDict Optimizer::state_dict() const {
  StateDict state;
  state.emplace_back("step", from_vector<std::int64_t>({steps_}, {}));
  state.emplace_back("learning_rate", scalar(learning_rate_, float64));
  for (std::size_t i = 0; i < state_.size(); ++i)
    for (std::size_t k = 0; k < state_names_.size(); ++k)
      state.emplace_back(fmt::format("{}.{}", state_names_[k], i), state_[i][k]);
  return state;
}

void Optimizer::load_state_dict(const StateDict& state) {
  std::map<std::string, Tensor> given(state.begin(), state.end());
  LoadReport report;
  const auto take = [&](const std::string& name, DType dtype, bool floating) {
    const auto found = given.find(name);
    if (found == given.end()) {
      report.missing.push_back(name);
      return Tensor();
    }
    Tensor value = std::move(found->second);
    given.erase(found);
    const bool fits =
        value.defined() && (floating ? is_floating(value.dtype()) : value.dtype() == dtype && value.rank() == 0);
    if (fits) return value;
    report.mismatched.push_back(fmt::format("{}: got {}, expected {}", name,
                                            value.defined() ? describe(value) : "an empty handle",
                                            floating ? "a floating tensor" : fmt::format("{}()", to_string(dtype))));
    return Tensor();
  };
  const Tensor step = take("step", int64, false);
  const Tensor rate = take("learning_rate", float64, false);
  std::size_t count = 0;
  if (!state_names_.empty())
    while (given.contains(fmt::format("{}.{}", state_names_[0], count))) ++count;
  std::vector<std::vector<Tensor>> loaded(count);
  for (std::size_t i = 0; i < count; ++i)
    for (const std::string& name : state_names_)
      loaded[i].push_back(take(fmt::format("{}.{}", name, i), float64, true));
  for (const auto& [name, value] : given) report.unexpected.push_back(name);
  if (step.defined() && (step.item() < 0 || (step.item() > 0 && count == 0 && !state_names_.empty())))
    report.missing.push_back(
        fmt::format("{}.0 for step {}", state_names_.empty() ? "step" : state_names_[0], step.item()));
  if (!report.ok())
    throw ValueError(
        fmt::format("[{}] the state does not belong to this optimizer; nothing was loaded:\n{}\n    Use the "
                    "optimizer and options it was saved with.",
                    name_, report.message()));
  set_learning_rate(rate.item());
  steps_ = step.to_vector<std::int64_t>()[0];
  state_ = std::move(loaded);
}

}  // namespace solvent::nn
