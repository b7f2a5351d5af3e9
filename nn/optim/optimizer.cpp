#include "solvent/nn/optim/optimizer.h"

#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/core/parallel.h"
#include "solvent/nn/cpu/optim_kernels.h"
#include "solvent/nn/optim/device_updates.h"
#if SOLVENT_WITH_CUDA
#include "solvent/core/cuda/runtime.h"
#endif

namespace solvent::nn {

namespace {

/// A tensor with its own memory and the same values.
Tensor private_copy(const Tensor& t) {
  Tensor copy = engine::empty(t.shape(), t.dtype(), t.device());
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

ParameterSelector name_starts_with(std::string prefix) {
  return [p = std::move(prefix)](const std::string& name, const Parameter&) { return name.starts_with(p); };
}

ParameterSelector name_ends_with(std::string suffix) {
  return [s = std::move(suffix)](const std::string& name, const Parameter&) { return name.ends_with(s); };
}

ParameterSelector rank_at_most(int rank) {
  return [rank](const std::string&, const Parameter& parameter) { return parameter.value().rank() <= rank; };
}

Optimizer::Optimizer(std::string name, double learning_rate, double weight_decay, std::vector<std::string> state_names)
    : name_(std::move(name)), weight_decay_(weight_decay), state_names_(std::move(state_names)) {
  check_decay(weight_decay);
  set_learning_rate(learning_rate);
}

Optimizer::~Optimizer() = default;

void Optimizer::check_rate(double rate) const {
  if (!std::isfinite(rate) || rate < 0)
    throw ValueError(fmt::format("[{}] got learning rate {}; expected a finite number >= 0.", name_, rate));
}

void Optimizer::check_decay(double decay) const {
  if (!std::isfinite(decay) || decay < 0)
    throw ValueError(fmt::format("[{}] got weight_decay {}; expected a finite number >= 0.", name_, decay));
}

void Optimizer::set_learning_rate(double rate) {
  check_rate(rate);
  learning_rate_ = rate;
}

// --- groups ----------------------------------------------------------------------------------------------------------

void Optimizer::set_groups(Module& module, std::vector<ParameterGroup> groups) {
  std::set<std::string> names;
  for (const ParameterGroup& g : groups) {
    if (g.name.empty() || !names.insert(g.name).second)
      throw ValueError(fmt::format("[{}] got a group named \"{}\"; give each group its own name.", name_, g.name));
    if (!g.selects)
      throw ValueError(
          fmt::format("[{}] group \"{}\" has no selector; use name_starts_with, name_ends_with, rank_at_most "
                      "or a lambda.",
                      name_, g.name));
    check_rate(g.rate_multiplier);
    check_rate(g.learning_rate.value_or(0));
    check_decay(g.weight_decay.value_or(0));
  }
  std::vector<std::size_t> group_of_parameter;
  std::vector<bool> used(groups.size(), false);
  for (const auto& [name, slot] : module.named_parameters()) {
    std::size_t index = 0;
    while (index < groups.size() && !groups[index].selects(name, *slot)) ++index;
    if (index < groups.size()) used[index] = true;
    group_of_parameter.push_back(index);
  }
  for (std::size_t i = 0; i < groups.size(); ++i)
    if (!used[i])
      throw ValueError(
          fmt::format("[{}] group \"{}\" has no parameters: no name fits, or groups before it took them all. Compare "
                      "with Module::named_parameters().",
                      name_, groups[i].name));
  for (ParameterGroup& g : groups) g.selects = nullptr;
  if (groups.empty()) group_of_parameter.clear();
  groups_ = std::move(groups);
  group_of_parameter_ = std::move(group_of_parameter);
}

std::size_t Optimizer::find_group(const std::string& name) const {
  std::vector<std::string_view> known;
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    if (groups_[i].name == name) return i;
    known.push_back(groups_[i].name);
  }
  throw ValueError(
      fmt::format("[{}] got group \"{}\"; expected one of: {}.", name_, name,
                  known.empty() ? "(none; call set_groups first)" : fmt::format("{}", fmt::join(known, ", "))));
}

double Optimizer::learning_rate(const std::string& group) const {
  const ParameterGroup& g = groups_[find_group(group)];
  return g.learning_rate.value_or(learning_rate_ * g.rate_multiplier);
}

void Optimizer::set_learning_rate(const std::string& group, double rate) {
  check_rate(rate);
  groups_[find_group(group)].learning_rate = rate;
}

void Optimizer::set_frozen(const std::string& group, bool frozen) { groups_[find_group(group)].frozen = frozen; }

const ParameterGroup* Optimizer::group_of(std::size_t parameter) const {
  if (group_of_parameter_.empty() || group_of_parameter_[parameter] == groups_.size()) return nullptr;
  return &groups_[group_of_parameter_[parameter]];
}

bool Optimizer::is_frozen(std::size_t parameter) const {
  const ParameterGroup* group = group_of(parameter);
  return group != nullptr && group->frozen;
}

Optimizer::StepContext Optimizer::context_of(std::size_t parameter) const {
  StepContext context{parameter_steps_[parameter], learning_rate_, weight_decay_};
  if (const ParameterGroup* group = group_of(parameter)) {
    context.learning_rate = group->learning_rate.value_or(learning_rate_ * group->rate_multiplier);
    context.weight_decay = group->weight_decay.value_or(weight_decay_);
  }
  return context;
}

// --- steps -----------------------------------------------------------------------------------------------------------

void Optimizer::check(const ParameterList& parameters, const Tensors& grads) const {
  if (parameters.size() != grads.size())
    throw ShapeError(
        fmt::format("[{}] got {} parameters and {} gradients; expected as many, as nn::value_and_grad returns "
                    "them for the same module.",
                    name_, parameters.size(), grads.size()));
  if (!parameter_steps_.empty() && parameter_steps_.size() != parameters.size())
    throw ShapeError(
        fmt::format("[{}] got {} parameters, but its state belongs to {}; use one optimizer per list of "
                    "parameters.",
                    name_, parameters.size(), parameter_steps_.size()));
  if (!group_of_parameter_.empty() && group_of_parameter_.size() != parameters.size())
    throw ShapeError(
        fmt::format("[{}] got {} parameters, but its groups were made from a module with {}; call set_groups "
                    "with the module that is trained.",
                    name_, parameters.size(), group_of_parameter_.size()));
  for (std::size_t i = 0; i < parameters.size(); ++i)
    if (!is_frozen(i)) check_pair(*parameters[i], grads[i], i);
}

void Optimizer::check_pair(const Parameter& slot, const Tensor& g, std::size_t i) const {
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
    throw ShapeError(fmt::format("[{}] parameter {} is a {} and its gradient a {}; expected the same shape.", name_, i,
                                 describe(p), describe(g)));
  if (p.dtype() != g.dtype())
    throw DtypeError(fmt::format("[{}] parameter {} is a {} and its gradient a {}; expected the same dtype. Use cast.",
                                 name_, i, describe(p), describe(g)));
  if (!(p.device() == g.device()))
    throw DeviceError(
        fmt::format("[{}] parameter {} is on {} and its gradient on {}; expected one device. Use to(x, device).", name_,
                    i, to_string(p.device()), to_string(g.device())));
  if (parameter_steps_.empty() || parameter_steps_[i] == 0) return;
  for (const Tensor& s : state_[i])
    if (s.shape() != p.shape() || s.dtype() != p.dtype())
      throw ShapeError(
          fmt::format("[{}] parameter {} is a {}, but its state a {}; the state belongs to other parameters "
                      "(another model, or another order).",
                      name_, i, describe(p), describe(s)));
}

template <class T>
void Optimizer::update_all(Tensor& value, const Tensor& grad, std::vector<Tensor>& state,
                           const StepContext& context) const noexcept {
  T* const p = engine::mutable_ptr<T>(value);
  const T* const g = engine::ptr<T>(grad);
  T* s[kMaxStates] = {};
  for (std::size_t k = 0; k < state.size(); ++k) s[k] = engine::mutable_ptr<T>(state[k]);
  parallel_for(value.numel(), cpu::kOptimGrain, [&](std::int64_t begin, std::int64_t end) noexcept {
    T* block[kMaxStates] = {};
    for (int k = 0; k < kMaxStates; ++k) block[k] = s[k] != nullptr ? s[k] + begin : nullptr;
    update_block(p + begin, g + begin, block, end - begin, context);
  });
}

struct Optimizer::DeviceBatch {
  StepContext context;
  detail::DeviceUpdates updates;
  std::vector<detail::DeviceUpdate> items;
};

void Optimizer::add_to_batch(std::vector<DeviceBatch>& batches, const StepContext& context, Tensor& value,
                             const Tensor& grad, std::vector<Tensor>& state) {
  detail::DeviceUpdate item;
  dispatch_float(value.dtype(), "step", [&](auto tag) {
    using T = typename decltype(tag)::type;
    item = {.parameter = engine::mutable_ptr<T>(value), .grad = engine::ptr<T>(grad), .count = value.numel()};
    for (std::size_t k = 0; k < state.size(); ++k) item.state[k] = engine::mutable_ptr<T>(state[k]);
  });
  for (DeviceBatch& batch : batches)
    if (batch.context == context && batch.updates.device == value.device() && batch.updates.dtype == value.dtype()) {
      batch.items.push_back(item);
      return;
    }
  batches.push_back({context, {.device = value.device(), .dtype = value.dtype(), .items = {}}, {item}});
}

#if SOLVENT_WITH_CUDA
template <class T>
void Optimizer::update_by_host(const detail::DeviceUpdate& update, Device device, const StepContext& context) const {
  const auto count = static_cast<std::size_t>(update.count);
  const std::size_t bytes = count * sizeof(T);
  const auto fetch = [&](const void* from) {
    std::vector<T> values(count);
    solvent::cuda::copy_to_host(values.data(), from, bytes, device);
    return values;
  };
  std::vector<T> p = fetch(update.parameter);
  const std::vector<T> g = fetch(update.grad);
  std::vector<T> states[kMaxStates];
  T* at[kMaxStates] = {};
  for (std::size_t k = 0; k < kMaxStates; ++k)
    if (update.state[k] != nullptr) {
      states[k] = fetch(update.state[k]);
      at[k] = states[k].data();
    }
  update_block(p.data(), g.data(), at, update.count, context);
  solvent::cuda::copy_to_device(update.parameter, p.data(), bytes, device);
  for (std::size_t k = 0; k < kMaxStates; ++k)
    if (at[k] != nullptr) cuda::copy_to_device(update.state[k], at[k], bytes, device);
}

void Optimizer::update_on_device(const detail::DeviceUpdates& updates, const StepContext& context) const {
  for (const detail::DeviceUpdate& update : updates.items) {
    if (update.count == 0) continue;
    if (updates.dtype == float32) {
      update_by_host<float>(update, updates.device, context);
    } else {
      update_by_host<double>(update, updates.device, context);
    }
  }
}
#else
void Optimizer::update_on_device(const detail::DeviceUpdates&, const StepContext&) const {}  // there are no GPUs
#endif

// The state tensor that a step writes, or an empty handle if the present one can be written to.
Tensor Optimizer::prepared_state(const Tensor& parameter, std::size_t i, std::size_t k) const {
  if (parameter_steps_.empty() || parameter_steps_[i] == 0)
    return zeros(parameter.shape(), {parameter.dtype(), parameter.device()});
  const Tensor& state = state_[i][k];
  if (!(state.device() == parameter.device()))  // the module was moved, or the state loaded from a file
    return engine::copy_to(engine::contiguous(state), parameter.device());
  return engine::can_donate(state) ? Tensor() : private_copy(state);
}

void Optimizer::step(const ParameterList& parameters, const Tensors& grads) {
  check(parameters, grads);
  const std::size_t count = parameters.size();
  Prepared ready{std::vector<Tensor>(count), std::vector<Tensor>(count), std::vector<std::vector<Tensor>>(count)};
  for (std::size_t i = 0; i < count; ++i) {
    if (is_frozen(i)) continue;
    const Tensor& p = parameters[i]->value();
    if (!engine::can_donate(p)) ready.values[i] = private_copy(p);
    ready.grads[i] = engine::contiguous(grads[i]);
    ready.state[i].resize(state_names_.size());
    for (std::size_t k = 0; k < state_names_.size(); ++k) ready.state[i][k] = prepared_state(p, i, k);
  }
  if (parameter_steps_.empty()) {
    state_.resize(count, std::vector<Tensor>(state_names_.size()));
    parameter_steps_.resize(count, 0);
  }
  // From here on nothing can fail, apart from a GPU.
  ++steps_;
  std::vector<DeviceBatch> batches;
  for (std::size_t i = 0; i < count; ++i) {
    if (is_frozen(i)) continue;
    ++parameter_steps_[i];
    const StepContext context = context_of(i);
    Tensor value = detail::SlotAccess::take(*parameters[i]);
    if (ready.values[i].defined()) value = std::move(ready.values[i]);
    for (std::size_t k = 0; k < state_names_.size(); ++k)
      if (ready.state[i][k].defined()) state_[i][k] = std::move(ready.state[i][k]);
    if (!(value.device() == cpu_device)) {
      add_to_batch(batches, context, value, ready.grads[i], state_[i]);
    } else if (value.dtype() == float32) {
      update_all<float>(value, ready.grads[i], state_[i], context);
    } else {
      update_all<double>(value, ready.grads[i], state_[i], context);
    }
    detail::SlotAccess::set(*parameters[i], std::move(value));
  }
  for (DeviceBatch& batch : batches) {
    batch.updates.items = batch.items;
    update_on_device(batch.updates, batch.context);
  }
}

// --- state -----------------------------------------------------------------------------------------------------------

StateDict Optimizer::state_dict() const {
  StateDict state;
  state.emplace_back("step", from_vector<std::int64_t>({steps_}, {}));
  state.emplace_back("learning_rate", scalar(learning_rate_, float64));
  state.emplace_back("parameter_steps",
                     from_vector(parameter_steps_, {static_cast<std::int64_t>(parameter_steps_.size())}));
  if (!groups_.empty()) {
    std::vector<double> rates;
    for (const ParameterGroup& g : groups_)
      rates.push_back(g.learning_rate.value_or(std::numeric_limits<double>::quiet_NaN()));
    state.emplace_back("group_rates", from_vector(rates, {static_cast<std::int64_t>(rates.size())}));
  }
  for (std::size_t i = 0; i < parameter_steps_.size(); ++i)
    for (std::size_t k = 0; k < state_names_.size() && parameter_steps_[i] > 0; ++k)
      state.emplace_back(fmt::format("{}.{}", state_names_[k], i), state_[i][k]);
  return state;
}

namespace {

/// Takes entries out of a state dict and notes what is wrong with them.
class StateReader {
 public:
  explicit StateReader(const StateDict& state) : given_(state.begin(), state.end()) {}

