// Cumulative sums and products on a GPU, in an order that depends on sizes only. Bound by memory: one read and one write per
// element where there are enough lines for the device. Lines are cut into chunks otherwise: chunks are folded, their totals
// scanned, and the chunks scanned from there, which reads twice; but few long rows of sums are cut into tiles that add up
// the tiles before them as these appear (publish.h), which reads once. Along the last axis a warp (short rows) or a block
// (long ones) scans a row; along other axes a thread walks down a column, and its neighbours the columns next to it.

#include "solvent/ops/cuda/running.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "solvent/core/cuda/launch.h"
#include "solvent/core/cuda/strided.h"
#include "solvent/core/engine/view.h"
#include "solvent/ops/cuda/block_scan.h"
#include "solvent/ops/cuda/line_tile.h"
#include "solvent/ops/cuda/publish.h"
#include "solvent/ops/cuda/unroll.h"

namespace solvent::cuda {
namespace {

// --- what is folded -------------------------------------------------------------------------------------------------------

// fraction * 2^exponent: products neither overflow nor vanish before the end.
struct Scaled {
  double fraction;
  std::int64_t exponent;
};

__device__ inline Scaled normalised(double v, std::int64_t exponent) {
  if (v == 0.0 || !(std::fabs(v) <= 1.7976931348623157e308)) return {v, 0};  // 0, infinite or NaN
  int shift = 0;
  const double fraction = std::frexp(v, &shift);
  return {fraction, exponent + shift};
}

template <class T>
struct SumOf {
  using State = double;
  __device__ static State neutral() { return 0.0; }
  __device__ static State load(T v) { return static_cast<double>(v); }
  __device__ static T store(State s) { return static_cast<T>(s); }
  __device__ State operator()(State a, State b) const { return a + b; }
};
template <>
struct SumOf<std::int64_t> {
  using State = std::uint64_t;  // wraps around
  __device__ static State neutral() { return 0; }
  __device__ static State load(std::int64_t v) { return static_cast<State>(v); }
  __device__ static std::int64_t store(State s) { return static_cast<std::int64_t>(s); }
  __device__ State operator()(State a, State b) const { return a + b; }
};

template <class T>
struct ProductOf {
  using State = Scaled;
  __device__ static State neutral() { return {0.5, 1}; }
  __device__ static State load(T v) { return normalised(static_cast<double>(v), 0); }
  __device__ static T store(State s) {
    const std::int64_t e = s.exponent < -5000 ? -5000 : s.exponent > 5000 ? 5000 : s.exponent;
    return static_cast<T>(std::ldexp(s.fraction, static_cast<int>(e)));
  }
  __device__ State operator()(State a, State b) const {
    return normalised(a.fraction * b.fraction, a.exponent + b.exponent);
  }
};
template <>
struct ProductOf<std::int64_t> {
  using State = std::uint64_t;
  __device__ static State neutral() { return 1; }
  __device__ static State load(std::int64_t v) { return static_cast<State>(v); }
  __device__ static std::int64_t store(State s) { return static_cast<std::int64_t>(s); }
  __device__ State operator()(State a, State b) const { return a * b; }
};

using solvent::cuda::from_lane;  // declarations of this namespace would hide them
using solvent::cuda::shift_up;
__device__ inline Scaled shift_up(Scaled v, unsigned lanes) {
  return {__shfl_up_sync(kAllLanes, v.fraction, lanes), __shfl_up_sync(kAllLanes, v.exponent, lanes)};
}
__device__ inline Scaled from_lane(Scaled v, int lane) {
  return {__shfl_sync(kAllLanes, v.fraction, lane), __shfl_sync(kAllLanes, v.exponent, lane)};
}

// --- kernels --------------------------------------------------------------------------------------------------------------

// (outer, n, inner), the middle axis in `chunks` chunks.
struct Lines {
  std::int64_t outer, n, inner;
  std::int64_t chunk, chunks;
  bool reversed;

