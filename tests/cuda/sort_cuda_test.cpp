// Sorting on a GPU has the CPU's bits: networks of every width, several lines per block, radix passes, ties, NaN and zeros.

#include <limits>

#include "solvent/ops/ops.h"
#include "solvent/tests/cuda/cuda_device.h"
#include "solvent/tests/cuda/same_bits.h"
#include "solvent/tests/support/catch.h"

namespace solvent::testing {
namespace {

const Device kGpu = cuda_test_device();

void check_same(const Tensor& x, std::int64_t axis, bool descending) {
  const ValueAndIndex got = sort(to(x, kGpu), axis, descending);
  const ValueAndIndex expected = sort(x, axis, descending);
  CHECK(same_bits(got.value, expected.value));
  CHECK(same_bits(got.index, expected.index));
}

TEST_CASE("cuda: sort has the CPU's bits", "[cuda]") {
  if (!has_cuda_test_device()) return;
  struct Case {
    Shape shape;
    std::int64_t axis;
  };
  const Case cases[] = {{{40, 1}, 1}, {{1000, 3}, 1}, {{30, 17}, 1}, {{3, 600}, 1}, {{2, 2048}, 1}, {{500, 3}, 0}};
  std::uint64_t n = 0;
  for (const Case& c : cases)
    for (const bool descending : {false, true}) {
      INFO(to_string(c.shape) << " axis " << c.axis << (descending ? " descending" : ""));
      const Tensor ties = randint(Key(++n), c.shape, -20, 20);
      check_same(ties, c.axis, descending);
      check_same(cast(ties, float32), c.axis, descending);
      check_same(normal(Key(++n), c.shape), c.axis, descending);
      check_same(normal(Key(++n), c.shape, 0, 1, float64), c.axis, descending);
    }
}

TEST_CASE("cuda: long lines are sorted by digits", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const Tensor ties = randint(Key(50), {2, 2049}, -20, 20);
  check_same(ties, 1, false);
  check_same(cast(ties, float32), 1, true);
  check_same(normal(Key(51), {1, 2300, 2}, 0, 1, float64), 1, true);
  check_same(normal(Key(52), {5000}), 0, false);
}

TEST_CASE("cuda: sort puts NaN last, keeps -0 beside 0, and sorts all 64 bits", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double inf = std::numeric_limits<double>::infinity();
  const Tensor few = tensor({0.0, nan, -0.0, inf, -inf, 5e-324, -nan, -5e-324, 0.0, 1.0}, float64);
  for (const std::int64_t repeats : {1, 210}) {
    const Tensor x = reshape(broadcast_to(few, {repeats, 10}), {repeats * 10});
    for (const bool descending : {false, true}) {
      check_same(x, 0, descending);
      check_same(cast(x, float32), 0, descending);
    }
  }
  const Tensor wide = randint(Key(5), {2500}, INT64_MIN, INT64_MAX);
  check_same(wide, 0, false);
  check_same(slice(wide, 0, 0, 2500, 5), 0, true);
}

TEST_CASE("cuda: topk and argsort", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const std::int64_t n : {50, 2500}) {
    const Tensor x = normal(Key(9), {4, n});
    const ValueAndIndex got = topk(to(x, kGpu), 7, 1);
    const ValueAndIndex expected = topk(x, 7, 1);
    CHECK(same_bits(got.value, expected.value));
    CHECK(same_bits(got.index, expected.index));
    CHECK(same_bits(argsort(to(x, kGpu), 1), argsort(x, 1)));
    CHECK(topk(to(x, kGpu), 0, 1).value.numel() == 0);
  }
}

}  // namespace
}  // namespace solvent::testing
