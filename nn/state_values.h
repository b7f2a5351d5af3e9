#pragma once
/// The small values of a training state by name: counters, rates, seeds, texts. Kept as JSON beside the tensors.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "solvent/core/rng.h"

namespace solvent::nn {

/// Named integers, numbers, truth values, texts and random keys; every value comes back with the bits it was stored with
/// (all NaNs are one).
///
///     StateValues state;
///     state.set("epoch", 3);
///     state.set("dropout_key", key);
///     ...
///     key = state.key("dropout_key");
class SOLVENT_API StateValues {
 public:
  /// Stores a value under a name, in place of what was there.
  /// @{
  void set(const std::string& name, std::int64_t value) { values_[name] = value; }
  void set(const std::string& name, int value) { values_[name] = static_cast<std::int64_t>(value); }
  void set(const std::string& name, double value) { values_[name] = value; }
  void set(const std::string& name, bool value) { values_[name] = value; }
  void set(const std::string& name, std::string value) { values_[name] = std::move(value); }
  void set(const std::string& name, const char* value) { values_[name] = std::string(value); }
  void set(const std::string& name, const Key& value) { values_[name] = value; }
  /// @}

  /// The value under `name`. @throws IoError if there is none, or one of another kind; it names what there is
  /// @{
  [[nodiscard]] std::int64_t integer(const std::string& name) const;
  [[nodiscard]] double number(const std::string& name) const;
  [[nodiscard]] bool flag(const std::string& name) const;
  [[nodiscard]] const std::string& text(const std::string& name) const;
  [[nodiscard]] Key key(const std::string& name) const;
  /// @}

  /// Whether there is a value of that name.
  [[nodiscard]] bool has(const std::string& name) const { return values_.contains(name); }
  /// All names in alphabetical order.
  [[nodiscard]] std::vector<std::string> names() const;

  /// An object with one entry per line, names in alphabetical order. @throws ValueError for texts that are not UTF-8
  [[nodiscard]] std::string to_json() const;
  /// Reads what to_json wrote. `source` stands for the text in messages.
  /// @throws IoError for anything else, naming the first difference
  static StateValues from_json(std::string_view text, const std::string& source);

  friend bool operator==(const StateValues&, const StateValues&) = default;

 private:
  using Value = std::variant<std::int64_t, double, bool, std::string, Key>;
  template <class T>
  const T& get(const std::string& name, const char* kind) const;

  std::map<std::string, Value> values_;
};

}  // namespace solvent::nn
