// The GRU cell with independent rollouts in vector lanes: lane = sequence, or chunk of time, or both. Included once per
// Highway target (no #pragma once).
//
// A tile is a block of steps of N rollouts: x (steps, I, N), projections (steps, 3H, N) in the order [hidden][r z n], and
// states (steps + 1, H, N) whose first row is the state before the tile. All operations act on whole vectors, in the
// canonical order of gru_core-inl.h, so every lane has the bits of `gru_forward`.

#if defined(SOLVENT_OPS_CPU_GRU_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SOLVENT_OPS_CPU_GRU_LANES_INL_H_
#undef SOLVENT_OPS_CPU_GRU_LANES_INL_H_
#else
#define SOLVENT_OPS_CPU_GRU_LANES_INL_H_
#endif

#include <cstddef>
#include <cstring>

#include "hwy/highway.h"
#include "solvent/ops/cpu/gru_core-inl.h"
#include "solvent/ops/cpu/scan_lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace solvent::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

static_assert(kSplitLimit >= 16, "the lane cell adds two chains; gru_forward must do the same for these sizes");

/// Scaled weights as scalars, to be broadcast: [hidden][r z n][k].
template <class T>
struct LaneWeights {
  std::size_t input = 0, hidden = 0;
  AlignedArray<T> memory;
  const T* ih = nullptr;    // [i][3][input]
  const T* bias = nullptr;  // [i][3]
  const T* hh = nullptr;    // [i][3][hidden]
  const T* b_hn = nullptr;  // [i]
};

template <class T>
LaneWeights<T> pack_lane_weights(std::size_t input, std::size_t hidden, const GruWeights<T>& weights) {
  LaneWeights<T> w;
  w.input = input;
  w.hidden = hidden;
  w.memory = allocate<T>(3 * hidden * (input + hidden + 1) + hidden);
  T* next = w.memory.get();
  const auto pack = [&](const T* from, std::size_t k_size) {
    T* start = next;
    for (std::size_t i = 0; i < hidden; ++i) {
      for (std::size_t g = 0; g < 3; ++g) {
        const T scale = g == 2 ? GateScale<T>::kTanh : GateScale<T>::kSigmoid;
        for (std::size_t k = 0; k < k_size; ++k) *next++ = from[(g * hidden + i) * k_size + k] * scale;
      }
    }
    return start;
  };
  w.ih = pack(weights.w_ih, input);
  w.bias = pack(weights.b, 1);
  w.hh = pack(weights.w_hh, hidden);
  w.b_hn = next;
  for (std::size_t i = 0; i < hidden; ++i) next[i] = weights.b_hn[i] * GateScale<T>::kTanh;
  return w;
}

// ---- lanes at arbitrary places --------------------------------------------------------------------------------------

/// One 128-bit block at offset e of lanes first, first + kBlockLanes, ...
template <class D, class T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> load_blocks_at(D d, const T* const* p, std::size_t first, std::size_t e) {
#if HWY_TARGET != HWY_SCALAR
  if constexpr (hn::MaxLanes(D()) > kBlockLanes<D>) {
    const hn::Half<D> half;
    constexpr std::size_t kHalf = hn::MaxLanes(half);
    return hn::Combine(d, load_blocks_at(half, p, first + kHalf, e), load_blocks_at(half, p, first, e));
  }
#endif
  return hn::LoadU(d, p[first] + e);
}

template <class D, class T = hn::TFromD<D>>
HWY_INLINE void store_blocks_at(D d, hn::Vec<D> v, T* const* p, std::size_t first, std::size_t e) {
#if HWY_TARGET != HWY_SCALAR
  if constexpr (hn::MaxLanes(D()) > kBlockLanes<D>) {
    const hn::Half<D> half;
    constexpr std::size_t kHalf = hn::MaxLanes(half);
    store_blocks_at(half, hn::LowerHalf(half, v), p, first, e);
    store_blocks_at(half, hn::UpperHalf(half, v), p, first + kHalf, e);
    return;
  }
#endif
  hn::StoreU(v, d, p[first] + e);
}

