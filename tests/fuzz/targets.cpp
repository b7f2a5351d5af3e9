#include "solvent/tests/fuzz/targets.h"

#include <stdexcept>
#include <string>

namespace solvent::fuzz {

const std::vector<Target>& targets() {
  static const std::vector<Target> all = {
      {"safetensors", run_safetensors},
      {"npy", run_npy},
      {"npz", run_npz},
      {"idx", run_idx},
      {"cifar", run_cifar},
      {"ts", run_ts},
      {"arff", run_arff},
      {"config", run_config},
      {"checkpoint", run_checkpoint},
  };
  return all;
}

const Target& find_target(std::string_view name) {
  std::string names;
  for (const Target& target : targets()) {
    if (target.name == name) return target;
    names += " " + std::string(target.name);
  }
  throw std::invalid_argument("no fuzz target \"" + std::string(name) + "\"; there are:" + names);
}

}  // namespace solvent::fuzz
