#include "solvent/experiments/common/check.h"

#include <system_error>

#include <fmt/format.h>

namespace solvent::experiments {

namespace fs = std::filesystem;

namespace {

fs::path find_expected(const CheckSettings& settings, const std::string& experiment) {
  if (!settings.expected.empty()) {
    if (!fs::exists(settings.expected))
      throw UsageError(fmt::format("[check] --expected {} does not exist.", settings.expected));
    return settings.expected;
  }
  const fs::path name = fs::path("experiments") / experiment / "expected.json";
  std::error_code error;
  // build/<preset>/bin/<program> lies three folders below the root of the sources.
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  for (const fs::path& root : {fs::path("."), program.parent_path() / "../../.."})
    if (fs::exists(root / name)) return fs::canonical(root / name);
  throw UsageError(
      fmt::format("[check] there is no {} below the working directory; name a file with --expected.", name.string()));
}

}  // namespace

void describe(CheckSettings& settings, Options& options) {
  options
      .add("check", &settings.check,
           "compare the results with expected.json; exit code 5 if one is outside its tolerance")
      .transient();
  options.add("expected", &settings.expected, "the file for --check; default experiments/NAME/expected.json")
      .transient();
}

Expectations::Expectations(const CheckSettings& settings, const std::string& experiment, std::string section)
    : section_(std::move(section)) {
  if (!settings.check) return;
  file_ = find_expected(settings, experiment);
  static_cast<void>(check_expected(Summary(), file_, section_));
}

ExitCode Expectations::compare(const Summary& summary, Log& log) const {
  if (file_.empty()) return ExitCode::done;
  int failed = 0;
  const std::vector<CheckResult> results = check_expected(summary, file_, section_);
  for (const CheckResult& r : results) {
    log.write(fmt::format("check  {}  {} = {}, expected {}", r.passed ? "pass" : "FAIL", r.path,
                          r.note.empty() ? r.found : r.note, r.expectation));
    failed += r.passed ? 0 : 1;
  }
  log.write(fmt::format("check  {} of {} numbers of {} ({}) hold", results.size() - static_cast<std::size_t>(failed),
                        results.size(), file_.string(), section_));
  return failed == 0 ? ExitCode::done : ExitCode::check_failed;
}

std::string preset_section(const Options& options) {
  return options.active_preset().empty() ? "default" : options.active_preset();
}

}  // namespace solvent::experiments