/// out (count, N): elements offset .. offset + count of the N lanes at p.
template <class D, class T = hn::TFromD<D>>
HWY_INLINE void gather_lanes(D d, const T* const* p, std::size_t offset, std::size_t count, T* out) {
  constexpr std::size_t N = hn::MaxLanes(D());
  constexpr std::size_t kE = kBlockLanes<D>;
  if (count < kE) {
    for (std::size_t e = 0; e < count; ++e) {
      for (std::size_t j = 0; j < N; ++j) out[e * N + j] = p[j][offset + e];
    }
    return;
  }
  const auto group = [&](std::size_t e) HWY_ATTR {
    hn::Vec<D> v[kE];
    HWY_UNROLL(4)
    for (std::size_t q = 0; q < kE; ++q) v[q] = load_blocks_at(d, p, q, offset + e);
    transpose_blocks(d, v);
    HWY_UNROLL(4)
    for (std::size_t q = 0; q < kE; ++q) hn::Store(v[q], d, out + (e + q) * N);
  };
  for (std::size_t e = 0; e + kE <= count; e += kE) group(e);
  if (count % kE != 0) group(count - kE);
}

/// The reverse, for the first `valid` lanes.
template <class D, class T = hn::TFromD<D>>
HWY_INLINE void scatter_lanes(D d, const T* from, T* const* p, std::size_t offset, std::size_t count,
                              std::size_t valid) {
  constexpr std::size_t N = hn::MaxLanes(D());
  constexpr std::size_t kE = kBlockLanes<D>;
  if (count < kE || valid < N) {
    for (std::size_t e = 0; e < count; ++e) {
      for (std::size_t j = 0; j < valid; ++j) p[j][offset + e] = from[e * N + j];
    }
    return;
  }
  const auto group = [&](std::size_t e) HWY_ATTR {
    hn::Vec<D> v[kE];
    HWY_UNROLL(4)
    for (std::size_t q = 0; q < kE; ++q) v[q] = hn::Load(d, from + (e + q) * N);
    transpose_blocks(d, v);
    HWY_UNROLL(4)
    for (std::size_t q = 0; q < kE; ++q) store_blocks_at(d, v[q], p, q, offset + e);
  };
  for (std::size_t e = 0; e + kE <= count; e += kE) group(e);
  if (count % kE != 0) group(count - kE);
}

/// `steps` rows of `width` elements of each lane, `stride` elements apart, into a tile (steps, width, N).
template <class D, class T = hn::TFromD<D>>
HWY_INLINE void load_tile(D d, const T* const* p, std::size_t steps, std::size_t width, std::size_t stride, T* tile) {
  if (stride == width) return gather_lanes(d, p, 0, steps * width, tile);
  constexpr std::size_t N = hn::MaxLanes(D());
  bool neighbours = width == 1;  // one contiguous vector per step
  for (std::size_t j = 1; j < N && neighbours; ++j) neighbours = p[j] == p[0] + j;
  for (std::size_t s = 0; s < steps; ++s) {
    if (neighbours) {
      hn::Store(hn::LoadU(d, p[0] + s * stride), d, tile + s * N);
    } else {
      gather_lanes(d, p, s * stride, width, tile + s * width * N);
    }
  }
}

template <class D, class T = hn::TFromD<D>>
HWY_INLINE void store_tile(D d, const T* tile, T* const* p, std::size_t steps, std::size_t width, std::size_t stride,
                           std::size_t valid) {
  if (stride == width) return scatter_lanes(d, tile, p, 0, steps * width, valid);
  constexpr std::size_t N = hn::MaxLanes(D());
  for (std::size_t s = 0; s < steps; ++s) scatter_lanes(d, tile + s * width * N, p, s * stride, width, valid);
}

// ---- the cell ---------------------------------------------------------------------------------------------------------

