#include "solvent/experiments/common/options.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <type_traits>

#include <fmt/format.h>

#include "solvent/experiments/common/errors.h"
#include "solvent/experiments/common/text.h"

namespace solvent::experiments {

namespace {

template <class T>
struct ElementOf {
  using type = T;
};
template <class T>
struct ElementOf<std::vector<T>> {
  using type = T;
};

template <class T>
constexpr bool kIsList = !std::is_same_v<typename ElementOf<T>::type, T>;

std::string element_text(bool value) { return value ? "true" : "false"; }
std::string element_text(std::int64_t value) { return std::to_string(value); }
std::string element_text(double value) { return format_exact(value); }
std::string element_text(const std::string& value) { return value; }

std::string element_toml(bool value) { return element_text(value); }
std::string element_toml(std::int64_t value) { return element_text(value); }

std::string element_toml(double value) {
  const std::string text = format_exact(value);
  // TOML distinguishes 1 from 1.0; keep the number a float.
  return text.find_first_of(".ein") == std::string::npos ? text + ".0" : text;
}

std::string element_toml(const std::string& value) {
  std::string quoted = "\"";
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      quoted += fmt::format("\\u{:04X}", byte);
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

std::optional<bool> parse_flag(std::string_view text) {
  if (text == "true" || text == "yes" || text == "on" || text == "1") return true;
  if (text == "false" || text == "no" || text == "off" || text == "0") return false;
  return std::nullopt;
}

template <class T>
std::optional<T> parse_element(const std::string& text) {
  if constexpr (std::is_same_v<T, bool>) return parse_flag(text);
  if constexpr (std::is_same_v<T, std::int64_t>) return parse_integer(text);
  if constexpr (std::is_same_v<T, double>) return parse_real(text);
  if constexpr (std::is_same_v<T, std::string>) return text;
}

bool is_valid_name(std::string_view name) {
  if (name.size() < 2 || name.front() == '-' || name.back() == '-') return false;
  return std::all_of(name.begin(), name.end(),
                     [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; });
}

}  // namespace

// ---- Option ---------------------------------------------------------------------------------------------------------

Option& Option::min(double bound) {
  min_ = bound;
  has_min_ = true;
  min_is_exclusive_ = false;
  return *this;
}

Option& Option::max(double bound) {
  max_ = bound;
  has_max_ = true;
  return *this;
}

Option& Option::above(double bound) {
  min(bound);
  min_is_exclusive_ = true;
  return *this;
}

Option& Option::choices(std::vector<std::string> names) {
  choices_ = std::move(names);
  return *this;
}

Option& Option::unit(std::string text) {
  unit_ = std::move(text);
  return *this;
}

Option& Option::source(std::string text) {
  source_ = std::move(text);
  return *this;
}

Option& Option::transient() {
  transient_ = true;
  return *this;
}

std::string Option::type_name() const {
  static constexpr const char* kNames[] = {"yes/no",           "integer",         "number",       "text",
                                           "list of integers", "list of numbers", "list of texts"};
  return kNames[target_.index()];
}

std::string Option::value_text() const {
  return std::visit(
      [](const auto* target) -> std::string {
        using T = std::remove_cv_t<std::remove_pointer_t<decltype(target)>>;
        if constexpr (kIsList<T>) {
          std::vector<std::string> items;
          for (const auto& item : *target) items.push_back(element_text(item));
          return join(items, ",");
        } else {
          return element_text(*target);
        }
      },
      target_);
}

std::string Option::value_toml() const {
  return std::visit(
      [](const auto* target) -> std::string {
        using T = std::remove_cv_t<std::remove_pointer_t<decltype(target)>>;
        if constexpr (kIsList<T>) {
          std::vector<std::string> items;
          for (const auto& item : *target) items.push_back(element_toml(item));
          return "[" + join(items, ", ") + "]";
        } else {
          return element_toml(*target);
        }
      },
      target_);
}

std::string Option::range_text() const {
  if (!choices_.empty()) return join(choices_, " | ");
  std::string text;
  if (has_min_) text = fmt::format("{} {}", min_is_exclusive_ ? ">" : ">=", format_exact(min_));
  if (has_max_) text += fmt::format("{}<= {}", has_min_ ? " and " : "", format_exact(max_));
  return text;
}

std::string Option::expectation() const {
  static constexpr const char* kArticles[] = {"yes or no (true or false)",
                                              "an integer",
                                              "a number",
                                              "a text",
                                              "integers separated by commas",
                                              "numbers separated by commas",
                                              "texts separated by commas"};
  if (!choices_.empty()) return (is_list() ? "some of " : "one of ") + range_text();
  const std::string range = range_text();
  return std::string("expected ") + kArticles[target_.index()] + (range.empty() ? "" : " " + range);
}

std::string Option::check_number(double value) const {
  // A NaN compares false with everything, so ask for "inside" rather than for "outside".
  const bool above_min = !has_min_ || (min_is_exclusive_ ? value > min_ : value >= min_);
  const bool below_max = !has_max_ || value <= max_;
  return above_min && below_max ? "" : fmt::format("{} is out of range, {}", format_exact(value), expectation());
}

std::string Option::check_text(const std::string& value) const {
  if (choices_.empty() || std::find(choices_.begin(), choices_.end(), value) != choices_.end()) return {};
  std::string message = "expected " + expectation();
  if (const auto nearest = nearest_name(value, choices_)) message += fmt::format("; did you mean {}?", *nearest);
  return message;
}

std::string Option::try_assign(const std::vector<std::string>& elements) {
  return std::visit(
      [&](auto* target) -> std::string {
        using T = std::remove_pointer_t<decltype(target)>;
        using Element = typename ElementOf<T>::type;
        std::vector<Element> parsed;
        for (const std::string& text : elements) {
          const std::optional<Element> value = parse_element<Element>(text);
          if (!value) return expectation();
          std::string problem;
          if constexpr (std::is_same_v<Element, std::string>) problem = check_text(*value);
          if constexpr (std::is_same_v<Element, double>) problem = check_number(*value);
          if constexpr (std::is_same_v<Element, std::int64_t>) problem = check_number(static_cast<double>(*value));
          if (!problem.empty()) return problem;
          parsed.push_back(*value);
        }
        if constexpr (kIsList<T>) {
          *target = std::move(parsed);
        } else {
          if (parsed.size() != 1) return expectation();
          *target = parsed.front();
        }
        return {};
      },
      target_);
}

// ---- Options --------------------------------------------------------------------------------------------------------

Option& Options::add(std::string name, Option::Target target, std::string help) {
  static const std::vector<std::string> kReserved = {"help", "config", "preset", "print-config", "command"};
  if (!is_valid_name(name)) {
    throw ValueError(
        fmt::format("[Options::add] got the name \"{}\"; expected lower case words joined by dashes", name));
  }
  if (find(name) || std::find(kReserved.begin(), kReserved.end(), name) != kReserved.end()) {
    throw ValueError(fmt::format("[Options::add] option \"{}\" exists already; choose another name", name));
  }
  Option option;
  option.name_ = std::move(name);
  option.group_ = group_;
  option.help_ = std::move(help);
  option.target_ = target;
  option.default_text_ = option.value_text();
  return options_.emplace_back(std::move(option));
}

Option& Options::add_resume(std::string name, std::string* target, std::string help) {
  resume_name_ = name;
  return add(std::move(name), target, std::move(help)).transient();
}

void Options::preset(std::string name, std::string help, std::vector<std::pair<std::string, std::string>> values) {
  for (const auto& [key, text] : values) {
    Option* option = find_mutable(key);
    if (!option) throw ValueError(fmt::format("[Options::preset] preset {} sets the unknown option {}", name, key));
    // Check now, by assigning and putting the default back: a bad preset is a bug that no user should meet.
    const auto elements_of = [&](const std::string& value) {
      std::vector<std::string> elements;
      if (option->is_list() && value.empty()) return elements;
      if (!option->is_list()) return std::vector<std::string>{value};
      for (const std::string_view piece : split(value, ',')) elements.emplace_back(trim(piece));
      return elements;
    };
    const std::string before = option->value_text();
    const std::string problem = option->try_assign(elements_of(text));
    if (!problem.empty()) {
      throw ValueError(fmt::format("[Options::preset] preset {} sets {} = {}; {}", name, key, text, problem));
    }
    (void)option->try_assign(elements_of(before));
  }
  presets_.push_back({std::move(name), std::move(help), std::move(values)});
}

const Option* Options::find(std::string_view name) const {
  const auto it = std::find_if(options_.begin(), options_.end(), [&](const Option& o) { return o.name_ == name; });
  return it == options_.end() ? nullptr : &*it;
}

Option* Options::find_mutable(std::string_view name) { return const_cast<Option*>(find(name)); }

std::vector<std::string> Options::names() const {
  std::vector<std::string> all;
  for (const Option& option : options_) all.push_back(option.name_);
  return all;
}

void Options::fail(const std::string& message) const {
  const bool is_sentence = message.ends_with('.') || message.ends_with('?');
  throw UsageError(fmt::format("[{}] {}{} See {} --help.", command_, message, is_sentence ? "" : ".", command_));
}

void Options::fail_unknown(const std::string& name) const {
  std::vector<std::string> known = names();
  known.insert(known.end(), {"help", "config", "print-config"});
  if (has_presets()) known.emplace_back("preset");
  const auto nearest = nearest_name(name, known);
  fail(fmt::format("unknown option --{}{}", name, nearest ? fmt::format("; did you mean --{}?", *nearest) : ""));
}

void Options::assign(Option& option, const std::vector<std::string>& elements, const std::string& origin,
                     const std::string& spelled) {
  const std::string problem = option.try_assign(elements);
  if (!problem.empty()) fail(fmt::format("{}; {}", spelled, problem));
  option.origin_ = origin;
}

void Options::apply_argument(const std::string& name, const std::string& text) {
  Option* option = find_mutable(name);
  if (!option) fail_unknown(name);
  std::vector<std::string> elements;
  if (!option->is_list()) {
    elements.push_back(text);
  } else if (!text.empty()) {
    for (const std::string_view piece : split(text, ',')) elements.emplace_back(trim(piece));
  }
  assign(*option, elements, "command line", fmt::format("--{} got \"{}\"", name, text));
}

void Options::apply_preset(const std::string& name) {
  const auto it = std::find_if(presets_.begin(), presets_.end(), [&](const Preset& p) { return p.name == name; });
  if (it == presets_.end()) {
    std::vector<std::string> known;
    for (const Preset& preset : presets_) known.push_back(preset.name);
    if (known.empty()) fail(fmt::format("--preset got \"{}\", but there are no presets here", name));
    const auto nearest = nearest_name(name, known);
    fail(fmt::format("--preset got \"{}\"; expected one of {}{}", name, join(known, " | "),
                     nearest ? fmt::format("; did you mean {}?", *nearest) : ""));
  }
  for (const auto& [key, text] : it->values) {
    apply_argument(key, text);
    find_mutable(key)->origin_ = "preset " + name;
  }
  active_preset_ = name;
}

namespace {

bool accepts(const Option& option, ConfigValue::Kind kind) {
  using Kind = ConfigValue::Kind;
  const std::string type = option.type_name();
  if (type == "yes/no") return kind == Kind::boolean;
  if (type == "integer") return kind == Kind::integer;
  if (type == "number") return kind == Kind::real || kind == Kind::integer;
  if (type == "text") return kind == Kind::text;
  if (kind == Kind::empty_list) return true;
  if (type == "list of integers") return kind == Kind::list_of_integers;
  if (type == "list of numbers") return kind == Kind::list_of_reals || kind == Kind::list_of_integers;
  return kind == Kind::list_of_texts;
}

std::string toml_expectation(const Option& option) {
  const std::string type = option.type_name();
  if (type == "yes/no") return "true or false";
  if (type == "integer") return "an integer such as 8";
  if (type == "number") return "a number such as 0.5";
  if (type == "text") return "a text in quotes";
  return fmt::format("a {} in brackets such as {}", type, type == "list of texts" ? "[\"a\", \"b\"]" : "[1, 2]");
}

}  // namespace

void Options::apply_entry(const ConfigEntry& entry, const std::string& file) {
  const std::string place = fmt::format("{}:{}", file, entry.line);
  if (entry.table.empty() && entry.key == "command") {
    if (entry.value.kind == ConfigValue::Kind::text && entry.value.elements.front() == command_) return;
    fail(fmt::format("{} is for command = {}; give it to that command, or delete the line", place,
                     entry.value.spelling));
  }
  Option* option = find_mutable(entry.key);
  if (!option) {
    const auto nearest = nearest_name(entry.key, names());
    fail(fmt::format("unknown key {} at {}{}", entry.key, place,
                     nearest ? fmt::format("; did you mean {}?", *nearest) : ""));
  }
  if (!entry.table.empty() && entry.table != option->group_) {
    fail(fmt::format("key {} at {} stands in [{}]; it belongs into [{}] or above all tables", entry.key, place,
                     entry.table, option->group_));
  }
  const std::string spelled = fmt::format("{} = {} at {}", entry.key, entry.value.spelling, place);
  if (!accepts(*option, entry.value.kind)) {
    fail(fmt::format("{} has the wrong type; expected {}", spelled, toml_expectation(*option)));
  }
  assign(*option, entry.value.elements, place, spelled);
}

void Options::apply_config(const std::vector<ConfigEntry>& entries, const std::string& file) {
  for (const ConfigEntry& entry : entries) apply_entry(entry, file);
}

std::string Options::to_toml() const {
  std::string text = fmt::format("# Resolved settings; run again with: {} --config FILE\ncommand = {}\n", command_,
                                 element_toml(command_));
  if (!active_preset_.empty()) text += fmt::format("# preset: {}\n", active_preset_);
  std::vector<std::string> groups;
  for (const Option& option : options_) {
    if (!option.transient_ && std::find(groups.begin(), groups.end(), option.group_) == groups.end()) {
      groups.push_back(option.group_);
    }
  }
  for (const std::string& group : groups) {
    text += fmt::format("\n[{}]\n", group);
    for (const Option& option : options_) {
      if (option.transient_ || option.group_ != group) continue;
      const std::string setting = fmt::format("{} = {}", option.name_, option.value_toml());
      const std::string unit = option.unit_.empty() ? "" : option.unit_ + "; ";
      text += fmt::format("{:<36}  # {}{}\n", setting, unit, option.origin_);
    }
  }
  return text;
}

namespace {

constexpr std::size_t kHelpWidth = 100;
constexpr std::size_t kHelpIndent = 30;

/// "  left      right wrapped"; a long left part gets a line of its own.
std::string two_columns(const std::string& left, const std::string& right) {
  const std::string wrapped = wrap(right, kHelpWidth - kHelpIndent, 0);
  std::string text = "  " + left;
  if (text.size() + 2 > kHelpIndent) {
    text += '\n';
    text.append(kHelpIndent, ' ');
  } else {
    text.append(kHelpIndent - text.size(), ' ');
  }
  for (const char c : wrapped) {
    text += c;
    if (c == '\n') text.append(kHelpIndent, ' ');
  }
  return text + '\n';
}

}  // namespace

std::string Options::help_entry(const Option& option) const {
  std::string left = "--" + option.name_;
  if (option.is_flag()) {
    left += " | --no-" + option.name_;
  } else {
    static constexpr const char* kPlaceholders[] = {"", "INT", "NUM", "TEXT", "INT,..", "NUM,..", "TEXT,.."};
    left += fmt::format(" {}", kPlaceholders[option.target_.index()]);
  }
  std::string right = option.help_;
  const std::string range = option.range_text();
  std::string facts;
  if (!range.empty()) facts += range + "; ";
  if (!option.unit_.empty()) facts += "unit: " + option.unit_ + "; ";
  const std::string shown = option.default_text_.empty() ? "none" : option.default_text_;
  facts += "default: " + shown;
  if (!option.source_.empty()) facts += ", " + option.source_;
  return two_columns(left, right + " (" + facts + ")");
}

std::string Options::help_general() const {
  std::string text = "\ngeneral\n";
  text += two_columns("--config FILE.toml", "read options from a file; the command line overrides it");
  if (has_presets()) text += two_columns("--preset NAME", "start from a named set of values, see below");
  text += two_columns("--print-config", "print the resolved options as TOML and stop");
  text += two_columns("--help", "print this text and stop");
  return text;
}

std::string Options::help(std::string_view summary) const {
  std::string text = fmt::format("{} - {}\n\nusage: {} [--option VALUE ...]\n", command_, summary, command_);
  std::vector<std::string> groups;
  for (const Option& option : options_) {
    if (std::find(groups.begin(), groups.end(), option.group_) == groups.end()) groups.push_back(option.group_);
  }
  for (const std::string& group : groups) {
    text += "\n" + group + "\n";
    for (const Option& option : options_) {
      if (option.group_ == group) text += help_entry(option);
    }
  }
  text += help_general();
  if (has_presets()) text += "\npresets\n";
  for (const Preset& preset : presets_) {
    std::string values;
    for (const auto& [key, value] : preset.values) values += fmt::format(" --{} {}", key, value);
    text += two_columns(preset.name, preset.help + ":" + (values.empty() ? " the defaults" : values));
  }
  text +=
      "\nexit codes: 0 done, 1 failed, 2 wrong usage, 3 missing or corrupt data, 4 numerical failure,\n"
      "  5 --check failed\n";
  return text;
}

}  // namespace solvent::experiments
