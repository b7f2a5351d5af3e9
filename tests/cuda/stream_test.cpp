// Streams, events and graphs.

#include "solvent/core/stream.h"
#include "solvent/core/error.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/cuda/cuda_device.h"
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

}  // namespace
}  // namespace solvent::testing
