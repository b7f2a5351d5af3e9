// Products of matrices on a GPU at sizes that reach every path: small ones in groups with tails, transposed and shared
// operands, batches without a common stride, one tall product; against the CPU.

#include <cmath>
#include <vector>

#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/core/matmul_precision.h"
#include "solvent/core/stream.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/cuda/cuda_device.h"
#include "solvent/tests/cuda/device_error.h"
#include "solvent/tests/cuda/same_bits.h"
#include "solvent/tests/ops/op_table.h"
#include "solvent/tests/support/catch.h"

namespace solvent::testing {
namespace {

const Device kGpu = cuda_test_device();
const Key kKey(77);

Tensor random(std::uint64_t i, const Shape& shape, DType dtype) { return normal_sample(kKey, i, shape, dtype); }

double tolerance(DType dtype) { return dtype == float32 ? 2e-5 : 1e-13; }

void check_product(const Shape& a_shape, const Shape& b_shape, bool trans_a, bool trans_b) {
  for (const DType dtype : {float64, float32}) {
    const auto stored = [](Shape shape, bool transposed) {
      if (transposed) std::swap(shape[shape.rank() - 1], shape[shape.rank() - 2]);
      return shape;
    };
    const auto read = [](const Tensor& x, bool transposed) { return transposed ? mT(x) : x; };
    const Tensor a = random(1, stored(a_shape, trans_a), dtype);
    const Tensor b = random(2, stored(b_shape, trans_b), dtype);
    const Tensor expected = matmul(read(a, trans_a), read(b, trans_b));
    INFO(to_string(a_shape) << " x " << to_string(b_shape) << " " << trans_a << trans_b << " " << to_string(dtype));
    CHECK(error(matmul(read(to(a, kGpu), trans_a), read(to(b, kGpu), trans_b)), expected) < tolerance(dtype));
  }
}

TEST_CASE("cuda: small products in groups, with tails, transposed and shared", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const bool trans_a : {false, true})
    for (const bool trans_b : {false, true}) {
      check_product({700, 3, 3}, {700, 3, 3}, trans_a, trans_b);
      check_product({1001, 4, 4}, {1001, 4, 1}, trans_a, trans_b);
      check_product({301, 1, 7}, {301, 7, 9}, trans_a, trans_b);
      check_product({37, 9, 17}, {37, 17, 11}, trans_a, trans_b);
      check_product({19, 32, 32}, {19, 32, 32}, trans_a, trans_b);
      check_product({5, 31, 29}, {5, 29, 30}, trans_a, trans_b);
      check_product({13, 7, 5, 6}, {7, 6, 8}, trans_a, trans_b);
      check_product({11, 1, 5, 6}, {11, 13, 6, 3}, trans_a, trans_b);
    }
}

TEST_CASE("cuda: large products, alone, in batches and scattered", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const bool trans_a : {false, true})
    for (const bool trans_b : {false, true}) {
      check_product({65, 130}, {130, 77}, trans_a, trans_b);
      check_product({9, 40, 33}, {9, 33, 35}, trans_a, trans_b);
      check_product({3, 5, 34, 40}, {5, 40, 36}, trans_a, trans_b);
      check_product({7, 1, 34, 40}, {7, 6, 40, 9}, trans_a, trans_b);  // runs of 6 with a shared left operand
      check_product({6, 50, 3}, {3, 40}, trans_a, trans_b);
    }
}

TEST_CASE("cuda: matrices times vectors and vectors times matrices", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const bool trans_a : {false, true})
    for (const bool trans_b : {false, true}) {
      check_product({41, 132}, {132, 1}, trans_a, trans_b);
      check_product({5, 33, 67}, {5, 67, 1}, trans_a, trans_b);
      check_product({3, 2, 70, 36}, {2, 36, 1}, trans_a, trans_b);
      check_product({33, 40}, {6, 40, 1}, trans_a, trans_b);  // one matrix, many vectors
      check_product({1, 100}, {100, 65}, trans_a, trans_b);
      check_product({4, 1, 61}, {4, 61, 130}, trans_a, trans_b);
      check_product({6, 1, 35}, {1, 35, 34}, trans_a, trans_b);
    }
}

