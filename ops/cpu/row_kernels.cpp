// Operations on the rows of a contiguous (rows, cols) matrix: softmax and its relatives, cross entropy, layer normalisation.
//
// Decomposition: blocks of rows of about kElementwiseGrain elements; each row is one thread's work in two or three passes
// over a row that stays in the nearest caches, so memory sees one read (two where a backward pass has two inputs) and one
// write. Large results are written past the caches in the last pass. Deterministic: the passes of a row have one fixed
// order; sums over rows (cotangents of scale and shift) are combined block by block in order.

#include "solvent/ops/cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "solvent/ops/cpu/row_kernels.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/cpu/row_maps-inl.h"
#include "solvent/ops/cpu/streaming.h"
#include "solvent/ops/cpu/vector_kernels.h"

#ifndef SOLVENT_OPS_CPU_ROW_KERNELS_ONCE
#define SOLVENT_OPS_CPU_ROW_KERNELS_ONCE
namespace solvent::cpu {
namespace {

/// Pieces of layer normalisation's arguments that a block of rows needs.
template <class T>
struct LayerNormForward {
  const T* x;
  const T* scale;
  const T* shift;
  double eps;
  T* y;
  T* mean;
  T* rstd;
  std::size_t cols;
  bool stream;
};
template <class T>
struct LayerNormBackward {
  const T* g;
  const T* x;
  const T* mean;
  const T* rstd;
  const T* scale;
  T* gx;
  std::size_t cols;
};

/// Serial kernels of one target; all work on rows [begin, end).
template <class T>
struct RowKernels {
  void (*softmax)(const T* x, T* y, std::size_t begin, std::size_t end, std::size_t cols, bool stream) noexcept;
  void (*log_softmax)(const T* x, T* y, std::size_t begin, std::size_t end, std::size_t cols, bool stream) noexcept;
  void (*logsumexp)(const T* x, T* y, std::size_t begin, std::size_t end, std::size_t cols) noexcept;
  void (*softmax_backward)(const T* g, const T* y, T* gx, std::size_t begin, std::size_t end, std::size_t cols,
                           bool stream) noexcept;
  void (*log_softmax_backward)(const T* g, const T* y, T* gx, std::size_t begin, std::size_t end, std::size_t cols,
                               bool stream) noexcept;
  /// gx = factor e^(x - lse)
  void (*scaled_softmax)(const T* x, T lse, T factor, T* gx, std::size_t cols) noexcept;
  void (*layer_norm)(const LayerNormForward<T>& p, std::size_t begin, std::size_t end) noexcept;
  /// Adds the rows' contributions to g_scale and g_shift unless these are null.
  void (*layer_norm_backward)(const LayerNormBackward<T>& p, T* g_scale, T* g_shift, std::size_t begin,
                              std::size_t end) noexcept;
};

}  // namespace
}  // namespace solvent::cpu
#endif  // SOLVENT_OPS_CPU_ROW_KERNELS_ONCE

HWY_BEFORE_NAMESPACE();
namespace solvent::cpu::HWY_NAMESPACE {

/// Largest element of a row; NaNs may or may not be skipped (the sum of exponentials that follows catches them). Two
/// accumulators hide the latency of the comparisons.
template <class D, class T = hn::TFromD<D>>
HWY_INLINE T row_max(D d, const T* x, std::size_t cols) {
  const std::size_t lanes = hn::Lanes(d);
  auto m0 = hn::Set(d, -std::numeric_limits<T>::infinity());
  auto m1 = m0;
  std::size_t i = 0;
  for (; i + 2 * lanes <= cols; i += 2 * lanes) {
    m0 = hn::Max(hn::LoadU(d, x + i), m0);
    m1 = hn::Max(hn::LoadU(d, x + i + lanes), m1);
  }
  for (; i < cols; i += lanes) {
    const std::size_t count = std::min(lanes, cols - i);
    const auto v =
        count == lanes ? hn::LoadU(d, x + i) : hn::IfThenElse(hn::FirstN(d, count), load_first(d, x + i, count), m0);
    m0 = hn::Max(v, m0);
  }
  return hn::GetLane(hn::MaxOfLanes(d, hn::Max(m0, m1)));
}

template <class D, class T = hn::TFromD<D>>
bool row_has_nan(D d, const T* x, std::size_t cols) {
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + lanes <= cols; i += lanes) {
    if (!hn::AllFalse(d, hn::IsNaN(hn::LoadU(d, x + i)))) return true;
  }
  return i < cols && !hn::AllFalse(d, hn::IsNaN(load_first(d, x + i, cols - i)));
}

