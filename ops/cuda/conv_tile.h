#pragma once
/// Products of tiles in shared memory: what the convolution kernels share. For `.cu` files of ops/cuda only.
///
/// A block of 256 threads makes a square tile of kSize x kSize results C = A B. Each step brings kDepth columns of A and rows
/// of B into one of two panels in shared memory while the other is multiplied; a thread keeps (4 kQuads)^2 results in
/// registers, in quads of 4 rows and columns that lie 64 apart. Every result adds its products one after the other in the
/// order of depth, whatever the tile.

#include <cstdint>

#include "solvent/core/cuda/launch.h"
#include "solvent/core/cuda/strided.h"

#if SOLVENT_CUDA_EMULATED
#define SOLVENT_UNROLL
#else
#define SOLVENT_UNROLL _Pragma("unroll")
#endif

namespace solvent::cuda {

inline constexpr int kTileThreads = 256;
/// Extents of maps are ints in the kernels, and sums of two of them must be: larger ones go to kernels without tiles.
inline constexpr std::int64_t kMaxTileExtent = std::int64_t{1} << 29;
/// A row or column that no filter reaches, even after adding an extent.
inline constexpr int kOutside = -(1 << 30);

/// Two panels of A and of B, by depth; rows of 16-byte packs.
template <class T, int kQuads>
struct alignas(16) Panels {
  static constexpr int kSize = 64 * kQuads;
  static constexpr int kDepth = 16 / kQuads;
  static constexpr int kLoads = kSize * kDepth / kTileThreads;  ///< elements of each operand per thread and step
  static constexpr int kPerThread = 4 * kQuads;                 ///< rows and columns of results
  static constexpr int kPitch = kSize + 4;
  T a[2][kDepth][kPitch];
  T b[2][kDepth][kPitch];
};

/// to = 4 values at `from`, a multiple of 16 bytes.
template <class T>
__device__ inline void load_quad(const T* from, T* to) {
  constexpr int kPack = kPackSize<T> < 4 ? kPackSize<T> : 4;
  SOLVENT_UNROLL
  for (int p = 0; p < 4; p += kPack) {
    const Pack<T, kPack> pack = *reinterpret_cast<const Pack<T, kPack>*>(from + p);
    SOLVENT_UNROLL
    for (int i = 0; i < kPack; ++i) to[p + i] = pack.value[i];
  }
}
template <class T>
__device__ inline void store_quad(const T* from, T* to) {
  constexpr int kPack = kPackSize<T> < 4 ? kPackSize<T> : 4;
  SOLVENT_UNROLL
  for (int p = 0; p < 4; p += kPack) {
    Pack<T, kPack> pack;
    SOLVENT_UNROLL
    for (int i = 0; i < kPack; ++i) pack.value[i] = from[p + i];
    *reinterpret_cast<Pack<T, kPack>*>(to + p) = pack;
  }
}

/// Row or column of the tile of this thread's i-th result.
/// @{
__device__ inline int tile_row(int i) { return i / 4 * 64 + static_cast<int>(threadIdx.x / 16) * 4 + i % 4; }
__device__ inline int tile_column(int j) { return j / 4 * 64 + static_cast<int>(threadIdx.x % 16) * 4 + j % 4; }
/// @}

/// The element that this thread loads as its r-th of each step, if lanes follow the depth or the row (column) of the tile.
/// @{
template <class P>
__device__ int by_depth_k() {
  return static_cast<int>(threadIdx.x) % P::kDepth;
}
template <class P>
__device__ int by_depth_row(int r) {
  return static_cast<int>(threadIdx.x) / P::kDepth + r * (kTileThreads / P::kDepth);
}
template <class P>
__device__ int by_row_k(int r) {
  return static_cast<int>(threadIdx.x) / P::kSize + r * (kTileThreads / P::kSize);
}
template <class P>
__device__ int by_row_row() {
  return static_cast<int>(threadIdx.x) % P::kSize;
}
/// @}

template <class T, int kQuads>
__device__ void multiply(const Panels<T, kQuads>& panels, int slot,
                         T (&sum)[Panels<T, kQuads>::kPerThread][Panels<T, kQuads>::kPerThread]) {
  constexpr int kN = Panels<T, kQuads>::kPerThread;
  SOLVENT_UNROLL
  for (int k = 0; k < Panels<T, kQuads>::kDepth; ++k) {
    T a[kN];
    T b[kN];
    SOLVENT_UNROLL
    for (int q = 0; q < kN; q += 4) {
      load_quad(&panels.a[slot][k][tile_row(q)], a + q);
      load_quad(&panels.b[slot][k][tile_column(q)], b + q);
    }
    SOLVENT_UNROLL
    for (int i = 0; i < kN; ++i) {
      SOLVENT_UNROLL
      for (int j = 0; j < kN; ++j) sum[i][j] += a[i] * b[j];
    }
  }
}

/// sum += A B over `depth`. All threads of the block must call it; afterwards the shared memory may be used again.
/// Operands:
///     void prepare(std::int64_t step, int slot)                 some threads write a table of the step to shared memory
///     void load(int slot, T* a, T* b)                           this thread's elements; 0 outside of the operands
///     void place(P& panels, int slot, const T* a, const T* b)   to the panels
template <class T, int kQuads, class Operands>
__device__ void accumulate(Panels<T, kQuads>& panels, Operands& operands, std::int64_t depth,
                           T (&sum)[Panels<T, kQuads>::kPerThread][Panels<T, kQuads>::kPerThread]) {
  using P = Panels<T, kQuads>;
  const std::int64_t steps = (depth + P::kDepth - 1) / P::kDepth;
  if (steps == 0) return;
  T a[P::kLoads];
  T b[P::kLoads];
  operands.prepare(0, 0);
  operands.prepare(1, 1);  // harmless if there is no such step: nothing reads it
  __syncthreads();
  operands.load(0, a, b);
  operands.place(panels, 0, a, b);
  __syncthreads();
  for (std::int64_t step = 0; step < steps; ++step) {
    const int slot = static_cast<int>(step & 1);
    const bool more = step + 1 < steps;
    if (more) operands.load(1 - slot, a, b);
    multiply<T, kQuads>(panels, slot, sum);
    if (more) operands.place(panels, 1 - slot, a, b);
    if (step + 2 < steps) operands.prepare(step + 2, slot);  // its table was last read before the last barrier
    __syncthreads();
  }
}

}  // namespace solvent::cuda
