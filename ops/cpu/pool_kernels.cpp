// Pooling and resampling of contiguous planes.
//
// Decomposition: planes are handed out in blocks of about kPoolGrain elements of the map; each plane is one thread's work.
// Windows that lie inside the map along the columns, with stride 1 or 2, are computed a vector of outputs at a time (the
// last vector of a row overlaps the one before); the others one by one. Both add and compare in the same order, so they
// give the same bits. Memory: one read of the map, one write of the results.

#include "solvent/ops/cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "solvent/ops/cpu/pool_kernels.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "hwy/highway.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/cpu/pool_kernels.h"

#ifndef SOLVENT_OPS_CPU_POOL_KERNELS_ONCE
#define SOLVENT_OPS_CPU_POOL_KERNELS_ONCE
namespace solvent::cpu {
namespace {

/// Serial kernels of one target on planes [begin, end). `limit` is the end of x: vectors may read past a row, not past it.
template <class T>
struct PoolKernels {
  void (*max)(const PoolGeometry& g, const T* x, const T* limit, T* y, std::int64_t* index, std::int64_t begin,
              std::int64_t end) noexcept;
  void (*avg)(const PoolGeometry& g, const T* x, const T* limit, T* y, std::int64_t begin, std::int64_t end) noexcept;
  /// y (rows, inner) = matrix times x (n, inner), one item.
  void (*resample)(const SparseRows& m, const T* weight, const T* x, std::int64_t inner, T* y) noexcept;
};

/// One row of windows: rows [top, top + rows) of the map, and the windows [lo, hi) that need no test of columns.
struct WindowRow {
  std::int64_t top;
  std::int64_t rows;
  std::int64_t lo;
  std::int64_t hi;
};

inline WindowRow window_row(const PoolGeometry& g, std::int64_t oh) noexcept {
  const std::int64_t start = oh * g.stride_h - g.pad_h;
  WindowRow r{};
  r.top = std::max<std::int64_t>(start, 0);
  r.rows = std::min(start + g.window_h, g.height) - r.top;
  const std::int64_t room = g.width + g.pad_w - g.window_w;
  r.lo = std::min((g.pad_w + g.stride_w - 1) / g.stride_w, g.out_width);
  r.hi = room < 0 ? r.lo : std::clamp(room / g.stride_w + 1, r.lo, g.out_width);
  return r;
}

/// Columns [left, right) of the map in window `ow`.
struct WindowColumns {
  std::int64_t left;
  std::int64_t right;
};

inline WindowColumns window_columns(const PoolGeometry& g, std::int64_t ow) noexcept {
  const std::int64_t start = ow * g.stride_w - g.pad_w;
  return {std::max<std::int64_t>(start, 0), std::min(start + g.window_w, g.width)};
}

template <class T>
void max_of_window(const PoolGeometry& g, const T* x, const WindowRow& r, std::int64_t ow, T* y,
                   std::int64_t* index) noexcept {
  const WindowColumns c = window_columns(g, ow);
  std::int64_t best_at = r.top * g.width + c.left;
  T best = x[best_at];
  for (std::int64_t h = r.top; h < r.top + r.rows; ++h)
    for (std::int64_t w = c.left; w < c.right; ++w) {
      const T v = x[h * g.width + w];
      if (!(v <= best) && !std::isnan(best)) {
        best = v;
        best_at = h * g.width + w;
      }
    }
  y[ow] = best;
  index[ow] = best_at;
}

/// Number of elements by which the sum over `rows` x `columns` of them is divided.
template <class T>
T divisor(const PoolGeometry& g, std::int64_t rows, std::int64_t columns) noexcept {
  return static_cast<T>(g.count_include_pad ? g.window_h * g.window_w : rows * columns);
}

template <class T>
void mean_of_window(const PoolGeometry& g, const T* x, const WindowRow& r, std::int64_t ow, T* y) noexcept {
  const WindowColumns c = window_columns(g, ow);
  T sum = 0;
  for (std::int64_t h = r.top; h < r.top + r.rows; ++h)
    for (std::int64_t w = c.left; w < c.right; ++w) sum += x[h * g.width + w];
  y[ow] = sum / divisor<T>(g, r.rows, c.right - c.left);
}

}  // namespace
}  // namespace solvent::cpu
#endif  // SOLVENT_OPS_CPU_POOL_KERNELS_ONCE

HWY_BEFORE_NAMESPACE();
namespace solvent::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Elements p[0], p[S], p[2 S], ... and the ones after each.
template <int S, class D, class T = hn::TFromD<D>>
HWY_INLINE void load_pair(D d, const T* p, hn::Vec<D>& first, hn::Vec<D>& second) {
  if constexpr (S == 1 || HWY_TARGET == HWY_SCALAR) {
    first = hn::LoadU(d, p);
    second = hn::LoadU(d, p + 1);
  } else {
#if HWY_TARGET != HWY_SCALAR
    hn::LoadInterleaved2(d, p, first, second);
#endif
  }
}

