// One series per line: class label, then values, separated by blanks, tabs or commas. There is no header.

#include <algorithm>
#include <map>
#include <optional>
#include <string>

#include <fmt/format.h>

#include "solvent/experiments/common/data/series_parser.h"
#include "solvent/experiments/common/errors.h"
#include "solvent/experiments/common/text.h"

namespace solvent::experiments {

namespace {

class UcrTextParser : private detail::SeriesParser {
 public:
  UcrTextParser(InputStream& file, const SeriesOptions& options) : SeriesParser("read_ucr_text", file, options) {
    data_.name = std::filesystem::path(file.name()).filename().string();
  }

  SequenceData parse() {
    data_.class_names = {"?"};  // known at the end only
    std::vector<std::int64_t> labels;
    for (std::string_view text; next_line(text, "#");) labels.push_back(parse_line(text));
    if (labels.empty()) fail("there is no series; expected lines of a class label and values");
    std::map<std::int64_t, std::int64_t> index;
    for (const std::int64_t label : labels) index.emplace(label, 0);
    data_.class_names.clear();
    for (auto& [label, position] : index) {
      position = static_cast<std::int64_t>(data_.class_names.size());
      data_.class_names.push_back(std::to_string(label));
    }
    for (std::size_t i = 0; i < labels.size(); ++i) data_.labels[i] = index[labels[i]];
    return std::move(data_);
  }

 private:
  std::int64_t parse_line(std::string_view text) {
    start_series();
    std::optional<std::int64_t> label;
    while (!text.empty()) {
      const std::size_t end = std::min(text.find_first_of(" \t,"), text.size());
      const std::string_view word = text.substr(0, end);
      text.remove_prefix(std::min(end + 1, text.size()));
      if (word.empty()) continue;
      if (label) {
        add_value(word);
      } else {
        label = label_value(word);
      }
    }
    if (values_.empty()) fail("there are no values behind the class label");
    end_channel();
    finish_series(0, true);
    return *label;
  }

  /// The archive writes some labels as "1.0000000e+00".
  std::int64_t label_value(std::string_view word) const {
    const auto value = parse_real(word);
    if (!value || !(*value >= -1e9 && *value <= 1e9) ||
        *value != static_cast<double>(static_cast<std::int64_t>(*value))) {
      fail(fmt::format("class label \"{}\"; expected an integer", excerpt(word)));
    }
    return static_cast<std::int64_t>(*value);
  }
};

}  // namespace

SequenceData read_ucr_text(const std::filesystem::path& path, const SeriesOptions& options) {
  InputStream file(path, options.progress);
  return UcrTextParser(file, options).parse();
}

SequenceData parse_ucr_text(std::span<const std::byte> bytes, const std::string& name, const SeriesOptions& options) {
  InputStream file(bytes, name);
  return UcrTextParser(file, options).parse();
}

}  // namespace solvent::experiments
