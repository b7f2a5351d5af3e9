// Reductions over one axis of a contiguous (outer, n, inner) array.
//
// Decomposition: rows (inner = 1) and tiles of columns (inner > 1) are independent; a single long row or a tall narrow
// matrix is cut into blocks along n whose partial results are combined in order. All cuts depend on sizes only, so results
// are the same bits for any number of threads. Traffic: each input element is read once.
//
// Accuracy of sums: runs of at most kChunk elements are added in several vector accumulators (at most 32 sequential additions
// per lane of 8, 64 rows per column), and run totals are added with Neumaier's compensation. The worst-case error is that of
// about 70 additions whatever the length.

#include "solvent/ops/cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "solvent/ops/cpu/reduce_kernels.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include "hwy/highway.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/cpu/vector_functions-inl.h"
#include "solvent/ops/cpu/vector_kernels.h"

#ifndef SOLVENT_OPS_CPU_REDUCE_KERNELS_ONCE
#define SOLVENT_OPS_CPU_REDUCE_KERNELS_ONCE
namespace solvent::cpu {
namespace {

constexpr std::size_t kChunk = 2048;          // elements summed in plain vector accumulators
constexpr std::size_t kColumnBlockRows = 64;  // the same for columns
constexpr std::size_t kTileColumns = 1024;
constexpr std::size_t kNarrow = 64;  // narrower matrices are read as fewer, longer rows

constexpr bool is_sum(ReduceFn fn) { return fn == ReduceFn::sum || fn == ReduceFn::sum_squares; }
/// What combines partial results.
constexpr ReduceFn merging(ReduceFn fn) { return fn == ReduceFn::sum_squares ? ReduceFn::sum : fn; }

/// Running sum with the rounding errors of its additions (Neumaier 1974).
template <class T>
struct CompensatedSum {
  T high = 0;
  T low = 0;
  void add(T x) {
    const T sum = high + x;
    low += std::abs(high) >= std::abs(x) ? (high - sum) + x : (x - sum) + high;
    high = sum;
  }
  // An infinite or NaN sum has a NaN error term.
  T total() const { return std::isfinite(high) ? high + low : high; }
};

/// Serial kernels of one target.
template <class T>
struct ReduceKernels {
  T (*row)(const T* x, std::size_t n) noexcept;
  void (*columns)(const T* x, std::size_t rows, std::size_t cols, std::size_t row_stride, T* y) noexcept;
};

}  // namespace
}  // namespace solvent::cpu
#endif  // SOLVENT_OPS_CPU_REDUCE_KERNELS_ONCE