/// Whether load_pair at the last column of the last row of these windows stays inside the memory.
template <int S, class D, class T = hn::TFromD<D>>
HWY_INLINE bool readable(D d, const PoolGeometry& g, const WindowRow& r, const T* p, const T* limit) {
  // The first column of the last load, and how far it reaches.
  const std::int64_t last = S == 1 || g.window_w % 2 == 1 ? g.window_w - 1 : g.window_w - 2;
  return limit - p >= (r.rows - 1) * g.width + last + static_cast<std::int64_t>(hn::Lanes(d)) * S;
}

/// Calls f(offset into the plane relative to p, elements) for all positions of the windows in row-major order.
template <int S, class D, class F, class T = hn::TFromD<D>>
HWY_INLINE void for_window(D d, const PoolGeometry& g, const WindowRow& r, const T* p, const F& f) {
  for (std::int64_t i = 0; i < r.rows; ++i) {
    const std::int64_t row = i * g.width;
    std::int64_t j = 0;
    for (; j + 2 <= g.window_w; j += 2) {
      hn::Vec<D> v0, v1;
      load_pair<S>(d, p + row + j, v0, v1);
      f(row + j, v0);
      f(row + j + 1, v1);
    }
    if (j < g.window_w) {
      hn::Vec<D> v0, v1;
      if constexpr (S == 1) {
        v0 = hn::LoadU(d, p + row + j);
      } else {
        load_pair<S>(d, p + row + j, v0, v1);
      }
      f(row + j, v0);
    }
  }
}

/// Windows [lo, hi) of a row, hi - lo >= Lanes(d); returns the number done (fewer than all at the end of the memory).
template <int S, class D, class T = hn::TFromD<D>>
HWY_INLINE std::int64_t max_row(D d, const PoolGeometry& g, const T* x, const T* limit, const WindowRow& r, T* y,
                                std::int64_t* index) {
  const hn::RebindToSigned<D> di;
  using I = hn::TFromD<decltype(di)>;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  HWY_ALIGN I positions[hn::MaxLanes(d)];
  const auto step = hn::Mul(hn::Iota(di, 0), hn::Set(di, static_cast<I>(S)));
  for (std::int64_t o = r.lo;;) {
    const std::int64_t at = r.top * g.width + o * S - g.pad_w;
    const T* p = x + at;
    if (!readable<S>(d, g, r, p, limit)) return o;
    auto best = hn::Set(d, -std::numeric_limits<T>::infinity());
    auto best_at = hn::Zero(di);
    for_window<S>(d, g, r, p, [&](std::int64_t offset, auto v) HWY_ATTR {
      const auto keep = hn::Or(hn::Le(v, best), hn::IsNaN(best));
      best = hn::IfThenElse(keep, best, v);
      best_at = hn::IfThenElse(hn::RebindMask(di, keep), best_at, hn::Set(di, static_cast<I>(offset)));
    });
    hn::StoreU(best, d, y + o);
    hn::Store(hn::Add(best_at, hn::Add(step, hn::Set(di, static_cast<I>(at)))), di, positions);
    for (std::int64_t l = 0; l < lanes; ++l) index[o + l] = static_cast<std::int64_t>(positions[l]);
    if (o + lanes >= r.hi) return r.hi;
    o = std::min(o + lanes, r.hi - lanes);
  }
}

template <int S, class D, class T = hn::TFromD<D>>
HWY_INLINE std::int64_t avg_row(D d, const PoolGeometry& g, const T* x, const T* limit, const WindowRow& r, T* y) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto count = hn::Set(d, divisor<T>(g, r.rows, g.window_w));
  for (std::int64_t o = r.lo;;) {
    const T* p = x + r.top * g.width + o * S - g.pad_w;
    if (!readable<S>(d, g, r, p, limit)) return o;
    auto sum = hn::Zero(d);
    for_window<S>(d, g, r, p, [&](std::int64_t, auto v) HWY_ATTR { sum = hn::Add(sum, v); });
    hn::StoreU(hn::Div(sum, count), d, y + o);
    if (o + lanes >= r.hi) return r.hi;
    o = std::min(o + lanes, r.hi - lanes);
  }
}

