// The GRU cell and its closed-form Jacobian on a batch of rows.
//
// Decomposition: blocks of rows run in parallel. Per block, the gates of all rows come from the register tiles of the
// forward kernel; then each row's Jacobian is three scaled weight matrices added in one pass over the output, which is
// the only traffic that matters (H^2 values per row against about 9 H read and written).
// Deterministic: rows are independent.

#include "solvent/ops/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "solvent/ops/cpu/gru_jacobian.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include <algorithm>
#include <cstdint>

#include "hwy/highway.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/cpu/gru_core-inl.h"
#include "solvent/ops/cpu/gru_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace solvent::cpu::HWY_NAMESPACE {

template <class T>
class JacobianBlock {
 public:
  static constexpr std::size_t kRows = 64;

  JacobianBlock(std::size_t hidden, const GruWeights<T>& weights, GruJacobianLayout layout)
      : hidden_(hidden), w_(pack_weights<T>(0, hidden, weights, false)), layout_(layout), padded_(w_.padded) {
    pack_matrices(weights.w_hh);
  }

  /// xw, h_prev, h and gates of a block, and one Jacobian with room for a vector beyond its end.
  std::size_t scratch_size() const { return kRows * 9 * padded_ + hidden_ * hidden_ + 2 * kLanes<T>; }

  void run(std::size_t r0, std::size_t rows, const T* xw, const T* h_prev, T* f_out, T* jac, T* scratch) const {
    T* xw_panels = scratch;
    T* state = xw_panels + kRows * 3 * padded_;
    T* next = state + kRows * padded_;
    T* gates = next + kRows * padded_;
    T* matrix = gates + kRows * 4 * padded_;
    std::memset(scratch, 0, rows * 3 * padded_ * sizeof(T));
    std::memset(state, 0, rows * padded_ * sizeof(T));
    for (std::size_t r = 0; r < rows; ++r) {
      load_projection(xw + (r0 + r) * 3 * hidden_, xw_panels + r * 3 * padded_);
      std::memcpy(state + r * padded_, h_prev + (r0 + r) * hidden_, hidden_ * sizeof(T));
    }
    RowIo<T> io;
    io.h_prev = state;
    io.xw = xw_panels;
    io.h_out = next;
    io.gates = gates;
    io.h_prev_stride = io.h_out_stride = io.gate_pitch = padded_;
    io.gates_stride = 4 * padded_;
    gate_rows(w_, io, rows);
    for (std::size_t r = 0; r < rows; ++r) {
      if (f_out != nullptr) std::memcpy(f_out + (r0 + r) * hidden_, next + r * padded_, hidden_ * sizeof(T));
      if (jac == nullptr) continue;
      coefficients(state + r * padded_, gates + r * 4 * padded_);
      if (layout_ == GruJacobianLayout::diagonal) {
        diagonal(gates + r * 4 * padded_, matrix);
        std::memcpy(jac + (r0 + r) * hidden_, matrix, hidden_ * sizeof(T));
        continue;
      }
      // Whole vectors overlap the start of the next matrix row, which is written after; only the last one needs room.
      T* out = jac + (r0 + r) * hidden_ * hidden_;
      T* to = padded_ == hidden_ ? out : matrix;
      if (layout_ == GruJacobianLayout::row_major) {
        rows_of(gates + r * 4 * padded_, to);
      } else {
        columns_of(gates + r * 4 * padded_, to);
      }
      if (to != out) std::memcpy(out, to, hidden_ * hidden_ * sizeof(T));
    }
  }

 private:
  static constexpr std::size_t N = kLanes<T>;

