// Recorded graphs: what they may hold, checks of values that replays make, and the memory that they keep.

#include <string>
#include <vector>

#include "solvent/autodiff/transforms.h"
#include "solvent/core/allocator.h"
#include "solvent/core/error.h"
#include "solvent/core/stream.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/cuda/cuda_device.h"
#include "solvent/tests/cuda/same_bits.h"
#include "solvent/tests/support/catch.h"

namespace solvent::testing {
namespace {

const Device kGpu = cuda_test_device();
const Key kKey(4711);

Tensor on_gpu(const Tensor& t) { return to(t, kGpu); }
Tensor labels(std::initializer_list<double> values) { return tensor(values, {int64, kGpu}); }

// The message of the ValueError that f throws, or that waiting for its work does.
template <class F>
std::string message(const F& f) {
  try {
    (void)f();
    synchronize(kGpu);
  } catch (const ValueError& e) {
    return e.what();
  }
  return "no error";
}

TEST_CASE("cuda: a graph takes nothing from the host that may change", "[cuda][streams]") {
  if (!has_cuda_test_device()) return;
  const Tensor x = ones({3}, {float64, kGpu});
  const Tensor host = tensor({1, 2, 3}, float64);
  CHECK_THROWS_WITH(graph([&](const Tensors& in) { return Tensors{mul(in[0], to(host, kGpu))}; }, {x}),
                    Catch::Contains("[graph]") && Catch::Contains("pass it as an input"));
  const auto reads = [](const Tensors& in) {
    return Tensors{mul(in[0], full({}, sum(in[0]).item(), {float64, kGpu}))};
  };
  CHECK_THROWS_WITH(graph(reads, {x}),
                    Catch::Contains("reads values on the host") && Catch::Contains("return the tensor"));
  CHECK_THROWS_WITH(graph([&](const Tensors& in) { return graph([](const Tensors& i) { return i; }, in)(in); }, {x}),
                    Catch::Contains("inside of a function that is being recorded"));
  Graph after = graph([](const Tensors& in) { return Tensors{sum(in[0])}; }, {x});  // failures leave nothing behind
  CHECK(after({x})[0].item() == 3.0);
}

TEST_CASE("cuda: a graph keeps its memory when caches are emptied", "[cuda][streams]") {
  if (!has_cuda_test_device()) return;
  const std::int64_t n = 300'000;  // intermediate values in blocks of their own, freed while the graph was recorded
  const auto f = [](const Tensors& in) { return Tensors{sum(exp(sin(mul(in[0], in[0]))))}; };
  const Tensor x = on_gpu(uniform(kKey, {n}, -1, 1, float64));
  const Tensor y = on_gpu(uniform(kKey.fold_in(1), {n}, -1, 1, float64));
  Graph recorded = graph(f, {x});
  empty_cache(kGpu);
  const Tensor kept = full({n}, 2.0, {float64, kGpu});
  CHECK(same_bits(recorded({y})[0], f({y})[0]));
  CHECK(same_bits(recorded({x})[0], f({x})[0]));
  CHECK(same_bits(kept, full({n}, 2.0, float64)));
}

// To give memory back waits for the device, which no recording survives.
TEST_CASE("cuda: caches are not emptied while a graph is recorded", "[cuda][streams]") {
  if (!has_cuda_test_device() || !has_cuda_memory_cache()) return;
  empty_cache(kGpu);
  Tensor large = full({1 << 20}, 1.0, {float64, kGpu});
  large.reset();
  synchronize(kGpu);
  const std::size_t before = memory_stats(kGpu).cached;
  CHECK(before >= std::size_t{8} << 20);
  int calls = 0;
  std::size_t recorded_with = 0;
  Graph recorded = graph(
      [&](const Tensors& in) {
        if (++calls == 2) {  // the first call is the warm-up
          empty_cache(kGpu);
          recorded_with = memory_stats(kGpu).cached;
        }
        return Tensors{square(in[0])};
      },
      {full({4}, 3.0, {float64, kGpu})});
  CHECK(recorded_with >= std::size_t{8} << 20);
  CHECK(recorded({full({4}, 5.0, {float64, kGpu})})[0].to_vector<double>() == std::vector<double>(4, 25.0));
  empty_cache(kGpu);
  CHECK(memory_stats(kGpu).cached < before);
}

TEST_CASE("cuda: a replayed graph reports indices out of range", "[cuda][streams]") {
  if (!has_cuda_test_device()) return;
  const Tensor table = on_gpu(normal(kKey, {5, 4}, 0, 1, float64));
  Graph look_up = graph(
      [&](const Tensors& in) {
        return Tensors{embedding(table, in[0]), one_hot(in[0], 7)};
      },
      {labels({0, 1, 2, 3})});
  CHECK(same_bits(look_up({labels({4, 4, 0, 1})})[0], embedding(table, labels({4, 4, 0, 1}))));
  const std::string expected = message([&] { return embedding(to(table, cpu_device), tensor({0, 4, 5, -1}, int64)); });
  CHECK(expected.find("[embedding] got index 5 at position 2") == 0);
  const auto replayed = [&](const Tensor& index) {
    return message([&] {
      const Tensors out = look_up({index});  // the host goes on
      (void)out[0].to_vector<double>();
      return 0;
    });
  };
  CHECK(replayed(labels({0, 4, 5, -1})) ==
        expected + " Found when a graph was replayed; the results of that replay are wrong.");
  CHECK(replayed(labels({0, 4, 3, -1})).find("[embedding] got index -1 at position 3") == 0);
  CHECK(replayed(labels({0, 4, 3, 1})) == "no error");  // reported once
  // Of several replays the first failure is reported, whoever waits.
  (void)look_up({labels({0, 0, 0, 0})});
  (void)look_up({labels({0, 6, 0, 0})});
  CHECK(message([&] {
          (void)look_up({labels({9, 0, 0, 0})});
          synchronize(kGpu);
          return 0;
        }).find("[embedding] got index 6 at position 1") == 0);
  CHECK(replayed(labels({0, 4, 3, 1})) == "no error");
}

TEST_CASE("cuda: a replay's failure survives its graph", "[cuda][streams]") {
  if (!has_cuda_test_device()) return;
  {
    Graph recorded = graph([](const Tensors& in) { return Tensors{one_hot(in[0], 3)}; }, {labels({0, 1})});
    (void)recorded({labels({0, 3})});
  }
  CHECK(message([] {
          synchronize(kGpu);
          return 0;
        }).find("[one_hot] got index 3 at position 1") == 0);
  synchronize(kGpu);
}

TEST_CASE("cuda: recorded checks of shared and strided indices", "[cuda][streams]") {
  if (!has_cuda_test_device()) return;
  const Tensor x = on_gpu(normal(kKey.fold_in(2), {40, 50}, 0, 1, float32));
  const auto f = [](const Tensors& in) {
    return Tensors{gather(in[0], broadcast_to(slice(in[1], 1, 3, 4), {40, 50}), 0),
                   scatter_add(in[0], permute(in[2], {1, 0}), 0, 60), index_select(in[0], reshape(in[1], {400}), 1)};
  };
  const auto index = [](std::uint64_t n, const Shape& shape) {
    return on_gpu(randint(kKey.fold_in(n), shape, 0, 40, cpu_device));
  };
  Graph recorded = graph(f, {x, index(3, {40, 10}), index(4, {50, 40})});
  const Tensors in{x, index(5, {40, 10}), index(6, {50, 40})};
  const Tensors got = recorded(in);
  const Tensors expected = f(in);
  for (std::size_t i = 0; i < got.size(); ++i) CHECK(same_bits(got[i], expected[i]));
  const Tensor at = reshape(arange(0, 400, 1, {int64, kGpu}), {40, 10});
  const auto with = [&](double position, double value) {
    return Tensors{x, where(equal(at, full({}, position, {int64, kGpu})), full({}, value, {int64, kGpu}), in[1]),
                   in[2]};
  };
  for (const double position : {73.0, 72.0}) {
    std::string same = message([&] { return f(with(position, 50)); });
    same = same.substr(0, same.find(" A GPU found this"));
    CHECK(same.find("got index 50 at position") != std::string::npos);
    CHECK(message([&] {
            (void)recorded(with(position, 50));
            synchronize(kGpu);
            return 0;
          }).find(same) == 0);
  }
}

TEST_CASE("cuda: labels and pooled positions are checked as on the CPU", "[cuda][streams]") {
  if (!has_cuda_test_device()) return;
  const Tensor logits = normal(kKey.fold_in(7), {300, 6}, 0, 1, float32);
  const Tensor good = randint(kKey.fold_in(8), {300}, 0, 6, cpu_device);
  const Tensor at = arange(0, 300, 1, {int64, cpu_device});
  const Tensor bad = where(less(at, full({}, 260, {int64, cpu_device})), good, full({}, 6, {int64, cpu_device}));
  const std::string expected = message([&] { return cross_entropy(logits, bad); });
  CHECK(expected.find("[cross_entropy] got label 6 at position 260") == 0);
  CHECK(message([&] { return cross_entropy(on_gpu(logits), on_gpu(bad)); }).find(expected) == 0);
  Graph loss =
      graph([](const Tensors& in) { return Tensors{cross_entropy(in[0], in[1])}; }, {on_gpu(logits), on_gpu(good)});
  CHECK(loss({on_gpu(logits), on_gpu(good)})[0].item() == cross_entropy(on_gpu(logits), on_gpu(good)).item());
  CHECK(message([&] { return loss({on_gpu(logits), on_gpu(bad)})[0].item(); }).find(expected) == 0);

  const Tensor x = normal(kKey.fold_in(9), {2, 3, 8, 8}, 0, 1, float64);
  const auto [value, index] = max_pool2d_with_index(x, {.window = {2, 2}});
  const Tensor beyond = add(index, full({}, 3, {int64, cpu_device}));
  const std::string unpool = message([&] { return max_unpool2d(value, beyond, {8, 8}); });
  CHECK(unpool.find("[max_unpool2d] got index") == 0);
  CHECK(message([&] { return max_unpool2d(on_gpu(value), on_gpu(beyond), {8, 8}); }).find(unpool) == 0);
  Graph put = graph(
      [](const Tensors& in) {
        return Tensors{max_unpool2d(in[0], in[1], {8, 8})};
      },
      {on_gpu(value), on_gpu(index)});
  CHECK(same_bits(put({on_gpu(value), on_gpu(index)})[0], max_unpool2d(value, index, {8, 8})));
  CHECK(message([&] { return put({on_gpu(value), on_gpu(beyond)})[0].to_vector<double>(); }).find(unpool) == 0);
}

TEST_CASE("cuda: a replayed graph reports matrices that have no factors", "[cuda][streams]") {
  if (!has_cuda_test_device()) return;
  const auto f = [](const Tensors& in) { return Tensors{cholesky(in[0]), solve(in[0], in[1])}; };
  const Tensor good = on_gpu(mul(eye(3, float64), full({2, 3, 3}, 2.0, float64)));
  const Tensor b = ones({2, 3, 1}, {float64, kGpu});
  Graph recorded = graph(f, {good, b});
  CHECK(recorded({good, b})[1].to_vector<double>() == std::vector<double>(6, 0.5));
  const Tensor singular = mul(good, reshape(tensor({1, 1, 1, 1, 1, 0}, {float64, kGpu}), {2, 3, 1}));
  const std::string expected = message([&] { return f({singular, b}); });
  CHECK(expected.find("[cholesky] matrix 1 of 2 is not positive definite: pivot 2") == 0);
  CHECK(message([&] { return recorded({singular, b})[0].to_vector<double>(); }).find(expected) == 0);
}

TEST_CASE("cuda: resizing is recorded with its weights", "[cuda][streams]") {
  if (!has_cuda_test_device()) return;
  const auto f = [](const Tensors& in) {
    return Tensors{resize2d(in[0], {9, 21}, {.antialias = true}), resize1d(in[0], 5),
                   resize2d(in[0], {30, 8}, {.mode = Interpolation::nearest})};
  };
  const Tensor x = on_gpu(normal(kKey.fold_in(11), {2, 3, 16, 13}, 0, 1, float32));
  const Tensor y = on_gpu(normal(kKey.fold_in(12), {2, 3, 16, 13}, 0, 1, float32));
  Graph recorded = graph(f, {x});
  const Tensors got = recorded({y});
  const Tensors expected = f({y});
  for (std::size_t i = 0; i < got.size(); ++i) CHECK(same_bits(got[i], expected[i]));
}

TEST_CASE("cuda: inverses and the Jacobians of transforms are recorded", "[cuda][streams]") {
  if (!has_cuda_test_device()) return;
  const auto f = [](const Tensors& in) {
    const auto g = [](const Tensor& x) { return tanh(mul(x, x)); };
    const Tensor row = reshape(slice(in[0], 0, 0, 1), {5});
    return Tensors{inverse(in[0]), eye(3, {float64, kGpu}), jacfwd(g, row), jacrev(g, row)};
  };
  const auto regular = [](std::uint64_t n) {
    return on_gpu(add(normal(kKey.fold_in(n), {5, 5}, 0, 1, float64), mul(eye(5, float64), scalar(6, float64))));
  };
  Graph recorded = graph(f, {regular(30)});
  const Tensor a = regular(31);
  const Tensors got = recorded({a});
  const Tensors expected = f({a});
  for (std::size_t i = 0; i < got.size(); ++i) CHECK(same_bits(got[i], expected[i]));
}

TEST_CASE("cuda: expm is recorded with the same bits", "[cuda][streams]") {
  if (!has_cuda_test_device()) return;
  const auto f = [](const Tensors& in) {
    return Tensors{expm(in[0]), phi1(in[0]), grad([](const Tensor& a) { return sum(square(expm(a))); }, in[0])};
  };
  const auto scaled = [](std::uint64_t n) {  // norms from 0.01 to 100: none, some and many doublings side by side
    return on_gpu(mul(normal(kKey.fold_in(n), {5, 6, 6}, 0, 1, float64),
                      reshape(tensor({0.01, 0.1, 1, 10, 30}, float64), {5, 1, 1})));
  };
  Graph recorded = graph(f, {scaled(20)});
  const Tensor a = scaled(21);
  const Tensors got = recorded({a});
  const Tensors expected = f({a});
  for (std::size_t i = 0; i < got.size(); ++i) CHECK(same_bits(got[i], expected[i]));
  CHECK(message([&] {
          return recorded({mul(a, full({}, 1e6, {float64, kGpu}))})[0].to_vector<double>();
        }).find("[expm] the norm of matrix") == 0);
}

}  // namespace
}  // namespace solvent::testing