/// Sum of e^(x - shift) over a row, storing each term to y unless y is null.
template <bool kStore, class D, class T = hn::TFromD<D>>
HWY_INLINE T exp_row(D d, const T* x, T shift, T* y, std::size_t cols) {
  const std::size_t lanes = hn::Lanes(d);
  const auto offset = hn::Set(d, shift);
  auto s0 = hn::Zero(d);
  auto s1 = s0;
  std::size_t i = 0;
  for (; i + 2 * lanes <= cols; i += 2 * lanes) {
    const auto e0 = exp_bounded_above(d, hn::Sub(hn::LoadU(d, x + i), offset));
    const auto e1 = exp_bounded_above(d, hn::Sub(hn::LoadU(d, x + i + lanes), offset));
    if constexpr (kStore) {
      hn::StoreU(e0, d, y + i);
      hn::StoreU(e1, d, y + i + lanes);
    }
    s0 = hn::Add(s0, e0);
    s1 = hn::Add(s1, e1);
  }
  for (; i < cols; i += lanes) {
    const std::size_t count = std::min(lanes, cols - i);
    if (count == lanes) {
      const auto e = exp_bounded_above(d, hn::Sub(hn::LoadU(d, x + i), offset));
      if constexpr (kStore) hn::StoreU(e, d, y + i);
      s0 = hn::Add(s0, e);
    } else {
      const auto e = exp_bounded_above(d, hn::Sub(load_first(d, x + i, count), offset));
      if constexpr (kStore) store_first(d, e, y + i, count);
      s1 = hn::Add(s1, hn::IfThenElseZero(hn::FirstN(d, count), e));
    }
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(s0, s1)));
}

/// Sum of f(vector at i) over a row in four accumulators; f gets (i, number of lanes) and must give 0 in lanes beyond.
template <class D, class Full, class Rest>
HWY_INLINE hn::TFromD<D> sum_row(D d, std::size_t cols, const Full& full, const Rest& rest) {
  const std::size_t lanes = hn::Lanes(d);
  auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  std::size_t i = 0;
  for (; i + 4 * lanes <= cols; i += 4 * lanes) {
    s0 = hn::Add(s0, full(i));
    s1 = hn::Add(s1, full(i + lanes));
    s2 = hn::Add(s2, full(i + 2 * lanes));
    s3 = hn::Add(s3, full(i + 3 * lanes));
  }
  for (; i + lanes <= cols; i += lanes) s0 = hn::Add(s0, full(i));
  if (i < cols) s1 = hn::Add(s1, rest(i, cols - i));
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
}

/// Rows up to this length pass through a buffer, so that the result is written once, past the caches.
inline constexpr std::size_t kRowBuffer = 4096;