  /// W_hr, W_hz, W_hn with padded rows, transposed for the column-major layout; only the diagonals for `diagonal`.
  void pack_matrices(const T* w_hh) {
    const std::size_t rows = layout_ == GruJacobianLayout::diagonal ? 1 : hidden_;
    matrices_ = allocate<T>(3 * rows * padded_);
    std::memset(matrices_.get(), 0, 3 * rows * padded_ * sizeof(T));
    for (std::size_t g = 0; g < 3; ++g) {
      const T* w = w_hh + g * hidden_ * hidden_;
      for (std::size_t i = 0; i < hidden_; ++i) {
        if (layout_ == GruJacobianLayout::diagonal) {
          matrices_[g * padded_ + i] = w[i * hidden_ + i];
          continue;
        }
        for (std::size_t j = 0; j < hidden_; ++j) {
          const bool transposed = layout_ == GruJacobianLayout::column_major;
          matrices_[(g * hidden_ + i) * padded_ + j] = transposed ? w[j * hidden_ + i] : w[i * hidden_ + j];
        }
      }
    }
  }

  /// One row of W_i x + b into scaled panels [panel][r z n][N].
  void load_projection(const T* xw, T* panels) const {
    for (std::size_t g = 0; g < 3; ++g) {
      const T scale = g == 2 ? GateScale<T>::kTanh : GateScale<T>::kSigmoid;
      for (std::size_t p = 0; p < w_.panels; ++p) {
        const std::size_t count = std::min(N, hidden_ - p * N);
        for (std::size_t j = 0; j < count; ++j) panels[(p * 3 + g) * N + j] = xw[g * hidden_ + p * N + j] * scale;
      }
    }
  }

  /// Replaces r, n, q by the factors of W_hr, W_hz, W_hn; z stays.
  HWY_INLINE void coefficients(const T* h_prev, T* gates) const {
    const GruTag<T> d;
    const auto one = hn::Set(d, T{1});
    for (std::size_t j = 0; j < padded_; j += N) {
      const auto r = hn::Load(d, gates + j);
      const auto z = hn::Load(d, gates + padded_ + j);
      const auto n = hn::Load(d, gates + 2 * padded_ + j);
      const auto q = hn::Load(d, gates + 3 * padded_ + j);
      const auto keep = hn::Sub(one, z);
      const auto slope = hn::Mul(keep, hn::NegMulAdd(n, n, one));
      const auto c_n = hn::Mul(slope, r);
      const auto c_r = hn::Mul(hn::Mul(c_n, q), hn::Sub(one, r));
      const auto c_z = hn::Mul(hn::Sub(hn::Load(d, h_prev + j), n), hn::Mul(z, keep));
      hn::Store(c_r, d, gates + j);
      hn::Store(c_z, d, gates + 2 * padded_ + j);
      hn::Store(c_n, d, gates + 3 * padded_ + j);
    }
  }

  HWY_INLINE void rows_of(const T* gates, T* out) const {
    const GruTag<T> d;
    const std::size_t pitch = hidden_ * padded_;
    for (std::size_t i = 0; i < hidden_; ++i) {
      const auto c_r = hn::Set(d, gates[i]);
      const auto c_z = hn::Set(d, gates[2 * padded_ + i]);
      const auto c_n = hn::Set(d, gates[3 * padded_ + i]);
      const T* w = matrices_.get() + i * padded_;
      for (std::size_t j = 0; j < padded_; j += N) {
        auto sum = hn::Mul(c_r, hn::Load(d, w + j));
        sum = hn::MulAdd(c_z, hn::Load(d, w + pitch + j), sum);
        sum = hn::MulAdd(c_n, hn::Load(d, w + 2 * pitch + j), sum);
        hn::StoreU(sum, d, out + i * hidden_ + j);
      }
      out[i * hidden_ + i] += gates[padded_ + i];
    }
  }

  HWY_INLINE void columns_of(const T* gates, T* out) const {
    const GruTag<T> d;
    const std::size_t pitch = hidden_ * padded_;
    for (std::size_t j = 0; j < hidden_; ++j) {
      const T* w = matrices_.get() + j * padded_;
      for (std::size_t i = 0; i < padded_; i += N) {
        auto sum = hn::Mul(hn::Load(d, gates + i), hn::Load(d, w + i));
        sum = hn::MulAdd(hn::Load(d, gates + 2 * padded_ + i), hn::Load(d, w + pitch + i), sum);
        sum = hn::MulAdd(hn::Load(d, gates + 3 * padded_ + i), hn::Load(d, w + 2 * pitch + i), sum);
        hn::StoreU(sum, d, out + j * hidden_ + i);
      }
      out[j * hidden_ + j] += gates[padded_ + j];
    }
  }

