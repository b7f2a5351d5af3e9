// Dense affine scans: h_t = A_t h_{t-1} + b_t with n x n matrices, rows (T, B, n, n).
//
// Four ways, chosen by sizes only:
// - small matrices (n <= 16), many sequences: lane = sequence. Matrices are transposed in registers, four elements of all
//   lanes at a time (twelve shuffles per 4 x 8 elements), so every layout, A or A^T, becomes broadcast-free FMAs.
// - small matrices, few sequences and many right-hand sides: lane = right-hand side, A's elements are broadcast.
// - a lone sequence of matrices up to 4 x 4: lane = chunk of time, in three phases (chunk products, carry over chunks,
//   replay). Larger matrices are not worth their n^3 products on a CPU.
// - otherwise: one matrix-vector product per step and sequence, dot products (A) or columns (A^T).
// The first two compute the same operations in the same order (one FMA chain over k from b), so a sequence has the same
// bits in any batch. Sequences are spread over threads only if each thread's piece of a row of matrices is >= 4 KB.
// Traffic: A, b read once and h written once (A twice for the lone sequence).

#ifndef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#endif
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "solvent/ops/cpu/scan_dense.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>

#include "hwy/aligned_allocator.h"
#include "hwy/highway.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/cpu/scan_kernels.h"
#include "solvent/ops/cpu/scan_lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace solvent::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

inline constexpr std::size_t kLaneLimit = 16;  // largest n of the lane kernels

template <class T>
using Tag = hn::ScalableTag<T>;

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
  constexpr std::size_t N = kWidth<T>;
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

/// Lane = sequence: `valid` sequences from s0, all right-hand sides. Scratch: state (lead, n, N), acc (n, N), A (n*n, N).
template <class T>
class SequenceLanes {
 public:
  SequenceLanes(const Scan<T>& scan, std::size_t s0, std::size_t valid, T* scratch)
      : x_(scan), s0_(s0), valid_(valid), state_(scratch), acc_(state_ + scan.lead * scan.n * kWidth<T>),
        a_(acc_ + scan.n * kWidth<T>) {}

  static std::size_t scratch_size(const Scan<T>& s) { return (s.lead * s.n + s.n + s.n * s.n) * kWidth<T>; }

  void start() {
    for (std::size_t l = 0; l < x_.lead; ++l) {
      const T* from = x_.initial(l, s0_);
      T* to = state_ + l * x_.n * kWidth<T>;
      if (from == nullptr) {
        std::memset(to, 0, x_.n * kWidth<T> * sizeof(T));
      } else {
        load_lanes(Tag<T>(), from, static_cast<std::ptrdiff_t>(x_.n), x_.n, valid_, to);
      }
    }
  }

  HWY_INLINE void step(std::size_t i) {
    const std::size_t t = x_.time(i);
    if (i == 0 && x_.shift_a) return first_step(t);
    if (valid_ == kWidth<T> && x_.lead == 1) {
      if (x_.n == 2) return step2(t);
      if (x_.n == 4) return step4(t);
    }
    const Tag<T> d;
    constexpr std::size_t N = kWidth<T>;
    const std::size_t n = x_.n;
    load_lanes(d, x_.matrix(t, s0_), static_cast<std::ptrdiff_t>(n * n), n * n, valid_, a_);
    for (std::size_t l = 0; l < x_.lead; ++l) {
      const std::size_t row = x_.row(l, t, s0_);
      T* h = state_ + l * n * N;
      load_lanes(d, x_.b + row, static_cast<std::ptrdiff_t>(n), n, valid_, acc_);
      if (x_.transposed) {
        multiply(d, n, h, acc_, [&](std::size_t i2, std::size_t k) HWY_ATTR { return hn::Load(d, a_ + (k * n + i2) * N); });
      } else {
        multiply(d, n, h, acc_, [&](std::size_t i2, std::size_t k) HWY_ATTR { return hn::Load(d, a_ + (i2 * n + k) * N); });
      }
      std::memcpy(h, acc_, n * N * sizeof(T));
      store_lanes(d, acc_, x_.h + row, static_cast<std::ptrdiff_t>(n), n, valid_);
    }
  }

