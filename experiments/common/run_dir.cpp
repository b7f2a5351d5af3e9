#include "solvent/experiments/common/run_dir.h"

#include <fcntl.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <ctime>
#include <fstream>
#include <limits>
#include <optional>
#include <ostream>
#include <system_error>

#include <fmt/format.h>

#include "solvent/core/io/atomic_file.h"
#include "solvent/experiments/common/errors.h"
#include "solvent/experiments/common/text.h"

namespace solvent::experiments {

namespace fs = std::filesystem;

// ---- RunDir ---------------------------------------------------------------------------------------------------------

namespace {

void make_directories(const fs::path& directory) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) {
    throw IoError(fmt::format("[run directory] cannot make {}: {}; choose another place with --run-dir",
                              directory.string(), error.message()));
  }
}

std::string local_time_stamp() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  localtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y%m%d-%H%M%S", &parts);
  return text;
}

}  // namespace

RunDir::RunDir(fs::path path) : path_(std::move(path)) { make_directories(checkpoint_dir()); }

RunDir RunDir::create(const fs::path& root, const std::string& name) {
  make_directories(root);
  const std::string base = name + "-" + local_time_stamp();
  for (int i = 1;; ++i) {
    const fs::path path = root / (i == 1 ? base : fmt::format("{}-{}", base, i));
    std::error_code error;
    // create_directory is atomic: two runs started in the same second get different directories.
    if (fs::create_directory(path, error)) return RunDir(path);
    if (error) throw IoError(fmt::format("[run directory] cannot make {}: {}", path.string(), error.message()));
  }
}

RunDir RunDir::create_at(const fs::path& directory) {
  if (fs::exists(directory / "config.toml")) {
    throw IoError(
        fmt::format("[run directory] {} holds a run already; choose another directory, or continue that run "
                    "with --resume {}",
                    directory.string(), directory.string()));
  }
  return RunDir(directory);
}

RunDir RunDir::open(const fs::path& directory) {
  if (!fs::exists(directory / "config.toml")) {
    throw MissingDataError(fmt::format(
        "[run directory] {} has no config.toml; expected the directory of an earlier run", directory.string()));
  }
  return RunDir(directory);
}

void RunDir::write(const std::string& name, std::string_view text) const {
  write_file_atomically(file(name).string(), text);
}

// ---- Log ------------------------------------------------------------------------------------------------------------

struct Log::State {
  std::ofstream file;
  std::ostream* terminal = nullptr;
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
};

Log::Log(const fs::path& file, std::ostream* terminal) : state_(std::make_unique<State>()) {
  state_->file.open(file, std::ios::app);
  if (!state_->file)
    throw IoError(fmt::format("[log] cannot append to {}; is the run directory writable?", file.string()));
  state_->terminal = terminal;
}

Log::~Log() = default;

void Log::write(std::string_view text) {
  if (state_->terminal) *state_->terminal << text << std::endl;
  write_quietly(text);
}

void Log::write_quietly(std::string_view text) {
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - state_->start;
  for (const std::string_view line : split(text, '\n')) {
    state_->file << fmt::format("{:10.3f} s  {}\n", elapsed.count(), line);
  }
  // A log that cannot be written must not end a training run; the next checkpoint reports a full disk.
  state_->file.flush();
  state_->file.clear();
}

// ---- metrics.csv ----------------------------------------------------------------------------------------------------

