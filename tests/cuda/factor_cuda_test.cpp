// Linear systems, factorisations, spectra and matrix functions on a GPU at sizes that reach every path: many matrices in
// shared memory, matrices too large for it, several tiles of right-hand sides; and the errors. Against the CPU or against
// what defines the result.

#include <cmath>
#include <cstdlib>

#include "solvent/core/error.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/cuda/cuda_device.h"
#include "solvent/tests/cuda/device_error.h"
#include "solvent/tests/ops/op_table.h"
#include "solvent/tests/support/catch.h"

namespace solvent::testing {
namespace {

const Device kGpu = cuda_test_device();
const Key kKey(78);

Tensor random(std::uint64_t i, const Shape& shape, DType dtype) { return normal_sample(kKey, i, shape, dtype); }

double size_of_tensor(const Tensor& x) { return max(abs(to(x, cpu_device))).item(); }

// Well conditioned, and far from diagonally dominant, so that rows are exchanged.
Tensor regular(std::uint64_t i, const Shape& shape, DType dtype) {
  const double root = std::sqrt(static_cast<double>(shape.back()));
  return add(random(i, shape, dtype), affine(to(eye(shape.back(), {dtype, cpu_device}), cpu_device), root, 0.0));
}

Tensor positive(std::uint64_t i, const Shape& shape, DType dtype) {
  const Tensor x = random(i, shape, dtype);
  const auto n = static_cast<double>(shape.back());
  return add(affine(matmul(x, mT(x)), 1.0 / n, 0.0), eye(shape.back(), {dtype, cpu_device}));
}

// In the emulator matrices of more than about 45 rows (float64; with two in shared memory 31) do not fit there meanwhile.
// Without effect on a GPU.
struct SmallSharedMemory {
  SmallSharedMemory() { setenv("SOLVENT_EMULATOR_SHARED", "20480", 1); }
  ~SmallSharedMemory() { unsetenv("SOLVENT_EMULATOR_SHARED"); }
};

struct Limits {
  DType dtype;
  double tolerance;
};
const Limits kBoth[] = {{float64, 1e-10}, {float32, 5e-3}};

TEST_CASE("cuda: systems of many sizes, in shared memory and blocked", "[cuda]") {
  if (!has_cuda_test_device()) return;
  struct Sizes {
    Shape a, b;
  };
  // fused; several tiles of columns; spread columns; too large for shared memory; a shared matrix
  const Sizes sizes[] = {{{300, 5, 5}, {300, 5, 1}}, {{40, 17, 17}, {40, 17, 3}}, {{3, 33, 33}, {3, 33, 70}},
                         {{20, 20}, {20, 300}},      {{70, 70}, {70, 2}},         {{2, 99, 99}, {2, 99, 3}},
                         {{12, 12}, {50, 12, 2}}};
  const SmallSharedMemory limit;
  for (const auto& [dtype, tolerance] : kBoth)
    for (const Sizes& s : sizes) {
      INFO(to_string(s.a) << " " << to_string(s.b) << " " << to_string(dtype));
      const Tensor a = regular(1, s.a, dtype);
      const Tensor b = random(2, s.b, dtype);
      const Tensor x = solve(to(a, kGpu), to(b, kGpu));
      CHECK(error(x, solve(a, b)) < tolerance);
      CHECK(error(matmul(to(a, kGpu), x), broadcast_to(b, x.shape())) < tolerance);
    }
}

TEST_CASE("cuda: inverse and determinants of matrices of any size", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const SmallSharedMemory limit;
  for (const auto& [dtype, tolerance] : kBoth)
    for (const Shape& shape : {Shape{70, 6, 6}, Shape{2, 40, 40}, Shape{75, 75}}) {
      INFO(to_string(shape) << " " << to_string(dtype));
      const Tensor a = regular(3, shape, dtype);
      CHECK(error(inverse(to(a, kGpu)), inverse(a)) < tolerance);
      const SignAndLog got = slogdet(to(a, kGpu));
      const SignAndLog expected = slogdet(a);
      CHECK(error(got.sign, expected.sign) == 0.0);
      CHECK(error(got.log_abs, expected.log_abs) < tolerance);
      if (shape.back() <= 6) CHECK(error(det(to(a, kGpu)), det(a)) < tolerance);
    }
  const Tensor singular = tensor({1, 2, 2, 4}, float64);
  const Tensor a = reshape(singular, {2, 2});
  CHECK(det(to(a, kGpu)).item() == 0.0);
  CHECK(slogdet(to(a, kGpu)).sign.item() == 0.0);
  CHECK(slogdet(to(a, kGpu)).log_abs.item() == -INFINITY);
}

TEST_CASE("cuda: triangular systems above and below, with and without a unit diagonal", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const SmallSharedMemory limit;
  for (const auto& [dtype, tolerance] : kBoth)
    for (const std::int64_t n : {7, 65, 260})
      for (const bool upper : {false, true})
        for (const bool unit : {false, true})
          for (const std::int64_t k : {1, 45}) {
            if (n > 100 && (k == 1 || unit || dtype == float32)) continue;
            INFO(n << " " << upper << unit << " " << k << " " << to_string(dtype));
            const Shape shape{2, n, n};
            const Tensor a = affine(regular(4, shape, dtype), unit ? 1.0 / static_cast<double>(n) : 1.0, 0.0);
            const Tensor b = random(5, {2, n, k}, dtype);
            const TriangularOptions options{.upper = upper, .unit_diagonal = unit};
            CHECK(error(triangular_solve(to(a, kGpu), to(b, kGpu), options), triangular_solve(a, b, options)) <
                  100 * tolerance * size_of_tensor(triangular_solve(a, b, options)));
          }
}

TEST_CASE("cuda: Cholesky factors of any size", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const SmallSharedMemory limit;
  for (const auto& [dtype, tolerance] : kBoth)
    for (const Shape& shape : {Shape{300, 4, 4}, Shape{5, 33, 33}, Shape{2, 101, 101}}) {
      INFO(to_string(shape) << " " << to_string(dtype));
      const Tensor a = positive(6, shape, dtype);
      CHECK(error(cholesky(to(a, kGpu)), cholesky(a)) < tolerance);
    }
}

TEST_CASE("cuda: QR of any size", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const SmallSharedMemory limit;
  for (const auto& [dtype, tolerance] : kBoth)
    for (const Shape& shape : {Shape{100, 5, 3}, Shape{3, 50, 33}, Shape{2, 80, 51}}) {
      INFO(to_string(shape) << " " << to_string(dtype));
      const Tensor a = random(7, shape, dtype);
      const QrFactors got = qr(to(a, kGpu));
      const QrFactors expected = qr(a);
      CHECK(error(got.q, expected.q) < tolerance);
      CHECK(error(got.r, expected.r) < tolerance);
    }
}

TEST_CASE("cuda: eigenvalues and singular values of any size", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const SmallSharedMemory limit;
  for (const auto& [dtype, tolerance] : kBoth)
    for (const Shape& shape : {Shape{60, 4, 4}, Shape{27, 27}, Shape{34, 34}}) {
      INFO(to_string(shape) << " " << to_string(dtype));
      const Tensor a = random(8, shape, dtype);
      const Tensor symmetric = affine(add(a, mT(a)), 0.5, 0.0);
      const EighResult e = eigh(to(a, kGpu));
      CHECK(error(e.values, eigh(a).values) < tolerance);
      CHECK(error(matmul(mul(e.vectors, unsqueeze(e.values, -2)), mT(e.vectors)), symmetric) < tolerance);
      CHECK(error(matmul(mT(e.vectors), e.vectors), broadcast_to(eye(shape.back(), {dtype, cpu_device}), shape)) <
            tolerance);
      Shape tall = shape;
      tall[tall.rank() - 2] += 5;
      const Tensor b = random(9, tall, dtype);
      const SvdResult s = svd(to(b, kGpu));
      CHECK(error(s.s, svd(b).s) < tolerance);
      CHECK(error(matmul(mul(s.u, unsqueeze(s.s, -2)), s.vt), b) < tolerance);
      CHECK(error(matmul(s.vt, mT(s.vt)), broadcast_to(eye(shape.back(), {dtype, cpu_device}), shape)) < tolerance);
    }
}

TEST_CASE("cuda: singular values of matrices without full rank, of zeros and of extreme scale", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const SmallSharedMemory limit;
  const Tensor thin = random(10, {6, 2}, float64);
  const Tensor low_rank = matmul(thin, mT(random(11, {5, 2}, float64)));
  for (const Tensor& a :
       {low_rank, zeros({4, 3}, {float64, cpu_device}), affine(random(12, {4, 3}, float64), 1e250, 0.0),
        affine(random(13, {4, 3}, float64), 1e-250, 0.0)}) {
    const SvdResult got = svd(to(a, kGpu));
    const double scale = std::max(size_of_tensor(a), 1e-300);
    CHECK(error(affine(got.s, 1 / scale, 0.0), affine(svd(a).s, 1 / scale, 0.0)) < 1e-12);
    CHECK(error(matmul(got.vt, mT(got.vt)), eye(a.size(-1), {float64, cpu_device})) < 1e-12);
    CHECK(error(affine(matmul(mul(got.u, unsqueeze(got.s, -2)), got.vt), 1 / scale, 0.0), affine(a, 1 / scale, 0.0)) <
          1e-12);
  }
  const Tensor odd = affine(ones({3, 3}, {float64, cpu_device}), INFINITY, 0.0);
  CHECK(std::isnan(sum(svd(to(odd, kGpu)).s).item()));
  CHECK(std::isnan(sum(eigh(to(odd, kGpu)).values).item()));
}

TEST_CASE("cuda: matrix functions with different scalings in one batch", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const SmallSharedMemory limit;
  for (const auto& [dtype, tolerance] : {Limits{float64, 1e-11}, Limits{float32, 1e-3}})
    for (const std::int64_t n : {3, 33}) {
      if (n > 32 && dtype == float32) continue;
      INFO(n << " " << to_string(dtype));
      const double norm = 1.0 / std::sqrt(static_cast<double>(n));
      const Tensor scales = reshape(tensor({0.0, 1e-3, 0.5, 2.0, 9.0}, dtype), {5, 1, 1});
      const Tensor a = affine(mul(random(14, {5, n, n}, dtype), scales), norm, 0.0);
      const Tensor e = affine(random(15, {3, 5, n, n}, dtype), norm, 0.0);
      const auto relative = [](const Tensor& got, const Tensor& expected) {
        const double size = std::max(1.0, size_of_tensor(expected));
        return error(affine(got, 1 / size, 0.0), affine(expected, 1 / size, 0.0));
      };
      CHECK(relative(expm(to(a, kGpu)), expm(a)) < tolerance);
      CHECK(relative(phi1(to(a, kGpu)), phi1(a)) < tolerance);
      const auto derivative = [](const Tensor& x, const Tensor& direction, bool exponential) {
        const auto f = [exponential](const Tensor& y) { return exponential ? expm(y) : phi1(y); };
        return jvp(f, broadcast_to(x, direction.shape()), direction).tangent;
      };
      for (const bool exponential : {true, false})
        CHECK(relative(derivative(to(a, kGpu), to(e, kGpu), exponential), derivative(a, e, exponential)) < tolerance);
    }
  const Tensor odd = affine(ones({2, 2}, {float64, cpu_device}), INFINITY, 0.0);
  CHECK(std::isnan(sum(expm(to(odd, kGpu))).item()));
}

TEST_CASE("cuda: errors name the matrix and the pivot", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const SmallSharedMemory limit;
  for (const std::int64_t n : {4, 68}) {
    const Tensor good = add(zeros({3, n, n}, {float64, kGpu}), eye(n, {float64, kGpu}));
    std::vector<double> values = good.to_vector<double>();
    values[static_cast<std::size_t>(n * n + 2 * (n + 1))] = 0.0;  // matrix 1, element (2, 2)
    const Tensor bad = from_vector(values, {3, n, n}, kGpu);
    const Tensor b = ones({3, n, 1}, {float64, kGpu});
    CHECK_THROWS_WITH(solve(bad, b), Catch::Contains("[solve] matrix 1 of 3 is singular: pivot 2"));
    CHECK_THROWS_WITH(inverse(bad), Catch::Contains("[inverse] matrix 1 of 3 is singular"));
    CHECK_THROWS_WITH(cholesky(bad), Catch::Contains("[cholesky] matrix 1 of 3 is not positive definite: pivot 2"));
    CHECK_THROWS_WITH(triangular_solve(bad, b),
                      Catch::Contains("[triangular_solve] matrix 1 of 3 is singular: element 2 of its diagonal"));
    CHECK(det(bad).to_vector<double>() == std::vector<double>{1, 0, 1});
    CHECK(triangular_solve(bad, b, {.unit_diagonal = true}).to_vector<double>() == b.to_vector<double>());
  }
}

}  // namespace
}  // namespace solvent::testing
