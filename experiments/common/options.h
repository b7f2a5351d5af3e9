#pragma once
/// Options of an experiment: described once, used for `--help`, the command line, TOML files and presets.
///
/// ```cpp
/// struct Settings { std::string dataset = "acsf1"; double learning_rate = 1e-3; std::int64_t batch_size = 8; };
/// Settings s;
/// Options options("deer classify");
/// options.group("training");
/// options.add("learning-rate", &s.learning_rate, "step size of Adam").above(0).source("spec 5.4");
/// options.add("batch-size", &s.batch_size, "series per step").min(1).unit("series");
/// options.preset("smoke", "seconds, no download", {{"batch-size", "2"}});
/// ```
///
/// Values are taken in this order, later ones win: the member's value when `add` is called (the default), the preset,
/// the config file, the command line.

#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace solvent::experiments {

class Options;

/// One setting, bound to a member of the program's settings. Made by `Options::add`; the setters below chain.
class Option {
 public:
  using Target = std::variant<bool*, std::int64_t*, double*, std::string*, std::vector<std::int64_t>*,
                              std::vector<double>*, std::vector<std::string>*>;

  /// Smallest and largest accepted value; of every element for lists. Numeric options only.
  Option& min(double bound);
  Option& max(double bound);
  /// Exclusive lower bound, for step sizes and tolerances.
  Option& above(double bound);
  Option& range(double low, double high) { return min(low).max(high); }
  /// The only accepted texts (of every element for lists). Text options only.
  Option& choices(std::vector<std::string> names);
  /// Unit shown in `--help` and in config files: "steps", "s", "series".
  Option& unit(std::string text);
  /// Where the default comes from: "paper, table 3", "spec 5.4", "chosen here: fits 2 cores".
  Option& source(std::string text);
  /// Leaves the option out of config files: it says how to run, not what (`--resume`, `--run-dir`).
  Option& transient();

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const std::string& group() const { return group_; }
  [[nodiscard]] bool is_flag() const { return std::holds_alternative<bool*>(target_); }
  [[nodiscard]] bool is_list() const { return target_.index() >= 4; }
  [[nodiscard]] bool is_transient() const { return transient_; }
  /// "yes/no", "integer", "number", "text", "list of ...".
  [[nodiscard]] std::string type_name() const;
  /// Present value as command line text (lists separated by commas).
  [[nodiscard]] std::string value_text() const;
  /// Present value as TOML.
  [[nodiscard]] std::string value_toml() const;
  /// "> 0", ">= 1 and <= 64", "acsf1 | plaid"; empty when everything is accepted.
  [[nodiscard]] std::string range_text() const;
  /// Where the present value comes from: "default", "preset quick", "run.toml:4", "command line".
  [[nodiscard]] const std::string& origin() const { return origin_; }
  [[nodiscard]] bool is_default() const { return origin_ == "default"; }

 private:
  friend class Options;
  Option() = default;

  /// Parses and checks all elements, then stores; the target keeps its value when a text is refused.
  /// The result is empty, or "expected ..." for the error message.
  [[nodiscard]] std::string try_assign(const std::vector<std::string>& elements);
  [[nodiscard]] std::string check_number(double value) const;
  [[nodiscard]] std::string check_text(const std::string& value) const;
  [[nodiscard]] std::string expectation() const;

  std::string name_, group_, help_, unit_, source_, default_text_, origin_ = "default";
  Target target_;
  double min_ = 0, max_ = 0;
  bool has_min_ = false, has_max_ = false, min_is_exclusive_ = false, transient_ = false;
  std::vector<std::string> choices_;
};

/// A value as a config file states it. Numbers and truth values are given as text; `kind` keeps what they were.
struct ConfigValue {
  enum class Kind { boolean, integer, real, text, list_of_integers, list_of_reals, list_of_texts, empty_list, other };
  Kind kind = Kind::other;
  std::vector<std::string> elements;  ///< one element unless a list
  std::string spelling;               ///< how the file spells it, for messages
};

