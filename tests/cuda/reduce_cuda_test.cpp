// Reductions, softmax and its relatives, cross entropy and layer normalisation on a GPU at sizes that reach every kernel: each
// number of lanes per row, whole blocks, chunks and their merging, ragged ends, memory that does not allow 16-byte accesses.

#include <cmath>
#include <cstring>
#include <limits>

#include "solvent/core/engine/view.h"
#include "solvent/core/stream.h"
#include "solvent/ops/derivatives.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/loss.h"
#include "solvent/ops/norm.h"
#include "solvent/ops/reduce.h"
#include "solvent/ops/shape_ops.h"
#include "solvent/tests/cuda/cuda_device.h"
#include "solvent/tests/cuda/same_bits.h"
#include "solvent/tests/ops/op_table.h"
#include "solvent/tests/support/catch.h"
#include "solvent/tests/support/larger.h"

namespace solvent::testing {
namespace {

const Device kGpu = cuda_test_device();
const Key kKey(71);
constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

double epsilon(DType dtype) { return dtype == float32 ? 0x1p-23 : 0x1p-52; }

// Largest |got - expected| / scale; infinity if the two are not NaN or infinite at the same places.
double deviation(const Tensor& got, const Tensor& expected, double scale) {
  REQUIRE(got.device() == kGpu);
  REQUIRE(got.shape() == expected.shape());
  const Array g(to(got, cpu_device));
  const Array e(expected);
  double worst = 0.0;
  for (std::int64_t i = 0; i < g.numel(); ++i) {
    if (g[i] == e[i] || (std::isnan(g[i]) && std::isnan(e[i]))) continue;
    const double error = std::abs(g[i] - e[i]) / scale;
    worst = larger(worst, error);
  }
  return worst;
}

// The same values, `shift` elements into a larger piece of memory: not aligned to 16 bytes for odd shifts.
Tensor shifted(const Tensor& x, std::int64_t shift) {
  const Tensor memory = full({x.numel() + shift}, 0.0, {x.dtype(), x.device()});
  Tensor y = engine::view(memory, x.shape(), contiguous_strides(x.shape()), shift);
  engine::copy_into(x, y);
  return y;
}

struct Sum {
  Shape shape;
  Axes axes;
};

TEST_CASE("cuda: sums over any axes are those of double precision, rounded once", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const std::vector<Sum> sums = {{{300000}, {}},
                                 {{300001}, {}},
                                 {{3, 70000}, {1}},
                                 {{2, 33, 1999}, {1, 2}},  // chunks of rows
                                 {{5000, 3}, {1}},
                                 {{5000, 8}, {1}},
                                 {{700, 20}, {1}},
                                 {{300, 401}, {1}},  // lanes per row
                                 {{20, 5000}, {1}},
                                 {{5000, 260}, {0}},
                                 {{17, 1003}, {0}},
                                 {{3000, 5}, {0}},  // columns
                                 {{20000, 1}, {0}},
                                 {{4, 600, 36}, {1}},
                                 {{40, 7, 49}, {0, 2}},
                                 {{40, 7, 64}, {0, 2}},  // channels
                                 {{6, 5, 4, 3, 8}, {1, 3}},
                                 {{2, 4000}, {0}}};
  for (const DType dtype : {float32, float64})
    for (const Sum& s : sums) {
      const Tensor x = normal_sample(kKey, 1, s.shape, dtype);
      const Tensor exact = sum(cast(x, float64), s.axes);
      const double scale = max(sum(abs(cast(x, float64)), s.axes)).item();
      INFO(describe(x) << " " << to_string(s.axes));
      const Tensor got = sum(to(x, kGpu), s.axes);
      // In float32 the result is rounded once.
      const double bound = dtype == float32 ? max(abs(exact)).item() * 0x1p-24 + scale * 0x1p-45 : scale * 0x1p-48;
      CHECK(deviation(got, exact, 1.0) <= bound);
      CHECK(deviation(sum(shifted(to(x, kGpu), 1), s.axes), exact, 1.0) <= bound);
      CHECK(same_bits(got, sum(to(x, kGpu), s.axes)));
    }
}

TEST_CASE("cuda: sums of strided, broadcast and integer tensors", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const Tensor x = normal_sample(kKey, 2, {60, 50, 40}, float64);
  const Tensor y = to(x, kGpu);
  for (const Axes& order : {Axes{2, 1, 0}, Axes{1, 0, 2}, Axes{0, 2, 1}})
    for (const Axes& axes : {Axes{0}, Axes{1}, Axes{2}, Axes{0, 2}}) {
      INFO(to_string(order) << " " << to_string(axes));
      CHECK(deviation(sum(permute(y, order), axes), sum(permute(x, order), axes), 1.0) < 1e-11);
    }
  CHECK(deviation(sum(broadcast_to(y, {3, 60, 50, 40}), {0, 1}), sum(broadcast_to(x, {3, 60, 50, 40}), {0, 1}), 1.0) <
        1e-11);
  const Tensor k = integer_sample(kKey, 3, {1000, 37}, -1000000, 1000000);
  for (const Axes& axes : {Axes{}, Axes{0}, Axes{1}})
    CHECK(sum(to(k, kGpu), axes).to_vector<std::int64_t>() == sum(k, axes).to_vector<std::int64_t>());
  // 5000 (2^62 + 1), modulo 2^64.
  const Tensor big = full({5000}, 0x1p62, {int64, kGpu});
  CHECK(sum(add(big, full({}, 1.0, {int64, kGpu}))).to_vector<std::int64_t>() == std::vector<std::int64_t>{5000});
  CHECK(std::isnan(sum(to(from_vector<double>({kInf, 1, -kInf}, {3}), kGpu)).item()));
  CHECK(sum(to(from_vector<float>({1e38f, 1e38f, 1e38f, 1e38f}, {4}), kGpu)).item() == kInf);
  CHECK(sum(zeros({0, 3}, {float32, kGpu}), {0}).to_vector<float>() == std::vector<float>(3, 0.0f));
}

TEST_CASE("cuda: extreme values are the first ones, at any size", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const std::vector<Sum> cases = {{{200000}, {0}},   {{3, 50001}, {1}}, {{4000, 3}, {1}},
                                  {{60, 20}, {1}},   {{60, 900}, {1}},  {{7, 6000}, {1}},
                                  {{9000, 36}, {0}}, {{5000, 11}, {0}}, {{4, 300, 33}, {1}}};
  for (const DType dtype : {float32, float64, int64})
    for (const Sum& s : cases) {
      Tensor x = integer_sample(kKey, 4, s.shape, -40, 40);  // with many equal values
      if (dtype != int64) x = cast(x, dtype);
      INFO(describe(x));
      const ValueAndIndex most = max_with_arg(x, s.axes[0]);
      const ValueAndIndex got = max_with_arg(to(x, kGpu), s.axes[0]);
      CHECK(same_bits(got.value, most.value));
      CHECK(same_bits(got.index, most.index));
      CHECK(same_bits(argmin(to(x, kGpu), s.axes[0]), argmin(x, s.axes[0])));
      CHECK(same_bits(min(shifted(to(x, kGpu), 1), s.axes[0]), min(x, s.axes[0])));
    }
}

TEST_CASE("cuda: the first NaN is the extreme value", "[cuda]") {
  if (!has_cuda_test_device()) return;
  std::vector<double> values(3 * 7000);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i % 13);
  values[5000] = values[6999] = values[14001] = kNaN;
  values[9000] = kInf;
  const Tensor x = from_vector<double>(values, {3, 7000});
  for (const Tensor& rows : {x, permute(x, {1, 0})}) {
    const std::int64_t axis = rows.size(0) == 3 ? 1 : 0;
    CHECK(argmax(to(rows, kGpu), axis).to_vector<std::int64_t>() == std::vector<std::int64_t>{5000, 2000, 1});
    CHECK(same_bits(argmin(to(rows, kGpu), axis), argmin(rows, axis)));
  }
  CHECK(argmax(full({3000}, -kInf, {float32, kGpu}), 0).item() == 0.0);
}

TEST_CASE("cuda: all and any look at every element", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const std::int64_t n : {1, 15, 16, 4097, 100003})
    for (const std::int64_t shift : {0, 3}) {
      for (const std::int64_t at : {std::int64_t{0}, n / 2, n - 1}) {
        const Tensor hit = equal(arange(0, static_cast<double>(n), 1, {int64, kGpu}),
                                 full({}, static_cast<double>(at), {int64, kGpu}));
        INFO(n << " " << at << " " << shift);
        CHECK(any(shifted(hit, shift)).item() == 1.0);
        CHECK(all(shifted(logical_not(hit), shift)).item() == 0.0);
      }
      CHECK(any(shifted(full({n}, 0.0, {boolean, kGpu}), shift)).item() == 0.0);
      CHECK(all(shifted(full({n}, 1.0, {boolean, kGpu}), shift)).item() == 1.0);
    }
  CHECK(all(zeros({0}, {boolean, kGpu})).item() == 1.0);
  CHECK(any(zeros({0}, {boolean, kGpu})).item() == 0.0);
}

