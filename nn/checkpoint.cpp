#include "solvent/nn/checkpoint.h"

#include <memory>
#include <set>

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/core/io/safetensors.h"

namespace solvent::nn {

namespace {

void check_names(const char* op, const CheckpointParts& parts) {
  std::set<std::string> names;
  const auto check = [&](const std::string& name) {
    if (name.empty() || name.find('/') != std::string::npos)
      throw ValueError(fmt::format("[{}] got part name \"{}\"; expected a name without \"/\".", op, name));
    if (!names.insert(name).second)
      throw ValueError(fmt::format("[{}] two parts are named \"{}\"; give each its own name.", op, name));
  };
  for (const auto& [name, module] : parts.modules) check(name);
  for (const auto& [name, optimizer] : parts.optimizers) check(name);
  for (const auto& [name, tensors] : parts.tensors) check(name);
}

/// Calls load(part, its state) for a part; collects what does not fit.
template <class Part>
void load_part(const std::string& name, Part& part, const StateDict& state, std::string& problems) {
  try {
    part.load_state_dict(state);
  } catch (const ValueError& error) {
    problems += fmt::format("\n  {}: {}", name, error.what());
  }
}

}  // namespace

void save_checkpoint(const std::string& path, const CheckpointParts& parts, const Metadata& metadata) {
  check_names("save_checkpoint", parts);
  StateDict all;
  const auto append = [&all](const std::string& part, const StateDict& state) {
    for (const auto& [name, value] : state) all.emplace_back(part + "/" + name, value);
  };
  for (const auto& [name, module] : parts.modules) append(name, module->state_dict());
  for (const auto& [name, optimizer] : parts.optimizers) append(name, optimizer->state_dict());
  for (const auto& [name, tensors] : parts.tensors) append(name, *tensors);
  save_safetensors(path, all, metadata);
}

Metadata load_checkpoint(const std::string& path, const CheckpointParts& parts) {
  check_names("load_checkpoint", parts);
  SafetensorsFile file = load_safetensors(path);
  std::map<std::string, StateDict> states;
  for (auto& [name, value] : file.tensors) {
    const std::size_t slash = name.find('/');
    states[slash == std::string::npos ? "" : name.substr(0, slash)].emplace_back(
        slash == std::string::npos ? name : name.substr(slash + 1), std::move(value));
  }
  // Every part is loaded; if one does not fit, all get their previous state back.
  std::string problems;
  std::vector<StateDict> previous;
  for (const auto& [name, module] : parts.modules) previous.push_back(module->state_dict());
  for (const auto& [name, optimizer] : parts.optimizers) previous.push_back(optimizer->state_dict());
  const auto state_of = [&](const std::string& name) {
    const auto found = states.find(name);
    StateDict state = found == states.end() ? StateDict() : std::move(found->second);
    if (found != states.end()) states.erase(found);
    return state;
  };
  for (const auto& [name, module] : parts.modules) load_part(name, *module, state_of(name), problems);
  for (const auto& [name, optimizer] : parts.optimizers) load_part(name, *optimizer, state_of(name), problems);
  std::vector<StateDict> others;
  for (const auto& [name, tensors] : parts.tensors) others.push_back(state_of(name));
  for (const auto& [name, state] : states)
    problems += fmt::format("\n  \"{}\": {} tensors that belong to no part", name, state.size());
  if (problems.empty()) {
    for (std::size_t k = 0; k < others.size(); ++k) *parts.tensors[k].second = std::move(others[k]);
    return std::move(file.metadata);
  }
  std::size_t i = 0;
  for (const auto& [name, module] : parts.modules) module->load_state_dict(previous[i++]);
  for (const auto& [name, optimizer] : parts.optimizers) optimizer->load_state_dict(previous[i++]);
  throw IoError(
      fmt::format("[load_checkpoint] {} does not fit; nothing was loaded. Resume with the options it was saved "
                  "with.{}",
                  path, problems));
}

Metadata read_checkpoint_metadata(const std::string& path) { return load_safetensors(path).metadata; }

}  // namespace solvent::nn