/// One `key = value` line of a config file.
struct ConfigEntry {
  std::string table;  ///< enclosing [table], empty at the top
  std::string key;
  ConfigValue value;
  std::int64_t line = 0;
};

/// Reads a TOML file with at most one level of tables.
/// @throws UsageError naming file, line and column for a missing, unreadable or malformed file.
std::vector<ConfigEntry> read_config_file(const std::filesystem::path& file);
/// The same from a text; `name` stands for the file in messages.
std::vector<ConfigEntry> parse_config(std::string_view text, const std::string& name);

/// The options of one (sub-)command.
class Options {
 public:
  /// @param command  as typed, e.g. "deer classify"; used in messages and usage lines.
  explicit Options(std::string command) : command_(std::move(command)) {}
  Options(const Options&) = delete;
  Options& operator=(const Options&) = delete;

  /// Options added from now on belong to this group (a section of `--help`, a table of config files).
  void group(std::string name) { group_ = std::move(name); }

  /// Adds an option and binds it to `*target`, whose present value is the default. The target must outlive this.
  /// Names are lower case words joined by dashes. @throws ValueError for a bad or repeated name.
  Option& add(std::string name, Option::Target target, std::string help);

  /// Adds a text option whose value, a directory of an earlier run, supplies that run's `config.toml`.
  Option& add_resume(std::string name, std::string* target, std::string help);

  /// A named overlay of values, chosen with `--preset NAME`. @throws ValueError if a name or value is not accepted.
  void preset(std::string name, std::string help, std::vector<std::pair<std::string, std::string>> values);

  /// Applies a preset. @throws UsageError for an unknown name (nearest suggested).
  void apply_preset(const std::string& name);
  /// Applies the entries of a config file. @throws UsageError for an unknown key (nearest suggested), a key in the
  /// wrong table, a wrong type, a value out of range, or a file written for another command.
  void apply_config(const std::vector<ConfigEntry>& entries, const std::string& file);
  /// Sets one option from command line text. @throws UsageError as above.
  void apply_argument(const std::string& name, const std::string& text);
  /// @throws UsageError that `name` is unknown, with the nearest option suggested.
  [[noreturn]] void fail_unknown(const std::string& name) const;

  /// Puts `[command] ` before and "See command --help." behind a message (a full stop is added where missing); for
  /// checks of several options together. @throws UsageError always.
  [[noreturn]] void fail(const std::string& message) const;

  [[nodiscard]] const std::string& command() const { return command_; }
  [[nodiscard]] const std::deque<Option>& all() const { return options_; }
  [[nodiscard]] const Option* find(std::string_view name) const;
  [[nodiscard]] bool has_presets() const { return !presets_.empty(); }
  [[nodiscard]] const std::string& resume_name() const { return resume_name_; }
  /// The preset in force; empty if none.
  [[nodiscard]] const std::string& active_preset() const { return active_preset_; }

  /// Resolved settings as a TOML document that reproduces the run when given to `--config`. Every line carries unit
  /// and origin as a comment.
  [[nodiscard]] std::string to_toml() const;

  /// Text of `--help`.
  [[nodiscard]] std::string help(std::string_view summary) const;

 private:
  struct Preset {
    std::string name, help;
    std::vector<std::pair<std::string, std::string>> values;
  };

  Option* find_mutable(std::string_view name);
  [[nodiscard]] std::vector<std::string> names() const;
  void assign(Option& option, const std::vector<std::string>& elements, const std::string& origin,
              const std::string& spelled);
  void apply_entry(const ConfigEntry& entry, const std::string& file);
  [[nodiscard]] std::string help_entry(const Option& option) const;
  [[nodiscard]] std::string help_general() const;

  std::string command_, group_ = "options", resume_name_, active_preset_;
  std::deque<Option> options_;  // deque: references returned by add stay valid
  std::vector<Preset> presets_;
};

}  // namespace solvent::experiments
