// Matrix products on one thread with run-time dispatch to the vector instructions at hand.
//
// A tile of C (at most kRows rows by 2 vectors) lives in registers while k runs; A is read by broadcasts, so any strides
// of A will do and it is never packed; B is read as row vectors, and packed into panels of two vectors when its columns
// are not contiguous or when it is too large to be read in place. Rows are split evenly (16 = 6 + 5 + 5), because a tile
// with fewer than 8 accumulators waits for the latency of the multiply-add. The last vector of a row is masked.
//
// A shared B is packed once for a whole batch if it fits the buffer. Buffers are on the stack: nothing here can fail.
#include "solvent/core/cpu/gemm_kernels.h"

#include <algorithm>
#include <cstring>
#include <utility>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "solvent/core/cpu/gemm_kernels.cpp"
// Arrays of vectors need a size known at compile time, which SVE and RISC-V lack. SSSE3 and SSE4 machines (no FMA) are
// too rare to pay for their compile time; AVX3_DL adds nothing to AVX3 here.
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#define SOLVENT_UNROLL _Pragma("GCC unroll 16")

HWY_BEFORE_NAMESPACE();
namespace solvent::engine::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET <= HWY_AVX3
constexpr int kRows = 8;  // 32 registers
#else
constexpr int kRows = 6;  // 16 registers: 12 accumulators, 2 vectors of B, 1 broadcast of A
#endif

// Elements of the buffer for packed B: half of a usual L2.
constexpr std::int64_t kPackBytes = 128 << 10;
constexpr std::int64_t kPackedDepth = 256;
// B up to this size is read in place.
constexpr std::int64_t kInPlaceBytes = 64 << 10;

// The first `n` lanes. Not a masked store: AMD's takes some 20 cycles.
template <class D, class V, class T>
HWY_INLINE void store_first(D d, V v, std::int64_t n, T* HWY_RESTRICT to) {
  HWY_ALIGN T lanes[HWY_MAX_BYTES / sizeof(T)];
  hn::Store(v, d, lanes);
  const T* from = lanes;
  SOLVENT_UNROLL
  for (int half = HWY_MAX_BYTES / sizeof(T) / 2; half >= 1; half /= 2) {
    if ((n & half) == 0) continue;
    std::memcpy(to, from, static_cast<std::size_t>(half) * sizeof(T));
    from += half;
    to += half;
  }
}

// One tile: ROWS x (VECS vectors); the last vector has `last` valid lanes if TAIL.
template <int ROWS, int VECS, bool TAIL, class T>
HWY_INLINE void tile(const GemmCall<T>& call, std::int64_t i, std::int64_t j, const T* HWY_RESTRICT b, std::int64_t ldb,
                     std::int64_t last) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto mask = hn::FirstN(d, static_cast<std::size_t>(last));
  const T* HWY_RESTRICT a = call.a + i * call.a_row;
  const std::int64_t a_row = call.a_row;
  const std::int64_t a_col = call.a_col;
  V sum[ROWS][VECS];
  SOLVENT_UNROLL
  for (int r = 0; r < ROWS; ++r) {
    hwy::Prefetch(call.c + (i + r) * call.ldc + j);  // arrives while k runs
    SOLVENT_UNROLL
    for (int v = 0; v < VECS; ++v) sum[r][v] = hn::Zero(d);
  }
  for (std::int64_t p = 0; p < call.k; ++p) {
    V row[VECS];
    SOLVENT_UNROLL
    for (int v = 0; v < VECS; ++v)
      row[v] = TAIL && v == VECS - 1 ? hn::MaskedLoad(mask, d, b + v * lanes) : hn::LoadU(d, b + v * lanes);
    SOLVENT_UNROLL
    for (int r = 0; r < ROWS; ++r) {
      const V x = hn::Set(d, a[r * a_row]);
      SOLVENT_UNROLL
      for (int v = 0; v < VECS; ++v) sum[r][v] = hn::MulAdd(x, row[v], sum[r][v]);
    }
    a += a_col;
    b += ldb;
  }
  const V alpha = hn::Set(d, call.alpha);
  const V beta = hn::Set(d, call.beta);
  const bool accumulate = call.beta != T{0};
  SOLVENT_UNROLL
  for (int r = 0; r < ROWS; ++r) {
    T* HWY_RESTRICT c = call.c + (i + r) * call.ldc + j;
    SOLVENT_UNROLL
    for (int v = 0; v < VECS; ++v) {
      V result = hn::Mul(alpha, sum[r][v]);
      if (TAIL && v == VECS - 1) {
        if (accumulate) result = hn::MulAdd(beta, hn::MaskedLoad(mask, d, c + v * lanes), result);
        store_first(d, result, last, c + v * lanes);
      } else {
        if (accumulate) result = hn::MulAdd(beta, hn::LoadU(d, c + v * lanes), result);
        hn::StoreU(result, d, c + v * lanes);
      }
    }
  }
}

