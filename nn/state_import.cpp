#include "solvent/nn/state_import.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <regex>
#include <set>

#include <fmt/format.h>

#include "solvent/core/io/npy.h"
#include "solvent/core/io/npz.h"
#include "solvent/core/io/safetensors.h"
#include "solvent/nn/gru.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/shape_ops.h"

namespace solvent::nn {

namespace {

std::regex compile(const char* rule, const std::string& pattern) {
  try {
    return std::regex(pattern, std::regex::ECMAScript | std::regex::optimize);
  } catch (const std::regex_error& e) {
    throw ValueError(
        fmt::format("[ImportRules::{}] \"{}\" is not a regular expression: {}. A backslash in a C++ text is "
                    "written twice, or the text as R\"(...)\".",
                    rule, pattern, e.what()));
  }
}

/// A rule that replaces the tensors whose names match.
std::function<StateDict(StateDict)> change_tensors(const char* rule, const std::string& pattern,
                                                   std::function<Tensor(const Tensor&)> change) {
  return [rule, expression = compile(rule, pattern), change = std::move(change)](StateDict state) {
    for (auto& [name, value] : state) {
      if (!std::regex_match(name, expression)) continue;
      try {
        value = change(value);
      } catch (const ShapeError& e) {
        throw ShapeError(fmt::format("[ImportRules::{}] \"{}\": {}", rule, name, e.what()));
      }
    }
    return state;
  };
}

Tensor take(StateDict& state, const std::string& name) {
  const auto found = std::find_if(state.begin(), state.end(), [&](const auto& entry) { return entry.first == name; });
  if (found == state.end())
    throw ValueError(fmt::format(
        "[ImportRules::gru] there is no \"{}\"; expected weight_ih, weight_hh, bias_ih and bias_hh under the "
        "prefix, with the suffix \"_l0\" for a layer of torch.nn.GRU.",
        name));
  Tensor value = std::move(found->second);
  state.erase(found);
  return value;
}

bool fits_transposed(const Tensor& given, const Tensor& expected) {
  return given.rank() >= 2 && given.shape() == mT(expected).shape();
}

/// The tensor as the slot wants it, or an empty handle and the reason why not.
Tensor fit(const std::string& name, const Tensor& given, const Tensor& expected, bool may_cast, std::string& problem) {
  const bool castable = may_cast && is_floating(given.dtype()) && is_floating(expected.dtype());
  if (given.shape() == expected.shape() && (given.dtype() == expected.dtype() || castable))
    return given.dtype() == expected.dtype() ? given : cast(given, expected.dtype());
  const char* advice = "";
  if (given.shape() != expected.shape()) {
    if (fits_transposed(given, expected)) advice = " (it fits transposed: add a transpose rule)";
  } else if (is_floating(given.dtype()) && is_floating(expected.dtype())) {
    advice = " (ImportOptions::cast converts)";
  }
  problem = fmt::format("{}: got {}, expected {}{}", name, describe(given), describe(expected), advice);
  return {};
}

/// Compares with the module's slots; `fitting` receives what can be loaded.
LoadReport compare(const Module& module, const StateDict& state, const ImportOptions& options, StateDict* fitting) {
  const StateDict slots = module.state_dict();
  std::map<std::string, Tensor> expected(slots.begin(), slots.end());
  LoadReport report;
  std::set<std::string> given;
  for (const auto& [name, value] : state) {
    given.insert(name);
    const auto found = expected.find(name);
    if (found == expected.end()) {
      report.unexpected.push_back(name);
      continue;
    }
    std::string problem;
    Tensor tensor = fit(name, value, found->second, options.cast, problem);
    if (!tensor.defined()) {
      report.mismatched.push_back(problem);
    } else if (fitting != nullptr) {
      fitting->emplace_back(name, std::move(tensor));
    }
  }
  for (const auto& [name, value] : slots)
    if (!given.contains(name)) report.missing.push_back(name);
  return report;
}

LoadReport load(Module& module, const StateDict& state, const ImportRules& rules, const ImportOptions& options,
                const std::string& source) {
  StateDict fitting;
  LoadReport report = compare(module, rules.apply(state), options, &fitting);
  if (!report.ok() && options.strict == Strict::yes)
    throw StateDictError(
        fmt::format("[import_state_dict] {} does not fit the module; nothing was loaded:\n{}\n    Add rules for these "
                    "names (ImportRules), or load what fits with Strict::no.",
                    source, report.message()),
        report);
  module.load_state_dict(fitting, Strict::no);
  return report;
}

}  // namespace

StateDictError::StateDictError(const std::string& what, LoadReport differences)
    : ValueError(what), report_(std::move(differences)) {}
StateDictError::~StateDictError() = default;

ImportRules& ImportRules::rename(const std::string& pattern, const std::string& replacement) {
  return custom([expression = compile("rename", pattern), replacement](StateDict state) {
    for (auto& [name, value] : state)
      if (std::regex_match(name, expression)) name = std::regex_replace(name, expression, replacement);
    return state;
  });
}

ImportRules& ImportRules::drop_prefix(const std::string& prefix) {
  return custom([prefix](StateDict state) {
    for (auto& [name, value] : state)
      if (name.starts_with(prefix)) name.erase(0, prefix.size());
    return state;
  });
}

ImportRules& ImportRules::add_prefix(const std::string& prefix) {
  return custom([prefix](StateDict state) {
    for (auto& [name, value] : state) name.insert(0, prefix);
    return state;
  });
}

ImportRules& ImportRules::ignore(const std::string& pattern) {
  return custom([expression = compile("ignore", pattern)](StateDict state) {
    std::erase_if(state, [&](const auto& entry) { return std::regex_match(entry.first, expression); });
    return state;
  });
}

ImportRules& ImportRules::transpose(const std::string& pattern) {
  return custom(change_tensors("transpose", pattern, [](const Tensor& t) { return contiguous(mT(t)); }));
}

ImportRules& ImportRules::permute(const std::string& pattern, const Axes& axes) {
  return custom(
      change_tensors("permute", pattern, [axes](const Tensor& t) { return contiguous(solvent::permute(t, axes)); }));
}

ImportRules& ImportRules::reshape(const std::string& pattern, const Shape& shape) {
  return custom(change_tensors("reshape", pattern, [shape](const Tensor& t) { return solvent::reshape(t, shape); }));
}

ImportRules& ImportRules::gru(const std::string& from, const std::string& to, const std::string& suffix) {
  return custom([from, to, suffix](StateDict state) {
    PyTorchGru parameters;
    parameters.weight_ih = take(state, from + "weight_ih" + suffix);
    parameters.weight_hh = take(state, from + "weight_hh" + suffix);
    parameters.bias_ih = take(state, from + "bias_ih" + suffix);
    parameters.bias_hh = take(state, from + "bias_hh" + suffix);
    for (auto& [name, value] : GruCell::from_pytorch(parameters).state_dict()) state.emplace_back(to + name, value);
    return state;
  });
}

ImportRules& ImportRules::custom(std::function<StateDict(StateDict)> change) {
  rules_.push_back(std::move(change));
  return *this;
}

StateDict ImportRules::apply(StateDict state) const {
  for (const auto& rule : rules_) state = rule(std::move(state));
  std::set<std::string> names;
  for (const auto& [name, value] : state)
    if (!names.insert(name).second)
      throw ValueError(fmt::format(
          "[ImportRules] two tensors are named \"{}\" after the rules; make the patterns more exact.", name));
  return state;
}

StateDict read_state_dict(const std::string& path) {
  const std::filesystem::path file(path);
  if (file.extension() == ".safetensors") return load_safetensors(path).tensors;
  if (file.extension() == ".npz") return load_npz(path);
  if (file.extension() == ".npy") return {{file.stem().string(), load_npy(path)}};
  throw ValueError(fmt::format(
      "[read_state_dict] got '{}'; expected a .safetensors, .npz or .npy file. A PyTorch .pt file is a Python "
      "pickle: convert it with safetensors.torch.save_file(model.state_dict(), path).",
      path));
}

LoadReport compare_import(const Module& module, const StateDict& state, const ImportRules& rules,
                          const ImportOptions& options) {
  return compare(module, rules.apply(state), options, nullptr);
}

LoadReport compare_import(const Module& module, const std::string& path, const ImportRules& rules,
                          const ImportOptions& options) {
  return compare_import(module, read_state_dict(path), rules, options);
}

LoadReport import_state_dict(Module& module, const StateDict& state, const ImportRules& rules,
                             const ImportOptions& options) {
  return load(module, state, rules, options, "the state dict");
}

LoadReport import_file(Module& module, const std::string& path, const ImportRules& rules,
                       const ImportOptions& options) {
  return load(module, read_state_dict(path), rules, options, "'" + path + "'");
}

}  // namespace solvent::nn