// --- rows -----------------------------------------------------------------------------------------------------------------------

// 8 lanes, 32 lanes with 4, 16 and 32 elements each, a block, chunks; with whole packs and without.
std::vector<Shape> row_shapes(DType dtype) {
  std::vector<Shape> shapes = {{1, 1},    {70, 2},   {33, 10},  {5, 31},   {9, 32},   {6, 33},
                               {5, 100},  {3, 128},  {11, 130}, {3, 512},  {4, 513},  {2, 999},
                               {9, 1024}, {2, 1025}, {2, 4096}, {2, 5003}, {1, 16380}};
  if (dtype == float32) {
    shapes.insert(shapes.end(), {{1, 32768}, {1, 32769}, {1, 40004}});
  } else {
    shapes.insert(shapes.end(), {{1, 16385}, {2, 20004}});
  }
  return shapes;
}

// f on the device, from aligned and from shifted memory, against f on the CPU in double, for elements around `centre`.
template <class F>
void check_rows(const F& f, double bound, double centre = 0.0) {
  for (const DType dtype : {float32, float64})
    for (const Shape& shape : row_shapes(dtype)) {
      const Tensor x = affine(normal_sample(kKey, 5, shape, dtype), 1.0, centre);
      const Tensor g = normal_sample(kKey, 6, shape, dtype);
      const Tensors expected = f(cast(x, float64), cast(g, float64));
      const Tensors got = f(to(x, kGpu), to(g, kGpu));
      const Tensors from_shifted = f(shifted(to(x, kGpu), 1), to(g, kGpu));
      INFO(describe(x));
      for (std::size_t i = 0; i < expected.size(); ++i) {
        CHECK(deviation(got[i], expected[i], epsilon(dtype)) <= bound);
        CHECK(deviation(from_shifted[i], expected[i], epsilon(dtype)) <= bound);
      }
      if (shape[1] > 5000) continue;
      const Tensors again = f(to(x, kGpu), to(g, kGpu));
      for (std::size_t i = 0; i < expected.size(); ++i) CHECK(same_bits(got[i], again[i]));
    }
}

