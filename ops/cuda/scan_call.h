#pragma once
/// What the kernels of affine_scan take. For `.cu` files of ops/cuda only.

#include <cstdint>

#include "solvent/core/cuda/launch.h"
#include "solvent/ops/cpu/scan_kernels.h"

namespace solvent::cuda {

/// h_s = M_s h_{s-1} + b_s for `chains` sequences of states of K values; s counts in the direction of the scan.
template <class T>
struct ScanCall {
  const T* a = nullptr;   ///< (steps, chains, K, K)
  const T* b = nullptr;   ///< (lead, steps, chains, K)
  const T* h0 = nullptr;  ///< (lead, chains, K); null: zeros
  T* h = nullptr;         ///< as b
  std::int64_t steps = 0, chains = 0, lead = 0;
  bool reversed = false, transposed = false, shift_a = false;
  std::int64_t length = 0, chunks = 0;  ///< of a chunk, in steps
  T* products = nullptr;                ///< (chunks - 1, chains, K, K) and
  T* offsets = nullptr;                 ///< (lead, chunks - 1, chains, K): maps of chunks
  const T* starts = nullptr;            ///< as offsets: states at the ends of chunks; null for one chunk

  __device__ std::int64_t time(std::int64_t s) const { return reversed ? steps - 1 - s : s; }
};

template <class T>
ScanCall<T> scan_call(const cpu::ScanShape& shape, const T* a, const T* b, const T* h0, T* h) {
  return {.a = a,
          .b = b,
          .h0 = h0,
          .h = h,
          .steps = shape.T,
          .chains = shape.B,
          .lead = shape.lead,
          .reversed = shape.reversed,
          .transposed = shape.transposed,
          .shift_a = shape.shift_a};
}

/// The scan of the chunks' maps, which puts the states at the ends of chunks in place of the offsets.
template <class T>
ScanCall<T> scan_of_chunks(const ScanCall<T>& call) {
  return {.a = call.products,
          .b = call.offsets,
          .h0 = call.h0,
          .h = call.offsets,
          .steps = call.chunks - 1,
          .chains = call.chains,
          .lead = call.lead};
}

}  // namespace solvent::cuda
