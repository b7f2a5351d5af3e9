// Weight packing and register tiles shared by the GRU kernels. Included once per Highway target (no #pragma once).
//
// Lane = hidden unit. Weights are packed in panels of N = Lanes hidden units: [panel][k][r z n][N], zero-padded, so that
// one step of k needs three vector loads, one broadcast per row and three FMAs per row; the gates come out in registers
// and the non-linearities are applied before anything is stored.
//
// Canonical order of every sum, the same in all kernels so that all give the same bits: the input projection is one FMA
// chain over i that starts at the bias; the recurrent sum continues from it as one chain over k when H > kSplitLimit, and
// as two chains (even k, odd k) added at the end when H <= kSplitLimit, which halves the latency of a lone sequence.

#if defined(SOLVENT_OPS_CPU_GRU_CORE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SOLVENT_OPS_CPU_GRU_CORE_INL_H_
#undef SOLVENT_OPS_CPU_GRU_CORE_INL_H_
#else
#define SOLVENT_OPS_CPU_GRU_CORE_INL_H_
#endif

#include <cstddef>
#include <cstring>
#include <new>
#include <type_traits>

#include "hwy/aligned_allocator.h"
#include "hwy/highway.h"
#include "solvent/ops/cpu/gru_kernels.h"
#include "solvent/ops/cpu/gru_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace solvent::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

inline constexpr std::size_t kSplitLimit = 16;

// 32 vector registers hold tiles of twice as many rows as 16.
#if HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM_A64
inline constexpr std::size_t kTileRows = 8;
#else
inline constexpr std::size_t kTileRows = 4;
#endif

template <class T>
using GruTag = hn::ScalableTag<T>;

template <class T>
inline constexpr std::size_t kLanes = hn::MaxLanes(GruTag<T>());

template <class T>
using AlignedArray = hwy::AlignedFreeUniquePtr<T[]>;

