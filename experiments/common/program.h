#pragma once
/// An experiment program: its commands, their options, and what `main` returns.

#include <deque>
#include <functional>
#include <iosfwd>
#include <span>
#include <string>
#include <vector>

#include "solvent/experiments/common/errors.h"
#include "solvent/experiments/common/options.h"

namespace solvent::experiments {

/// What a command's function gets to know besides the settings struct that its options filled.
struct Invocation {
  const Options& options;    ///< resolved; `options.to_toml()` is the run's config.toml
  std::string command_line;  ///< as typed, for log.txt
};

/// ```cpp
/// int main(int argc, char** argv) {
///   Program program("deer", "nonlinear recurrences solved in parallel over time");
///   DemoSettings demo;
///   describe(demo, program.command("demo", "compare the methods", [&](const Invocation& i) { return run(demo, i); }));
///   return program.main(argc, argv);
/// }
/// ```
class Program {
 public:
  using Body = std::function<ExitCode(const Invocation&)>;

  Program(std::string name, std::string summary);

  /// Adds a sub-command. With the empty name it is the program itself and must stay the only one.
  /// The reference stays valid as long as the program lives.
  Options& command(const std::string& name, std::string summary, Body body);

  /// Parses, resolves the options, runs the command and turns exceptions into a message and an exit code.
  int main(int argc, const char* const* argv);
  /// The same with the arguments after the program's name, and streams to write to.
  int run(std::span<const std::string> args, std::ostream& out, std::ostream& err);

 private:
  struct Command {
    Command(std::string n, std::string s, const std::string& full_name, Body b)
        : name(std::move(n)), summary(std::move(s)), options(full_name), body(std::move(b)) {}
    std::string name, summary;
    Options options;
    Body body;
  };

  ExitCode run_command(Command& command, std::span<const std::string> args, std::ostream& out);
  Command* find_command(const std::string& name);
  [[noreturn]] void fail_unknown_command(const std::string& name) const;
  [[nodiscard]] std::string help() const;

  std::string name_, summary_, command_line_;
  std::deque<Command> commands_;  // deque: options are referenced by the caller
};

}  // namespace solvent::experiments
