#include "solvent/tests/cuda/cuda_device.h"

#include <cstdio>

#include "solvent/core/cuda/runtime.h"

namespace solvent::testing {

bool has_cuda_test_device() {
  if (cuda::device_count() > 0) return true;
  std::printf("skipped: no CUDA device (%s)\n", cuda::unavailable_reason().c_str());
  return false;
}

}  // namespace solvent::testing
