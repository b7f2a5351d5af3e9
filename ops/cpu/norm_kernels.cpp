// Batch normalisation and dropout.
//
// Batch normalisation sees x as (samples, channels, size). Two layouts of work: "planes", where a channel of a sample has at
// least kPlane elements and vectors run along them with one value per channel broadcast; and "columns", where vectors run
// along (channels, size) and statistics are sums over rows. Sums are formed over pieces of at most kPiece elements (planes)
// or kRows rows (columns), a mean first and squared deviations from it in a second pass over data in the nearest cache, and
// combined in double in a fixed order (Chan et al. 1979). Memory: the statistics read x once, each result one pass more.
//
// Dropout: 4 words of Philox per counter, counters in the lanes of a vector; nothing depends on the partition.

#include "solvent/ops/cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "solvent/ops/cpu/norm_kernels.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include <algorithm>
#include <cstddef>
#include <type_traits>
#include <vector>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/cpu/norm_kernels.h"
#include "solvent/ops/cpu/streaming.h"
#include "solvent/ops/cpu/vector_functions-inl.h"

#ifndef SOLVENT_OPS_CPU_NORM_KERNELS_ONCE
#define SOLVENT_OPS_CPU_NORM_KERNELS_ONCE
namespace solvent::cpu {
namespace {

constexpr std::size_t kPlane = 16;          // shortest plane worth vectors of its own
constexpr std::size_t kPiece = 4096;        // elements summed in T
constexpr std::size_t kRows = 64;           // rows summed in T
constexpr std::size_t kColumns = 512;       // columns per task
constexpr std::int64_t kNormGrain = 16384;  // elements per task
constexpr std::size_t kWords = 1024;        // random words made at a time

/// One channel's constants of the backward pass, or one column's.
template <class T>
struct BackwardConstants {
  const T* mean;
  const T* a;
  const T* b;
  const T* c;
};

/// Serial kernels of one target.
template <class T>
struct NormKernels {
  /// Mean and sum of squared deviations of n elements (n <= kPiece).
  void (*piece_moments)(const T* x, std::size_t n, double* mean, double* m2) noexcept;
  /// Of each of `columns` columns over `rows` rows of length `stride`.
  void (*column_moments)(const T* x, std::size_t rows, std::size_t stride, std::size_t columns, double* mean,
                         double* m2) noexcept;
  /// sum g, sum g (x - mean) over n elements (n <= kPiece).
  void (*piece_sums)(const T* g, const T* x, T mean, std::size_t n, double* sum_g, double* sum_gx) noexcept;
  void (*column_sums)(const T* g, const T* x, const T* mean, std::size_t rows, std::size_t stride, std::size_t columns,
                      double* sum_g, double* sum_gx) noexcept;
  /// y = (x - mean) scale + shift; constants are arrays if `varying`, else one value each.
  void (*affine)(const T* x, const T* mean, const T* scale, const T* shift, bool varying, std::size_t n, bool stream,
                 T* y) noexcept;
  void (*backward)(const T* g, const T* x, const BackwardConstants<T>& k, bool varying, std::size_t n, bool stream,
                   T* gx) noexcept;
  /// y[i] = word[i] < threshold ? 0 : x[i] scale; without words x[i] scale.
  void (*drop)(const std::uint32_t* word, std::uint32_t threshold, T scale, const T* x, std::size_t n, T* y) noexcept;
  /// kWords words of the stream from 4 * block on.
  void (*words)(const Key& key, std::uint64_t block, std::uint32_t* word) noexcept;
};

}  // namespace
}  // namespace solvent::cpu
#endif  // SOLVENT_OPS_CPU_NORM_KERNELS_ONCE

HWY_BEFORE_NAMESPACE();
namespace solvent::cpu::HWY_NAMESPACE {

/// Sum over a run of f(i, count): four accumulators; f must give 0 in lanes beyond count.
template <class D, class Full, class Rest>
HWY_INLINE hn::TFromD<D> sum_of(D d, std::size_t n, const Full& full, const Rest& rest) {
  const std::size_t lanes = hn::Lanes(d);
  auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  std::size_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    s0 = hn::Add(s0, full(i));
    s1 = hn::Add(s1, full(i + lanes));
    s2 = hn::Add(s2, full(i + 2 * lanes));
    s3 = hn::Add(s3, full(i + 3 * lanes));
  }
  for (; i + lanes <= n; i += lanes) s0 = hn::Add(s0, full(i));
  if (i < n) s1 = hn::Add(s1, rest(i, n - i));
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
}

