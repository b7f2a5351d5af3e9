// The `.arff` text format as the archive uses it: `%` comments, then
//
//   @relation BasicMotions                          @relation ACSF1
//   @attribute relationalAtt relational             @attribute att1 numeric
//     @attribute att0 numeric                       @attribute att2 numeric
//     @attribute att1 numeric                       @attribute target {0,1}
//   @end relationalAtt                              @data
//   @attribute activity {Standing,Running}          0.5,0.25,1
//   @data
//   "0.1,0.2\n5,6",Standing                         (two channels of two steps)

#include <optional>
#include <string>

#include <fmt/format.h>

#include "solvent/experiments/common/data/series_parser.h"
#include "solvent/experiments/common/errors.h"
#include "solvent/experiments/common/text.h"

namespace solvent::experiments {

namespace {

bool is_blank(char c) { return c == ' ' || c == '\t'; }
bool is_quote(char c) { return c == '\'' || c == '"'; }

class ArffParser : private detail::SeriesParser {
 public:
  ArffParser(InputStream& file, const SeriesOptions& options) : SeriesParser("read_arff", file, options) {
    data_.name = std::filesystem::path(file.name()).filename().string();
  }

  SequenceData parse() {
    for (std::string_view text; next_line(text, "%");) {
      if (in_data_) {
        parse_series(text);
      } else {
        parse_declaration(text);
      }
    }
    if (!in_data_) fail("the file ends before @data; it is no .arff file or is truncated. Fetch it again.");
    if (data_.size() == 0) fail("there is no series after @data; the file is truncated. Fetch it again.");
    return std::move(data_);
  }

 private:
  /// Takes a word, or a quoted text (a backslash keeps a quote inside), off the front of `rest`.
  std::string take_word(std::string_view& rest, std::string_view stop) const {
    while (!rest.empty() && is_blank(rest.front())) rest.remove_prefix(1);
    std::string word;
    if (!rest.empty() && is_quote(rest.front())) {
      const char quote = rest.front();
      std::size_t i = 1;
      for (; i < rest.size() && rest[i] != quote; ++i) {
        if (rest[i] == '\\' && i + 1 < rest.size() && (is_quote(rest[i + 1]) || rest[i + 1] == '\\')) ++i;
        word += rest[i];
      }
      if (i == rest.size()) fail(fmt::format("a quote without end: {}", excerpt(rest)));
      rest.remove_prefix(i + 1);
    } else {
      std::size_t end = 0;
      while (end < rest.size() && !is_blank(rest[end]) && stop.find(rest[end]) == std::string_view::npos) ++end;
      word = std::string(rest.substr(0, end));
      rest.remove_prefix(end);
    }
    while (!rest.empty() && is_blank(rest.front())) rest.remove_prefix(1);
    return word;
  }

  void parse_declaration(std::string_view text) {
    std::string_view rest = text;
    const std::string keyword = to_lower(take_word(rest, ""));
    if (keyword == "@relation") {
      const std::string name = take_word(rest, "");
      if (!name.empty() && is_utf8(name)) data_.name = name;
    } else if (keyword == "@attribute") {
      const std::string name = take_word(rest, "{");
      parse_attribute(name, rest);
    } else if (keyword == "@end") {
      if (!in_relation_) fail("@end without a relational attribute before it");
      in_relation_ = false;
    } else if (keyword == "@data") {
      start_data();
    } else {
      fail(fmt::format("\"{}\" before @data; expected @relation, @attribute, @end, @data or %", excerpt(text)));
    }
  }

  void parse_attribute(const std::string& name, std::string_view type) {
    if (!data_.class_names.empty()) fail("an attribute behind the class; expected the class as the last one");
    if (type.starts_with("{")) {
      parse_classes(type);
      return;
    }
    const std::string kind = to_lower(trim(type));
    if (kind == "relational" && !is_relational_ && num_numeric_ == 0) {
      is_relational_ = in_relation_ = true;
    } else if ((kind == "numeric" || kind == "real" || kind == "integer") && in_relation_ == is_relational_) {
      ++num_numeric_;
    } else {
      fail(fmt::format(
          "attribute \"{}\" of type \"{}\"; expected numeric ones, or one relational, then the class {{A,B}}",
          excerpt(name), excerpt(type)));
    }
  }

