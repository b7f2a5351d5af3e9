#pragma once
/// How kernels are written and launched. For `.cu` files only.
///
///     template <class T>
///     __global__ void scale_kernel(const T* x, T factor, T* y, std::int64_t n) {
///       for (std::int64_t i = cuda::global_thread(); i < n; i += cuda::grid_threads()) y[i] = factor * x[i];
///     }
///     cuda::launch(cuda::over_elements("scale", n, device), scale_kernel<T>, x, factor, y, n);
///
/// Rules: the same bits at every run (no atomics on floats, no order that depends on timing); no lambdas in device code (the
/// files must compile without extensions of nvcc); grid-stride loops with std::int64_t sizes; a kernel with __syncthreads or
/// warp functions is launched with `barriers = true`; every lane of a mask must reach a warp function.
/// The same files compile as C++ against emulator/cuda_runtime.h, where tests run them without a GPU.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <tuple>
#include <utility>

#include <cuda_runtime.h>

#include "solvent/core/cuda/runtime.h"
#include "solvent/core/device.h"
#include "solvent/core/export.h"

/// Before a loop that nvcc must not unroll: because its body rarely runs, or has enough loads in flight, and the division by
/// its step that finds the number of turns costs more than the jumps.
#if SOLVENT_CUDA_EMULATED
#define SOLVENT_ROLLED
#else
#define SOLVENT_ROLLED _Pragma("unroll 1")
#endif

namespace solvent::cuda {

/// Threads per block of kernels without a better choice.
inline constexpr unsigned kThreads = 256;
/// All lanes of a warp.
inline constexpr unsigned kAllLanes = 0xffffffffu;

/// Where and how a kernel runs.
struct Launch {
  const char* name;              ///< for errors: the operation
  Device device;                 ///< where the operands live
  dim3 grid;                     ///< blocks
  dim3 block = dim3(kThreads);   ///< threads of a block
  std::size_t shared_bytes = 0;  ///< dynamic shared memory, see dynamic_shared()
  bool barriers = false;         ///< the kernel uses __syncthreads or warp functions
};

/// A grid-stride launch over n elements, `per_thread` of them per thread and turn: 16 blocks per multiprocessor, or where that
/// would take more than four turns, as many blocks as take four. Small blocks end together, whatever their number is modulo
/// those that fit on the device at once. n must be at least 1.
inline Launch over_elements(const char* name, std::int64_t n, Device device, std::int64_t per_thread = 1) {
  const std::int64_t threads = (n + per_thread - 1) / per_thread;
  const std::int64_t blocks = (threads + kThreads - 1) / kThreads;
  const std::int64_t most = std::max<std::int64_t>(std::int64_t{16} * multiprocessors(device), (blocks + 3) / 4);
  return {
      .name = name,
      .device = device,
      .grid = dim3(static_cast<unsigned>(std::clamp<std::int64_t>(blocks, 1, std::min(most, std::int64_t{1} << 30))))};
}

/// Blocks that over_blocks() launches at most. The emulator's SOLVENT_EMULATOR_BLOCKS lowers it, so that blocks take turns in
/// tests too.
#if SOLVENT_CUDA_EMULATED
inline std::int64_t most_blocks() { return emulator::most_blocks(); }
#else
constexpr std::int64_t most_blocks() { return std::int64_t{1} << 20; }
#endif

/// One block per item (row, matrix, sequence), with grid-stride where there are more than most_blocks(): kernels loop
/// `for (item = blockIdx.x; item < items; item += gridDim.x)`.
inline Launch over_blocks(const char* name, std::int64_t items, Device device, unsigned threads = kThreads) {
  return {.name = name,
          .device = device,
          .grid = dim3(static_cast<unsigned>(std::clamp<std::int64_t>(items, 1, most_blocks()))),
          .block = dim3(threads),
          .barriers = true};
}

/// This thread's number in the (one-dimensional) grid, and how many there are.
/// @{
__device__ inline std::int64_t global_thread() {
  return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ inline std::int64_t grid_threads() { return static_cast<std::int64_t>(gridDim.x) * blockDim.x; }
/// @}

/// The block's dynamic shared memory, aligned to 16 bytes.
template <class T>
__device__ T* dynamic_shared() {
#if SOLVENT_CUDA_EMULATED
  return static_cast<T*>(emulator::dynamic_shared());
#else
  extern __shared__ __align__(16) unsigned char solvent_dynamic_shared[];
  return reinterpret_cast<T*>(solvent_dynamic_shared);
#endif
}

/// Reports a launch that failed with `error`, and, when debugging, a kernel that did.
inline void check_launch(const Launch& launch, cudaError_t error) {
  if (error != cudaSuccess)
    check(static_cast<int>(error), (std::string("launch the kernel of ") + launch.name).c_str());
  if (is_debugging() && !is_recording(current_stream(launch.device)))
    check(static_cast<int>(cudaStreamSynchronize(current_stream(launch.device))),
          (std::string("run the kernel of ") + launch.name).c_str());
}

/// Runs `kernel` on the current stream. Arguments are converted to the kernel's parameter types. @throws DeviceError
template <class... Parameters, class... Arguments>
void launch(const Launch& launch, void (*kernel)(Parameters...), Arguments&&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments), "one argument for each parameter of the kernel");
  std::tuple<Parameters...> values(static_cast<Parameters>(std::forward<Arguments>(arguments))...);
  const cudaStream_t stream = current_stream(launch.device);
#if SOLVENT_CUDA_EMULATED
  emulator::submit(stream, [launch, kernel, values] {
    emulator::run(launch.grid, launch.block, launch.shared_bytes, launch.barriers, [&] { std::apply(kernel, values); });
  });
  const cudaError_t error = cudaGetLastError();
#else
  const void* const function = reinterpret_cast<const void*>(kernel);
  if (launch.shared_bytes > (std::size_t{48} << 10)) allow_shared_bytes(function, launch.shared_bytes, launch.device);
  const cudaError_t error = std::apply(
      [&](auto&... value) {
        void* pointers[] = {const_cast<void*>(static_cast<const void*>(&value))..., nullptr};
        return cudaLaunchKernel(function, launch.grid, launch.block, pointers, launch.shared_bytes, stream);
      },
      values);
#endif
  check_launch(launch, error);
}

// --- sums within warps and blocks, in an order that depends on sizes only -----------------------------------------------

/// The result of folding `value` over all 32 lanes, in every lane. Op: `T operator()(T a, T b)`, associative.
template <class T, class Op>
__device__ T warp_fold(T value, Op op) {
  for (int lanes = 16; lanes > 0; lanes /= 2) value = op(value, __shfl_xor_sync(kAllLanes, value, lanes));
  return value;
}

/// The same over all threads of a block (a multiple of 32, at most 1024), in every thread. `neutral` is Op's neutral element.
/// Every thread of the block must call it. T is at most 16 bytes.
template <class T, class Op>
__device__ T block_fold(T value, T neutral, Op op) {
  __shared__ T of_warp[32];
  const unsigned lane = threadIdx.x % 32;
  const unsigned warp = threadIdx.x / 32;
  value = warp_fold(value, op);
  __syncthreads();  // the array may still be read from the last call
  if (lane == 0) of_warp[warp] = value;
  __syncthreads();
  value = lane < blockDim.x / 32 ? of_warp[lane] : neutral;
  return warp_fold(value, op);
}

/// a + b
struct Plus {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};

}  // namespace solvent::cuda
