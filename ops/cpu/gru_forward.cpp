// Fused GRU forward over time.
//
// Decomposition: blocks of sequences run in parallel and are independent; inside a block, the input projection of a
// block of time steps goes to a buffer that stays in the L2 cache, then the recurrent steps of that time block follow.
// The native (T, B, H) layout is used without transposes (a scratch copy only if H is not a multiple of the vector).
// Traffic: xs read once, hs (and gates) written once; weights are re-read from cache every step.
// Deterministic: each element's sums have one fixed order (gru_core-inl.h), whatever rows share its tile.

#include "solvent/ops/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "solvent/ops/cpu/gru_forward.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include <algorithm>
#include <vector>

#include "hwy/highway.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/cpu/gru_core-inl.h"
#include "solvent/ops/cpu/gru_kernels.h"
#include "solvent/ops/cpu/gru_lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace solvent::cpu::HWY_NAMESPACE {

/// Sequences handled together: enough rows to fill register tiles twice (two independent groups hide latency), few
/// enough that 16 sequences still feed two threads.
inline constexpr std::int64_t kForwardRows = 8;

#if HWY_TARGET != HWY_SCALAR

/// A lone sequence of at most one 128-bit vector of hidden units: the state and all recurrent weights stay in registers,
/// and a unit's value reaches the others by one shuffle. Rows of `prev` and `h` are padded.
template <std::size_t kHidden, class T>
HWY_NOINLINE void register_steps(const GruPanels<T>& w, const T* HWY_RESTRICT xw, const T* prev, T* HWY_RESTRICT h,
                                 std::size_t steps) {
  const hn::FixedTag<T, 16 / sizeof(T)> d;
  using V = hn::Vec<decltype(d)>;
  constexpr std::size_t N = kLanes<T>;
  V wr[kHidden], wz[kHidden], wn[kHidden];
  for (std::size_t k = 0; k < kHidden; ++k) {
    wr[k] = hn::Load(d, w.hh + k * 3 * N);
    wz[k] = hn::Load(d, w.hh + k * 3 * N + N);
    wn[k] = hn::Load(d, w.hh + k * 3 * N + 2 * N);
  }
  const V b_hn = hn::Load(d, w.b_hn);
  V state = hn::LoadU(d, prev);
  for (std::size_t s = 0; s < steps; ++s, xw += 3 * w.padded, h += w.padded) {
    const V h0 = hn::Broadcast<0>(state);
    V r = hn::MulAdd(h0, wr[0], hn::Load(d, xw));
    V z = hn::MulAdd(h0, wz[0], hn::Load(d, xw + N));
    V q = hn::MulAdd(h0, wn[0], b_hn);
    if constexpr (kHidden > 1) {  // the second chain, odd k
      const V h1 = hn::Broadcast<1>(state);
      const V zero = hn::Zero(d);  // fused with zero: a plain product may be fused with the sum below by the compiler
      V r1 = hn::MulAdd(h1, wr[1], zero), z1 = hn::MulAdd(h1, wz[1], zero), q1 = hn::MulAdd(h1, wn[1], zero);
      if constexpr (kHidden > 2) {
        const V h2 = hn::Broadcast<2>(state);
        r = hn::MulAdd(h2, wr[2], r), z = hn::MulAdd(h2, wz[2], z), q = hn::MulAdd(h2, wn[2], q);
      }
      if constexpr (kHidden > 3) {
        const V h3 = hn::Broadcast<3>(state);
        r1 = hn::MulAdd(h3, wr[3], r1), z1 = hn::MulAdd(h3, wz[3], z1), q1 = hn::MulAdd(h3, wn[3], q1);
      }
      r = hn::Add(r, r1), z = hn::Add(z, z1), q = hn::Add(q, q1);
    }
    const V n = tanh_scaled(d, hn::MulAdd(sigmoid_scaled(d, r), q, hn::Load(d, xw + 2 * N)));
    z = sigmoid_scaled(d, z);
    state = hn::MulAdd(z, hn::Sub(state, n), n);
    hn::StoreU(state, d, h);
  }
}

#endif  // HWY_TARGET != HWY_SCALAR

