// The only translation unit of the experiments that includes nlohmann/json.

#include "solvent/experiments/common/summary.h"

#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "solvent/core/error.h"
#include "solvent/core/io/atomic_file.h"
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

std::vector<CheckResult> check_expected(const Summary& summary, const std::filesystem::path& expected_file) {
  const Json expected = parse_file(expected_file);
  const auto malformed = [&](const std::string& path) {
    return IoError(fmt::format("[check] {}: entry \"{}\" needs numbers \"value\" and \"tolerance\"",
                               expected_file.string(), path));
  };
  if (!expected.is_object()) throw malformed("");
  std::vector<CheckResult> results;
  for (const auto& [path, entry] : expected.items()) {
    if (!entry.is_object() || !entry.contains("value") || !entry.contains("tolerance") || !entry["value"].is_number() ||
        !entry["tolerance"].is_number()) {
      throw malformed(path);
    }
    CheckResult result;
    result.path = path;
    result.expected = entry["value"].get<double>();
    result.tolerance = entry["tolerance"].get<double>();
    if (entry.contains("relative") && entry["relative"] == true) result.tolerance *= std::abs(result.expected);
    if (summary.has(path)) {
      result.value = summary.number(path);
      result.passed = std::abs(result.value - result.expected) <= result.tolerance;  // false for NaN
    } else {
      result.note = "not in summary.json";
    }
    results.push_back(std::move(result));
  }
  return results;
}

}  // namespace solvent::experiments
