// Diagonal affine scans: n independent chains h_t = a_t h_{t-1} + b_t, rows (T, n).
//
// Decomposition: whole rows in time order, the states in L1. Threads take column pieces only when a piece is at least
// 4 KB of a row: narrower pieces make both threads fetch each other's neighbouring lines and are slower than one thread.
// A long lone chain is scanned inside pairs of 128-bit vectors (shift levels), then one FMA applies the carry: the dependent
// chain is one FMA and one broadcast per eight steps (float) instead of eight FMAs.
// Traffic: 12 bytes (float) per element; outputs beyond the last-level cache are streamed past it.
// Deterministic: chains never mix, and a lone chain is always grouped by 128-bit vectors, whatever the machine has.

#include "solvent/ops/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "solvent/ops/cpu/scan_diagonal.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/cpu/scan_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace solvent::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Outputs larger than this do not stay in any cache until they are read again.
inline constexpr std::int64_t kStreamBytes = std::int64_t{32} << 20;

/// A lone chain of at least this many steps is scanned in vectors; a shorter one keeps the bits it has among others.
inline constexpr std::int64_t kLoneSteps = 4096;

/// One step of columns [0, count): state = a * state + b, stored to `state` and `h`.
template <bool kStream, class T>
HWY_INLINE void diagonal_row(const T* a, const T* b, T* state, T* h, std::size_t count) {
  const hn::ScalableTag<T> d;
  const std::size_t N = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + 2 * N <= count; i += 2 * N) {
    const auto v0 = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, state + i), hn::LoadU(d, b + i));
    const auto v1 = hn::MulAdd(hn::LoadU(d, a + i + N), hn::LoadU(d, state + i + N), hn::LoadU(d, b + i + N));
    hn::StoreU(v0, d, state + i);
    hn::StoreU(v1, d, state + i + N);
    if constexpr (kStream) {
      hn::Stream(v0, d, h + i);
      hn::Stream(v1, d, h + i + N);
    } else {
      hn::StoreU(v0, d, h + i);
      hn::StoreU(v1, d, h + i + N);
    }
  }
  const hn::CappedTag<T, 1> d1;  // the same fused operation as in the vectors
  for (; i < count; ++i) {
    const auto v = hn::MulAdd(hn::LoadU(d1, a + i), hn::LoadU(d1, state + i), hn::LoadU(d1, b + i));
    hn::StoreU(v, d1, state + i);
    hn::StoreU(v, d1, h + i);
  }
}

/// Columns [c0, c0 + count) of all rows and right-hand sides; `state` holds lead * count values.
template <bool kStream, class T>
void diagonal_columns(const ScanShape& s, const T* a, const T* b, const T* h0, T* h, std::size_t c0, std::size_t count,
                      T* state) {
  const std::size_t steps = static_cast<std::size_t>(s.T), n = static_cast<std::size_t>(s.n);
  const std::size_t lead = static_cast<std::size_t>(s.lead);
  for (std::size_t l = 0; l < lead; ++l) {
    if (h0 != nullptr && !s.shift_a) {
      std::memcpy(state + l * count, h0 + l * n + c0, count * sizeof(T));
    } else {
      std::memset(state + l * count, 0, count * sizeof(T));
    }
  }
  for (std::size_t i = 0; i < steps; ++i) {
    const std::size_t t = s.reversed ? steps - 1 - i : i;
    if (i == 0 && s.shift_a) {
      for (std::size_t l = 0; l < lead; ++l) {
        const std::size_t at = (l * steps + t) * n + c0;
        std::memcpy(state + l * count, b + at, count * sizeof(T));
        std::memmove(h + at, b + at, count * sizeof(T));
      }
      continue;
    }
    const T* row = a + (s.shift_a ? t + 1 : t) * n + c0;
    for (std::size_t l = 0; l < lead; ++l) {
      const std::size_t at = (l * steps + t) * n + c0;
      diagonal_row<kStream>(row, b + at, state + l * count, h + at, count);
    }
  }
  if constexpr (kStream) hwy::FlushStream();
}

#if HWY_TARGET != HWY_SCALAR

/// The composition of `kShift` earlier steps onto each step of a 128-bit vector: (a, b) <- (a a', a b' + b), where
/// (a', b') is the step `kShift` lanes before, or the identity.
template <int kShift, class D, class V = hn::Vec<D>>
HWY_INLINE void compose(D d, V& a, V& b) {
  using T = hn::TFromD<D>;
  constexpr int kBytes = 16 - kShift * static_cast<int>(sizeof(T));
  const V a_before = hn::CombineShiftRightBytes<kBytes>(d, a, hn::Set(d, T{1}));
  const V b_before = hn::CombineShiftRightBytes<kBytes>(d, b, hn::Zero(d));
  b = hn::MulAdd(a, b_before, b);
  a = hn::Mul(a, a_before);
}

