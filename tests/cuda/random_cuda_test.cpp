// Random tensors on a GPU have the CPU's bits: several blocks, tails of every length, keys and counters of 64 bits.

#include "solvent/core/error.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/cuda/cuda_device.h"
#include "solvent/tests/cuda/same_bits.h"
#include "solvent/tests/support/catch.h"

namespace solvent::testing {
namespace {

const Device kGpu = cuda_test_device();

TEST_CASE("cuda: random tensors have the CPU's bits", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const Key key(0x123456789abcdef0u, 0xfedcba9876543210u);
  for (const std::int64_t n : {1, 2, 3, 5, 1023, 2500}) {
    INFO("n = " << n);
    for (const DType dtype : {float32, float64}) {
      CHECK(same_bits(uniform(key, {n}, -3, 7, {dtype, kGpu}), uniform(key, {n}, -3, 7, dtype)));
      CHECK(same_bits(normal(key, {n}, 0.5, 2, {dtype, kGpu}), normal(key, {n}, 0.5, 2, dtype)));
      CHECK(same_bits(truncated_normal(key, {n}, 1.5, 2, {dtype, kGpu}), truncated_normal(key, {n}, 1.5, 2, dtype)));
    }
    CHECK(same_bits(bernoulli(key, {n}, 0.3, kGpu), bernoulli(key, {n}, 0.3)));
    CHECK(same_bits(randint(key, {n}, -5, 1'000'000'007, kGpu), randint(key, {n}, -5, 1'000'000'007)));
    CHECK(same_bits(randint(key, {n}, INT64_MIN, INT64_MAX, kGpu), randint(key, {n}, INT64_MIN, INT64_MAX)));
    CHECK(same_bits(permutation(key, n, kGpu), permutation(key, n)));
  }
  CHECK(permutation(key, 0, kGpu).numel() == 0);
  CHECK(same_bits(uniform(key, {30, 0, 2}, 0, 1, {float32, kGpu}), uniform(key, {30, 0, 2})));
}

TEST_CASE("cuda: uniforms stay below the upper end", "[cuda]") {
  if (!has_cuda_test_device()) return;
  // Rounding would reach the end of this interval for one value in sixteen.
  CHECK(same_bits(uniform(Key(2), {1000}, 1e8, 1e8 + 8, {float32, kGpu}), uniform(Key(2), {1000}, 1e8, 1e8 + 8)));
  CHECK_THROWS_AS(uniform(Key(2), {10}, 1, 1, {float32, kGpu}), ValueError);
}

}  // namespace
}  // namespace solvent::testing