  /// Any floating tensor, or an empty handle after noting the problem.
  Tensor floating(const std::string& name) {
    return take(name, "a floating tensor", [](const Tensor& t) { return is_floating(t.dtype()); });
  }
  /// A tensor of this dtype and rank; the extent of rank 1 must be `size` unless that is negative.
  Tensor exact(const std::string& name, DType dtype, int rank, std::int64_t size = -1) {
    const std::string extent = rank == 0 ? "" : size < 0 ? "n," : fmt::format("{},", size);
    return take(name, fmt::format("{}({})", to_string(dtype), extent), [&](const Tensor& t) {
      return t.dtype() == dtype && t.rank() == rank && (rank == 0 || size < 0 || t.size(0) == size);
    });
  }
  /// What is left is unexpected.
  LoadReport& finish() {
    for (const auto& [name, value] : given_) report_.unexpected.push_back(name);
    given_.clear();
    return report_;
  }
  void mismatch(std::string text) { report_.mismatched.push_back(std::move(text)); }

 private:
  template <class Fits>
  Tensor take(const std::string& name, const std::string& expected, Fits fits) {
    const auto found = given_.find(name);
    if (found == given_.end()) {
      report_.missing.push_back(name);
      return {};
    }
    Tensor value = std::move(found->second);
    given_.erase(found);
    if (value.defined() && fits(value)) return value;
    mismatch(
        fmt::format("{}: got {}, expected {}", name, value.defined() ? describe(value) : "an empty handle", expected));
    return {};
  }

