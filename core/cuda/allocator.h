#pragma once
/// The caching allocator of device memory. Public functions of solvent/core/allocator.h forward here for GPUs. Internal.

#include <cstddef>

#include "solvent/core/allocator.h"

struct CUstream_st;  // cudaStream_t is a pointer to it

namespace solvent::cuda {

MemoryStats memory_stats(Device device);
void reset_peak_memory(Device device) noexcept;
/// Waits for the device and gives cached blocks back to it.
void empty_cache(Device device) noexcept;
void set_memory_limit(std::size_t bytes, Device device);

/// Keeps cached blocks of a stream whose work is recorded as a graph: replays use them. Until give_back_memory.
void keep_memory(CUstream_st* stream, Device device);

/// Hands the blocks of a stream without pending work to the device's default stream.
void give_back_memory(CUstream_st* stream, Device device) noexcept;

}  // namespace solvent::cuda