HWY_BEFORE_NAMESPACE();
namespace solvent::cpu::HWY_NAMESPACE {

template <ReduceFn kFn, class D, class V = hn::Vec<D>>
HWY_INLINE V neutral(D d) {
  using T = hn::TFromD<D>;
  if constexpr (kFn == ReduceFn::prod) return constant(d, 1.0);
  if constexpr (kFn == ReduceFn::max) return hn::Set(d, -std::numeric_limits<T>::infinity());
  if constexpr (kFn == ReduceFn::min) return hn::Set(d, std::numeric_limits<T>::infinity());
  return hn::Zero(d);
}

/// Adds the element(s) x to the running result; NaN stays once met.
template <ReduceFn kFn, class V>
HWY_INLINE V accumulate(V running, V x) {
  if constexpr (kFn == ReduceFn::sum) return hn::Add(running, x);
  if constexpr (kFn == ReduceFn::sum_squares) return hn::MulAdd(x, x, running);
  if constexpr (kFn == ReduceFn::prod) return hn::Mul(running, x);
  if constexpr (kFn == ReduceFn::max) return hn::IfThenElse(hn::Or(hn::Gt(x, running), hn::IsNaN(x)), x, running);
  if constexpr (kFn == ReduceFn::min) return hn::IfThenElse(hn::Or(hn::Lt(x, running), hn::IsNaN(x)), x, running);
  if constexpr (kFn == ReduceFn::max_abs) return accumulate<ReduceFn::max>(running, hn::Abs(x));
}

/// One value from the lanes of partial results.
template <ReduceFn kFn, class D, class V = hn::Vec<D>>
HWY_INLINE hn::TFromD<D> reduce_lanes(D d, V v) {
  using T = hn::TFromD<D>;
  if constexpr (is_sum(kFn)) {
    return hn::GetLane(hn::SumOfLanes(d, v));
  } else if constexpr (kFn == ReduceFn::prod) {
    HWY_ALIGN T lanes[hn::MaxLanes(d)];
    hn::Store(v, d, lanes);
    T product = lanes[0];
    for (std::size_t i = 1; i < hn::Lanes(d); ++i) product *= lanes[i];
    return product;
  } else {
    if (!hn::AllTrue(d, hn::Eq(v, v))) return std::numeric_limits<T>::quiet_NaN();
    if constexpr (kFn == ReduceFn::min) return hn::GetLane(hn::MinOfLanes(d, v));
    return hn::GetLane(hn::MaxOfLanes(d, v));
  }
}

/// `count` elements in eight independent accumulators (enough to hide the latency of additions), combined pairwise.
template <ReduceFn kFn, class D, class T = hn::TFromD<D>>
HWY_INLINE T reduce_chunk(D d, const T* x, std::size_t count) {
  const std::size_t lanes = hn::Lanes(d);
  auto r0 = neutral<kFn>(d), r1 = r0, r2 = r0, r3 = r0, r4 = r0, r5 = r0, r6 = r0, r7 = r0;
  std::size_t i = 0;
  for (; i + 8 * lanes <= count; i += 8 * lanes) {
    r0 = accumulate<kFn>(r0, hn::LoadU(d, x + i));
    r1 = accumulate<kFn>(r1, hn::LoadU(d, x + i + lanes));
    r2 = accumulate<kFn>(r2, hn::LoadU(d, x + i + 2 * lanes));
    r3 = accumulate<kFn>(r3, hn::LoadU(d, x + i + 3 * lanes));
    r4 = accumulate<kFn>(r4, hn::LoadU(d, x + i + 4 * lanes));
    r5 = accumulate<kFn>(r5, hn::LoadU(d, x + i + 5 * lanes));
    r6 = accumulate<kFn>(r6, hn::LoadU(d, x + i + 6 * lanes));
    r7 = accumulate<kFn>(r7, hn::LoadU(d, x + i + 7 * lanes));
  }
  for (; i + lanes <= count; i += lanes) r0 = accumulate<kFn>(r0, hn::LoadU(d, x + i));
  if (i < count) {
    const auto rest = load_first(d, x + i, count - i);
    r1 = accumulate<kFn>(r1, hn::IfThenElse(hn::FirstN(d, count - i), rest, neutral<kFn>(d)));
  }
  constexpr ReduceFn kMerge = merging(kFn);
  r0 = accumulate<kMerge>(accumulate<kMerge>(r0, r1), accumulate<kMerge>(r2, r3));
  r4 = accumulate<kMerge>(accumulate<kMerge>(r4, r5), accumulate<kMerge>(r6, r7));
  return reduce_lanes<kFn>(d, accumulate<kMerge>(r0, r4));
}

template <ReduceFn kFn, class T>
T reduce_row(const T* x, std::size_t n) noexcept {
  const hn::ScalableTag<T> d;
  if constexpr (is_sum(kFn)) {
    if (n <= kChunk) return reduce_chunk<kFn>(d, x, n);
    CompensatedSum<T> sum;
    for (std::size_t i = 0; i < n; i += kChunk) sum.add(reduce_chunk<kFn>(d, x + i, std::min(kChunk, n - i)));
    return sum.total();
  } else {
    return reduce_chunk<kFn>(d, x, n);
  }
}

/// running[j] = accumulate over `rows` rows of x[r, j], j < cols. `running` is padded to whole vectors.
template <ReduceFn kFn, class T>
HWY_INLINE void accumulate_rows(const T* x, std::size_t rows, std::size_t cols, std::size_t row_stride, T* running) {
  const hn::ScalableTag<T> d;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t r = 0;
  for (; r + 4 <= rows; r += 4, x += 4 * row_stride) {
    const T* x1 = x + row_stride;
    const T* x2 = x1 + row_stride;
    const T* x3 = x2 + row_stride;
    std::size_t j = 0;
    for (; j + lanes <= cols; j += lanes) {
      auto v = hn::Load(d, running + j);
      v = accumulate<kFn>(accumulate<kFn>(v, hn::LoadU(d, x + j)), hn::LoadU(d, x1 + j));
      v = accumulate<kFn>(accumulate<kFn>(v, hn::LoadU(d, x2 + j)), hn::LoadU(d, x3 + j));
      hn::Store(v, d, running + j);
    }
    if (j < cols) {
      const std::size_t rest = cols - j;
      auto v = hn::Load(d, running + j);
      v = accumulate<kFn>(accumulate<kFn>(v, load_first(d, x + j, rest)), load_first(d, x1 + j, rest));
      v = accumulate<kFn>(accumulate<kFn>(v, load_first(d, x2 + j, rest)), load_first(d, x3 + j, rest));
      hn::Store(v, d, running + j);
    }
  }
  for (; r < rows; ++r, x += row_stride) {
    std::size_t j = 0;
    for (; j + lanes <= cols; j += lanes) {
      hn::Store(accumulate<kFn>(hn::Load(d, running + j), hn::LoadU(d, x + j)), d, running + j);
    }
    if (j < cols) {
      hn::Store(accumulate<kFn>(hn::Load(d, running + j), load_first(d, x + j, cols - j)), d, running + j);
    }
  }
}

/// (high, low) += x with the error of the addition (Knuth's two-sum), for `count` padded columns.
template <class T>
HWY_INLINE void add_compensated(const T* x, std::size_t count, T* high, T* low) {
  const hn::ScalableTag<T> d;
  for (std::size_t j = 0; j < count; j += hn::Lanes(d)) {
    const auto a = hn::Load(d, high + j);
    const auto b = hn::Load(d, x + j);
    const auto sum = hn::Add(a, b);
    const auto b_part = hn::Sub(sum, a);
    const auto error = hn::Add(hn::Sub(a, hn::Sub(sum, b_part)), hn::Sub(b, b_part));
    hn::Store(sum, d, high + j);
    hn::Store(hn::Add(hn::Load(d, low + j), error), d, low + j);
  }
}

/// One tile of at most kTileColumns columns.
template <ReduceFn kFn, class T>
HWY_INLINE void reduce_tile(const T* x, std::size_t rows, std::size_t cols, std::size_t row_stride, T* y) {
  const hn::ScalableTag<T> d;
  constexpr std::size_t kPadded = kTileColumns + hn::MaxLanes(d);
  HWY_ALIGN T block[kPadded];
  const auto start = neutral<kFn>(d);
  if constexpr (!is_sum(kFn)) {
    for (std::size_t j = 0; j < cols; j += hn::Lanes(d)) hn::Store(start, d, block + j);
    accumulate_rows<kFn>(x, rows, cols, row_stride, block);
    std::copy_n(block, cols, y);
  } else {
    HWY_ALIGN T high[kPadded];
    HWY_ALIGN T low[kPadded];
    for (std::size_t j = 0; j < cols; j += hn::Lanes(d)) {
      hn::Store(start, d, high + j);
      hn::Store(start, d, low + j);
    }
    for (std::size_t r = 0; r < rows; r += kColumnBlockRows) {
      for (std::size_t j = 0; j < cols; j += hn::Lanes(d)) hn::Store(start, d, block + j);
      accumulate_rows<kFn>(x + r * row_stride, std::min(kColumnBlockRows, rows - r), cols, row_stride, block);
      add_compensated(block, cols, high, low);
    }
    for (std::size_t j = 0; j < cols; ++j) y[j] = std::isfinite(high[j]) ? high[j] + low[j] : high[j];
  }
}

template <ReduceFn kFn, class T>
void reduce_columns(const T* x, std::size_t rows, std::size_t cols, std::size_t row_stride, T* y) noexcept {
  if (cols < kNarrow && row_stride == cols && rows >= 4 * kNarrow) {
    // Read `fold` rows as one, so that vectors are full; then add up the `fold` partial results of each column.
    const std::size_t fold = 8 * kNarrow / cols;
    const std::size_t folded_rows = rows / fold;
    const std::size_t rest = rows - folded_rows * fold;
    T partial[(8 * kNarrow) + (2 * kNarrow)];
    reduce_tile<kFn>(x, folded_rows, fold * cols, fold * cols, partial);
    T* const last = partial + fold * cols;
    if (rest > 0) reduce_tile<kFn>(x + folded_rows * fold * cols, rest, cols, cols, last);
    reduce_tile<merging(kFn)>(partial, fold + (rest > 0 ? 1 : 0), cols, cols, y);
    return;
  }
  for (std::size_t j = 0; j < cols; j += kTileColumns) {
    reduce_tile<kFn>(x + j, rows, std::min(kTileColumns, cols - j), row_stride, y + j);
  }
}

template <class T, std::size_t... I>
const ReduceKernels<T>& reduce_entry(std::size_t fn, std::index_sequence<I...>) {
  static constexpr std::array<ReduceKernels<T>, sizeof...(I)> kTable = {
      ReduceKernels<T>{&reduce_row<static_cast<ReduceFn>(I), T>, &reduce_columns<static_cast<ReduceFn>(I), T>}...};
  return kTable[fn];
}
const ReduceKernels<float>& reduce_float(ReduceFn fn) {
  return reduce_entry<float>(static_cast<std::size_t>(fn), std::make_index_sequence<kReduceFnCount>{});
}
const ReduceKernels<double>& reduce_double(ReduceFn fn) {
  return reduce_entry<double>(static_cast<std::size_t>(fn), std::make_index_sequence<kReduceFnCount>{});
}

/// Index of the first element equal to `value` (or the first NaN, if `value` is NaN); n if there is none.
template <class T>
std::size_t find_first(const T* x, std::size_t n, T value) {
  const hn::ScalableTag<T> d;
  const std::size_t lanes = hn::Lanes(d);
  const bool nan = value != value;
  const auto wanted = hn::Set(d, value);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto v = hn::LoadU(d, x + i);
    const auto hit = nan ? hn::FindFirstTrue(d, hn::IsNaN(v)) : hn::FindFirstTrue(d, hn::Eq(v, wanted));
    if (hit >= 0) return i + static_cast<std::size_t>(hit);
  }
  for (; i < n; ++i) {
    if (nan ? x[i] != x[i] : x[i] == value) return i;
  }
  return n;
}
std::size_t find_first_float(const float* x, std::size_t n, float value) { return find_first(x, n, value); }
std::size_t find_first_double(const double* x, std::size_t n, double value) { return find_first(x, n, value); }