  // Memory order of step i of a line.
  [[nodiscard]] __device__ std::int64_t at(std::int64_t i) const { return reversed ? n - 1 - i : i; }
};

// inner == 1: a warp per row.
template <class T, class F>
__global__ void short_rows_kernel(const T* x, T* y, Lines lines) {
  const F fold;
  const std::int64_t lane = threadIdx.x % 32;
  for (std::int64_t row = global_thread() / 32; row < lines.outer; row += grid_threads() / 32) {
    typename F::State carry = F::neutral();
    for (std::int64_t first = 0; first < lines.n; first += 32) {
      const std::int64_t i = first + lane;
      const std::int64_t at = row * lines.n + lines.at(i);
      const typename F::State scanned = fold(carry, warp_scan(i < lines.n ? F::load(x[at]) : F::neutral(), fold));
      if (i < lines.n) y[at] = F::store(scanned);
      carry = from_lane(scanned, 31);
    }
  }
}

constexpr int kItems = 4;  // per thread and turn, neighbours

// inner == 1: a block per (row, chunk). With kWrite results go to y, starting from totals[row, chunk] if there are several
// chunks; without it totals[row, chunk] becomes the fold of the chunk.
template <class T, class F, bool kWrite>
__global__ void rows_kernel(const T* x, T* y, typename F::State* totals, Lines lines) {
  using State = typename F::State;
  const F fold;
  for (std::int64_t item = blockIdx.x; item < lines.outer * lines.chunks; item += gridDim.x) {
    const std::int64_t row = item / lines.chunks;
    const std::int64_t begin = item % lines.chunks * lines.chunk;
    const std::int64_t end = begin + lines.chunk < lines.n ? begin + lines.chunk : lines.n;
    State carry = kWrite && lines.chunks > 1 ? totals[item] : F::neutral();
    for (std::int64_t first = begin; first < end; first += std::int64_t{kThreads} * kItems) {
      State state[kItems];
      State own = F::neutral();
      for (int j = 0; j < kItems; ++j) {
        const std::int64_t i = first + threadIdx.x * kItems + j;
        state[j] = i < end ? F::load(x[row * lines.n + lines.at(i)]) : F::neutral();
        own = fold(own, state[j]);
      }
      State before, total;
      block_scan(own, F::neutral(), fold, before, total);
      if constexpr (kWrite) {
        before = fold(carry, before);
        for (int j = 0; j < kItems; ++j) {
          const std::int64_t i = first + threadIdx.x * kItems + j;
          before = fold(before, state[j]);
          if (i < end) y[row * lines.n + lines.at(i)] = F::store(before);
        }
      }
      carry = fold(carry, total);
    }
    if (!kWrite && threadIdx.x == 0) totals[item] = carry;
  }
}

// totals[row, chunk] becomes the fold of the chunks before; a block per row.
template <class F>
__global__ void row_totals_kernel(typename F::State* totals, Lines lines) {
  const F fold;
  for (std::int64_t row = blockIdx.x; row < lines.outer; row += gridDim.x) {
    typename F::State carry = F::neutral();
    for (std::int64_t first = 0; first < lines.chunks; first += kThreads) {
      const std::int64_t chunk = first + threadIdx.x;
      const bool valid = chunk < lines.chunks;
      typename F::State before, total;
      block_scan(valid ? totals[row * lines.chunks + chunk] : F::neutral(), F::neutral(), fold, before, total);
      if (valid) totals[row * lines.chunks + chunk] = fold(carry, before);
      carry = fold(carry, total);
    }
  }
}

// --- few long rows ----------------------------------------------------------------------------------------------------------

// A fold behind a state.
template <class F>
struct After {
  __device__ typename F::State operator()(const typename F::State& part, const typename F::State& state) const {
    return F()(state, part);
  }
};

// inner == 1: a block per (tile, row), in this order. Of sums, whose neutral element is 0.
template <class T, class F, bool kPacked>
__global__ void __launch_bounds__(kThreads)
    tiles_kernel(const T* x, T* y, Lines lines, Borders<typename F::State, typename F::State> borders) {
  using State = typename F::State;
  constexpr int kPack = kPackSize<T>;
  __shared__ State of_warp[kThreads / 32];
  const F fold;
  const std::int64_t number = take_number(borders.counter);
  const std::int64_t tile = number / lines.outer;
  const std::int64_t row = number - tile * lines.outer;
  const std::int64_t rest = lines.n - tile * kTile<T>;
  const int count = rest < kTile<T> ? static_cast<int>(rest) : kTile<T>;
  const std::int64_t memory = row * lines.n + (lines.reversed ? lines.n - tile * kTile<T> - count : tile * kTile<T>);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  TilePart<T> steps;
  read_tile<kPacked>(x + memory, count, lines.reversed, T(0), steps);
  State before[kTileRounds];  // of this warp's steps to the left
  State of_rounds = F::neutral();
  SOLVENT_UNROLL
  for (int round = 0; round < kTileRounds; ++round) {
    turn(lines.reversed, steps[round]);
    State own = F::load(steps[round].value[0]);
    SOLVENT_UNROLL
    for (int j = 1; j < kPack; ++j) own = fold(own, F::load(steps[round].value[j]));
    const State scanned = warp_scan(own, fold);
    State left = shift_up(scanned, 1u);
    if (lane == 0) left = F::neutral();
    before[round] = fold(of_rounds, left);
    of_rounds = fold(of_rounds, from_lane(scanned, 31));
  }
  if (lane == 0) of_warp[warp] = of_rounds;
  __syncthreads();
  State left = F::neutral(), all = of_warp[0];
  for (int w = 1; w < static_cast<int>(kThreads) / 32; ++w) {
    if (w == warp) left = all;
    all = fold(all, of_warp[w]);
  }
  const State start = fold(pass_border(borders, row, tile, F::neutral(), all, F::neutral(), fold, After<F>{}), left);
  SOLVENT_UNROLL
  for (int round = 0; round < kTileRounds; ++round) {
    State sum = fold(start, before[round]);
    SOLVENT_UNROLL
    for (int j = 0; j < kPack; ++j) {
      sum = fold(sum, F::load(steps[round].value[j]));
      steps[round].value[j] = F::store(sum);
    }
    write_tile<kPacked>(y + memory, count, lines.reversed, round, steps[round]);
  }
}

// --- columns ----------------------------------------------------------------------------------------------------------------

// A thread per (outer, chunk, column); kWrite as above.
template <class T, class F, bool kWrite>
__global__ void columns_kernel(const T* x, T* y, typename F::State* totals, Lines lines) {
  const F fold;
  const std::int64_t items = lines.outer * lines.chunks * lines.inner;
  for (std::int64_t item = global_thread(); item < items; item += grid_threads()) {
    const std::int64_t column = item % lines.inner;
    const std::int64_t chunk = item / lines.inner % lines.chunks;
    const std::int64_t start = item / lines.inner / lines.chunks * lines.n * lines.inner + column;
    const std::int64_t begin = chunk * lines.chunk;
    const std::int64_t end = begin + lines.chunk < lines.n ? begin + lines.chunk : lines.n;
    typename F::State carry = kWrite && lines.chunks > 1 ? totals[item] : F::neutral();
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t at = start + lines.at(i) * lines.inner;
      carry = fold(carry, F::load(x[at]));
      if constexpr (kWrite) y[at] = F::store(carry);
    }
    if constexpr (!kWrite) totals[item] = carry;
  }
}

// totals[outer, chunk, column] becomes the fold of the chunks before; a thread per column.
template <class F>
__global__ void column_totals_kernel(typename F::State* totals, Lines lines) {
  const F fold;
  for (std::int64_t line = global_thread(); line < lines.outer * lines.inner; line += grid_threads()) {
    typename F::State* const total = totals + line / lines.inner * lines.chunks * lines.inner + line % lines.inner;
    typename F::State carry = F::neutral();
    for (std::int64_t chunk = 0; chunk < lines.chunks; ++chunk) {
      const typename F::State own = total[chunk * lines.inner];
      total[chunk * lines.inner] = carry;
      carry = fold(carry, own);
    }
  }
}

// --- choice by sizes ------------------------------------------------------------------------------------------------------

constexpr std::int64_t kShortRow = 256;
constexpr std::int64_t kRowChunk = 1 << 14;
constexpr std::int64_t kManyRows = 512;         // blocks that fill a device
constexpr std::int64_t kManyColumns = 1 << 14;  // threads that fill a device
constexpr std::int64_t kColumnChunk = 64;       // at least

void choose_chunks(Lines& lines) {
  lines.chunk = lines.n;
  if (lines.inner == 1) {
    if (lines.outer < kManyRows) lines.chunk = std::min(lines.n, kRowChunk);
  } else if (lines.outer * lines.inner < kManyColumns && lines.n > 2 * kColumnChunk) {
    // About as many chunks as steps in a chunk: the totals are walked by one thread.
    const auto root = static_cast<std::int64_t>(std::sqrt(static_cast<double>(lines.n)));
    lines.chunk = (root + kColumnChunk - 1) / kColumnChunk * kColumnChunk;
  }
  lines.chunks = (lines.n + lines.chunk - 1) / lines.chunk;
}

template <class T, class F>
void run_tiles(const char* name, const T* x, T* y, const Lines& lines, Device device) {
  Borders<typename F::State, typename F::State> borders;
  borders.lines = lines.outer;
  borders.tiles = (lines.n + kTile<T> - 1) / kTile<T>;
  const Tensor memory = borders_memory(borders, device);
  const bool starts_aligned = lines.n % kPackSize<T> == 0 || (lines.outer == 1 && !lines.reversed);
  Launch where = over_blocks(name, 1, device);
  where.grid = dim3(static_cast<unsigned>(lines.outer * borders.tiles));
  if (starts_aligned && is_aligned(x) && is_aligned(y)) {
    launch(where, tiles_kernel<T, F, true>, x, y, lines, borders);
  } else {
    launch(where, tiles_kernel<T, F, false>, x, y, lines, borders);
  }
}

template <class T, class F>
void run_lines(const char* name, const T* x, T* y, Lines lines, Device device) {
  using State = typename F::State;
  if (lines.inner == 1 && lines.n <= kShortRow) {
    Launch where = over_elements(name, lines.outer * 32, device);
    where.barriers = true;
    return launch(where, short_rows_kernel<T, F>, x, y, lines);
  }
  choose_chunks(lines);
  if constexpr (!std::is_same_v<F, ProductOf<T>>)
    if (lines.inner == 1 && lines.chunks > 1) return run_tiles<T, F>(name, x, y, lines, device);
  const std::int64_t items = lines.outer * lines.chunks * lines.inner;
  const std::int64_t words = lines.chunks > 1 ? items * static_cast<std::int64_t>(sizeof(State) / 8) : 0;
  Tensor memory = engine::empty({words}, DType::int64, device);
  auto* const totals = reinterpret_cast<State*>(engine::mutable_ptr<std::int64_t>(memory));
  if (lines.inner == 1) {
    const Launch where = over_blocks(name, items, device);
    if (lines.chunks > 1) {
      launch(where, rows_kernel<T, F, false>, x, y, totals, lines);
      launch(over_blocks(name, lines.outer, device), row_totals_kernel<F>, totals, lines);
    }
    launch(where, rows_kernel<T, F, true>, x, y, totals, lines);
  } else {
    const Launch where = over_elements(name, items, device);
    if (lines.chunks > 1) {
      launch(where, columns_kernel<T, F, false>, x, y, totals, lines);
      launch(over_elements(name, lines.outer * lines.inner, device), column_totals_kernel<F>, totals, lines);
    }
    launch(where, columns_kernel<T, F, true>, x, y, totals, lines);
  }
}

template <template <class> class F>
Tensor running(const char* name, const Tensor& x, int axis, bool reversed) {
  const Tensor dense = engine::contiguous(x);
  Tensor out = engine::empty(x.shape(), x.dtype(), x.device());
  if (out.numel() == 0) return out;
  Lines lines{};
  lines.outer = lines.inner = 1;
  for (int i = 0; i < axis; ++i) lines.outer *= x.shape()[i];
  for (int i = axis + 1; i < x.rank(); ++i) lines.inner *= x.shape()[i];
  lines.n = x.shape()[axis];
  lines.reversed = reversed;
  const auto run = [&](auto tag) {
    using T = typename decltype(tag)::type;
    run_lines<T, F<T>>(name, engine::ptr<T>(dense), engine::mutable_ptr<T>(out), lines, x.device());
  };
  if (x.dtype() == DType::int64) {
    run(solvent::detail::TypeTag<std::int64_t>{});
  } else {
    dispatch_float(x.dtype(), name, run);
  }
  return out;
}

}  // namespace

Tensor cumsum(const Tensor& x, int axis, bool reversed) { return running<SumOf>("cumsum", x, axis, reversed); }

Tensor cumprod(const Tensor& x, int axis) { return running<ProductOf>("cumprod", x, axis, false); }

}  // namespace solvent::cuda