TEST_CASE("cuda: products of batches that are permuted views", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const std::int64_t n : {5, 40}) {
    const Tensor a = random(3, {4, 3, n, n}, float64);
    const Tensor b = random(4, {3, 4, n, n}, float64);
    const Tensor expected = matmul(permute(a, {1, 0, 2, 3}), b);
    CHECK(error(matmul(permute(to(a, kGpu), {1, 0, 2, 3}), to(b, kGpu)), expected) < 1e-13);
    // Rows and columns both strided: copied once.
    const Tensor c = permute(random(5, {n, 3, n, 4}, float64), {3, 1, 0, 2});
    const Tensor on_gpu = permute(to(permute(c, {2, 1, 3, 0}), kGpu), {3, 1, 0, 2});
    CHECK(error(matmul(on_gpu, to(permute(b, {1, 0, 2, 3}), kGpu)), matmul(c, permute(b, {1, 0, 2, 3}))) < 1e-13);
  }
}

// A (2, 3, rows, cols) view of its own memory: transposed, of every second row or column, reversed, with matrices, rows or
// columns repeated.
Tensor odd_view(std::uint64_t seed, std::int64_t rows, std::int64_t cols, Device device) {
  const std::uint64_t kind = seed % 8;
  const bool turned = seed / 8 % 2 == 1;
  if (turned) std::swap(rows, cols);
  const auto source = [&](const Shape& shape) { return to(random(100 + seed, shape, float64), device); };
  const Shape shape{2, 3, rows, cols};
  Tensor view;
  switch (kind) {
    case 0: view = source(shape); break;
    case 1: view = slice(source({2, 3, 2 * rows, cols}), 2, 0, 2 * rows, 2); break;
    case 2: view = slice(source({2, 3, rows, 2 * cols}), 3, 1, 2 * cols, 2); break;
    case 3: view = flip(source(shape), 2); break;
    case 4: view = broadcast_to(source({1, 3, rows, cols}), shape); break;
    case 5: view = broadcast_to(source({2, 3, 1, cols}), shape); break;
    case 6: view = broadcast_to(source({2, 1, rows, 1}), shape); break;
    default: view = slice(slice(source({2, 3, rows + 2, cols + 3}), 3, 1, cols + 1), 2, 2, rows + 2);
  }
  return turned ? mT(view) : view;
}

TEST_CASE("cuda: products of views of every kind", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const std::int64_t m : {1, 34})
    for (const std::int64_t n : {1, 35})
      for (const std::int64_t k : {1, 40})
        for (std::uint64_t a = 0; a < 16; ++a)
          for (std::uint64_t b = 0; b < 16; ++b) {
            INFO(m << " " << n << " " << k << " views " << a << " " << b);
            const Tensor got = matmul(odd_view(a, m, k, kGpu), odd_view(b, k, n, kGpu));
            const Tensor expected = matmul(odd_view(a, m, k, cpu_device), odd_view(b, k, n, cpu_device));
            REQUIRE(error(got, expected) < 1e-13);
          }
}

TEST_CASE("cuda: empty products", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const TensorOptions options{float32, kGpu};
  CHECK(matmul(zeros({3, 0}, options), zeros({0, 2}, options)).to_vector<float>() == std::vector<float>(6, 0.0f));
  CHECK(matmul(zeros({0, 3, 4}, options), zeros({0, 4, 5}, options)).shape() == Shape{0, 3, 5});
  CHECK(matmul(zeros({2, 0, 4}, options), zeros({2, 4, 5}, options)).shape() == Shape{2, 0, 5});
  CHECK(outer(zeros({2, 0}, options), zeros({2, 4}, options)).shape() == Shape{2, 0, 4});
}

TEST_CASE("cuda: outer products with whole packs and without", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const DType dtype : {float64, float32})
    for (const std::int64_t n : {1, 3, 64, 129}) {
      INFO(n << " " << to_string(dtype));
      const Tensor a = random(6, {7, 3, 50}, dtype);
      const Tensor b = random(7, {3, n}, dtype);
      CHECK(error(outer(to(a, kGpu), to(b, kGpu)), outer(a, b)) == 0.0);
    }
}