/// Calls row(tag, stride constant) for the widest vector that the row fills; returns the first window left over.
template <class T, class F>
HWY_INLINE std::int64_t with_vectors(const PoolGeometry& g, const WindowRow& r, const F& row) {
  constexpr auto kMaxPosition = std::int64_t{1} << 30;  // positions are compared as 32-bit integers
  if (g.stride_w > 2 || g.height * g.width > kMaxPosition) return r.lo;
  const auto any_stride = [&](auto d) HWY_ATTR {
    return g.stride_w == 1 ? row(d, std::integral_constant<int, 1>{}) : row(d, std::integral_constant<int, 2>{});
  };
  const hn::ScalableTag<T> full;
  const hn::CappedTag<T, 32 / sizeof(T)> half;
  const hn::CappedTag<T, 16 / sizeof(T)> quarter;
  const auto fits = [&](auto d) { return r.hi - r.lo >= static_cast<std::int64_t>(hn::Lanes(d)); };
  if (fits(full)) return any_stride(full);
  if (fits(half)) return any_stride(half);
  if (fits(quarter)) return any_stride(quarter);
  return r.lo;
}

template <class T>
void max_planes(const PoolGeometry& g, const T* x, const T* limit, T* y, std::int64_t* index, std::int64_t begin,
                std::int64_t end) noexcept {
  for (std::int64_t plane = begin; plane < end; ++plane) {
    const T* map = x + plane * g.height * g.width;
    for (std::int64_t oh = 0; oh < g.out_height; ++oh) {
      const WindowRow r = window_row(g, oh);
      T* out = y + (plane * g.out_height + oh) * g.out_width;
      std::int64_t* at = index + (plane * g.out_height + oh) * g.out_width;
      for (std::int64_t ow = 0; ow < r.lo; ++ow) max_of_window(g, map, r, ow, out, at);
      std::int64_t done = with_vectors<T>(
          g, r, [&](auto d, auto s) HWY_ATTR { return max_row<decltype(s)::value>(d, g, map, limit, r, out, at); });
      for (; done < g.out_width; ++done) max_of_window(g, map, r, done, out, at);
    }
  }
}

template <class T>
void avg_planes(const PoolGeometry& g, const T* x, const T* limit, T* y, std::int64_t begin,
                std::int64_t end) noexcept {
  for (std::int64_t plane = begin; plane < end; ++plane) {
    const T* map = x + plane * g.height * g.width;
    for (std::int64_t oh = 0; oh < g.out_height; ++oh) {
      const WindowRow r = window_row(g, oh);
      T* out = y + (plane * g.out_height + oh) * g.out_width;
      for (std::int64_t ow = 0; ow < r.lo; ++ow) mean_of_window(g, map, r, ow, out);
      std::int64_t done = with_vectors<T>(
          g, r, [&](auto d, auto s) HWY_ATTR { return avg_row<decltype(s)::value>(d, g, map, limit, r, out); });
      for (; done < g.out_width; ++done) mean_of_window(g, map, r, done, out);
    }
  }
}

template <class T>
void resample_item(const SparseRows& m, const T* weight, const T* x, std::int64_t inner, T* y) noexcept {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::size_t rows = m.begin.size() - 1;
  for (std::size_t o = 0; o < rows; ++o) {
    const auto first = static_cast<std::size_t>(m.begin[o]);
    const auto last = static_cast<std::size_t>(m.begin[o + 1]);
    T* out = y + static_cast<std::int64_t>(o) * inner;
    std::int64_t i = 0;
    for (; i + lanes <= inner; i += lanes) {
      auto sum = hn::Zero(d);
      for (std::size_t k = first; k < last; ++k)
        sum = hn::Add(sum, hn::Mul(hn::Set(d, weight[k]), hn::LoadU(d, x + m.column[k] * inner + i)));
      hn::StoreU(sum, d, out + i);
    }
    for (; i < inner; ++i) {
      T sum = 0;
      for (std::size_t k = first; k < last; ++k) sum += weight[k] * x[m.column[k] * inner + i];
      out[i] = sum;
    }
  }
}

template <class T>
const PoolKernels<T>& pool_entry() {
  static constexpr PoolKernels<T> kKernels = {&max_planes<T>, &avg_planes<T>, &resample_item<T>};
  return kKernels;
}
const PoolKernels<float>& pool_float() { return pool_entry<float>(); }
const PoolKernels<double>& pool_double() { return pool_entry<double>(); }

}  // namespace solvent::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace solvent::cpu {
namespace {

HWY_EXPORT(pool_float);
HWY_EXPORT(pool_double);

template <class T>
const PoolKernels<T>& pool_kernels() {
  if constexpr (sizeof(T) == 4) return HWY_DYNAMIC_DISPATCH(pool_float)();
  if constexpr (sizeof(T) == 8) return HWY_DYNAMIC_DISPATCH(pool_double)();
}

constexpr std::int64_t kPoolGrain = 32768;  // elements per task, about 20 us

std::int64_t plane_grain(std::int64_t size) {
  return std::max<std::int64_t>(1, kPoolGrain / std::max<std::int64_t>(size, 1));
}

}  // namespace