/// Rows of one vector or less, or of more than one and less than two (kTwo), in registers; returns the first row it left to
/// the general code. Loads and stores are whole vectors that reach into the next rows, whose results are written later (so
/// not in place, and not the last rows of the block): masked stores cost more than all else.
template <bool kTwo, class T>
std::size_t softmax_short_rows(const T* x, T* y, std::size_t begin, std::size_t end, std::size_t cols) {
  const hn::ScalableTag<T> d;
  const std::size_t lanes = hn::Lanes(d);
  const auto low = hn::Set(d, -std::numeric_limits<T>::infinity());
  const auto mask0 = hn::FirstN(d, std::min(cols, lanes));
  const auto mask1 = hn::FirstN(d, kTwo ? cols - lanes : 0);
  std::size_t r = begin;
  for (; r < end && r * cols + (kTwo ? 2 : 1) * lanes <= end * cols; ++r) {
    const auto v0 = hn::IfThenElse(mask0, hn::LoadU(d, x + r * cols), low);
    auto v1 = low;
    auto largest = v0;
    if constexpr (kTwo) {
      v1 = hn::IfThenElse(mask1, hn::LoadU(d, x + r * cols + lanes), low);
      largest = hn::Max(v0, v1);
    }
    largest = hn::MaxOfLanes(d, largest);
    // Lanes beyond the row take part as e^0: e^-inf would cost a denormal intermediate result.
    const auto e0 = exp_bounded_above(d, hn::IfThenElseZero(mask0, hn::Sub(v0, largest)));
    auto sum = hn::IfThenElseZero(mask0, e0);
    auto e1 = e0;
    if constexpr (kTwo) {
      e1 = exp_bounded_above(d, hn::IfThenElseZero(mask1, hn::Sub(v1, largest)));
      sum = hn::Add(sum, hn::IfThenElseZero(mask1, e1));
    }
    const auto factor = hn::Div(hn::Set(d, T{1}), hn::SumOfLanes(d, sum));
    hn::StoreU(hn::Mul(e0, factor), d, y + r * cols);
    if constexpr (kTwo) hn::StoreU(hn::Mul(e1, factor), d, y + r * cols + lanes);
  }
  return r;
}

template <class T>
void softmax_rows(const T* x, T* y, std::size_t begin, std::size_t end, std::size_t cols, bool stream) noexcept {
  const hn::ScalableTag<T> d;
  HWY_ALIGN T buffer[kRowBuffer];
  const bool buffered = stream && cols <= kRowBuffer;
  if (x != y && cols <= hn::Lanes(d)) {
    begin = softmax_short_rows<false>(x, y, begin, end, cols);
  } else if (x != y && cols < 2 * hn::Lanes(d)) {
    begin = softmax_short_rows<true>(x, y, begin, end, cols);
  }
  for (std::size_t r = begin; r < end; ++r) {
    const T* in = x + r * cols;
    T* out = y + r * cols;
    T* terms = buffered ? buffer : out;
    const T sum = exp_row<true>(d, in, row_max(d, in, cols), terms, cols);
    const auto factor = hn::Set(d, T{1} / sum);
    map_row(
        d, out, cols, buffered, [&](auto e) HWY_ATTR { return hn::Mul(e, factor); }, terms);
  }
  if (buffered) hwy::FlushStream();
}

/// log(sum e^x) with the limits: -inf for an empty row or one of -inf, +inf if the largest element is.
template <class D, class T = hn::TFromD<D>>
HWY_INLINE T logsumexp_row(D d, const T* x, std::size_t cols) {
  const T largest = row_max(d, x, cols);
  if (!std::isfinite(largest)) {
    return row_has_nan(d, x, cols) ? std::numeric_limits<T>::quiet_NaN() : largest;
  }
  return largest + std::log(exp_row<false>(d, x, largest, static_cast<T*>(nullptr), cols));
}

template <class T>
void log_softmax_rows(const T* x, T* y, std::size_t begin, std::size_t end, std::size_t cols, bool stream) noexcept {
  const hn::ScalableTag<T> d;
  for (std::size_t r = begin; r < end; ++r) {
    const T* in = x + r * cols;
    // x - max and log(sum) are subtracted one after the other: their sum would lose the digits of a dominant element.
    const T largest = row_max(d, in, cols);
    const auto shift = hn::Set(d, largest);
    const auto rest = hn::Set(d, std::log(exp_row<false>(d, in, largest, static_cast<T*>(nullptr), cols)));
    map_row(
        d, y + r * cols, cols, stream, [&](auto v) HWY_ATTR { return hn::Sub(hn::Sub(v, shift), rest); }, in);
  }
  if (stream) hwy::FlushStream();
}