/// Projections of a tile: xw[s][i][g] = bias + W x[s].
template <class D, class T = hn::TFromD<D>>
HWY_INLINE void project_tile_lanes(D d, const LaneWeights<T>& w, const T* HWY_RESTRICT x, std::size_t steps,
                                   T* HWY_RESTRICT xw) {
  using V = hn::Vec<D>;
  constexpr std::size_t N = hn::MaxLanes(D());
  const std::size_t rows = 3 * w.hidden;
  const auto run = [&](std::size_t s0, auto group) HWY_ATTR {
    constexpr std::size_t kSteps = decltype(group)::value;
    for (std::size_t i = 0; i < rows; i += 3) {
      const T* w0 = w.ih + i * w.input;
      const T* w1 = w0 + w.input;
      const T* w2 = w1 + w.input;
      V acc[3][kSteps];
      HWY_UNROLL(4)
      for (std::size_t s = 0; s < kSteps; ++s) {
        acc[0][s] = hn::Set(d, w.bias[i]), acc[1][s] = hn::Set(d, w.bias[i + 1]), acc[2][s] = hn::Set(d, w.bias[i + 2]);
      }
      for (std::size_t k = 0; k < w.input; ++k) {
        const V a0 = hn::Set(d, w0[k]), a1 = hn::Set(d, w1[k]), a2 = hn::Set(d, w2[k]);
        HWY_UNROLL(4)
        for (std::size_t s = 0; s < kSteps; ++s) {
          const V xk = hn::Load(d, x + ((s0 + s) * w.input + k) * N);
          acc[0][s] = hn::MulAdd(xk, a0, acc[0][s]);
          acc[1][s] = hn::MulAdd(xk, a1, acc[1][s]);
          acc[2][s] = hn::MulAdd(xk, a2, acc[2][s]);
        }
      }
      HWY_UNROLL(4)
      for (std::size_t s = 0; s < kSteps; ++s) {
        T* out = xw + ((s0 + s) * rows + i) * N;
        hn::Store(acc[0][s], d, out);
        hn::Store(acc[1][s], d, out + N);
        hn::Store(acc[2][s], d, out + 2 * N);
      }
    }
  };
  std::size_t s = 0;
  for (; s + 4 <= steps; s += 4) run(s, std::integral_constant<std::size_t, 4>());
  for (; s < steps; ++s) run(s, std::integral_constant<std::size_t, 1>());
}

/// Sums of all units in kVectors tiles at once (each broadcast weight serves all of them): sums (H, 3, kVectors, N).
template <std::size_t kHidden, std::size_t kVectors, class D, class T = hn::TFromD<D>>
HWY_INLINE void unit_sums(D d, const LaneWeights<T>& w, const T* const* xw, const T* const* h, T* sums) {
  using V = hn::Vec<D>;
  constexpr std::size_t N = hn::MaxLanes(D());
  const std::size_t hidden = kHidden == 0 ? w.hidden : kHidden;
  constexpr std::size_t kPart = kVectors < 2 ? kVectors : 2;  // 2 vectors x 3 gates x 2 chains fill 12 registers
  HWY_UNROLL(4)
  for (std::size_t i = 0; i < hidden; ++i) {
    const T* w_r = w.hh + 3 * i * hidden;
    const T* w_z = w_r + hidden;
    const T* w_n = w_z + hidden;
    HWY_UNROLL(4)
    for (std::size_t v0 = 0; v0 < kVectors; v0 += kPart) {
      V r[2][kPart], z[2][kPart], q[2][kPart];
      HWY_UNROLL(2)
      for (std::size_t v = 0; v < kPart; ++v) {
        r[0][v] = hn::Load(d, xw[v0 + v] + 3 * i * N);
        z[0][v] = hn::Load(d, xw[v0 + v] + (3 * i + 1) * N);
        q[0][v] = hn::Set(d, w.b_hn[i]);
        r[1][v] = z[1][v] = q[1][v] = hn::Zero(d);
      }
      const auto add = [&](std::size_t k, auto chain) HWY_ATTR {
        constexpr std::size_t c = decltype(chain)::value;
        const V wr = hn::Set(d, w_r[k]), wz = hn::Set(d, w_z[k]), wn = hn::Set(d, w_n[k]);
        HWY_UNROLL(2)
        for (std::size_t v = 0; v < kPart; ++v) {
          const V hk = hn::Load(d, h[v0 + v] + k * N);
          r[c][v] = hn::MulAdd(hk, wr, r[c][v]);
          z[c][v] = hn::MulAdd(hk, wz, z[c][v]);
          q[c][v] = hn::MulAdd(hk, wn, q[c][v]);
        }
      };
      std::size_t k = 0;
      HWY_UNROLL(4)
      for (; k + 2 <= hidden; k += 2) {
        add(k, std::integral_constant<std::size_t, 0>());
        add(k + 1, std::integral_constant<std::size_t, 1>());
      }
      if (k < hidden) add(k, std::integral_constant<std::size_t, 0>());
      HWY_UNROLL(2)
      for (std::size_t v = 0; v < kPart; ++v) {
        T* out = sums + (i * 3 * kVectors + v0 + v) * N;
        hn::Store(kHidden == 1 ? r[0][v] : hn::Add(r[0][v], r[1][v]), d, out);
        hn::Store(kHidden == 1 ? z[0][v] : hn::Add(z[0][v], z[1][v]), d, out + kVectors * N);
        hn::Store(kHidden == 1 ? q[0][v] : hn::Add(q[0][v], q[1][v]), d, out + 2 * kVectors * N);
      }
    }
  }
}

