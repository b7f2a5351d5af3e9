// The scans on a GPU at sizes that reach every path of the kernels, against the CPU's in float64.

#include <cmath>
#include <cstring>

#include "solvent/core/rng.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/cuda/cuda_device.h"
#include "solvent/tests/cuda/device_error.h"
#include "solvent/tests/cuda/same_bits.h"
#include "solvent/tests/support/catch.h"

namespace solvent::testing {
namespace {

const Device kGpu = cuda_test_device();

enum class Kind : std::uint8_t { diagonal, blocks, dense };

struct Sizes {
  Kind kind;
  std::int64_t steps, batch, n, block, lead;
};

// Contracting matrices, so that states stay of order 1 over any number of steps.
struct Operands {
  Tensor a, b, h0;
};

Operands operands(const Sizes& s, DType dtype) {
  const Key key(20261121);
  Shape shape{s.steps, s.batch, s.n};
  double scale = 0.9;
  if (s.kind == Kind::dense) {
    shape.push_back(s.n);
    scale = 0.9 / std::sqrt(static_cast<double>(s.n));
  } else if (s.kind == Kind::blocks) {
    shape = {s.steps, s.batch, s.n / s.block, s.block, s.block};
    scale = 0.9 / static_cast<double>(s.block);
  }
  const Shape b_shape = s.lead == 1 ? Shape{s.steps, s.batch, s.n} : Shape{s.lead, s.steps, s.batch, s.n};
  const Shape h_shape = s.lead == 1 ? Shape{s.batch, s.n} : Shape{s.lead, s.batch, s.n};
  return {uniform(key.fold_in(0), shape, -scale, scale, dtype), normal(key.fold_in(1), b_shape, 0.0, 1.0, dtype),
          normal(key.fold_in(2), h_shape, 0.0, 1.0, dtype)};
}

void check(const Sizes& s, DType dtype) {
  INFO("kind " << static_cast<int>(s.kind) << " T " << s.steps << " B " << s.batch << " n " << s.n << " k " << s.block
               << " lead " << s.lead << " " << to_string(dtype));
  const double tolerance = dtype == float32 ? 2e-5 : 1e-13;
  const Operands x = operands(s, dtype);
  const Tensor a = to(x.a, kGpu), b = to(x.b, kGpu), h0 = to(x.h0, kGpu);
  const Tensor wide_a = cast(x.a, float64), wide_b = cast(x.b, float64);
  const Tensor h = affine_scan(a, b, h0);
  CHECK(h.device() == kGpu);
  CHECK(error(h, affine_scan(wide_a, wide_b, cast(x.h0, float64))) < tolerance);
  const Tensor l = affine_scan_reversed(a, b);
  CHECK(error(l, affine_scan_reversed(wide_a, wide_b)) < tolerance);
  CHECK(same_bits(h, affine_scan(a, b, h0)));
  CHECK(same_bits(l, affine_scan_reversed(a, b)));
  if (s.kind == Kind::diagonal) return;
  const Tensor turned = mT(a), wide_turned = mT(wide_a);  // matrices that lie in memory column by column
  CHECK(error(affine_scan(turned, b, h0), affine_scan(wide_turned, wide_b, cast(x.h0, float64))) < tolerance);
  CHECK(error(affine_scan_reversed(turned, b), affine_scan_reversed(wide_turned, wide_b)) < tolerance);
}

void check_both(const std::vector<Sizes>& list) {
  if (!has_cuda_test_device()) return;
  for (const Sizes& s : list)
    for (const DType dtype : {float32, float64}) check(s, dtype);
}

TEST_CASE("cuda scan: diagonal, from one step to several tiles and chunks", "[cuda]") {
  check_both({{Kind::diagonal, 1, 1, 1, 1, 1},
              {Kind::diagonal, 2, 3, 5, 1, 1},
              {Kind::diagonal, 64, 1, 1, 1, 1},
              {Kind::diagonal, 65, 1, 1, 1, 1},     // one tile
              {Kind::diagonal, 4096, 1, 1, 1, 1},   // exactly one
              {Kind::diagonal, 12288, 1, 1, 1, 2},  // several, all whole, aligned in both directions
              {Kind::diagonal, 4097, 1, 1, 1, 2},   // two
              {Kind::diagonal, 10001, 2, 3, 1, 1},  // six chains, tiles whose threads do not fill the block
              {Kind::diagonal, 700, 1, 16, 1, 3},   // most chains of a tile
              {Kind::diagonal, 700, 1, 17, 1, 1},   // chunks
              {Kind::diagonal, 3001, 5, 40, 1, 2},  // with several of them
              {Kind::diagonal, 30, 64, 128, 1, 1},  // a thread per chain
              {Kind::diagonal, 64, 64, 128, 1, 1},  // a tile of every 32 chains
              {Kind::diagonal, 150, 63, 65, 1, 1},  // several, the last one with few chains
              {Kind::diagonal, 65, 8, 257, 1, 2}});
}

TEST_CASE("cuda scan: a lone chain with more tiles than a group has", "[cuda]") {
  if (has_cuda_test_device()) check({Kind::diagonal, 2048 * 257 + 5, 1, 1, 1, 1}, float64);  // 258 tiles, groups of 256
}

// Steps side by side in memory, as state space models have them: no copy, and the plain recurrence bit by bit.
TEST_CASE("cuda scan: many diagonal chains whose steps lie side by side", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const Sizes s{Kind::diagonal, 131, 16, 257, 1, 1};
  for (const DType dtype : {float32, float64}) {
    const Operands x = operands(s, dtype);
    const Tensor a = to(x.a, kGpu), b = to(x.b, kGpu), h0 = to(x.h0, kGpu);
    const auto turned = [](const Tensor& t) { return permute(contiguous(permute(t, {1, 2, 0})), {2, 0, 1}); };
    REQUIRE(turned(a).strides()[0] == 1);
    const Tensor h = affine_scan(a, b, h0), l = affine_scan_reversed(a, b);
    CHECK(same_bits(affine_scan(turned(a), turned(b), h0), h));
    CHECK(same_bits(affine_scan(a, turned(b), h0), h));
    CHECK(same_bits(affine_scan(turned(a), b, h0), h));
    CHECK(same_bits(affine_scan_reversed(turned(a), turned(b)), l));
    CHECK(same_bits(affine_scan_reversed(turned(a), b), l));
    const Tensor same_a = broadcast_to(slice(a, 0, 0, 1), a.shape());  // one factor for all steps
    CHECK(same_bits(affine_scan(same_a, turned(b), h0), affine_scan(contiguous(same_a), b, h0)));
  }
}

TEST_CASE("cuda scan: blocks and small matrices", "[cuda]") {
  for (const std::int64_t k : {2, 3, 4})
    check_both({{Kind::blocks, 1, 2, 2 * k, k, 1},
                {Kind::blocks, 1500, 1, k, k, 1},
                {Kind::blocks, 3000, 1, 3 * k, k, 2},
                {Kind::blocks, 200, 3, 7 * k, k, 2},
                {Kind::dense, 1, 1, k, 0, 1},
                {Kind::dense, 2100, 1, k, 0, 1},
                {Kind::dense, 130, 40, k, 0, 2}});
  check_both({{Kind::dense, 5000, 1, 1, 0, 1}});
}

TEST_CASE("cuda scan: matrices up to 64 x 64", "[cuda]") {
  check_both({{Kind::dense, 1, 1, 5, 0, 1},
              {Kind::dense, 3, 2, 64, 0, 1},
              {Kind::dense, 129, 1, 5, 0, 1},   // nine chunks
              {Kind::dense, 2100, 1, 6, 0, 2},  // chunks whose maps are scanned by chunks
              {Kind::dense, 150, 2, 16, 0, 3},
              {Kind::dense, 140, 1, 17, 0, 1},
              {Kind::dense, 130, 1, 33, 0, 70},  // right-hand sides in several groups of columns
              {Kind::dense, 130, 1, 64, 0, 1},
              {Kind::dense, 40, 3, 37, 0, 2},
              {Kind::dense, 130, 260, 5, 0, 1}});  // many sequences
}

TEST_CASE("cuda scan: larger matrices", "[cuda]") {
  check_both({{Kind::dense, 1, 1, 65, 0, 1}, {Kind::dense, 9, 2, 100, 0, 2}, {Kind::dense, 5, 1, 530, 0, 1}});
}

TEST_CASE("cuda scan: NaN reaches every later state and no earlier one", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const std::int64_t n : {1, 5}) {
    const Sizes s{n == 1 ? Kind::diagonal : Kind::dense, 9000 / n, 1, n, 1, 1};
    const Operands x = operands(s, float64);
    std::vector<double> values = x.b.to_vector<double>();
    const std::int64_t bad = s.steps / 2;
    values[static_cast<std::size_t>(bad * n)] = NAN;
    const Tensor b = from_vector(values, x.b.shape(), kGpu);
    const Tensor h = affine_scan(to(x.a, kGpu), b, to(x.h0, kGpu));
    const std::vector<double> states = h.to_vector<double>();
    std::int64_t wrong = 0;
    for (std::int64_t t = 0; t < s.steps; ++t)
      if (std::isnan(states[static_cast<std::size_t>(t * n)]) != (t >= bad)) ++wrong;
    CHECK(wrong == 0);
  }
}

TEST_CASE("cuda scan: a dying right-hand side is overwritten", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const Sizes& s : {Sizes{Kind::diagonal, 5000, 1, 1, 1, 1}, Sizes{Kind::diagonal, 900, 1, 20, 1, 1},
                         Sizes{Kind::diagonal, 70, 64, 64, 1, 1}, Sizes{Kind::dense, 200, 1, 6, 0, 1}}) {
    const Operands x = operands(s, float64);
    const Tensor a = to(x.a, kGpu), h0 = to(x.h0, kGpu);
    CHECK(error(affine_scan(a, to(x.b, kGpu), h0), affine_scan(x.a, x.b, x.h0)) < 1e-13);
    CHECK(error(affine_scan_reversed(a, to(x.b, kGpu)), affine_scan_reversed(x.a, x.b)) < 1e-13);
  }
}

}  // namespace
}  // namespace solvent::testing