  void parse_classes(std::string_view type) {
    if (in_relation_) fail("a nominal attribute inside the relational one; expected numeric ones");
    std::vector<std::string> names;
    std::string_view rest = type.substr(1);
    while (true) {
      std::string name = take_word(rest, ",}");
      if (name.empty() || rest.empty() || (rest.front() != ',' && rest.front() != '}')) {
        fail(fmt::format("{} is no list of classes; expected {{A,B,...}}", excerpt(type)));
      }
      names.push_back(std::move(name));
      const char separator = rest.front();
      rest.remove_prefix(1);
      if (separator == '}') break;
    }
    set_class_names(std::move(names));
  }

  void start_data() {
    if (in_relation_) fail("@data inside the relational attribute; expected @end before it");
    if (num_numeric_ == 0) fail("@data without a numeric attribute before it");
    if (data_.class_names.empty()) {
      fail("@data without a class before it; expected @attribute NAME {A,B,...} as the last attribute");
    }
    in_data_ = true;
  }

  void parse_series(std::string_view text) {
    if (text.front() == '{') fail("sparse data are not supported; expected all values of a series");
    start_series();
    if (is_relational_) {
      parse_relation(text);
    } else {
      // The last comma outside quotes separates the class.
      std::size_t comma = text.rfind(',');
      if (is_quote(text.back())) {
        const std::size_t open = text.rfind(text.back(), text.size() - 2);
        comma = text.size() < 2 || open == std::string_view::npos ? open : text.rfind(',', open);
      }
      if (comma == std::string_view::npos)
        fail("no comma with a class at the end of the series; the line is cut short");
      add_channel(text.substr(0, comma));
      text.remove_prefix(comma + 1);
    }
    if (static_cast<std::int64_t>(channel_ends_.front()) != num_numeric_) {
      fail(fmt::format("the series has {} values per channel; expected {}, one per numeric attribute",
                       channel_ends_.front(), num_numeric_));
    }
    if (num_channels_ == 0) num_channels_ = static_cast<std::int64_t>(channel_ends_.size());
    if (static_cast<std::int64_t>(channel_ends_.size()) != num_channels_) {
      fail(fmt::format("the series has {} channels; expected {} as in the first series", channel_ends_.size(),
                       num_channels_));
    }
    data_.num_channels = num_channels_;
    const std::string label = take_word(text, ",");
    if (!text.empty()) fail(fmt::format("\"{}\" behind the class", excerpt(text)));
    finish_series(label_of(label), true);
  }

  /// Adds the channels of the quoted field and leaves what follows its comma.
  void parse_relation(std::string_view& text) {
    const char quote = text.front();
    const std::size_t end = is_quote(quote) ? text.find(quote, 1) : std::string_view::npos;
    if (end == std::string_view::npos) fail("no quoted field with the channels at the start of the line");
    std::string_view field = text.substr(1, end - 1);
    while (true) {
      const std::size_t stop = field.find("\\n");
      add_channel(field.substr(0, stop));
      if (stop == std::string_view::npos) break;
      field.remove_prefix(stop + 2);
    }
    text = trim(text.substr(end + 1));
    if (text.empty() || text.front() != ',') fail("no comma with a class behind the channels; the line is cut short");
    text.remove_prefix(1);
  }

  std::int64_t num_numeric_ = 0, num_channels_ = 0;
  bool is_relational_ = false, in_relation_ = false, in_data_ = false;
};

}  // namespace

SequenceData read_arff(const std::filesystem::path& path, const SeriesOptions& options) {
  InputStream file(path, options.progress);
  return ArffParser(file, options).parse();
}

SequenceData parse_arff(std::span<const std::byte> bytes, const std::string& name, const SeriesOptions& options) {
  InputStream file(bytes, name);
  return ArffParser(file, options).parse();
}

}  // namespace solvent::experiments