/// A lone sequence of a few panels, without the general kernel's loops over rows. Rows of `prev` and `h` are padded.
template <std::size_t kPanels, class T>
HWY_NOINLINE void lone_steps(const GruPanels<T>& w, const T* xw, const T* prev, T* h, std::size_t steps) {
  RowIo<T> io{};
  io.h_prev_stride = io.h_out_stride = w.padded;
  for (std::size_t s = 0; s < steps; ++s, h += w.padded) {
    io.xw = xw + s * 3 * w.padded;
    io.h_prev = prev;
    io.h_out = h;
    gate_tile<1, kPanels, 2>(GruTag<T>(), w, 0, io, 0);
    prev = h;
  }
}

/// Runs `steps` steps of a lone sequence in padded rows h, starting after `prev`, if there is a kernel for it.
template <class T>
bool run_lone(const GruPanels<T>& w, const T* xw, const T* prev, T* h, std::size_t steps) {
  if (w.hidden > kSplitLimit) return false;
#if HWY_TARGET != HWY_SCALAR
  if (w.hidden == 1) return register_steps<1>(w, xw, prev, h, steps), true;
  if (w.hidden == 2) return register_steps<2>(w, xw, prev, h, steps), true;
  if constexpr (sizeof(T) == 4) {
    if (w.hidden == 3) return register_steps<3>(w, xw, prev, h, steps), true;
    if (w.hidden == 4) return register_steps<4>(w, xw, prev, h, steps), true;
  }
#endif
  if (w.panels == 1) return lone_steps<1>(w, xw, prev, h, steps), true;
  if (w.panels == 2) return lone_steps<2>(w, xw, prev, h, steps), true;
  return false;
}

/// One block of sequences: where its pieces lie and the scratch memory it may use.
template <class T>
class ForwardBlock {
 public:
  ForwardBlock(const GruShape& shape, const GruPanels<T>& w, const T* xs, const T* h0, T* hs, T* gates)
      : s_(shape),
        w_(w),
        xs_(xs),
        h0_(h0),
        hs_(hs),
        gates_(gates),
        lone_(shape.B == 1 && gates == nullptr),
        direct_(w.padded == w.hidden) {
    // Time steps per block: about 128 KB of input projections.
    const std::size_t row_bytes = 3 * w.padded * sizeof(T);
    steps_ = std::clamp<std::size_t>((std::size_t{128} << 10) / (row_bytes * kForwardRows), 1, 64);
    steps_ = std::min(steps_, static_cast<std::size_t>(shape.T));
  }

  /// Elements of scratch one block needs.
  std::size_t scratch_size() const {
    const std::size_t rows = steps_ * kForwardRows;
    const std::size_t state = (direct_ ? kForwardRows : rows + kForwardRows) * w_.padded;
    return rows * 3 * w_.padded + state + (direct_ || gates_ == nullptr ? 0 : rows * 4 * w_.padded);
  }

  void run(std::int64_t b0, std::int64_t count, T* scratch) const {
    const std::size_t nb = static_cast<std::size_t>(count);
    T* xw = scratch;
    T* state = xw + steps_ * nb * 3 * w_.padded;  // direct: the initial state; else also the states of the block
    T* gate_scratch = state + (steps_ + 1) * nb * w_.padded;
    load_initial(b0, nb, state);
    const std::size_t total = static_cast<std::size_t>(s_.T);
    for (std::size_t t0 = 0; t0 < total; t0 += steps_) {
      const std::size_t steps = std::min(steps_, total - t0);
      project(t0, steps, b0, nb, xw);
      T* rows = direct_ ? hs_ + t0 * w_.hidden : state + w_.padded;  // of a lone sequence
      const T* prev = direct_ && t0 > 0 ? rows - w_.padded : state;
      if (!lone_ || !run_lone(w_, xw, prev, rows, steps)) {
        for (std::size_t k = 0; k < steps; ++k) step(t0 + k, k, b0, nb, xw, state, gate_scratch);
      }
      if (!direct_) store_block(t0, steps, b0, nb, state, gate_scratch);
    }
  }

 private:
  std::size_t row(std::size_t t, std::int64_t b) const {
    return t * static_cast<std::size_t>(s_.B) + static_cast<std::size_t>(b);
  }

  void load_initial(std::int64_t b0, std::size_t nb, T* state) const {
    std::memset(state, 0, nb * w_.padded * sizeof(T));
    if (h0_ == nullptr) return;
    for (std::size_t r = 0; r < nb; ++r) {
      std::memcpy(state + r * w_.padded, h0_ + row(0, b0 + static_cast<std::int64_t>(r)) * w_.hidden,
                  w_.hidden * sizeof(T));
    }
  }