template <class T>
void max_pool(const PoolGeometry& g, const T* x, std::int64_t planes, T* y, std::int64_t* index) noexcept {
  const auto kernel = pool_kernels<T>().max;
  const T* limit = x + planes * g.height * g.width;
  parallel_for(planes, plane_grain(g.height * g.width),
               [=, &g](std::int64_t begin, std::int64_t end) { kernel(g, x, limit, y, index, begin, end); });
}

template <class T>
void avg_pool(const PoolGeometry& g, const T* x, std::int64_t planes, T* y) noexcept {
  const auto kernel = pool_kernels<T>().avg;
  const T* limit = x + planes * g.height * g.width;
  parallel_for(planes, plane_grain(g.height * g.width),
               [=, &g](std::int64_t begin, std::int64_t end) { kernel(g, x, limit, y, begin, end); });
}

template <class T>
void avg_pool_backward(const PoolGeometry& g, const T* gy, std::int64_t planes, T* gx) noexcept {
  const std::int64_t size = g.height * g.width;
  parallel_for(planes, plane_grain(size), [=, &g](std::int64_t begin, std::int64_t end) {
    std::fill(gx + begin * size, gx + end * size, T{0});
    for (std::int64_t plane = begin; plane < end; ++plane)
      for (std::int64_t oh = 0; oh < g.out_height; ++oh) {
        const WindowRow r = window_row(g, oh);
        const T* in = gy + (plane * g.out_height + oh) * g.out_width;
        for (std::int64_t h = r.top; h < r.top + r.rows; ++h) {
          T* row = gx + plane * size + h * g.width;
          for (std::int64_t ow = 0; ow < g.out_width; ++ow) {
            const WindowColumns c = window_columns(g, ow);
            const T share = in[ow] / divisor<T>(g, r.rows, c.right - c.left);
            for (std::int64_t w = c.left; w < c.right; ++w) row[w] += share;
          }
        }
      }
  });
}

template <class T>
void pool_take(const T* x, const std::int64_t* index, std::int64_t planes, std::int64_t index_planes, std::int64_t size,
               std::int64_t count, T* y) noexcept {
  parallel_for(planes, plane_grain(count), [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t p = begin; p < end; ++p) {
      const std::int64_t* at = index + p % index_planes * count;
      for (std::int64_t i = 0; i < count; ++i) y[p * count + i] = x[p * size + at[i]];
    }
  });
}

template <class T>
void pool_put(const T* x, const std::int64_t* index, std::int64_t planes, std::int64_t index_planes, std::int64_t size,
              std::int64_t count, T* y) noexcept {
  parallel_for(planes, plane_grain(size), [=](std::int64_t begin, std::int64_t end) {
    std::fill(y + begin * size, y + end * size, T{0});
    for (std::int64_t p = begin; p < end; ++p) {
      const std::int64_t* at = index + p % index_planes * count;
      for (std::int64_t i = 0; i < count; ++i) y[p * size + at[i]] += x[p * count + i];
    }
  });
}

template <class T>
void resample(const SparseRows& matrix, const T* x, std::int64_t outer, std::int64_t n, std::int64_t inner, T* y) {
  const auto kernel = pool_kernels<T>().resample;
  const std::vector<T> weight(matrix.weight.begin(), matrix.weight.end());  // rounded once
  const auto rows = static_cast<std::int64_t>(matrix.begin.size()) - 1;
  parallel_for(outer, plane_grain(std::max(n, rows) * inner), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t o = begin; o < end; ++o)
      kernel(matrix, weight.data(), x + o * n * inner, inner, y + o * rows * inner);
  });
}

#define SOLVENT_INSTANTIATE(T)                                                                                   \
  template void max_pool(const PoolGeometry&, const T*, std::int64_t, T*, std::int64_t*) noexcept;               \
  template void avg_pool(const PoolGeometry&, const T*, std::int64_t, T*) noexcept;                              \
  template void avg_pool_backward(const PoolGeometry&, const T*, std::int64_t, T*) noexcept;                     \
  template void pool_take(const T*, const std::int64_t*, std::int64_t, std::int64_t, std::int64_t, std::int64_t, \
                          T*) noexcept;                                                                          \
  template void pool_put(const T*, const std::int64_t*, std::int64_t, std::int64_t, std::int64_t, std::int64_t,  \
                         T*) noexcept;                                                                           \
  template void resample(const SparseRows&, const T*, std::int64_t, std::int64_t, std::int64_t, T*)
SOLVENT_INSTANTIATE(float);
SOLVENT_INSTANTIATE(double);
#undef SOLVENT_INSTANTIATE

}  // namespace solvent::cpu
#endif  // HWY_ONCE