template <class T>
void piece_moments(const T* x, std::size_t n, double* mean, double* m2) noexcept {
  const hn::ScalableTag<T> d;
  const T total = sum_of(
      d, n, [&](std::size_t i) HWY_ATTR { return hn::LoadU(d, x + i); },
      [&](std::size_t i, std::size_t count) HWY_ATTR { return load_first(d, x + i, count); });
  const T average = total / static_cast<T>(n);
  const auto centre = hn::Set(d, average);
  const T squares = sum_of(
      d, n,
      [&](std::size_t i) HWY_ATTR {
        const auto v = hn::Sub(hn::LoadU(d, x + i), centre);
        return hn::Mul(v, v);
      },
      [&](std::size_t i, std::size_t count) HWY_ATTR {
        const auto v = hn::Sub(load_first(d, x + i, count), centre);
        return hn::IfThenElseZero(hn::FirstN(d, count), hn::Mul(v, v));
      });
  *mean = static_cast<double>(average);
  *m2 = static_cast<double>(squares);
}

/// Calls f(column, lanes used, vectors) for groups of columns: four vectors, whole cache lines of each row, or one.
template <class D, class F>
HWY_INLINE void for_columns(D d, std::size_t columns, const F& f) {
  const std::size_t lanes = hn::Lanes(d);
  std::size_t j = 0;
  for (; j + 4 * lanes <= columns; j += 4 * lanes) f(j, lanes, std::integral_constant<std::size_t, 4>{});
  for (; j < columns; j += lanes) f(j, std::min(lanes, columns - j), std::integral_constant<std::size_t, 1>{});
}

template <class D, class T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> load_some(D d, const T* p, std::size_t count) {
  return count == hn::Lanes(d) ? hn::LoadU(d, p) : load_first(d, p, count);
}

/// Lanes as doubles.
template <class D>
HWY_INLINE void store_wide(D d, hn::Vec<D> v, double* p, std::size_t count) {
  HWY_ALIGN hn::TFromD<D> lanes[hn::MaxLanes(d)];
  hn::Store(v, d, lanes);
  for (std::size_t i = 0; i < count; ++i) p[i] = static_cast<double>(lanes[i]);
}

template <class T>
void column_moments(const T* x, std::size_t rows, std::size_t stride, std::size_t columns, double* mean,
                    double* m2) noexcept {
  const hn::ScalableTag<T> d;
  const std::size_t lanes = hn::Lanes(d);
  const auto inverse = hn::Set(d, T{1} / static_cast<T>(rows));
  for_columns(d, columns, [&](std::size_t j, std::size_t count, auto vectors) HWY_ATTR {
    constexpr std::size_t kVectors = decltype(vectors)::value;
    hn::Vec<decltype(d)> average[kVectors], squares[kVectors];
    for (std::size_t v = 0; v < kVectors; ++v) average[v] = squares[v] = hn::Zero(d);
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t v = 0; v < kVectors; ++v)
        average[v] = hn::Add(average[v], load_some(d, x + r * stride + j + v * lanes, count));
    for (std::size_t v = 0; v < kVectors; ++v) average[v] = hn::Mul(average[v], inverse);
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t v = 0; v < kVectors; ++v) {
        const auto delta = hn::Sub(load_some(d, x + r * stride + j + v * lanes, count), average[v]);
        squares[v] = hn::MulAdd(delta, delta, squares[v]);
      }
    for (std::size_t v = 0; v < kVectors; ++v) {
      store_wide(d, average[v], mean + j + v * lanes, count);
      store_wide(d, squares[v], m2 + j + v * lanes, count);
    }
  });
}