/// Rows of at most one vector; returns the first row it left to the general code (whole vectors are loaded, so not the last
/// rows of the block). The logarithms of kGroup rows are taken together.
template <class T>
std::size_t logsumexp_short_rows(const T* x, T* y, std::size_t begin, std::size_t end, std::size_t cols) {
  const hn::ScalableTag<T> d;
  const std::size_t lanes = hn::Lanes(d);
  const auto mask = hn::FirstN(d, cols);
  const auto low = hn::Set(d, -std::numeric_limits<T>::infinity());
  constexpr std::size_t kGroup = 64;
  HWY_ALIGN T largest[kGroup];
  HWY_ALIGN T sum[kGroup] = {};
  std::size_t r = begin;
  while (r < end && r * cols + lanes <= end * cols) {
    std::size_t n = 0;
    for (; n < kGroup && r + n < end && (r + n) * cols + lanes <= end * cols; ++n) {
      const auto v = hn::IfThenElse(mask, hn::LoadU(d, x + (r + n) * cols), low);
      const auto most = hn::MaxOfLanes(d, v);
      const auto terms = exp_bounded_above(d, hn::IfThenElseZero(mask, hn::Sub(v, most)));
      largest[n] = hn::GetLane(most);
      sum[n] = hn::GetLane(hn::SumOfLanes(d, hn::IfThenElseZero(mask, terms)));
    }
    for (std::size_t i = 0; i < n; i += lanes) {
      const auto value = hn::Add(hn::Load(d, largest + i), HWY_NAMESPACE::log(d, hn::Load(d, sum + i)));
      store_first(d, value, y + r + i, std::min(lanes, n - i));
    }
    for (std::size_t i = 0; i < n; ++i)
      if (!std::isfinite(largest[i])) y[r + i] = logsumexp_row(d, x + (r + i) * cols, cols);
    r += n;
  }
  return r;
}

template <class T>
void logsumexp_rows(const T* x, T* y, std::size_t begin, std::size_t end, std::size_t cols) noexcept {
  const hn::ScalableTag<T> d;
  if (cols <= hn::Lanes(d)) begin = logsumexp_short_rows(x, y, begin, end, cols);
  for (std::size_t r = begin; r < end; ++r) y[r] = logsumexp_row(d, x + r * cols, cols);
}

template <class T>
void softmax_backward_rows(const T* g, const T* y, T* gx, std::size_t begin, std::size_t end, std::size_t cols,
                           bool stream) noexcept {
  const hn::ScalableTag<T> d;
  for (std::size_t r = begin; r < end; ++r) {
    const T* a = g + r * cols;
    const T* b = y + r * cols;
    const T product = sum_row(
        d, cols, [&](std::size_t i) HWY_ATTR { return hn::Mul(hn::LoadU(d, a + i), hn::LoadU(d, b + i)); },
        [&](std::size_t i, std::size_t n)
            HWY_ATTR { return hn::Mul(load_first(d, a + i, n), load_first(d, b + i, n)); });
    const auto mean = hn::Set(d, product);
    map_row(
        d, gx + r * cols, cols, stream, [&](auto vg, auto vy) HWY_ATTR { return hn::Mul(vy, hn::Sub(vg, mean)); }, a,
        b);
  }
  if (stream) hwy::FlushStream();
}

template <class T>
void log_softmax_backward_rows(const T* g, const T* y, T* gx, std::size_t begin, std::size_t end, std::size_t cols,
                               bool stream) noexcept {
  const hn::ScalableTag<T> d;
  for (std::size_t r = begin; r < end; ++r) {
    const T* a = g + r * cols;
    const T total = sum_row(
        d, cols, [&](std::size_t i) HWY_ATTR { return hn::LoadU(d, a + i); },
        [&](std::size_t i, std::size_t n) HWY_ATTR { return load_first(d, a + i, n); });
    const auto sum = hn::Set(d, total);
    map_row(
        d, gx + r * cols, cols, stream,
        [&](auto vg, auto vy) HWY_ATTR { return hn::NegMulAdd(exp_bounded_above(d, vy), sum, vg); }, a, y + r * cols);
  }
  if (stream) hwy::FlushStream();
}

