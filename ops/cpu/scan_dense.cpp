// Dense affine scans: h_t = A_t h_{t-1} + b_t with n x n matrices, rows (T, B, n, n).
//
// Four ways, chosen by sizes only:
// - n <= 4, many sequences: lane = sequence. Matrices are transposed in registers, four elements of all lanes at a time,
//   so that A and A^T both become FMAs without broadcasts.
// - n <= 4, few sequences with right-hand sides: lane = right-hand side, A's elements are broadcast.
// - n <= 4, a lone sequence of 4096 steps or more: lane = chunk of time, in three phases (chunk products, carry over
//   chunks, replay). Larger matrices are not worth their n^3 products on a CPU.
// - n > 4: one matrix-vector product per step and sequence; rows of A are reduced eight at a time by a tree of
//   interleaved additions, A^T is a sum of columns. Several sequences are interleaved to hide the latency. Few sequences
//   are not shared out: threads take turns at tiles of time (time_pipeline.h).
// The first two perform the same operations in the same order (one FMA chain over k from b) and the last one does not
// look at other sequences, so a sequence has the same bits in any batch, except a long lone one.
// Threads take groups of neighbouring sequences. Traffic: A, b read once and h written once (A twice if lone).

#include "solvent/ops/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "solvent/ops/cpu/scan_dense.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>

#include "hwy/aligned_allocator.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/cpu/scan_kernels.h"
#include "solvent/ops/cpu/scan_lanes-inl.h"
#include "solvent/ops/cpu/time_pipeline.h"

HWY_BEFORE_NAMESPACE();
namespace solvent::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

inline constexpr std::size_t kLaneLimit = 4;  // largest n of the lane kernels

/// Matrices of one step that are too few bytes to be shared out among threads: tiles of time take turns instead.
inline constexpr std::size_t kPipelineRow = 64 << 10;
inline constexpr std::size_t kPipelineTile = 512 << 10;  ///< bytes of matrices: half of a second-level cache

/// At most 256 bits: wider lanes gain nothing where memory sets the pace, and 16 sequences make two tasks.
template <class T>
using Tag = hn::CappedTag<T, 32 / sizeof(T)>;

template <class T>
inline constexpr std::size_t kWidth = hn::MaxLanes(Tag<T>());

template <class T>
using Aligned = hwy::AlignedFreeUniquePtr<T[]>;

