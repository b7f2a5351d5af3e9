// JSON has no infinities and no keys: {"number": "inf"} and {"key": [seed, stream]} stand for them.
#include "solvent/nn/state_values.h"

#include <cmath>
#include <limits>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "solvent/core/error.h"

namespace solvent::nn {

namespace {

using Json = nlohmann::json;

constexpr const char* kKinds[] = {"an integer", "a number", "a truth value", "a text", "a key"};
constexpr int kMaxDepth = 8;  // ours has 3; deeper ones would exhaust the stack of recursive visitors

Json number_to_json(double value) {
  if (std::isfinite(value)) return value;
  return {{"number", std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf"}};
}

/// Numbers and keys in their object form; false if `value` is neither.
bool read_object(const Json& value, double& number, Key& key, bool& is_key) {
  if (!value.is_object() || value.size() != 1) return false;
  is_key = value.contains("key");
  if (is_key) {
    const Json& words = value["key"];
    if (!words.is_array() || words.size() != 2 || !words[0].is_number_unsigned() || !words[1].is_number_unsigned())
      return false;
    key = Key(words[0].get<std::uint64_t>(), words[1].get<std::uint64_t>());
    return true;
  }
  if (!value.contains("number") || !value["number"].is_string()) return false;
  const auto& text = value["number"].get_ref<const std::string&>();
  if (text == "nan") number = std::numeric_limits<double>::quiet_NaN();
  if (text == "inf") number = std::numeric_limits<double>::infinity();
  if (text == "-inf") number = -std::numeric_limits<double>::infinity();
  return text == "nan" || text == "inf" || text == "-inf";
}

}  // namespace

template <class T>
const T& StateValues::get(const std::string& name, const char* kind) const {
  const auto found = values_.find(name);
  if (found == values_.end())
    throw IoError(
        fmt::format("[StateValues] there is no \"{}\"; there are: {}. Was the state written by another "
                    "program or version?",
                    name, fmt::join(names(), ", ")));
  if (const T* value = std::get_if<T>(&found->second)) return *value;
  throw IoError(fmt::format("[StateValues] \"{}\" is {}; expected {}.", name, kKinds[found->second.index()], kind));
}

std::int64_t StateValues::integer(const std::string& name) const { return get<std::int64_t>(name, kKinds[0]); }
double StateValues::number(const std::string& name) const { return get<double>(name, kKinds[1]); }
bool StateValues::flag(const std::string& name) const { return get<bool>(name, kKinds[2]); }
const std::string& StateValues::text(const std::string& name) const { return get<std::string>(name, kKinds[3]); }
Key StateValues::key(const std::string& name) const { return get<Key>(name, kKinds[4]); }

std::vector<std::string> StateValues::names() const {
  std::vector<std::string> list;
  for (const auto& [name, value] : values_) list.push_back(name);
  return list;
}

std::string StateValues::to_json() const {
  Json object = Json::object();
  for (const auto& [name, value] : values_) {
    std::visit(
        [&, &key = name](const auto& v) {
          using T = std::decay_t<decltype(v)>;
          if constexpr (std::is_same_v<T, Key>) {
            object[key] = {{"key", {v.seed, v.stream}}};
          } else if constexpr (std::is_same_v<T, double>) {
            object[key] = number_to_json(v);
          } else {
            object[key] = v;
          }
        },
        value);
  }
  try {
    return object.dump(2);
  } catch (const Json::exception& e) {
    throw ValueError(fmt::format("[StateValues] a name or text is not valid UTF-8 ({}); expected UTF-8.", e.what()));
  }
}

StateValues StateValues::from_json(std::string_view text, const std::string& source) {
  const auto fail = [&](const std::string& problem) {
    throw IoError(fmt::format("[StateValues] {}: {}.", source, problem));
  };
  Json object;
  try {
    object = Json::parse(text, [&](int depth, Json::parse_event_t, Json&) {
      if (depth > kMaxDepth) fail("values are nested too deeply; expected names and plain values");
      return true;
    });
  } catch (const Json::exception& e) {
    fail(fmt::format("not valid JSON ({})", e.what()));
  }
  if (!object.is_object()) fail("no JSON object; expected {...}");
  StateValues state;
  for (const auto& [name, value] : object.items()) {
    double number = 0;
    Key key;
    bool is_key = false;
    if (value.is_boolean()) {
      state.set(name, value.get<bool>());
    } else if (value.is_number_unsigned() &&
               value.get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      fail(fmt::format("\"{}\" is beyond 64-bit signed integers", name));
    } else if (value.is_number_integer()) {
      state.set(name, value.get<std::int64_t>());
    } else if (value.is_number_float()) {
      state.set(name, value.get<double>());
    } else if (value.is_string()) {
      state.set(name, value.get<std::string>());
    } else if (read_object(value, number, key, is_key)) {
      is_key ? state.set(name, key) : state.set(name, number);
    } else {
      fail(fmt::format("\"{}\" is neither a number, truth value, text nor key", name));
    }
  }
  return state;
}

}  // namespace solvent::nn
