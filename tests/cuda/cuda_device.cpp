#include "solvent/tests/cuda/cuda_device.h"

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "solvent/core/cuda/runtime.h"

namespace solvent::testing {

bool has_cuda_test_device() {
  if (cuda::device_count() > 0) return true;
  std::printf("skipped: no CUDA device (%s)\n", cuda::unavailable_reason().c_str());
  return false;
}

bool is_emulated_device() { return SOLVENT_CUDA_EMULATED; }

bool has_cuda_memory_cache() {
  const char* const text = std::getenv("SOLVENT_CUDA_CACHE");
  return text == nullptr || std::string_view(text) != "0";
}

}  // namespace solvent::testing
