#pragma once
/// What kernels with one block per matrix share. For `.cu` files of ops/ only.

#include <algorithm>
#include <cstdint>

#include "solvent/core/cuda/checks.h"
#include "solvent/core/cuda/launch.h"
#include "solvent/core/cuda/runtime.h"
#include "solvent/core/engine/view.h"

/// Before a loop whose array should live in registers.
#if SOLVENT_CUDA_EMULATED
#define SOLVENT_UNROLL
#else
#define SOLVENT_UNROLL _Pragma("unroll")
#endif

namespace solvent::cuda {

/// Largest dynamic shared memory of a block, less a reserve for static arrays.
inline std::size_t shared_limit(Device device) {
  int bytes = 0;
  check(static_cast<int>(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device.index)),
        "ask for the size of shared memory");
  return static_cast<std::size_t>(std::max(bytes - 4096, 16384));
}

/// Threads for about `work` independent elements at a time: whole warps, at most 256.
inline unsigned threads_for(std::int64_t work) {
  return static_cast<unsigned>(std::clamp<std::int64_t>((work + 31) / 32 * 32, 32, kThreads));
}

/// Leading dimension of a matrix of n columns in shared memory: odd, so that rows and columns are free of bank conflicts.
__host__ __device__ constexpr std::int64_t odd_ld(std::int64_t n) { return n | 1; }

/// The larger value; among equals that with the smaller index.
template <class T>
struct Candidate {
  T value;
  std::int64_t index;
};
template <class T>
struct Larger {
  __device__ Candidate<T> operator()(const Candidate<T>& a, const Candidate<T>& b) const {
    if (a.value != b.value) return a.value > b.value ? a : b;
    return a.index < b.index ? a : b;
  }
};
/// Exchanges both members: what warp_fold finds for candidates, since CUDA exchanges numbers only.
template <class T>
__device__ Candidate<T> __shfl_xor_sync(unsigned mask, const Candidate<T>& candidate, int lanes) {
  return {::__shfl_xor_sync(mask, candidate.value, lanes), ::__shfl_xor_sync(mask, candidate.index, lanes)};
}
struct Smallest {
  __device__ std::int64_t operator()(std::int64_t a, std::int64_t b) const { return a < b ? a : b; }
};
struct Largest {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};

/// `raise(state, matrix)` for the first matrix whose state is not -1; `state` holds `count` entries, `stride` elements apart.
/// The host waits. While a graph is recorded its replays check instead (core/cuda/checks.h), and what follows must stand
/// matrices that failed.
void check_states(const Tensor& state, std::int64_t count, std::int64_t stride, Raise raise);
/// True if a state is not -1. The host waits, so this is no part of a graph. @throws DeviceError while one is recorded
bool has_state(const Tensor& state, std::int64_t count);

/// Solves triangular systems in place: x (count, n, k) dense; triangles with leading dimension n, `count` of them n n
/// elements apart. Diagonals are not checked.
template <class T>
void substitute(const T* a, std::int64_t n, std::int64_t count, bool upper, bool unit, T* x, std::int64_t k,
                Device device);

/// LU of `count` dense matrices (n, n) with rows exchanged, in place of `a`: for solve_lu; others may read the diagonal.
struct LuState {
  Tensor rows;    // (count, n): the row of the input that each row holds
  Tensor state;   // (count, 2): the column of a pivot that is 0, or -1; 1 if the exchanges are odd in number, or 0
  Tensor pivots;  // (count, n) in place of `rows` where the factors are the library's: then they are column-major
};
template <class T>
LuState factor_lu(Tensor& a, std::int64_t n, std::int64_t count);

/// x (count, n, k) <- a^-1 b from what factor_lu left; b is dense and another tensor.
template <class T>
void solve_lu(const Tensor& lu, const LuState& state, std::int64_t n, std::int64_t count, const Tensor& b, Tensor& x,
              std::int64_t k);

}  // namespace solvent::cuda
