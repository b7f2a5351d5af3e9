#pragma once
/// Splits a command line into options and their texts; knows nothing of types and ranges.

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "solvent/experiments/common/options.h"

namespace solvent::experiments {

/// What was typed.
struct CommandLine {
  bool help = false;
  bool print_config = false;
  std::optional<std::string> config, preset;
  std::vector<std::pair<std::string, std::string>> values;  ///< option name without dashes, text; in the options' order
};

/// Splits `args` (program and sub-command names removed). `--name VALUE` and `--name=VALUE` are the same; a flag is
/// `--name`, `--no-name` or `--name=yes`.
/// @throws UsageError for an unknown option (nearest suggested), a missing value, a stray word, or a repeated option.
CommandLine parse_command_line(std::span<const std::string> args, const Options& options);

}  // namespace solvent::experiments