template <int VECS, bool TAIL, class T>
HWY_INLINE void tile_rows(const GemmCall<T>& call, int rows, std::int64_t i, std::int64_t j, const T* b,
                          std::int64_t ldb, std::int64_t last) {
  switch (rows) {
    case 1: return tile<1, VECS, TAIL>(call, i, j, b, ldb, last);
    case 2: return tile<2, VECS, TAIL>(call, i, j, b, ldb, last);
    case 3: return tile<3, VECS, TAIL>(call, i, j, b, ldb, last);
    case 4: return tile<4, VECS, TAIL>(call, i, j, b, ldb, last);
    case 5: return tile<5, VECS, TAIL>(call, i, j, b, ldb, last);
    case 6: return tile<6, VECS, TAIL>(call, i, j, b, ldb, last);
#if HWY_TARGET <= HWY_AVX3
    case 7: return tile<7, VECS, TAIL>(call, i, j, b, ldb, last);
    case 8: return tile<8, VECS, TAIL>(call, i, j, b, ldb, last);
#endif
    default: return;
  }
}

// All rows of the columns j .. j + width - 1, width <= 2 vectors.
template <class T>
HWY_NOINLINE void column_panel(const GemmCall<T>& call, std::int64_t j, std::int64_t width, const T* b,
                               std::int64_t ldb) {
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(hn::ScalableTag<T>()));
  const int vectors = width > lanes ? 2 : 1;
  const std::int64_t last = width - (vectors - 1) * lanes;
  std::int64_t i = 0;
  for (std::int64_t chunks = (call.m + kRows - 1) / kRows; chunks > 0; --chunks) {
    const std::int64_t left = call.m - i;  // split evenly; the common short cases without a division
    const auto rows = static_cast<int>(chunks == 1 ? left : left >= 4 * kRows ? kRows : (left + chunks - 1) / chunks);
    if (vectors == 2) {
      if (last == lanes)
        tile_rows<2, false>(call, rows, i, j, b, ldb, last);
      else
        tile_rows<2, true>(call, rows, i, j, b, ldb, last);
    } else if (last == lanes) {
      tile_rows<1, false>(call, rows, i, j, b, ldb, last);
    } else {
      tile_rows<1, true>(call, rows, i, j, b, ldb, last);
    }
    i += rows;
  }
}

// One or two rows: wide tiles, so that enough sums are in flight.
template <int ROWS, int VECS, class T>
HWY_INLINE std::int64_t wide_tiles(const GemmCall<T>& call) {
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(hn::ScalableTag<T>()));
  std::int64_t j = 0;
  for (; j + VECS * lanes <= call.n; j += VECS * lanes)
    tile<ROWS, VECS, false>(call, 0, j, call.b + j, call.b_row, lanes);
  return j;
}

// B with contiguous columns, read where it is.
template <class T>
HWY_NOINLINE void gemm_in_place(const GemmCall<T>& call) {
  const std::int64_t panel = 2 * static_cast<std::int64_t>(hn::Lanes(hn::ScalableTag<T>()));
  std::int64_t j = 0;
  if (call.m == 1)
    j = wide_tiles<1, 8>(call);
  else if (call.m == 2)
    j = wide_tiles<2, 4>(call);
  for (; j < call.n; j += panel) column_panel(call, j, std::min(panel, call.n - j), call.b + j, call.b_row);
}

