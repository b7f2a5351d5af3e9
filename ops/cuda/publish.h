#pragma once
/// Values that blocks of one launch pass on to later ones. For `.cu` files only.
///
/// A block takes its number from a counter in memory (take_number), and waits for blocks with smaller numbers only: these
/// have started, so they come to an end whatever the order in which the device starts blocks.
///
/// Memory model (PTX 8): a thread writes the value, then its flag with release at scope gpu; who reads the flag with acquire at
/// this scope and finds it set reads the value after that, with ordinary loads: the write happens before them. Values are
/// written once per launch. (Volatile accesses would need a fence on both sides.)

#include <cstdint>
#include <cstdlib>

#include "solvent/core/cuda/launch.h"
#include "solvent/core/cuda/runtime.h"
#include "solvent/core/engine/view.h"
#include "solvent/ops/cuda/block_scan.h"

namespace solvent::cuda {

// In the emulator these accesses are ordered by the flags, which its checks of races do not know.
#if SOLVENT_CUDA_EMULATED
#define SOLVENT_PASSES_ON __attribute__((noinline, no_sanitize("thread")))
#else
#define SOLVENT_PASSES_ON __device__ inline
#endif

/// Writes `value` and sets its flag, which was 0 before the launch.
template <class T>
SOLVENT_PASSES_ON void publish(T* to, const T& value, unsigned* flag) {
  *to = value;
#if SOLVENT_CUDA_EMULATED
  *flag = 1;
#else
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(flag), "r"(1u) : "memory");
#endif
}

/// The value, as soon as its flag is set.
template <class T>
SOLVENT_PASSES_ON T receive(const T* from, const unsigned* flag) {
#if SOLVENT_CUDA_EMULATED
  if (*flag == 0) std::abort();  // blocks run one after the other: nobody would set it
#else
  for (;;) {
    unsigned is_set;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(is_set) : "l"(flag) : "memory");
    if (is_set != 0) break;
    __nanosleep(32);
  }
#endif
  return *from;
}

#undef SOLVENT_PASSES_ON

/// The number of this block, counted in the order in which blocks start; `counter` is 0 before the launch. Every thread of the
/// block must call it, once.
__device__ inline std::int64_t take_number(unsigned* counter) {
  __shared__ unsigned number;
  if (threadIdx.x == 0) number = atomicAdd(counter, 1u);
  __syncthreads();
  return number;
}

// --- states at the borders of tiles ---------------------------------------------------------------------------------------

/// Tiles of a group: a thread of a block waits for each.
inline constexpr int kGroupTiles = static_cast<int>(kThreads);

/// What the tiles of `lines` lines pass on: maps of tiles (M), and states (S) at the ends of groups of kGroupTiles:
///
///     group 0 (256 tiles)           | group 1                        | ...
///     m0  m1 ... m255 -> state S0   | m256 m257 ...  -> S1           |
///
/// A tile's first state is S of the group before, changed by the composition of the maps of its own group up to it. Nothing
/// depends on which tiles happen to be complete, so the bits are the same at every run. The states S depend on each other one
/// after the other; passing one on takes about 1.5 us, less than an H200's memory needs for the tiles of a group.
template <class M, class S>
struct Borders {
  std::int64_t lines = 1, tiles = 1, groups = 1;  // tiles and groups: of a line
  unsigned* counter = nullptr;
  unsigned* tile_done = nullptr;   // (lines, tiles)
  unsigned* group_done = nullptr;  // (lines, groups)
  M* maps = nullptr;               // as tile_done
  S* states = nullptr;             // as group_done
};

/// Memory of `borders`, whose numbers of lines and tiles are set; flags and counter are 0. A launch needs it as long as it runs.
template <class M, class S>
Tensor borders_memory(Borders<M, S>& borders, Device device) {
  borders.groups = (borders.tiles + kGroupTiles - 1) / kGroupTiles;
  const std::int64_t tiles = borders.lines * borders.tiles;
  const std::int64_t groups = borders.lines * borders.groups;
  const auto values = static_cast<std::int64_t>(sizeof(M)) * tiles + static_cast<std::int64_t>(sizeof(S)) * groups;
  const std::int64_t aligned = (values + 15) / 16 * 16;
  const std::int64_t flags = (tiles + groups + 1) * static_cast<std::int64_t>(sizeof(unsigned));
  Tensor memory = engine::empty(Shape{aligned + flags}, DType::uint8, device);
  std::uint8_t* const bytes = engine::mutable_ptr<std::uint8_t>(memory);
  borders.maps = reinterpret_cast<M*>(bytes);
  borders.states = reinterpret_cast<S*>(borders.maps + tiles);
  borders.tile_done = reinterpret_cast<unsigned*>(bytes + aligned);
  borders.group_done = borders.tile_done + tiles;
  borders.counter = borders.group_done + groups;
  set_bytes(borders.tile_done, 0, static_cast<std::size_t>(flags), device);
  return memory;
}

/// Passes on the map `own` of a tile and returns the state before it, in every thread; `start` is the line's first state. All
/// threads of the block call it, blocks in the order of the tiles of a line (take_number).
///   Compose: `M operator()(const M& a, const M& b)`, first a; `none` changes nothing. Apply: `S operator()(const M&, const S&)`.
template <class M, class S, class Compose, class Apply>
__device__ S pass_border(const Borders<M, S>& borders, std::int64_t line, std::int64_t tile, S start, const M& own,
                         const M& none, Compose compose, Apply apply) {
  const std::int64_t group = tile / kGroupTiles;
  const int rank = static_cast<int>(tile - group * kGroupTiles);
  const std::int64_t first = line * borders.tiles + group * kGroupTiles;
  if (threadIdx.x == 0) publish(borders.maps + first + rank, own, borders.tile_done + first + rank);
  M before = none;
  if (static_cast<int>(threadIdx.x) < rank) {
    const std::int64_t other = first + threadIdx.x;
    before = receive(borders.maps + other, borders.tile_done + other);
  }
  M left, all;
  block_scan(before, none, compose, left, all);
  if (group > 0) {
    const std::int64_t last = line * borders.groups + group - 1;
    start = receive(borders.states + last, borders.group_done + last);
  }
  start = apply(all, start);
  if (rank == kGroupTiles - 1 && threadIdx.x == 0) {
    const std::int64_t here = line * borders.groups + group;
    publish(borders.states + here, apply(own, start), borders.group_done + here);
  }
  return start;
}

}  // namespace solvent::cuda
