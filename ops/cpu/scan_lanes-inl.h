// Moving rows of memory into lanes and back. Included once per Highway target (no #pragma once).
//
// `load_lanes` reads `count` consecutive elements from each of N places (lane j at p + j * stride) and stores them as
// `count` vectors of N lanes. Whole groups of a 128-bit block's elements are transposed in registers; the rest goes
// element by element.

#if defined(SOLVENT_OPS_CPU_SCAN_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SOLVENT_OPS_CPU_SCAN_LANES_INL_H_
#undef SOLVENT_OPS_CPU_SCAN_LANES_INL_H_
#else
#define SOLVENT_OPS_CPU_SCAN_LANES_INL_H_
#endif

#include <algorithm>
#include <cstddef>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace solvent::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Elements of one 128-bit block (or of the whole vector if that is smaller).
template <class D>
inline constexpr std::size_t kBlockLanes = std::min(hn::MaxLanes(D()), 16 / sizeof(hn::TFromD<D>));

#if HWY_TARGET != HWY_SCALAR

/// One 128-bit block from each of p, p + stride, ...: as many as the vector has.
template <class D, class T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> load_blocks(D d, const T* p, std::ptrdiff_t stride) {
  if constexpr (hn::MaxLanes(D()) <= kBlockLanes<D>) {
    return hn::LoadU(d, p);
  } else {
    const hn::Half<D> half;
    constexpr std::ptrdiff_t kBlocks = static_cast<std::ptrdiff_t>(hn::MaxLanes(half) / kBlockLanes<D>);
    return hn::Combine(d, load_blocks(half, p + kBlocks * stride, stride), load_blocks(half, p, stride));
  }
}

template <class D, class T = hn::TFromD<D>>
HWY_INLINE void store_blocks(D d, hn::Vec<D> v, T* p, std::ptrdiff_t stride) {
  if constexpr (hn::MaxLanes(D()) <= kBlockLanes<D>) {
    hn::StoreU(v, d, p);
  } else {
    const hn::Half<D> half;
    constexpr std::ptrdiff_t kBlocks = static_cast<std::ptrdiff_t>(hn::MaxLanes(half) / kBlockLanes<D>);
    store_blocks(half, hn::LowerHalf(half, v), p, stride);
    store_blocks(half, hn::UpperHalf(half, v), p + kBlocks * stride, stride);
  }
}

/// Transposes the square of kBlockLanes vectors inside each 128-bit block.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void transpose_blocks(D d, V* v) {
  if constexpr (kBlockLanes<D> == 4) {
    const hn::RepartitionToWide<D> dw;
    const auto t0 = hn::BitCast(dw, hn::InterleaveLower(d, v[0], v[1]));
    const auto t1 = hn::BitCast(dw, hn::InterleaveLower(d, v[2], v[3]));
    const auto t2 = hn::BitCast(dw, hn::InterleaveUpper(d, v[0], v[1]));
    const auto t3 = hn::BitCast(dw, hn::InterleaveUpper(d, v[2], v[3]));
    v[0] = hn::BitCast(d, hn::InterleaveLower(dw, t0, t1));
    v[1] = hn::BitCast(d, hn::InterleaveUpper(dw, t0, t1));
    v[2] = hn::BitCast(d, hn::InterleaveLower(dw, t2, t3));
    v[3] = hn::BitCast(d, hn::InterleaveUpper(dw, t2, t3));
  } else if constexpr (kBlockLanes<D> == 2) {
    const V lower = hn::InterleaveLower(d, v[0], v[1]);
    v[1] = hn::InterleaveUpper(d, v[0], v[1]);
    v[0] = lower;
  }
}

#else

template <class D, class T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> load_blocks(D d, const T* p, std::ptrdiff_t /*stride*/) {
  return hn::LoadU(d, p);
}

