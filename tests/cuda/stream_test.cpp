// Streams, events and graphs.

#include "solvent/core/stream.h"
#include "solvent/core/error.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/cuda/cuda_device.h"
#include "solvent/tests/cuda/same_bits.h"
#include "solvent/tests/support/catch.h"

namespace solvent::testing {
namespace {

const Device kGpu = cuda_test_device();

TEST_CASE("cuda: work on another stream, ordered by events", "[cuda][streams]") {
  if (!has_cuda_test_device()) return;
  const Tensor x = arange(0, 1000, 1, {float64, kGpu});
  Event made(kGpu);
  made.record();
  Tensor y;
  Event done(kGpu);
  {
    const Stream side(kGpu);
    const StreamGuard guard(side);
    made.wait();
    y = square(x);
    done.record();
    side.synchronize();
  }
  done.wait();
  const Tensor total = sum(y);
  CHECK(total.item() == 999.0 * 1000.0 * 1999.0 / 6.0);
  CHECK(done.milliseconds_since(made) >= 0.0);
  synchronize(kGpu);
}

TEST_CASE("cuda: memory of a stream that ended is used again", "[cuda][streams]") {
  if (!has_cuda_test_device()) return;
  Tensor kept;
  {
    const Stream side(kGpu);
    const StreamGuard guard(side);
    kept = full({1 << 19}, 3.0, {float64, kGpu});
  }
  CHECK(sum(kept).item() == 3.0 * (1 << 19));
  kept.reset();
  const MemoryStats before = memory_stats(kGpu);
  kept = full({1 << 19}, 4.0, {float64, kGpu});
  CHECK(memory_stats(kGpu).cache_hits == before.cache_hits + (has_cuda_memory_cache() ? 1 : 0));
}

TEST_CASE("cuda: a graph computes its function for new inputs", "[cuda][streams]") {
  if (!has_cuda_test_device()) return;
  const Tensor w = tensor({2, -1, 0.5}, {float64, kGpu});
  Graph step = graph(
      [&](const Tensors& in) {
        return Tensors{exp(mul(in[0], w)), sum(in[0])};
      },
      {tensor({0, 0, 0}, {float64, kGpu})});
  const Tensors first = step({tensor({1, 2, 3}, {float64, kGpu})});
  const Tensors second = step({tensor({-1, 0, 1}, {float64, kGpu})});
  CHECK(first[1].item() == 6.0);
  CHECK(second[1].item() == 0.0);
  CHECK(first[0].to_vector<double>()[0] == Approx(std::exp(2.0)).epsilon(1e-14));
  CHECK(second[0].to_vector<double>()[0] == Approx(std::exp(-2.0)).epsilon(1e-14));
  CHECK_THROWS_WITH(step({zeros({4}, {float64, kGpu})}), Catch::Contains("[graph]") && Catch::Contains("float64(4,)"));
  CHECK_THROWS_WITH(step({zeros({3}, {float32, kGpu})}), Catch::Contains("float32(3,)"));
  CHECK_THROWS_WITH(step({zeros({3}, float64)}), Catch::Contains("on cpu") && Catch::Contains("cuda:0"));
  CHECK_THROWS_WITH(step({}), Catch::Contains("got 0 inputs"));
}

TEST_CASE("cuda: a graph of many inputs of any size, stride and dtype", "[cuda][streams]") {
  if (!has_cuda_test_device()) return;
  // More than one launch copies; sizes around packs of 16 bytes and chunks of 16 KiB; an offset that is not aligned; strides.
  Tensors inputs;
  for (const std::int64_t n : {1, 3, 4, 5, 4095, 4096, 4097, 10000, 0})
    for (int i = 0; i < 16; ++i) inputs.push_back(arange(0, static_cast<double>(n), 1, {float32, kGpu}) + i);
  inputs.push_back(slice(arange(0, 5000, 1, {float32, kGpu}), 0, 1, 4900));
  inputs.push_back(transpose(reshape(arange(0, 600, 1, {float64, kGpu}), {20, 30}), 0, 1));
  inputs.push_back(arange(0, 77, 1, {int64, kGpu}));
  inputs.push_back(cast(arange(0, 9001, 1, {float32, kGpu}), bfloat16));
  Graph identity = graph([](const Tensors& in) { return in; }, inputs);
  Tensors other;
  for (const Tensor& x : inputs) other.push_back(x.dtype() == int64 ? x : x * 2.0);
  other[144] = slice(arange(1, 5001, 1, {float32, kGpu}), 0, 1, 4900);
  const Tensors results = identity(other);
  REQUIRE(results.size() == inputs.size());
  for (std::size_t i = 0; i < results.size(); ++i) {
    INFO(i);
    CHECK(same_bits(results[i], other[i]));
  }
}

TEST_CASE("cuda: replays on several streams take turns", "[cuda][streams]") {
  if (!has_cuda_test_device()) return;
  const std::int64_t n = 20000;
  auto step = std::make_unique<Graph>(graph(
      [](const Tensors& in) {
        Tensor y = in[0];
        for (int i = 0; i < 5; ++i) y = sin(y) + in[0];
        return Tensors{y};
      },
      {zeros({n}, {float32, kGpu})}));
  const Stream side(kGpu);
  std::vector<Tensor> inputs, results;
  for (int i = 0; i < 6; ++i)
    inputs.push_back(arange(0, static_cast<double>(n), 1, {float32, kGpu}) * (0.01 * (i + 1)));
  synchronize(kGpu);
  for (int i = 0; i < 6; ++i) {
    if (i % 2 == 0) {
      results.push_back((*step)({inputs[static_cast<std::size_t>(i)]})[0]);
    } else {
      const StreamGuard guard(side);
      results.push_back((*step)({inputs[static_cast<std::size_t>(i)]})[0]);
    }
  }
  step.reset();  // its last replay may be under way
  const Tensor reused = full({n}, 7.0, {float32, kGpu});
  side.synchronize();
  for (std::size_t i = 0; i < results.size(); ++i) {
    INFO(i);
    Tensor y = inputs[i];
    for (int k = 0; k < 5; ++k) y = sin(y) + inputs[i];
    CHECK(same_bits(results[i], y));
  }
  CHECK(sum(reused).item() == 7.0 * static_cast<double>(n));
}

TEST_CASE("cuda: a replay cannot be recorded", "[cuda][streams]") {
  if (!has_cuda_test_device()) return;
  const Tensor x = ones({4}, {float32, kGpu});
  Graph inner = graph([](const Tensors& in) { return Tensors{in[0] + in[0]}; }, {x});
  CHECK_THROWS_WITH(graph([&](const Tensors& in) { return inner(in); }, {x}),
                    Catch::Contains("[graph]") && Catch::Contains("being recorded"));
  CHECK(inner({x})[0].to_vector<float>() == std::vector<float>{2, 2, 2, 2});
}

}  // namespace
}  // namespace solvent::testing