  void project(std::size_t t0, std::size_t steps, std::int64_t b0, std::size_t nb, T* xw) const {
    if (nb == static_cast<std::size_t>(s_.B)) {  // the rows of all steps have one stride
      project_rows(w_, steps * nb, xs_ + row(t0, b0) * w_.input, w_.input, xw);
      return;
    }
    for (std::size_t k = 0; k < steps; ++k) {
      project_rows(w_, nb, xs_ + row(t0 + k, b0) * w_.input, w_.input, xw + k * nb * 3 * w_.padded);
    }
  }

  void step(std::size_t t, std::size_t k, std::int64_t b0, std::size_t nb, const T* xw, T* state,
            T* gate_scratch) const {
    RowIo<T> io;
    io.xw = xw + k * nb * 3 * w_.padded;
    if (direct_) {
      io.h_prev = t == 0 ? state : hs_ + row(t - 1, b0) * w_.hidden;
      io.h_out = hs_ + row(t, b0) * w_.hidden;
      io.gates = gates_ == nullptr ? nullptr : gates_ + row(t, b0) * 4 * w_.hidden;
    } else {
      io.h_prev = state + k * nb * w_.padded;
      io.h_out = state + (k + 1) * nb * w_.padded;
      io.gates = gates_ == nullptr ? nullptr : gate_scratch + k * nb * 4 * w_.padded;
    }
    io.h_prev_stride = io.h_out_stride = io.gate_pitch = w_.padded;
    io.gates_stride = 4 * w_.padded;
    gate_rows(w_, io, nb);
  }

  /// Copies padded states and gates to their places and moves the last state to the front for the next block.
  void store_block(std::size_t t0, std::size_t steps, std::int64_t b0, std::size_t nb, T* state,
                   const T* gate_scratch) const {
    const std::size_t h = w_.hidden;
    for (std::size_t k = 0; k < steps; ++k) {
      for (std::size_t r = 0; r < nb; ++r) {
        const std::size_t out = row(t0 + k, b0 + static_cast<std::int64_t>(r));
        copy_row(state + ((k + 1) * nb + r) * w_.padded, hs_ + out * h);
        if (gates_ == nullptr) continue;
        for (std::size_t g = 0; g < 4; ++g) {
          copy_row(gate_scratch + ((k * nb + r) * 4 + g) * w_.padded, gates_ + (out * 4 + g) * h);
        }
      }
    }
    std::memcpy(state, state + steps * nb * w_.padded, nb * w_.padded * sizeof(T));
  }

  void copy_row(const T* from, T* to) const { std::memcpy(to, from, w_.hidden * sizeof(T)); }

  const GruShape& s_;
  const GruPanels<T>& w_;
  const T* xs_;
  const T* h0_;
  T* hs_;
  T* gates_;
  bool lone_;
  bool direct_;  // rows are whole vectors: no padded copies
  std::size_t steps_ = 1;
};

