// Cumulative sums and products on a GPU along every axis, in sizes that reach warps, blocks and chunks.

#include <algorithm>
#include <cmath>
#include <limits>

#include "solvent/ops/ops.h"
#include "solvent/tests/cuda/cuda_device.h"
#include "solvent/tests/cuda/device_error.h"
#include "solvent/tests/cuda/same_bits.h"
#include "solvent/tests/support/catch.h"

namespace solvent::testing {
namespace {

const Device kGpu = cuda_test_device();

struct Case {
  Shape shape;
  std::int64_t axis;
};
const Case kCases[] = {
    {{300, 5}, 1},     // a warp per row
    {{9, 256}, 1},     // as long as warps take
    {{3, 2500}, 1},    // a block per row, several turns
    {{2, 40000}, 1},   // tiles or chunks of rows
    {{100, 7}, 0},     // columns
    {{2, 1000, 5}, 1}  // chunks of columns
};

TEST_CASE("cuda: cumsum equals the CPU's", "[cuda]") {
  if (!has_cuda_test_device()) return;
  std::uint64_t n = 0;
  std::vector<Case> cases(std::begin(kCases), std::end(kCases));
  cases.push_back({{3, 16385}, 1});           // tiles of rows that start anywhere in memory
  cases.push_back({{1, 2048 * 257 + 3}, 1});  // more tiles than a group has, but for float
  for (const Case& c : cases)
    for (const bool reversed : {false, true}) {
      INFO(to_string(c.shape) << " axis " << c.axis << (reversed ? " reversed" : ""));
      const Tensor whole = randint(Key(++n), c.shape, -1000, 1000);
      CHECK(same_bits(cumsum(to(whole, kGpu), c.axis, reversed), cumsum(whole, c.axis, reversed)));
      const Tensor x = normal(Key(++n), c.shape, 0, 1, float64);
      const Tensor y = cumsum(to(x, kGpu), c.axis, reversed);
      CHECK(error(y, cumsum(x, c.axis, reversed)) <= (x.numel() > 100000 ? 1e-10 : 1e-12));  // rounding of long sums
      CHECK(same_bits(y, cumsum(to(x, kGpu), c.axis, reversed)));
      const Tensor single = cast(x, float32);
      const Tensor exact = cumsum(cast(single, float64), c.axis, reversed);
      CHECK(error(cumsum(to(single, kGpu), c.axis, reversed), exact) <= 6e-8);  // one rounding
    }
}

TEST_CASE("cuda: cumprod equals the CPU's", "[cuda]") {
  if (!has_cuda_test_device()) return;
  std::uint64_t n = 100;
  for (const Case& c : kCases) {
    INFO(to_string(c.shape) << " axis " << c.axis);
    const Tensor whole = randint(Key(++n), c.shape, -9, 9);
    CHECK(same_bits(cumprod(to(whole, kGpu), c.axis), cumprod(whole, c.axis)));
    const Tensor x = exp(normal(Key(++n), c.shape, 0, 0.02, float64));
    const Tensor expected = cumprod(x, c.axis);
    CHECK(distance(div(to(cumprod(to(x, kGpu), c.axis), cpu_device), expected), ones(c.shape, float64)) <= 1e-11);
    const Tensor single = cumprod(to(cast(x, float32), kGpu), c.axis);
    const Tensor exact = cumprod(cast(cast(x, float32), float64), c.axis);
    CHECK(distance(div(cast(to(single, cpu_device), float64), exact), ones(c.shape, float64)) <= 7e-8);
  }
}

TEST_CASE("cuda: products beyond the range stay where they belong", "[cuda]") {
  if (!has_cuda_test_device()) return;
  // Pairs whose product overflows, behind a zero, in another chunk and in the same one.
  Tensor x = full({1, 40000}, 1e200, float64);
  const Tensor i = reshape(arange(0, 40000, 1, float64), {1, 40000});
  x = where(equal(i, full({}, 100, float64)), full({}, 0, float64), x);
  const std::vector<double> y = cumprod(to(x, kGpu), 1).to_vector<double>();
  CHECK(y[0] == 1e200);
  CHECK(y[1] == std::numeric_limits<double>::infinity());
  CHECK(std::all_of(y.begin() + 100, y.end(), [](double v) { return v == 0.0; }));
  // 2^-1000 and 2^1000 in turns over several chunks: fractions of the running product never vanish.
  const Tensor even = equal(fmod(i, full({}, 2, float64)), full({}, 0, float64));
  const Tensor turns = where(even, full({}, std::ldexp(1.0, -1000), float64), full({}, std::ldexp(1.0, 1000), float64));
  CHECK(same_bits(cumprod(to(turns, kGpu), 1), cumprod(turns, 1)));
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double inf = std::numeric_limits<double>::infinity();
  const Tensor special = tensor({2, -inf, 3, 0, 1, nan, 1}, {float64, kGpu});
  const std::vector<double> s = cumprod(special, 0).to_vector<double>();
  CHECK(s[1] == -inf);
  CHECK(s[2] == -inf);
  CHECK(std::all_of(s.begin() + 3, s.end(), [](double v) { return std::isnan(v); }));
  const std::vector<double> t = cumsum(special, 0).to_vector<double>();
  CHECK((t[0] == 2.0 && t[1] == -inf && t[4] == -inf && std::isnan(t[5])));
}

}  // namespace
}  // namespace solvent::testing
