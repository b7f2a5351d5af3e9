#pragma once
/// Tiles of long lines in registers: each of a block's threads has kTileRounds packs of neighbours, those of a warp lie side by
/// side, and so do the warps' parts. For `.cu` files only.

#include <cstdint>

#include "solvent/core/cuda/launch.h"
#include "solvent/core/cuda/strided.h"
#include "solvent/ops/cuda/unroll.h"

namespace solvent::cuda {

inline constexpr int kTileRounds = 4;
/// Elements of a tile.
template <class T>
inline constexpr int kTile = static_cast<int>(kThreads) * kTileRounds* kPackSize<T>;

/// A thread's part.
template <class T>
using TilePart = Pack<T, kPackSize<T>>[kTileRounds];

/// Element 0 of a thread's pack `round`, in the order of the line.
template <class T>
__device__ inline int in_tile(int round) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  return ((warp * kTileRounds + round) * 32 + lane) * kPackSize<T>;
}

/// Reads a part of the `count` elements from x on; what lies behind them becomes `rest`. The line runs down in memory if
/// `reversed`: turn() puts the packs into its order, which waits for the reads and so comes after the last of them. With
/// kPacked whole tiles start at multiples of 16 bytes.
template <bool kPacked, class T>
__device__ void read_tile(const T* x, int count, bool reversed, T rest, TilePart<T>& part) {
  constexpr int kPack = kPackSize<T>;
  if (kPacked && count == kTile<T>) {
    SOLVENT_UNROLL
    for (int round = 0; round < kTileRounds; ++round) {
      const int s = in_tile<T>(round);
      part[round] = *reinterpret_cast<const Pack<T, kPack>*>(x + (reversed ? kTile<T> - kPack - s : s));
    }
  } else {
    SOLVENT_UNROLL
    for (int round = 0; round < kTileRounds; ++round) {
      SOLVENT_UNROLL
      for (int m = 0; m < kPack; ++m) {
        const int s = in_tile<T>(round) + (reversed ? kPack - 1 - m : m);
        part[round].value[m] = s < count ? x[reversed ? count - 1 - s : s] : rest;
      }
    }
  }
}

/// Exchanges memory's order and the line's.
template <class T, int kPack>
__device__ void turn(bool reversed, Pack<T, kPack>& pack) {
  SOLVENT_UNROLL
  for (int j = 0; j < kPack / 2; ++j) {
    const T low = pack.value[j];
    const T high = pack.value[kPack - 1 - j];
    pack.value[j] = reversed ? high : low;
    pack.value[kPack - 1 - j] = reversed ? low : high;
  }
}

/// Writes pack `round`, which is in the line's order, as read_tile read it.
template <bool kPacked, class T>
__device__ void write_tile(T* y, int count, bool reversed, int round, Pack<T, kPackSize<T>> pack) {
  constexpr int kPack = kPackSize<T>;
  const int s = in_tile<T>(round);
  turn(reversed, pack);
  if (kPacked && count == kTile<T>) {
    store_pack(reinterpret_cast<Pack<T, kPack>*>(y + (reversed ? kTile<T> - kPack - s : s)), pack);
  } else {
    SOLVENT_UNROLL
    for (int m = 0; m < kPack; ++m) {
      const int i = s + (reversed ? kPack - 1 - m : m);
      if (i < count) y[reversed ? count - 1 - i : i] = pack.value[m];
    }
  }
}

}  // namespace solvent::cuda
