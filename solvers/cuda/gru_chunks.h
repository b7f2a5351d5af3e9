#pragma once
/// What the fused parallel-in-time kernels for the GRU have in common. Internal to solvers/cuda.

#include <algorithm>
#include <cstdint>

#include "solvent/core/device.h"

namespace solvent::solvers::cuda {

/// Steps of a chunk of time. Enough chunks for all multiprocessors: threads have them up to 4 units, groups of lanes (of which
/// fewer fit) otherwise. A function of T and H only, not of the batch.
inline std::int64_t gru_chunk_length(std::int64_t steps, std::int64_t hidden) {
  const bool small = hidden <= 4;
  const std::int64_t wanted = small ? 16384 : 4096;
  return std::max<std::int64_t>((steps + wanted - 1) / wanted, small ? 16 : 32);
}

/// d_c = A_c d_{c-1} + v_c from d = 0 over the maps of chunks: matrices (maps, batch, hidden, hidden), the rest (maps, batch,
/// hidden). Sums are bracketed by maps and hidden only: a sequence has the same bits in every batch.
/// @throws DeviceError, OutOfMemoryError
/// @{
void scan_chunk_maps(std::int64_t maps, std::int64_t batch, std::int64_t hidden, const float* matrices,
                     const float* offsets, float* d, Device device);
void scan_chunk_maps(std::int64_t maps, std::int64_t batch, std::int64_t hidden, const double* matrices,
                     const double* offsets, double* d, Device device);
/// @}

}  // namespace solvent::solvers::cuda
