#include "solvent/nn/module.h"

#include <algorithm>
#include <functional>
#include <map>
#include <unordered_set>

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/core/io/safetensors.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/shape_ops.h"

namespace solvent::nn {

// --- Visitor -------------------------------------------------------------------------------------------------------

Visitor::~Visitor() = default;

std::string Visitor::path_of(std::string_view name) const {
  return prefix_.empty() ? std::string(name) : fmt::format("{}.{}", prefix_, name);
}

void Visitor::operator()(std::string_view name, Parameter& parameter) { on_parameter(path_of(name), parameter); }
void Visitor::operator()(std::string_view name, Buffer& buffer) { on_buffer(path_of(name), buffer); }
void Visitor::operator()(std::string_view name, Module& child) {
  std::string outer = std::exchange(prefix_, path_of(name));
  on_module(prefix_, child);
  child.visit(*this);
  prefix_ = std::move(outer);
}

void Visitor::on_parameter(const std::string&, Parameter&) {}
void Visitor::on_buffer(const std::string&, Buffer&) {}
void Visitor::on_module(const std::string&, Module&) {}

namespace {

/// Lists slots that are not empty, each once.
class Collector : public Visitor {
 public:
  std::vector<std::pair<std::string, Parameter*>> parameters;
  std::vector<std::pair<std::string, Buffer*>> buffers;
  std::vector<Module*> modules;

  /// Visiting is not const (it hands out slots), but a Collector only notes addresses: a caller that is const keeps its
  /// promise by reading through them.
  explicit Collector(const Module& module) {
    auto& m = const_cast<Module&>(module);
    modules.push_back(&m);
    m.visit(*this);
  }

 protected:
  void on_parameter(const std::string& path, Parameter& p) override {
    if (p.defined() && seen_.insert(&p).second) parameters.emplace_back(path, &p);
  }
  void on_buffer(const std::string& path, Buffer& b) override {
    if (b.defined() && seen_.insert(&b).second) buffers.emplace_back(path, &b);
  }
  void on_module(const std::string&, Module& m) override { modules.push_back(&m); }