 private:
  void first_step(std::size_t t) {
    for (std::size_t l = 0; l < x_.lead; ++l) {
      const std::size_t row = x_.row(l, t, s0_);
      T* h = state_ + l * x_.n * kWidth<T>;
      load_lanes(Tag<T>(), x_.b + row, static_cast<std::ptrdiff_t>(x_.n), x_.n, valid_, h);
      store_lanes(Tag<T>(), h, x_.h + row, static_cast<std::ptrdiff_t>(x_.n), x_.n, valid_);
    }
  }

  /// 2 x 2, all lanes in use: neighbouring sequences are contiguous, so loads only have to be interleaved.
  HWY_INLINE void step2(std::size_t t) {
    const Tag<T> d;
    constexpr std::size_t N = kWidth<T>;
    hn::Vec<Tag<T>> a00, a01, a10, a11, b0, b1;
    hn::LoadInterleaved4(d, x_.matrix(t, s0_), a00, a01, a10, a11);
    hn::LoadInterleaved2(d, x_.b + x_.row(0, t, s0_), b0, b1);
    if (x_.transposed) std::swap(a01, a10);
    const auto h0 = hn::Load(d, state_), h1 = hn::Load(d, state_ + N);
    b0 = hn::MulAdd(a01, h1, hn::MulAdd(a00, h0, b0));
    b1 = hn::MulAdd(a11, h1, hn::MulAdd(a10, h0, b1));
    hn::Store(b0, d, state_);
    hn::Store(b1, d, state_ + N);
    hn::StoreInterleaved2(b0, b1, d, x_.h + x_.row(0, t, s0_));
  }

  HWY_INLINE void step4(std::size_t t) {
    const Tag<T> d;
    constexpr std::size_t N = kWidth<T>;
    using V = hn::Vec<Tag<T>>;
    const T* a = x_.matrix(t, s0_);
    V acc[4], h[4];
    hn::LoadInterleaved4(d, x_.b + x_.row(0, t, s0_), acc[0], acc[1], acc[2], acc[3]);
    HWY_UNROLL(4)
    for (std::size_t k = 0; k < 4; ++k) h[k] = hn::Load(d, state_ + k * N);
    HWY_UNROLL(4)
    for (std::size_t i = 0; i < 4; ++i) {
      V row[4];
      load_four(d, a + i * 4, 16, row);
      if (x_.transposed) {
        HWY_UNROLL(4)
        for (std::size_t k = 0; k < 4; ++k) acc[k] = hn::MulAdd(row[k], h[i], acc[k]);
      } else {
        HWY_UNROLL(4)
        for (std::size_t k = 0; k < 4; ++k) acc[i] = hn::MulAdd(row[k], h[k], acc[i]);
      }
    }
    HWY_UNROLL(4)
    for (std::size_t k = 0; k < 4; ++k) hn::Store(acc[k], d, state_ + k * N);
    hn::StoreInterleaved4(acc[0], acc[1], acc[2], acc[3], d, x_.h + x_.row(0, t, s0_));
  }

  const Scan<T>& x_;
  std::size_t s0_, valid_;
  T *state_, *acc_, *a_;
};

template <class T>
HWY_INLINE SequenceLanes<T> lanes_at(const Scan<T>& x, std::size_t block, T* scratch) {
  constexpr std::size_t N = kWidth<T>;
  return SequenceLanes<T>(x, block * N, std::min(N, x.batch - block * N), scratch);
}

