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
#include "solvent/ops/random_maps.h"

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

// Words 4 * block .. 4 * block + 3 of a stream, as Key::bits hands them out.
SOLVENT_INLINE_HD philox::Words words(const Key& key, std::int64_t block) noexcept {
  return philox::words(key.seed, key.stream, static_cast<std::uint64_t>(block));
}

// Writes map(word i) or map(words 2i (upper half) and 2i+1), as Key::uniform reads them, to elements [begin, end); begin is
// a multiple of four.
template <class Map, class T>
SOLVENT_INLINE_HD void fill_loop(const Key& key, Map map, T* y, std::int64_t begin, std::int64_t end) {
  if constexpr (sizeof(typename Map::Word) == 4) {
    for (std::int64_t i = begin; i < end; i += 4) {
      const philox::Words w = words(key, i / 4);
      const std::int64_t m = std::min<std::int64_t>(4, end - i);
      for (std::int64_t j = 0; j < m; ++j) y[i + j] = map(w.word[j]);
    }
  } else {
    for (std::int64_t i = begin; i < end; i += 2) {
      const philox::Words w = words(key, i / 2);
      y[i] = map(std::uint64_t{w.word[0]} << 32 | w.word[1]);
      if (i + 1 < end) y[i + 1] = map(std::uint64_t{w.word[2]} << 32 | w.word[3]);
    }
  }
}

template <class Map, class T>
SOLVENT_TARGET_FMA void fill_fma(const Key& key, Map map, T* y, std::int64_t begin, std::int64_t end) {
  fill_loop(key, map, y, begin, end);
}
template <class Map, class T>
void fill_plain(const Key& key, Map map, T* y, std::int64_t begin, std::int64_t end) {
  fill_loop(key, map, y, begin, end);
}

const RandomAttrs& attrs_of(const Attrs* attrs) { return *static_cast<const RandomAttrs*>(attrs); }

template <class T, class Map>
Tensor filled(const RandomAttrs& r, Map map) {
  Tensor y = engine::empty(r.shape, dtype_of<T>, r.on);
  T* out = engine::mutable_ptr<T>(y);
  const auto fill = has_fma() ? fill_fma<Map, T> : fill_plain<Map, T>;
  parallel_for(y.numel(), kRandomGrain,
               [&](std::int64_t begin, std::int64_t end) { fill(r.key, map, out, begin, end); });
  return y;
}

// Map<T>(r.a, r.b) for the floating type asked for.
template <template <class> class Map>
Tensor filled_floats(const RandomAttrs& r, const char* op) {
  Tensor y;
  dispatch_float(r.dtype, op, [&](auto tag) {
    using T = typename decltype(tag)::type;
    y = filled<T>(r, Map<T>{r.a, r.b});
  });
  return y;
}

}  // namespace

TensorVec uniform(std::span<Tensor>, const Attrs* attrs) {
  return filled_floats<detail::UniformMap>(attrs_of(attrs), "uniform");
}

TensorVec normal(std::span<Tensor>, const Attrs* attrs) {
  return filled_floats<detail::NormalMap>(attrs_of(attrs), "normal");
}

TensorVec truncated_normal(std::span<Tensor>, const Attrs* attrs) {
  return filled_floats<detail::TruncatedMap>(attrs_of(attrs), "truncated_normal");
}

TensorVec bernoulli(std::span<Tensor>, const Attrs* attrs) {
  const RandomAttrs& r = attrs_of(attrs);
  return filled<bool>(r, detail::BernoulliMap{r.a});
}

TensorVec randint(std::span<Tensor>, const Attrs* attrs) {
  const RandomAttrs& r = attrs_of(attrs);
  const auto low = static_cast<std::uint64_t>(r.low);
  return filled<std::int64_t>(r, detail::RandintMap{low, static_cast<std::uint64_t>(r.high) - low});
}

TensorVec permutation(std::span<Tensor>, const Attrs* attrs) {
  const RandomAttrs& r = attrs_of(attrs);
  Tensor y = engine::empty(r.shape, DType::int64, r.on);
  auto* out = engine::mutable_ptr<std::int64_t>(y);
  const std::int64_t n = y.numel();
  std::vector<std::uint64_t> rank(static_cast<std::size_t>(n));
  fill_plain(r.key, detail::WordMap{}, rank.data(), 0, n);
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
