// Random tensors. Element i is a function of (key, i): words i (32-bit kinds) or 2i and 2i+1 (64-bit kinds) of the Philox
// stream. Decomposition: blocks of elements, each starting at a multiple of four words, so every counter is run once.
// Nothing depends on the partition. Loops are compiled twice, for processors with and without fused multiply-add
// instructions (the C library emulates them exactly, ten times slower); both give the same bits.

#include "solvent/ops/cpu/random.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include <fmt/format.h>

#include "solvent/core/engine/view.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/normal_quantile.h"

#if defined(__x86_64__)
#define SOLVENT_TARGET_FMA __attribute__((target("avx,fma")))
#else
#define SOLVENT_TARGET_FMA
#endif

namespace solvent {

std::string RandomAttrs::describe() const {
  return fmt::format("key=({}, {}), shape={}", key.seed, key.stream, to_string(shape));
}

namespace cpu {
namespace {

constexpr std::int64_t kRandomGrain = 8192;  // a multiple of 4

bool has_fma() noexcept {
#if defined(__x86_64__)
  static const bool value = __builtin_cpu_supports("avx") && __builtin_cpu_supports("fma");
  return value;
#else
  return false;  // the plain loop has them wherever the compiler may assume them
#endif
}

constexpr std::uint32_t low_half(std::uint64_t x) noexcept { return static_cast<std::uint32_t>(x); }
constexpr std::uint32_t high_half(std::uint64_t x) noexcept { return static_cast<std::uint32_t>(x >> 32); }

// Words 4 * block .. 4 * block + 3 of a stream, as Key::bits hands them out.
SOLVENT_INLINE_HD philox::Counter words(const Key& key, std::uint64_t block) noexcept {
  return philox::block({low_half(block), high_half(block), low_half(key.stream), high_half(key.stream)},
                       {low_half(key.seed), high_half(key.seed)});
}

// Calls f(i, word i) for i in [begin, end); begin is a multiple of 4.
template <class F>
SOLVENT_INLINE_HD void for_words32(const Key& key, std::int64_t begin, std::int64_t end, F f) {
  for (std::int64_t i = begin; i < end; i += 4) {
    const philox::Counter w = words(key, static_cast<std::uint64_t>(i) / 4);
    const std::int64_t m = std::min<std::int64_t>(4, end - i);
    for (std::int64_t j = 0; j < m; ++j) f(i + j, w[static_cast<std::size_t>(j)]);
  }
}

// Calls f(i, words 2i (upper half) and 2i+1 as 64 bits), as Key::uniform reads them; begin is even.
template <class F>
SOLVENT_INLINE_HD void for_words64(const Key& key, std::int64_t begin, std::int64_t end, F f) {
  for (std::int64_t i = begin; i < end; i += 2) {
    const philox::Counter w = words(key, static_cast<std::uint64_t>(i) / 2);
    f(i, std::uint64_t{w[0]} << 32 | w[1]);
    if (i + 1 < end) f(i + 1, std::uint64_t{w[2]} << 32 | w[3]);
  }
}

// A probability strictly between 0 and 1 and exact in double, as is its complement.
SOLVENT_INLINE_HD double open_unit32(std::uint32_t w) { return (static_cast<double>(w) + 0.5) * 0x1p-32; }
SOLVENT_INLINE_HD double open_unit64(std::uint64_t w) { return (static_cast<double>(w >> 12) + 0.5) * 0x1p-52; }

// Writes f(probability) for elements [begin, end): from one word for float, two for double.
template <class T, class F>
SOLVENT_INLINE_HD void fill_from_probability(const Key& key, T* y, std::int64_t begin, std::int64_t end, F f) {
  if constexpr (sizeof(T) == 4) {
    for_words32(
        key, begin,
        end, [&](std::int64_t i, std::uint32_t w) __attribute__((always_inline)) { y[i] = f(open_unit32(w)); });
  } else {
    for_words64(
        key, begin,
        end, [&](std::int64_t i, std::uint64_t w) __attribute__((always_inline)) { y[i] = f(open_unit64(w)); });
  }
}

template <class T>
SOLVENT_INLINE_HD void normal_loop(const RandomAttrs& r, T* y, std::int64_t begin, std::int64_t end) {
  fill_from_probability(
      r.key, y, begin, end, [&](double p) __attribute__((always_inline)) {
        return static_cast<T>(std::fma(r.b, detail::normal_quantile(p), r.a));
      });
}

template <class T>
SOLVENT_TARGET_FMA void normal_fma(const RandomAttrs& r, T* y, std::int64_t begin, std::int64_t end) {
  normal_loop(r, y, begin, end);
}
template <class T>
void normal_plain(const RandomAttrs& r, T* y, std::int64_t begin, std::int64_t end) {
  normal_loop(r, y, begin, end);
}

// Probability below -bound; the rest is cut off on both sides.
double tail_of(double bound) { return 0.5 * std::erfc(bound * 0.70710678118654752440); }

template <class T>
SOLVENT_INLINE_HD void truncated_loop(const RandomAttrs& r, double tail, T* y, std::int64_t begin, std::int64_t end) {
  const double width = 1.0 - 2.0 * tail;
  fill_from_probability(
      r.key, y, begin, end, [&](double p) __attribute__((always_inline)) {
        const double z = detail::normal_quantile(std::fma(width, p, tail));
        return static_cast<T>(r.b * (z < -r.a ? -r.a : z > r.a ? r.a : z));
      });
}

template <class T>
SOLVENT_TARGET_FMA void truncated_fma(const RandomAttrs& r, double tail, T* y, std::int64_t begin, std::int64_t end) {
  truncated_loop(r, tail, y, begin, end);
}
template <class T>
void truncated_plain(const RandomAttrs& r, double tail, T* y, std::int64_t begin, std::int64_t end) {
  truncated_loop(r, tail, y, begin, end);
}

// low + (high - low) u, kept below high where rounding would reach it.
template <class T>
struct Interval {
  T low;
  T width;
  T last;

