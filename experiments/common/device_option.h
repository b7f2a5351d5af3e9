#pragma once
/// The option `--device` of experiment programs.

#include <string>

#include "solvent/core/device.h"
#include "solvent/experiments/common/options.h"

namespace solvent::experiments {

/// Adds `--device cpu|cuda|cuda:N`; like --threads it says where to run, not what, and is not written to config files.
Option& add_device(Options& options, std::string* target);

/// The device that `text` names. @throws UsageError (exit code 2) that says what was expected, or why this build or machine has
/// no such device.
Device open_device(const std::string& text);

}  // namespace solvent::experiments
