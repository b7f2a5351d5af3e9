// Elementwise, row and reduction kernels on 16 M floats with the output reused, each beside a memcpy of 64 MB by as many
// threads in the same iteration: shared machines change their bandwidth by the minute, so only the ratio means something.
// Counters (medians over the iterations): GBps (bytes read + written), memcpy_GBps, of_memcpy.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include <benchmark/benchmark.h>

#include "solvent/core/parallel.h"
#include "solvent/ops/cpu/vector_kernels.h"

namespace {

using namespace solvent::cpu;

constexpr std::int64_t kElements = std::int64_t{16} << 20;

/// Two inputs and an output, touched once.
struct Arrays {
  Arrays() : storage(static_cast<std::size_t>(3 * kElements + 64)) {
    const auto address = reinterpret_cast<std::uintptr_t>(storage.data());
    a = storage.data() + (64 - address % 64) % 64 / sizeof(float);
    b = a + kElements;
    y = b + kElements;
    for (std::int64_t i = 0; i < kElements; ++i) {
      a[i] = static_cast<float>(i * 7919 % 2000) / 200.0f - 5.0f;
      b[i] = static_cast<float>(i * 104729 % 1000) / 100.0f - 5.0f;
    }
  }
  std::vector<float> storage;
  float* a;
  float* b;
  float* y;
};

Arrays& arrays() {
  static const std::unique_ptr<Arrays> instance = std::make_unique<Arrays>();
  return *instance;
}

template <class Body>
double seconds(const Body& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Runs `kernel`, which moves `bytes`, in turn with memcpy.
template <class Kernel>
void against_memcpy(benchmark::State& state, double bytes, const Kernel& kernel) {
  Arrays& data = arrays();
  const std::int64_t threads = solvent::num_threads();
  const std::int64_t share = kElements / threads;
  kernel(data);
  std::vector<double> own;
  std::vector<double> peer;
  for (auto _ : state) {
    peer.push_back(seconds([&] {
      solvent::parallel_for(threads, 1, [&](std::int64_t begin, std::int64_t end) {
        std::memcpy(data.y + begin * share, data.a + begin * share,
                    static_cast<std::size_t>((end - begin) * share) * sizeof(float));
      });
    }));
    own.push_back(seconds([&] { kernel(data); }));
    state.SetIterationTime(own.back());
    benchmark::ClobberMemory();
  }
  const double copied = 2.0 * static_cast<double>(threads * share) * sizeof(float);
  const double rate = bytes / median(own);
  const double peer_rate = copied / median(peer);
  state.counters["GBps"] = rate * 1e-9;
  state.counters["memcpy_GBps"] = peer_rate * 1e-9;
  state.counters["of_memcpy"] = rate / peer_rate;
}

constexpr double kArrayBytes = static_cast<double>(kElements) * sizeof(float);

void unary_bench(benchmark::State& state, UnaryFn fn) {
  against_memcpy(state, 2 * kArrayBytes, [fn](Arrays& data) { unary(fn, data.a, data.y, kElements); });
}
void binary_bench(benchmark::State& state, BinaryFn fn) {
  against_memcpy(state, 3 * kArrayBytes, [fn](Arrays& data) { binary(fn, data.a, 1, data.b, 1, data.y, kElements); });
}
void softmax_bench(benchmark::State& state) {
  const std::int64_t cols = state.range(0);
  against_memcpy(state, 2 * kArrayBytes, [cols](Arrays& data) { softmax(data.a, data.y, kElements / cols, cols); });
}
void log_softmax_bench(benchmark::State& state) {
  const std::int64_t cols = state.range(0);
  against_memcpy(state, 2 * kArrayBytes, [cols](Arrays& data) { log_softmax(data.a, data.y, kElements / cols, cols); });
}

constexpr std::int64_t kNormRows = 16384;
constexpr std::int64_t kNormCols = 768;
constexpr double kNormBytes = static_cast<double>(kNormRows * kNormCols) * sizeof(float);

void layer_norm_bench(benchmark::State& state) {
  std::vector<float> mean(kNormRows);
  std::vector<float> rstd(kNormRows);
  against_memcpy(state, 2 * kNormBytes, [&](Arrays& data) {
    const float* none = nullptr;
    layer_norm(data.a, none, none, 1e-5, data.y, mean.data(), rstd.data(), kNormRows, kNormCols);
  });
}
void layer_norm_backward_bench(benchmark::State& state) {
  std::vector<float> mean(kNormRows);
  std::vector<float> rstd(kNormRows, 1.0f);
  std::vector<float> scale(kNormCols, 1.0f);
  std::vector<float> g_scale(kNormCols);
  std::vector<float> g_shift(kNormCols);
  against_memcpy(state, 3 * kNormBytes, [&](Arrays& data) {
    layer_norm_backward(data.b, data.a, mean.data(), rstd.data(), scale.data(), data.y, g_scale.data(), g_shift.data(),
                        kNormRows, kNormCols);
  });
}

/// Sum of kElements as (outer, n, inner) over the middle axis; bytes read only.
void sum_bench(benchmark::State& state) {
  const std::int64_t n = state.range(0);
  const std::int64_t inner = state.range(1);
  std::vector<float> y(static_cast<std::size_t>(kElements / n));
  against_memcpy(state, kArrayBytes,
                 [&](Arrays& data) { reduce(ReduceFn::sum, data.a, kElements / (n * inner), n, inner, y.data()); });
}

/// Serial exponential of arrays that fit in the nearest cache: the price of small tensors.
void small_exp_bench(benchmark::State& state) {
  const std::int64_t n = state.range(0);
  std::vector<float> x(static_cast<std::size_t>(n), 0.5f);
  std::vector<float> y(x.size());
  for (auto _ : state) {
    unary(UnaryFn::exp, x.data(), y.data(), n);
    benchmark::DoNotOptimize(y.data());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * n);
}

BENCHMARK_CAPTURE(binary_bench, add, BinaryFn::add)->UseManualTime();
BENCHMARK_CAPTURE(unary_bench, exp, UnaryFn::exp)->UseManualTime();
BENCHMARK_CAPTURE(unary_bench, log, UnaryFn::log)->UseManualTime();
BENCHMARK_CAPTURE(unary_bench, tanh, UnaryFn::tanh)->UseManualTime();
BENCHMARK_CAPTURE(unary_bench, sigmoid, UnaryFn::sigmoid)->UseManualTime();
BENCHMARK_CAPTURE(unary_bench, gelu, UnaryFn::gelu)->UseManualTime();
BENCHMARK_CAPTURE(unary_bench, gelu_tanh, UnaryFn::gelu_tanh)->UseManualTime();
BENCHMARK_CAPTURE(unary_bench, softplus, UnaryFn::softplus)->UseManualTime();
BENCHMARK_CAPTURE(unary_bench, sin, UnaryFn::sin)->UseManualTime();
BENCHMARK(softmax_bench)->Arg(10)->Arg(1000)->Arg(50000)->UseManualTime();
BENCHMARK(log_softmax_bench)->Arg(1000)->UseManualTime();
BENCHMARK(layer_norm_bench)->UseManualTime();
BENCHMARK(layer_norm_backward_bench)->UseManualTime();
BENCHMARK(sum_bench)->Args({kElements, 1})->Args({1024, 1})->Args({16384, 1024})->Args({1024, 16})->UseManualTime();
BENCHMARK(small_exp_bench)->Arg(8)->Arg(64)->Arg(1024);

}  // namespace