template <class T>
Aligned<T> aligned(std::size_t count) {
  Aligned<T> memory = hwy::AllocateAligned<T>(count == 0 ? 1 : count);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

/// The scan with sizes as std::size_t and address arithmetic.
template <class T>
struct Scan {
  std::size_t steps, batch, n, lead;
  bool reversed, transposed, shift_a;
  const T* a;
  const T* b;
  const T* h0;
  T* h;

  std::size_t time(std::size_t i) const { return reversed ? steps - 1 - i : i; }
  /// Matrix of step t, sequence s.
  const T* matrix(std::size_t t, std::size_t s) const { return a + ((shift_a ? t + 1 : t) * batch + s) * n * n; }
  std::size_t row(std::size_t l, std::size_t t, std::size_t s) const { return ((l * steps + t) * batch + s) * n; }
  const T* initial(std::size_t l, std::size_t s) const {
    return h0 == nullptr || shift_a ? nullptr : h0 + (l * batch + s) * n;
  }
};

/// acc[i] += sum_k A[i][k] h[k] for kRows consecutive i; element(i, k) gives the vector of A.
template <std::size_t kRows, class D, class T, class Element>
HWY_INLINE void multiply_tile(D d, std::size_t n, std::size_t i0, const T* h, T* acc, Element element) {
  using V = hn::Vec<D>;
  constexpr std::size_t N = hn::MaxLanes(D());
  V sum[kRows];
  HWY_UNROLL(4)
  for (std::size_t i = 0; i < kRows; ++i) sum[i] = hn::Load(d, acc + (i0 + i) * N);
  for (std::size_t k = 0; k < n; ++k) {
    const V hk = hn::Load(d, h + k * N);
    HWY_UNROLL(4)
    for (std::size_t i = 0; i < kRows; ++i) sum[i] = hn::MulAdd(element(i0 + i, k), hk, sum[i]);
  }
  HWY_UNROLL(4)
  for (std::size_t i = 0; i < kRows; ++i) hn::Store(sum[i], d, acc + (i0 + i) * N);
}

template <class D, class T, class Element>
HWY_INLINE void multiply(D d, std::size_t n, const T* h, T* acc, Element element) {
  std::size_t i = 0;
  for (; i + 4 <= n; i += 4) multiply_tile<4>(d, n, i, h, acc, element);
  for (; i < n; ++i) multiply_tile<1>(d, n, i, h, acc, element);
}

// ---- lane = sequence -----------------------------------------------------------------------------------------------
// Blocks of N neighbouring sequences, all lanes in use. State of a block: (lead, n, N).

template <class T>
void start_block(const Scan<T>& x, std::size_t s0, T* state) {
  for (std::size_t l = 0; l < x.lead; ++l) {
    const T* from = x.initial(l, s0);
    T* to = state + l * x.n * kWidth<T>;
    if (from == nullptr) {
      std::memset(to, 0, x.n * kWidth<T> * sizeof(T));
    } else {
      load_lanes(Tag<T>(), from, static_cast<std::ptrdiff_t>(x.n), x.n, kWidth<T>, to);
    }
  }
}

/// The step without a matrix: h = b.
template <class T>
void first_step(const Scan<T>& x, std::size_t t, std::size_t s0, T* state) {
  for (std::size_t l = 0; l < x.lead; ++l) {
    const std::size_t row = x.row(l, t, s0);
    T* h = state + l * x.n * kWidth<T>;
    load_lanes(Tag<T>(), x.b + row, static_cast<std::ptrdiff_t>(x.n), x.n, kWidth<T>, h);
    store_lanes(Tag<T>(), h, x.h + row, static_cast<std::ptrdiff_t>(x.n), x.n, kWidth<T>);
  }
}

/// One step of one block, any n. `scratch` holds acc (n, N) and A (n*n, N).
template <class T>
HWY_INLINE void general_step(const Scan<T>& x, std::size_t t, std::size_t s0, T* state, T* scratch) {
  const Tag<T> d;
  constexpr std::size_t N = kWidth<T>;
  const std::size_t n = x.n;
  T* acc = scratch;
  T* a = scratch + n * N;
  load_lanes(d, x.matrix(t, s0), static_cast<std::ptrdiff_t>(n * n), n * n, N, a);
  for (std::size_t l = 0; l < x.lead; ++l) {
    const std::size_t row = x.row(l, t, s0);
    T* h = state + l * n * N;
    load_lanes(d, x.b + row, static_cast<std::ptrdiff_t>(n), n, N, acc);
    if (x.transposed) {
      multiply(d, n, h, acc, [&](std::size_t i, std::size_t k) HWY_ATTR { return hn::Load(d, a + (k * n + i) * N); });
    } else {
      multiply(d, n, h, acc, [&](std::size_t i, std::size_t k) HWY_ATTR { return hn::Load(d, a + (i * n + k) * N); });
    }
    std::memcpy(h, acc, n * N * sizeof(T));
    store_lanes(d, acc, x.h + row, static_cast<std::ptrdiff_t>(n), n, N);
  }
}

/// b or h of neighbouring sequences, n = 2..4: contiguous, so vectors only have to be interleaved.
template <std::size_t kN, class D, class T, class V>
HWY_INLINE void load_interleaved(D d, const T* p, V* v) {
  if constexpr (kN == 2) hn::LoadInterleaved2(d, p, v[0], v[1]);
  if constexpr (kN == 3) hn::LoadInterleaved3(d, p, v[0], v[1], v[2]);
  if constexpr (kN == 4) hn::LoadInterleaved4(d, p, v[0], v[1], v[2], v[3]);
}

template <std::size_t kN, class D, class T, class V>
HWY_INLINE void store_interleaved(D d, const V* v, T* p) {
  if constexpr (kN == 2) hn::StoreInterleaved2(v[0], v[1], d, p);
  if constexpr (kN == 3) hn::StoreInterleaved3(v[0], v[1], v[2], d, p);
  if constexpr (kN == 4) hn::StoreInterleaved4(v[0], v[1], v[2], v[3], d, p);
}

/// One step of one block with lead = 1 and n = kN: everything in registers but the state.
template <std::size_t kN, bool kTransposed, class T>
HWY_INLINE void small_step(const T* a, const T* b, T* h_out, T* state) {
  const Tag<T> d;
  constexpr std::size_t N = kWidth<T>;
  using V = hn::Vec<Tag<T>>;
  V acc[kN], h[kN], m[12];
  load_interleaved<kN>(d, b, acc);
  HWY_UNROLL(4)
  for (std::size_t k = 0; k < kN; ++k) h[k] = hn::Load(d, state + k * N);
  if constexpr (kN == 4) {  // row by row: 16 vectors would not fit the registers
    HWY_UNROLL(4)
    for (std::size_t i = 0; i < 4; ++i) {
      load_four(d, a + i * 4, 16, m);
      HWY_UNROLL(4)
      for (std::size_t k = 0; k < 4; ++k) {
        V& sum = acc[kTransposed ? k : i];
        sum = hn::MulAdd(m[k], h[kTransposed ? i : k], sum);
      }
    }
  } else {
    load_four(d, a, kN * kN, m);
    if constexpr (kN == 3) {
      load_four(d, a + 4, 9, m + 4);
      load_four(d, a + 5, 9, m + 5);  // overlaps: brings element 8
    }
    HWY_UNROLL(3)
    for (std::size_t i = 0; i < kN; ++i) {
      HWY_UNROLL(3)
      for (std::size_t k = 0; k < kN; ++k) acc[i] = hn::MulAdd(m[kTransposed ? k * kN + i : i * kN + k], h[k], acc[i]);
    }
  }
  HWY_UNROLL(4)
  for (std::size_t k = 0; k < kN; ++k) hn::Store(acc[k], d, state + k * N);
  store_interleaved<kN>(d, acc, h_out);
}

/// Steps [i0, steps) of blocks [g0, g1): time outside, blocks inside, so that memory is read in address order.
template <std::size_t kN, bool kTransposed, class T>
void small_blocks(const Scan<T>& x, std::size_t i0, std::size_t g0, std::size_t g1, T* states) {
  constexpr std::size_t N = kWidth<T>;
  for (std::size_t i = i0; i < x.steps; ++i) {
    const std::size_t t = x.time(i), s0 = g0 * N, row = x.row(0, t, s0);
    const T* a = x.matrix(t, s0);
    for (std::size_t g = 0; g < g1 - g0; ++g) {
      small_step<kN, kTransposed>(a + g * N * kN * kN, x.b + row + g * N * kN, x.h + row + g * N * kN,
                                  states + g * kN * N);
    }
  }
}

/// Blocks [g0, g1) over all steps; `scratch` holds their states, then the scratch of `general_step`.
template <class T>
void sequence_blocks(const Scan<T>& x, std::size_t g0, std::size_t g1, T* scratch) {
  constexpr std::size_t N = kWidth<T>;
  const std::size_t state_size = x.lead * x.n * N;
  T* temporary = scratch + (g1 - g0) * state_size;
  for (std::size_t g = g0; g < g1; ++g) start_block(x, g * N, scratch + (g - g0) * state_size);
  std::size_t i0 = 0;
  if (x.shift_a) {
    for (std::size_t g = g0; g < g1; ++g) first_step(x, x.time(0), g * N, scratch + (g - g0) * state_size);
    i0 = 1;
  }
  if (x.lead == 1 && x.n <= 4) {
    const auto run = [&](auto n) {
      constexpr std::size_t kN = decltype(n)::value;
      x.transposed ? small_blocks<kN, true>(x, i0, g0, g1, scratch) : small_blocks<kN, false>(x, i0, g0, g1, scratch);
    };
    if (x.n == 2) run(std::integral_constant<std::size_t, 2>());
    if (x.n == 3) run(std::integral_constant<std::size_t, 3>());
    if (x.n == 4) run(std::integral_constant<std::size_t, 4>());
    return;
  }
  for (std::size_t i = i0; i < x.steps; ++i) {
    const std::size_t t = x.time(i);
    for (std::size_t g = g0; g < g1; ++g) {
      general_step(x, t, g * N, scratch + (g - g0) * state_size, temporary);
    }
  }
}

// ---- lane = right-hand side ----------------------------------------------------------------------------------------

/// One sequence, A's elements broadcast. Scratch: state (blocks of lead, n, N) and acc (n, N). With a one-lane tag this
/// is the scalar form for left-over sequences.
template <class D, class T>
void lead_lanes(D d, const Scan<T>& x, std::size_t s, T* scratch) {
  constexpr std::size_t N = hn::MaxLanes(D());
  const std::size_t n = x.n, blocks = (x.lead + N - 1) / N;
  const std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(x.steps * x.batch * n);
  const auto valid = [&](std::size_t block) { return std::min(N, x.lead - block * N); };
  T* acc = scratch + blocks * n * N;
  for (std::size_t block = 0; block < blocks; ++block) {
    T* state = scratch + block * n * N;
    const T* from = x.initial(block * N, s);
    if (from == nullptr) {
      std::memset(state, 0, n * N * sizeof(T));
    } else {
      load_lanes(d, from, static_cast<std::ptrdiff_t>(x.batch * n), n, valid(block), state);
    }
  }
  for (std::size_t i = 0; i < x.steps; ++i) {
    const std::size_t t = x.time(i);
    const T* a = x.matrix(t, s);
    for (std::size_t block = 0; block < blocks; ++block) {
      T* state = scratch + block * n * N;
      const std::size_t row = x.row(block * N, t, s);
      load_lanes(d, x.b + row, stride, n, valid(block), acc);
      if (i == 0 && x.shift_a) {
        // h = b: no matrix enters the first step
      } else if (x.transposed) {
        multiply(d, n, state, acc, [&](std::size_t i2, std::size_t k) HWY_ATTR { return hn::Set(d, a[k * n + i2]); });
      } else {
        multiply(d, n, state, acc, [&](std::size_t i2, std::size_t k) HWY_ATTR { return hn::Set(d, a[i2 * n + k]); });
      }
      std::memcpy(state, acc, n * N * sizeof(T));
      store_lanes(d, acc, x.h + row, stride, n, valid(block));
    }
  }
}

/// Indices per task: one unit, or all of them when the whole scan is too short to be worth waking threads.
template <class T>
std::int64_t task_grain(const Scan<T>& x, std::size_t units, std::size_t unit) {
  const std::size_t work = x.steps * x.batch * x.lead * x.n * x.n;
  return static_cast<std::int64_t>(work < 100000 ? std::max<std::size_t>(units, 1) : unit);
}

/// Whole blocks of sequences go to lanes; left-over sequences one by one, over their right-hand sides.
template <class T>
void scan_lanes(const Scan<T>& x) {
  constexpr std::size_t N = kWidth<T>;
  const std::size_t blocks = x.lead > x.batch && x.batch < 2 * N ? 0 : x.batch / N;
  const std::size_t rest = x.batch - blocks * N;
  // Blocks of a task: pieces of rows of 4 KB, for the prefetcher; shorter ones, down to 512 bytes, to have two tasks.
  const std::size_t block_bytes = N * x.n * x.n * sizeof(T);
  const std::size_t long_pieces = std::clamp<std::size_t>(4096 / block_bytes, 1, 32);
  const std::size_t short_pieces = std::clamp<std::size_t>(512 / block_bytes, 1, 32);
  const std::size_t group = std::min(long_pieces, std::max(short_pieces, (blocks + 1) / 2));
  const std::size_t block_size = x.lead * x.n * N;
  const std::size_t group_size = group * block_size + (x.n + x.n * x.n) * N;
  const std::size_t groups = (blocks + group - 1) / group;
  const std::size_t lead_size = ((x.lead + N - 1) / N + 1) * x.n * N;
  const Aligned<T> scratch = aligned<T>(groups * group_size + rest * lead_size);
  parallel_for(
      static_cast<std::int64_t>(groups + rest), task_grain(x, groups + rest, 1),
      [&](std::int64_t begin, std::int64_t end) {
        for (std::size_t task = static_cast<std::size_t>(begin); task < static_cast<std::size_t>(end); ++task) {
          if (task < groups) {
            sequence_blocks(x, task * group, std::min(blocks, (task + 1) * group), scratch.get() + task * group_size);
            continue;
          }
          T* own = scratch.get() + groups * group_size + (task - groups) * lead_size;
          const std::size_t s = blocks * N + task - groups;
          x.lead < 4 ? lead_lanes(hn::CappedTag<T, 1>(), x, s, own) : lead_lanes(Tag<T>(), x, s, own);
        }
      });
}

// ---- one product per step and sequence -----------------------------------------------------------------------------

/// At most 256 bits: wide enough for n > 4, and the reduction tree has one shape.
template <class T>
using RowTag = hn::CappedTag<T, 32 / sizeof(T)>;

template <class T>
inline constexpr std::size_t kRowLanes = hn::MaxLanes(RowTag<T>());

/// Lane i of the result is the sum of the lanes of p[i]; p has as many vectors as lanes.
template <class T, class D = RowTag<T>, class V = hn::Vec<D>>
HWY_INLINE V sum_each(D d, V* p) {
#if HWY_TARGET == HWY_SCALAR
  (void)d;
  return p[0];
#else
  constexpr std::size_t N = kRowLanes<T>;
  HWY_UNROLL(4)
  for (std::size_t i = 0; i < N / 2; ++i) {
    p[i] = hn::Add(hn::InterleaveLower(d, p[2 * i], p[2 * i + 1]), hn::InterleaveUpper(d, p[2 * i], p[2 * i + 1]));
  }
  if constexpr (sizeof(T) == 4) {
    const hn::RepartitionToWide<D> dw;
    HWY_UNROLL(2)
    for (std::size_t i = 0; i < N / 4; ++i) {
      const auto u = hn::BitCast(dw, p[2 * i]), v = hn::BitCast(dw, p[2 * i + 1]);
      p[i] = hn::Add(hn::BitCast(d, hn::InterleaveLower(dw, u, v)), hn::BitCast(d, hn::InterleaveUpper(dw, u, v)));
    }
  }
  if constexpr (N * sizeof(T) == 16) return p[0];
  return hn::Add(hn::ConcatLowerLower(d, p[1], p[0]), hn::ConcatUpperUpper(d, p[1], p[0]));
#endif
}

/// The first `count` elements, then zeros; `count` may exceed the vector.
template <class T, class D = RowTag<T>>
HWY_INLINE hn::Vec<D> load_first(D d, const T* p, std::size_t count) {
  constexpr std::size_t N = kRowLanes<T>;
  if (count >= N) return hn::LoadU(d, p);
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2
  return hn::MaskedLoad(hn::FirstN(d, count), d, p);  // these targets do not touch memory outside the mask
#else
  HWY_ALIGN T buffer[N] = {};
  for (std::size_t i = 0; i < count; ++i) buffer[i] = p[i];
  return hn::Load(d, buffer);
#endif
}

/// One row's tail beyond whole vectors. Reading a whole vector that ends at the row's end, with the elements counted
/// already replaced by zeros, keeps NaN and infinity of the neighbouring elements out of the sum.
template <class T, class D = RowTag<T>>
HWY_INLINE hn::Vec<D> load_tail(D d, const T* row_end, std::size_t rest) {
  constexpr std::size_t N = kRowLanes<T>;
  const auto v = hn::LoadU(d, row_end - N);
  return hn::IfThenZeroElse(hn::FirstN(d, N - rest), v);
}

template <class T, class D = RowTag<T>>
HWY_INLINE void store_first(D d, hn::Vec<D> v, T* p, std::size_t count) {
  constexpr std::size_t N = kRowLanes<T>;
  if (count >= N) return hn::StoreU(v, d, p);
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2
  hn::BlendedStore(v, hn::FirstN(d, count), d, p);
#else
  HWY_ALIGN T buffer[N];
  hn::Store(v, d, buffer);
  for (std::size_t i = 0; i < count; ++i) p[i] = buffer[i];
#endif
}

/// p[r] = sum over k of A[r][k] h[k], lane by lane, for kRows rows.
template <std::size_t kRows, class T, class V>
HWY_INLINE void multiply_rows(const T* HWY_RESTRICT a, std::size_t n, const T* h, V* p) {
  const RowTag<T> d;
  constexpr std::size_t N = kRowLanes<T>;
  const std::size_t whole = n / N * N, rest = n - whole;
  for (std::size_t k = 0; k < whole; k += N) {
    const V hk = hn::LoadU(d, h + k);
    HWY_UNROLL(8)
    for (std::size_t r = 0; r < kRows; ++r) p[r] = hn::MulAdd(hn::LoadU(d, a + r * n + k), hk, p[r]);
  }
  if (rest == 0) return;
  if (whole == 0) {  // rows shorter than a vector (float, n = 5..7)
    const V hk = load_first(d, h, n);
    HWY_UNROLL(8)
    for (std::size_t r = 0; r < kRows; ++r) p[r] = hn::Mul(load_first(d, a + r * n, n), hk);
    return;
  }
  const V hk = load_tail(d, h + n, rest);
  HWY_UNROLL(8)
  for (std::size_t r = 0; r < kRows; ++r) p[r] = hn::MulAdd(load_tail(d, a + (r + 1) * n, rest), hk, p[r]);
}

/// out[0..kRows) = b + A h for kRows <= N rows; out may be b.
template <std::size_t kRows, class T>
HWY_INLINE void dot_tile(const T* a, std::size_t n, const T* h, const T* b, T* out) {
  const RowTag<T> d;
  constexpr std::size_t N = kRowLanes<T>;
  hn::Vec<RowTag<T>> p[N];
  HWY_UNROLL(8)
  for (std::size_t r = 0; r < N; ++r) p[r] = hn::Zero(d);
  multiply_rows<kRows>(a, n, h, p);
  store_first(d, hn::Add(load_first(d, b, kRows), sum_each<T>(d, p)), out, kRows);
}

/// The last n % N rows.
template <std::size_t kRows, class T>
HWY_INLINE void dot_rest(const T* a, std::size_t n, std::size_t rows, const T* h, const T* b, T* out) {
  if constexpr (kRows > 0) {
    if (rows == kRows) return dot_tile<kRows>(a, n, h, b, out);
    dot_rest<kRows - 1>(a, n, rows, h, b, out);
  }
}

/// out = b + A h for one sequence, n > 4; out may be b.
template <class T>
HWY_INLINE void dot_product_rows(const T* a, std::size_t n, const T* h, const T* b, T* out) {
  constexpr std::size_t N = kRowLanes<T>;
  std::size_t i = 0;
  for (; i + N <= n; i += N) dot_tile<N>(a + i * n, n, h, b + i, out + i);
  if (i < n) dot_rest<N - 1>(a + i * n, n, n - i, h, b + i, out + i);
}

/// out[col..] = b + A^T h for kVectors vectors of columns.
template <std::size_t kVectors, class D, class T>
HWY_INLINE void columns(D d, const T* HWY_RESTRICT a, std::size_t n, std::size_t col, const T* HWY_RESTRICT h,
                        const T* b, T* out) {
  constexpr std::size_t N = hn::MaxLanes(D());
  hn::Vec<D> sum[kVectors];
  HWY_UNROLL(4)
  for (std::size_t v = 0; v < kVectors; ++v) sum[v] = hn::LoadU(d, b + col + v * N);
  for (std::size_t k = 0; k < n; ++k) {
    const auto hk = hn::Set(d, h[k]);
    HWY_UNROLL(4)
    for (std::size_t v = 0; v < kVectors; ++v) sum[v] = hn::MulAdd(hn::LoadU(d, a + k * n + col + v * N), hk, sum[v]);
  }
  HWY_UNROLL(4)
  for (std::size_t v = 0; v < kVectors; ++v) hn::StoreU(sum[v], d, out + col + v * N);
}

template <class T>
HWY_INLINE void column_sum(const T* a, std::size_t n, const T* h, const T* b, T* out) {
  const RowTag<T> d;
  constexpr std::size_t N = kRowLanes<T>;
  std::size_t i = 0;
  for (; i + 4 * N <= n; i += 4 * N) columns<4>(d, a, n, i, h, b, out);
  if (i + 2 * N <= n) columns<2>(d, a, n, i, h, b, out), i += 2 * N;
  if (i + N <= n) columns<1>(d, a, n, i, h, b, out), i += N;
  if constexpr (N > 4) {
    if (i + 4 <= n) columns<1>(hn::CappedTag<T, 4>(), a, n, i, h, b, out), i += 4;
  }
  for (; i < n; ++i) columns<1>(hn::CappedTag<T, 1>(), a, n, i, h, b, out);
}

/// Rows of length n that one step reads or writes for neighbouring sequences, and their copies on the leading axis.
template <class T>
struct Rows {
  T* first;
  std::size_t sequence, lead;  // strides
  HWY_INLINE T* at(std::size_t s, std::size_t l) const { return first + s * sequence + l * lead; }
};

/// Steps [i0, i1) of the sequences [s0, s1); kN is n, or 0 for any. The state is the row written one step before. `zeros`
/// (n) starts those without h0.
template <std::size_t kN, class T>
void steps_of_size(const Scan<T>& x, std::size_t s0, std::size_t s1, std::size_t i0, std::size_t i1, const T* zeros) {
  const std::size_t n = kN == 0 ? x.n : kN, size = n * n, lead_stride = x.steps * x.batch * n;
  // Small matrices of the next step are fetched early: the arithmetic between them keeps too few misses in flight.
  // Larger ones are long enough for the hardware's prefetcher.
  const bool prefetch = size * sizeof(T) <= 512 && (s1 - s0) * size * sizeof(T) <= 8192;
  Rows<const T> before{zeros, 0, 0};
  if (i0 > 0) {
    before = {x.h + x.row(0, x.time(i0 - 1), s0), n, lead_stride};
  } else if (const T* initial = x.initial(0, s0)) {
    before = {initial, n, x.batch * n};
  }
  for (std::size_t i = i0; i < i1; ++i) {
    const std::size_t t = x.time(i), row = x.row(0, t, s0);
    const Rows<const T> b{x.b + row, n, lead_stride};
    const Rows<T> h{x.h + row, n, lead_stride};
    const bool product = i > 0 || !x.shift_a;  // else h = b: no matrix enters the first step
    const T* a = product ? x.matrix(t, s0) : nullptr;
    const T* next = prefetch && i + 1 < i1 ? x.matrix(x.time(i + 1), s0) : nullptr;
    for (std::size_t s = 0; s < s1 - s0; ++s) {
      if (next != nullptr) {
        for (std::size_t offset = 0; offset < size; offset += 64 / sizeof(T)) hwy::Prefetch(next + s * size + offset);
      }
      for (std::size_t l = 0; l < x.lead; ++l) {
        if (!product) {
          std::memmove(h.at(s, l), b.at(s, l), n * sizeof(T));
        } else if (x.transposed) {
          column_sum(a + s * size, n, before.at(s, l), b.at(s, l), h.at(s, l));
        } else {
          dot_product_rows(a + s * size, n, before.at(s, l), b.at(s, l), h.at(s, l));
        }
      }
    }
    before = {h.first, n, lead_stride};
  }
}

/// The same for all n: the usual small ones unrolled, since short products would wait for loop counters.
template <class T>
void recurrence(const Scan<T>& x, std::size_t s0, std::size_t s1, std::size_t i0, std::size_t i1, const T* zeros) {
  if (x.n == 8) return steps_of_size<8>(x, s0, s1, i0, i1, zeros);
  if (x.n == 16) return steps_of_size<16>(x, s0, s1, i0, i1, zeros);
  steps_of_size<0>(x, s0, s1, i0, i1, zeros);
}

/// Reads the matrices and right-hand sides of the steps [i0, i1) of all sequences, which lie together.
template <class T>
void touch_steps(const Scan<T>& x, std::size_t i0, std::size_t i1) {
  const std::size_t first = std::min(x.time(i0), x.time(i1 - 1));
  touch_lines(x.b + x.row(0, first, 0), (i1 - i0) * x.batch * x.n);
  const std::size_t without =
      x.shift_a && i0 == 0 ? 1 : 0;  // the first step has no matrix; mirrored, it is the last row
  touch_lines(x.matrix(first, 0), (i1 - i0 - without) * x.batch * x.n * x.n);
}

template <class T>
void scan_rows(const Scan<T>& x) {
  const Aligned<T> zeros = aligned<T>(x.n);
  std::memset(zeros.get(), 0, x.n * sizeof(T));
  // Neighbouring sequences in one task hide each other's latency, and memory is read in long pieces.
  const std::size_t row_bytes = x.batch * x.n * x.n * sizeof(T);
  if (row_bytes <= kPipelineRow && x.lead == 1 && x.steps * row_bytes >= 4 * kPipelineTile) {
    return time_pipeline(
        x.steps, kPipelineTile / row_bytes, [&](std::size_t i0, std::size_t i1) { touch_steps(x, i0, i1); },
        [&](std::size_t i0, std::size_t i1) { recurrence(x, 0, x.batch, i0, i1, zeros.get()); });
  }
  const std::size_t group = std::clamp<std::size_t>(16384 / (x.n * x.n * sizeof(T)), 4, 1024);
  parallel_for(static_cast<std::int64_t>(x.batch), task_grain(x, x.batch, group),
               [&](std::int64_t begin, std::int64_t end) {
                 recurrence(x, static_cast<std::size_t>(begin), static_cast<std::size_t>(end), 0, x.steps, zeros.get());
               });
}

// ---- a lone sequence: three phases over chunks of time -------------------------------------------------------------

inline constexpr std::size_t kChunkedSteps = 4096;  // shorter ones keep the bits they have in a batch
inline constexpr std::size_t kChunkGroup = 16;      // chunks per task: a multiple of every vector width

/// Chunk c takes the steps [c len, (c+1) len); the rest, fewer than `count`, follows as a plain recurrence.
struct Chunks {
  std::size_t count, length;
};

inline Chunks choose_chunks(std::size_t steps) { return {128, steps / 128}; }

/// One step of all chunks of a vector: acc = A h + b, kN x kN.
template <std::size_t kN, class T, class V>
HWY_INLINE void chunk_step(const V (&a)[kN * kN], bool transposed, const V (&h)[kN], V (&acc)[kN]) {
  HWY_UNROLL(4)
  for (std::size_t i = 0; i < kN; ++i) {
    HWY_UNROLL(4)
    for (std::size_t k = 0; k < kN; ++k) acc[i] = hn::MulAdd(transposed ? a[k * kN + i] : a[i * kN + k], h[k], acc[i]);
  }
}

/// Lanes = kWidth chunks from c0. Phase 1 (kReplay false) writes each chunk's product and end from a zero start to
/// `products` (count, n, n) and `ends` (count, n); phase 3 starts from `ends` (now the chunks' starts) and writes h.
template <std::size_t kN, bool kReplay, class T>
void chunk_lanes(const Scan<T>& x, const Chunks& chunks, std::size_t c0, T* products, T* ends) {
  const Tag<T> d;
  constexpr std::size_t N = kWidth<T>;
  using V = hn::Vec<Tag<T>>;
  HWY_ALIGN T buffer[kN * kN * N];
  const std::ptrdiff_t sign = x.reversed ? -1 : 1;
  const std::ptrdiff_t lane = sign * static_cast<std::ptrdiff_t>(chunks.length);
  V h[kN], product[kN][kN];
  HWY_UNROLL(4)
  for (std::size_t i = 0; i < kN; ++i) {
    HWY_UNROLL(4)
    for (std::size_t j = 0; j < kN; ++j) product[i][j] = i == j ? hn::Set(d, T{1}) : hn::Zero(d);
    h[i] = hn::Zero(d);
  }
  if constexpr (kReplay) {
    load_lanes(d, ends + c0 * kN, static_cast<std::ptrdiff_t>(kN), kN, N, buffer);
    HWY_UNROLL(4)
    for (std::size_t i = 0; i < kN; ++i) h[i] = hn::Load(d, buffer + i * N);
  }
  for (std::size_t i = 0; i < chunks.length; ++i) {
    const std::size_t t = x.time(c0 * chunks.length + i);
    V a[kN * kN], acc[kN];
    load_lanes(d, x.a + t * kN * kN, lane * static_cast<std::ptrdiff_t>(kN * kN), kN * kN, N, buffer);
    HWY_UNROLL(16)
    for (std::size_t e = 0; e < kN * kN; ++e) a[e] = hn::Load(d, buffer + e * N);
    load_lanes(d, x.b + t * kN, lane * static_cast<std::ptrdiff_t>(kN), kN, N, buffer);
    HWY_UNROLL(4)
    for (std::size_t e = 0; e < kN; ++e) acc[e] = hn::Load(d, buffer + e * N);
    chunk_step<kN, T>(a, x.transposed, h, acc);
    HWY_UNROLL(4)
    for (std::size_t e = 0; e < kN; ++e) h[e] = acc[e];
    if constexpr (kReplay) {
      HWY_UNROLL(4)
      for (std::size_t e = 0; e < kN; ++e) hn::Store(h[e], d, buffer + e * N);
      store_lanes(d, buffer, x.h + t * kN, lane * static_cast<std::ptrdiff_t>(kN), kN, N);
    } else {
      HWY_UNROLL(4)
      for (std::size_t j = 0; j < kN; ++j) {
        V column[kN], next[kN];
        HWY_UNROLL(4)
        for (std::size_t e = 0; e < kN; ++e) column[e] = product[e][j], next[e] = hn::Zero(d);
        chunk_step<kN, T>(a, x.transposed, column, next);
        HWY_UNROLL(4)
        for (std::size_t e = 0; e < kN; ++e) product[e][j] = next[e];
      }
    }
  }
  if constexpr (!kReplay) {
    for (std::size_t e = 0; e < kN * kN; ++e) hn::Store(product[e / kN][e % kN], d, buffer + e * N);
    store_lanes(d, buffer, products + c0 * kN * kN, static_cast<std::ptrdiff_t>(kN * kN), kN * kN, N);
    for (std::size_t e = 0; e < kN; ++e) hn::Store(h[e], d, buffer + e * N);
    store_lanes(d, buffer, ends + c0 * kN, static_cast<std::ptrdiff_t>(kN), kN, N);
  }
}

template <std::size_t kN, bool kReplay, class T>
void chunk_phase(const Scan<T>& x, const Chunks& chunks, T* products, T* ends) {
  parallel_for(static_cast<std::int64_t>(chunks.count), kChunkGroup, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t c = begin; c < end; c += static_cast<std::int64_t>(kWidth<T>)) {
      chunk_lanes<kN, kReplay>(x, chunks, static_cast<std::size_t>(c), products, ends);
    }
  });
}

