// Fused GRU backward over time.
//
// With dh = g_t + carry, the pointwise part of one step is
//   dn = dh (1-z) (1-n^2),  dz = dh (h_prev - n) z (1-z),  dr = dn q r (1-r),  dq = dn r,
//   carry = dh z + W_hr^T dr + W_hz^T dz + W_hn^T dq.
//
// Decomposition: blocks of sequences run in parallel. Inside a block, time goes backwards in blocks of steps: gates of
// all rows of the time block (recomputed as independent rows, or read), then the sequential steps (pointwise and carry),
// then W gradients and input gradients as products over all rows of the time block, while these are in the L2 cache.
// Weight gradients are summed per task (a fixed block of sequences) and added over tasks in order, so the bits depend
// on sizes only.

#include "solvent/ops/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "solvent/ops/cpu/gru_backward.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include <algorithm>
#include <cstdint>

#include "hwy/highway.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/cpu/gru_core-inl.h"
#include "solvent/ops/cpu/gru_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace solvent::cpu::HWY_NAMESPACE {

/// Vectors per panel of the products below: kTileRows x 3 accumulators.
inline constexpr std::size_t kPanelVectors = 3;

template <class T>
inline constexpr std::size_t kPanelWidth = kPanelVectors* kLanes<T>;

// Order of the pre-activation gradients in a row of the dG buffer.
enum : std::size_t { kSegR = 0, kSegZ = 1, kSegQ = 2, kSegN = 3 };

/// W (3H, cols), unscaled, as panels [panel][3H][kPanelWidth], zero-padded columns.
template <class T>
AlignedArray<T> pack_columns(const T* w, std::size_t rows, std::size_t cols) {
  constexpr std::size_t kWidth = kPanelWidth<T>;
  const std::size_t panels = (cols + kWidth - 1) / kWidth;
  AlignedArray<T> out = allocate<T>(panels * rows * kWidth);
  std::memset(out.get(), 0, panels * rows * kWidth * sizeof(T));
  for (std::size_t p = 0; p < panels; ++p) {
    const std::size_t count = std::min(kWidth, cols - p * kWidth);
    for (std::size_t k = 0; k < rows; ++k) {
      std::memcpy(out.get() + (p * rows + k) * kWidth, w + k * cols + p * kWidth, count * sizeof(T));
    }
  }
  return out;
}

/// Stores one row of a tile, `valid` of kVectors * N columns.
template <std::size_t kVectors, class D, class V, class T = hn::TFromD<D>>
HWY_INLINE void store_columns(D d, const V* row, T* out, std::size_t valid) {
  constexpr std::size_t N = kLanes<T>;
  if (valid >= kVectors * N) {
    HWY_UNROLL(3)
    for (std::size_t v = 0; v < kVectors; ++v) hn::StoreU(row[v], d, out + v * N);
    return;
  }
  HWY_ALIGN T tail[kVectors * N];
  HWY_UNROLL(3)
  for (std::size_t v = 0; v < kVectors; ++v) hn::Store(row[v], d, tail + v * N);
  std::memcpy(out, tail, valid * sizeof(T));
}

/// out[r][0..width) = (start ? start : 0) + sum over three segments and k of dg[r][segment][k] * panel[segment*H + k].
template <std::size_t kRows, std::size_t kVectors, class D, class T = hn::TFromD<D>>
HWY_INLINE void rows_times_panel(D d, const T* HWY_RESTRICT panel, const T* HWY_RESTRICT dg, std::size_t dg_stride,
                                 std::size_t hidden, std::size_t pitch, std::size_t third_segment, const T* start,
                                 std::size_t start_stride, T* out, std::size_t out_stride, std::size_t valid) {
  using V = hn::Vec<D>;
  constexpr std::size_t N = kLanes<T>;
  V acc[kRows][kVectors];
  HWY_UNROLL(8)
  for (std::size_t r = 0; r < kRows; ++r) {
    HWY_UNROLL(3)
    for (std::size_t v = 0; v < kVectors; ++v) {
      acc[r][v] = start == nullptr ? hn::Zero(d) : hn::Load(d, start + r * start_stride + v * N);
    }
  }
  for (std::size_t s = 0; s < 3; ++s) {
    const T* a = dg + (s == 2 ? third_segment : s) * pitch;
    for (std::size_t k = 0; k < hidden; ++k, panel += kPanelWidth<T>) {
      V b[kVectors];
      HWY_UNROLL(3)
      for (std::size_t v = 0; v < kVectors; ++v) b[v] = hn::Load(d, panel + v * N);
      HWY_UNROLL(8)
      for (std::size_t r = 0; r < kRows; ++r) {
        const V ak = hn::Set(d, a[r * dg_stride + k]);
        HWY_UNROLL(3)
        for (std::size_t v = 0; v < kVectors; ++v) acc[r][v] = hn::MulAdd(ak, b[v], acc[r][v]);
      }
    }
  }
  HWY_UNROLL(8)
  for (std::size_t r = 0; r < kRows; ++r) store_columns<kVectors>(d, acc[r], out + r * out_stride, valid);
}

