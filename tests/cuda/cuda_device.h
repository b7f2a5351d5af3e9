#pragma once
/// The GPU that tests use, if there is one.

#include "solvent/core/device.h"

namespace solvent::testing {

/// False, with a warning in the test's output, if this machine has no GPU (the emulator counts as one).
bool has_cuda_test_device();

/// False where SOLVENT_CUDA_CACHE=0 gives freed memory back at once.
bool has_cuda_memory_cache();

/// cuda:0
inline constexpr Device cuda_test_device() { return {DeviceType::cuda, 0}; }

}  // namespace solvent::testing
