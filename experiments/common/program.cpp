#include "solvent/experiments/common/program.h"

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "solvent/experiments/common/command_line.h"
#include "solvent/experiments/common/text.h"

namespace solvent::experiments {

Program::Program(std::string name, std::string summary) : name_(std::move(name)), summary_(std::move(summary)) {}

Options& Program::command(const std::string& name, std::string summary, Body body) {
  const bool clashes = find_command(name) || (!commands_.empty() && (name.empty() || commands_.front().name.empty()));
  if (clashes) {
    throw ValueError(
        fmt::format("[Program::command] \"{}\" cannot be added: names must differ, and a program with a "
                    "nameless command has no others",
                    name));
  }
  const std::string full_name = name.empty() ? name_ : name_ + " " + name;
  return commands_.emplace_back(name, std::move(summary), full_name, std::move(body)).options;
}

Program::Command* Program::find_command(const std::string& name) {
  const auto it = std::find_if(commands_.begin(), commands_.end(), [&](const Command& c) { return c.name == name; });
  return it == commands_.end() ? nullptr : &*it;
}

void Program::fail_unknown_command(const std::string& name) const {
  std::vector<std::string> names;
  for (const Command& command : commands_) names.push_back(command.name);
  const auto nearest = nearest_name(name, names);
  throw UsageError(fmt::format("[{}] unknown command \"{}\"; expected one of {}{} See {} --help.", name_, name,
                               join(names, " | "), nearest ? fmt::format("; did you mean {}?", *nearest) : ".", name_));
}

std::string Program::help() const {
  std::string text =
      fmt::format("{} - {}\n\nusage: {} COMMAND [--option VALUE ...]\n\ncommands\n", name_, summary_, name_);
  for (const Command& command : commands_) text += fmt::format("  {:<12} {}\n", command.name, command.summary);
  return text + fmt::format("\n{} COMMAND --help lists the options of a command.\n", name_);
}

int Program::main(int argc, const char* const* argv) {
  std::vector<std::string> args;
  for (int i = 1; i < argc; ++i) args.emplace_back(argv[i]);
  return run(args, std::cout, std::cerr);
}

int Program::run(std::span<const std::string> args, std::ostream& out, std::ostream& err) {
  try {
    command_line_ = name_;
    for (const std::string& arg : args) command_line_ += " " + arg;
    if (Command* only = find_command("")) return static_cast<int>(run_command(*only, args, out));
    if (args.empty()) {
      throw UsageError(fmt::format("[{}] no command given.\n{}", name_, help()));
    }
    if (args.front() == "--help" || args.front() == "-h" || args.front() == "help") {
      out << help();
      return static_cast<int>(ExitCode::done);
    }
    Command* command = find_command(args.front());
    if (!command) fail_unknown_command(args.front());
    return static_cast<int>(run_command(*command, args.subspan(1), out));
  } catch (...) {
    out.flush();
    return static_cast<int>(report_current_exception(err));
  }
}

ExitCode Program::run_command(Command& command, std::span<const std::string> args, std::ostream& out) {
  Options& options = command.options;
  const CommandLine line = parse_command_line(args, options);
  if (line.help) {
    out << options.help(command.summary);
    return ExitCode::done;
  }
  if (line.preset) options.apply_preset(*line.preset);

  std::optional<std::filesystem::path> config = line.config;
  const auto resume = std::find_if(line.values.begin(), line.values.end(),
                                   [&](const auto& value) { return value.first == options.resume_name(); });
  if (resume != line.values.end()) {
    if (config) options.fail(fmt::format("--{} brings its own config.toml; drop --config", resume->first));
    config = std::filesystem::path(resume->second) / "config.toml";
    if (!std::filesystem::exists(*config)) {
      options.fail(fmt::format("--{} got \"{}\", which has no config.toml; expected the directory of an earlier run",
                               resume->first, resume->second));
    }
  }
  if (config) options.apply_config(read_config_file(*config), config->string());
  for (const auto& [name, text] : line.values) options.apply_argument(name, text);

  if (line.print_config) {
    out << options.to_toml();
    return ExitCode::done;
  }
  return command.body({options, command_line_});
}

}  // namespace solvent::experiments
