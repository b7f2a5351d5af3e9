// The only translation unit of the experiments that includes nlohmann/json.

#include "solvent/experiments/common/summary.h"

#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "solvent/core/error.h"
#include "solvent/core/io/atomic_file.h"
#include "solvent/experiments/common/errors.h"
#include "solvent/experiments/common/text.h"

namespace solvent::experiments {

using Json = nlohmann::ordered_json;

struct Summary::State {
  Json root = Json::object();

  Json& at(const std::string& path) {
    Json* node = &root;
    for (const std::string_view part : split(path, '.')) {
      if (!node->is_object()) *node = Json::object();
      node = &(*node)[std::string(part)];
    }
    return *node;
  }

  [[nodiscard]] const Json* find(const std::string& path) const {
    const Json* node = &root;
    for (const std::string_view part : split(path, '.')) {
      if (!node->is_object()) return nullptr;
      const auto it = node->find(std::string(part));
      if (it == node->end()) return nullptr;
      node = &*it;
    }
    return node;
  }
};

namespace {

Json number_to_json(double value) {
  if (std::isfinite(value)) return value;
  return format_exact(value);  // dump() would write null and lose what happened
}

Json parse_file(const std::filesystem::path& file) {
  const std::string text = read_file(file.string());
  try {
    return Json::parse(text);
  } catch (const Json::exception& e) {
    throw IoError(fmt::format("[summary] {} is not valid JSON: {}", file.string(), e.what()));
  }
}

}  // namespace

Summary::Summary() : state_(std::make_unique<State>()) {}
Summary::~Summary() = default;
Summary::Summary(Summary&&) noexcept = default;
Summary& Summary::operator=(Summary&&) noexcept = default;

Summary Summary::read(const std::filesystem::path& file) {
  Summary summary;
  summary.state_->root = parse_file(file);
  if (!summary.state_->root.is_object()) {
    throw IoError(fmt::format("[summary] {} holds no JSON object; expected {{...}}", file.string()));
  }
  return summary;
}

void Summary::set(const std::string& path, double value) { state_->at(path) = number_to_json(value); }
void Summary::set(const std::string& path, std::int64_t value) { state_->at(path) = value; }
void Summary::set(const std::string& path, bool value) { state_->at(path) = value; }
void Summary::set(const std::string& path, std::string_view value) { state_->at(path) = std::string(value); }

void Summary::set(const std::string& path, std::span<const double> values) {
  Json list = Json::array();
  for (const double value : values) list.push_back(number_to_json(value));
  state_->at(path) = std::move(list);
}

void Summary::set(const std::string& path, std::span<const std::int64_t> values) {
  state_->at(path) = std::vector<std::int64_t>(values.begin(), values.end());
}

bool Summary::has(const std::string& path) const { return state_->find(path) != nullptr; }

double Summary::number(const std::string& path) const {
  const Json* node = state_->find(path);
  if (!node) throw IoError(fmt::format("[summary] there is no \"{}\"", path));
  if (node->is_boolean()) return node->get<bool>() ? 1 : 0;
  if (node->is_number()) return node->get<double>();
  if (node->is_string()) {
    if (const auto value = parse_real(node->get_ref<const std::string&>())) return *value;
  }
  throw IoError(fmt::format("[summary] \"{}\" is {}; expected a number", path, node->dump()));
}

std::string Summary::to_json() const {
  // Replace rather than throw: a file name with odd bytes must not cost the results of a run.
  return state_->root.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

void Summary::write(const std::filesystem::path& file) const { write_file_atomically(file.string(), to_json()); }

std::string Summary::json_of(const std::string& path) const {
  const Json* node = state_->find(path);
  if (!node) throw IoError(fmt::format("[summary] there is no \"{}\"", path));
  return node->dump(-1, ' ', false, Json::error_handler_t::replace);
}

namespace {

/// Compares one value; false (and what was expected in `result`) if the entry is malformed.
bool compare(const Json& entry, const Summary& summary, CheckResult& result) {
  const auto is_number = [&](const char* key) { return entry.contains(key) && entry[key].is_number(); };
  const bool present = summary.has(result.path);
  result.found = present ? summary.json_of(result.path) : "";
  if (!present) result.note = "not in summary.json";
  if (entry.contains("is")) {
    result.expectation = entry["is"].dump(-1, ' ', false, Json::error_handler_t::replace);
    result.passed = present && result.found == result.expectation;
    return entry["is"].is_primitive();
  }
  if (is_number("min") || is_number("max")) {
    result.passed = present;
    if (present) result.value = summary.number(result.path);
    if (is_number("min")) {
      result.expectation = ">= " + entry["min"].dump();
      result.passed = result.passed && result.value >= entry["min"].get<double>();
    }
    if (is_number("max")) {
      result.expectation += (result.expectation.empty() ? "<= " : " and <= ") + entry["max"].dump();
      result.passed = result.passed && result.value <= entry["max"].get<double>();
    }
    return true;
  }
  if (!is_number("value") || !is_number("tolerance")) return false;
  result.expected = entry["value"].get<double>();
  result.tolerance = entry["tolerance"].get<double>();
  if (entry.contains("relative") && entry["relative"] == true) result.tolerance *= std::abs(result.expected);
  result.expectation = fmt::format("{} +- {}", format_short(result.expected), format_short(result.tolerance, 2));
  if (present) {
    result.value = summary.number(result.path);
    result.passed = std::abs(result.value - result.expected) <= result.tolerance;  // false for NaN
  }
  return true;
}

const Json& find_section(const Json& root, const std::string& section, const std::filesystem::path& file) {
  const Json* node = &root;
  for (const std::string_view part : split(section, '/')) {
    const auto found = node->is_object() ? node->find(std::string(part)) : node->end();
    if (found == node->end()) {
      std::vector<std::string> names;
      if (node->is_object())
        for (const auto& [name, value] : node->items()) names.push_back(name);
      throw UsageError(
          fmt::format("[check] {} has no numbers for \"{}\": \"{}\" is not one of {}. Use a preset that has "
                      "some, or give another file with --expected.",
                      file.string(), section, part, join(names, ", ")));
    }
    node = &*found;
  }
  return *node;
}

}  // namespace

std::vector<CheckResult> check_expected(const Summary& summary, const std::filesystem::path& expected_file,
                                        const std::string& section) {
  const Json root = parse_file(expected_file);
  const Json& expected = section.empty() ? root : find_section(root, section, expected_file);
  const auto malformed = [&](const std::string& path) {
    return IoError(
        fmt::format("[check] {}: entry \"{}\" needs numbers \"value\" and \"tolerance\", or \"min\", \"max\" or "
                    "\"is\"",
                    expected_file.string(), path));
  };
  if (!expected.is_object()) throw malformed(section);
  std::vector<CheckResult> results;
  for (const auto& [path, entry] : expected.items()) {
    CheckResult result;
    result.path = path;
    if (!entry.is_object() || !compare(entry, summary, result)) throw malformed(path);
    results.push_back(std::move(result));
  }
  return results;
}

}  // namespace solvent::experiments