template <class T>
HWY_INLINE T dot_chunk(const T* a, const T* b, std::size_t n) {
  const hn::ScalableTag<T> d;
  const std::size_t lanes = hn::Lanes(d);
  auto r0 = hn::Zero(d), r1 = r0, r2 = r0, r3 = r0, r4 = r0, r5 = r0, r6 = r0, r7 = r0;
  std::size_t i = 0;
  for (; i + 8 * lanes <= n; i += 8 * lanes) {
    r0 = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), r0);
    r1 = hn::MulAdd(hn::LoadU(d, a + i + lanes), hn::LoadU(d, b + i + lanes), r1);
    r2 = hn::MulAdd(hn::LoadU(d, a + i + 2 * lanes), hn::LoadU(d, b + i + 2 * lanes), r2);
    r3 = hn::MulAdd(hn::LoadU(d, a + i + 3 * lanes), hn::LoadU(d, b + i + 3 * lanes), r3);
    r4 = hn::MulAdd(hn::LoadU(d, a + i + 4 * lanes), hn::LoadU(d, b + i + 4 * lanes), r4);
    r5 = hn::MulAdd(hn::LoadU(d, a + i + 5 * lanes), hn::LoadU(d, b + i + 5 * lanes), r5);
    r6 = hn::MulAdd(hn::LoadU(d, a + i + 6 * lanes), hn::LoadU(d, b + i + 6 * lanes), r6);
    r7 = hn::MulAdd(hn::LoadU(d, a + i + 7 * lanes), hn::LoadU(d, b + i + 7 * lanes), r7);
  }
  for (; i + lanes <= n; i += lanes) r0 = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), r0);
  if (i < n) r1 = hn::MulAdd(load_first(d, a + i, n - i), load_first(d, b + i, n - i), r1);
  r0 = hn::Add(hn::Add(r0, r1), hn::Add(r2, r3));
  r4 = hn::Add(hn::Add(r4, r5), hn::Add(r6, r7));
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(r0, r4)));
}
template <class T>
T dot_span(const T* a, const T* b, std::size_t n) {
  if (n <= kChunk) return dot_chunk(a, b, n);
  CompensatedSum<T> sum;
  for (std::size_t i = 0; i < n; i += kChunk) sum.add(dot_chunk(a + i, b + i, std::min(kChunk, n - i)));
  return sum.total();
}
float dot_float(const float* a, const float* b, std::size_t n) { return dot_span(a, b, n); }
double dot_double(const double* a, const double* b, std::size_t n) { return dot_span(a, b, n); }

}  // namespace solvent::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace solvent::cpu {
namespace {

HWY_EXPORT(reduce_float);
HWY_EXPORT(reduce_double);
HWY_EXPORT(find_first_float);
HWY_EXPORT(find_first_double);
HWY_EXPORT(dot_float);
HWY_EXPORT(dot_double);

template <class T>
const ReduceKernels<T>& reduce_kernels(ReduceFn fn) {
  if constexpr (sizeof(T) == 4) return HWY_DYNAMIC_DISPATCH(reduce_float)(fn);
  if constexpr (sizeof(T) == 8) return HWY_DYNAMIC_DISPATCH(reduce_double)(fn);
}
template <class T>
std::size_t find_first_of(const T* x, std::size_t n, T value) {
  if constexpr (sizeof(T) == 4) return HWY_DYNAMIC_DISPATCH(find_first_float)(x, n, value);
  if constexpr (sizeof(T) == 8) return HWY_DYNAMIC_DISPATCH(find_first_double)(x, n, value);
}
template <class T>
T dot_serial(const T* a, const T* b, std::size_t n) {
  if constexpr (sizeof(T) == 4) return HWY_DYNAMIC_DISPATCH(dot_float)(a, b, n);
  if constexpr (sizeof(T) == 8) return HWY_DYNAMIC_DISPATCH(dot_double)(a, b, n);
}

constexpr std::int64_t kGrain = kElementwiseGrain;
constexpr std::int64_t kMaxBlocks = 512;       // partial results of one long row, on the stack
constexpr std::int64_t kLongRow = 8 * kGrain;  // rows from here on are cut
constexpr std::int64_t kFewRows = 64;          // ... unless there are enough of them

std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

/// Blocks of one long row: at least kGrain elements each, whole chunks, at most kMaxBlocks.
std::int64_t block_length(std::int64_t n) {
  const std::int64_t least = (n + kMaxBlocks - 1) / kMaxBlocks;
  return std::max(kGrain, (least + kGrain - 1) / kGrain * kGrain);
}

/// fn(begin, end) for each block of a long row in parallel, then `finish(partials, count)`.
template <class T, class Block>
T reduce_blocks(ReduceFn merge, std::int64_t n, Block block) {
  const std::int64_t length = block_length(n);
  std::array<T, kMaxBlocks> partial;
  parallel_for(n, length,
               [&](std::int64_t begin, std::int64_t end) { partial[size(begin / length)] = block(begin, end); });
  return reduce_kernels<T>(merge).row(partial.data(), size((n + length - 1) / length));
}

template <class T>
void reduce_all_rows(ReduceFn fn, const T* x, std::int64_t rows, std::int64_t n, T* y) {
  const auto row = reduce_kernels<T>(fn).row;
  if (n >= kLongRow && rows < kFewRows) {
    for (std::int64_t o = 0; o < rows; ++o) {
      const T* start = x + o * n;
      y[o] = reduce_blocks<T>(
          merging(fn), n, [=](std::int64_t begin, std::int64_t end) { return row(start + begin, size(end - begin)); });
    }
    return;
  }
  parallel_for(rows, std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(n, 1)),
               [=](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t o = begin; o < end; ++o) y[o] = row(x + o * n, size(n));
               });
}