 private:
  std::unordered_set<const void*> seen_;
};

std::string join_lines(const char* title, const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += fmt::format("    {}: {}\n", title, name);
  return text;
}

/// A slot of either kind under its name.
struct Target {
  const Tensor* current;
  std::function<void(const Tensor&)> assign;
};

}  // namespace

// --- LoadReport ----------------------------------------------------------------------------------------------------

std::string LoadReport::message() const {
  std::string text =
      join_lines("missing", missing) + join_lines("unexpected", unexpected) + join_lines("does not fit", mismatched);
  if (!text.empty()) text.pop_back();
  return text;
}

// --- Module --------------------------------------------------------------------------------------------------------

Module::~Module() = default;

ParameterList Module::parameters() {
  const Collector all(*this);
  ParameterList list;
  for (const auto& [name, slot] : all.parameters) list.push_back(slot);
  return list;
}

std::vector<std::pair<std::string, Parameter*>> Module::named_parameters() { return Collector(*this).parameters; }

Tensors Module::parameter_values() const {
  const Collector all(*this);
  Tensors values;
  for (const auto& [name, slot] : all.parameters) values.push_back(slot->value());
  return values;
}

std::int64_t Module::num_parameters() const {
  std::int64_t count = 0;
  for (const Tensor& value : parameter_values()) count += value.numel();
  return count;
}

StateDict Module::state_dict() const {
  const Collector all(*this);
  StateDict state;
  for (const auto& [name, slot] : all.parameters) state.emplace_back(name, slot->value());
  for (const auto& [name, slot] : all.buffers) state.emplace_back(name, slot->value());
  return state;
}

LoadReport Module::load_state_dict(const StateDict& state, Strict strict) {
  const Collector all(*this);
  std::map<std::string, Target> targets;
  for (const auto& [name, slot] : all.parameters) {
    detail::SlotAccess::require_assignable(*slot, "load_state_dict");
    targets[name] = {&slot->value(), [p = slot](const Tensor& t) { p->assign(t); }};
  }
  for (const auto& [name, slot] : all.buffers)
    targets[name] = {&slot->value(), [b = slot](const Tensor& t) { b->assign(t); }};

  LoadReport report;
  std::vector<std::pair<const Target*, Tensor>> fitting;
  std::unordered_set<std::string> given;
  for (const auto& [name, value] : state) {
    given.insert(name);
    const auto found = targets.find(name);
    if (found == targets.end()) {
      report.unexpected.push_back(name);
    } else if (const Tensor& current = *found->second.current;
               !value.defined() || value.shape() != current.shape() || value.dtype() != current.dtype()) {
      report.mismatched.push_back(fmt::format(
          "{}: got {}, expected {}", name, value.defined() ? describe(value) : "an empty handle", describe(current)));
    } else {
      fitting.emplace_back(&found->second, solvent::to(value, current.device()));
    }
  }
  for (const auto& [name, slot] : all.parameters)
    if (!given.contains(name)) report.missing.push_back(name);
  for (const auto& [name, slot] : all.buffers)
    if (!given.contains(name)) report.missing.push_back(name);

  if (strict == Strict::yes && !report.ok())
    throw ValueError(
        fmt::format("[load_state_dict] the state dict does not fit the module; nothing was loaded:\n{}\n"
                    "    Make the module with the sizes it was saved with, or load what fits with Strict::no.",
                    report.message()));
  for (const auto& [target, value] : fitting) target->assign(value);
  return report;
}

void Module::save(const std::string& path) const { save_safetensors(path, state_dict()); }

LoadReport Module::load(const std::string& path, Strict strict) {
  const SafetensorsFile file = load_safetensors(path);
  try {
    return load_state_dict(file.tensors, strict);
  } catch (const ValueError& error) {
    throw ValueError(fmt::format("{}\n    File: {}", error.what(), path));
  }
}

void Module::to(DType dtype) {
  if (is_storage_type(dtype))
    throw DtypeError(fmt::format(
        "[Module::to] got {}; expected float32 or float64, because steps of an optimiser are too small for "
        "bfloat16. Keep float32 and use cast(parameter, bfloat16) inside the function that is differentiated.",
        to_string(dtype)));
  if (!is_floating(dtype))
    throw DtypeError(fmt::format("[Module::to] got {}; expected float32 or float64.", to_string(dtype)));
  const Collector all(*this);
  Tensors converted;
  for (const auto& [name, slot] : all.parameters) {
    detail::SlotAccess::require_assignable(*slot, "Module::to");
    converted.push_back(cast(slot->value(), dtype));
  }
  for (std::size_t i = 0; i < converted.size(); ++i) detail::SlotAccess::set(*all.parameters[i].second, converted[i]);
  for (const auto& [name, slot] : all.buffers)
    if (is_floating(slot->value().dtype())) slot->assign(cast(slot->value(), dtype));
}

void Module::to(Device device) {
  const Collector all(*this);
  Tensors parameters, buffers;
  for (const auto& [name, slot] : all.parameters) {
    detail::SlotAccess::require_assignable(*slot, "Module::to");
    parameters.push_back(solvent::to(slot->value(), device));
  }
  for (const auto& [name, slot] : all.buffers) buffers.push_back(solvent::to(slot->value(), device));
  for (std::size_t i = 0; i < parameters.size(); ++i) detail::SlotAccess::set(*all.parameters[i].second, parameters[i]);
  for (std::size_t i = 0; i < buffers.size(); ++i) all.buffers[i].second->assign(buffers[i]);
}

void Module::set_training(bool training) {
  const Collector all(*this);
  for (Module* module : all.modules) module->training_ = training;
}

ParameterList parameters_of(const std::vector<Module*>& modules) {
  ParameterList list;
  for (Module* module : modules)
    for (Parameter* slot : module->parameters())
      if (std::find(list.begin(), list.end(), slot) == list.end()) list.push_back(slot);
  return list;
}

}  // namespace solvent::nn