#if HWY_TARGET != HWY_SCALAR
// One 128-bit block each `stride` elements.
template <class D, class T>
HWY_INLINE hn::Vec<D> load_blocks(D d, const T* HWY_RESTRICT p, std::int64_t stride) {
  constexpr std::int64_t kBlock = 16 / sizeof(T);
  if constexpr (hn::MaxLanes(D()) <= kBlock) {
    return hn::LoadU(d, p);
  } else {
    const hn::Half<D> half;
    constexpr std::int64_t kBlocks = static_cast<std::int64_t>(hn::MaxLanes(half)) / kBlock;
    return hn::Combine(d, load_blocks(half, p + kBlocks * stride, stride), load_blocks(half, p, stride));
  }
}

// As many columns as `D` has lanes, from `b` (row stride 1) to whole rows of `to`. Returns how many rows were done.
template <class D, class T = hn::TFromD<D>>
HWY_INLINE std::int64_t transpose_columns(D d, const T* HWY_RESTRICT b, std::int64_t b_col, std::int64_t depth,
                                          T* HWY_RESTRICT to, std::int64_t ld) {
  constexpr std::int64_t kBlock = 16 / sizeof(T);
  std::int64_t p = 0;
  for (; p + kBlock <= depth; p += kBlock, b += kBlock, to += kBlock * ld) {
    const auto block = [=](std::int64_t q) HWY_ATTR { return load_blocks(d, b + q * b_col, kBlock * b_col); };
    if constexpr (sizeof(T) == 4) {
      const hn::RepartitionToWide<D> wide;
      const auto r0 = block(0), r1 = block(1), r2 = block(2), r3 = block(3);
      const auto x = hn::BitCast(wide, hn::InterleaveLower(d, r0, r1));
      const auto y = hn::BitCast(wide, hn::InterleaveLower(d, r2, r3));
      const auto z = hn::BitCast(wide, hn::InterleaveUpper(d, r0, r1));
      const auto w = hn::BitCast(wide, hn::InterleaveUpper(d, r2, r3));
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(wide, x, y)), d, to);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(wide, x, y)), d, to + ld);
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(wide, z, w)), d, to + 2 * ld);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(wide, z, w)), d, to + 3 * ld);
    } else {
      const auto r0 = block(0), r1 = block(1);
      hn::StoreU(hn::InterleaveLower(d, r0, r1), d, to);
      hn::StoreU(hn::InterleaveUpper(d, r0, r1), d, to + ld);
    }
  }
  return p;
}
#endif

// Rows p of a panel from columns of `b` (row stride 1): a vector of columns at a time, then 128 bits, the rest one by one.
template <class T>
HWY_INLINE void pack_transposed(const T* HWY_RESTRICT b, std::int64_t b_col, std::int64_t depth, std::int64_t width,
                                T* HWY_RESTRICT to, std::int64_t ld) {
  std::int64_t j = 0;
#if HWY_TARGET != HWY_SCALAR
  const auto by_columns = [&](auto d) HWY_ATTR {
    const auto columns = static_cast<std::int64_t>(hn::Lanes(d));
    for (; j + columns <= width; j += columns) {
      const std::int64_t done = transpose_columns(d, b + j * b_col, b_col, depth, to + j, ld);
      for (std::int64_t p = done; p < depth; ++p)
        for (std::int64_t q = j; q < j + columns; ++q) to[p * ld + q] = b[q * b_col + p];
    }
  };
  by_columns(hn::ScalableTag<T>());
  by_columns(hn::CappedTag<T, 16 / sizeof(T)>());
#endif
  for (; j < width; ++j)
    for (std::int64_t p = 0; p < depth; ++p) to[p * ld + j] = b[j * b_col + p];
}

// op(B)[0 .. depth)[0 .. width) into panels of `panel` columns: panel q starts at to + q * depth * panel.
template <class T>
HWY_NOINLINE void pack(const T* b, std::int64_t b_row, std::int64_t b_col, std::int64_t depth, std::int64_t width,
                       std::int64_t panel, T* to) {
  constexpr std::int64_t kGroup = 4;  // panels filled together: pieces of rows long enough for the prefetchers
  std::int64_t j = 0;
  if (b_col == 1 && b_row != 1) {
    const auto bytes = static_cast<std::size_t>(panel) * sizeof(T);
    for (; j + kGroup * panel <= width; j += kGroup * panel, to += kGroup * depth * panel)
      for (std::int64_t p = 0; p < depth; ++p)
        for (std::int64_t q = 0; q < kGroup; ++q)
          std::memcpy(to + (q * depth + p) * panel, b + p * b_row + j + q * panel, bytes);
  }
  for (; j < width; j += panel, to += depth * panel) {
    const std::int64_t columns = std::min(panel, width - j);
    const T* from = b + j * b_col;
    if (b_row == 1) {
      pack_transposed(from, b_col, depth, columns, to, panel);
    } else {
      for (std::int64_t p = 0; p < depth; ++p)
        for (std::int64_t q = 0; q < columns; ++q) to[p * panel + q] = from[p * b_row + q * b_col];
    }
  }
}

