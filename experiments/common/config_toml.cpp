// The only translation unit that includes toml++.

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>
#include <system_error>

#include <fmt/format.h>

// Warnings of third-party templates are not ours to fix.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include <toml++/toml.h>
#pragma GCC diagnostic pop

#include "solvent/experiments/common/errors.h"
#include "solvent/experiments/common/options.h"
#include "solvent/experiments/common/text.h"

namespace solvent::experiments {

namespace {

using Kind = ConfigValue::Kind;

std::string spelling_of(const toml::node& node) {
  std::ostringstream text;
  node.visit([&](const auto& concrete) { text << concrete; });
  std::string spelled = text.str();
  for (char& c : spelled) {
    if (c == '\n') c = ' ';
  }
  if (spelled.size() > 60) spelled = spelled.substr(0, 57) + "...";
  return spelled;
}

Kind scalar_kind(const toml::node& node) {
  if (node.is_boolean()) return Kind::boolean;
  if (node.is_integer()) return Kind::integer;
  if (node.is_floating_point()) return Kind::real;
  if (node.is_string()) return Kind::text;
  return Kind::other;
}

std::string scalar_text(const toml::node& node) {
  if (const auto* b = node.as_boolean()) return b->get() ? "true" : "false";
  if (const auto* i = node.as_integer()) return std::to_string(i->get());
  if (const auto* r = node.as_floating_point()) return format_exact(r->get());
  if (const auto* s = node.as_string()) return s->get();
  return {};
}

Kind list_kind(const toml::array& list) {
  if (list.empty()) return Kind::empty_list;
  bool integers = true, numbers = true, texts = true;
  for (const toml::node& item : list) {
    const Kind kind = scalar_kind(item);
    integers = integers && kind == Kind::integer;
    numbers = numbers && (kind == Kind::integer || kind == Kind::real);
    texts = texts && kind == Kind::text;
  }
  if (integers) return Kind::list_of_integers;
  if (numbers) return Kind::list_of_reals;
  return texts ? Kind::list_of_texts : Kind::other;
}

ConfigValue value_of(const toml::node& node) {
  ConfigValue value;
  value.spelling = spelling_of(node);
  if (const toml::array* list = node.as_array()) {
    value.kind = list_kind(*list);
    if (value.kind == Kind::other) return value;
    for (const toml::node& item : *list) value.elements.push_back(scalar_text(item));
    return value;
  }
  value.kind = scalar_kind(node);
  value.elements.push_back(scalar_text(node));
  return value;
}

void append_entries(const toml::table& table, const std::string& name, std::vector<ConfigEntry>& entries) {
  for (const auto& [key, node] : table) {
    const toml::table* inner = node.as_table();
    if (inner && name.empty()) {
      append_entries(*inner, std::string(key.str()), entries);
      continue;
    }
    // A table inside a table has kind `other`: the option it is given to reports the wrong type.
    entries.push_back(
        {name, std::string(key.str()), value_of(node), static_cast<std::int64_t>(key.source().begin.line)});
  }
}

}  // namespace

std::vector<ConfigEntry> parse_config(std::string_view text, const std::string& name) {
  std::vector<ConfigEntry> entries;
  try {
    append_entries(toml::parse(text, name), "", entries);
  } catch (const toml::parse_error& e) {
    const auto& where = e.source().begin;
    throw UsageError(fmt::format("[config] {}:{}:{}: not valid TOML: {}. Expected lines such as batch-size = 8.", name,
                                 where.line, where.column, e.description()));
  }
  // toml++ orders by key; report the first mistake in the order of the file.
  std::stable_sort(entries.begin(), entries.end(),
                   [](const ConfigEntry& a, const ConfigEntry& b) { return a.line < b.line; });
  return entries;
}

std::vector<ConfigEntry> read_config_file(const std::filesystem::path& file) {
  constexpr std::uintmax_t kMaxConfigBytes = 1U << 20U;  // a config has kilobytes; refuse to slurp a data file
  std::error_code error;
  const std::uintmax_t bytes = std::filesystem::file_size(file, error);
  if (error) {
    throw UsageError(
        fmt::format("[config] cannot read {}: {}. Pass an existing file to --config.", file.string(), error.message()));
  }
  if (bytes > kMaxConfigBytes) {
    throw UsageError(fmt::format("[config] {} has {} bytes; expected a TOML file of at most {}.", file.string(), bytes,
                                 kMaxConfigBytes));
  }
  std::ifstream stream(file, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  if (!stream && !stream.eof()) {
    throw UsageError(fmt::format("[config] cannot read {}. Check its permissions.", file.string()));
  }
  return parse_config(text, file.string());
}

}  // namespace solvent::experiments
