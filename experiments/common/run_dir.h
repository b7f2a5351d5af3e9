#pragma once
/// The directory of one run: config.toml, build.txt, metrics.csv, summary.json, log.txt, figures, checkpoint/.
///
/// Everything but metrics.csv and log.txt, which grow line by line, is renamed into place complete.

#include <cstdint>
#include <filesystem>
#include <iosfwd>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace solvent::experiments {

/// ```
/// runs/deer-classify-20240131-154500/
///   config.toml  build.txt  metrics.csv  summary.json  log.txt  loss.png  checkpoint/
/// ```
class RunDir {
 public:
  /// Makes a new directory `root/name-YYYYMMDD-HHMMSS` (with -2, -3, ... behind it if taken).
  /// @throws IoError if it cannot be made.
  static RunDir create(const std::filesystem::path& root, const std::string& name);
  /// Makes exactly this directory; it may exist if it holds no run (no config.toml). @throws IoError otherwise.
  static RunDir create_at(const std::filesystem::path& directory);
  /// Opens the directory of an earlier run to go on. @throws MissingDataError if it is not one.
  static RunDir open(const std::filesystem::path& directory);

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] std::filesystem::path file(const std::string& name) const { return path_ / name; }
  /// Where checkpoints go; exists.
  [[nodiscard]] std::filesystem::path checkpoint_dir() const { return path_ / "checkpoint"; }

  /// Writes a whole file atomically. @throws IoError; an earlier file stays as it was.
  void write(const std::string& name, std::string_view text) const;

 private:
  explicit RunDir(std::filesystem::path path);
  std::filesystem::path path_;
};

/// Messages to the terminal and, with the time since the start in front, to log.txt.
class Log {
 public:
  /// Appends to `file`; `terminal` may be null. @throws IoError if the file cannot be opened.
  Log(const std::filesystem::path& file, std::ostream* terminal);
  ~Log();
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  /// Writes one or several lines (no newline at the end needed).
  void write(std::string_view text);
  /// To the file only.
  void write_quietly(std::string_view text);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// A column of metrics.csv.
struct MetricColumn {
  std::string name, unit;  ///< header "loss [nat]"; without unit just "loss"
};

/// One row per recorded step, written at once so that a killed run keeps its rows. The ending of the file decides:
/// `.jsonl` has one JSON object per line (`{"step": 3, "loss": 0.5}`, without units; infinities as texts), every other is
/// CSV with a header (`step,loss [nat]`).
class MetricsWriter {
 public:
  /// Starts a new file. @throws IoError; ValueError for a column name with a comma, quote, backslash or newline
  MetricsWriter(std::filesystem::path file, std::vector<MetricColumn> columns);
  /// Continues a file after `last_step`: later rows (written after the checkpoint that the run resumes from) and an
  /// incomplete last line are dropped. A missing file is started anew.
  /// @throws IoError if the file's header names other columns or a row that is kept is malformed.
  MetricsWriter(std::filesystem::path file, std::vector<MetricColumn> columns, std::int64_t last_step);
  ~MetricsWriter();
  MetricsWriter(const MetricsWriter&) = delete;
  MetricsWriter& operator=(const MetricsWriter&) = delete;

  /// Appends one row; `values` in the columns' order, a NaN leaves its cell empty ("not measured at this step").
  /// @throws ValueError if the count is wrong or `step` does not grow; IoError if the disk is full.
  void append(std::int64_t step, std::span<const double> values);
  /// Flushes to disk; call before writing a checkpoint, which must not be ahead of its metrics.
  void sync();

 private:
  void open();
  [[nodiscard]] std::string row_of(std::int64_t step, std::span<const double> values) const;
  std::filesystem::path file_;
  std::vector<MetricColumn> columns_;
  bool is_json_ = false;
  std::int64_t last_step_ = -1;
  int descriptor_ = -1;
};

/// A metrics.csv read back.
struct Metrics {
  std::vector<std::string> names;            ///< header cells as written, "step" first
  std::vector<std::vector<double>> columns;  ///< one vector per name; empty cells are NaN
  /// Column by the name before its unit. @throws IoError if there is none.
  [[nodiscard]] const std::vector<double>& column(std::string_view name) const;
};
/// @throws IoError for a missing or malformed file, naming the line.
Metrics read_metrics(const std::filesystem::path& file);

}  // namespace solvent::experiments