template <class T>
HWY_INLINE void gemm_packed_panels(const GemmCall<T>& call, const T* packed, std::int64_t panel) {
  for (std::int64_t j = 0; j < call.n; j += panel)
    column_panel(call, j, std::min(panel, call.n - j), packed + j * call.k, panel);
}

// Any sizes: blocks of k (outer) by blocks of columns, each packed once and used for all rows.
template <class T>
HWY_NOINLINE void gemm_packed(const GemmCall<T>& call) {
  constexpr std::int64_t kElements = kPackBytes / static_cast<std::int64_t>(sizeof(T));
  HWY_ALIGN T packed[kElements];
  const std::int64_t panel = 2 * static_cast<std::int64_t>(hn::Lanes(hn::ScalableTag<T>()));
  const std::int64_t depth = std::min(call.k, kPackedDepth);
  const std::int64_t width = kElements / depth / panel * panel;
  for (std::int64_t p = 0; p < call.k; p += depth) {
    GemmCall<T> block = call;
    block.k = std::min(depth, call.k - p);
    block.a = call.a + p * call.a_col;
    if (p > 0) block.beta = T{1};
    for (std::int64_t j = 0; j < call.n; j += width) {
      block.n = std::min(width, call.n - j);
      block.c = call.c + j;
      pack(call.b + p * call.b_row + j * call.b_col, call.b_row, call.b_col, block.k, block.n, panel, packed);
      gemm_packed_panels(block, packed, panel);
    }
  }
}

// One column, rows of A contiguous: dot products, four rows at a time.
template <class T>
HWY_INLINE void matrix_vector(const GemmCall<T>& call) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const T* HWY_RESTRICT x = call.b;
  for (std::int64_t i = 0; i < call.m; i += 4) {
    const std::int64_t rows = std::min<std::int64_t>(4, call.m - i);
    const T* a[4];
    for (std::int64_t r = 0; r < 4; ++r) a[r] = call.a + std::min(i + r, call.m - 1) * call.a_row;
    V sum[4][2];
    SOLVENT_UNROLL
    for (int r = 0; r < 4; ++r) sum[r][0] = sum[r][1] = hn::Zero(d);
    std::int64_t p = 0;
    for (; p + 2 * lanes <= call.k; p += 2 * lanes) {
      SOLVENT_UNROLL
      for (int r = 0; r < 4; ++r) {
        sum[r][0] = hn::MulAdd(hn::LoadU(d, a[r] + p), hn::LoadU(d, x + p), sum[r][0]);
        sum[r][1] = hn::MulAdd(hn::LoadU(d, a[r] + p + lanes), hn::LoadU(d, x + p + lanes), sum[r][1]);
      }
    }
    for (; p < call.k; p += lanes) {
      const auto mask = hn::FirstN(d, static_cast<std::size_t>(std::min(lanes, call.k - p)));
      SOLVENT_UNROLL
      for (int r = 0; r < 4; ++r)
        sum[r][0] = hn::MulAdd(hn::MaskedLoad(mask, d, a[r] + p), hn::MaskedLoad(mask, d, x + p), sum[r][0]);
    }
    for (std::int64_t r = 0; r < rows; ++r) {
      const T dot = hn::GetLane(hn::SumOfLanes(d, hn::Add(sum[r][0], sum[r][1])));
      T& c = call.c[(i + r) * call.ldc];
      c = call.beta == T{0} ? call.alpha * dot : call.alpha * dot + call.beta * c;
    }
  }
}

// B does not have to be packed: its rows are vectors, and it is small or used for few rows only.
template <class T>
HWY_INLINE bool is_in_place(const GemmCall<T>& call) {
  return call.b_col == 1 &&
         (call.m <= 3 || call.k * call.b_row * static_cast<std::int64_t>(sizeof(T)) <= kInPlaceBytes);
}

