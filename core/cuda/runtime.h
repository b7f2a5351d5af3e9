#pragma once
/// What the rest of the library needs of CUDA, without CUDA's headers: devices, streams, copies. Compiled in builds with
/// SOLVENT_CUDA only; callers guard with `#if SOLVENT_WITH_CUDA`. Internal to the library; stream.h is the public part.
///
/// Work goes to the current stream of the calling thread and of the device concerned. Streams are in order; host reads
/// wait for the stream. There is no other state: the CUDA device that is current on a thread is set by every call here.

#include <cstddef>
#include <string>

#include "solvent/core/device.h"

struct CUstream_st;  // cudaStream_t is a pointer to it

namespace solvent::cuda {

/// GPUs that can be used; 0 without a driver or a device, for the reason that unavailable_reason() gives.
SOLVENT_API int device_count() noexcept;
SOLVENT_API std::string unavailable_reason();

/// Makes `device` the CUDA device of this thread. @throws DeviceError if there is none of that index.
SOLVENT_API void use(Device device);

/// The stream on which this thread's work for `device` runs; made current with StreamGuard.
SOLVENT_API CUstream_st* current_stream(Device device);
/// Replaces it; null means the device's own default stream of the library. Returns the one before.
SOLVENT_API CUstream_st* set_current_stream(Device device, CUstream_st* stream);

/// The library's own stream of the device.
SOLVENT_API CUstream_st* default_stream(Device device);

/// True while the stream is being recorded into a graph: the host may not wait for it.
SOLVENT_API bool is_recording(CUstream_st* stream);

/// Number of streaming multiprocessors.
SOLVENT_API int multiprocessors(Device device);

/// Lets launches of a kernel have more dynamic shared memory than the 48 KiB of all. The driver is asked once for a kernel, a
/// device and a size. @throws DeviceError if the device has not that much
SOLVENT_API void allow_shared_bytes(const void* kernel, std::size_t bytes, Device device);

/// Copies of `bytes` bytes, in stream order. The host's buffer may be reused after copy_to_device; copy_to_host waits, and so
/// does copy_between: they and synchronize throw what checks have found (checks.h).
/// copy_constant_to_device is for tables that depend on shapes and attributes only: a graph that is being recorded keeps them,
/// where copy_to_device throws DeviceError, because a replay should not get the values of the recording.
/// @{
SOLVENT_API void copy_to_device(void* to, const void* host, std::size_t bytes, Device device);
SOLVENT_API void copy_constant_to_device(void* to, const void* host, std::size_t bytes, Device device);
SOLVENT_API void copy_to_host(void* host, const void* from, std::size_t bytes, Device device);
SOLVENT_API void copy_on_device(void* to, const void* from, std::size_t bytes, Device device);
SOLVENT_API void copy_between(void* to, Device to_device, const void* from, Device from_device, std::size_t bytes);
/// @}
/// Sets bytes, in stream order.
SOLVENT_API void set_bytes(void* to, int value, std::size_t bytes, Device device);

/// Waits for all work of the current stream. @throws ValueError for what checks have found
SOLVENT_API void synchronize(Device device);

/// True if launches are followed by a synchronisation and errors name the kernel (environment SOLVENT_CUDA_DEBUG=1).
SOLVENT_API bool is_debugging() noexcept;

/// Memory of a device; stream-ordered. See allocator.h for the counters. @throws OutOfMemoryError
/// @{
SOLVENT_API void* allocate(std::size_t bytes, Device device);
SOLVENT_API void deallocate(void* p, Device device) noexcept;
/// @}

/// @throws DeviceError that names what failed and CUDA's error, unless `error` is cudaSuccess (0).
SOLVENT_API void check(int error, const char* what);

}  // namespace solvent::cuda