/// Arguments of a product of dG rows with packed weights.
template <class T>
struct RowProduct {
  const T* panels;
  std::size_t cols;
  const T* dg;
  std::size_t dg_stride, hidden, pitch, third_segment;
  const T* start;  // null, or rows of the padded width `start_stride` to add to
  std::size_t start_stride;
  T* out;
  std::size_t out_stride;
};

template <std::size_t kVectors, class T>
HWY_NOINLINE void multiply_panel(const RowProduct<T>& m, std::size_t p, std::size_t rows) {
  const GruTag<T> d;
  const std::size_t col = p * kPanelWidth<T>;
  const T* panel = m.panels + col * 3 * m.hidden;
  const std::size_t valid = m.cols - col;
  const auto start = [&](std::size_t r) { return m.start == nullptr ? nullptr : m.start + r * m.start_stride + col; };
  std::size_t r = 0;
  for (; r + kTileRows <= rows; r += kTileRows) {
    rows_times_panel<kTileRows, kVectors>(d, panel, m.dg + r * m.dg_stride, m.dg_stride, m.hidden, m.pitch,
                                          m.third_segment, start(r), m.start_stride, m.out + r * m.out_stride + col,
                                          m.out_stride, valid);
  }
  for (; r < rows; ++r) {
    rows_times_panel<1, kVectors>(d, panel, m.dg + r * m.dg_stride, m.dg_stride, m.hidden, m.pitch, m.third_segment,
                                  start(r), m.start_stride, m.out + r * m.out_stride + col, m.out_stride, valid);
  }
}

template <class T>
HWY_INLINE void multiply_rows(const RowProduct<T>& m, std::size_t rows) {
  constexpr std::size_t N = kLanes<T>;
  for (std::size_t p = 0; p * kPanelWidth<T> < m.cols; ++p) {
    const std::size_t left = m.cols - p * kPanelWidth<T>;
    if (left > 2 * N) {
      multiply_panel<3>(m, p, rows);
    } else if (left > N) {
      multiply_panel<2>(m, p, rows);
    } else {
      multiply_panel<1>(m, p, rows);
    }
  }
}

/// c[m][0..) += sum over rows of dg[row][m] * panel[row], for kRows consecutive m.
template <std::size_t kRows, std::size_t kVectors, class D, class T = hn::TFromD<D>>
HWY_INLINE void outer_tile(D d, const T* HWY_RESTRICT dg, std::size_t dg_stride, const T* HWY_RESTRICT panel,
                           std::size_t rows, T* HWY_RESTRICT c, std::size_t c_stride) {
  using V = hn::Vec<D>;
  constexpr std::size_t N = kLanes<T>;
  V acc[kRows][kVectors];
  HWY_UNROLL(8)
  for (std::size_t m = 0; m < kRows; ++m) {
    HWY_UNROLL(3)
    for (std::size_t v = 0; v < kVectors; ++v) acc[m][v] = hn::Load(d, c + m * c_stride + v * N);
  }
  for (std::size_t r = 0; r < rows; ++r, dg += dg_stride, panel += kPanelWidth<T>) {
    V b[kVectors];
    HWY_UNROLL(3)
    for (std::size_t v = 0; v < kVectors; ++v) b[v] = hn::Load(d, panel + v * N);
    HWY_UNROLL(8)
    for (std::size_t m = 0; m < kRows; ++m) {
      const V a = hn::Set(d, dg[m]);
      HWY_UNROLL(3)
      for (std::size_t v = 0; v < kVectors; ++v) acc[m][v] = hn::MulAdd(a, b[v], acc[m][v]);
    }
  }
  HWY_UNROLL(8)
  for (std::size_t m = 0; m < kRows; ++m) {
    HWY_UNROLL(3)
    for (std::size_t v = 0; v < kVectors; ++v) hn::Store(acc[m][v], d, c + m * c_stride + v * N);
  }
}