template <class T>
HWY_INLINE void gemm_any(const GemmCall<T>& call) {
  if (call.n == 1 && call.a_col == 1 && (call.b_row == 1 || call.k == 1)) return matrix_vector(call);
  if (call.n == 1 && call.a_row == 1 && call.ldc == 1) {  // c^T = b^T A^T, whose right operand has contiguous rows
    GemmCall<T> swapped = call;
    std::swap(swapped.m, swapped.n);
    swapped.a = call.b;
    swapped.a_row = call.b_col;
    swapped.a_col = call.b_row;
    swapped.b = call.a;
    swapped.b_row = call.a_col;
    swapped.b_col = 1;
    swapped.ldc = call.m;
    return gemm_in_place(swapped);
  }
  if (is_in_place(call)) return gemm_in_place(call);
  gemm_packed(call);
}

// The whole of op(B), packed once, serves all products.
template <class T>
HWY_NOINLINE void batch_shared_packed(const GemmCall<T>& first, std::int64_t stride_a, std::int64_t stride_c,
                                      std::int64_t batch) {
  HWY_ALIGN T packed[kPackBytes / sizeof(T)];
  const std::int64_t panel = 2 * static_cast<std::int64_t>(hn::Lanes(hn::ScalableTag<T>()));
  pack(first.b, first.b_row, first.b_col, first.k, first.n, panel, packed);
  GemmCall<T> call = first;
  for (std::int64_t i = 0; i < batch; ++i, call.a += stride_a, call.c += stride_c)
    gemm_packed_panels(call, packed, panel);
}

template <class T>
HWY_INLINE void gemm_batch(const GemmCall<T>& first, std::int64_t stride_a, std::int64_t stride_b,
                           std::int64_t stride_c, std::int64_t batch) {
  const std::int64_t panel = 2 * static_cast<std::int64_t>(hn::Lanes(hn::ScalableTag<T>()));
  const std::int64_t padded = (first.n + panel - 1) / panel * panel;
  if (batch > 1 && stride_b == 0 && first.n > 1 && !is_in_place(first) &&
      first.k * padded * static_cast<std::int64_t>(sizeof(T)) <= kPackBytes)
    return batch_shared_packed(first, stride_a, stride_c, batch);
  GemmCall<T> call = first;
  for (std::int64_t i = 0; i < batch; ++i, call.a += stride_a, call.b += stride_b, call.c += stride_c) gemm_any(call);
}

template <class T>
void batch_entry(const GemmCall<T>& first, std::int64_t stride_a, std::int64_t stride_b, std::int64_t stride_c,
                 std::int64_t batch) {
  gemm_batch(first, stride_a, stride_b, stride_c, batch);
}

template <class T>
void pack_entry(const T* b, std::int64_t b_row, std::int64_t b_col, std::int64_t k, std::int64_t n, T* to) {
  pack(b, b_row, b_col, k, n, 2 * static_cast<std::int64_t>(hn::Lanes(hn::ScalableTag<T>())), to);
}

template <class T>
void multiply_entry(const GemmCall<T>& call, const T* packed) {
  gemm_packed_panels(call, packed, 2 * static_cast<std::int64_t>(hn::Lanes(hn::ScalableTag<T>())));
}

template <class T>
GemmKernels<T> make_kernels() {
  return {batch_entry<T>, pack_entry<T>, multiply_entry<T>,
          2 * static_cast<std::int64_t>(hn::Lanes(hn::ScalableTag<T>()))};
}

GemmKernels<float> kernels_f32() { return make_kernels<float>(); }
GemmKernels<double> kernels_f64() { return make_kernels<double>(); }

}  // namespace
}  // namespace solvent::engine::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace solvent::engine {

HWY_EXPORT(kernels_f32);
HWY_EXPORT(kernels_f64);

const GemmKernels<float>& gemm_kernels(float) noexcept {
  static const GemmKernels<float> kernels = HWY_DYNAMIC_DISPATCH(kernels_f32)();
  return kernels;
}

const GemmKernels<double>& gemm_kernels(double) noexcept {
  static const GemmKernels<double> kernels = HWY_DYNAMIC_DISPATCH(kernels_f64)();
  return kernels;
}

}  // namespace solvent::engine
#endif