template <class T>
void piece_sums(const T* g, const T* x, T mean, std::size_t n, double* sum_g, double* sum_gx) noexcept {
  const hn::ScalableTag<T> d;
  const std::size_t lanes = hn::Lanes(d);
  const auto centre = hn::Set(d, mean);
  auto g0 = hn::Zero(d), g1 = g0, x0 = g0, x1 = g0;
  std::size_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    const auto a = hn::LoadU(d, g + i);
    const auto b = hn::LoadU(d, g + i + lanes);
    g0 = hn::Add(g0, a);
    g1 = hn::Add(g1, b);
    x0 = hn::MulAdd(a, hn::Sub(hn::LoadU(d, x + i), centre), x0);
    x1 = hn::MulAdd(b, hn::Sub(hn::LoadU(d, x + i + lanes), centre), x1);
  }
  for (; i < n; i += lanes) {
    const std::size_t count = std::min(lanes, n - i);
    const auto a = load_some(d, g + i, count);  // 0 beyond the end
    g0 = hn::Add(g0, a);
    x0 = hn::MulAdd(a, hn::Sub(load_some(d, x + i, count), centre), x0);
  }
  *sum_g = static_cast<double>(hn::GetLane(hn::SumOfLanes(d, hn::Add(g0, g1))));
  *sum_gx = static_cast<double>(hn::GetLane(hn::SumOfLanes(d, hn::Add(x0, x1))));
}

template <class T>
void column_sums(const T* g, const T* x, const T* mean, std::size_t rows, std::size_t stride, std::size_t columns,
                 double* sum_g, double* sum_gx) noexcept {
  const hn::ScalableTag<T> d;
  const std::size_t lanes = hn::Lanes(d);
  for_columns(d, columns, [&](std::size_t j, std::size_t count, auto vectors) HWY_ATTR {
    constexpr std::size_t kVectors = decltype(vectors)::value;
    hn::Vec<decltype(d)> centre[kVectors], total[kVectors], product[kVectors];
    for (std::size_t v = 0; v < kVectors; ++v) {
      centre[v] = load_some(d, mean + j + v * lanes, count);
      total[v] = product[v] = hn::Zero(d);
    }
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t v = 0; v < kVectors; ++v) {
        const std::size_t at = r * stride + j + v * lanes;
        const auto h = load_some(d, g + at, count);
        total[v] = hn::Add(total[v], h);
        product[v] = hn::MulAdd(h, hn::Sub(load_some(d, x + at, count), centre[v]), product[v]);
      }
    for (std::size_t v = 0; v < kVectors; ++v) {
      store_wide(d, total[v], sum_g + j + v * lanes, count);
      store_wide(d, product[v], sum_gx + j + v * lanes, count);
    }
  });
}

/// y[i] = f(i, lanes used), vector by vector; with streaming stores where that is wanted and y is aligned.
template <class D, class F, class T = hn::TFromD<D>>
HWY_INLINE void write_run(D d, std::size_t n, bool stream, T* y, const F& f) {
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  if (stream && reinterpret_cast<std::uintptr_t>(y) % (lanes * sizeof(T)) == 0) {
    for (; i + lanes <= n; i += lanes) hn::Stream(f(i, lanes), d, y + i);
  } else {
    for (; i + lanes <= n; i += lanes) hn::StoreU(f(i, lanes), d, y + i);
  }
  if (i < n) store_first(d, f(i, n - i), y + i, n - i);
}

template <class T>
void affine_run(const T* x, const T* mean, const T* scale, const T* shift, bool varying, std::size_t n, bool stream,
                T* y) noexcept {
  const hn::ScalableTag<T> d;
  if (varying) {
    write_run(d, n, stream, y, [&](std::size_t i, std::size_t count) HWY_ATTR {
      const auto v = hn::Sub(load_some(d, x + i, count), load_some(d, mean + i, count));
      return hn::MulAdd(v, load_some(d, scale + i, count), load_some(d, shift + i, count));
    });
    return;
  }
  const auto m = hn::Set(d, *mean);
  const auto s = hn::Set(d, *scale);
  const auto b = hn::Set(d, *shift);
  write_run(d, n, stream, y, [&](std::size_t i, std::size_t count) HWY_ATTR {
    return hn::MulAdd(hn::Sub(load_some(d, x + i, count), m), s, b);
  });
}

