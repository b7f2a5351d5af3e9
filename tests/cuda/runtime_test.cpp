// Memory, copies, factories and the errors of devices that do not exist.

#include "solvent/core/cuda/runtime.h"
#include "solvent/autodiff/transforms.h"
#include "solvent/core/allocator.h"
#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/core/tensor.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/cuda/cuda_device.h"
#include "solvent/tests/support/catch.h"

namespace solvent::testing {
namespace {

const Device kGpu = cuda_test_device();

TEST_CASE("cuda: factories and copies keep values, shapes and dtypes", "[cuda]") {
  if (!has_cuda_test_device()) return;
  CHECK(full({3}, 2.5, {float64, kGpu}).to_vector<double>() == std::vector<double>(3, 2.5));
  CHECK(arange(0, 5, 1, {int64, kGpu}).to_vector<std::int64_t>() == std::vector<std::int64_t>{0, 1, 2, 3, 4});
  CHECK(eye(2, {float32, kGpu}).to_vector<float>() == std::vector<float>{1, 0, 0, 1});
  CHECK(full({}, 1.0, {boolean, kGpu}).item() == 1.0);
  CHECK(zeros({0, 3}, {float32, kGpu}).to_vector<float>().empty());
  const Tensor x = from_vector<float>({1, 2, 3, 4, 5, 6}, {2, 3}, kGpu);
  CHECK(x.device() == kGpu);
  CHECK(permute(x, {1, 0}).to_vector<float>() == std::vector<float>{1, 4, 2, 5, 3, 6});
  CHECK(to(x, cpu_device).device() == cpu_device);
  CHECK(to(to(x, cpu_device), kGpu).to_vector<float>() == x.to_vector<float>());
  CHECK(to_string(x) == to_string(to(x, cpu_device)));
}

TEST_CASE("cuda: copies of any layout", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const Shape shape{5, 37, 41};
  const Tensor x = reshape(arange(0, 5 * 37 * 41, 1, {float64, cpu_device}), shape);
  const Tensor y = to(x, kGpu);
  const std::vector<Axes> orders = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {2, 0, 1}, {2, 1, 0}, {1, 2, 0}};
  for (const Axes& order : orders) {
    const Tensor dense = engine::contiguous(permute(y, order));
    CHECK(dense.to_vector<double>() == permute(x, order).to_vector<double>());
  }
  for (const DType dtype : {float32, int64, boolean, uint8}) {
    const Tensor odd = engine::contiguous(permute(to(cast(x, dtype), kGpu), {2, 0, 1}));
    CHECK(cast(to(odd, cpu_device), float64).to_vector<double>() ==
          cast(permute(cast(x, dtype), {2, 0, 1}), float64).to_vector<double>());
  }
}

TEST_CASE("cuda: to() is differentiable in both modes", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const Tensor x = tensor({1, 2, 3}, float64);
  const auto f = [](const Tensor& v) { return sum(square(to(v, kGpu))); };
  const Tensor g = grad(f, x);
  CHECK(g.device() == cpu_device);
  CHECK(g.to_vector<double>() == std::vector<double>{2, 4, 6});
}

TEST_CASE("cuda: data() names the remedy", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const Tensor x = ones({2}, {float32, kGpu});
  CHECK_THROWS_WITH(x.data<float>(),
                    Catch::Contains("[data]") && Catch::Contains("cuda:0") && Catch::Contains("to(x, cpu_device)"));
  CHECK_THROWS_WITH(ones({2}, {float32, Device{DeviceType::cuda, 7}}),
                    Catch::Contains("cuda:7") && Catch::Contains("number of CUDA devices"));
  CHECK_THROWS_WITH(add(x, ones({2})), Catch::Contains("cuda:0") && Catch::Contains("to(x, device)"));
}

TEST_CASE("cuda: freed memory is reused, counted and limited", "[cuda]") {
  if (!has_cuda_test_device()) return;
  empty_cache(kGpu);
  const MemoryStats before = memory_stats(kGpu);
  { const Tensor x = zeros({1 << 20}, {float32, kGpu}); }
  const MemoryStats first = memory_stats(kGpu);
  CHECK(first.active == before.active);
  const bool is_cached = has_cuda_memory_cache();
  CHECK(first.cached >= before.cached + (is_cached ? std::size_t{4} << 20 : 0));
  { const Tensor x = zeros({1 << 20}, {float32, kGpu}); }
  CHECK(memory_stats(kGpu).cache_hits == first.cache_hits + (is_cached ? 1 : 0));
  const std::size_t reserved = first.active + first.cached;
  set_memory_limit(reserved + (std::size_t{8} << 20), kGpu);
  CHECK_THROWS_AS(zeros({std::int64_t{1} << 26}, {float32, kGpu}), OutOfMemoryError);
  CHECK_THROWS_WITH(zeros({std::int64_t{1} << 26}, {float32, kGpu}),
                    Catch::Contains("cuda:0") && Catch::Contains("limit") && Catch::Contains("largest"));
  set_memory_limit(0, kGpu);
  CHECK(zeros({1 << 20}, {float32, kGpu}).numel() == 1 << 20);
}

}  // namespace
}  // namespace solvent::testing
