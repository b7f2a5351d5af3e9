#pragma once
/// Pinned memory of the host, which a GPU copies from and to without the processor: an allocator for tensors, and the buffers
/// through which copies of other host memory pass. Internal to core; solvent/core/stream.h is the public part.

#include <cstddef>

#include "solvent/core/allocator.h"
#include "solvent/core/device.h"

struct CUstream_st;

namespace solvent::detail {
struct Storage;
}

namespace solvent::cuda {

/// Blocks are kept when they are freed, and reused. @throws OutOfMemoryError beyond the limit or what the system pins
/// @{
void* allocate_pinned(std::size_t bytes);
void deallocate_pinned(void* p) noexcept;
/// @}

/// Counters of this memory, staging buffers included: they count as cached.
MemoryStats pinned_memory_stats();
/// 0 = no limit.
void set_pinned_memory_limit(std::size_t bytes);
/// Gives what is not in use back to the system.
void empty_pinned_cache() noexcept;

/// Copies pinned memory of `storage` to a device in stream order without waiting; `storage` is kept until that has happened.
void copy_pinned_to_device(void* to, const void* host, std::size_t bytes, Device device, detail::Storage* storage);
/// Lets go of what copies that have ended kept.
void release_copied() noexcept;

/// Copies of host memory that is not pinned, in stream order, by chunks of kStagingBytes that two or more buffers take turns
/// with: the processor fills or empties one while the device copies another. stage_to_device returns when the host's memory
/// may be reused, stage_to_host when the values are there.
/// @{
void stage_to_device(void* to, const void* host, std::size_t bytes, Device device);
void stage_to_host(void* host, const void* from, std::size_t bytes, Device device);
inline constexpr std::size_t kStagingBytes = std::size_t{4} << 20;
/// Buffers per device that one copy at a time uses, at most. None beyond the limit of pinned memory: then the driver's are used.
inline constexpr std::size_t kMostStagingBuffers = 8;
/// @}

}  // namespace solvent::cuda
