#pragma once
/// The part of CUDA that Solvent's kernels and runtime use, on the CPU: for tests on machines without a GPU.
///
/// With SOLVENT_CUDA_EMULATED the `.cu` files are compiled as C++ against this header. A launch runs its blocks one after
/// the other; the threads of a block are fibers of the calling thread that change at barriers and warp functions. So
/// indices, barriers, exchanges between lanes and the order of sums are the kernels' own, and a sanitizer sees their
/// memory accesses. With SOLVENT_EMULATOR_REVERSED=1 blocks, and threads between barriers, run in the opposite order; with
/// SOLVENT_EMULATOR_CHECKS races and reads of unwritten memory are found (access_checks.h). What it cannot show: speed,
/// accesses that the device's memory delays (threads never run at the same time), the device's mathematical functions (these
/// are the host's). library_types.h is about NVIDIA's libraries.
///
/// Names are those of CUDA's runtime; see NVIDIA's manual for them. Streams are in order and synchronous. A stream that is
/// recorded keeps its work, with the arguments of kernels as they are then, for the launches of its graph; waiting for it is
/// an error that ends the recording.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

// --- language ---------------------------------------------------------------------------------------------------------

#define __global__
#define __device__
#define __host__
#define __shared__ static thread_local
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

struct uint3 {
  unsigned x = 0, y = 0, z = 0;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned ax = 1, unsigned ay = 1, unsigned az = 1) : x(ax), y(ay), z(az) {}
};

// Of the fiber that runs now.
extern thread_local uint3 threadIdx;
extern thread_local uint3 blockIdx;
extern thread_local dim3 blockDim;
extern thread_local dim3 gridDim;
inline constexpr int warpSize = 32;

// --- the emulator's own interface -------------------------------------------------------------------------------------

struct CUstream_st;

namespace solvent::cuda::emulator {

/// Runs `thread` for every thread of every block. Without barriers threads are plain calls, one after the other.
/// Ends the process with a message if a barrier can never be passed (some threads wait for lanes that have ended).
void run(dim3 grid, dim3 block, std::size_t shared_bytes, bool has_barriers, const std::function<void()>& thread);

/// Memory of `shared_bytes` that the block shares, filled with NaN patterns at the start of each block.
void* dynamic_shared();

/// Waits for all threads of the block that have not ended.
void block_barrier();

/// Publishes `value` (at most 16 bytes) to the lanes of this warp named in `mask`, waits for all of them, and copies what
/// `source` published into `result`. Lanes outside of the mask or beyond the block give the caller's own value.
void exchange(unsigned mask, const void* value, std::size_t bytes, int source, void* result);
/// As `source`: `value` is an int, and `result` gets a bit for each lane of the mask whose int is not 0.
inline constexpr int kEveryLane = -1;
/// As `source`: nothing is exchanged.
inline constexpr int kBarrier = -2;

/// Waits for the lanes of this warp named in `mask`.
void warp_barrier(unsigned mask);

/// What an atomic function tells the checks of accesses (access_checks.h) that it does.
#if SOLVENT_EMULATOR_CHECKS
void touch_atomically(const void* p, std::size_t bytes);
#else
inline void touch_atomically(const void*, std::size_t) {}
#endif

/// This thread's lane.
int lane();

/// SOLVENT_EMULATOR_BLOCKS, the blocks of launches that are made for items, which then take turns; 2^20 without it.
std::int64_t most_blocks();

/// Does `work` now, or adds it to the graph that the stream is being recorded into: what every call on a stream goes through.
void submit(CUstream_st* stream, std::function<void()> work);

}  // namespace solvent::cuda::emulator

// --- synchronisation and warps ------------------------------------------------------------------------------------------

inline void __syncthreads() { solvent::cuda::emulator::block_barrier(); }
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __syncwarp(unsigned mask = 0xffffffffu) { solvent::cuda::emulator::warp_barrier(mask); }

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  T result{};
  const int lane = solvent::cuda::emulator::lane();
  const int from = (lane & ~(width - 1)) + (source & (width - 1));
  solvent::cuda::emulator::exchange(mask, &value, sizeof(T), from, &result);
  return result;
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  T result{};
  const int lane = solvent::cuda::emulator::lane();
  const int from = (lane & (width - 1)) >= static_cast<int>(delta) ? lane - static_cast<int>(delta) : lane;
  solvent::cuda::emulator::exchange(mask, &value, sizeof(T), from, &result);
  return result;
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  T result{};
  const int lane = solvent::cuda::emulator::lane();
  const int from = (lane & (width - 1)) + static_cast<int>(delta) < width ? lane + static_cast<int>(delta) : lane;
  solvent::cuda::emulator::exchange(mask, &value, sizeof(T), from, &result);
  return result;
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
  T result{};
  const int lane = solvent::cuda::emulator::lane();
  const int from = (lane ^ lanes) / width == lane / width ? lane ^ lanes : lane;
  solvent::cuda::emulator::exchange(mask, &value, sizeof(T), from, &result);
  return result;
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  unsigned result = 0;
  solvent::cuda::emulator::exchange(mask, &predicate, sizeof(predicate), solvent::cuda::emulator::kEveryLane, &result);
  return result;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }
inline unsigned __activemask() { return 0xffffffffu; }

// --- arithmetic -----------------------------------------------------------------------------------------------------------

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(static_cast<std::uint64_t>(a) * b >> 32);
}
template <class T>
T __ldg(const T* p) {
  return *p;
}
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

// One thread runs at a time, so plain updates are atomic. Their accesses are not those of the checks.
#if SOLVENT_EMULATOR_CHECKS
#define SOLVENT_EMULATOR_ATOMIC __attribute__((noinline, no_sanitize("thread")))
#else
#define SOLVENT_EMULATOR_ATOMIC
#endif
template <class T>
SOLVENT_EMULATOR_ATOMIC T atomicAdd(T* p, T v) {
  solvent::cuda::emulator::touch_atomically(p, sizeof(T));
  const T old = *p;
  *p = static_cast<T>(old + v);
  return old;
}
template <class T>
SOLVENT_EMULATOR_ATOMIC T atomicMax(T* p, T v) {
  solvent::cuda::emulator::touch_atomically(p, sizeof(T));
  const T old = *p;
  *p = std::max(old, v);
  return old;
}
template <class T>
SOLVENT_EMULATOR_ATOMIC T atomicMin(T* p, T v) {
  solvent::cuda::emulator::touch_atomically(p, sizeof(T));
  const T old = *p;
  *p = std::min(old, v);
  return old;
}
template <class T>
SOLVENT_EMULATOR_ATOMIC T atomicExch(T* p, T v) {
  solvent::cuda::emulator::touch_atomically(p, sizeof(T));
  const T old = *p;
  *p = v;
  return old;
}
template <class T>
SOLVENT_EMULATOR_ATOMIC T atomicOr(T* p, T v) {
  solvent::cuda::emulator::touch_atomically(p, sizeof(T));
  const T old = *p;
  *p = static_cast<T>(old | v);
  return old;
}
template <class T>
SOLVENT_EMULATOR_ATOMIC T atomicCAS(T* p, T expected, T v) {
  solvent::cuda::emulator::touch_atomically(p, sizeof(T));
  const T old = *p;
  if (old == expected) *p = v;
  return old;
}

// --- runtime ----------------------------------------------------------------------------------------------------------------

enum cudaError_t : int {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901,
};
enum cudaMemcpyKind {
  cudaMemcpyHostToHost,
  cudaMemcpyHostToDevice,
  cudaMemcpyDeviceToHost,
  cudaMemcpyDeviceToDevice,
  cudaMemcpyDefault
};
enum cudaStreamCaptureStatus {
  cudaStreamCaptureStatusNone,
  cudaStreamCaptureStatusActive,
  cudaStreamCaptureStatusInvalidated
};
enum cudaStreamCaptureMode {
  cudaStreamCaptureModeGlobal,
  cudaStreamCaptureModeThreadLocal,
  cudaStreamCaptureModeRelaxed
};
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount = 16, cudaDevAttrMaxSharedMemoryPerBlockOptin = 97 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
inline constexpr unsigned cudaStreamNonBlocking = 1;
inline constexpr unsigned cudaEventDefault = 0;
inline constexpr unsigned cudaEventDisableTiming = 2;
inline constexpr unsigned cudaHostAllocDefault = 0;

using cudaStream_t = struct CUstream_st*;
using cudaEvent_t = struct CUevent_st*;
using cudaGraph_t = struct CUgraph_st*;
using cudaGraphExec_t = struct CUgraphExec_st*;

struct cudaDeviceProp {
  char name[256];
  std::size_t totalGlobalMem;
  int major, minor;
  int multiProcessorCount;
};

const char* cudaGetErrorName(cudaError_t);
const char* cudaGetErrorString(cudaError_t);
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaRuntimeGetVersion(int* version);
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaMalloc(void** p, std::size_t bytes);
cudaError_t cudaFree(void* p);
cudaError_t cudaMemGetInfo(std::size_t* free_bytes, std::size_t* total_bytes);
cudaError_t cudaHostAlloc(void** p, std::size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void* p);
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemcpyPeerAsync(void* to, int to_device, const void* from, int from_device, std::size_t bytes,
                                cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* p, int value, std::size_t bytes, cudaStream_t stream);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end);
template <class F>
cudaError_t cudaFuncSetAttribute(F*, cudaFuncAttribute, int) {
  return cudaSuccess;
}
