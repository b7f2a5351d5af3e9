// Cholesky factors of (a + a^T) / 2.
//
// Matrices that fit in shared memory: one block each, right-looking, so global memory is read and written once; bound by
// three barriers per column, hidden by many blocks side by side. Larger ones: diagonal blocks of 32 columns by one block
// per matrix, the rows below by one thread each, the rest by matrix products, or a few of them by cuSOLVER. A pivot that is not positive ends the matrix;
// a NaN goes on and is seen in the result. Deterministic: fixed order, cut by sizes only.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "solvent/core/cuda/blas.h"
#include "solvent/core/cuda/launch.h"
#include "solvent/ops/cuda/factor.h"
#include "solvent/ops/cuda/factor_library.h"
#include "solvent/ops/cuda/matrix_block.h"
#include "solvent/ops/matrix_errors.h"

namespace solvent::cuda {
namespace {

constexpr int kPanel = 32;
constexpr int kRows = 128;  // of a block below the diagonal

template <class T>
struct CholeskyCall {
  const T* a;  // (count, n, n)
  T* factor;   // (count, n, n)
  std::int64_t n, count;
  std::int64_t* state;  // (count): the pivot that is not positive, or -1
};

template <class T>
__device__ T mean_element(const T* a, std::int64_t n, std::int64_t i, std::int64_t j) {
  return i == j ? a[i * n + i] : (a[i * n + j] + a[j * n + i]) * T(0.5);
}

// The lower triangle in place. Returns the first pivot that is not positive, or -1, in every thread.
template <class T>
__device__ std::int64_t factor_triangle(T* a, std::int64_t ld, std::int64_t n) {
  const std::int64_t lane = threadIdx.x % 32;
  const std::int64_t warp = threadIdx.x / 32;
  const std::int64_t warps = blockDim.x / 32;
  for (std::int64_t j = 0; j < n; ++j) {
    __syncthreads();
    const T pivot = a[j * ld + j];
    if (pivot <= T(0)) return j;
    const T root = std::sqrt(pivot);
    const T inverse = T(1) / root;
    __syncthreads();  // all have read the pivot
    if (threadIdx.x == 0) a[j * ld + j] = root;
    for (std::int64_t i = j + 1 + threadIdx.x; i < n; i += blockDim.x) a[i * ld + j] *= inverse;
    __syncthreads();
    for (std::int64_t i = j + 1 + warp; i < n; i += warps) {
      const T factor = a[i * ld + j];
      for (std::int64_t c = j + 1 + lane; c <= i; c += 32) a[i * ld + c] -= factor * a[c * ld + j];
    }
  }
  __syncthreads();
  return -1;
}

template <class T>
__global__ void shared_kernel(CholeskyCall<T> call) {
  T* const a = dynamic_shared<T>();
  const std::int64_t n = call.n;
  const std::int64_t ld = odd_ld(n);
  const std::int64_t lane = threadIdx.x % 32;
  for (std::int64_t m = blockIdx.x; m < call.count; m += gridDim.x) {
    __syncthreads();
    const T* const from = call.a + m * n * n;
    // First as it is, row by row, then the means from shared memory: rows of `from` are read once and coalesced.
    for (std::int64_t i = threadIdx.x / 32; i < n; i += blockDim.x / 32)
      for (std::int64_t c = lane; c < n; c += 32) a[i * ld + c] = from[i * n + c];
    __syncthreads();
    for (std::int64_t i = threadIdx.x / 32; i < n; i += blockDim.x / 32)
      for (std::int64_t c = lane; c < i; c += 32) a[i * ld + c] = (a[i * ld + c] + a[c * ld + i]) * T(0.5);
    const std::int64_t failed = factor_triangle(a, ld, n);
    if (threadIdx.x == 0) call.state[m] = failed;
    T* const to = call.factor + m * n * n;
    __syncthreads();
    for (std::int64_t i = threadIdx.x / 32; i < n; i += blockDim.x / 32)
      for (std::int64_t c = lane; c < n; c += 32)
        to[i * n + c] = c > i ? T(0) : failed < 0 ? a[i * ld + c] : std::numeric_limits<T>::quiet_NaN();
  }
}

// --- larger matrices --------------------------------------------------------------------------------------------------------

template <class T>
__global__ void start_kernel(CholeskyCall<T> call) {
  const std::int64_t n = call.n;
  const std::int64_t total = call.count * n * n;
  for (std::int64_t e = global_thread(); e < total; e += grid_threads()) {
    const std::int64_t m = e / (n * n);
    const std::int64_t i = e / n - m * n;
    const std::int64_t j = e % n;
    call.factor[e] = j <= i ? mean_element(call.a + m * n * n, n, i, j) : T(0);
    if (i == 0 && j == 0) call.state[m] = -1;
  }
}

template <class T>
__global__ void diagonal_kernel(CholeskyCall<T> call, std::int64_t j0, std::int64_t size) {
  __shared__ T block[kPanel * (kPanel + 1)];
  const std::int64_t n = call.n;
  const std::int64_t lane = threadIdx.x % 32;
  for (std::int64_t m = blockIdx.x; m < call.count; m += gridDim.x) {
    if (call.state[m] >= 0) continue;
    T* const a = call.factor + m * n * n + j0 * n + j0;
    __syncthreads();
    for (std::int64_t i = threadIdx.x / 32; i < size; i += blockDim.x / 32)
      if (lane < size) block[i * (kPanel + 1) + lane] = a[i * n + lane];
    const std::int64_t failed = factor_triangle(block, kPanel + 1, size);
    __syncthreads();
    if (threadIdx.x == 0 && failed >= 0) call.state[m] = j0 + failed;
    for (std::int64_t i = threadIdx.x / 32; i < size; i += blockDim.x / 32)
      if (lane <= i) a[i * n + lane] = block[i * (kPanel + 1) + lane];
  }
}

// Rows from j0 + kPanel on: x L11^T = a, one row per thread, kRows rows at a time in shared memory.
template <class T>
__global__ void rows_kernel(CholeskyCall<T> call, std::int64_t j0, std::int64_t blocks_each) {
  __shared__ T lower[kPanel * kPanel];
  __shared__ T tile[kRows * (kPanel + 1)];
  const std::int64_t n = call.n;
  const std::int64_t lane = threadIdx.x % 32;
  for (std::int64_t item = blockIdx.x; item < call.count * blocks_each; item += gridDim.x) {
    const std::int64_t m = item / blocks_each;
    const std::int64_t i0 = j0 + kPanel + (item - m * blocks_each) * kRows;
    const std::int64_t rows = std::min<std::int64_t>(kRows, n - i0);
    T* const a = call.factor + m * n * n;
    __syncthreads();
    for (std::int64_t i = threadIdx.x / 32; i < kPanel; i += blockDim.x / 32)
      lower[i * kPanel + lane] = a[(j0 + i) * n + j0 + lane];
    for (std::int64_t i = threadIdx.x / 32; i < rows; i += blockDim.x / 32)
      tile[i * (kPanel + 1) + lane] = a[(i0 + i) * n + j0 + lane];
    __syncthreads();
    if (threadIdx.x < rows) {
      T* const x = tile + threadIdx.x * (kPanel + 1);
      for (int j = 0; j < kPanel; ++j) {
        T value = x[j];
        for (int p = 0; p < j; ++p) value -= x[p] * lower[j * kPanel + p];
        x[j] = value / lower[j * kPanel + j];
      }
    }
    __syncthreads();
    for (std::int64_t i = threadIdx.x / 32; i < rows; i += blockDim.x / 32)
      a[(i0 + i) * n + j0 + lane] = tile[i * (kPanel + 1) + lane];
  }
}

// Zeros above the diagonal; NaN in matrices that failed.
template <class T>
__global__ void finish_kernel(CholeskyCall<T> call, std::int64_t total) {
  const std::int64_t n = call.n;
  for (std::int64_t e = global_thread(); e < total; e += grid_threads()) {
    if (e % n > e / n % n) {
      call.factor[e] = T(0);
    } else if (call.state[e / (n * n)] >= 0) {
      call.factor[e] = std::numeric_limits<T>::quiet_NaN();
    }
  }
}

template <class T>
void factor_blocked(const CholeskyCall<T>& call, Device device) {
  const std::int64_t n = call.n;
  const std::int64_t total = call.count * n * n;
  launch(over_elements("cholesky", total, device), start_kernel<T>, call);
  for (std::int64_t j0 = 0; j0 < n; j0 += kPanel) {
    const std::int64_t j1 = std::min<std::int64_t>(j0 + kPanel, n);
    launch(over_blocks("cholesky", call.count, device), diagonal_kernel<T>, call, j0, j1 - j0);
    if (j1 == n) break;
    const std::int64_t blocks = (n - j1 + kRows - 1) / kRows;
    launch(over_blocks("cholesky", call.count * blocks, device, kRows), rows_kernel<T>, call, j0, blocks);
    Gemm<T> rest{.trans_b = true, .m = n - j1, .n = n - j1, .k = kPanel};
    rest.alpha = T(-1);
    rest.a = rest.b = call.factor + j1 * n + j0;
    rest.beta = T(1);
    rest.c = call.factor + j1 * n + j1;
    rest.lda = rest.ldb = rest.ldc = n;
    rest.batch = call.count;
    rest.stride_a = rest.stride_b = rest.stride_c = n * n;
    gemm(rest, device);
  }
  launch(over_elements("cholesky", total, device), finish_kernel<T>, call, total);
}

// The same, `state` included.
template <class T>
void factor_by_library(const CholeskyCall<T>& call, Device device) {
  const std::int64_t total = call.count * call.n * call.n;
  launch(over_elements("cholesky", total, device), start_kernel<T>, call);
  // Own kernels tell pivots that are not positive, which are errors, from those that are not numbers.
  if (library::cholesky(call.factor, call.n, call.count, device).matrix >= 0) return factor_blocked(call, device);
  launch(over_elements("cholesky", total, device), finish_kernel<T>, call, total);
}

}  // namespace

TensorVec cholesky(std::span<Tensor> inputs, const Attrs*) {
  const Tensor a = engine::contiguous(inputs[0]);
  const Device device = a.device();
  Tensor factor = engine::empty(a.shape(), a.dtype(), device);
  if (a.numel() == 0) return factor;
  const std::int64_t n = a.size(-1);
  const std::int64_t count = a.numel() / (n * n);
  Tensor state = engine::empty({count}, DType::int64, device);
  dispatch_float(a.dtype(), "cholesky", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const CholeskyCall<T> call{engine::ptr<T>(a), engine::mutable_ptr<T>(factor), n, count,
                               engine::mutable_ptr<std::int64_t>(state)};
    const std::size_t bytes = static_cast<std::size_t>(n * odd_ld(n)) * sizeof(T);
    if (bytes > shared_limit(device)) {
      if (library::takes(n, device) && count <= library::kMostInTurn) return factor_by_library(call, device);
      return factor_blocked(call, device);
    }
    Launch where = over_blocks("cholesky", count, device, threads_for(n * n / 8));
    where.shared_bytes = bytes;
    launch(where, shared_kernel<T>, call);
  });
  check_states(state, count, 1,
               [count](std::int64_t pivot, std::int64_t matrix) { detail::throw_not_positive(matrix, count, pivot); });
  return factor;
}

}  // namespace solvent::cuda