/// A lone chain: `count` steps from `carry`, in the direction of kStep (+1 or -1).
template <bool kStream, int kStep, class T>
void chain(const T* a, const T* b, T* h, std::size_t count, T carry) {
  const hn::FixedTag<T, 16 / sizeof(T)> d;
  constexpr std::ptrdiff_t kBlock = 16 / sizeof(T);
  using V = hn::Vec<decltype(d)>;
  // The first lane is the earliest step.
  const auto load = [d](const T* p) HWY_ATTR {
    if constexpr (kStep > 0) return hn::LoadU(d, p);
    return hn::Reverse(d, hn::LoadU(d, p - (kBlock - 1)));
  };
  const auto store = [d](V v, T* p) HWY_ATTR {
    T* to = kStep > 0 ? p : p - (kBlock - 1);
    if constexpr (kStep < 0) v = hn::Reverse(d, v);
    if constexpr (kStream) {
      hn::Stream(v, d, to);
    } else {
      hn::StoreU(v, d, to);
    }
  };
  V c = hn::Set(d, carry);
  std::size_t i = 0;
  for (; i + 2 * kBlock <= count;
       i += 2 * kBlock, a += 2 * kStep * kBlock, b += 2 * kStep * kBlock, h += 2 * kStep * kBlock) {
    V a0 = load(a), b0 = load(b), a1 = load(a + kStep * kBlock), b1 = load(b + kStep * kBlock);
    compose<1>(d, a0, b0);
    compose<1>(d, a1, b1);
    if constexpr (kBlock == 4) {
      compose<2>(d, a0, b0);
      compose<2>(d, a1, b1);
    }
    // The second vector after the first: off the chain of carries, which then is one FMA and one broadcast per turn.
    b1 = hn::MulAdd(a1, hn::Broadcast<kBlock - 1>(b0), b1);
    a1 = hn::Mul(a1, hn::Broadcast<kBlock - 1>(a0));
    const V h1 = hn::MulAdd(a1, c, b1);
    store(hn::MulAdd(a0, c, b0), h);
    store(h1, h + kStep * kBlock);
    c = hn::Broadcast<kBlock - 1>(h1);
  }
  const hn::CappedTag<T, 1> d1;
  auto last = hn::Set(d1, hn::GetLane(c));
  for (; i < count; ++i, a += kStep, b += kStep, h += kStep) {
    last = hn::MulAdd(hn::Load(d1, a), last, hn::Load(d1, b));
    hn::Store(last, d1, h);
  }
  if constexpr (kStream) hwy::FlushStream();
}

#else

template <bool kStream, int kStep, class T>
void chain(const T* a, const T* b, T* h, std::size_t count, T carry) {
  for (std::size_t i = 0; i < count; ++i, a += kStep, b += kStep, h += kStep) *h = carry = *a * carry + *b;
}

#endif  // HWY_TARGET != HWY_SCALAR

template <class T>
void lone_chain(const ScanShape& s, const T* a, const T* b, const T* h0, T* h) {
  const std::size_t steps = static_cast<std::size_t>(s.T);
  // Streaming needs aligned vectors in both directions: rows that start and end on 16 bytes.
  const bool stream = s.T * static_cast<std::int64_t>(sizeof(T)) >= kStreamBytes &&
                      reinterpret_cast<std::uintptr_t>(h) % 16 == 0 && steps * sizeof(T) % 16 == 0;
  for (std::size_t l = 0; l < static_cast<std::size_t>(s.lead); ++l, b += steps, h += steps) {
    const T carry = h0 == nullptr || s.shift_a ? T{0} : h0[l];
    if (!s.reversed) {
      stream ? chain<true, 1>(a, b, h, steps, carry) : chain<false, 1>(a, b, h, steps, carry);
      continue;
    }
    const std::size_t last = steps - 1;
    if (!s.shift_a) {
      stream ? chain<true, -1>(a + last, b + last, h + last, steps, carry)
             : chain<false, -1>(a + last, b + last, h + last, steps, carry);
      continue;
    }
    h[last] = b[last];
    if (last > 0) chain<false, -1>(a + last, b + last - 1, h + last - 1, last, h[last]);
  }
}

template <class T>
void diagonal(const ScanShape& s, const T* a, const T* b, const T* h0, T* h) {
  if (s.n == 1 && s.T >= kLoneSteps) return lone_chain(s, a, b, h0, h);
  constexpr std::int64_t kPiece = 4096 / sizeof(T);
  const std::int64_t grain = s.n >= 2 * kPiece ? kPiece : s.n;
  const std::size_t vector_bytes = hn::Lanes(hn::ScalableTag<T>()) * sizeof(T);
  const bool stream = s.T * s.n * s.lead * static_cast<std::int64_t>(sizeof(T)) >= kStreamBytes &&
                      reinterpret_cast<std::uintptr_t>(h) % vector_bytes == 0 &&
                      static_cast<std::size_t>(s.n) * sizeof(T) % vector_bytes == 0;
  std::vector<T> states(static_cast<std::size_t>(s.lead * s.n));
  parallel_for(s.n, grain, [&](std::int64_t begin, std::int64_t end) {
    const std::size_t c0 = static_cast<std::size_t>(begin), count = static_cast<std::size_t>(end - begin);
    T* state = states.data() + c0 * static_cast<std::size_t>(s.lead);
    stream ? diagonal_columns<true>(s, a, b, h0, h, c0, count, state)
           : diagonal_columns<false>(s, a, b, h0, h, c0, count, state);
  });
}

void diagonal_f32(const ScanShape& s, const float* a, const float* b, const float* h0, float* h) {
  diagonal(s, a, b, h0, h);
}
void diagonal_f64(const ScanShape& s, const double* a, const double* b, const double* h0, double* h) {
  diagonal(s, a, b, h0, h);
}

}  // namespace solvent::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace solvent::cpu::detail {

HWY_EXPORT(diagonal_f32);
HWY_EXPORT(diagonal_f64);

template <>
void diagonal_scan(const ScanShape& shape, const float* a, const float* b, const float* h0, float* h) {
  HWY_DYNAMIC_DISPATCH(diagonal_f32)(shape, a, b, h0, h);
}

template <>
void diagonal_scan(const ScanShape& shape, const double* a, const double* b, const double* h0, double* h) {
  HWY_DYNAMIC_DISPATCH(diagonal_f64)(shape, a, b, h0, h);
}

}  // namespace solvent::cpu::detail
#endif  // HWY_ONCE
