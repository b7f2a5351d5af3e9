// solvent-info: what this build of Solvent is and what it can do.
//   solvent-info              build information
//   solvent-info ops          table of operations: kernels and derivative rules
//   solvent-info ops --json   the same as a JSON array of {name, cpu, cuda, vjp, jvp, tested}
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "solvent/core/build_info.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/all_ops.h"
#include "tested_ops.h"

namespace {

constexpr int kUsageError = 2;

// Names that occur in the table of operations of the tests, sorted; the test gate proves that each has an entry there.
bool is_tested(std::string_view name) { return std::binary_search(std::begin(kTestedOps), std::end(kTestedOps), name); }

void print_usage(std::FILE* stream) {
  std::fputs(
      "usage: solvent-info               print build information\n"
      "       solvent-info ops [--json]  list the operations with their kernels and derivative rules\n"
      "       solvent-info --version     print the version\n"
      "       solvent-info --help        print this text\n",
      stream);
}

int print_build_info() {
  std::fputs(solvent::build_info().c_str(), stdout);
  std::printf("threads: %d\n", solvent::num_threads());
  return 0;
}

int print_ops_as_json() {
  auto list = nlohmann::ordered_json::array();
  for (const solvent::OpDef* op : solvent::all_ops()) {
    list.push_back({{"name", op->name},
                    {"cpu", op->cpu != nullptr},
                    {"cuda", op->cuda != nullptr},
                    {"vjp", op->vjp != nullptr},
                    {"jvp", op->jvp != nullptr || op->joint_jvp != nullptr},
                    {"tested", is_tested(op->name)}});
  }
  std::puts(list.dump(2).c_str());
  return 0;
}

int print_ops_as_table() {
  const auto mark = [](bool yes) { return yes ? "yes" : "-"; };
  std::printf("%-28s %-4s %-5s %-4s %-4s %s\n", "operation", "cpu", "cuda", "vjp", "jvp", "tested");
  for (const solvent::OpDef* op : solvent::all_ops()) {
    std::printf("%-28.*s %-4s %-5s %-4s %-4s %s%s\n", static_cast<int>(op->name.size()), op->name.data(),
                mark(op->cpu != nullptr), mark(op->cuda != nullptr), mark(op->vjp != nullptr),
                mark(op->jvp != nullptr || op->joint_jvp != nullptr), mark(is_tested(op->name)),
                op->differentiable ? "" : "  (constant result)");
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  const auto is = [&arguments](const std::vector<std::string>& expected) { return arguments == expected; };
  if (is({})) return print_build_info();
  if (is({"ops"})) return print_ops_as_table();
  if (is({"ops", "--json"})) return print_ops_as_json();
  if (is({"--version"})) {
    std::puts(solvent::version());
    return 0;
  }
  if (is({"--help"})) {
    print_usage(stdout);
    return 0;
  }
  std::fprintf(stderr, "solvent-info: unknown arguments, starting at \"%s\"\n", arguments.front().c_str());
  print_usage(stderr);
  return kUsageError;
}