/// Sum of outer products: c (3 segments x H, width) += dG^T [packed rows], one column panel.
template <std::size_t kVectors, class T>
HWY_NOINLINE void accumulate_panel(const T* dg, std::size_t dg_stride, std::size_t hidden, std::size_t pitch,
                                   std::size_t third_segment, const T* panel, std::size_t rows, T* c,
                                   std::size_t c_stride) {
  const GruTag<T> d;
  for (std::size_t s = 0; s < 3; ++s) {
    const T* a = dg + (s == 2 ? third_segment : s) * pitch;
    std::size_t m = 0;
    for (; m + kTileRows <= hidden; m += kTileRows, c += kTileRows * c_stride) {
      outer_tile<kTileRows, kVectors>(d, a + m, dg_stride, panel, rows, c, c_stride);
    }
    for (; m < hidden; ++m, c += c_stride) outer_tile<1, kVectors>(d, a + m, dg_stride, panel, rows, c, c_stride);
  }
}

/// Partial weight gradients of one task, in padded form.
template <class T>
struct WeightSums {
  T* ih;    // (3H, width of input)
  T* hh;    // (3H, width of hidden)
  T* bias;  // (4, padded): r, z, q, n
};

template <class T>
class BackwardBlock {
 public:
  BackwardBlock(const GruShape& shape, const GruWeights<T>& weights, const T* xs, const T* h0, const T* hs,
                const T* gates, const T* g_hs, const GruGradients<T>& out)
      : s_(shape),
        xs_(xs),
        h0_(h0),
        hs_(hs),
        gates_(gates),
        g_hs_(g_hs),
        out_(out),
        batch_(static_cast<std::size_t>(shape.B)),
        input_(static_cast<std::size_t>(shape.I)),
        hidden_(static_cast<std::size_t>(shape.H)),
        w_(gates == nullptr ? pack_weights(input_, hidden_, weights, true) : empty_panels<T>(input_, hidden_)),
        hh_panels_(pack_columns(weights.w_hh, 3 * hidden_, hidden_)) {
    if (out.d_xs != nullptr) ih_panels_ = pack_columns(weights.w_ih, 3 * hidden_, input_);
    need_weights_ = out.d_w_ih != nullptr || out.d_w_hh != nullptr || out.d_b != nullptr || out.d_b_hn != nullptr;
    padded_ = w_.padded;
    // An odd number of cache lines between rows: power-of-two strides would map all rows to a few cache sets.
    constexpr std::size_t kLine = 64 / sizeof(T);
    dg_stride_ = round_up(4 * padded_, kLine) | kLine;
    carry_stride_ = round_up(hidden_, kPanelWidth<T>);
    const std::size_t total = static_cast<std::size_t>(shape.T);
    // Rows per time block: dG, gates, inputs and states of a block fit the L2 cache, and the weight sums, which are
    // read and written once per block, cost little beside the product.
    const std::size_t row_bytes = (11 * padded_ + input_) * sizeof(T);
    const std::size_t wanted = std::clamp<std::size_t>((std::size_t{512} << 10) / row_bytes, 64, 256);
    sub_rows_ = std::min(batch_, total >= 16 ? std::size_t{8} : wanted / total);
    steps_ = std::clamp<std::size_t>(wanted / sub_rows_, 1, total);
  }

  std::size_t hidden_width() const { return round_up(hidden_, kPanelWidth<T>); }
  std::size_t input_width() const { return round_up(input_, kPanelWidth<T>); }

  /// Elements of one task's weight sums.
  std::size_t sums_size() const {
    return need_weights_ ? 3 * hidden_ * (hidden_width() + input_width()) + 4 * padded_ : 0;
  }