  std::map<std::string, Tensor> given_;
  LoadReport report_;
};

}  // namespace

void Optimizer::load_state_dict(const StateDict& state) {
  StateReader reader(state);
  const Tensor step = reader.exact("step", int64, 0);
  const Tensor rate = reader.exact("learning_rate", float64, 0);
  const Tensor counts = reader.exact("parameter_steps", int64, 1);
  const Tensor rates =
      groups_.empty() ? Tensor() : reader.exact("group_rates", float64, 1, static_cast<std::int64_t>(groups_.size()));
  const std::vector<std::int64_t> parameter_steps =
      counts.defined() ? counts.to_vector<std::int64_t>() : std::vector<std::int64_t>{};
  const std::int64_t steps = step.defined() ? step.to_vector<std::int64_t>()[0] : 0;
  std::vector<std::vector<Tensor>> loaded(parameter_steps.size());
  for (std::size_t i = 0; i < loaded.size(); ++i) {
    if (parameter_steps[i] < 0 || (step.defined() && parameter_steps[i] > steps))
      reader.mismatch(
          fmt::format("parameter_steps: got {} for parameter {} after {} steps", parameter_steps[i], i, steps));
    for (const std::string& name : state_names_)
      loaded[i].push_back(parameter_steps[i] > 0 ? reader.floating(fmt::format("{}.{}", name, i)) : Tensor());
  }
  if (steps < 0 || (steps > 0 && loaded.empty() && counts.defined()))
    reader.mismatch(fmt::format("step: got {} for {} parameters", steps, loaded.size()));
  if (const LoadReport& report = reader.finish(); !report.ok())
    throw ValueError(
        fmt::format("[{}] the state does not belong to this optimizer; nothing was loaded:\n{}\n    Use the "
                    "optimizer, options and groups it was saved with.",
                    name_, report.message()));
  check_rate(rate.item());
  std::vector<std::optional<double>> group_rates;
  if (rates.defined())
    for (const double r : rates.to_vector<double>()) {
      if (!std::isnan(r)) check_rate(r);
      group_rates.push_back(std::isnan(r) ? std::nullopt : std::optional(r));
    }
  for (std::size_t g = 0; g < group_rates.size(); ++g) groups_[g].learning_rate = group_rates[g];
  learning_rate_ = rate.item();
  steps_ = steps;
  parameter_steps_ = parameter_steps;
  state_ = std::move(loaded);
}

}  // namespace solvent::nn