  HWY_INLINE void diagonal(const T* gates, T* out) const {
    const GruTag<T> d;
    const T* w = matrices_.get();
    for (std::size_t i = 0; i < padded_; i += N) {
      auto sum = hn::MulAdd(hn::Load(d, gates + i), hn::Load(d, w + i), hn::Load(d, gates + padded_ + i));
      sum = hn::MulAdd(hn::Load(d, gates + 2 * padded_ + i), hn::Load(d, w + padded_ + i), sum);
      sum = hn::MulAdd(hn::Load(d, gates + 3 * padded_ + i), hn::Load(d, w + 2 * padded_ + i), sum);
      hn::StoreU(sum, d, out + i);
    }
  }

  std::size_t hidden_;
  GruPanels<T> w_;
  GruJacobianLayout layout_;
  std::size_t padded_;
  AlignedArray<T> matrices_;
};

template <class T>
void cell_jacobian(std::int64_t rows, std::int64_t hidden, const GruWeights<T>& weights, const T* xw, const T* h_prev,
                   T* f_out, T* jac, GruJacobianLayout layout) {
  if (rows <= 0 || hidden <= 0) return;
  using Block = JacobianBlock<T>;
  constexpr std::int64_t kRows = static_cast<std::int64_t>(Block::kRows);
  const Block block(static_cast<std::size_t>(hidden), weights, layout);
  // At most 64 tasks, each with its own scratch memory.
  const std::int64_t blocks = (rows + kRows - 1) / kRows, grain = (blocks + 63) / 64;
  const std::size_t size = round_up(block.scratch_size(), 64);
  const AlignedArray<T> scratch = allocate<T>(size * static_cast<std::size_t>((blocks + grain - 1) / grain));
  parallel_for(blocks, grain, [&](std::int64_t begin, std::int64_t end) {
    T* own = scratch.get() + static_cast<std::size_t>(begin / grain) * size;
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t r0 = i * kRows;
      block.run(static_cast<std::size_t>(r0), static_cast<std::size_t>(std::min(kRows, rows - r0)), xw, h_prev, f_out,
                jac, own);
    }
  });
}

void jacobian_f32(std::int64_t rows, std::int64_t hidden, const GruWeights<float>& weights, const float* xw,
                  const float* h_prev, float* f_out, float* jac, GruJacobianLayout layout) {
  cell_jacobian(rows, hidden, weights, xw, h_prev, f_out, jac, layout);
}
void jacobian_f64(std::int64_t rows, std::int64_t hidden, const GruWeights<double>& weights, const double* xw,
                  const double* h_prev, double* f_out, double* jac, GruJacobianLayout layout) {
  cell_jacobian(rows, hidden, weights, xw, h_prev, f_out, jac, layout);
}

}  // namespace solvent::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace solvent::cpu {

HWY_EXPORT(jacobian_f32);
HWY_EXPORT(jacobian_f64);

template <>
void gru_cell_jacobian(std::int64_t rows, std::int64_t hidden, const GruWeights<float>& weights, const float* xw,
                       const float* h_prev, float* f_out, float* jac, GruJacobianLayout layout) {
  HWY_DYNAMIC_DISPATCH(jacobian_f32)(rows, hidden, weights, xw, h_prev, f_out, jac, layout);
}

template <>
void gru_cell_jacobian(std::int64_t rows, std::int64_t hidden, const GruWeights<double>& weights, const double* xw,
                       const double* h_prev, double* f_out, double* jac, GruJacobianLayout layout) {
  HWY_DYNAMIC_DISPATCH(jacobian_f64)(rows, hidden, weights, xw, h_prev, f_out, jac, layout);
}

}  // namespace solvent::cpu
#endif  // HWY_ONCE