  WeightSums<T> sums_at(T* memory) const {
    return {memory, memory + 3 * hidden_ * input_width(), memory + 3 * hidden_ * (input_width() + hidden_width())};
  }

  std::size_t scratch_size() const {
    const std::size_t rows = steps_ * sub_rows_;
    return rows * (3 * padded_ + 4 * padded_ + dg_stride_ + padded_) + sub_rows_ * (padded_ + 2 * carry_stride_) +
           rows * kPanelWidth<T> + 8 * 64;
  }

  std::size_t sub_rows() const { return sub_rows_; }

  /// Processes sequences [b0, b0 + nb), nb <= sub_rows().
  void run(std::size_t b0, std::size_t nb, T* scratch, const WeightSums<T>& sums) const {
    const std::size_t rows = steps_ * nb;
    Buffers m;
    const auto take = [&scratch](std::size_t count) {
      T* p = scratch;
      scratch += round_up(count, 64 / sizeof(T));
      return p;
    };
    m.dg = take(rows * dg_stride_);
    m.gates = take(rows * 4 * padded_);
    m.h_prev = take(rows * padded_);
    m.carry = take(nb * carry_stride_);
    m.scaled = take(nb * carry_stride_);
    m.panel = take(std::max(rows * kPanelWidth<T>, std::size_t{1}));
    m.xw = take(rows * 3 * padded_);
    std::memset(m.carry, 0, nb * carry_stride_ * sizeof(T));
    std::memset(m.scaled, 0, nb * carry_stride_ * sizeof(T));
    const std::size_t total = static_cast<std::size_t>(s_.T);
    for (std::size_t end = total; end > 0;) {
      // Blocks are counted from the start, so the last one is the short one.
      const std::size_t t0 = (end - 1) / steps_ * steps_;
      load_block(t0, end - t0, b0, nb, m);
      for (std::size_t t = end; t-- > t0;) step(t, t - t0, b0, nb, m);
      if (need_weights_) add_weight_sums(t0, end - t0, b0, nb, m, sums);
      if (out_.d_xs != nullptr) input_gradient(t0, end - t0, b0, nb, m);
      end = t0;
    }
    if (out_.d_h0 != nullptr) {
      for (std::size_t r = 0; r < nb; ++r) {
        std::memcpy(out_.d_h0 + (b0 + r) * hidden_, m.carry + r * carry_stride_, hidden_ * sizeof(T));
      }
    }
  }

  /// Adds the tasks' sums in order and writes the requested weight gradients.
  void finish(const T* memory, std::size_t stride, std::size_t tasks) const {
    if (!need_weights_) return;
    const WeightSums<T> first = sums_at(const_cast<T*>(memory));
    if (out_.d_w_ih != nullptr) add_matrix(first.ih, stride, tasks, 3 * hidden_, input_, input_width(), out_.d_w_ih);
    if (out_.d_w_hh != nullptr) add_matrix(first.hh, stride, tasks, 3 * hidden_, hidden_, hidden_width(), out_.d_w_hh);
    if (out_.d_b != nullptr) {
      add_matrix(first.bias + kSegR * padded_, stride, tasks, 2, hidden_, padded_, out_.d_b);
      add_matrix(first.bias + kSegN * padded_, stride, tasks, 1, hidden_, padded_, out_.d_b + 2 * hidden_);
    }
    if (out_.d_b_hn != nullptr)
      add_matrix(first.bias + kSegQ * padded_, stride, tasks, 1, hidden_, padded_, out_.d_b_hn);
  }

 private:
  struct Buffers {
    T *dg, *gates, *h_prev, *carry, *scaled, *panel, *xw;
  };

  const T* previous_state(std::size_t t, std::size_t b) const {
    if (t > 0) return hs_ + ((t - 1) * batch_ + b) * hidden_;
    return h0_ == nullptr ? nullptr : h0_ + b * hidden_;
  }