TEST_CASE("cuda: the precision of products is a setting that is read back", "[cuda]") {
  CHECK(matmul_precision() == MatmulPrecision::highest);
  for (const MatmulPrecision p : {MatmulPrecision::tf32, MatmulPrecision::bf16, MatmulPrecision::highest}) {
    set_matmul_precision(p);
    CHECK(matmul_precision() == p);
    // Small products and float64 keep all bits in every mode.
    if (!has_cuda_test_device()) continue;
    check_product({9, 8, 8}, {9, 8, 8}, false, false);
  }
  CHECK(to_string(MatmulPrecision::tf32) == "tf32");
}

// x as tensor cores read it: 11 or 8 binary digits.
Tensor rounded(const Tensor& x, MatmulPrecision p) {
  if (p == MatmulPrecision::bf16) return cast(cast(x, bfloat16), float32);
  std::vector<float> values = x.to_vector<float>();
  for (float& value : values) {
    int exponent = 0;
    const float fraction = std::frexp(value, &exponent);
    value = std::ldexp(std::round(std::ldexp(fraction, 11)), exponent - 11);
  }
  return from_vector(values, x.shape());
}

TEST_CASE("cuda: reduced precision is what was asked for, and nothing else is reduced", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const auto products = [](const Tensor& a, const Tensor& b) {
    return Tensors{matmul(a, b), matmul(mT(a), b), matmul(reshape(a, {4, 24, 96}), b)};
  };
  const Tensor a = random(8, {96, 96}, float32);
  const Tensor b = random(9, {96, 96}, float32);
  const Tensor wide = cast(a, float64);
  const Tensor spd = add(affine(matmul(wide, mT(wide)), 1.0 / 96.0, 0.0), eye(96, float64));
  const Tensor many = clone(broadcast_to(cast(spd, float32), {9, 96, 96}));
  const Tensor factor = cholesky(to(many, kGpu));
  const Tensors exact = products(a, b);
  for (const MatmulPrecision p : {MatmulPrecision::highest, MatmulPrecision::tf32, MatmulPrecision::bf16}) {
    INFO(to_string(p));
    set_matmul_precision(p);
    const Tensors got = products(to(a, kGpu), to(b, kGpu));
    const Tensor got_wide = matmul(to(wide, kGpu), to(wide, kGpu));
    const Tensor got_factor = cholesky(to(many, kGpu));
    set_matmul_precision(MatmulPrecision::highest);
    const double allowed = p == MatmulPrecision::highest ? 2e-5 : p == MatmulPrecision::tf32 ? 3e-2 : 3e-1;
    for (std::size_t i = 0; i < got.size(); ++i) CHECK(error(got[i], exact[i]) < allowed);
    CHECK(error(got_wide, matmul(wide, wide)) < 1e-13);
    CHECK(same_bits(got_factor, factor));  // factorisations ask for exact products
    if (p == MatmulPrecision::highest || !is_emulated_device()) continue;
    // A device may do without rounding; the emulator never does.
    const Tensors expected = products(rounded(a, p), rounded(b, p));
    for (std::size_t i = 0; i < got.size(); ++i) CHECK(error(got[i], expected[i]) < 2e-5);
    CHECK(error(got[0], exact[0]) > 1e-5);
  }
}

TEST_CASE("cuda: products on a stream that ended leave no memory behind", "[cuda][streams]") {
  if (!has_cuda_test_device()) return;
  const Tensor a = to(random(10, {70, 70}, float32), kGpu);
  const Tensor expected = matmul(a, a);
  synchronize(kGpu);
  const std::size_t before = memory_stats(kGpu).active;
  for (int i = 0; i < 3; ++i) {
    const Stream side(kGpu);  // may have the address of the one before
    const StreamGuard guard(side);
    const Tensor got = matmul(a, a);
    CHECK(memory_stats(kGpu).active > before + (std::size_t{32} << 20));  // its workspace
    CHECK(same_bits(got, expected));
  }
  CHECK(memory_stats(kGpu).active == before);
}

}  // namespace
}  // namespace solvent::testing
