// Runs a target on stored files, without libFuzzer: the regression test of every build.
//
// usage: fuzz_replay TARGET FILE_OR_FOLDER...
//
// Where the system allows it, the memory that each file costs is measured as well: at most its size and 16 MiB.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "solvent/tests/fuzz/targets.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SOLVENT_FUZZ_MEASURE 0  // the sanitizer's own memory would be counted
#elif defined(__has_feature)
#define SOLVENT_FUZZ_MEASURE (!__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer))
#else
#define SOLVENT_FUZZ_MEASURE 1
#endif

namespace fs = std::filesystem;

namespace {

constexpr long kAllowedKiB = 16 * 1024;

/// "VmHWM" or "VmRSS" of this process in KiB, -1 if unknown.
long memory_kib(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(field + ":")) return std::atol(line.c_str() + field.size() + 1);
  return -1;
}

/// Sets the high-water mark to what is in use now; false if the system does not let us.
bool reset_peak() {
  std::FILE* const file = std::fopen("/proc/self/clear_refs", "w");
  if (file == nullptr) return false;
  const bool written = std::fputs("5", file) >= 0;
  return std::fclose(file) == 0 && written;
}

std::string read(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

/// False if the target took more memory than allowed.
bool run(const solvent::fuzz::Target& target, const fs::path& file) {
  const std::string bytes = read(file);
  std::printf("%s %s (%zu bytes)\n", std::string(target.name).c_str(), file.filename().c_str(), bytes.size());
  std::fflush(stdout);  // the last line before a crash names the file
  const bool measures = SOLVENT_FUZZ_MEASURE && reset_peak();
  const long before = memory_kib("VmRSS");
  target.run(std::as_bytes(std::span(bytes)));
  if (!measures || before < 0) return true;
  const long grown = memory_kib("VmHWM") - before, allowed = kAllowedKiB + static_cast<long>(bytes.size() / 1024);
  if (grown <= allowed) return true;
  std::printf("  took %ld KiB; at most %ld are allowed\n", grown, allowed);
  return false;
}

std::vector<fs::path> files_of(const fs::path& place) {
  if (!fs::is_directory(place)) return {place};
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(place)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: fuzz_replay TARGET FILE_OR_FOLDER...\n";
    return 2;
  }
  try {
    const solvent::fuzz::Target& target = solvent::fuzz::find_target(argv[1]);
    int count = 0, failed = 0;
    for (int i = 2; i < argc; ++i)
      for (const fs::path& file : files_of(argv[i])) {
        ++count;
        failed += run(target, file) ? 0 : 1;
      }
    std::printf("%d files, %d failures\n", count, failed);
    return count > 0 && failed == 0 ? 0 : 1;
  } catch (const std::exception& e) {
    std::cerr << e.what() << '\n';
    return 1;
  }
}