  /// Fills h_prev (padded rows) and gates of the time block.
  void load_block(std::size_t t0, std::size_t steps, std::size_t b0, std::size_t nb, const Buffers& m) const {
    const std::size_t rows = steps * nb;
    if (padded_ != hidden_) std::memset(m.h_prev, 0, rows * padded_ * sizeof(T));
    if (padded_ != hidden_ && gates_ != nullptr) std::memset(m.gates, 0, rows * 4 * padded_ * sizeof(T));
    for (std::size_t k = 0; k < steps; ++k) {
      for (std::size_t r = 0; r < nb; ++r) {
        const T* h = previous_state(t0 + k, b0 + r);
        T* to = m.h_prev + (k * nb + r) * padded_;
        if (h == nullptr) {
          std::memset(to, 0, padded_ * sizeof(T));
        } else {
          std::memcpy(to, h, hidden_ * sizeof(T));
        }
        if (gates_ == nullptr) continue;
        const T* g = gates_ + ((t0 + k) * batch_ + b0 + r) * 4 * hidden_;
        for (std::size_t i = 0; i < 4; ++i) {
          std::memcpy(m.gates + ((k * nb + r) * 4 + i) * padded_, g + i * hidden_, hidden_ * sizeof(T));
        }
      }
    }
    if (gates_ != nullptr) return;
    if (nb == batch_) {
      project_rows(w_, rows, xs_ + t0 * batch_ * input_, input_, m.xw);
    } else {
      for (std::size_t k = 0; k < steps; ++k) {
        project_rows(w_, nb, xs_ + ((t0 + k) * batch_ + b0) * input_, input_, m.xw + k * nb * 3 * padded_);
      }
    }
    RowIo<T> io{};
    io.h_prev = m.h_prev;
    io.h_prev_stride = io.gate_pitch = padded_;
    io.xw = m.xw;
    io.gates = m.gates;
    io.gates_stride = 4 * padded_;
    gate_rows(w_, io, rows);
  }

  /// One step back in time: pointwise gradients of all rows, then carry through the recurrent weights.
  HWY_NOINLINE void step(std::size_t t, std::size_t k, std::size_t b0, std::size_t nb, const Buffers& m) const {
    for (std::size_t r = 0; r < nb; ++r) {
      const T* g = g_hs_ + (t * batch_ + b0 + r) * hidden_;
      const std::size_t row = k * nb + r;
      pointwise(g, m.carry + r * carry_stride_, m.gates + row * 4 * padded_, m.h_prev + row * padded_,
                m.dg + row * dg_stride_, m.scaled + r * carry_stride_);
    }
    if (t == 0 && out_.d_h0 == nullptr) return;
    RowProduct<T> product;
    product.panels = hh_panels_.get();
    product.cols = carry_stride_;  // the carry rows are padded to whole panels
    product.dg = m.dg + k * nb * dg_stride_;
    product.dg_stride = dg_stride_;
    product.hidden = hidden_;
    product.pitch = padded_;
    product.third_segment = kSegQ;
    product.start = m.scaled;
    product.start_stride = product.out_stride = carry_stride_;
    product.out = m.carry;
    product.cols = padded_;
    multiply_rows(product, nb);
  }

  HWY_INLINE void pointwise(const T* g_row, const T* carry, const T* gates, const T* h_prev, T* dg, T* scaled) const {
    const GruTag<T> d;
    using V = hn::Vec<GruTag<T>>;
    constexpr std::size_t N = kLanes<T>;
    const V one = hn::Set(d, T{1});
    for (std::size_t j = 0; j < padded_; j += N) {
      V g;
      if (j + N <= hidden_) {
        g = hn::LoadU(d, g_row + j);
      } else {
        HWY_ALIGN T tail[N] = {};
        std::memcpy(tail, g_row + j, (hidden_ - j) * sizeof(T));
        g = hn::Load(d, tail);
      }
      const V dh = hn::Add(g, hn::Load(d, carry + j));
      const V r = hn::Load(d, gates + j);
      const V z = hn::Load(d, gates + padded_ + j);
      const V n = hn::Load(d, gates + 2 * padded_ + j);
      const V q = hn::Load(d, gates + 3 * padded_ + j);
      const V h = hn::Load(d, h_prev + j);
      const V keep = hn::Sub(one, z);
      const V dn = hn::Mul(hn::Mul(dh, keep), hn::NegMulAdd(n, n, one));
      const V dz = hn::Mul(hn::Mul(dh, hn::Sub(h, n)), hn::Mul(z, keep));
      const V dq = hn::Mul(dn, r);
      const V dr = hn::Mul(hn::Mul(dq, q), hn::Sub(one, r));
      hn::Store(dr, d, dg + kSegR * padded_ + j);
      hn::Store(dz, d, dg + kSegZ * padded_ + j);
      hn::Store(dq, d, dg + kSegQ * padded_ + j);
      hn::Store(dn, d, dg + kSegN * padded_ + j);
      hn::Store(hn::Mul(dh, z), d, scaled + j);
    }
  }