/// Steps from i0 of a lone sequence, starting after the state `before`: the operations of the lane kernels, one by one.
template <std::size_t kN, class T>
void plain_steps(const Scan<T>& x, std::size_t i0, const T* before) {
  const hn::CappedTag<T, 1> d;
  using V = hn::Vec<decltype(d)>;
  V state[kN], next[kN];
  for (std::size_t r = 0; r < kN; ++r) state[r] = before == nullptr ? hn::Zero(d) : hn::LoadU(d, before + r);
  for (std::size_t i = i0; i < x.steps; ++i) {
    const std::size_t t = x.time(i);
    const T* a = x.a + t * kN * kN;
    HWY_UNROLL(4)
    for (std::size_t r = 0; r < kN; ++r) {
      next[r] = hn::LoadU(d, x.b + t * kN + r);
      HWY_UNROLL(4)
      for (std::size_t k = 0; k < kN; ++k) {
        next[r] = hn::MulAdd(hn::LoadU(d, a + (x.transposed ? k * kN + r : r * kN + k)), state[k], next[r]);
      }
    }
    for (std::size_t r = 0; r < kN; ++r) {
      state[r] = next[r];
      hn::StoreU(state[r], d, x.h + t * kN + r);
    }
  }
}

/// x must have batch = lead = 1 and shift_a = false.
template <std::size_t kN, class T>
void scan_chunks(const Scan<T>& x) {
  const Chunks chunks = choose_chunks(x.steps);
  const Aligned<T> memory = aligned<T>(chunks.count * (kN * kN + kN));
  T* products = memory.get();
  T* ends = products + chunks.count * kN * kN;
  chunk_phase<kN, false>(x, chunks, products, ends);
  T state[kN] = {}, next[kN];
  if (const T* from = x.initial(0, 0)) std::copy_n(from, kN, state);
  for (std::size_t c = 0; c < chunks.count; ++c) {
    // The chunk's end becomes its start; the carry moves on to the next chunk.
    T* end = ends + c * kN;
    for (std::size_t i = 0; i < kN; ++i) {
      next[i] = end[i];
      for (std::size_t k = 0; k < kN; ++k) next[i] += products[(c * kN + i) * kN + k] * state[k];
    }
    std::copy_n(state, kN, end);
    std::copy_n(next, kN, state);
  }
  chunk_phase<kN, true>(x, chunks, products, ends);
  const std::size_t done = chunks.count * chunks.length;
  const T* before = x.h + x.row(0, x.time(done - 1), 0);
  plain_steps<kN>(x, done, before);
}