template <class T>
void backward_run(const T* g, const T* x, const BackwardConstants<T>& k, bool varying, std::size_t n, bool stream,
                  T* gx) noexcept {
  const hn::ScalableTag<T> d;
  if (varying) {
    write_run(d, n, stream, gx, [&](std::size_t i, std::size_t count) HWY_ATTR {
      const auto v = hn::Sub(load_some(d, x + i, count), load_some(d, k.mean + i, count));
      const auto h = hn::Sub(load_some(d, g + i, count), load_some(d, k.b + i, count));
      return hn::Mul(load_some(d, k.a + i, count), hn::NegMulAdd(v, load_some(d, k.c + i, count), h));
    });
    return;
  }
  const auto m = hn::Set(d, *k.mean);
  const auto a = hn::Set(d, *k.a);
  const auto b = hn::Set(d, *k.b);
  const auto c = hn::Set(d, *k.c);
  write_run(d, n, stream, gx, [&](std::size_t i, std::size_t count) HWY_ATTR {
    const auto v = hn::Sub(load_some(d, x + i, count), m);
    return hn::Mul(a, hn::NegMulAdd(v, c, hn::Sub(load_some(d, g + i, count), b)));
  });
}

template <class T>
void drop_run(const std::uint32_t* word, std::uint32_t threshold, T scale, const T* x, std::size_t n, T* y) noexcept {
  const hn::ScalableTag<T> d;
  const hn::RebindToUnsigned<decltype(d)> du;
  const hn::Rebind<std::uint32_t, decltype(d)> narrow;
  const std::size_t lanes = hn::Lanes(d);
  const auto limit = hn::Set(du, static_cast<hn::TFromD<decltype(du)>>(threshold));
  const auto factor = hn::Set(d, scale);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    auto v = hn::Mul(hn::LoadU(d, x + i), factor);
    if (word != nullptr) {
      hn::Vec<decltype(du)> w;
      if constexpr (sizeof(T) == 4) {
        w = hn::LoadU(du, word + i);
      } else {
        w = hn::PromoteTo(du, hn::LoadU(narrow, word + i));
      }
      v = hn::IfThenZeroElse(hn::RebindMask(d, hn::Lt(w, limit)), v);
    }
    hn::StoreU(v, d, y + i);
  }
  for (; i < n; ++i) y[i] = word != nullptr && word[i] < threshold ? T{0} : x[i] * scale;
}

#if HWY_TARGET == HWY_SCALAR

inline void fill_words(const Key& key, std::uint64_t block, std::uint32_t* word) noexcept {
  for (std::size_t i = 0; i < kWords; ++i) word[i] = key.bits(4 * block + i);
}

#else

/// Upper and lower halves of the 64-bit products of each lane with `factor`.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void multiply_wide(D d, V a, V factor, V& high, V& low) {
  const hn::RepartitionToWide<D> wide;
  const auto even = hn::BitCast(d, hn::MulEven(a, factor));
  const auto odd = hn::BitCast(d, hn::MulEven(hn::BitCast(d, hn::ShiftRight<32>(hn::BitCast(wide, a))), factor));
  low = hn::OddEven(hn::BitCast(d, hn::ShiftLeft<32>(hn::BitCast(wide, odd))), even);
  high = hn::OddEven(odd, hn::BitCast(d, hn::ShiftRight<32>(hn::BitCast(wide, even))));
}