template <class T>
void scaled_softmax_row(const T* x, T lse, T factor, T* gx, std::size_t cols) noexcept {
  const hn::ScalableTag<T> d;
  const auto offset = hn::Set(d, lse);
  const auto scale = hn::Set(d, factor);
  map_row(
      d, gx, cols, false, [&](auto v) HWY_ATTR { return hn::Mul(HWY_NAMESPACE::exp(d, hn::Sub(v, offset)), scale); },
      x);
}

template <class T>
void layer_norm_rows(const LayerNormForward<T>& p, std::size_t begin, std::size_t end) noexcept {
  const hn::ScalableTag<T> d;
  const std::size_t cols = p.cols;
  const T count = static_cast<T>(cols);
  for (std::size_t r = begin; r < end; ++r) {
    const T* x = p.x + r * cols;
    T* y = p.y + r * cols;
    const T mean = sum_row(
                       d, cols, [&](std::size_t i) HWY_ATTR { return hn::LoadU(d, x + i); },
                       [&](std::size_t i, std::size_t n) HWY_ATTR { return load_first(d, x + i, n); }) /
                   count;
    const auto centre = hn::Set(d, mean);
    const T variance = sum_row(
                           d, cols,
                           [&](std::size_t i) HWY_ATTR {
                             const auto v = hn::Sub(hn::LoadU(d, x + i), centre);
                             return hn::Mul(v, v);
                           },
                           [&](std::size_t i, std::size_t n) HWY_ATTR {
                             const auto v = hn::Sub(load_first(d, x + i, n), centre);
                             return hn::IfThenElseZero(hn::FirstN(d, n), hn::Mul(v, v));
                           }) /
                       count;
    const T rstd = T{1} / std::sqrt(variance + static_cast<T>(p.eps));
    if (p.mean != nullptr) p.mean[r] = mean;
    if (p.rstd != nullptr) p.rstd[r] = rstd;
    const auto factor = hn::Set(d, rstd);
    const auto normalise = [&](auto v) HWY_ATTR { return hn::Mul(hn::Sub(v, centre), factor); };
    if (p.scale == nullptr && p.shift == nullptr) {
      map_row(d, y, cols, p.stream, normalise, x);
    } else if (p.shift == nullptr) {
      map_row(
          d, y, cols, p.stream, [&](auto v, auto s) HWY_ATTR { return hn::Mul(normalise(v), s); }, x, p.scale);
    } else if (p.scale == nullptr) {
      map_row(
          d, y, cols, p.stream, [&](auto v, auto b) HWY_ATTR { return hn::Add(normalise(v), b); }, x, p.shift);
    } else {
      map_row(
          d, y, cols, p.stream, [&](auto v, auto s, auto b) HWY_ATTR { return hn::MulAdd(normalise(v), s, b); }, x,
          p.scale, p.shift);
    }
  }
  if (p.stream) hwy::FlushStream();
}

/// The vectors at column i of one row of the backward pass: the cotangent times the scale, and the normalised input.
template <class V>
struct NormalisedPair {
  V g;
  V x;
};