namespace {

bool is_json(const fs::path& file) { return file.extension() == ".jsonl"; }

/// First line of the file; empty for JSON lines.
std::string header_of(const std::vector<MetricColumn>& columns, bool json) {
  std::string header = "step";
  for (const MetricColumn& column : columns) {
    const bool is_bad = std::any_of(column.name.begin(), column.name.end(),
                                    [](unsigned char c) { return c == ',' || c == '"' || c == '\\' || c < ' '; });
    if (is_bad) {
      throw ValueError(
          fmt::format("[metrics] column name \"{}\" contains a comma, quote, backslash or newline", column.name));
    }
    header += "," + column.name + (column.unit.empty() ? "" : " [" + column.unit + "]");
  }
  return json ? std::string() : header + "\n";
}

/// The step that a row starts with.
std::optional<std::int64_t> step_of(std::string_view row) {
  constexpr std::string_view kJsonStart = "{\"step\": ";
  if (row.starts_with(kJsonStart)) row.remove_prefix(kJsonStart.size());
  return parse_integer(row.substr(0, row.find_first_of(",}")));
}

[[noreturn]] void fail_writing(const fs::path& file, int error) {
  throw IoError(fmt::format("[metrics] cannot write {}: {}; rows written before are intact", file.string(),
                            std::strerror(error)));
}

void write_all(int descriptor, std::string_view text, const fs::path& file) {
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_writing(file, errno);
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

/// The part of a metrics file that a run resuming after `last_step` keeps; `kept_step` receives its last step.
std::string_view rows_until(std::string_view text, std::string_view header, std::int64_t last_step,
                            const fs::path& file, std::int64_t& kept_step) {
  if (!text.starts_with(header)) {
    throw IoError(
        fmt::format("[metrics] {} starts with \"{}\"; expected \"{}\". Resume with the settings of the "
                    "original run.",
                    file.string(), text.substr(0, text.find('\n')), trim(header)));
  }
  std::size_t end = header.size();
  for (std::int64_t line = header.empty() ? 1 : 2; end < text.size(); ++line) {
    const std::size_t newline = text.find('\n', end);
    if (newline == std::string_view::npos) break;  // the last write was cut short
    const std::string_view row = text.substr(end, newline - end);
    const auto step = step_of(row);
    if (!step || *step <= kept_step) {
      throw IoError(fmt::format("[metrics] {}:{}: \"{}\" does not start with a step above {}", file.string(), line, row,
                                kept_step));
    }
    if (*step > last_step) break;
    kept_step = *step;
    end = newline + 1;
  }
  return text.substr(0, end);
}

}  // namespace

MetricsWriter::MetricsWriter(fs::path file, std::vector<MetricColumn> columns)
    : file_(std::move(file)), columns_(std::move(columns)), is_json_(is_json(file_)) {
  write_file_atomically(file_.string(), header_of(columns_, is_json_));
  open();
}

MetricsWriter::MetricsWriter(fs::path file, std::vector<MetricColumn> columns, std::int64_t last_step)
    : file_(std::move(file)), columns_(std::move(columns)), is_json_(is_json(file_)) {
  const std::string header = header_of(columns_, is_json_);
  if (fs::exists(file_)) {
    const std::string text = read_file(file_.string());
    write_file_atomically(file_.string(), rows_until(text, header, last_step, file_, last_step_));
  } else {
    write_file_atomically(file_.string(), header);
  }
  open();
}

void MetricsWriter::open() {
  descriptor_ = ::open(file_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (descriptor_ < 0) fail_writing(file_, errno);
}

MetricsWriter::~MetricsWriter() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void MetricsWriter::append(std::int64_t step, std::span<const double> values) {
  if (values.size() != columns_.size() || step <= last_step_) {
    throw ValueError(fmt::format("[metrics] got step {} with {} values; expected a step above {} with {} values", step,
                                 values.size(), last_step_, columns_.size()));
  }
  write_all(descriptor_, row_of(step, values), file_);
  last_step_ = step;
}

std::string MetricsWriter::row_of(std::int64_t step, std::span<const double> values) const {
  std::string row = (is_json_ ? "{\"step\": " : "") + std::to_string(step);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double value = values[i];
    if (is_json_) {
      if (std::isnan(value)) continue;
      const std::string text = format_exact(value);
      row += fmt::format(", \"{}\": {}", columns_[i].name, std::isfinite(value) ? text : "\"" + text + "\"");
    } else {
      row += ',';
      if (!std::isnan(value)) row += format_exact(value);
    }
  }
  return row + (is_json_ ? "}\n" : "\n");
}

void MetricsWriter::sync() {
  if (::fsync(descriptor_) != 0) fail_writing(file_, errno);
}

const std::vector<double>& Metrics::column(std::string_view name) const {
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::string_view cell = names[i];
    if (trim(cell.substr(0, cell.find(" ["))) == name) return columns[i];
  }
  throw IoError(fmt::format("[metrics] no column \"{}\"; there are {}", name, join(names, ", ")));
}

Metrics read_metrics(const fs::path& file) {
  const std::string text = read_file(file.string());
  Metrics metrics;
  std::int64_t line_number = 0;
  for (std::string_view rest = text; !rest.empty();) {
    const std::size_t newline = rest.find('\n');
    if (newline == std::string_view::npos) break;  // a row that is still being written
    const auto cells = split(rest.substr(0, newline), ',');
    rest.remove_prefix(newline + 1);
    if (++line_number == 1) {
      for (const std::string_view cell : cells) metrics.names.emplace_back(cell);
      metrics.columns.resize(cells.size());
      continue;
    }
    if (cells.size() != metrics.names.size()) {
      throw IoError(fmt::format("[metrics] {}:{}: {} cells; expected {}", file.string(), line_number, cells.size(),
                                metrics.names.size()));
    }
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const auto value = cells[i].empty() ? std::numeric_limits<double>::quiet_NaN() : parse_real(cells[i]);
      if (!value) {
        throw IoError(fmt::format("[metrics] {}:{}: \"{}\" is not a number", file.string(), line_number, cells[i]));
      }
      metrics.columns[i].push_back(*value);
    }
  }
  return metrics;
}

}  // namespace solvent::experiments
