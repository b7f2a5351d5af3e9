// Batch normalisation and dropout on a GPU at sizes that reach every kernel: sums over chunks, channels side by side and apart,
// whole and ragged packs, directions that share values.

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "solvent/core/engine/view.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/norm.h"
#include "solvent/ops/reduce.h"
#include "solvent/ops/shape_ops.h"
#include "solvent/tests/cuda/cuda_device.h"
#include "solvent/tests/cuda/same_bits.h"
#include "solvent/tests/ops/op_table.h"
#include "solvent/tests/support/catch.h"

namespace solvent::testing {
namespace {

const Device kGpu = cuda_test_device();
const Key kKey(72);

double largest_deviation(const Tensor& got, const Tensor& expected) {
  REQUIRE(got.device() == kGpu);
  REQUIRE(got.shape() == expected.shape());
  return max(abs(sub(cast(to(got, cpu_device), float64), cast(expected, float64)))).item();
}

// (N, C, S): features side by side, few and many elements, odd and even ones, one channel, one sample.
const std::vector<Shape> kShapes = {{3000, 12, 1}, {700, 33, 1}, {40, 3, 64},  {9, 5, 49},
                                    {2, 2, 20000}, {1, 7, 301},  {5000, 1, 1}, {64, 130, 4}};

// f's derivative along each of the K directions in `seeds` (K, ...).
Tensor along(const std::function<Tensor(const Tensor&)>& f, const Tensor& x, const Tensor& seeds) {
  const TensorsFn g = [&f](const Tensors& in) { return Tensors{f(in[0])}; };
  return jvp_batched(g, {x}, {seeds}, seeds.size(0)).tangents[0];
}

TEST_CASE("cuda: batch normalisation and its cotangents equal the CPU's", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const DType dtype : {float32, float64})
    for (const Shape& shape : kShapes) {
      const Tensor x = affine(normal_sample(kKey, 1, shape, dtype), 2.0, 5.0);
      const Tensor w = normal_sample(kKey, 2, {shape[1]}, dtype);
      const Tensor g = normal_sample(kKey, 3, shape, dtype);
      const TensorsFn f = [](const Tensors& in) {
        BatchNormResult r = batch_norm(in[0], in[1], in[2], 1e-3);
        return Tensors{r.value, r.mean, r.var};
      };
      const auto wide = [](const Tensor& t) { return cast(t, float64); };
      VjpResult expected = vjp(f, {wide(x), wide(w), wide(w)});
      VjpResult got = vjp(f, {to(x, kGpu), to(w, kGpu), to(w, kGpu)});
      INFO(describe(x));
      const double count = static_cast<double>(shape[0] * shape[2]);
      const double bound = dtype == float32 ? 1e-5 : 1e-13;
      for (std::size_t i = 0; i < 3; ++i) CHECK(largest_deviation(got.values[i], expected.values[i]) <= bound);
      const auto on_gpu = got.pullback({to(g, kGpu), Tensor(), Tensor()});
      const auto on_cpu = expected.pullback({wide(g), Tensor(), Tensor()});
      CHECK(largest_deviation(on_gpu[0], on_cpu[0]) <= bound);
      CHECK(largest_deviation(on_gpu[1], on_cpu[1]) <= bound * std::sqrt(count));
      CHECK(largest_deviation(on_gpu[2], on_cpu[2]) <= bound * std::sqrt(count));
      CHECK(same_bits(f({to(x, kGpu), to(w, kGpu), to(w, kGpu)})[0], got.values[0]));
      // Given statistics.
      const auto eval = [](const Tensor& v, const Tensor& m) { return batch_norm_eval(v, m, square(m), m, m, 1e-3); };
      CHECK(largest_deviation(eval(to(x, kGpu), to(w, kGpu)), eval(wide(x), wide(w))) <= 100 * bound);
    }
}

TEST_CASE("cuda: variances keep their digits beside a large mean or an outlier", "[cuda]") {
  if (!has_cuda_test_device()) return;
  std::vector<double> values(20000);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = 1e8 + static_cast<double>(i % 5);  // variance 2
  const Tensor one = to(from_vector<double>(values, {20000, 1}), kGpu);
  const BatchNormResult even = batch_norm(one, Tensor(), Tensor(), 0.0);
  CHECK(even.var.item() == Approx(2.0).epsilon(1e-12));
  CHECK(even.mean.item() == 1e8 + 2.0);
  values[0] = -1e8;
  const Tensor outlier = from_vector<double>(values, {20000, 1});
  CHECK(batch_norm(to(outlier, kGpu), Tensor(), Tensor(), 0.0).var.item() ==
        Approx(batch_norm(outlier, Tensor(), Tensor(), 0.0).var.item()).epsilon(1e-11));
  // Infinities and NaN as on the CPU.
  const double inf = std::numeric_limits<double>::infinity();
  const Tensor odd = from_vector<double>({inf, 1, std::nan(""), 1, 2, 3}, {2, 3});
  const BatchNormResult on_cpu = batch_norm(odd, Tensor(), Tensor(), 1e-5);
  const BatchNormResult on_gpu = batch_norm(to(odd, kGpu), Tensor(), Tensor(), 1e-5);
  for (const auto& [got, expected] :
       {std::pair{on_gpu.value, on_cpu.value}, {on_gpu.mean, on_cpu.mean}, {on_gpu.var, on_cpu.var}}) {
    const std::vector<double> g = got.to_vector<double>();
    const std::vector<double> e = expected.to_vector<double>();
    for (std::size_t i = 0; i < g.size(); ++i) {
      CHECK(std::isnan(g[i]) == std::isnan(e[i]));
      if (!std::isnan(e[i])) CHECK(g[i] == Approx(e[i]));
    }
  }
}

TEST_CASE("cuda: directions of batch normalisation share values as on the CPU", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const Tensor x = normal_sample(kKey, 4, {6, 5, 9}, float64);
  const Tensor seeds = normal_sample(kKey, 5, {3, 6, 5, 9}, float64);
  const auto f = [](const Tensor& v) { return batch_norm(v, Tensor(), Tensor(), 1e-3).value; };
  const Tensor expected = along(f, x, seeds);
  CHECK(largest_deviation(along(f, to(x, kGpu), to(seeds, kGpu)), expected) < 1e-12);
}

TEST_CASE("cuda: dropout has the bits of the CPU's", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const DType dtype : {float32, float64})
    for (const Shape& shape :
         {Shape{1}, Shape{3}, Shape{1027}, Shape{40, 50}, Shape{3, 7, 11}, Shape{5, 6, 8, 4}, Shape{2, 100003}}) {
      const Tensor x = normal_sample(kKey, 6, shape, dtype);
      INFO(describe(x));
      for (const double p : {0.0, 0.3, 0.9, 1.0}) {
        CHECK(same_bits(dropout(to(x, kGpu), p, Key(9, 4)), dropout(x, p, Key(9, 4))));
        if (shape.rank() >= 2) CHECK(same_bits(channel_dropout(to(x, kGpu), p, Key(9)), channel_dropout(x, p, Key(9))));
      }
      // Memory that does not allow 16-byte accesses.
      const Tensor memory = zeros({x.numel() + 1}, {dtype, kGpu});
      Tensor y = engine::view(memory, shape, contiguous_strides(shape), 1);
      engine::copy_into(to(x, kGpu), y);
      CHECK(same_bits(dropout(y, 0.5, Key(3)), dropout(x, 0.5, Key(3))));
    }
  // Directions share the mask of the value, though their memory is longer.
  const Tensor x = normal_sample(kKey, 7, {7, 5}, float64);
  const Tensor seeds = normal_sample(kKey, 8, {3, 7, 5}, float64);
  for (const bool whole : {false, true}) {
    const auto f = [whole](const Tensor& v) {
      return whole ? channel_dropout(v, 0.5, Key(2)) : dropout(v, 0.5, Key(2));
    };
    CHECK(same_bits(along(f, to(x, kGpu), to(seeds, kGpu)), along(f, x, seeds)));
  }
  CHECK(dropout(full({2, 2}, std::nan(""), {float32, kGpu}), 1.0, Key(1)).to_vector<float>() ==
        std::vector<float>(4, 0.0f));
}

}  // namespace
}  // namespace solvent::testing