template <class T>
void reduce_all_columns(ReduceFn fn, const T* x, std::int64_t outer, std::int64_t n, std::int64_t inner, T* y) {
  const auto columns = reduce_kernels<T>(fn).columns;
  constexpr std::int64_t kTile = static_cast<std::int64_t>(kTileColumns);
  const std::int64_t tiles = (inner + kTile - 1) / kTile;
  const std::int64_t tile_work = n * std::min(inner, kTile);
  if (outer * tiles < 16 && n * inner >= kLongRow && n >= 1024) {
    // Few outputs, many rows: blocks of rows (whole sums of kColumnBlockRows), then their partial results.
    const std::int64_t rows_wanted = std::max((n + 63) / 64, (kGrain + inner - 1) / inner);
    constexpr std::int64_t kUnit = static_cast<std::int64_t>(kColumnBlockRows);
    const std::int64_t block_rows = (rows_wanted + kUnit - 1) / kUnit * kUnit;
    const std::int64_t blocks = (n + block_rows - 1) / block_rows;
    std::vector<T> partial(size(blocks * inner));
    for (std::int64_t o = 0; o < outer; ++o) {
      const T* start = x + o * n * inner;
      parallel_for(blocks, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t k = begin; k < end; ++k) {
          const std::int64_t first = k * block_rows;
          columns(start + first * inner, size(std::min(block_rows, n - first)), size(inner), size(inner),
                  partial.data() + k * inner);
        }
      });
      reduce_kernels<T>(merging(fn)).columns(partial.data(), size(blocks), size(inner), size(inner), y + o * inner);
    }
    return;
  }
  parallel_for(outer * tiles, std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(tile_work, 1)),
               [=](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t k = begin; k < end; ++k) {
                   const std::int64_t o = k / tiles;
                   const std::int64_t j = k % tiles * kTile;
                   columns(x + o * n * inner + j, size(n), size(std::min(kTile, inner - j)), size(inner),
                           y + o * inner + j);
                 }
               });
}