TEST_CASE("cuda: softmax and its relatives at every length of row", "[cuda]") {
  if (!has_cuda_test_device()) return;
  check_rows([](const Tensor& x, const Tensor&) { return Tensors{softmax(x, -1)}; }, 4);
  check_rows([](const Tensor& x, const Tensor&) { return Tensors{log_softmax(x, -1)}; }, 16);
  check_rows([](const Tensor& x, const Tensor&) { return Tensors{logsumexp(x, -1)}; }, 16);
  check_rows([](const Tensor& x, const Tensor& g) { return Tensors{detail::softmax_grad(g, softmax(x, -1))}; }, 8);
}

TEST_CASE("cuda: layer normalisation at every length of row", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const auto weight = [](const Tensor& x) {
    return affine(arange(0, static_cast<double>(x.size(1)), 1, {x.dtype(), x.device()}),
                  1.0 / static_cast<double>(x.size(1)), 0.5);
  };
  // The last bits are uncertain on both sides: the CPU's sums of long rows are formed in the rows' precision.
  check_rows([&](const Tensor& x, const Tensor&) { return Tensors{layer_norm(x, 1e-3)}; }, 128, 3.0);
  check_rows([&](const Tensor& x, const Tensor& g) { return Tensors{detail::layer_norm_grad(g, x, 0.1)}; }, 128, 3.0);
  check_rows([&](const Tensor& x, const Tensor&) { return Tensors{layer_norm(x, weight(x), weight(x), 1e-3)}; }, 128,
             3.0);
  const auto cotangents = [&](const Tensor& x, const Tensor& g) {  // of x, weight, bias
    const TensorsFn f = [](const Tensors& in) { return Tensors{layer_norm(in[0], in[1], in[2], 0.1)}; };
    return vjp(f, {x, weight(x), weight(x)}).pullback(Tensors{g});
  };
  check_rows(cotangents, 256, 3.0);
}

TEST_CASE("cuda: many rows meet in the cotangents of layer normalisation's parameters", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const Shape& shape : {Shape{3000, 12}, Shape{2000, 33}}) {
    const Tensor x = normal_sample(kKey, 7, shape, float64);
    const Tensor g = normal_sample(kKey, 8, shape, float64);
    const Tensor w = normal_sample(kKey, 9, {shape[1]}, float64);
    const TensorsFn f = [](const Tensors& in) { return Tensors{layer_norm(in[0], in[1], in[2], 1e-5)}; };
    const Tensors expected = vjp(f, {x, w, w}).pullback(Tensors{g});
    const Tensors got = vjp(f, {to(x, kGpu), to(w, kGpu), to(w, kGpu)}).pullback(Tensors{to(g, kGpu)});
    for (std::size_t i = 0; i < 3; ++i) CHECK(deviation(got[i], expected[i], 1.0) < 1e-11);
  }
}

