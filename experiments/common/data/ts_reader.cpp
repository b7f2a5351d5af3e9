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
#include <optional>
#include <string>

#include <fmt/format.h>

#include "solvent/experiments/common/data/series_parser.h"
#include "solvent/experiments/common/errors.h"
#include "solvent/experiments/common/text.h"

namespace solvent::experiments {

namespace {

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  Pieces pieces(text, ' ');
  for (std::string_view word; pieces.next(word);) {
    word = trim(word);
    if (!word.empty()) words.emplace_back(word);
  }
  return words;
}

class TsParser : private detail::SeriesParser {
 public:
  TsParser(InputStream& file, const SeriesOptions& options) : SeriesParser("read_ts", file, options) {
    data_.name = std::filesystem::path(file.name()).filename().string();
  }

  SequenceData parse() {
    for (std::string_view text; next_line(text, "#%");) {
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
  bool truth_value(const std::vector<std::string>& words) const {
    const std::string value = words.size() == 2 ? to_lower(words[1]) : "";
    if (value != "true" && value != "false") fail(fmt::format("{} needs true or false", excerpt(words[0])));
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
    if (tag == "@problemname" && words.size() > 1 && is_utf8(words[1])) data_.name = words[1];
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
    set_class_names({words.begin() + 2, words.end()});
  }

  void start_data() {
    if (data_.class_names.empty()) fail("@data without @classLabel before it; expected @classLabel true NAME ...");
    in_data_ = true;
  }

  void parse_series(std::string_view text) {
    const std::size_t colon = text.rfind(':');
    if (colon == std::string_view::npos) {
      fail("no colon with a class label at the end of the series; the line is cut short");
    }
    const std::int64_t channels = std::count(text.begin(), text.end(), ':');
    if (claimed_channels_ == 0) claimed_channels_ = channels;
    if (channels != claimed_channels_) {
      fail(fmt::format("the series has {} channels; expected {} as announced or as in the first series", channels,
                       claimed_channels_));
    }
    data_.num_channels = claimed_channels_;
    const std::int64_t label = label_of(trim(text.substr(colon + 1)));
    start_series();
    Pieces pieces(text.substr(0, colon), ':');
    for (std::string_view channel; pieces.next(channel);) add_channel(channel);
    const std::int64_t length = finish_series(label, false);
    if (equal_length_.value_or(false)) {
      if (claimed_length_ == 0) claimed_length_ = length;
      if (length != claimed_length_) {
        fail(fmt::format("the series has {} steps; expected {} (@equalLength true)", length, claimed_length_));
      }
    }
  }

  std::int64_t claimed_channels_ = 0, claimed_length_ = 0;
  std::optional<bool> equal_length_;
  bool in_data_ = false;
};

}  // namespace

SequenceData read_ts(const std::filesystem::path& path, const SeriesOptions& options) {
  InputStream file(path, options.progress);
  return TsParser(file, options).parse();
}

SequenceData parse_ts(std::span<const std::byte> bytes, const std::string& name, const SeriesOptions& options) {
  InputStream file(bytes, name);
  return TsParser(file, options).parse();
}

}  // namespace solvent::experiments
