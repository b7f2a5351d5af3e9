#include "solvent/experiments/common/data/series_parser.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include <fmt/format.h>

#include "solvent/experiments/common/errors.h"
#include "solvent/experiments/common/text.h"

namespace solvent::experiments::detail {

void SeriesParser::fail(const std::string& problem) const {
  throw DataError(fmt::format("[{}] {}:{}: {}", op_, file_.name(), line_number_, problem));
}

bool SeriesParser::next_line(std::string_view& text, std::string_view comment) {
  while (file_.read_line(line_)) {
    ++line_number_;
    text = line_;
    constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
    if (line_number_ == 1 && text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
    text = trim(text);
    if (!text.empty() && comment.find(text.front()) == std::string_view::npos) return true;
  }
  return false;
}

std::int64_t SeriesParser::label_of(std::string_view text) const {
  const auto& names = data_.class_names;
  const auto it = std::find(names.begin(), names.end(), text);
  if (it == names.end()) {
    fail(fmt::format("class \"{}\" at the end of the series; expected one of {}", excerpt(text),
                     excerpt(join(names, ", "))));
  }
  return it - names.begin();
}

void SeriesParser::set_class_names(std::vector<std::string> names) {
  std::vector<std::string> sorted = names;
  std::sort(sorted.begin(), sorted.end());
  const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
  if (twice != sorted.end()) fail(fmt::format("class \"{}\" is named twice", excerpt(*twice)));
  for (const std::string& name : names) {
    if (!is_utf8(name)) fail(fmt::format("class \"{}\" is no UTF-8 text; convert the file", excerpt(name)));
  }
  data_.class_names = std::move(names);
}

void SeriesParser::start_series() {
  values_.clear();
  channel_ends_.clear();
}

void SeriesParser::add_value(std::string_view text) {
  text = trim(text);
  const std::size_t begin = channel_ends_.empty() ? 0 : channel_ends_.back();
  const auto where = [&] {
    return fmt::format("value {} of channel {}", values_.size() - begin + 1, channel_ends_.size() + 1);
  };
  // "nan" by itself: parse_real would take "nan(1)" or "-nan" too.
  const bool is_missing = text == "?" || (text.size() == 3 && to_lower(text) == "nan");
  if (is_missing) {
    values_.push_back(std::numeric_limits<float>::quiet_NaN());
    return;
  }
  const std::optional<double> value = parse_real(text);
  if (!value || !std::isfinite(static_cast<float>(*value))) {
    fail(fmt::format("{} is \"{}\"; expected a finite number", where(), excerpt(text)));
  }
  values_.push_back(static_cast<float>(*value));
}

void SeriesParser::end_channel() {
  const std::size_t begin = channel_ends_.empty() ? 0 : channel_ends_.back();
  const std::size_t length = values_.size() - begin;
  if (!channel_ends_.empty() && length != channel_ends_.front()) {
    fail(fmt::format("channel {} has {} values, channel 1 has {}; expected equally many", channel_ends_.size() + 1,
                     length, channel_ends_.front()));
  }
  channel_ends_.push_back(values_.size());
}

void SeriesParser::add_channel(std::string_view text) {
  Pieces pieces(text, ',');
  for (std::string_view piece; pieces.next(piece);) add_value(piece);
  end_channel();
}

std::int64_t SeriesParser::finish_series(std::int64_t label, bool cut_padding) {
  const std::size_t channels = channel_ends_.size(), length = channel_ends_.front();
  std::size_t kept = length;
  const auto at = [&](std::size_t step, std::size_t channel) { return values_[channel * length + step]; };
  const auto is_padding = [&](std::size_t step) {
    for (std::size_t c = 0; c < channels; ++c) {
      if (!std::isnan(at(step, c))) return false;
    }
    return true;
  };
  while (cut_padding && kept > 0 && is_padding(kept - 1)) --kept;
  if (kept == 0) fail("the series has no values");
  table_.clear();
  for (std::size_t t = 0; t < kept; ++t) {
    for (std::size_t c = 0; c < channels; ++c) {
      const float value = at(t, c);
      if (std::isnan(value) && options_.missing == MissingValues::error) {
        fail(fmt::format("value {} of channel {} is missing (? or NaN); fill it in, or read with MissingValues::nan",
                         t + 1, c + 1));
      }
      table_.push_back(value);
    }
  }
  data_.append(table_, label);
  return static_cast<std::int64_t>(kept);
}

}  // namespace solvent::experiments::detail