  /// dW_hh += [dr dz dq]^T h_prev, dW_ih += [dr dz dn]^T x, biases += column sums.
  HWY_NOINLINE void add_weight_sums(std::size_t t0, std::size_t steps, std::size_t b0, std::size_t nb, const Buffers& m,
                                    const WeightSums<T>& sums) const {
    const std::size_t rows = steps * nb;
    const auto state_row = [&](std::size_t row) { return m.h_prev + row * padded_; };
    const auto input_row = [&](std::size_t row) { return xs_ + ((t0 + row / nb) * batch_ + b0 + row % nb) * input_; };
    if (out_.d_w_hh != nullptr) add_products(m, rows, hidden_, kSegQ, state_row, sums.hh, hidden_width());
    if (out_.d_w_ih != nullptr) add_products(m, rows, input_, kSegN, input_row, sums.ih, input_width());
    if (out_.d_b == nullptr && out_.d_b_hn == nullptr) return;
    const GruTag<T> d;
    constexpr std::size_t N = kLanes<T>;
    for (std::size_t j = 0; j < 4 * padded_; j += N) {
      auto sum = hn::Load(d, sums.bias + j);
      for (std::size_t row = 0; row < rows; ++row) sum = hn::Add(sum, hn::Load(d, m.dg + row * dg_stride_ + j));
      hn::Store(sum, d, sums.bias + j);
    }
  }

  template <class RowAt>
  HWY_INLINE void add_products(const Buffers& m, std::size_t rows, std::size_t cols, std::size_t third_segment,
                               RowAt row_at, T* c, std::size_t width) const {
    constexpr std::size_t N = kLanes<T>;
    for (std::size_t col = 0; col < cols; col += kPanelWidth<T>) {
      const std::size_t count = std::min(kPanelWidth<T>, cols - col);
      if (count < kPanelWidth<T>) std::memset(m.panel, 0, rows * kPanelWidth<T> * sizeof(T));
      for (std::size_t row = 0; row < rows; ++row) {
        std::memcpy(m.panel + row * kPanelWidth<T>, row_at(row) + col, count * sizeof(T));
      }
      if (count > 2 * N) {
        accumulate_panel<3>(m.dg, dg_stride_, hidden_, padded_, third_segment, m.panel, rows, c + col, width);
      } else if (count > N) {
        accumulate_panel<2>(m.dg, dg_stride_, hidden_, padded_, third_segment, m.panel, rows, c + col, width);
      } else {
        accumulate_panel<1>(m.dg, dg_stride_, hidden_, padded_, third_segment, m.panel, rows, c + col, width);
      }
    }
  }

  HWY_NOINLINE void input_gradient(std::size_t t0, std::size_t steps, std::size_t b0, std::size_t nb,
                                   const Buffers& m) const {
    RowProduct<T> product{};
    product.panels = ih_panels_.get();
    product.cols = input_;
    product.dg_stride = dg_stride_;
    product.hidden = hidden_;
    product.pitch = padded_;
    product.third_segment = kSegN;
    product.out_stride = input_;
    if (nb == batch_) {
      product.dg = m.dg;
      product.out = out_.d_xs + t0 * batch_ * input_;
      multiply_rows(product, steps * nb);
      return;
    }
    for (std::size_t k = 0; k < steps; ++k) {
      product.dg = m.dg + k * nb * dg_stride_;
      product.out = out_.d_xs + ((t0 + k) * batch_ + b0) * input_;
      multiply_rows(product, nb);
    }
  }