/// Narrow cells in a batch: lane = sequence, kVectors * N neighbouring sequences per task (see gru_lanes-inl.h).
template <std::size_t kHidden, std::size_t kVectors, class T>
void run_lanes(const GruShape& shape, const LaneWeights<T>& w, const T* xs, const T* h0, T* hs, std::size_t b0,
               T* scratch) {
  const GruTag<T> d;
  constexpr std::size_t N = kLanes<T>;
  const std::size_t batch = static_cast<std::size_t>(shape.B), total = static_cast<std::size_t>(shape.T);
  const std::size_t tile = tile_steps(w.input, w.hidden, N * sizeof(T));
  T *x[kVectors], *xw[kVectors], *h[kVectors];
  const T* x_lanes[kVectors][N];
  T* h_lanes[kVectors][N];
  for (std::size_t v = 0; v < kVectors; ++v) {
    x[v] = scratch;
    xw[v] = x[v] + tile * w.input * N;
    h[v] = xw[v] + tile * 3 * w.hidden * N;
    scratch = h[v] + (tile + 1) * w.hidden * N;
    for (std::size_t j = 0; j < N; ++j) {
      const std::size_t b = b0 + v * N + j;
      x_lanes[v][j] = xs + b * w.input;
      h_lanes[v][j] = hs + b * w.hidden;
      for (std::size_t i = 0; i < w.hidden; ++i) h[v][i * N + j] = h0 == nullptr ? T{0} : h0[b * w.hidden + i];
    }
  }
  for (std::size_t t = 0; t < total; t += tile) {
    const std::size_t steps = std::min(tile, total - t);
    for (std::size_t v = 0; v < kVectors; ++v) {
      load_tile(d, x_lanes[v], steps, w.input, batch * w.input, x[v]);
      project_tile_lanes(d, w, x[v], steps, xw[v]);
    }
    recur_tiles<kHidden, kVectors>(d, w, xw, h, steps, scratch);
    for (std::size_t v = 0; v < kVectors; ++v) {
      store_tile(d, h[v] + w.hidden * N, h_lanes[v], steps, w.hidden, batch * w.hidden, N);
      std::memcpy(h[v], h[v] + steps * w.hidden * N, w.hidden * N * sizeof(T));
      for (std::size_t j = 0; j < N; ++j)
        x_lanes[v][j] += steps * batch * w.input, h_lanes[v][j] += steps * batch * w.hidden;
    }
  }
}

/// Runs whole groups of kVectors * N sequences in lanes; returns how many sequences that were.
template <std::size_t kHidden, std::size_t kVectors, class T>
std::int64_t forward_lanes(const GruShape& shape, const GruWeights<T>& weights, const T* xs, const T* h0, T* hs) {
  constexpr std::size_t kGroup = kVectors * kLanes<T>;
  const std::size_t groups = static_cast<std::size_t>(shape.B) / kGroup;
  if (groups == 0) return 0;
  const LaneWeights<T> w =
      pack_lane_weights(static_cast<std::size_t>(shape.I), static_cast<std::size_t>(shape.H), weights);
  const std::size_t tile = tile_steps(w.input, w.hidden, kLanes<T> * sizeof(T));
  const std::size_t size = kGroup * (tile * (w.input + 4 * w.hidden) + w.hidden) + recur_scratch<T>(w.hidden, kVectors);
  const AlignedArray<T> scratch = allocate<T>(groups * round_up(size, 64));
  parallel_for(static_cast<std::int64_t>(groups), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::size_t g = static_cast<std::size_t>(begin); g < static_cast<std::size_t>(end); ++g) {
      run_lanes<kHidden, kVectors>(shape, w, xs, h0, hs, g * kGroup, scratch.get() + g * round_up(size, 64));
    }
  });
  return static_cast<std::int64_t>(groups * kGroup);
}

template <class T>
void forward(const GruShape& shape, const GruWeights<T>& weights, const T* xs, const T* h0, T* hs, T* gates) {
  if (shape.T <= 0 || shape.B <= 0 || shape.H <= 0) return;
  // A vector of hidden units would be mostly padding for H <= 4: sequences fill the lanes instead, the left-over ones
  // (and all, when gates are asked for) follow below with the same bits.
  std::int64_t first = 0;
  if (gates == nullptr && shape.T > 4) {
    if (shape.H == 1) first = forward_lanes<1, 2>(shape, weights, xs, h0, hs);
    if (shape.H == 2) first = forward_lanes<2, 2>(shape, weights, xs, h0, hs);
    if (shape.H == 3) first = forward_lanes<3, 1>(shape, weights, xs, h0, hs);
    if (shape.H == 4) first = forward_lanes<4, 1>(shape, weights, xs, h0, hs);
    if (first == shape.B) return;
  }
  const GruPanels<T> w =
      pack_weights(static_cast<std::size_t>(shape.I), static_cast<std::size_t>(shape.H), weights, true);
  const ForwardBlock<T> block(shape, w, xs, h0, hs, gates);
  // A short T would give blocks of little work: then one task takes several blocks. Rows are independent, so this
  // grouping cannot change a bit.
  const std::int64_t blocks = (shape.B - first + kForwardRows - 1) / kForwardRows;
  const double block_flops = 6.0 * static_cast<double>(shape.H * (shape.H + shape.I + 16) * shape.T * kForwardRows);
  const std::int64_t grain = std::max<std::int64_t>(1, static_cast<std::int64_t>(1e6 / block_flops));
  const std::int64_t tasks = (blocks + grain - 1) / grain;
  const std::size_t scratch_size = round_up(block.scratch_size(), 64);
  constexpr std::int64_t kMaxTasks = 64;  // bounds the scratch memory
  const std::int64_t per_task = grain * ((tasks + kMaxTasks - 1) / kMaxTasks);
  const AlignedArray<T> scratch =
      allocate<T>(scratch_size * static_cast<std::size_t>((blocks + per_task - 1) / per_task));
  parallel_for(blocks, per_task, [&](std::int64_t begin, std::int64_t end) {
    T* own = scratch.get() + static_cast<std::size_t>(begin / per_task) * scratch_size;
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t b0 = first + i * kForwardRows;
      block.run(b0, std::min(kForwardRows, shape.B - b0), own);
    }
  });
}

