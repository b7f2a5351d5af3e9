#pragma once
/// A CUDA runtime that does nothing, so that programs compiled by nvcc run their host's part where there is no GPU: what the
/// host spends on an operation, and which calls it makes, can be measured and held. Memory is the host's; kernels do not run,
/// so results are garbage. Stands in for libcudart, libcublas, libcudnn and libcusolver by their names.

#include <cstdint>
#include <map>
#include <string>

namespace solvent::null_cuda {

/// Name of a runtime's function -> how often it was called. "nodes recorded" and "nodes replayed": kernels, copies and fills
/// that went to graphs, and that replays of them launched. With SOLVENT_NULL_CUDA_KERNELS in the environment also the mangled
/// names of kernels.
using Calls = std::map<std::string, std::uint64_t>;

/// Since the program began.
[[gnu::visibility("default")]] Calls calls();

/// Counts the calls of one function.
class [[gnu::visibility("default")]] Counter {
 public:
  explicit Counter(const char* function);
  /// `n` more
  void add(std::uint64_t n = 1);

 private:
  std::uint64_t* count_;
};

}  // namespace solvent::null_cuda