/// As philox::block of core/rng.h, a counter per lane.
inline void fill_words(const Key& key, std::uint64_t block, std::uint32_t* word) noexcept {
  const hn::ScalableTag<std::uint32_t> d;
  const std::size_t lanes = hn::Lanes(d);
  const auto half = [](std::uint64_t v, int shift) { return static_cast<std::uint32_t>(v >> shift); };
  const auto factor0 = hn::Set(d, std::uint32_t{0xD2511F53u});
  const auto factor1 = hn::Set(d, std::uint32_t{0xCD9E8D57u});
  HWY_ALIGN std::uint32_t low_word[hn::MaxLanes(d)];
  HWY_ALIGN std::uint32_t high_word[hn::MaxLanes(d)];
  for (std::size_t done = 0; done < kWords / 4; done += lanes) {
    for (std::size_t l = 0; l < lanes; ++l) {
      low_word[l] = half(block + done + l, 0);
      high_word[l] = half(block + done + l, 32);
    }
    auto c0 = hn::Load(d, low_word);
    auto c1 = hn::Load(d, high_word);
    auto c2 = hn::Set(d, half(key.stream, 0));
    auto c3 = hn::Set(d, half(key.stream, 32));
    std::uint32_t k0 = half(key.seed, 0);
    std::uint32_t k1 = half(key.seed, 32);
    for (int round = 0; round < 10; ++round) {
      hn::Vec<decltype(d)> high0, low0, high1, low1;
      multiply_wide(d, c0, factor0, high0, low0);
      multiply_wide(d, c2, factor1, high1, low1);
      c0 = hn::Xor(hn::Xor(high1, c1), hn::Set(d, k0));
      c2 = hn::Xor(hn::Xor(high0, c3), hn::Set(d, k1));
      c1 = low1;
      c3 = low0;
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    hn::StoreInterleaved4(c0, c1, c2, c3, d, word + 4 * done);
  }
}

#endif

template <class T>
const NormKernels<T>& norm_entry() {
  static constexpr NormKernels<T> kKernels = {&piece_moments<T>, &column_moments<T>, &piece_sums<T>, &column_sums<T>,
                                              &affine_run<T>,    &backward_run<T>,   &drop_run<T>,   &fill_words};
  return kKernels;
}
const NormKernels<float>& norm_float() { return norm_entry<float>(); }
const NormKernels<double>& norm_double() { return norm_entry<double>(); }

}  // namespace solvent::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace solvent::cpu {
namespace {

HWY_EXPORT(norm_float);
HWY_EXPORT(norm_double);

template <class T>
const NormKernels<T>& norm_kernels() {
  if constexpr (sizeof(T) == 4) return HWY_DYNAMIC_DISPATCH(norm_float)();
  if constexpr (sizeof(T) == 8) return HWY_DYNAMIC_DISPATCH(norm_double)();
}

std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

bool by_planes(const ChannelShape& s) { return size(s.size) >= kPlane; }
std::int64_t plane_grain(const ChannelShape& s) { return std::max<std::int64_t>(1, kNormGrain / s.size); }
std::int64_t columns_of(const ChannelShape& s) { return s.channels * s.size; }
std::int64_t row_grain(const ChannelShape& s) {
  return std::max<std::int64_t>(1, kNormGrain / std::max<std::int64_t>(columns_of(s), 1));
}

/// Calls body(first row, rows, first column, columns, where its partial results go) for the tasks of the columns' layout.
template <class F>
void for_column_blocks(const ChannelShape& s, const F& body) {
  const std::int64_t columns = columns_of(s);
  const auto rows = static_cast<std::int64_t>(kRows);
  const auto width = static_cast<std::int64_t>(kColumns);
  const std::int64_t across = (columns + width - 1) / width;
  parallel_for((s.samples + rows - 1) / rows * across, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t row = task / across * rows;
      const std::int64_t column = task % across * width;
      body(row, std::min(rows, s.samples - row), column, std::min(width, columns - column),
           task / across * columns + column);
    }
  });
}

std::int64_t row_blocks(const ChannelShape& s) {
  return (s.samples + static_cast<std::int64_t>(kRows) - 1) / static_cast<std::int64_t>(kRows);
}

/// Mean and sum of squared deviations of a growing set.
struct Moments {
  double count = 0, mean = 0, m2 = 0;

  void add(double n, double other_mean, double other_m2) {
    const double all = count + n;
    const double delta = other_mean - mean;
    m2 += other_m2 + delta * delta * count * n / all;
    mean += delta * n / all;
    count = all;
  }
};

/// The constants of each channel repeated for every column.
template <class T>
std::vector<T> per_column(const ChannelShape& s, const T* per_channel) {
  std::vector<T> out(size(columns_of(s)));
  for (std::int64_t j = 0; j < columns_of(s); ++j) out[size(j)] = per_channel[j / s.size];
  return out;
}

}  // namespace