/// With xn = (x - mean) rstd and h = g scale: gx = rstd (h - mean(h) - xn mean(h xn)); g_scale += g xn; g_shift += g.
template <class T>
void layer_norm_backward_rows(const LayerNormBackward<T>& p, T* g_scale, T* g_shift, std::size_t begin,
                              std::size_t end) noexcept {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  const std::size_t cols = p.cols;
  for (std::size_t r = begin; r < end; ++r) {
    const T* g = p.g + r * cols;
    const T* x = p.x + r * cols;
    const V centre = hn::Set(d, p.mean[r]);
    const V factor = hn::Set(d, p.rstd[r]);
    const auto at = [&](std::size_t i) HWY_ATTR -> NormalisedPair<V> {
      return {hn::LoadU(d, g + i), hn::Mul(hn::Sub(hn::LoadU(d, x + i), centre), factor)};
    };
    const auto at_end = [&](std::size_t i, std::size_t n) HWY_ATTR -> NormalisedPair<V> {
      return {load_first(d, g + i, n), hn::Mul(hn::Sub(load_first(d, x + i, n), centre), factor)};
    };
    V sum_h = hn::Zero(d);
    V sum_hx = hn::Zero(d);
    for_row(
        d, cols,
        [&](std::size_t i) HWY_ATTR {
          const auto [vg, vx] = at(i);
          if (g_scale != nullptr) hn::StoreU(hn::MulAdd(vg, vx, hn::LoadU(d, g_scale + i)), d, g_scale + i);
          if (g_shift != nullptr) hn::StoreU(hn::Add(vg, hn::LoadU(d, g_shift + i)), d, g_shift + i);
          const V h = p.scale == nullptr ? vg : hn::Mul(vg, hn::LoadU(d, p.scale + i));
          sum_h = hn::Add(sum_h, h);
          sum_hx = hn::MulAdd(h, vx, sum_hx);
        },
        [&](std::size_t i, std::size_t n) HWY_ATTR {
          const auto [vg, vx] = at_end(i, n);
          if (g_scale != nullptr) store_first(d, hn::MulAdd(vg, vx, load_first(d, g_scale + i, n)), g_scale + i, n);
          if (g_shift != nullptr) store_first(d, hn::Add(vg, load_first(d, g_shift + i, n)), g_shift + i, n);
          const V h = p.scale == nullptr ? vg : hn::Mul(vg, load_first(d, p.scale + i, n));
          sum_h = hn::Add(sum_h, h);
          sum_hx = hn::MulAdd(h, vx, sum_hx);
        });
    if (p.gx == nullptr) continue;
    const V inverse_count = hn::Set(d, T{1} / static_cast<T>(cols));
    const V mean_h = hn::Mul(hn::SumOfLanes(d, sum_h), inverse_count);
    const V mean_hx = hn::Mul(hn::SumOfLanes(d, sum_hx), inverse_count);
    const auto cotangent = [&](V h, V vx)
                               HWY_ATTR { return hn::Mul(factor, hn::NegMulAdd(vx, mean_hx, hn::Sub(h, mean_h))); };
    T* gx = p.gx + r * cols;
    for_row(
        d, cols,
        [&](std::size_t i) HWY_ATTR {
          const auto [vg, vx] = at(i);
          hn::StoreU(cotangent(p.scale == nullptr ? vg : hn::Mul(vg, hn::LoadU(d, p.scale + i)), vx), d, gx + i);
        },
        [&](std::size_t i, std::size_t n) HWY_ATTR {
          const auto [vg, vx] = at_end(i, n);
          const V h = p.scale == nullptr ? vg : hn::Mul(vg, load_first(d, p.scale + i, n));
          store_first(d, cotangent(h, vx), gx + i, n);
        });
  }
}

