// Elementwise, row and reduction kernels on 16 M floats, the output reused, each beside a memcpy of one array by as many
// threads: kernels alone, without tensors and allocation. Ratios are bytes per second over memcpy's (sums: bytes read over
// memcpy's bytes read and written).

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "solvent/core/parallel.h"
#include "solvent/ops/cpu/vector_kernels.h"
#include "solvent/tests/bench/compare.h"

namespace {

using namespace solvent::cpu;
using solvent::bench::add_row;
using solvent::bench::Row;

constexpr std::int64_t kElements = std::int64_t{16} << 20;
constexpr double kArrayBytes = static_cast<double>(kElements) * sizeof(float);

/// Two inputs and an output, aligned to cache lines and touched once.
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

/// A row whose kernel moves `bytes` and must reach `at_least` of memcpy's bandwidth (0: reported only).
bool add_kernel(const std::string& name, double bytes, double at_least, std::function<void(Arrays&)> kernel) {
  return add_row("kernels/" + name, [=] {
    const auto data = std::make_shared<Arrays>();
    Row row;
    row.bytes = bytes;
    row.run = [=] {
      kernel(*data);
      benchmark::ClobberMemory();
    };
    solvent::bench::Peer peer;
    peer.name = "memcpy";
    peer.at_least = at_least;
    peer.scale = bytes / (2 * kArrayBytes);
    peer.run = [data] {
      const std::int64_t threads = solvent::num_threads();
      solvent::parallel_for(threads, 1, [&](std::int64_t begin, std::int64_t end) {
        const std::int64_t first = kElements * begin / threads;
        const std::int64_t last = kElements * end / threads;
        std::memcpy(data->y + first, data->a + first, static_cast<std::size_t>(last - first) * sizeof(float));
      });
      benchmark::ClobberMemory();
    };
    row.peers = {peer};
    return row;
  });
}

bool add_unary(const std::string& name, UnaryFn fn, double at_least) {
  return add_kernel(name, 2 * kArrayBytes, at_least, [fn](Arrays& data) { unary(fn, data.a, data.y, kElements); });
}

bool add_softmax(std::int64_t cols) {
  return add_kernel("softmax_" + std::to_string(cols), 2 * kArrayBytes, 0,
                    [cols](Arrays& data) { softmax(data.a, data.y, kElements / cols, cols); });
}

constexpr std::int64_t kNormRows = 16384;
constexpr std::int64_t kNormCols = 768;
constexpr double kNormBytes = static_cast<double>(kNormRows * kNormCols) * sizeof(float);

bool add_layer_norm() {
  const auto statistics = std::make_shared<std::vector<float>>(2 * kNormRows);
  return add_kernel("layer_norm_16384x768", 2 * kNormBytes, 0.7, [statistics](Arrays& data) {
    const float* none = nullptr;
    float* mean = statistics->data();
    layer_norm(data.a, none, none, 1e-5, data.y, mean, mean + kNormRows, kNormRows, kNormCols);
  });
}

bool add_layer_norm_backward() {
  const auto statistics = std::make_shared<std::vector<float>>(2 * kNormRows, 0.5f);
  const auto affine = std::make_shared<std::vector<float>>(3 * kNormCols, 1.0f);
  return add_kernel("layer_norm_backward_16384x768", 3 * kNormBytes, 0, [=](Arrays& data) {
    const float* mean = statistics->data();
    float* scale = affine->data();
    layer_norm_backward(data.b, data.a, mean, mean + kNormRows, scale, data.y, scale + kNormCols, scale + 2 * kNormCols,
                        kNormRows, kNormCols);
  });
}

/// Sum of all elements as (outer, n, inner) over the middle axis.
bool add_sum(const std::string& name, std::int64_t n, std::int64_t inner, double at_least) {
  return add_kernel(name, kArrayBytes, at_least,
                    [=](Arrays& data) { reduce(ReduceFn::sum, data.a, kElements / (n * inner), n, inner, data.y); });
}

[[maybe_unused]] const bool kRegistered[] = {
    add_kernel("add", 3 * kArrayBytes, 0.8,
               [](Arrays& data) { binary(BinaryFn::add, data.a, 1, data.b, 1, data.y, kElements); }),
    add_unary("exp", UnaryFn::exp, 0.8),
    add_unary("tanh", UnaryFn::tanh, 0.8),
    add_unary("sigmoid", UnaryFn::sigmoid, 0.8),
    add_unary("gelu", UnaryFn::gelu, 0.8),
    add_unary("gelu_tanh", UnaryFn::gelu_tanh, 0),
    add_unary("log", UnaryFn::log, 0),
    add_unary("softplus", UnaryFn::softplus, 0),
    add_unary("sin", UnaryFn::sin, 0),
    add_softmax(10),
    add_softmax(1000),
    add_softmax(50000),
    add_layer_norm(),
    add_layer_norm_backward(),
    add_sum("sum_all", kElements, 1, 0.8),
    add_sum("sum_rows_1024", 1024, 1, 0),
    add_sum("sum_columns_16384x1024", 16384, 1024, 0),
    add_sum("sum_narrow_columns_16", 1048576, 16, 0),
};

}  // namespace
