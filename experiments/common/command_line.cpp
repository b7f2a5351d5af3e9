// The only translation unit that includes CLI11. CLI11 splits the line; help, types, ranges and messages are ours.

#include "solvent/experiments/common/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include <fmt/format.h>

namespace solvent::experiments {

namespace {

/// Text given to one option, or nothing if it was not used.
std::optional<std::string> single_result(const CLI::Option& option, const std::string& name, const Options& options) {
  const std::vector<std::string>& results = option.results();
  if (results.size() > 1) options.fail(fmt::format("--{} is given {} times; give it once", name, results.size()));
  if (results.empty()) return std::nullopt;
  return results.front();
}

[[noreturn]] void fail_on_extras(const std::vector<std::string>& extras, const Options& options) {
  const std::string& first = extras.front();
  if (first.size() > 2 && first.starts_with("--")) {
    options.fail_unknown(first.substr(2, first.find('=') - 2));
  }
  options.fail(fmt::format("unexpected \"{}\"; options are written --name VALUE", first));
}

/// Splits `--name=VALUE` of options with a value in two, and finds missing values. CLI11 drops an empty VALUE, and
/// takes any next word: `--dataset --steps 5` would train on the data set "--steps".
std::vector<std::string> separate_values(std::span<const std::string> args, const Options& options) {
  const auto is_name = [](const std::string& arg) { return arg.size() > 2 && arg.starts_with("--"); };
  const auto takes_value = [&](const std::string& name) {
    if (name == "config" || name == "preset") return true;
    const Option* option = options.find(name);
    return option && !option->is_flag();
  };
  std::vector<std::string> separated;
  for (std::size_t i = 0; i < args.size(); ++i) {
    const std::size_t equals = args[i].find('=');
    if (!is_name(args[i]) || !takes_value(args[i].substr(2, equals == std::string::npos ? equals : equals - 2))) {
      separated.push_back(args[i]);
    } else if (equals != std::string::npos) {
      separated.push_back(args[i].substr(0, equals));
      separated.push_back(args[i].substr(equals + 1));
    } else {
      if (i + 1 == args.size() || is_name(args[i + 1])) options.fail(fmt::format("{} needs a value", args[i]));
      separated.push_back(args[i]);
      separated.push_back(args[++i]);
    }
  }
  return separated;
}

}  // namespace

CommandLine parse_command_line(std::span<const std::string> args, const Options& options) {
  CommandLine line;
  const std::vector<std::string> separated = separate_values(args, options);

  CLI::App app;
  app.set_help_flag();
  app.allow_extras();
  app.add_flag("--help", line.help);
  app.add_flag("--print-config", line.print_config);
  CLI::Option* config = app.add_option("--config")->expected(1)->take_all()->allow_extra_args(false);
  CLI::Option* preset = app.add_option("--preset")->expected(1)->take_all()->allow_extra_args(false);
  std::vector<std::pair<const Option*, CLI::Option*>> bound;
  for (const Option& option : options.all()) {
    const std::string flag = "--" + option.name();
    if (option.is_flag()) {
      // CLI11 turns --name, --name=no and --no-name into the texts "true" and "false".
      bound.emplace_back(&option, app.add_flag(flag + ",!--no-" + option.name())->take_all());
    } else {
      bound.emplace_back(&option, app.add_option(flag)->expected(1)->take_all()->allow_extra_args(false));
    }
  }
  std::vector<std::string> reversed(separated.rbegin(), separated.rend());  // the order CLI11 wants
  try {
    app.parse(reversed);
  } catch (const CLI::Error& e) {
    options.fail(e.what());
  }
  if (const std::vector<std::string> extras = app.remaining(); !extras.empty()) fail_on_extras(extras, options);

  line.config = single_result(*config, "config", options);
  line.preset = single_result(*preset, "preset", options);
  for (const auto& [option, parsed] : bound) {
    if (const auto text = single_result(*parsed, option->name(), options)) {
      line.values.emplace_back(option->name(), *text);
    }
  }
  return line;
}

}  // namespace solvent::experiments