template <class T>
void scan_sequence_lanes(const Scan<T>& x) {
  constexpr std::size_t N = kWidth<T>;
  const std::size_t blocks = (x.batch + N - 1) / N;
  const std::size_t piece = std::max<std::size_t>(1, 4096 / (N * x.n * x.n * sizeof(T)));
  const std::size_t size = SequenceLanes<T>::scratch_size(x);
  const Aligned<T> scratch = aligned<T>(blocks * size);
  parallel_for(static_cast<std::int64_t>(blocks), static_cast<std::int64_t>(piece),
               [&](std::int64_t begin, std::int64_t end) {
                 // Time outside, lane blocks inside: a row of matrices is read in address order.
                 constexpr std::size_t kGroup = 32;
                 for (std::size_t g0 = static_cast<std::size_t>(begin); g0 < static_cast<std::size_t>(end); g0 += kGroup) {
                   const std::size_t g1 = std::min(g0 + kGroup, static_cast<std::size_t>(end));
                   for (std::size_t g = g0; g < g1; ++g) lanes_at(x, g, scratch.get() + g * size).start();
                   for (std::size_t i = 0; i < x.steps; ++i) {
                     for (std::size_t g = g0; g < g1; ++g) lanes_at(x, g, scratch.get() + g * size).step(i);
                   }
                 }
               });
}

/// Lane = right-hand side, for one sequence. Scratch: state (blocks of lead, n, N) and acc (n, N).
template <class T>
void lead_lanes(const Scan<T>& x, std::size_t s, T* scratch) {
  const Tag<T> d;
  constexpr std::size_t N = kWidth<T>;
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

template <class T>
void scan_lead_lanes(const Scan<T>& x) {
  const std::size_t size = ((x.lead + kWidth<T> - 1) / kWidth<T> + 1) * x.n * kWidth<T>;
  const Aligned<T> scratch = aligned<T>(x.batch * size);
  parallel_for(static_cast<std::int64_t>(x.batch), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::size_t s = static_cast<std::size_t>(begin); s < static_cast<std::size_t>(end); ++s) {
      lead_lanes(x, s, scratch.get() + s * size);
    }
  });
}

/// out = b + A h for kRows rows of a row-major A.
template <std::size_t kRows, class T>
HWY_INLINE void dot_rows(const T* HWY_RESTRICT a, std::size_t n, const T* HWY_RESTRICT h, const T* b, T* out) {
  const Tag<T> d;
  constexpr std::size_t N = kWidth<T>;
  hn::Vec<Tag<T>> sum[kRows];
  HWY_UNROLL(4)
  for (std::size_t i = 0; i < kRows; ++i) sum[i] = hn::Zero(d);
  std::size_t k = 0;
  for (; k + N <= n; k += N) {
    const auto hk = hn::LoadU(d, h + k);
    HWY_UNROLL(4)
    for (std::size_t i = 0; i < kRows; ++i) sum[i] = hn::MulAdd(hn::LoadU(d, a + i * n + k), hk, sum[i]);
  }
  HWY_UNROLL(4)
  for (std::size_t i = 0; i < kRows; ++i) {
    T rest = b[i] + hn::GetLane(hn::SumOfLanes(d, sum[i]));
    for (std::size_t j = k; j < n; ++j) rest += a[i * n + j] * h[j];
    out[i] = rest;
  }
}