template <class T>
struct Extremum {
  T value;
  std::int64_t index;
};

/// Whether x replaces the best so far: larger (smaller), or the first NaN.
template <class T>
bool beats(bool largest, T x, T best) {
  if (best != best) return false;
  return x != x || (largest ? x > best : x < best);
}

/// The extremum of x[0, n): chunk by chunk, searching for the place only where a chunk improves on the best.
template <class T>
Extremum<T> find_extremum(ReduceFn fn, const T* x, std::int64_t n) {
  const auto row = reduce_kernels<T>(fn).row;
  constexpr std::int64_t kStep = static_cast<std::int64_t>(kChunk);
  Extremum<T> best{x[0], 0};
  for (std::int64_t i = 0; i < n; i += kStep) {
    const std::size_t count = size(std::min(kStep, n - i));
    const T value = row(x + i, count);
    if (beats(fn == ReduceFn::max, value, best.value)) {
      best = {value, i + static_cast<std::int64_t>(find_first_of(x + i, count, value))};
    }
  }
  return best;
}

template <class T>
void extrema_of_rows(ReduceFn fn, const T* x, std::int64_t rows, std::int64_t n, T* value,
                     std::int64_t* index) noexcept {
  const auto store = [=](std::int64_t o, const Extremum<T>& best) {
    if (value != nullptr) value[o] = best.value;
    index[o] = best.index;
  };
  if (n >= kLongRow && rows < kFewRows) {
    const std::int64_t length = block_length(n);
    std::array<Extremum<T>, kMaxBlocks> partial;
    for (std::int64_t o = 0; o < rows; ++o) {
      const T* start = x + o * n;
      parallel_for(n, length, [&](std::int64_t begin, std::int64_t end) {
        Extremum<T> best = find_extremum(fn, start + begin, end - begin);
        best.index += begin;
        partial[size(begin / length)] = best;
      });
      Extremum<T> best = partial[0];
      for (std::int64_t k = 1; k * length < n; ++k) {
        if (beats(fn == ReduceFn::max, partial[size(k)].value, best.value)) best = partial[size(k)];
      }
      store(o, best);
    }
    return;
  }
  parallel_for(rows, std::max<std::int64_t>(1, kGrain / n), [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t o = begin; o < end; ++o) store(o, find_extremum(fn, x + o * n, n));
  });
}

