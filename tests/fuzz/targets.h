#pragma once
/// Functions that feed bytes of a stranger to one reader each. A target returns normally when the reader accepts or refuses
/// the bytes with its typed error; everything else (another exception, a broken invariant, a sanitizer's complaint) is a
/// finding.

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string_view>
#include <vector>

namespace solvent::fuzz {

using Bytes = std::span<const std::byte>;

/// One reader under test.
struct Target {
  std::string_view name;
  void (*run)(Bytes bytes);
};

/// All targets by name.
const std::vector<Target>& targets();
/// @throws std::invalid_argument listing the names
const Target& find_target(std::string_view name);

/// Ends the process with a message: a finding.
[[noreturn]] inline void broken(const char* what) {
  std::fprintf(stderr, "broken invariant: %s\n", what);
  std::abort();
}
/// broken() unless `condition`.
inline void require(bool condition, const char* what) {
  if (!condition) broken(what);
}

void run_safetensors(Bytes bytes);
void run_npy(Bytes bytes);
void run_npz(Bytes bytes);
void run_idx(Bytes bytes);
void run_cifar(Bytes bytes);
void run_ts(Bytes bytes);
void run_arff(Bytes bytes);
void run_config(Bytes bytes);
void run_checkpoint(Bytes bytes);

}  // namespace solvent::fuzz
