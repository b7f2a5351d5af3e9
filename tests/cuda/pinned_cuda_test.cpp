// Pinned memory and the copies through it. SOLVENT_EMULATOR_LATE=1 makes the emulator copy as late as a device may.

#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "solvent/autodiff/transforms.h"
#include "solvent/core/cuda/runtime.h"
#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/core/stream.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/cuda/cuda_device.h"
#include "solvent/tests/cuda/same_bits.h"
#include "solvent/tests/support/catch.h"

namespace solvent::testing {
namespace {

const Device kGpu = cuda_test_device();
constexpr std::int64_t kMebi = std::int64_t{1} << 20;

Tensor counted(std::int64_t n, double first = 0) { return arange(first, first + static_cast<double>(n), 1, float64); }

TEST_CASE("cuda: pinned tensors keep values, shapes and dtypes", "[cuda][streams]") {
  if (!has_cuda_test_device()) return;
  for (const DType dtype : {float32, float64, int64, boolean}) {
    const Tensor x = cast(reshape(counted(60), {3, 20}), dtype);
    const Tensor pinned = pin_memory(permute(x, {1, 0}));
    CHECK(is_pinned(pinned));
    CHECK_FALSE(is_pinned(x));
    CHECK(pinned.device() == cpu_device);
    CHECK(pinned.is_contiguous());
    CHECK(same_bits(pinned, permute(x, {1, 0})));
    CHECK(same_bits(to(pinned, kGpu), pinned));
    CHECK(same_bits(to(slice(pinned, 0, 3, 7), kGpu), slice(pinned, 0, 3, 7)));
    CHECK(same_bits(to(permute(pinned, {1, 0}), kGpu), x));
  }
  const Tensor pinned = pin_memory(counted(5));
  CHECK(pin_memory(pinned).data<double>() == pinned.data<double>());
  CHECK(pin_memory(zeros({0, 3})).shape() == Shape{0, 3});
  CHECK(to(pin_memory(zeros({0, 3})), kGpu).numel() == 0);
  CHECK_FALSE(is_pinned(to(pinned, kGpu)));
  CHECK_THROWS_WITH(pin_memory(to(pinned, kGpu)), Catch::Contains("[pin_memory]") && Catch::Contains("cuda:0") &&
                                                      Catch::Contains("to(x, cpu_device)"));
  CHECK_THROWS_AS(grad([](const Tensor& v) { return sum(pin_memory(v)); }, counted(3)), AutodiffError);
  const Tensor g = grad([&](const Tensor& v) { return sum(square(to(v, kGpu))); }, pinned);
  CHECK(g.to_vector<double>() == std::vector<double>{0, 2, 4, 6, 8});
}

TEST_CASE("cuda: a pinned tensor lives until its upload has ended", "[cuda][streams]") {
  if (!has_cuda_test_device()) return;
  const std::int64_t n = 100'000;
  std::vector<Tensor> uploaded;
  for (int i = 0; i < 5; ++i) {
    Tensor source = pin_memory(counted(n, i));
    uploaded.push_back(to(source, kGpu));
    if (i % 2 == 0) {
      source.reset();  // the next one would take the block
    } else {
      const Tensor changed = neg(std::move(source));  // would write its result into the source
      CHECK(changed.to_vector<double>()[7] == -7.0 - i);
    }
  }
  for (int i = 0; i < 5; ++i) CHECK(same_bits(uploaded[static_cast<std::size_t>(i)], counted(n, i)));
}

TEST_CASE("cuda: copies of any size pass through the buffers", "[cuda][streams]") {
  if (!has_cuda_test_device()) return;
  for (const std::int64_t bytes : {std::int64_t{8}, std::int64_t{64} << 10, (std::int64_t{64} << 10) + 8, 4 * kMebi - 8,
                                   4 * kMebi, 4 * kMebi + 8, 8 * kMebi, 13 * kMebi + 24, 41 * kMebi}) {
    INFO(bytes);
    const std::int64_t n = bytes / 8;
    std::vector<std::int64_t> source(static_cast<std::size_t>(n));
    std::iota(source.begin(), source.end(), bytes);
    const std::vector<std::int64_t> expected = source;
    Tensor target = zeros({n}, {int64, kGpu});
    cuda::copy_to_device(engine::mutable_ptr<std::int64_t>(target), source.data(), static_cast<std::size_t>(bytes),
                         kGpu);
    source.assign(source.size(), -1);  // the call has returned, so the source is ours again
    CHECK(target.to_vector<std::int64_t>() == expected);
  }
}

TEST_CASE("cuda: copies on several streams take turns with the buffers", "[cuda][streams]") {
  if (!has_cuda_test_device()) return;
  const std::int64_t n = 9 * kMebi / 8;
  const Stream first(kGpu);
  const Stream second(kGpu);
  std::vector<Tensor> uploaded;
  for (int i = 0; i < 6; ++i) {
    const StreamGuard guard(i % 2 == 0 ? first : second);
    uploaded.push_back(to(counted(n, 100 * i), kGpu));
  }
  for (int i = 5; i >= 0; --i) {
    const StreamGuard guard(i % 2 == 0 ? first : second);
    CHECK(same_bits(uploaded[static_cast<std::size_t>(i)], counted(n, 100 * i)));
  }
}

TEST_CASE("cuda: pinned memory is reused, counted and limited", "[cuda][streams]") {
  if (!has_cuda_test_device()) return;
  synchronize(kGpu);
  empty_pinned_cache();
  const MemoryStats before = pinned_memory_stats();
  CHECK(before.cached == 0);
  const auto mebi = static_cast<std::size_t>(kMebi);
  { const Tensor x = pin_memory(counted(kMebi / 8)); }
  const MemoryStats first = pinned_memory_stats();
  CHECK(first.active == before.active);
  CHECK(first.cached == mebi);
  {
    const Tensor x = pin_memory(counted(kMebi / 8 - 100));
    const MemoryStats now = pinned_memory_stats();
    CHECK(now.cache_hits == first.cache_hits + 1);
    CHECK(now.allocations == first.allocations + 1);
    CHECK(now.active == before.active + mebi);
    CHECK(now.cached == 0);
  }
  const Tensor large = counted(9 * kMebi / 8);
  CHECK(same_bits(to(large, kGpu), large));  // up and down
  const std::size_t buffers = pinned_memory_stats().cached - mebi;
  CHECK(buffers >= 4 * mebi);
  CHECK(buffers <= 32 * mebi);

  set_pinned_memory_limit(before.active + 2 * mebi);
  CHECK(pinned_memory_stats().limit == before.active + 2 * mebi);
  CHECK_THROWS_WITH(pin_memory(counted(3 * kMebi / 8)), Catch::Contains("[pin_memory] got a request for 3.0 MiB") &&
                                                            Catch::Contains("set_pinned_memory_limit"));
  empty_pinned_cache();
  CHECK(pinned_memory_stats().cached == 0);
  CHECK(same_bits(to(large, kGpu), large));  // without buffers of ours
  CHECK(pinned_memory_stats().cached == 0);
  CHECK(is_pinned(pin_memory(counted(kMebi / 8))));
  set_pinned_memory_limit(0);
  CHECK(same_bits(to(large, kGpu), large));
  CHECK(pinned_memory_stats().cached >= 4 * mebi);
}

TEST_CASE("cuda: pinned tensors are no constants of graphs", "[cuda][streams]") {
  if (!has_cuda_test_device()) return;
  const Tensor host = pin_memory(counted(3));
  CHECK_THROWS_WITH(
      graph([&](const Tensors& in) { return Tensors{mul(in[0], to(host, kGpu))}; }, {ones({3}, {float64, kGpu})}),
      Catch::Contains("pass it as an input"));
}

}  // namespace
}  // namespace solvent::testing