template <class D, class T = hn::TFromD<D>>
HWY_INLINE void store_blocks(D d, hn::Vec<D> v, T* p, std::ptrdiff_t /*stride*/) {
  hn::StoreU(v, d, p);
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE void transpose_blocks(D /*d*/, V* /*v*/) {}

#endif  // HWY_TARGET != HWY_SCALAR

/// kBlockLanes consecutive elements of every lane, as that many vectors.
template <class D, class T = hn::TFromD<D>>
HWY_INLINE void load_group(D d, const T* p, std::ptrdiff_t stride, hn::Vec<D>* out) {
  constexpr std::size_t kE = kBlockLanes<D>;
  HWY_UNROLL(4)
  for (std::size_t q = 0; q < kE; ++q) {
    out[q] = load_blocks(d, p + static_cast<std::ptrdiff_t>(q) * stride, static_cast<std::ptrdiff_t>(kE) * stride);
  }
  transpose_blocks(d, out);
}

/// Four consecutive elements of every lane.
template <class D, class T = hn::TFromD<D>>
HWY_INLINE void load_four(D d, const T* p, std::ptrdiff_t stride, hn::Vec<D>* out) {
  HWY_UNROLL(4)
  for (std::size_t e = 0; e < 4; e += kBlockLanes<D>) load_group(d, p + e, stride, out + e);
}

/// Reads `count` elements of `valid` lanes; lanes beyond repeat the last of them.
template <class D, class T = hn::TFromD<D>>
HWY_INLINE void load_lanes(D d, const T* p, std::ptrdiff_t stride, std::size_t count, std::size_t valid, T* out) {
  constexpr std::size_t N = hn::MaxLanes(D());
  constexpr std::size_t kE = kBlockLanes<D>;
  if (valid < N || count < kE) {
    for (std::size_t e = 0; e < count; ++e) {
      for (std::size_t j = 0; j < N; ++j) {
        const std::ptrdiff_t lane = static_cast<std::ptrdiff_t>(std::min(j, valid - 1));
        out[e * N + j] = p[lane * stride + static_cast<std::ptrdiff_t>(e)];
      }
    }
    return;
  }
  const auto group = [&](std::size_t e) HWY_ATTR {
    hn::Vec<D> v[kE];
    load_group(d, p + e, stride, v);
    HWY_UNROLL(4)
    for (std::size_t q = 0; q < kE; ++q) hn::Store(v[q], d, out + (e + q) * N);
  };
  for (std::size_t e = 0; e + kE <= count; e += kE) group(e);
  if (count % kE != 0) group(count - kE);  // overlaps the group before it
}

/// The reverse of `load_lanes`; only `valid` lanes are written.
template <class D, class T = hn::TFromD<D>>
HWY_INLINE void store_lanes(D d, const T* from, T* p, std::ptrdiff_t stride, std::size_t count, std::size_t valid) {
  constexpr std::size_t N = hn::MaxLanes(D());
  constexpr std::size_t kE = kBlockLanes<D>;
  if (valid < N || count < kE) {
    for (std::size_t e = 0; e < count; ++e) {
      for (std::size_t j = 0; j < valid; ++j) {
        p[static_cast<std::ptrdiff_t>(j) * stride + static_cast<std::ptrdiff_t>(e)] = from[e * N + j];
      }
    }
    return;
  }
  const auto group = [&](std::size_t e) HWY_ATTR {
    hn::Vec<D> v[kE];
    HWY_UNROLL(4)
    for (std::size_t q = 0; q < kE; ++q) v[q] = hn::Load(d, from + (e + q) * N);
    transpose_blocks(d, v);
    HWY_UNROLL(4)
    for (std::size_t q = 0; q < kE; ++q) {
      store_blocks(d, v[q], p + e + static_cast<std::ptrdiff_t>(q) * stride, static_cast<std::ptrdiff_t>(kE) * stride);
    }
  };
  for (std::size_t e = 0; e + kE <= count; e += kE) group(e);
  if (count % kE != 0) group(count - kE);
}

}  // namespace solvent::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SOLVENT_OPS_CPU_SCAN_LANES_INL_H_