  static void add_matrix(const T* first, std::size_t stride, std::size_t tasks, std::size_t rows, std::size_t cols,
                         std::size_t width, T* out) {
    for (std::size_t i = 0; i < rows; ++i) {
      T* to = out + i * cols;
      std::memcpy(to, first + i * width, cols * sizeof(T));
      for (std::size_t task = 1; task < tasks; ++task) {
        const T* from = first + task * stride + i * width;
        for (std::size_t j = 0; j < cols; ++j) to[j] += from[j];
      }
    }
  }

  const GruShape& s_;
  const T* xs_;
  const T* h0_;
  const T* hs_;
  const T* gates_;
  const T* g_hs_;
  const GruGradients<T>& out_;
  std::size_t batch_, input_, hidden_;
  GruPanels<T> w_;
  AlignedArray<T> hh_panels_, ih_panels_;
  bool need_weights_ = false;
  std::size_t padded_ = 0, dg_stride_ = 0, carry_stride_ = 0, sub_rows_ = 1, steps_ = 1;
};

template <class T>
void backward(const GruShape& shape, const GruWeights<T>& weights, const T* xs, const T* h0, const T* hs,
              const T* gates, const T* g_hs, const GruGradients<T>& out) {
  if (shape.T <= 0 || shape.B <= 0 || shape.H <= 0) return;
  const BackwardBlock<T> block(shape, weights, xs, h0, hs, gates, g_hs, out);
  // At most 16 tasks (each has its own weight sums), each of whole sub-blocks of sequences.
  constexpr std::int64_t kMaxTasks = 16;
  const std::int64_t sub = static_cast<std::int64_t>(block.sub_rows());
  const std::int64_t blocks = (shape.B + sub - 1) / sub;
  const std::int64_t grain = (blocks + kMaxTasks - 1) / kMaxTasks;
  const std::size_t tasks = static_cast<std::size_t>((blocks + grain - 1) / grain);
  const std::size_t sums_size = round_up(block.sums_size(), 64);
  const std::size_t scratch_size = round_up(block.scratch_size(), 64);
  const AlignedArray<T> sums = allocate<T>(tasks * sums_size);
  const AlignedArray<T> scratch = allocate<T>(tasks * scratch_size);
  parallel_for(blocks, grain, [&](std::int64_t begin, std::int64_t end) {
    const std::size_t task = static_cast<std::size_t>(begin / grain);
    T* own = sums.get() + task * sums_size;
    std::memset(own, 0, sums_size * sizeof(T));
    const WeightSums<T> parts = block.sums_at(own);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t b0 = i * sub;
      block.run(static_cast<std::size_t>(b0), static_cast<std::size_t>(std::min(sub, shape.B - b0)),
                scratch.get() + task * scratch_size, parts);
    }
  });
  block.finish(sums.get(), sums_size, tasks);
}

void backward_f32(const GruShape& s, const GruWeights<float>& w, const float* xs, const float* h0, const float* hs,
                  const float* gates, const float* g_hs, const GruGradients<float>& out) {
  backward(s, w, xs, h0, hs, gates, g_hs, out);
}
void backward_f64(const GruShape& s, const GruWeights<double>& w, const double* xs, const double* h0, const double* hs,
                  const double* gates, const double* g_hs, const GruGradients<double>& out) {
  backward(s, w, xs, h0, hs, gates, g_hs, out);
}

}  // namespace solvent::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace solvent::cpu {

HWY_EXPORT(backward_f32);
HWY_EXPORT(backward_f64);

template <>
void gru_backward(const GruShape& shape, const GruWeights<float>& weights, const float* xs, const float* h0,
                  const float* hs, const float* gates, const float* g_hs, const GruGradients<float>& gradients) {
  HWY_DYNAMIC_DISPATCH(backward_f32)(shape, weights, xs, h0, hs, gates, g_hs, gradients);
}

template <>
void gru_backward(const GruShape& shape, const GruWeights<double>& weights, const double* xs, const double* h0,
                  const double* hs, const double* gates, const double* g_hs, const GruGradients<double>& gradients) {
  HWY_DYNAMIC_DISPATCH(backward_f64)(shape, weights, xs, h0, hs, gates, g_hs, gradients);
}

}  // namespace solvent::cpu
#endif  // HWY_ONCE
