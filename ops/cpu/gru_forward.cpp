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

HWY_BEFORE_NAMESPACE();
namespace solvent::cpu::HWY_NAMESPACE {

/// Sequences handled together: enough rows to fill register tiles twice (two independent groups hide latency), few
/// enough that 16 sequences still feed two threads.
inline constexpr std::int64_t kForwardRows = 8;

/// One block of sequences: where its pieces lie and the scratch memory it may use.
template <class T>
class ForwardBlock {
 public:
  ForwardBlock(const GruShape& shape, const GruPanels<T>& w, const T* xs, const T* h0, T* hs, T* gates)
      : s_(shape), w_(w), xs_(xs), h0_(h0), hs_(hs), gates_(gates), direct_(w.padded == w.hidden) {
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
      for (std::size_t k = 0; k < steps; ++k) step(t0 + k, k, b0, nb, xw, state, gate_scratch);
      if (!direct_) store_block(t0, steps, b0, nb, state, gate_scratch);
    }
  }

 private:
  std::size_t row(std::size_t t, std::int64_t b) const { return t * static_cast<std::size_t>(s_.B) + static_cast<std::size_t>(b); }

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
  bool direct_;  // rows are whole vectors: no padded copies
  std::size_t steps_ = 1;
};

template <class T>
void forward(const GruShape& shape, const GruWeights<T>& weights, const T* xs, const T* h0, T* hs, T* gates) {
  if (shape.T <= 0 || shape.B <= 0 || shape.H <= 0) return;
  const GruPanels<T> w =
      pack_weights(static_cast<std::size_t>(shape.I), static_cast<std::size_t>(shape.H), weights, true);
  const ForwardBlock<T> block(shape, w, xs, h0, hs, gates);
  // A short T would give blocks of little work: then one task takes several blocks. Rows are independent, so this
  // grouping cannot change a bit.
  const std::int64_t blocks = (shape.B + kForwardRows - 1) / kForwardRows;
  const double block_flops = 6.0 * static_cast<double>(shape.H * (shape.H + shape.I + 16) * shape.T * kForwardRows);
  const std::int64_t grain = std::max<std::int64_t>(1, static_cast<std::int64_t>(1e6 / block_flops));
  const std::int64_t tasks = (blocks + grain - 1) / grain;
  const std::size_t scratch_size = round_up(block.scratch_size(), 64);
  constexpr std::int64_t kMaxTasks = 64;  // bounds the scratch memory
  const std::int64_t per_task = grain * ((tasks + kMaxTasks - 1) / kMaxTasks);
  const AlignedArray<T> scratch = allocate<T>(scratch_size * static_cast<std::size_t>((blocks + per_task - 1) / per_task));
  parallel_for(blocks, per_task, [&](std::int64_t begin, std::int64_t end) {
    T* own = scratch.get() + static_cast<std::size_t>(begin / per_task) * scratch_size;
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t b0 = i * kForwardRows;
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
void gru_input_projection(std::int64_t rows, std::int64_t input, std::int64_t hidden,
                          const GruWeights<double>& weights, const double* xs, double* xw) {
  HWY_DYNAMIC_DISPATCH(project_f64)(rows, input, hidden, weights, xs, xw);
}

}  // namespace solvent::cpu
#endif  // HWY_ONCE