/// Scratch elements of `recur_tiles`.
template <class T>
constexpr std::size_t recur_scratch(std::size_t hidden, std::size_t vectors) {
  return 3 * hidden * vectors * kLanes<T>;
}

/// `steps` recurrent steps of kVectors tiles: xw[v] (steps, 3H, N) -> h[v] (steps + 1, H, N), row 0 given. Sums, r, and
/// the rest are three loops: the cell's latency is hidden only if the core sees many independent gates at a time.
template <std::size_t kHidden, std::size_t kVectors, class D, class T = hn::TFromD<D>>
HWY_INLINE void recur_tiles(D d, const LaneWeights<T>& w, const T* const* xw, T* const* h, std::size_t steps, T* sums) {
  using V = hn::Vec<D>;
  constexpr std::size_t N = hn::MaxLanes(D());
  const std::size_t hidden = kHidden == 0 ? w.hidden : kHidden;
  const T* xs[kVectors];
  T* hs[kVectors];
  for (std::size_t v = 0; v < kVectors; ++v) xs[v] = xw[v], hs[v] = h[v];
  for (std::size_t s = 0; s < steps; ++s) {
    unit_sums<kHidden, kVectors>(d, w, xs, hs, sums);
    HWY_UNROLL(4)
    for (std::size_t i = 0; i < hidden; ++i) {
      T* unit = sums + i * 3 * kVectors * N;
      HWY_UNROLL(8)
      for (std::size_t v = 0; v < kVectors; ++v) {
        const V r = sigmoid_scaled(d, hn::Load(d, unit + v * N));
        const V q = hn::Load(d, unit + (2 * kVectors + v) * N);
        hn::Store(hn::MulAdd(r, q, hn::Load(d, xs[v] + (3 * i + 2) * N)), d, unit + v * N);
      }
    }
    HWY_UNROLL(4)
    for (std::size_t i = 0; i < hidden; ++i) {
      const T* unit = sums + i * 3 * kVectors * N;
      HWY_UNROLL(8)
      for (std::size_t v = 0; v < kVectors; ++v) {
        const V n = tanh_scaled(d, hn::Load(d, unit + v * N));
        const V z = sigmoid_scaled(d, hn::Load(d, unit + (kVectors + v) * N));
        const V hi = hn::Load(d, hs[v] + i * N);
        hn::Store(hn::MulAdd(z, hn::Sub(hi, n), n), d, hs[v] + (hidden + i) * N);
      }
    }
    for (std::size_t v = 0; v < kVectors; ++v) xs[v] += 3 * hidden * N, hs[v] += hidden * N;
  }
}

/// Steps per tile: x, projections and states of two tiles stay in the L1 cache.
inline std::size_t tile_steps(std::size_t input, std::size_t hidden, std::size_t vector_bytes) {
  const std::size_t bytes = (input + 4 * hidden) * vector_bytes;
  std::size_t steps = 32;
  while (steps > 4 && steps * bytes > 12288) steps /= 2;
  return steps;
}

}  // namespace solvent::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SOLVENT_OPS_CPU_GRU_LANES_INL_H_
