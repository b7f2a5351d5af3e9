// Diagonal affine scans: h_s = a_s h_{s-1} + b_s, chain by chain. Bound by memory: a and b are read once and h is written once.
//
// Many chains (walk_scan): a block has 32 of them and goes through time in tiles of 64 steps. All its threads read a tile, in
// whichever direction the operand's numbers lie side by side, and read the next one ahead; in shared memory a lane of the first
// warp walks down each chain; all threads write. The recurrence takes about 600 cycles per tile. With three blocks per
// multiprocessor of an H200 (12288 chains), whose share of the memory's rate is a tile per block in 3800 cycles, 48 KiB are in
// flight on each.
//
// One chain (chain_scan): a block has a tile of 16 (double: 8) steps for each of its 256 threads, all of it in registers. Maps
// h -> p h + q are composed: by a thread over its steps, by a warp with shuffles, by a block, and by each block over the tiles
// before its own (publish.h).

#include "solvent/ops/cuda/scan_diagonal.h"

#include <algorithm>
#include <cmath>

#include "solvent/core/cuda/runtime.h"
#include "solvent/core/cuda/strided.h"
#include "solvent/core/engine/view.h"
#include "solvent/ops/cuda/block_scan.h"
#include "solvent/ops/cuda/line_tile.h"
#include "solvent/ops/cuda/publish.h"
#include "solvent/ops/cuda/unroll.h"

namespace solvent::cuda {
namespace {

template <class T>
__device__ std::int64_t time_of(const DiagonalCall<T>& call, std::int64_t s) {
  return call.reversed ? call.steps - 1 - s : s;
}

template <class T>
__device__ T first_state(const DiagonalCall<T>& call, std::int64_t r, std::int64_t chain) {
  return call.h0 != nullptr ? call.h0[r * call.chains + chain] : T(0);
}

// --- many chains ----------------------------------------------------------------------------------------------------------

constexpr int kChains = 32;  // of a block
constexpr int kSteps = 64;   // of a tile
constexpr int kRow = kSteps + 1;
constexpr int kAtOnce = 8;  // steps that a lane reads from shared memory before it takes them
constexpr int kEach = kChains * kSteps / static_cast<int>(kThreads);  // elements of a thread

// The elements of a tile that a thread moves between shared memory and an operand: lanes lie along the axis whose numbers are
// neighbours.
struct Walker {
  bool along_time;
  int chain, step;        // of element 0
  std::int64_t start;     // of element 0 at tile 0, and
  std::int64_t per_unit;  // from one element to the next (along time: from one pair to the next)
  std::int64_t per_half;  // along time: within a pair
  std::int64_t per_tile;

