#pragma once
/// Caching allocator: freed memory is kept and reused, because touching fresh pages costs more than the arithmetic on
/// them (0.4 ms per MB). CPU blocks are 64-byte aligned. Requests of at most 4 KiB are served from thread-local free
/// lists, larger ones from size-ordered caches; blocks of at least 2 MiB ask the system for huge pages.

#include <cstddef>
#include <cstdint>

#include "solvent/core/device.h"
#include "solvent/core/export.h"

namespace solvent {

/// Counters of one device's allocator, in bytes. Blocks served from thread-local free lists count as active
/// in units of their size class.
struct MemoryStats {
  std::size_t active = 0;         ///< bytes in live buffers, handles and tape nodes, rounded up to block sizes
  std::size_t peak = 0;           ///< largest `active` since start or reset_peak_memory; exact for blocks above 4 KiB
  std::size_t cached = 0;         ///< freed bytes kept for reuse
  std::size_t limit = 0;          ///< active + cached may not exceed this; 0 = no limit
  std::uint64_t allocations = 0;  ///< of tensor data; handles and nodes are not counted
  std::uint64_t cache_hits = 0;   ///< allocations that needed no memory from the system
};

/// The counters of a device's allocator now. @throws DeviceError if this build has no such device.
SOLVENT_API MemoryStats memory_stats(Device device = cpu_device);
/// Sets `MemoryStats::peak` to what is active now.
SOLVENT_API void reset_peak_memory(Device device = cpu_device) noexcept;
/// Returns cached blocks above 4 KiB to the system; memory of smaller ones is kept for smaller ones.
SOLVENT_API void empty_cache(Device device = cpu_device) noexcept;
/// Sets the limit; an allocation that would exceed it empties the cache, retries, then throws OutOfMemoryError.
SOLVENT_API void set_memory_limit(std::size_t bytes, Device device = cpu_device);

namespace detail {
/// Storage of tensor data. `bytes` == 0 returns a non-null pointer. @throws OutOfMemoryError
SOLVENT_API void* allocate(std::size_t bytes, Device device);
/// `bytes` must be the size given to allocate.
SOLVENT_API void deallocate(void* p, std::size_t bytes, Device device) noexcept;
/// Bodies of handles, boxes and nodes (at most 512 bytes): thread-local free list, about 2 ns.
SOLVENT_API void* allocate_body(std::size_t bytes);
SOLVENT_API void deallocate_body(void* p, std::size_t bytes) noexcept;
}  // namespace detail

}  // namespace solvent