TEST_CASE("cuda: rows with NaN and infinities give what they give on the CPU", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const std::int64_t n : {5, 40, 1000, 3000, 40000}) {
    std::vector<float> values(static_cast<std::size_t>(8 * n));
    const auto at = [&](std::int64_t row, std::int64_t column) -> float& {
      return values[static_cast<std::size_t>(row * n + column)];
    };
    for (std::int64_t j = 0; j < n; ++j) {
      for (std::int64_t row = 0; row < 8; ++row) at(row, j) = static_cast<float>(j % 7);
      at(1, j) = static_cast<float>(-kInf);
      at(2, j) = static_cast<float>(kInf);
      at(3, j) = j < n - 1 ? static_cast<float>(-kInf) : 1.0f;  // whole chunks of -inf
      at(4, j) = 3e38f;
    }
    at(5, n / 2) = static_cast<float>(kNaN);
    at(6, n / 2) = static_cast<float>(kInf);
    at(7, 0) = static_cast<float>(-kInf);
    at(1, n - 1) = static_cast<float>(-kInf);
    const Tensor x = from_vector<float>(values, {8, n});
    INFO(n);
    const Tensor wide = cast(x, float64);
    CHECK(deviation(softmax(to(x, kGpu), -1), softmax(wide, -1), 1.0) < 1e-6);
    CHECK(deviation(log_softmax(to(x, kGpu), -1), log_softmax(wide, -1), 1.0) < 4e-6);
    CHECK(deviation(logsumexp(to(x, kGpu), -1), logsumexp(wide, -1), 1.0) < 4e-6);
  }
  const Tensor row = from_vector<double>({1, kNaN, 2, 1, kInf, 2, 5, 5, 5}, {3, 3});
  CHECK(deviation(layer_norm(to(row, kGpu), 0.0), layer_norm(row, 0.0), 1.0) == 0.0);
  CHECK(softmax(zeros({3, 0}, {float32, kGpu}), -1).shape() == Shape{3, 0});
  CHECK(logsumexp(zeros({2, 0}, {float64, kGpu}), -1).to_vector<double>() == std::vector<double>(2, -kInf));
}

TEST_CASE("cuda: cross entropy at every number of classes", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const DType dtype : {float32, float64})
    for (const Shape& shape : row_shapes(dtype)) {
      const Tensor x = normal_sample(kKey, 10, shape, dtype);
      const Tensor labels = integer_sample(kKey, 11, {shape[0]}, 0, shape[1]);
      INFO(describe(x));
      const TensorsFn on_cpu = [&](const Tensors& in) { return Tensors{cross_entropy(in[0], labels)}; };
      const TensorsFn on_gpu = [&](const Tensors& in) { return Tensors{cross_entropy(in[0], to(labels, kGpu))}; };
      VjpResult expected = vjp(on_cpu, {cast(x, float64)});
      VjpResult got = vjp(on_gpu, {to(x, kGpu)});
      CHECK(deviation(got.values[0], expected.values[0], epsilon(dtype)) <= 16);
      const Tensor one = ones({}, {float64, cpu_device});
      const Tensor expected_g = expected.pullback(Tensors{one})[0];
      CHECK(deviation(got.pullback(Tensors{to(cast(one, dtype), kGpu)})[0], expected_g, epsilon(dtype)) <= 4);
    }
}

TEST_CASE("cuda: in a graph a label that is no class makes the loss and its row's gradient NaN", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const auto labels = [](double second) { return to(cast(from_vector<double>({0, second}, {2}), int64), kGpu); };
  Graph recorded = graph(
      [](const Tensors& in) {
        VjpResult r = vjp([&](const Tensors& x) { return Tensors{cross_entropy(x[0], in[1])}; }, {in[0]});
        return Tensors{r.values[0], r.pullback(Tensors{ones({}, {float64, kGpu})})[0]};
      },
      {zeros({2, 3}, {float64, kGpu}), labels(1)});
  for (const double label : {-1.0, 3.0}) {
    const Tensors out = recorded({zeros({2, 3}, {float64, kGpu}), labels(label)});
    CHECK_THROWS_WITH(out[0].item(), Catch::Contains("[cross_entropy] got label"));
    CHECK(std::isnan(out[0].item()));
    const std::vector<double> g = out[1].to_vector<double>();
    CHECK(g[0] == Approx(-1.0 / 3.0));
    for (std::size_t j = 3; j < 6; ++j) CHECK(std::isnan(g[j]));
  }
  const Tensor none = zeros({0}, {int64, kGpu});
  CHECK(std::isnan(cross_entropy(zeros({0, 3}, {float32, kGpu}), none).item()));
}

}  // namespace
}  // namespace solvent::testing