  template <class T>
  __device__ Walker(const DiagonalCall<T>& call, const DiagonalStrides& stride, std::int64_t first_chain) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int piece = static_cast<int>(threadIdx.x) / 32 * kEach;
    const std::int64_t per_step = call.reversed ? -stride.time : stride.time;
    along_time = stride.time == 1;
    chain = along_time ? piece / 2 : lane;
    step = along_time ? lane : piece;
    start = (first_chain + chain) * stride.chain + time_of(call, step) * stride.time;
    per_unit = along_time ? stride.chain : per_step;
    per_half = 32 * per_step;
    per_tile = kSteps * per_step;
  }
  __device__ int chain_of(int u) const { return along_time ? chain + u / 2 : chain; }
  __device__ int step_of(int u) const { return along_time ? step + u % 2 * 32 : step + u; }
  __device__ int row_of(int u) const { return chain_of(u) * kRow + step_of(u); }  // in shared memory
  __device__ std::int64_t offset(int u) const {
    return along_time ? u / 2 * per_unit + u % 2 * per_half : u * per_unit;
  }
  __device__ bool has(int u, int chains, int steps) const { return chain_of(u) < chains && step_of(u) < steps; }
};

// Of a tile: steps up to kSteps from `first`, chains up to kChains.
__device__ inline int at_most(std::int64_t left, int most) { return left < most ? static_cast<int>(left) : most; }

template <class T>
__device__ void load_tile(const T* from, const Walker& walker, int chains, int steps, T (&value)[kEach]) {
  SOLVENT_UNROLL
  for (int u = 0; u < kEach; ++u) value[u] = walker.has(u, chains, steps) ? from[walker.offset(u)] : T(0);
}

template <class T>
__global__ void __launch_bounds__(kThreads, 3) walk_kernel(DiagonalCall<T> call) {
  __shared__ T shared_a[kChains * kRow];
  __shared__ T shared_b[kChains * kRow];
  const std::int64_t groups = (call.chains + kChains - 1) / kChains;
  for (std::int64_t item = blockIdx.x; item < call.lead * groups; item += gridDim.x) {
    const std::int64_t r = item / groups;
    const std::int64_t first_chain = (item - r * groups) * kChains;
    const int chains = at_most(call.chains - first_chain, kChains);
    const Walker of_a(call, call.of_a, first_chain), of_b(call, call.of_b, first_chain),
        of_h(call, call.of_h, first_chain);
    const T* a = call.a + of_a.start + (call.shift_a ? call.of_a.time : 0);
    const T* b = call.b + r * call.of_b.lead + of_b.start;
    T* to = call.h + r * call.of_h.lead + of_h.start;
    T ahead_a[kEach], ahead_b[kEach];
    // A shifted scan has no factor before its first step: its first state is 0, but what lies behind a is not ours to read.
    const int none = call.shift_a ? 1 : 0;
    SOLVENT_UNROLL
    for (int u = 0; u < kEach; ++u)
      ahead_a[u] =
          of_a.step_of(u) >= none && of_a.has(u, chains, at_most(call.steps, kSteps)) ? a[of_a.offset(u)] : T(0);
    load_tile(b, of_b, chains, at_most(call.steps, kSteps), ahead_b);
    T h = static_cast<int>(threadIdx.x) < chains ? first_state(call, r, first_chain + threadIdx.x) : T(0);
    SOLVENT_ROLLED
    for (std::int64_t left = call.steps; left > 0; left -= kSteps) {
      SOLVENT_UNROLL
      for (int u = 0; u < kEach; ++u) shared_a[of_a.row_of(u)] = ahead_a[u];
      SOLVENT_UNROLL
      for (int u = 0; u < kEach; ++u) shared_b[of_b.row_of(u)] = ahead_b[u];
      __syncthreads();
      if (left > kSteps) {
        a += of_a.per_tile;
        b += of_b.per_tile;
        load_tile(a, of_a, chains, at_most(left - kSteps, kSteps), ahead_a);
        load_tile(b, of_b, chains, at_most(left - kSteps, kSteps), ahead_b);
      }
      if (threadIdx.x < kChains) {
        const T* const row_a = shared_a + threadIdx.x * kRow;
        T* const row_b = shared_b + threadIdx.x * kRow;
        SOLVENT_ROLLED
        for (int begin = 0; begin < kSteps; begin += kAtOnce) {
          T factor[kAtOnce], state[kAtOnce];  // all reads first: each would wait for the write before it
          SOLVENT_UNROLL
          for (int j = 0; j < kAtOnce; ++j) factor[j] = row_a[begin + j];
          SOLVENT_UNROLL
          for (int j = 0; j < kAtOnce; ++j) state[j] = row_b[begin + j];
          SOLVENT_UNROLL
          for (int j = 0; j < kAtOnce; ++j) state[j] = h = std::fma(factor[j], h, state[j]);
          SOLVENT_UNROLL
          for (int j = 0; j < kAtOnce; ++j) row_b[begin + j] = state[j];
        }
      }
      __syncthreads();
      const int steps = at_most(left, kSteps);
      T state[kEach];
      SOLVENT_UNROLL
      for (int u = 0; u < kEach; ++u) state[u] = shared_b[of_h.row_of(u)];
      SOLVENT_UNROLL
      for (int u = 0; u < kEach; ++u)
        if (of_h.has(u, chains, steps)) to[of_h.offset(u)] = state[u];
      to += of_h.per_tile;
      __syncthreads();  // the tile is written again
    }
  }
}

// --- one chain ------------------------------------------------------------------------------------------------------------

// h -> p h + q
template <class T>
struct Map {
  T p, q;
  __device__ T operator()(T h) const { return std::fma(p, h, q); }
};

struct Apply {
  template <class T>
  __device__ T operator()(const Map<T>& map, T h) const {
    return map(h);
  }
};

// First a, then b.
struct Compose {
  template <class T>
  __device__ Map<T> operator()(const Map<T>& a, const Map<T>& b) const {
    return {a.p * b.p, std::fma(b.p, a.q, b.q)};
  }
};

template <class T>
__device__ Map<T> shift_up(Map<T> map, unsigned lanes) {
  return {__shfl_up_sync(kAllLanes, map.p, lanes), __shfl_up_sync(kAllLanes, map.q, lanes)};
}
template <class T>
__device__ Map<T> from_lane(Map<T> map, int lane) {
  return {__shfl_sync(kAllLanes, map.p, lane), __shfl_sync(kAllLanes, map.q, lane)};
}

template <class T>
struct ChainCall {
  DiagonalCall<T> scan;
  Borders<Map<T>, T> borders;
};

// Factors of a shifted scan, which runs down in memory: step s of the tile has the one behind its own. In the order of memory,
// as read_tile leaves them.
template <class T>
__device__ void read_shifted(const T* a, int count, bool is_first, TilePart<T>& part) {
  constexpr int kPack = kPackSize<T>;
  SOLVENT_UNROLL
  for (int round = 0; round < kTileRounds; ++round) {
    SOLVENT_UNROLL
    for (int m = 0; m < kPack; ++m) {
      const int s = in_tile<T>(round) + kPack - 1 - m;
      part[round].value[m] = s < count && !(is_first && s == 0) ? a[count - s] : s < count ? T(0) : T(1);
    }
  }
}

// Blocks per multiprocessor: as many as the registers for a tile allow.
template <class T, bool kPacked>
constexpr int kBlocks = sizeof(T) > 4 ? 2
                        : kPacked     ? 4
                                      : 3;

template <class T, bool kPacked, bool kSeveral>
__global__ void __launch_bounds__(kThreads, (kBlocks<T, kPacked>)) chain_kernel(ChainCall<T> call) {
  __shared__ Map<T> of_warp[kThreads / 32];
  const std::int64_t item = kSeveral ? take_number(call.borders.counter) : blockIdx.x;
  const std::int64_t tile = kSeveral ? item / call.scan.lead : 0;
  const std::int64_t r = kSeveral ? item % call.scan.lead : item;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const bool reversed = call.scan.reversed;
  const int count = at_most(call.scan.steps - tile * kTile<T>, kTile<T>);
  const std::int64_t memory = reversed ? call.scan.steps - tile * kTile<T> - count : tile * kTile<T>;
  TilePart<T> a, b;
  read_tile<kPacked>(call.scan.b + r * call.scan.steps + memory, count, reversed, T(0), b);
  if (call.scan.shift_a) {
    read_shifted(call.scan.a + memory, count, tile == 0, a);
  } else {
    read_tile<kPacked>(call.scan.a + memory, count, reversed, T(1), a);
  }
  Map<T> before[kTileRounds];  // of the steps of this warp to the left
  Map<T> of_rounds{T(1), T(0)};
  SOLVENT_UNROLL
  for (int round = 0; round < kTileRounds; ++round) {
    turn(reversed, a[round]);
    turn(reversed, b[round]);
    Map<T> own{a[round].value[0], b[round].value[0]};
    SOLVENT_UNROLL
    for (int j = 1; j < kPackSize<T>; ++j) own = Compose{}(own, Map<T>{a[round].value[j], b[round].value[j]});
    const Map<T> scanned = warp_scan(own, Compose{});
    Map<T> left = shift_up(scanned, 1u);
    if (lane == 0) left = {T(1), T(0)};
    before[round] = Compose{}(of_rounds, left);
    of_rounds = Compose{}(of_rounds, from_lane(scanned, 31));
  }
  if (lane == 0) of_warp[warp] = of_rounds;
  __syncthreads();
  Map<T> left{T(1), T(0)}, all = of_warp[0];
  for (int w = 1; w < static_cast<int>(kThreads) / 32; ++w) {
    if (w == warp) left = all;
    all = Compose{}(all, of_warp[w]);
  }
  T start = first_state(call.scan, r, 0);
  if constexpr (kSeveral) {
    start = pass_border(call.borders, r, tile, start, all, Map<T>{T(1), T(0)}, Compose{}, Apply{});
  }
  start = left(start);
  SOLVENT_UNROLL
  for (int round = 0; round < kTileRounds; ++round) {
    T h = before[round](start);
    SOLVENT_UNROLL
    for (int j = 0; j < kPackSize<T>; ++j) b[round].value[j] = h = std::fma(a[round].value[j], h, b[round].value[j]);
    write_tile<kPacked>(call.scan.h + r * call.scan.steps + memory, count, reversed, round, b[round]);
  }
}

template <class T, bool kSeveral>
void launch_chain(const ChainCall<T>& call, bool packed, Device device) {
  Launch where = over_blocks("affine_scan", 1, device);
  where.grid = dim3(static_cast<unsigned>(call.scan.lead * call.borders.tiles));
  if (packed) {
    launch(where, chain_kernel<T, true, kSeveral>, call);
  } else {
    launch(where, chain_kernel<T, false, kSeveral>, call);
  }
}

}  // namespace

template <class T>
void walk_scan(const DiagonalCall<T>& call, Device device) {
  const std::int64_t groups = (call.chains + kChains - 1) / kChains;
  launch(over_blocks("affine_scan", call.lead * groups, device), walk_kernel<T>, call);
}

template <class T>
void chain_scan(const DiagonalCall<T>& scan, Device device) {
  ChainCall<T> call{.scan = scan, .borders = {}};
  call.borders.lines = scan.lead;
  call.borders.tiles = (scan.steps + kTile<T> - 1) / kTile<T>;
  const bool starts_aligned = scan.steps % kPackSize<T> == 0 || (scan.lead == 1 && !scan.reversed);
  const bool packed = starts_aligned && is_aligned(scan.b) && is_aligned(scan.h) && is_aligned(scan.a);
  if (call.borders.tiles == 1) return launch_chain<T, false>(call, packed, device);
  const Tensor memory = borders_memory(call.borders, device);
  launch_chain<T, true>(call, packed, device);
}

template void walk_scan(const DiagonalCall<float>&, Device);
template void walk_scan(const DiagonalCall<double>&, Device);
template void chain_scan(const DiagonalCall<float>&, Device);
template void chain_scan(const DiagonalCall<double>&, Device);

}  // namespace solvent::cuda