template <class T>
void project(std::int64_t rows, std::int64_t input, std::int64_t hidden, const GruWeights<T>& weights, const T* xs,
             T* xw) {
  constexpr std::int64_t kBlock = 64;
  constexpr std::size_t N = kLanes<T>;
  const std::size_t h = static_cast<std::size_t>(hidden);
  const GruPanels<T> w = pack_projection(static_cast<std::size_t>(input), h, weights);
  parallel_for(rows, kBlock, [&](std::int64_t begin, std::int64_t end) {
    thread_local std::vector<T> padded;
    const std::size_t count = static_cast<std::size_t>(end - begin);
    padded.resize(count * 3 * w.padded + N);
    T* aligned = reinterpret_cast<T*>(round_up(reinterpret_cast<std::uintptr_t>(padded.data()), N * sizeof(T)));
    project_rows(w, count, xs + begin * input, w.input, aligned);
    for (std::size_t r = 0; r < count; ++r) {
      for (std::size_t g = 0; g < 3; ++g) {
        T* out = xw + (static_cast<std::size_t>(begin) + r) * 3 * h + g * h;
        for (std::size_t j = 0; j < h; ++j) out[j] = aligned[r * 3 * w.padded + (j / N * 3 + g) * N + j % N];
      }
    }
  });
}

void forward_f32(const GruShape& s, const GruWeights<float>& w, const float* xs, const float* h0, float* hs,
                 float* gates) {
  forward(s, w, xs, h0, hs, gates);
}
void forward_f64(const GruShape& s, const GruWeights<double>& w, const double* xs, const double* h0, double* hs,
                 double* gates) {
  forward(s, w, xs, h0, hs, gates);
}
void project_f32(std::int64_t rows, std::int64_t input, std::int64_t hidden, const GruWeights<float>& w,
                 const float* xs, float* xw) {
  project(rows, input, hidden, w, xs, xw);
}
void project_f64(std::int64_t rows, std::int64_t input, std::int64_t hidden, const GruWeights<double>& w,
                 const double* xs, double* xw) {
  project(rows, input, hidden, w, xs, xw);
}

}  // namespace solvent::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace solvent::cpu {

HWY_EXPORT(forward_f32);
HWY_EXPORT(forward_f64);
HWY_EXPORT(project_f32);
HWY_EXPORT(project_f64);

template <>
void gru_forward(const GruShape& shape, const GruWeights<float>& weights, const float* xs, const float* h0, float* hs,
                 float* gates) {
  HWY_DYNAMIC_DISPATCH(forward_f32)(shape, weights, xs, h0, hs, gates);
}

template <>
void gru_forward(const GruShape& shape, const GruWeights<double>& weights, const double* xs, const double* h0,
                 double* hs, double* gates) {
  HWY_DYNAMIC_DISPATCH(forward_f64)(shape, weights, xs, h0, hs, gates);
}

template <>
void gru_input_projection(std::int64_t rows, std::int64_t input, std::int64_t hidden, const GruWeights<float>& weights,
                          const float* xs, float* xw) {
  HWY_DYNAMIC_DISPATCH(project_f32)(rows, input, hidden, weights, xs, xw);
}

template <>
void gru_input_projection(std::int64_t rows, std::int64_t input, std::int64_t hidden, const GruWeights<double>& weights,
                          const double* xs, double* xw) {
  HWY_DYNAMIC_DISPATCH(project_f64)(rows, input, hidden, weights, xs, xw);
}

}  // namespace solvent::cpu
#endif  // HWY_ONCE