  Interval(double a, double b)
      : low(static_cast<T>(a)),
        width(static_cast<T>(b) - static_cast<T>(a)),
        last(std::nextafter(static_cast<T>(b), static_cast<T>(a))) {}
  SOLVENT_INLINE_HD T at(T u) const {
    const T v = std::fma(width, u, low);
    return v > last ? last : v;
  }
};

template <class T>
SOLVENT_INLINE_HD void uniform_loop(const Key& key, const Interval<T>& interval, T* y, std::int64_t begin,
                                    std::int64_t end) {
  if constexpr (sizeof(T) == 4) {
    for_words32(
        key, begin, end, [&](std::int64_t i, std::uint32_t w) __attribute__((always_inline)) {
          y[i] = interval.at(static_cast<T>(w >> 8) * T(0x1p-24));
        });
  } else {
    for_words64(
        key, begin, end, [&](std::int64_t i, std::uint64_t w) __attribute__((always_inline)) {
          y[i] = interval.at(static_cast<T>(w >> 11) * T(0x1p-53));
        });
  }
}

template <class T>
SOLVENT_TARGET_FMA void uniform_fma(const Key& key, const Interval<T>& interval, T* y, std::int64_t begin,
                                    std::int64_t end) {
  uniform_loop(key, interval, y, begin, end);
}
template <class T>
void uniform_plain(const Key& key, const Interval<T>& interval, T* y, std::int64_t begin, std::int64_t end) {
  uniform_loop(key, interval, y, begin, end);
}

const RandomAttrs& attrs_of(const Attrs* attrs) { return *static_cast<const RandomAttrs*>(attrs); }

// Fills a new floating tensor by `loop(tag, y, begin, end)`.
template <class F>
Tensor filled(const RandomAttrs& r, const char* op, F loop) {
  Tensor y = engine::empty(r.shape, r.dtype, r.on);
  dispatch_float(r.dtype, op, [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* out = engine::mutable_ptr<T>(y);
    parallel_for(y.numel(), kRandomGrain, [&](std::int64_t begin, std::int64_t end) { loop(tag, out, begin, end); });
  });
  return y;
}

}  // namespace

TensorVec uniform(std::span<Tensor>, const Attrs* attrs) {
  const RandomAttrs& r = attrs_of(attrs);
  return filled(r, "uniform", [&](auto tag, auto* y, std::int64_t begin, std::int64_t end) {
    using T = typename decltype(tag)::type;
    const Interval<T> interval(r.a, r.b);
    (has_fma() ? uniform_fma<T> : uniform_plain<T>)(r.key, interval, y, begin, end);
  });
}

TensorVec normal(std::span<Tensor>, const Attrs* attrs) {
  const RandomAttrs& r = attrs_of(attrs);
  return filled(r, "normal", [&](auto tag, auto* y, std::int64_t begin, std::int64_t end) {
    using T = typename decltype(tag)::type;
    (has_fma() ? normal_fma<T> : normal_plain<T>)(r, y, begin, end);
  });
}

TensorVec truncated_normal(std::span<Tensor>, const Attrs* attrs) {
  const RandomAttrs& r = attrs_of(attrs);
  const double tail = tail_of(r.a);
  return filled(r, "truncated_normal", [&](auto tag, auto* y, std::int64_t begin, std::int64_t end) {
    using T = typename decltype(tag)::type;
    (has_fma() ? truncated_fma<T> : truncated_plain<T>)(r, tail, y, begin, end);
  });
}

TensorVec bernoulli(std::span<Tensor>, const Attrs* attrs) {
  const RandomAttrs& r = attrs_of(attrs);
  Tensor y = engine::empty(r.shape, boolean, r.on);
  bool* out = engine::mutable_ptr<bool>(y);
  parallel_for(y.numel(), kRandomGrain, [&](std::int64_t begin, std::int64_t end) {
    for_words64(r.key, begin, end,
                [&](std::int64_t i, std::uint64_t w) { out[i] = static_cast<double>(w >> 11) * 0x1p-53 < r.a; });
  });
  return y;
}

TensorVec randint(std::span<Tensor>, const Attrs* attrs) {
  const RandomAttrs& r = attrs_of(attrs);
  const std::uint64_t low = static_cast<std::uint64_t>(r.low);
  const std::uint64_t range = static_cast<std::uint64_t>(r.high) - low;
  Tensor y = engine::empty(r.shape, DType::int64, r.on);
  auto* out = engine::mutable_ptr<std::int64_t>(y);
  parallel_for(y.numel(), kRandomGrain, [&](std::int64_t begin, std::int64_t end) {
    for_words64(r.key, begin, end, [&](std::int64_t i, std::uint64_t w) {
      __extension__ using Wide = unsigned __int128;
      out[i] = static_cast<std::int64_t>(low + static_cast<std::uint64_t>(Wide{w} * range >> 64));
    });
  });
  return y;
}

TensorVec permutation(std::span<Tensor>, const Attrs* attrs) {
  const RandomAttrs& r = attrs_of(attrs);
  Tensor y = engine::empty(r.shape, DType::int64, r.on);
  auto* out = engine::mutable_ptr<std::int64_t>(y);
  const std::int64_t n = y.numel();
  std::vector<std::uint64_t> rank(static_cast<std::size_t>(n));
  for_words64(r.key, 0, n, [&](std::int64_t i, std::uint64_t w) { rank[static_cast<std::size_t>(i)] = w; });
  std::iota(out, out + n, std::int64_t{0});
  std::sort(out, out + n, [&](std::int64_t i, std::int64_t j) {
    const std::uint64_t u = rank[static_cast<std::size_t>(i)];
    const std::uint64_t v = rank[static_cast<std::size_t>(j)];
    return u != v ? u < v : i < j;
  });
  return y;
}

}  // namespace cpu
}  // namespace solvent
