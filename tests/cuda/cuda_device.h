#pragma once
/// The GPU that tests use, if there is one.

#include "solvent/core/device.h"

namespace solvent::testing {

/// False, with a warning in the test's output, if this machine has no GPU (the emulator counts as one).
bool has_cuda_test_device();

/// False where SOLVENT_CUDA_CACHE=0 gives freed memory back at once.
bool has_cuda_memory_cache();

/// True in builds for the emulator, whose stand-ins for NVIDIA's libraries round and refuse as their manuals permit.
bool is_emulated_device();

/// cuda:0
inline constexpr Device cuda_test_device() { return {DeviceType::cuda, 0}; }

}  // namespace solvent::testing
