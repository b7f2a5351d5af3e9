#pragma once
/// When to write results past the caches.

#include <cstdint>

#include "solvent/ops/cpu/vector_kernels.h"

namespace solvent::cpu {

/// Whether n elements from y on are many enough and aligned (64 bytes, a cache line) for streaming stores. Blocks of
/// kElementwiseGrain elements keep the alignment.
template <class T>
bool worth_streaming(const T* y, std::int64_t n) noexcept {
  return n >= kStreamBytes / static_cast<std::int64_t>(sizeof(T)) && reinterpret_cast<std::uintptr_t>(y) % 64 == 0;
}

}  // namespace solvent::cpu
