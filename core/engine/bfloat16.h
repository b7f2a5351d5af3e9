#pragma once
/// Runs of bfloat16 to float32 and back, on one thread.

#include <cstdint>

#include "solvent/core/bfloat16.h"
#include "solvent/core/export.h"

namespace solvent::engine {

/// y[i] = x[i] for i < n: exact, or rounded as BFloat16(float) does, NaNs included.
/// @{
SOLVENT_API void convert(const float* x, BFloat16* y, std::int64_t n);
SOLVENT_API void convert(const BFloat16* x, float* y, std::int64_t n);
/// @}

}  // namespace solvent::engine