template <class T>
void extrema_of_columns(ReduceFn fn, const T* x, std::int64_t outer, std::int64_t n, std::int64_t inner, T* value,
                        std::int64_t* index) noexcept {
  constexpr std::int64_t kTile = 256;
  const bool largest = fn == ReduceFn::max;
  const std::int64_t tiles = (inner + kTile - 1) / kTile;
  const std::int64_t tile_work = n * std::min(inner, kTile);
  parallel_for(outer * tiles, std::max<std::int64_t>(1, kGrain / tile_work), [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t k = begin; k < end; ++k) {
      const std::int64_t o = k / tiles;
      const std::int64_t first = k % tiles * kTile;
      const std::int64_t count = std::min(kTile, inner - first);
      std::array<T, kTile> best;
      std::int64_t* at = index + o * inner + first;
      const T* row = x + o * n * inner + first;
      std::copy_n(row, count, best.begin());
      std::fill_n(at, count, 0);
      for (std::int64_t r = 1; r < n; ++r) {
        row += inner;
        for (std::int64_t j = 0; j < count; ++j) {
          if (beats(largest, row[j], best[size(j)])) {
            best[size(j)] = row[j];
            at[j] = r;
          }
        }
      }
      if (value != nullptr) std::copy_n(best.begin(), count, value + o * inner + first);
    }
  });
}

}  // namespace