template <class T>
const RowKernels<T>& row_entry() {
  static constexpr RowKernels<T> kKernels = {
      &softmax_rows<T>,          &log_softmax_rows<T>,          &logsumexp_rows<T>,
      &softmax_backward_rows<T>, &log_softmax_backward_rows<T>, &scaled_softmax_row<T>,
      &layer_norm_rows<T>,       &layer_norm_backward_rows<T>};
  return kKernels;
}
const RowKernels<float>& row_float() { return row_entry<float>(); }
const RowKernels<double>& row_double() { return row_entry<double>(); }

}  // namespace solvent::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace solvent::cpu {
namespace {

HWY_EXPORT(row_float);
HWY_EXPORT(row_double);

template <class T>
const RowKernels<T>& row_kernels() {
  if constexpr (sizeof(T) == 4) return HWY_DYNAMIC_DISPATCH(row_float)();
  if constexpr (sizeof(T) == 8) return HWY_DYNAMIC_DISPATCH(row_double)();
}

std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

/// Rows per block: about half of kElementwiseGrain elements, because each is read more than once.
std::int64_t row_grain(std::int64_t cols) {
  return std::max<std::int64_t>(1, kElementwiseGrain / 2 / std::max<std::int64_t>(cols, 1));
}

/// Whether the rows of y should be written past the caches.
template <class T>
bool stream_rows(const T* y, std::initializer_list<const T*> inputs, std::int64_t rows, std::int64_t cols) {
  return std::find(inputs.begin(), inputs.end(), y) == inputs.end() && worth_streaming(y, rows * cols);
}

}  // namespace

template <class T>
void softmax(const T* x, T* y, std::int64_t rows, std::int64_t cols) noexcept {
  const auto kernel = row_kernels<T>().softmax;
  const bool stream = stream_rows(y, {x}, rows, cols);
  parallel_for(rows, row_grain(cols),
               [=](std::int64_t begin, std::int64_t end) { kernel(x, y, size(begin), size(end), size(cols), stream); });
}

template <class T>
void log_softmax(const T* x, T* y, std::int64_t rows, std::int64_t cols) noexcept {
  const auto kernel = row_kernels<T>().log_softmax;
  const bool stream = stream_rows(y, {x}, rows, cols);
  parallel_for(rows, row_grain(cols),
               [=](std::int64_t begin, std::int64_t end) { kernel(x, y, size(begin), size(end), size(cols), stream); });
}

template <class T>
void logsumexp(const T* x, T* y, std::int64_t rows, std::int64_t cols) noexcept {
  const auto kernel = row_kernels<T>().logsumexp;
  parallel_for(rows, row_grain(cols),
               [=](std::int64_t begin, std::int64_t end) { kernel(x, y, size(begin), size(end), size(cols)); });
}

template <class T>
void softmax_backward(const T* g, const T* y, T* gx, std::int64_t rows, std::int64_t cols) noexcept {
  const auto kernel = row_kernels<T>().softmax_backward;
  const bool stream = stream_rows(gx, {g, y}, rows, cols);
  parallel_for(rows, row_grain(cols), [=](std::int64_t begin, std::int64_t end) {
    kernel(g, y, gx, size(begin), size(end), size(cols), stream);
  });
}

template <class T>
void log_softmax_backward(const T* g, const T* y, T* gx, std::int64_t rows, std::int64_t cols) noexcept {
  const auto kernel = row_kernels<T>().log_softmax_backward;
  const bool stream = stream_rows(gx, {g, y}, rows, cols);
  parallel_for(rows, row_grain(cols), [=](std::int64_t begin, std::int64_t end) {
    kernel(g, y, gx, size(begin), size(end), size(cols), stream);
  });
}

template <class T>
void cross_entropy(const T* x, const std::int64_t* label, std::int64_t rows, std::int64_t cols, T* loss,
                   T* lse) noexcept {
  const auto kernel = row_kernels<T>().logsumexp;
  parallel_for(rows, row_grain(cols), [=](std::int64_t begin, std::int64_t end) {
    kernel(x, loss, size(begin), size(end), size(cols));
    for (std::int64_t r = begin; r < end; ++r) {
      if (lse != nullptr) lse[r] = loss[r];
      loss[r] -= x[r * cols + label[r]];
    }
  });
}

template <class T>
void cross_entropy_backward(const T* g, std::int64_t stride_g, const T* x, const std::int64_t* label, const T* lse,
                            T* gx, std::int64_t rows, std::int64_t cols) noexcept {
  const auto kernel = row_kernels<T>().scaled_softmax;
  parallel_for(rows, row_grain(cols), [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const T factor = g[r * stride_g];
      kernel(x + r * cols, lse[r], factor, gx + r * cols, size(cols));
      gx[r * cols + label[r]] -= factor;
    }
  });
}

