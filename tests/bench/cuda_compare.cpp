#include "solvent/tests/bench/cuda_compare.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <limits>

#include "solvent/core/cuda/runtime.h"
#include "solvent/core/engine/view.h"
#include "solvent/core/matmul_precision.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/ops.h"

namespace solvent::bench {
namespace {

BenchSize size_of_environment() {
  const char* text = std::getenv("SOLVENT_BENCH_SIZE");
  const std::string size = text == nullptr ? "full" : text;
  if (size == "full") return BenchSize::full;
  if (size == "quick") return BenchSize::quick;
  if (size == "smoke") return BenchSize::smoke;
  std::fprintf(stderr, "got SOLVENT_BENCH_SIZE=%s; expected full, quick or smoke\n", text);
  std::exit(2);
}

std::size_t bytes_of(const Tensor& t) { return static_cast<std::size_t>(t.numel()) * size_of(t.dtype()); }

void* memory_of(const Tensor& t) {
  return static_cast<std::byte*>(t.impl()->storage->data) +
         static_cast<std::size_t>(t.impl()->offset) * size_of(t.dtype());
}

template <class T>
double difference(const T* a, const T* b, std::int64_t n) {
  constexpr std::int64_t kBlock = std::int64_t{1} << 16;
  std::vector<double> largest(static_cast<std::size_t>((n + kBlock - 1) / kBlock), 0.0);
  parallel_for(n, kBlock, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      double& worst = largest[static_cast<std::size_t>(i / kBlock)];
      const double d = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
      worst = std::isnan(d) ? std::numeric_limits<double>::infinity() : std::max(worst, d);
    }
  });
  double worst = 0;
  for (const double d : largest) worst = std::max(worst, d);
  return worst;
}

// Why there is nothing to measure, or ""; notes the versions of the libraries.
std::string require_gpu() {
  if (cuda::device_count() == 0) return "no CUDA device (" + cuda::unavailable_reason() + ")";
  try {
    benchmark::AddCustomContext("solvent_libraries", peer_versions());
  } catch (const std::exception& e) {
    benchmark::AddCustomContext("solvent_libraries", e.what());
  }
  return "";
}

}  // namespace

BenchSize bench_size() {
  static const BenchSize size = size_of_environment();
  return size;
}

double device_seconds(const std::function<void()>& run, int calls) {
  Event start(bench_gpu()), stop(bench_gpu());
  start.record();
  for (int i = 0; i < calls; ++i) run();
  stop.record();
  return stop.milliseconds_since(start) * 1e-3 / calls;
}

double enqueue_seconds(const std::function<void()>& run, int calls) {
  // Few enough that the device's queue of launches cannot fill up and make the host wait.
  constexpr int kMost = 2;
  double total = 0;
  for (int done = 0; done < calls;) {
    const int part = std::min(kMost, calls - done);
    synchronize(bench_gpu());
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < part; ++i) run();
    total += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    done += part;
  }
  synchronize(bench_gpu());
  return total / calls;
}

bool add_cuda_row(const std::string& name, std::function<Row()> make, Timer timer) {
  static const bool kOnlyOnGpus = before_rows(require_gpu);
  auto limited = [make = std::move(make)] {
    Row row = make();
    if (bench_size() == BenchSize::smoke) {
      row.rounds = 2;
      row.max_seconds = 0;
    } else {
      row.max_seconds = by_size(1.0, 0.3, 0.0);
    }
    return row;
  };
  return kOnlyOnGpus && add_row(name, limited, std::move(timer));
}

Tensor device_values(const Shape& shape, int seed, DType dtype) {
  if (is_storage_type(dtype)) return cast(device_values(shape, seed, float32), dtype);
  std::int64_t n = 1;
  for (const std::int64_t extent : shape) n *= extent;
  // The sine of an irrational multiple of the index: equidistributed phases, no two neighbours alike. The index restarts
  // where float32 would no longer tell neighbours apart.
  constexpr std::int64_t kPeriod = std::int64_t{1} << 22;
  if (n <= kPeriod)
    return reshape(
        sin(affine(arange(0, static_cast<double>(n), 1, {dtype, bench_gpu()}), 0.7310585786 + 0.01 * seed, seed)),
        shape);
  const std::int64_t rows = (n + kPeriod - 1) / kPeriod;
  const Tensor phase =
      affine(arange(0, static_cast<double>(kPeriod), 1, {dtype, bench_gpu()}), 0.7310585786 + 0.01 * seed, seed);
  const Tensor row = affine(arange(0, static_cast<double>(rows), 1, {dtype, bench_gpu()}), 1.6180339887, 0);
  const Tensor values = sin(reshape(row, {rows, 1}) + reshape(phase, {1, kPeriod}));
  return engine::view(values, shape, contiguous_strides(shape), 0);
}

double largest_difference(const Tensor& a, const Tensor& b) {
  if (!a.defined() || !b.defined() || !(a.shape() == b.shape()) || a.dtype() != b.dtype())
    return std::numeric_limits<double>::quiet_NaN();
  constexpr std::int64_t kLarge = std::int64_t{1} << 26;  // from here on copying takes longer than the row
  if (a.device() == b.device() && a.device() != cpu_device && a.numel() > kLarge && !is_storage_type(a.dtype()))
    return max(abs(a - b)).item();
  const Tensor x = engine::contiguous(to(a, cpu_device)), y = engine::contiguous(to(b, cpu_device));
  if (x.dtype() == bfloat16) return difference(x.data<BFloat16>(), y.data<BFloat16>(), x.numel());
  if (x.dtype() == float64) return difference(x.data<double>(), y.data<double>(), x.numel());
  return difference(x.data<float>(), y.data<float>(), x.numel());
}

PrecisionGuard::PrecisionGuard(GemmKind kind) {
  set_matmul_precision(kind == GemmKind::tf32   ? MatmulPrecision::tf32
                       : kind == GemmKind::bf16 ? MatmulPrecision::bf16
                                                : MatmulPrecision::highest);
}

PrecisionGuard::~PrecisionGuard() { set_matmul_precision(MatmulPrecision::highest); }

Peer device_copy_peer(const Tensor& like, double at_least, double our_bytes_per_byte) {
  const std::size_t bytes = bytes_of(like);
  const Tensor target = full(like.shape(), 0.0, {like.dtype(), like.device()});
  auto run = [like, target, bytes] { cuda::copy_on_device(memory_of(target), memory_of(like), bytes, like.device()); };
  return {.name = "device copy", .run = run, .at_least = at_least, .scale = our_bytes_per_byte / 2};
}

}  // namespace solvent::bench