template <class T>
void reduce(ReduceFn fn, const T* x, std::int64_t outer, std::int64_t n, std::int64_t inner, T* y) {
  if (inner == 1) {
    reduce_all_rows(fn, x, outer, n, y);
  } else if (inner > 0) {
    reduce_all_columns(fn, x, outer, n, inner, y);
  }
}

template <class T>
void reduce_with_index(ReduceFn fn, const T* x, std::int64_t outer, std::int64_t n, std::int64_t inner, T* value,
                       std::int64_t* index) noexcept {
  if (inner == 1) {
    extrema_of_rows(fn, x, outer, n, value, index);
  } else if (inner > 0) {
    extrema_of_columns(fn, x, outer, n, inner, value, index);
  }
}

template <class T>
T dot(const T* a, const T* b, std::int64_t n) noexcept {
  if (n < kLongRow) return dot_serial(a, b, size(n));
  return reduce_blocks<T>(ReduceFn::sum, n, [=](std::int64_t begin, std::int64_t end) {
    return dot_serial(a + begin, b + begin, size(end - begin));
  });
}

template void reduce(ReduceFn, const float*, std::int64_t, std::int64_t, std::int64_t, float*);
template void reduce(ReduceFn, const double*, std::int64_t, std::int64_t, std::int64_t, double*);
template void reduce_with_index(ReduceFn, const float*, std::int64_t, std::int64_t, std::int64_t, float*,
                                std::int64_t*) noexcept;
template void reduce_with_index(ReduceFn, const double*, std::int64_t, std::int64_t, std::int64_t, double*,
                                std::int64_t*) noexcept;
template float dot(const float*, const float*, std::int64_t) noexcept;
template double dot(const double*, const double*, std::int64_t) noexcept;

}  // namespace solvent::cpu
#endif  // HWY_ONCE
