// solvent-info: what this build of Solvent is and what it can do.
//   solvent-info              build information
#include <cstdio>
#include <cstring>

#include "solvent/core/build_info.h"
#include "solvent/core/parallel.h"

namespace {

constexpr int kUsageError = 2;

void print_usage(std::FILE* stream) {
  std::fputs(
      "usage: solvent-info            print build information\n"
      "       solvent-info --version  print the version\n",
      stream);
}

int print_build_info() {
  std::fputs(solvent::build_info().c_str(), stdout);
  std::printf("threads: %d\n", solvent::num_threads());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 1) return print_build_info();
  if (argc == 2 && std::strcmp(argv[1], "--version") == 0) {
    std::puts(solvent::version());
    return 0;
  }
  if (argc == 2 && std::strcmp(argv[1], "--help") == 0) {
    print_usage(stdout);
    return 0;
  }
  std::fprintf(stderr, "solvent-info: unknown arguments, starting at \"%s\"\n", argv[1]);
  print_usage(stderr);
  return kUsageError;
}