template <class T>
void channel_moments(const ChannelShape& s, const T* x, T* mean, T* var) {
  const NormKernels<T>& k = norm_kernels<T>();
  const bool planes = by_planes(s);
  const std::int64_t parts = planes ? s.samples : row_blocks(s);  // partial results per column
  const std::int64_t columns = planes ? s.channels : columns_of(s);
  std::vector<double> means(size(parts * columns));
  std::vector<double> m2s(size(parts * columns));
  if (planes) {
    parallel_for(s.samples * s.channels, plane_grain(s), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t p = begin; p < end; ++p) {
        Moments all;
        for (std::size_t first = 0; first < size(s.size); first += kPiece) {
          const std::size_t n = std::min(kPiece, size(s.size) - first);
          double m = 0, m2 = 0;
          k.piece_moments(x + size(p * s.size) + first, n, &m, &m2);
          all.add(static_cast<double>(n), m, m2);
        }
        means[size(p)] = all.mean;
        m2s[size(p)] = all.m2;
      }
    });
  } else {
    for_column_blocks(
        s, [&](std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t width, std::int64_t at) {
          k.column_moments(x + row * columns + column, size(rows), size(columns), size(width), &means[size(at)],
                           &m2s[size(at)]);
        });
  }
  for (std::int64_t c = 0; c < s.channels; ++c) {
    Moments all;
    const std::int64_t width = planes ? 1 : s.size;
    for (std::int64_t part = 0; part < parts; ++part) {
      const auto rows = static_cast<std::int64_t>(kRows);
      const std::int64_t n = planes ? s.size : std::min(rows, s.samples - part * rows);
      for (std::int64_t j = c * width; j < (c + 1) * width; ++j)
        all.add(static_cast<double>(n), means[size(part * columns + j)], m2s[size(part * columns + j)]);
    }
    mean[c] = static_cast<T>(all.mean);
    var[c] = static_cast<T>(all.m2 / all.count);
  }
}

template <class T>
void channel_affine(const ChannelShape& s, const T* x, const T* mean, const T* scale, const T* shift, T* y) {
  const auto kernel = norm_kernels<T>().affine;
  const bool stream = x != y && worth_streaming(y, s.samples * columns_of(s));
  if (by_planes(s)) {
    parallel_for(s.samples * s.channels, plane_grain(s), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t p = begin; p < end; ++p) {
        const std::int64_t c = p % s.channels;
        kernel(x + p * s.size, mean + c, scale + c, shift + c, false, size(s.size), stream, y + p * s.size);
      }
      if (stream) hwy::FlushStream();
    });
    return;
  }
  const std::vector<T> means = per_column(s, mean), scales = per_column(s, scale), shifts = per_column(s, shift);
  const std::int64_t columns = columns_of(s);
  parallel_for(s.samples, row_grain(s), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r)
      kernel(x + r * columns, means.data(), scales.data(), shifts.data(), true, size(columns), stream, y + r * columns);
    if (stream) hwy::FlushStream();
  });
}

template <class T>
void channel_sums(const ChannelShape& s, const T* g, const T* x, const T* mean, T* sum_g, T* sum_gx) {
  const NormKernels<T>& k = norm_kernels<T>();
  const bool planes = by_planes(s);
  const std::int64_t parts = planes ? s.samples : row_blocks(s);
  const std::int64_t columns = planes ? s.channels : columns_of(s);
  std::vector<double> gs(size(parts * columns));
  std::vector<double> gxs(size(parts * columns));
  if (planes) {
    parallel_for(s.samples * s.channels, plane_grain(s), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t p = begin; p < end; ++p)
        for (std::size_t first = 0; first < size(s.size); first += kPiece) {
          const std::size_t n = std::min(kPiece, size(s.size) - first);
          const std::size_t at = size(p * s.size) + first;
          double a = 0, b = 0;
          k.piece_sums(g + at, x + at, mean[p % s.channels], n, &a, &b);
          gs[size(p)] += a;
          gxs[size(p)] += b;
        }
    });
  } else {
    const std::vector<T> means = per_column(s, mean);
    for_column_blocks(
        s, [&](std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t width, std::int64_t at) {
          k.column_sums(g + row * columns + column, x + row * columns + column, means.data() + column, size(rows),
                        size(columns), size(width), &gs[size(at)], &gxs[size(at)]);
        });
  }
  const std::int64_t width = planes ? 1 : s.size;
  for (std::int64_t c = 0; c < s.channels; ++c) {
    double a = 0, b = 0;
    for (std::int64_t part = 0; part < parts; ++part)
      for (std::int64_t j = c * width; j < (c + 1) * width; ++j) {
        a += gs[size(part * columns + j)];
        b += gxs[size(part * columns + j)];
      }
    sum_g[c] = static_cast<T>(a);
    sum_gx[c] = static_cast<T>(b);
  }
}