template <class T>
void scan_lone(Scan<T> x) {
  if (x.shift_a) {
    // The first state is b; what is left is a mirrored scan with the matrices one step on.
    const std::size_t last = (x.steps - 1) * x.n;
    std::memmove(x.h + last, x.b + last, x.n * sizeof(T));
    x.steps -= 1;
    x.a += x.n * x.n;
    x.h0 = x.h + last;
    x.shift_a = false;
    if (x.steps == 0) return;
  }
  if (x.n > kLaneLimit) return scan_rows(x);
  const auto run = [&x](auto n) {
    constexpr std::size_t kN = decltype(n)::value;
    x.steps < kChunkedSteps ? plain_steps<kN>(x, 0, x.initial(0, 0)) : scan_chunks<kN>(x);
  };
  if (x.n == 2) run(std::integral_constant<std::size_t, 2>());
  if (x.n == 3) run(std::integral_constant<std::size_t, 3>());
  if (x.n == 4) run(std::integral_constant<std::size_t, 4>());
}

template <class T>
void dense(const ScanShape& s, const T* a, const T* b, const T* h0, T* h) {
  const Scan<T> x{static_cast<std::size_t>(s.T),
                  static_cast<std::size_t>(s.B),
                  static_cast<std::size_t>(s.n),
                  static_cast<std::size_t>(s.lead),
                  s.reversed,
                  s.transposed,
                  s.reversed && s.shift_a,
                  a,
                  b,
                  h0,
                  h};
  if (x.batch == 1 && x.lead == 1) return scan_lone(x);
  if (x.n > kLaneLimit) return scan_rows(x);
  scan_lanes(x);
}