template <class T>
AlignedArray<T> allocate(std::size_t count) {
  AlignedArray<T> memory = hwy::AllocateAligned<T>(count == 0 ? 1 : count);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

inline std::size_t round_up(std::size_t n, std::size_t multiple) { return (n + multiple - 1) / multiple * multiple; }

/// Scaled and packed weights of the forward direction.
template <class T>
struct GruPanels {
  std::size_t input = 0, hidden = 0;
  std::size_t panels = 0;  // ceil(hidden / lanes)
  std::size_t padded = 0;  // panels * lanes
  AlignedArray<T> memory;
  const T* ih = nullptr;    // [panel][i][3][N]
  const T* hh = nullptr;    // [panel][k][3][N]
  const T* bias = nullptr;  // [panel][3][N]
  const T* b_hn = nullptr;  // [panel][N]
};

/// Writes src (3H, K) as [panel][k][3][N], each gate times its scale (or as it is).
template <class T>
void pack_gates(const T* src, std::size_t hidden, std::size_t k_size, bool scaled, T* dst) {
  constexpr std::size_t N = kLanes<T>;
  const std::size_t padded = round_up(hidden, N);
  std::memset(dst, 0, padded * 3 * k_size * sizeof(T));
  for (std::size_t g = 0; g < 3; ++g) {
    const T scale = !scaled ? T{1} : g == 2 ? GateScale<T>::kTanh : GateScale<T>::kSigmoid;
    for (std::size_t j = 0; j < hidden; ++j) {
      T* out = dst + (j / N) * k_size * 3 * N + g * N + j % N;
      const T* in = src + (g * hidden + j) * k_size;
      for (std::size_t k = 0; k < k_size; ++k) out[k * 3 * N] = in[k] * scale;
    }
  }
}

template <class T>
GruPanels<T> empty_panels(std::size_t input, std::size_t hidden) {
  GruPanels<T> p;
  p.input = input;
  p.hidden = hidden;
  p.padded = round_up(hidden, kLanes<T>);
  p.panels = p.padded / kLanes<T>;
  return p;
}

/// Packs the input projection alone, unscaled: rows then are W_i x + b as the mathematics has it.
template <class T>
GruPanels<T> pack_projection(std::size_t input, std::size_t hidden, const GruWeights<T>& w) {
  GruPanels<T> p = empty_panels<T>(input, hidden);
  p.memory = allocate<T>(3 * p.padded * (input + 1));
  pack_gates(w.w_ih, hidden, input, false, p.memory.get());
  pack_gates(w.b, hidden, 1, false, p.memory.get() + 3 * p.padded * input);
  p.ih = p.memory.get();
  p.bias = p.ih + 3 * p.padded * input;
  return p;
}

/// Packs and scales everything the fused cell needs; without the input projection if `with_input` is false.
template <class T>
GruPanels<T> pack_weights(std::size_t input, std::size_t hidden, const GruWeights<T>& w, bool with_input) {
  GruPanels<T> p = empty_panels<T>(input, hidden);
  const std::size_t ih_size = with_input ? 3 * p.padded * input : 0;
  p.memory = allocate<T>(ih_size + 3 * p.padded * hidden + 4 * p.padded);
  T* next = p.memory.get();
  if (with_input) {
    pack_gates(w.w_ih, hidden, input, true, next);
    p.ih = next;
    next += ih_size;
    pack_gates(w.b, hidden, 1, true, next);
    p.bias = next;
    next += 3 * p.padded;
  }
  pack_gates(w.w_hh, hidden, hidden, true, next);
  p.hh = next;
  next += 3 * p.padded * hidden;
  std::memset(next, 0, p.padded * sizeof(T));
  for (std::size_t j = 0; j < hidden; ++j) next[j] = w.b_hn[j] * GateScale<T>::kTanh;
  p.b_hn = next;
  return p;
}

/// r, z, n, q of one vector of hidden units; q is scaled by kTanh.
template <class V>
struct Gates {
  V r, z, n, q;
};

/// The gates of kCount vectors. All r come first, then all z, then all n: the chain through r and n is about 90 cycles
/// long, and a core looks only some 250 instructions ahead for other work.
template <std::size_t kCount, class D, class V = hn::Vec<D>>
HWY_INLINE void apply_gates(D d, const V* r_sum, const V* z_sum, const V* q_sum, const V* n_input, Gates<V>* g) {
  HWY_UNROLL(8)
  for (std::size_t i = 0; i < kCount; ++i) g[i].r = sigmoid_scaled(d, r_sum[i]), g[i].q = q_sum[i];
  HWY_UNROLL(8)
  for (std::size_t i = 0; i < kCount; ++i) g[i].z = sigmoid_scaled(d, z_sum[i]);
  HWY_UNROLL(8)
  for (std::size_t i = 0; i < kCount; ++i) g[i].n = tanh_scaled(d, hn::MulAdd(g[i].r, q_sum[i], n_input[i]));
}

/// Input projection of kRows consecutive rows for one panel: xw[row][panel][3][N].
template <std::size_t kRows, class D, class T = hn::TFromD<D>>
HWY_INLINE void project_tile(D d, const T* HWY_RESTRICT panel, const T* HWY_RESTRICT bias, std::size_t input,
                             const T* HWY_RESTRICT x, std::size_t x_stride, T* HWY_RESTRICT xw, std::size_t xw_stride) {
  using V = hn::Vec<D>;
  constexpr std::size_t N = kLanes<T>;
  V acc[kRows][3];
  HWY_UNROLL(8)
  for (std::size_t r = 0; r < kRows; ++r) {
    for (std::size_t g = 0; g < 3; ++g) acc[r][g] = hn::Load(d, bias + g * N);
  }
  for (std::size_t i = 0; i < input; ++i, panel += 3 * N) {
    const V w0 = hn::Load(d, panel);
    const V w1 = hn::Load(d, panel + N);
    const V w2 = hn::Load(d, panel + 2 * N);
    HWY_UNROLL(8)
    for (std::size_t r = 0; r < kRows; ++r) {
      const V xi = hn::Set(d, x[r * x_stride + i]);
      acc[r][0] = hn::MulAdd(xi, w0, acc[r][0]);
      acc[r][1] = hn::MulAdd(xi, w1, acc[r][1]);
      acc[r][2] = hn::MulAdd(xi, w2, acc[r][2]);
    }
  }
  HWY_UNROLL(8)
  for (std::size_t r = 0; r < kRows; ++r) {
    for (std::size_t g = 0; g < 3; ++g) hn::Store(acc[r][g], d, xw + r * xw_stride + g * N);
  }
}

/// Input projection of `rows` rows with uniform stride.
template <class T>
HWY_INLINE void project_rows(const GruPanels<T>& w, std::size_t rows, const T* x, std::size_t x_stride, T* xw) {
  const GruTag<T> d;
  constexpr std::size_t N = kLanes<T>;
  const std::size_t xw_stride = 3 * w.padded;
  for (std::size_t p = 0; p < w.panels; ++p) {
    const T* panel = w.ih + p * w.input * 3 * N;
    const T* bias = w.bias + p * 3 * N;
    T* out = xw + p * 3 * N;
    std::size_t r = 0;
    for (; r + kTileRows <= rows; r += kTileRows) {
      project_tile<kTileRows>(d, panel, bias, w.input, x + r * x_stride, x_stride, out + r * xw_stride, xw_stride);
    }
    for (; r < rows; ++r) {
      project_tile<1>(d, panel, bias, w.input, x + r * x_stride, x_stride, out + r * xw_stride, xw_stride);
    }
  }
}

/// Where a group of rows with uniform strides is read from and written to. All strides count elements; rows of
/// `h_prev`, `h_out` and the four gates are readable and writable up to the padded width.
template <class T>
struct RowIo {
  const T* h_prev;
  std::size_t h_prev_stride;
  const T* xw;  // row stride 3 * padded
  T* h_out;     // may be null
  std::size_t h_out_stride;
  T* gates;  // may be null; r, z, n, q at distance gate_pitch
  std::size_t gates_stride;
  std::size_t gate_pitch;
};

/// Recurrent part of kRows rows x kPanels panels, from the sums to the stored state and gates.
template <std::size_t kRows, std::size_t kPanels, std::size_t kChains, class D, class T = hn::TFromD<D>>
HWY_INLINE void gate_tile(D d, const GruPanels<T>& w, std::size_t p0, const RowIo<T>& io, std::size_t r0) {
  using V = hn::Vec<D>;
  constexpr std::size_t N = kLanes<T>;
  const std::size_t hidden = w.hidden;
  const std::size_t pitch = hidden * 3 * N;
  const T* HWY_RESTRICT panel = w.hh + p0 * pitch;
  const T* h_prev = io.h_prev + r0 * io.h_prev_stride;
  const T* xw = io.xw + r0 * 3 * w.padded + p0 * 3 * N;
  V acc[kChains][kRows][kPanels][3];
  HWY_UNROLL(8)
  for (std::size_t r = 0; r < kRows; ++r) {
    HWY_UNROLL(4)
    for (std::size_t p = 0; p < kPanels; ++p) {
      acc[0][r][p][0] = hn::Load(d, xw + r * 3 * w.padded + p * 3 * N);
      acc[0][r][p][1] = hn::Load(d, xw + r * 3 * w.padded + p * 3 * N + N);
      acc[0][r][p][2] = hn::Load(d, w.b_hn + (p0 + p) * N);
      if constexpr (kChains == 2) {
        HWY_UNROLL(3)
        for (std::size_t g = 0; g < 3; ++g) acc[1][r][p][g] = hn::Zero(d);
      }
    }
  }
  const auto add_step = [&](std::size_t k, auto chain) HWY_ATTR {
    constexpr std::size_t c = decltype(chain)::value;
    HWY_UNROLL(4)
    for (std::size_t p = 0; p < kPanels; ++p) {
      const T* wk = panel + p * pitch + k * 3 * N;
      const V w0 = hn::Load(d, wk);
      const V w1 = hn::Load(d, wk + N);
      const V w2 = hn::Load(d, wk + 2 * N);
      HWY_UNROLL(8)
      for (std::size_t r = 0; r < kRows; ++r) {
        const V hk = hn::Set(d, h_prev[r * io.h_prev_stride + k]);
        acc[c][r][p][0] = hn::MulAdd(hk, w0, acc[c][r][p][0]);
        acc[c][r][p][1] = hn::MulAdd(hk, w1, acc[c][r][p][1]);
        acc[c][r][p][2] = hn::MulAdd(hk, w2, acc[c][r][p][2]);
      }
    }
  };
  using Even = std::integral_constant<std::size_t, 0>;
  using Odd = std::integral_constant<std::size_t, kChains - 1>;
  if constexpr (kChains == 2) {
    std::size_t k = 0;
    for (; k + 2 <= hidden; k += 2) {
      add_step(k, Even{});
      add_step(k + 1, Odd{});
    }
    if (k < hidden) add_step(k, Even{});
  } else {
    for (std::size_t k = 0; k < hidden; ++k) add_step(k, Even{});
  }
  constexpr std::size_t kCount = kRows * kPanels;
  V sum[3][kCount], n_input[kCount];
  Gates<V> gates[kCount];
  HWY_UNROLL(8)
  for (std::size_t i = 0; i < kCount; ++i) {
    const std::size_t r = i / kPanels, p = i % kPanels;
    HWY_UNROLL(3)
    for (std::size_t g = 0; g < 3; ++g) {
      sum[g][i] = kChains == 2 ? hn::Add(acc[0][r][p][g], acc[kChains - 1][r][p][g]) : acc[0][r][p][g];
    }
    n_input[i] = hn::Load(d, xw + r * 3 * w.padded + p * 3 * N + 2 * N);
  }
  apply_gates<kCount>(d, sum[0], sum[1], sum[2], n_input, gates);
  HWY_UNROLL(8)
  for (std::size_t i = 0; i < kCount; ++i) {
    const std::size_t r = i / kPanels, col = (p0 + i % kPanels) * N;
    const Gates<V>& g = gates[i];
    if (io.h_out != nullptr) {
      const V h = hn::LoadU(d, h_prev + r * io.h_prev_stride + col);
      hn::StoreU(hn::MulAdd(g.z, hn::Sub(h, g.n), g.n), d, io.h_out + (r0 + r) * io.h_out_stride + col);
    }
    if (io.gates != nullptr) {
      T* out = io.gates + (r0 + r) * io.gates_stride + col;
      hn::StoreU(g.r, d, out);
      hn::StoreU(g.z, d, out + io.gate_pitch);
      hn::StoreU(g.n, d, out + 2 * io.gate_pitch);
      hn::StoreU(hn::Mul(g.q, hn::Set(d, GateScale<T>::kInverseTanh)), d, out + 3 * io.gate_pitch);
    }
  }
}

template <std::size_t kRows, std::size_t kPanels, std::size_t kChains, class T>
HWY_NOINLINE void gate_tiles(const GruPanels<T>& w, const RowIo<T>& io, std::size_t r0, std::size_t rows) {
  const GruTag<T> d;
  std::size_t p = 0;
  for (; p + kPanels <= w.panels; p += kPanels) {
    for (std::size_t r = r0; r < rows; r += kRows) gate_tile<kRows, kPanels, kChains>(d, w, p, io, r);
  }
  if constexpr (kPanels > 1) {
    for (; p < w.panels; ++p) {
      for (std::size_t r = r0; r < rows; r += kRows) gate_tile<kRows, 1, kChains>(d, w, p, io, r);
    }
  }
}

/// Recurrent part of `rows` independent rows: full tiles first, then single rows over several panels at once.
template <class T>
HWY_INLINE void gate_rows(const GruPanels<T>& w, const RowIo<T>& io, std::size_t rows) {
  if (w.hidden <= kSplitLimit) {
    constexpr std::size_t kRows = kTileRows / 2;
    const std::size_t full = rows / kRows * kRows;
    if (full > 0) gate_tiles<kRows, 1, 2>(w, io, 0, full);
    if (full < rows) gate_tiles<1, 2, 2>(w, io, full, rows);
  } else {
    const std::size_t full = rows / kTileRows * kTileRows;
    if (full > 0) gate_tiles<kTileRows, 1, 1>(w, io, 0, full);
    if (full < rows) gate_tiles<1, 4, 1>(w, io, full, rows);
  }
}

}  // namespace solvent::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SOLVENT_OPS_CPU_GRU_CORE_INL_H_
