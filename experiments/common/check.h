#pragma once
/// `--check`: compares a run's results with the numbers of the experiment's expected.json.

#include <filesystem>
#include <string>

#include "solvent/experiments/common/errors.h"
#include "solvent/experiments/common/options.h"
#include "solvent/experiments/common/run_dir.h"
#include "solvent/experiments/common/summary.h"

namespace solvent::experiments {

struct CheckSettings {
  bool check = false;
  std::string expected;
};

/// Adds `--check` and `--expected FILE` to the current group.
void describe(CheckSettings& settings, Options& options);

/// The numbers that a run will be compared with; found and verified before the run starts.
///
/// ```cpp
/// const Expectations expectations(s.check, "deer", "demo/smoke");   // UsageError now, not after an hour
/// ...
/// return expectations.compare(summary, log);
/// ```
class Expectations {
 public:
  /// Does nothing unless settings.check is set.
  /// @param experiment  folder in experiments/: its expected.json is looked for below the working directory and below the
  ///                    source tree that the program was built in, unless `settings.expected` names a file
  /// @param section     as check_expected takes it
  /// @throws UsageError if there is no file or no section; IoError if the file is malformed
  Expectations(const CheckSettings& settings, const std::string& experiment, std::string section);

  /// Logs one line per number. @return check_failed if one is outside its tolerance, else done
  ExitCode compare(const Summary& summary, Log& log) const;

 private:
  std::filesystem::path file_;  // empty: nothing to check
  std::string section_;
};

/// The preset in force, else "default": a part of most sections.
std::string preset_section(const Options& options);

}  // namespace solvent::experiments
