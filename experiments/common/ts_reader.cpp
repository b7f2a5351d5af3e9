// The `.ts` text format: `#` comments, `@tag value` headers, then after `@data` one series per line, values separated
// by commas, channels and the class label by colons:
//
//   @problemName Example
//   @univariate false
//   @dimensions 2
//   @equalLength false
//   @classLabel true left right
//   @data
//   0.1,0.2,0.3:5,6,7:left

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>

#include <fmt/format.h>

#include "solvent/experiments/common/compressed_file.h"
#include "solvent/experiments/common/datasets.h"
#include "solvent/experiments/common/errors.h"
#include "solvent/experiments/common/text.h"

namespace solvent::experiments {

namespace {

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  for (std::string_view word : split(text, ' ')) {
    word = trim(word);
    if (!word.empty()) words.emplace_back(word);
  }
  return words;
}

/// Text quoted in a message: cut to a readable length, control characters spelled out (a NUL would end the message).
std::string excerpt(std::string_view text) {
  constexpr std::size_t kLength = 40;
  std::string quoted;
  for (const char c : text.substr(0, kLength)) {
    const auto byte = static_cast<unsigned char>(c);
    quoted += byte < 0x20 || byte == 0x7f ? fmt::format("\\x{:02x}", byte) : std::string(1, c);
  }
  return text.size() <= kLength ? quoted : quoted + "...";
}

class TsParser {
 public:
  explicit TsParser(const std::filesystem::path& path) : file_(path) { data_.name = path.filename().string(); }

  SequenceData parse() {
    std::string line;
    while (file_.read_line(line)) {
      ++line_number_;
      std::string_view text = line;
      constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
      if (line_number_ == 1 && text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
      text = trim(text);
      if (text.empty() || text.front() == '#' || text.front() == '%') continue;
      if (in_data_) {
        parse_series(text);
      } else if (text.front() == '@') {
        parse_tag(text);
      } else {
        fail(fmt::format("\"{}\" before @data; expected a line starting with # or @", excerpt(text)));
      }
    }
    if (!in_data_) fail("the file ends before @data; it is no .ts file or is truncated. Fetch it again.");
    if (data_.size() == 0) fail("there is no series after @data; the file is truncated. Fetch it again.");
    return std::move(data_);
  }

 private:
  [[noreturn]] void fail(const std::string& problem) const {
    throw DataError(fmt::format("[read_ts] {}:{}: {}", file_.path().string(), line_number_, problem));
  }

  bool truth_value(const std::vector<std::string>& words) const {
    const std::string value = words.size() == 2 ? to_lower(words[1]) : "";
    if (value != "true" && value != "false") fail(fmt::format("{} needs true or false", words[0]));
    return value == "true";
  }

  std::int64_t positive_integer(const std::vector<std::string>& words) const {
    const auto value = words.size() == 2 ? parse_integer(words[1]) : std::nullopt;
    if (!value || *value < 1) fail(fmt::format("{} needs a positive integer", words[0]));
    return *value;
  }

  void parse_tag(std::string_view text) {
    const std::vector<std::string> words = words_of(text);
    const std::string tag = to_lower(words[0]);
    if (tag == "@problemname" && words.size() > 1) data_.name = words[1];
    if (tag == "@timestamps" && truth_value(words)) fail("time stamps are not supported; expected @timeStamps false");
    if (tag == "@univariate" && truth_value(words)) claimed_channels_ = 1;
    if (tag == "@dimensions" || tag == "@dimension") claimed_channels_ = positive_integer(words);
    if (tag == "@equallength") equal_length_ = truth_value(words);
    if (tag == "@serieslength") claimed_length_ = positive_integer(words);
    if (tag == "@targetlabel" && words.size() > 1 && to_lower(words[1]) == "true") {
      fail("@targetLabel marks a regression problem; expected @classLabel true NAME ...");
    }
    if (tag == "@classlabel") parse_class_names(words);
    if (tag == "@data") start_data();
    // Other tags carry descriptions only.
  }

  void parse_class_names(const std::vector<std::string>& words) {
    if (words.size() < 3 || to_lower(words[1]) != "true") {
      fail("series without class labels are not supported; expected @classLabel true NAME ...");
    }
    data_.class_names.assign(words.begin() + 2, words.end());
    std::vector<std::string> sorted = data_.class_names;
    std::sort(sorted.begin(), sorted.end());
    const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
    if (twice != sorted.end()) fail(fmt::format("class \"{}\" is named twice in @classLabel", *twice));
  }

  void start_data() {
    if (data_.class_names.empty()) fail("@data without @classLabel before it; expected @classLabel true NAME ...");
    in_data_ = true;
  }

  std::int64_t label_of(std::string_view text) const {
    const auto& names = data_.class_names;
    const auto it = std::find(names.begin(), names.end(), text);
    if (it == names.end()) {
      fail(fmt::format("class \"{}\" behind the last colon; expected one of {}", excerpt(text), join(names, ", ")));
    }
    return it - names.begin();
  }

  void parse_channel(std::string_view text, std::size_t channel, std::size_t num_channels) {
    std::size_t t = 0;
    for (std::string_view piece : split(text, ',')) {
      piece = trim(piece);
      if (piece == "?") {
        fail(fmt::format("value {} of channel {} is missing (?); missing values are not supported, fill them in first",
                         t + 1, channel + 1));
      }
      const std::optional<double> value = parse_real(piece);
      if (!value || !std::isfinite(static_cast<float>(*value))) {
        fail(fmt::format("value {} of channel {} is \"{}\"; expected a finite number", t + 1, channel + 1,
                         excerpt(piece)));
      }
      // Channel 0 fixes the length; the buffer is (step, channel) with all channels of a step together.
      if (channel == 0) series_.resize((t + 1) * num_channels);
      if ((t + 1) * num_channels <= series_.size()) series_[t * num_channels + channel] = static_cast<float>(*value);
      ++t;
    }
    if (t * num_channels != series_.size()) {
      fail(fmt::format("channel {} has {} values, channel 1 has {}; expected equally many", channel + 1, t,
                       series_.size() / num_channels));
    }
  }

  void parse_series(std::string_view text) {
    const std::vector<std::string_view> parts = split(text, ':');
    if (parts.size() < 2) fail("no colon with a class label at the end of the series; the line is cut short");
    const std::size_t channels = parts.size() - 1;
    if (claimed_channels_ == 0) claimed_channels_ = static_cast<std::int64_t>(channels);
    if (static_cast<std::int64_t>(channels) != claimed_channels_) {
      fail(fmt::format("the series has {} channels; expected {} as announced or as in the first series", channels,
                       claimed_channels_));
    }
    data_.num_channels = claimed_channels_;
    const std::int64_t label = label_of(trim(parts.back()));
    series_.clear();
    for (std::size_t c = 0; c < channels; ++c) parse_channel(parts[c], c, channels);
    const auto length = static_cast<std::int64_t>(series_.size() / channels);
    if (equal_length_.value_or(false)) {
      if (claimed_length_ == 0) claimed_length_ = length;
      if (length != claimed_length_) {
        fail(fmt::format("the series has {} steps; expected {} (@equalLength true)", length, claimed_length_));
      }
    }
    data_.append(series_, label);
  }

  CompressedFile file_;
  SequenceData data_;
  std::vector<float> series_;
  std::int64_t line_number_ = 0, claimed_channels_ = 0, claimed_length_ = 0;
  std::optional<bool> equal_length_;
  bool in_data_ = false;
};

}  // namespace

SequenceData read_ts(const std::filesystem::path& file) { return TsParser(file).parse(); }

}  // namespace solvent::experiments
