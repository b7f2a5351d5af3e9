// QR by Householder reflectors, on the transposed matrices: column c of `a` is a dense row of the working copy, so dot
// products and updates of columns run along memory.
//
// Working copies that fit in shared memory: one block per matrix does everything there, a warp per column; global memory is
// read and written once. Larger ones: two launches per reflector, one block per matrix that makes it and one warp per
// column that it is applied to, anywhere on the GPU; bound by memory, 2 m n^2 elements in all. Reflectors are those of the
// CPU (scaled by the largest element, so nothing overflows), and the diagonal of r is made non-negative. A few large matrices
// go to cuSOLVER (factor_library.h), and get the same signs.
// Deterministic: sums over fixed parts of columns.

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "solvent/core/cuda/launch.h"
#include "solvent/ops/cuda/factor.h"
#include "solvent/ops/cuda/factor_library.h"
#include "solvent/ops/cuda/matrix_block.h"

namespace solvent::cuda {
namespace {

template <class T>
struct QrCall {
  T* w;     // (count, n, m)
  T* q;     // (count, m, n)
  T* r;     // (count, n, n)
  T* tau;   // (count, n)
  T* sign;  // (count, n)
  std::int64_t m, n, count;
};

// x (count) -> beta and the vector behind its leading 1; the same factor in every thread, 0 if there is nothing to do.
template <class T>
__device__ T make_reflector(T* x, std::int64_t count) {
  T largest = T(0);
  for (std::int64_t i = 1 + threadIdx.x; i < count; i += blockDim.x) {
    const T size = std::fabs(x[i]);
    if (size > largest) largest = size;  // a NaN is met in the sum
  }
  largest = block_fold(largest, T(0), Largest{});
  if (largest == T(0)) return T(0);
  const T head = x[0];
  if (std::fabs(head) > largest) largest = std::fabs(head);
  T sum = T(0);
  for (std::int64_t i = threadIdx.x; i < count; i += blockDim.x) {
    const T scaled = x[i] / largest;
    sum += scaled * scaled;
  }
  sum = block_fold(sum, T(0), Plus{});  // a barrier: all have read the head
  const T beta = -std::copysign(largest * std::sqrt(sum), head);
  const T scale = head - beta;
  for (std::int64_t i = threadIdx.x; i < count; i += blockDim.x) x[i] = i == 0 ? beta : x[i] / scale;
  return -scale / beta;
}

// column -= tau v (v^T column) for v with a leading 1, by one warp.
template <class T>
__device__ void reflect(const T* v, T tau, T* column, std::int64_t count) {
  const std::int64_t lane = threadIdx.x % 32;
  T sum = lane == 0 ? column[0] : T(0);
  for (std::int64_t i = lane == 0 ? 32 : lane; i < count; i += 32) sum += v[i] * column[i];
  sum = tau * warp_fold(sum, Plus{});
  for (std::int64_t i = lane; i < count; i += 32) column[i] -= i == 0 ? sum : sum * v[i];
}

// Row j of the working copy, a reflector, becomes column j of the product of reflectors j, j + 1, ..., with its sign.
template <class T>
__device__ T product_element(const T* row, T tau, T sign, std::int64_t i, std::int64_t j) {
  if (i < j) return T(0);
  return i == j ? sign * (T(1) - tau) : -sign * tau * row[i];
}

template <class T>
__device__ T sign_of_diagonal(T value) {
  return value < T(0) ? T(-1) : T(1);
}

// --- in shared memory -------------------------------------------------------------------------------------------------------

template <class T>
__device__ void load_or_store(T* global, T* shared, std::int64_t m, std::int64_t n, bool load) {
  for (std::int64_t c = threadIdx.x / 32; c < n; c += blockDim.x / 32)
    for (std::int64_t i = threadIdx.x % 32; i < m; i += 32) {
      if (load) {
        shared[c * odd_ld(m) + i] = global[c * m + i];
      } else {
        global[c * m + i] = shared[c * odd_ld(m) + i];
      }
    }
}

template <class T>
__global__ void shared_kernel(QrCall<T> call) {
  const std::int64_t m = call.m;
  const std::int64_t n = call.n;
  const std::int64_t ld = odd_ld(m);
  const std::int64_t warp = threadIdx.x / 32;
  const std::int64_t warps = blockDim.x / 32;
  T* const w = dynamic_shared<T>();
  T* const tau = w + n * ld;
  T* const sign = tau + n;
  for (std::int64_t matrix = blockIdx.x; matrix < call.count; matrix += gridDim.x) {
    __syncthreads();
    load_or_store(call.w + matrix * m * n, w, m, n, true);
    __syncthreads();
    for (std::int64_t j = 0; j < n; ++j) {
      const T factor = make_reflector(w + j * ld + j, m - j);
      if (threadIdx.x == 0) tau[j] = factor;
      __syncthreads();
      if (factor != T(0))  // the same in all threads
        for (std::int64_t c = j + 1 + warp; c < n; c += warps) reflect(w + j * ld + j, factor, w + c * ld + j, m - j);
      __syncthreads();
    }
    for (std::int64_t j = threadIdx.x; j < n; j += blockDim.x) sign[j] = sign_of_diagonal(w[j * ld + j]);
    __syncthreads();
    T* const r = call.r + matrix * n * n;
    for (std::int64_t j = warp; j < n; j += warps)
      for (std::int64_t c = threadIdx.x % 32; c < n; c += 32) r[j * n + c] = c < j ? T(0) : sign[j] * w[c * ld + j];
    __syncthreads();
    for (std::int64_t j = n - 1; j >= 0; --j) {
      for (std::int64_t c = j + 1 + warp; c < n; c += warps) reflect(w + j * ld + j, tau[j], w + c * ld + j, m - j);
      __syncthreads();
      for (std::int64_t i = threadIdx.x; i < m; i += blockDim.x)
        w[j * ld + i] = product_element(w + j * ld, tau[j], sign[j], i, j);
      __syncthreads();
    }
    T* const q = call.q + matrix * m * n;
    for (std::int64_t i = warp; i < m; i += warps)
      for (std::int64_t c = threadIdx.x % 32; c < n; c += 32) q[i * n + c] = w[c * ld + i];
  }
}

// --- in global memory -------------------------------------------------------------------------------------------------------

template <class T>
__global__ void reflector_kernel(QrCall<T> call, std::int64_t j) {
  for (std::int64_t matrix = blockIdx.x; matrix < call.count; matrix += gridDim.x) {
    __syncthreads();
    const T factor = make_reflector(call.w + (matrix * call.n + j) * call.m + j, call.m - j);
    if (threadIdx.x == 0) call.tau[matrix * call.n + j] = factor;
  }
}

// Reflector j on the columns behind it, a warp each.
template <class T>
__global__ void apply_kernel(QrCall<T> call, std::int64_t j) {
  const std::int64_t each = call.n - j - 1;
  const std::int64_t warps = blockDim.x / 32;
  for (std::int64_t item = blockIdx.x * warps + threadIdx.x / 32; item < call.count * each; item += gridDim.x * warps) {
    const std::int64_t matrix = item / each;
    const std::int64_t c = j + 1 + item - matrix * each;
    T* const w = call.w + matrix * call.n * call.m;
    const T tau = call.tau[matrix * call.n + j];
    if (tau != T(0)) reflect(w + j * call.m + j, tau, w + c * call.m + j, call.m - j);
  }
}

// r from the working copy, and the signs.
template <class T>
__global__ void triangle_kernel(QrCall<T> call, std::int64_t total) {
  const std::int64_t n = call.n;
  for (std::int64_t e = global_thread(); e < total; e += grid_threads()) {
    const std::int64_t row = e / n;  // of all matrices
    const std::int64_t j = row % n;
    const std::int64_t c = e - row * n;
    const T* const w = call.w + row / n * n * call.m;
    const T sign = sign_of_diagonal(w[j * call.m + j]);
    if (c == 0) call.sign[row] = sign;
    call.r[e] = c < j ? T(0) : sign * w[c * call.m + j];
  }
}

template <class T>
__global__ void finish_column_kernel(QrCall<T> call, std::int64_t j) {
  const std::int64_t total = call.count * call.m;
  for (std::int64_t e = global_thread(); e < total; e += grid_threads()) {
    const std::int64_t matrix = e / call.m;
    const std::int64_t i = e - matrix * call.m;
    T* const row = call.w + (matrix * call.n + j) * call.m;
    row[i] = product_element(row, call.tau[matrix * call.n + j], call.sign[matrix * call.n + j], i, j);
  }
}

template <class T>
void factor_large(const QrCall<T>& call, Device device) {
  const std::int64_t n = call.n;
  const auto apply = [&](std::int64_t j) {
    if (j + 1 == n) return;
    launch(over_blocks("qr", (call.count * (n - j - 1) + 7) / 8, device), apply_kernel<T>, call, j);
  };
  for (std::int64_t j = 0; j < n; ++j) {
    launch(over_blocks("qr", call.count, device), reflector_kernel<T>, call, j);
    apply(j);
  }
  const std::int64_t total = call.count * n * n;
  launch(over_elements("qr", total, device), triangle_kernel<T>, call, total);
  for (std::int64_t j = n - 1; j >= 0; --j) {
    apply(j);
    launch(over_elements("qr", call.count * call.m, device), finish_column_kernel<T>, call, j);
  }
}

// What cuSOLVER leaves in w (count, n, m), with signs that make the diagonal of r >= 0.
template <class T>
__global__ void upper_kernel(QrCall<T> call, std::int64_t total) {
  for (std::int64_t e = global_thread(); e < total; e += grid_threads()) {
    const std::int64_t matrix = e / (call.n * call.n);
    const std::int64_t i = e / call.n - matrix * call.n;
    const std::int64_t j = e % call.n;
    const T* const w = call.w + matrix * call.n * call.m;
    const T sign = w[i * call.m + i] < T(0) ? T(-1) : T(1);
    call.r[e] = i <= j ? sign * w[j * call.m + i] : T(0);
    if (i == j) call.sign[matrix * call.n + i] = sign;
  }
}
template <class T>
__global__ void turn_columns_kernel(QrCall<T> call, std::int64_t total) {
  for (std::int64_t e = global_thread(); e < total; e += grid_threads()) call.w[e] *= call.sign[e / call.m];
}

template <class T>
void factor_by_library(const QrCall<T>& call, Device device) {
  const std::int64_t in_r = call.count * call.n * call.n;
  const std::int64_t in_q = call.count * call.n * call.m;
  library::reflections(call.w, call.m, call.n, call.count, call.tau, device);
  launch(over_elements("qr", in_r, device), upper_kernel<T>, call, in_r);
  library::orthogonal(call.w, call.m, call.n, call.count, call.tau, device);
  launch(over_elements("qr", in_q, device), turn_columns_kernel<T>, call, in_q);
}

Tensor transposed(const Tensor& a) {
  const int rank = a.rank();
  Shape shape = a.shape();
  Strides strides = a.strides();
  std::swap(shape[rank - 1], shape[rank - 2]);
  std::swap(strides[rank - 1], strides[rank - 2]);
  return engine::view(a, shape, strides, a.impl()->offset);
}

}  // namespace

TensorVec qr(std::span<Tensor> inputs, const Attrs*) {
  const Tensor& a = inputs[0];
  const Device device = a.device();
  const std::int64_t m = a.size(-2);
  const std::int64_t n = a.size(-1);
  Shape square = a.shape();
  square[a.rank() - 2] = n;
  Tensor q = engine::empty(a.shape(), a.dtype(), device);
  Tensor r = engine::empty(square, a.dtype(), device);
  if (a.numel() == 0) return {std::move(q), std::move(r)};
  const Tensor source = transposed(a);
  Tensor work = engine::empty(source.shape(), a.dtype(), device);
  engine::copy_into(source, work);
  const std::int64_t count = a.numel() / (m * n);
  dispatch_float(a.dtype(), "qr", [&](auto tag) {
    using T = typename decltype(tag)::type;
    QrCall<T> call{};
    call.w = engine::mutable_ptr<T>(work);
    call.q = engine::mutable_ptr<T>(q);
    call.r = engine::mutable_ptr<T>(r);
    call.m = m;
    call.n = n;
    call.count = count;
    const std::size_t bytes = static_cast<std::size_t>(n * odd_ld(m) + 2 * n) * sizeof(T);
    if (bytes <= shared_limit(device)) {
      Launch where = over_blocks("qr", count, device, threads_for(std::max(m, n * 16)));
      where.shared_bytes = bytes;
      return launch(where, shared_kernel<T>, call);
    }
    Tensor factors = engine::empty({2, count, n}, a.dtype(), device);
    call.tau = engine::mutable_ptr<T>(factors);
    call.sign = call.tau + count * n;
    if (library::takes(n, device) && library::takes(m, device) && count <= library::kMostInTurn) {
      factor_by_library(call, device);
    } else {
      factor_large(call, device);
    }
    engine::copy_into(transposed(work), q);
  });
  return {std::move(q), std::move(r)};
}

}  // namespace solvent::cuda
