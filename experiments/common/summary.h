#pragma once
/// summary.json: results of a run as nested names and values.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace solvent::experiments {

/// ```cpp
/// Summary summary;
/// summary.set("methods.deer.seconds", 0.0123);   // {"methods": {"deer": {"seconds": 0.0123}}}
/// summary.set("methods.deer.converged", true);
/// summary.write(run.file("summary.json"));
/// ```
/// Names keep the order of their first use. Non-finite numbers, which JSON lacks, become "nan", "inf", "-inf".
class Summary {
 public:
  Summary();
  ~Summary();
  Summary(Summary&&) noexcept;
  Summary& operator=(Summary&&) noexcept;

  /// Reads a summary.json back. @throws IoError for a missing or malformed file, naming the offset.
  static Summary read(const std::filesystem::path& file);

  void set(const std::string& path, double value);
  void set(const std::string& path, std::int64_t value);
  void set(const std::string& path, int value) { set(path, static_cast<std::int64_t>(value)); }
  void set(const std::string& path, bool value);
  void set(const std::string& path, std::string_view value);
  void set(const std::string& path, const char* value) { set(path, std::string_view(value)); }
  void set(const std::string& path, std::span<const double> values);
  void set(const std::string& path, std::span<const std::int64_t> values);

  /// Number or truth value stored under `path`. @throws IoError if absent or of another kind.
  [[nodiscard]] double number(const std::string& path) const;
  [[nodiscard]] bool has(const std::string& path) const;
  /// Any value stored under `path` as JSON text. @throws IoError if absent
  [[nodiscard]] std::string json_of(const std::string& path) const;

  [[nodiscard]] std::string to_json() const;
  /// Atomically. @throws IoError
  void write(const std::filesystem::path& file) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// One entry of `expected.json` compared with the run's value.
struct CheckResult {
  std::string path;
  double value = 0, expected = 0, tolerance = 0;  ///< of entries with "value"; `value` also of "min" and "max"
  bool passed = false;
  std::string found;        ///< the run's value as text; empty if there is none
  std::string expectation;  ///< "0.88 +- 0.03", ">= 0.5", "converged"
  std::string note;         ///< why a value is missing, else empty
};

/// Compares with a file of the form
///
///     {"test.accuracy": {"value": 0.9, "tolerance": 0.02},                 absolute
///      "seconds": {"value": 40, "tolerance": 0.5, "relative": true},
///      "solver.max_residual": {"max": 1e-4}, "train.accuracy": {"min": 0.6},
///      "status": {"is": "converged"}, "parity.agrees": {"is": true}}
///
/// An entry may have a "why". With a `section` such as "classify/demo", the entries are those under "classify", "demo".
/// @throws IoError if the file is malformed; UsageError if there is no such section, listing the ones there are
std::vector<CheckResult> check_expected(const Summary& summary, const std::filesystem::path& expected_file,
                                        const std::string& section = "");

}  // namespace solvent::experiments