/// out = b + A^T h for kVectors vectors of columns from `col`.
template <std::size_t kVectors, class D, class T>
HWY_INLINE void columns(D d, const T* HWY_RESTRICT a, std::size_t n, std::size_t col, const T* HWY_RESTRICT h,
                        const T* b, T* out) {
  const std::size_t N = hn::Lanes(d);
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

/// out = b + A h or b + A^T h; h and out must not overlap b's later elements, and h not out.
template <class T>
HWY_INLINE void matrix_vector(const T* a, std::size_t n, bool transposed, const T* h, const T* b, T* out) {
  std::size_t i = 0;
  if (transposed) {
    const Tag<T> d;
    constexpr std::size_t N = kWidth<T>;
    for (; i + 4 * N <= n; i += 4 * N) columns<4>(d, a, n, i, h, b, out);
    for (; i + N <= n; i += N) columns<1>(d, a, n, i, h, b, out);
    for (; i < n; ++i) columns<1>(hn::CappedTag<T, 1>(), a, n, i, h, b, out);
    return;
  }
  for (; i + 4 <= n; i += 4) dot_rows<4>(a + i * n, n, h, b + i, out + i);
  for (; i < n; ++i) dot_rows<1>(a + i * n, n, h, b + i, out + i);
}

/// Plain recurrence of one sequence, steps [i0, i1) in the scan's direction; `state` (lead, n) in and out.
template <class T>
void recurrence(const Scan<T>& x, std::size_t s, std::size_t i0, std::size_t i1, T* state) {
  for (std::size_t i = i0; i < i1; ++i) {
    const std::size_t t = x.time(i);
    const T* a = x.matrix(t, s);
    for (std::size_t l = 0; l < x.lead; ++l) {
      T* out = x.h + x.row(l, t, s);
      const T* b = x.b + x.row(l, t, s);
      if (i == 0 && x.shift_a) {
        std::memmove(out, b, x.n * sizeof(T));
      } else {
        matrix_vector(a, x.n, x.transposed, state + l * x.n, b, out);
      }
      std::memcpy(state + l * x.n, out, x.n * sizeof(T));
    }
  }
}

template <class T>
void load_state(const Scan<T>& x, std::size_t s, T* state) {
  for (std::size_t l = 0; l < x.lead; ++l) {
    if (const T* from = x.initial(l, s)) {
      std::memcpy(state + l * x.n, from, x.n * sizeof(T));
    } else {
      std::memset(state + l * x.n, 0, x.n * sizeof(T));
    }
  }
}

template <class T>
void scan_rows(const Scan<T>& x) {
  const Aligned<T> states = aligned<T>(x.batch * x.lead * x.n);
  parallel_for(static_cast<std::int64_t>(x.batch), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::size_t s = static_cast<std::size_t>(begin); s < static_cast<std::size_t>(end); ++s) {
      T* state = states.get() + s * x.lead * x.n;
      load_state(x, s, state);
      recurrence(x, s, 0, x.steps, state);
    }
  });
}

// ---- a lone sequence: three phases over chunks of time -------------------------------------------------------------

inline constexpr std::size_t kChunkGroup = 16;  // chunks per task: a multiple of every vector width

/// Chunk c takes the steps [c len, (c+1) len); the rest, fewer than `count`, follows as a plain recurrence.
struct Chunks {
  std::size_t count, length;
};

inline Chunks choose_chunks(std::size_t steps) {
  const std::size_t count = steps >= 4096 ? 128 : steps >= 1024 ? 64 : kChunkGroup;
  return {count, steps / count};
}

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

/// x must have batch = lead = 1 and shift_a = false.
template <std::size_t kN, class T>
void scan_chunks(const Scan<T>& x) {
  const Chunks chunks = choose_chunks(x.steps);
  const Aligned<T> memory = aligned<T>(chunks.count * (kN * kN + kN));
  T* products = memory.get();
  T* ends = products + chunks.count * kN * kN;
  chunk_phase<kN, false>(x, chunks, products, ends);
  T state[kN], next[kN];
  load_state(x, 0, state);
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
  if (done < x.steps) {
    std::memcpy(state, x.h + x.row(0, x.time(done - 1), 0), kN * sizeof(T));
    recurrence(x, 0, done, x.steps, state);
  }
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
  if (x.n > 4 || x.steps < 256) return scan_rows(x);
  if (x.n == 2) return scan_chunks<2>(x);
  if (x.n == 3) return scan_chunks<3>(x);
  return scan_chunks<4>(x);
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
  if (x.batch < kWidth<T> && x.lead > x.batch) return scan_lead_lanes(x);
  scan_sequence_lanes(x);
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