template <class T>
void channel_backward(const ChannelShape& s, const T* g, const T* x, const T* mean, const T* a, const T* b, const T* c,
                      T* gx) {
  const auto kernel = norm_kernels<T>().backward;
  const bool stream = gx != g && gx != x && worth_streaming(gx, s.samples * columns_of(s));
  if (by_planes(s)) {
    parallel_for(s.samples * s.channels, plane_grain(s), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t p = begin; p < end; ++p) {
        const std::int64_t i = p % s.channels;
        const BackwardConstants<T> k = {mean + i, a + i, b + i, c + i};
        kernel(g + p * s.size, x + p * s.size, k, false, size(s.size), stream, gx + p * s.size);
      }
      if (stream) hwy::FlushStream();
    });
    return;
  }
  const std::vector<T> means = per_column(s, mean), as = per_column(s, a), bs = per_column(s, b), cs = per_column(s, c);
  const BackwardConstants<T> k = {means.data(), as.data(), bs.data(), cs.data()};
  const std::int64_t columns = columns_of(s);
  parallel_for(s.samples, row_grain(s), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r)
      kernel(g + r * columns, x + r * columns, k, true, size(columns), stream, gx + r * columns);
    if (stream) hwy::FlushStream();
  });
}

template <class T>
void dropout(const Key& key, std::uint64_t threshold, double scale, std::int64_t inner, std::int64_t period, const T* x,
             std::int64_t n, T* y) noexcept {
  const NormKernels<T>& k = norm_kernels<T>();
  const T factor = static_cast<T>(scale);
  const bool all = threshold >> 32 != 0;  // p = 1
  if (all || n == 0) return std::fill(y, y + n, T{0});
  const auto limit = static_cast<std::uint32_t>(threshold);
  if (inner > 1) {
    const std::int64_t groups = n / inner;
    const auto scaled = k.drop;
    parallel_for(groups, std::max<std::int64_t>(1, kNormGrain / inner), [=](std::int64_t begin, std::int64_t end) {
      for (std::int64_t group = begin; group < end; ++group) {
        const bool dropped = key.bits(static_cast<std::uint64_t>(group % period)) < limit;
        T* out = y + group * inner;
        if (dropped) {
          std::fill(out, out + inner, T{0});
        } else {
          scaled(nullptr, 0, factor, x + group * inner, size(inner), out);
        }
      }
    });
    return;
  }
  // Tasks are pieces of one period, so that words are made in whole blocks.
  const auto words = static_cast<std::int64_t>(kWords);
  const std::int64_t per_period = (period + words - 1) / words;
  parallel_for(n / period * per_period, std::max<std::int64_t>(1, kNormGrain / words),
               [=, &k](std::int64_t begin, std::int64_t end) {
                 alignas(64) std::uint32_t word[kWords];
                 for (std::int64_t task = begin; task < end; ++task) {
                   const std::int64_t first = task % per_period * words;
                   const std::int64_t at = task / per_period * period + first;
                   k.words(key, static_cast<std::uint64_t>(first) / 4, word);
                   k.drop(word, limit, factor, x + at, size(std::min(words, period - first)), y + at);
                 }
               });
}

#define SOLVENT_INSTANTIATE(T)                                                                                         \
  template void channel_moments(const ChannelShape&, const T*, T*, T*);                                                \
  template void channel_affine(const ChannelShape&, const T*, const T*, const T*, const T*, T*);                       \
  template void channel_sums(const ChannelShape&, const T*, const T*, const T*, T*, T*);                               \
  template void channel_backward(const ChannelShape&, const T*, const T*, const T*, const T*, const T*, const T*, T*); \
  template void dropout(const Key&, std::uint64_t, double, std::int64_t, std::int64_t, const T*, std::int64_t,         \
                        T*) noexcept
SOLVENT_INSTANTIATE(float);
SOLVENT_INSTANTIATE(double);
#undef SOLVENT_INSTANTIATE

}  // namespace solvent::cpu
#endif  // HWY_ONCE