void dense_f32(const ScanShape& s, const float* a, const float* b, const float* h0, float* h) { dense(s, a, b, h0, h); }
void dense_f64(const ScanShape& s, const double* a, const double* b, const double* h0, double* h) {
  dense(s, a, b, h0, h);
}

}  // namespace solvent::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace solvent::cpu {
namespace detail {

HWY_EXPORT(dense_f32);
HWY_EXPORT(dense_f64);

template <>
void dense_scan(const ScanShape& shape, const float* a, const float* b, const float* h0, float* h) {
  HWY_DYNAMIC_DISPATCH(dense_f32)(shape, a, b, h0, h);
}

template <>
void dense_scan(const ScanShape& shape, const double* a, const double* b, const double* h0, double* h) {
  HWY_DYNAMIC_DISPATCH(dense_f64)(shape, a, b, h0, h);
}

}  // namespace detail

template <class T>
void affine_scan(const ScanShape& shape, const T* a, const T* b, const T* h0, T* h) {
  if (shape.T <= 0 || shape.B <= 0 || shape.n <= 0 || shape.lead <= 0) return;
  ScanShape s = shape;
  s.shift_a = shape.shift_a && shape.reversed;
  const std::int64_t k = shape.block == 0 ? shape.n : shape.block;
  // Blocks of one sequence are as independent as sequences, and memory has the same order.
  s.B = shape.B * (shape.n / k);
  s.n = k;
  s.block = 0;
  if (k > 1) return detail::dense_scan(s, a, b, h0, h);
  s.n = s.B;
  s.B = 1;
  detail::diagonal_scan(s, a, b, h0, h);
}

template SOLVENT_API void affine_scan(const ScanShape&, const float*, const float*, const float*, float*);
template SOLVENT_API void affine_scan(const ScanShape&, const double*, const double*, const double*, double*);

}  // namespace solvent::cpu
#endif  // HWY_ONCE
