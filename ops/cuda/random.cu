// Random tensors on a GPU: a thread runs one Philox counter and writes the elements of its four words, 16 bytes for most
// types. Bound by arithmetic (the generator, and the quantile of normals in double), a few times slower than the writes.
// Permutations sort positions by 64-bit words (radix_sort.h).

#include "solvent/ops/cuda/random.h"

#include <cstdint>
#include <string>

#include "solvent/core/cuda/launch.h"
#include "solvent/core/cuda/strided.h"
#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/core/rng.h"
#include "solvent/ops/cpu/random.h"
#include "solvent/ops/cuda/radix_sort.h"
#include "solvent/ops/random_maps.h"

namespace solvent::cuda {
namespace {

// y starts at a multiple of 16 bytes.
template <class T, class Map>
__global__ void random_kernel(std::uint64_t seed, std::uint64_t stream, Map map, T* y, std::int64_t n) {
  constexpr bool kOneWord = sizeof(typename Map::Word) == 4;
  constexpr int kPer = kOneWord ? 4 : 2;  // elements of a counter
  const std::int64_t groups = (n + kPer - 1) / kPer;
  for (std::int64_t g = global_thread(); g < groups; g += grid_threads()) {
    const philox::Words w = philox::words(seed, stream, static_cast<std::uint64_t>(g));
    Pack<T, kPer> out;
    if constexpr (kOneWord) {
      for (int j = 0; j < 4; ++j) out.value[j] = map(w.word[j]);
    } else {
      out.value[0] = map(std::uint64_t{w.word[0]} << 32 | w.word[1]);
      out.value[1] = map(std::uint64_t{w.word[2]} << 32 | w.word[3]);
    }
    if ((g + 1) * kPer <= n) {
      reinterpret_cast<Pack<T, kPer>*>(y)[g] = out;
    } else {
      for (int j = 0; j < kPer; ++j)
        if (g * kPer + j < n) y[g * kPer + j] = out.value[j];
    }
  }
}

__global__ void widen_kernel(const std::uint32_t* x, std::int64_t* y, std::int64_t n) {
  for (std::int64_t i = global_thread(); i < n; i += grid_threads()) y[i] = static_cast<std::int64_t>(x[i]);
}

const RandomAttrs& attrs_of(const Attrs* attrs) { return *static_cast<const RandomAttrs*>(attrs); }

template <class T, class Map>
void run_map(const char* op, const RandomAttrs& r, Map map, T* y, std::int64_t n) {
  constexpr std::int64_t kPer = sizeof(typename Map::Word) == 4 ? 4 : 2;
  launch(over_elements(op, n, r.on, kPer), random_kernel<T, Map>, r.key.seed, r.key.stream, map, y, n);
}

template <class T, class Map>
Tensor filled(const char* op, const RandomAttrs& r, Map map) {
  Tensor y = engine::empty(r.shape, dtype_of<T>, r.on);
  if (y.numel() > 0) run_map(op, r, map, engine::mutable_ptr<T>(y), y.numel());
  return y;
}

// Map<T>{r.a, r.b} for the floating type asked for.
template <template <class> class Map>
Tensor filled_floats(const char* op, const RandomAttrs& r) {
  Tensor y;
  dispatch_float(r.dtype, op, [&](auto tag) {
    using T = typename decltype(tag)::type;
    y = filled<T>(op, r, Map<T>{r.a, r.b});
  });
  return y;
}

}  // namespace

TensorVec uniform(std::span<Tensor>, const Attrs* attrs) {
  return filled_floats<solvent::detail::UniformMap>("uniform", attrs_of(attrs));
}

TensorVec normal(std::span<Tensor>, const Attrs* attrs) {
  return filled_floats<solvent::detail::NormalMap>("normal", attrs_of(attrs));
}

TensorVec truncated_normal(std::span<Tensor>, const Attrs* attrs) {
  return filled_floats<solvent::detail::TruncatedMap>("truncated_normal", attrs_of(attrs));
}

TensorVec bernoulli(std::span<Tensor>, const Attrs* attrs) {
  const RandomAttrs& r = attrs_of(attrs);
  return filled<bool>("bernoulli", r, solvent::detail::BernoulliMap{r.a});
}

TensorVec randint(std::span<Tensor>, const Attrs* attrs) {
  const RandomAttrs& r = attrs_of(attrs);
  const auto low = static_cast<std::uint64_t>(r.low);
  return filled<std::int64_t>("randint", r, solvent::detail::RandintMap{low, static_cast<std::uint64_t>(r.high) - low});
}

TensorVec permutation(std::span<Tensor>, const Attrs* attrs) {
  const RandomAttrs& r = attrs_of(attrs);
  const std::int64_t n = r.shape.product();
  if (n > UINT32_MAX)
    throw ValueError("[permutation] got n = " + std::to_string(n) + " on " + to_string(r.on) +
                     "; expected at most 4294967295 elements there. Use the CPU.");
  Tensor y = engine::empty(r.shape, DType::int64, r.on);
  if (n == 0) return y;
  KeyLines<std::uint64_t> order(1, n, r.on);
  run_map("permutation", r, solvent::detail::WordMap{}, order.keys(), n);
  order.sort(64);
  launch(over_elements("permutation", n, r.on), widen_kernel, order.positions(), engine::mutable_ptr<std::int64_t>(y),
         n);
  return y;
}

}  // namespace solvent::cuda
