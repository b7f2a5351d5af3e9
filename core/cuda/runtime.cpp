// Devices, streams and copies over CUDA's runtime. Host code only.

#include "solvent/core/cuda/runtime.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include <cuda_runtime.h>
#include <fmt/format.h>

#include "solvent/core/cuda/checks.h"
#include "solvent/core/cuda/graph.h"
#include "solvent/core/cuda/pinned.h"
#include "solvent/core/error.h"

namespace solvent::cuda {
namespace {

constexpr int kMostDevices = 64;  // more are not used

// The result of asking the driver once: a machine does not gain GPUs while a process runs.
struct Devices {
  int count = 0;
  std::string reason;
  std::vector<int> multiprocessors;
  std::vector<cudaStream_t> streams;  // the library's own stream of each device
  std::mutex mutex;                   // guards making them

  Devices() {
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess) {
      count = 0;
      reason = fmt::format("{} ({})", cudaGetErrorString(error), cudaGetErrorName(error));
      (void)cudaGetLastError();  // the failure must not surface at a later call
    } else if (count == 0) {
      reason = "the driver reports no device";
    }
    count = std::min(count, kMostDevices);
    multiprocessors.resize(static_cast<std::size_t>(count));
    streams.resize(static_cast<std::size_t>(count));
    for (int i = 0; i < count; ++i)
      (void)cudaDeviceGetAttribute(&multiprocessors[static_cast<std::size_t>(i)], cudaDevAttrMultiProcessorCount, i);
  }
};

// Never destroyed: static tensors may die after everything else.
Devices& devices() {
  static auto* const instance = new Devices;
  return *instance;
}

// Streams that StreamGuard made current on this thread, by device. Never destroyed: static tensors may die after a thread's
// objects.
thread_local constinit std::array<cudaStream_t, kMostDevices> t_streams{};

}  // namespace

void check(int error, const char* what) {
  if (error == cudaSuccess) return;
  const auto code = static_cast<cudaError_t>(error);
  (void)cudaGetLastError();
  throw DeviceError(fmt::format("[cuda] could not {}: {} ({}). SOLVENT_CUDA_DEBUG=1 names the kernel that failed.",
                                what, cudaGetErrorString(code), cudaGetErrorName(code)));
}

int device_count() noexcept { return devices().count; }

std::string unavailable_reason() { return devices().reason; }

void use(Device device) {
  thread_local int current = -1;
  if (current == device.index) return;
  check(cudaSetDevice(device.index), "select a device");
  current = device.index;
}

CUstream_st* default_stream(Device device) {
  Devices& all = devices();
  const std::lock_guard lock(all.mutex);
  cudaStream_t& stream = all.streams[static_cast<std::size_t>(device.index)];
  if (stream == nullptr) check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "make a stream");
  return stream;
}

CUstream_st* current_stream(Device device) {
  use(device);
  const auto i = static_cast<std::size_t>(device.index);
  if (t_streams[i] == nullptr) t_streams[i] = default_stream(device);
  return t_streams[i];
}

CUstream_st* set_current_stream(Device device, CUstream_st* stream) {
  CUstream_st* const before = current_stream(device);
  t_streams[static_cast<std::size_t>(device.index)] = stream;
  return before;
}

int multiprocessors(Device device) { return devices().multiprocessors[static_cast<std::size_t>(device.index)]; }

void allow_shared_bytes(const void* kernel, std::size_t bytes, Device device) {
  struct Allowed {
    std::mutex mutex;
    std::map<std::pair<const void*, int>, std::size_t> bytes;
  };
  // Never destroyed, as all state of the library. One for all threads: the driver keeps the last value it was given.
  static auto* const allowed = new Allowed;
  const std::lock_guard lock(allowed->mutex);
  std::size_t& most = allowed->bytes[{kernel, device.index}];
  if (bytes <= most) return;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
        "reserve shared memory");
  most = bytes;
}

// The driver copies up to 64 KiB through a buffer of its own, so the host's memory is free when the call returns; more passes
// through ours.
constexpr std::size_t kDriverCopies = std::size_t{64} << 10;

void copy_to_device(void* to, const void* host, std::size_t bytes, Device device) {
  if (bytes == 0) return;
  const cudaStream_t stream = current_stream(device);
  if (is_recording(stream))
    throw DeviceError(
        "[graph] the recorded function copies from the host, whose memory will be gone at the replay; make the "
        "tensor outside and pass it as an input.");
  if (bytes > kDriverCopies) return stage_to_device(to, host, bytes, device);
  check(cudaMemcpyAsync(to, host, bytes, cudaMemcpyHostToDevice, stream), "copy to the device");
}

void copy_constant_to_device(void* to, const void* host, std::size_t bytes, Device device) {
  if (bytes == 0) return;
  if (!is_recording(current_stream(device))) return copy_to_device(to, host, bytes, device);
  copy_on_device(to, keep_constant(host, bytes, device), bytes, device);
}

void copy_to_host(void* host, const void* from, std::size_t bytes, Device device) {
  if (bytes == 0) return;
  const cudaStream_t stream = current_stream(device);
  if (is_recording(stream))
    throw DeviceError(
        "[graph] the recorded function reads values on the host, which a replay cannot wait for; return the tensor and "
        "read it after the replay.");
  if (bytes > kDriverCopies) {
    stage_to_host(host, from, bytes, device);
  } else {
    check(cudaMemcpyAsync(host, from, bytes, cudaMemcpyDeviceToHost, stream), "copy to the host");
    check(cudaStreamSynchronize(stream), "wait for a copy to the host");
  }
  release_copied();
  throw_found();
}

void copy_on_device(void* to, const void* from, std::size_t bytes, Device device) {
  if (bytes == 0) return;
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, current_stream(device)), "copy on the device");
}

// The target's stream waits for what the source's stream has been given so far.
void copy_between(void* to, Device to_device, const void* from, Device from_device, std::size_t bytes) {
  if (bytes == 0) return;
  const cudaStream_t source = current_stream(from_device);
  cudaEvent_t ready = nullptr;
  check(cudaEventCreateWithFlags(&ready, cudaEventDisableTiming), "make an event");
  int error = cudaEventRecord(ready, source);
  const cudaStream_t target = current_stream(to_device);
  if (error == cudaSuccess) error = cudaStreamWaitEvent(target, ready, 0);
  if (error == cudaSuccess) error = cudaMemcpyPeerAsync(to, to_device.index, from, from_device.index, bytes, target);
  // The source may be freed and reused on its own stream as soon as this returns.
  if (error == cudaSuccess) error = cudaStreamSynchronize(target);
  (void)cudaEventDestroy(ready);
  check(error, "copy between devices");
  throw_found();
}

void set_bytes(void* to, int value, std::size_t bytes, Device device) {
  if (bytes == 0) return;
  check(cudaMemsetAsync(to, value, bytes, current_stream(device)), "set memory");
}

void synchronize(Device device) { synchronize(current_stream(device)); }

bool is_debugging() noexcept {
  static const bool wanted = [] {
    const char* text = std::getenv("SOLVENT_CUDA_DEBUG");
    return text != nullptr && std::strcmp(text, "0") != 0;
  }();
  return wanted;
}

}  // namespace solvent::cuda
