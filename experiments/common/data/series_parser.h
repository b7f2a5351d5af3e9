#pragma once
/// What the readers of series share: lines with numbers, values, one series after the other. Internal to them.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "solvent/experiments/common/data/time_series.h"

namespace solvent::experiments::detail {

class SeriesParser {
 public:
  SeriesParser(const char* op, InputStream& file, const SeriesOptions& options)
      : file_(file), op_(op), options_(options) {}

 protected:
  /// The next line that is not empty and no comment (starting with one of `comment`), without blanks around.
  bool next_line(std::string_view& text, std::string_view comment);
  [[noreturn]] void fail(const std::string& problem) const;

  /// Index of the class called `text`.
  [[nodiscard]] std::int64_t label_of(std::string_view text) const;
  /// Takes the names of the classes. @throws DataError if one is there twice or is no UTF-8
  void set_class_names(std::vector<std::string> names);

  /// Starts a series; then one call of add_channel() per channel, then finish_series().
  void start_series();
  /// Values separated by commas. `?` and NaN are missing.
  void add_channel(std::string_view text);
  void add_value(std::string_view text);
  void end_channel();
  /// Cuts steps off the end that are missing in all channels, if asked to; then refuses missing values, unless they are
  /// allowed, and appends the series. Returns its length.
  std::int64_t finish_series(std::int64_t label, bool cut_padding);

  InputStream& file_;
  SequenceData data_;
  std::int64_t line_number_ = 0;
  /// Values of the series so far, channel after channel, and where each channel ends. Memory is bounded by the line's
  /// length; only equal channels become a table.
  std::vector<float> values_;
  std::vector<std::size_t> channel_ends_;

 private:
  const char* op_;
  const SeriesOptions& options_;
  std::string line_;
  std::vector<float> table_;
};

}  // namespace solvent::experiments::detail