template <class T>
void layer_norm(const T* x, const T* scale, const T* shift, double eps, T* y, T* mean, T* rstd, std::int64_t rows,
                std::int64_t cols) noexcept {
  const auto kernel = row_kernels<T>().layer_norm;
  const LayerNormForward<T> p{x, scale, shift, eps, y, mean, rstd, size(cols), stream_rows(y, {x}, rows, cols)};
  parallel_for(rows, row_grain(cols), [&](std::int64_t begin, std::int64_t end) { kernel(p, size(begin), size(end)); });
}

template <class T>
void layer_norm_backward(const T* g, const T* x, const T* mean, const T* rstd, const T* scale, T* gx, T* g_scale,
                         T* g_shift, std::int64_t rows, std::int64_t cols) {
  const auto kernel = row_kernels<T>().layer_norm_backward;
  const LayerNormBackward<T> p{g, x, mean, rstd, scale, gx, size(cols)};
  if (g_scale == nullptr && g_shift == nullptr) {
    parallel_for(rows, row_grain(cols), [&](std::int64_t begin, std::int64_t end) {
      kernel(p, static_cast<T*>(nullptr), static_cast<T*>(nullptr), size(begin), size(end));
    });
    return;
  }
  // Blocks of at most 64 rows keep the sums accurate; at most 256 blocks keep the partial sums small.
  const std::int64_t wanted = std::clamp<std::int64_t>(row_grain(cols), 16, 64);
  const std::int64_t block_rows = std::max(wanted, (rows + 255) / 256);
  const std::int64_t blocks = (rows + block_rows - 1) / block_rows;
  std::vector<T> partial_scale(g_scale != nullptr ? size(blocks * cols) : 0);
  std::vector<T> partial_shift(g_shift != nullptr ? size(blocks * cols) : 0);
  parallel_for(blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t k = begin; k < end; ++k) {
      kernel(p, g_scale != nullptr ? partial_scale.data() + k * cols : nullptr,
             g_shift != nullptr ? partial_shift.data() + k * cols : nullptr, size(k * block_rows),
             size(std::min(rows, (k + 1) * block_rows)));
    }
  });
  if (g_scale != nullptr) reduce(ReduceFn::sum, partial_scale.data(), 1, blocks, cols, g_scale);
  if (g_shift != nullptr) reduce(ReduceFn::sum, partial_shift.data(), 1, blocks, cols, g_shift);
}

#define SOLVENT_INSTANTIATE(T)                                                                                     \
  template void softmax(const T*, T*, std::int64_t, std::int64_t) noexcept;                                        \
  template void log_softmax(const T*, T*, std::int64_t, std::int64_t) noexcept;                                    \
  template void logsumexp(const T*, T*, std::int64_t, std::int64_t) noexcept;                                      \
  template void softmax_backward(const T*, const T*, T*, std::int64_t, std::int64_t) noexcept;                     \
  template void log_softmax_backward(const T*, const T*, T*, std::int64_t, std::int64_t) noexcept;                 \
  template void cross_entropy(const T*, const std::int64_t*, std::int64_t, std::int64_t, T*, T*) noexcept;         \
  template void cross_entropy_backward(const T*, std::int64_t, const T*, const std::int64_t*, const T*, T*,        \
                                       std::int64_t, std::int64_t) noexcept;                                       \
  template void layer_norm(const T*, const T*, const T*, double, T*, T*, T*, std::int64_t, std::int64_t) noexcept; \
  template void layer_norm_backward(const T*, const T*, const T*, const T*, const T*, T*, T*, T*, std::int64_t,    \
                                    std::int64_t)
SOLVENT_INSTANTIATE(float);
SOLVENT_INSTANTIATE(double);
#undef SOLVENT_INSTANTIATE

}  // namespace solvent::cpu
#endif  // HWY_ONCE
