// Factorisations that go to cuSOLVER, for which matrices must not fit in shared
// memory: against the CPU, whose signs and order they have.

#include <cmath>

#include "solvent/core/error.h"
#include "solvent/core/stream.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/cuda/cuda_device.h"
#include "solvent/tests/cuda/same_bits.h"
#include "solvent/tests/ops/op_table.h"
#include "solvent/tests/support/catch.h"

namespace solvent::testing {
namespace {

const Device kGpu = cuda_test_device();
const Key kKey(79);

Tensor random(std::uint64_t i, const Shape& shape, DType dtype) { return normal_sample(kKey, i, shape, dtype); }

double largest_error(const Tensor& got, const Tensor& expected) {
  REQUIRE(got.shape() == expected.shape());
  const Tensor difference = sub(cast(to(got, cpu_device), float64), cast(expected, float64));
  return max(abs(difference)).item() / std::max(1.0, max(abs(cast(expected, float64))).item());
}

Tensor positive(std::uint64_t i, const Shape& shape, DType dtype) {
  const Tensor x = random(i, shape, dtype);
  const auto n = static_cast<double>(shape.back());
  return add(affine(matmul(x, mT(x)), 1.0 / n, 0.0), eye(shape.back(), {dtype, cpu_device}));
}

TEST_CASE("cuda: large Cholesky factors", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const auto& [dtype, n, tolerance] : {std::tuple{float64, 180, 1e-13}, std::tuple{float32, 250, 1e-5}}) {
    const Tensor a = positive(1, {2, n, n}, dtype);
    const Tensor l = cholesky(to(a, kGpu));
    CHECK(largest_error(l, cholesky(a)) < tolerance);
    CHECK(same_bits(l, tril(l)));
    CHECK(same_bits(l, cholesky(to(a, kGpu))));
  }
  const Tensor a = positive(2, {3, 180, 180}, float64);
  const Tensor place = arange(0, 3 * 180 * 180, 1, {int64, cpu_device});
  const auto with = [&](double value) {  // at (1, 100, 100)
    const Tensor here = equal(reshape(place, a.shape()), full({}, (180 + 100) * 180 + 100, {int64, cpu_device}));
    return where(here, full({}, value, float64), a);
  };
  CHECK_THROWS_WITH(cholesky(to(with(-1), kGpu)),
                    Catch::Contains("[cholesky] matrix 1 of 3 is not positive definite: pivot 100"));
  const Tensor odd = cholesky(to(with(NAN), kGpu));  // as on the CPU: no error, but seen
  CHECK(std::isnan(sum(odd).item()));
  CHECK(largest_error(slice(odd, 0, 2, 3), cholesky(slice(a, 0, 2, 3))) < 1e-13);
}

TEST_CASE("cuda: large QR factors", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const auto& [dtype, m, n, tolerance] :
       {std::tuple{float64, 230, 140, 1e-12}, std::tuple{float64, 180, 180, 1e-11},
        std::tuple{float32, 300, 200, 1e-4}}) {
    INFO(m << " " << n << " " << to_string(dtype));
    const Tensor a = random(3, {2, m, n}, dtype);
    const QrFactors got = qr(to(a, kGpu));
    const QrFactors expected = qr(a);
    CHECK(largest_error(got.q, expected.q) < tolerance);
    CHECK(largest_error(got.r, expected.r) < tolerance);
    CHECK(min(diagonal(to(got.r, cpu_device))).item() >= 0.0);
    CHECK(same_bits(got.r, triu(got.r)));
    CHECK(same_bits(got.q, qr(to(a, kGpu)).q));
  }
  const Tensor strided = permute(random(4, {140, 2, 150}, float64), {1, 2, 0});
  CHECK(largest_error(qr(permute(to(permute(strided, {2, 0, 1}), kGpu), {1, 2, 0})).r, qr(strided).r) < 1e-11);
}

TEST_CASE("cuda: large eigenvalue problems", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const auto& [dtype, n, tolerance] : {std::tuple{float64, 131, 1e-12}, std::tuple{float32, 172, 2e-5}}) {
    const Tensor x = random(5, {2, n, n}, dtype);
    const Tensor a = affine(add(x, mT(x)), 0.5, 0.0);
    const EighResult got = eigh(to(x, kGpu));
    const EighResult expected = eigh(a);
    CHECK(largest_error(got.values, expected.values) < tolerance);
    CHECK(largest_error(matmul(mul(got.vectors, unsqueeze(got.values, -2)), mT(got.vectors)), a) < tolerance);
    CHECK(largest_error(matmul(mT(got.vectors), got.vectors), broadcast_to(eye(n, {dtype, cpu_device}), {2, n, n})) <
          tolerance);
    // The same signs: scalar products of equal columns are 1, not -1.
    const Tensor along = sum(mul(to(got.vectors, cpu_device), expected.vectors), {-2});
    CHECK(min(along).item() > 0.9);
    CHECK(same_bits(got.vectors, eigh(to(x, kGpu)).vectors));
  }
  const Tensor odd = affine(ones({140, 140}, float64), INFINITY, 0.0);
  CHECK(std::isnan(sum(eigh(to(odd, kGpu)).values).item()));
}

TEST_CASE("cuda: large singular value decompositions", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const auto& [dtype, m, n, tolerance] :
       {std::tuple{float64, 150, 130, 1e-12}, std::tuple{float64, 129, 131, 1e-12},
        std::tuple{float32, 190, 172, 2e-5}}) {
    INFO(m << " " << n << " " << to_string(dtype));
    const Tensor a = random(6, {m, n}, dtype);
    const SvdResult got = svd(to(a, kGpu));
    const SvdResult expected = svd(a);
    CHECK(largest_error(got.s, expected.s) < tolerance);
    CHECK(largest_error(matmul(mul(got.u, unsqueeze(got.s, -2)), got.vt), a) < tolerance);
    const std::int64_t k = std::min<std::int64_t>(m, n);
    const Tensor unit = eye(k, {dtype, cpu_device});
    CHECK(largest_error(matmul(mT(got.u), got.u), unit) < tolerance);
    CHECK(largest_error(matmul(got.vt, mT(got.vt)), unit) < tolerance);
    CHECK(min(sum(mul(to(got.u, cpu_device), expected.u), {-2})).item() > 0.9);  // the same signs
    CHECK(same_bits(got.u, svd(to(a, kGpu)).u));
  }
  const Tensor low = matmul(random(7, {130, 3}, float64), random(8, {3, 130}, float64));
  const SvdResult got = svd(to(low, kGpu));
  CHECK(largest_error(matmul(mul(got.u, unsqueeze(got.s, -2)), got.vt), low) < 1e-12);
  CHECK(largest_error(matmul(got.vt, mT(got.vt)), eye(130, float64)) < 1e-12);
}

TEST_CASE("cuda: large linear systems", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const auto& [dtype, n, tolerance] : {std::tuple{float64, 180, 1e-11}, std::tuple{float32, 250, 1e-3}}) {
    const Tensor a = random(11, {2, n, n}, dtype);
    const Tensor on_gpu = to(a, kGpu);
    for (const std::int64_t k : {1, 3, 140}) {
      INFO(to_string(dtype) << " " << k << " columns");
      const Tensor b = random(12, {2, n, k}, dtype);
      const Tensor x = solve(on_gpu, to(b, kGpu));
      CHECK(largest_error(x, solve(cast(a, float64), cast(b, float64))) < tolerance);
      CHECK(same_bits(x, solve(on_gpu, to(b, kGpu))));
    }
    const Tensor unit = broadcast_to(eye(n, {dtype, cpu_device}), {2, n, n});
    CHECK(largest_error(matmul(a, to(inverse(on_gpu), cpu_device)), unit) < tolerance);
  }
  // One matrix for several right-hand sides, and a strided one; the transposed system of the gradient.
  const Tensor stack = random(13, {180, 2, 180}, float64);
  const Tensor b = random(14, {5, 180, 3}, float64);
  const auto matrix = [](const Tensor& t) { return squeeze(slice(permute(t, {1, 2, 0}), 0, 1, 2), {0}); };
  const auto systems = [&](Device device) {
    return solve(broadcast_to(matrix(to(stack, device)), {5, 180, 180}), to(b, device));
  };
  CHECK(largest_error(systems(kGpu), systems(cpu_device)) < 1e-10);
  const auto gradient = [&](Device device) {
    const auto f = [&](const Tensor& t) { return mean(square(solve(matrix(t), to(slice(b, 0, 0, 1), device)))); };
    return grad(f, to(stack, device));
  };
  CHECK(largest_error(gradient(kGpu), gradient(cpu_device)) < 1e-9);
}

TEST_CASE("cuda: large determinants", "[cuda]") {
  if (!has_cuda_test_device()) return;
  // Exchanges that are even and odd in number: two rows of one matrix in turn.
  const Tensor a = random(15, {180, 180}, float64);
  const Tensor turned = concat({slice(a, 0, 1, 2), slice(a, 0, 0, 1), slice(a, 0, 2, 180)}, 0);
  for (const Tensor& x : {a, turned, cast(random(16, {250, 250}, float32), float32)}) {
    const SignAndLog got = slogdet(to(x, kGpu));
    const SignAndLog expected = slogdet(cast(x, float64));
    CHECK(to(got.sign, cpu_device).item() == expected.sign.item());
    CHECK(largest_error(got.log_abs, expected.log_abs) < (x.dtype() == float32 ? 1e-5 : 1e-13));
    CHECK(same_bits(got.log_abs, slogdet(to(x, kGpu)).log_abs));
  }
  CHECK(slogdet(to(a, kGpu)).sign.item() == -slogdet(to(turned, kGpu)).sign.item());
  const Tensor small = affine(a, 0.1, 0.0);
  CHECK(std::abs(det(to(small, kGpu)).item() / det(small).item() - 1.0) < 1e-11);
}

TEST_CASE("cuda: large singular matrices have the CPU's errors", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const Tensor a = random(17, {2, 180, 180}, float64);
  const Tensor column = reshape(arange(0, 180, 1, {int64, cpu_device}), {1, 1, 180});
  const Tensor matrix = reshape(arange(0, 2, 1, {int64, cpu_device}), {2, 1, 1});
  const Tensor here = mul(cast(equal(column, full({}, 77, {int64, cpu_device})), float64),
                          cast(equal(matrix, full({}, 1, {int64, cpu_device})), float64));
  const Tensor singular = mul(a, affine(here, -1.0, 1.0));  // column 77 of matrix 1 is 0
  const Tensor b = ones({2, 180, 1}, {float64, kGpu});
  CHECK_THROWS_WITH(solve(to(singular, kGpu), b), Catch::Contains("[solve] matrix 1 of 2 is singular: pivot 77"));
  CHECK_THROWS_WITH(solve(singular, ones({2, 180, 1}, float64)),
                    Catch::Contains("matrix 1 of 2 is singular: pivot 77"));
  CHECK_THROWS_WITH(inverse(to(singular, kGpu)), Catch::Contains("[inverse] matrix 1 of 2 is singular: pivot 77"));
  CHECK(det(to(singular, kGpu)).to_vector<double>()[1] == 0.0);
  const SignAndLog got = slogdet(to(singular, kGpu));
  CHECK(got.sign.to_vector<double>()[1] == 0.0);
  CHECK(got.log_abs.to_vector<double>()[1] == -INFINITY);
  CHECK(got.sign.to_vector<double>()[0] == slogdet(a).sign.to_vector<double>()[0]);
  const Tensor odd = where(greater(here, full({}, 0.5, float64)), full({}, NAN, float64), a);  // no error, but seen
  CHECK(std::isnan(sum(solve(to(odd, kGpu), b)).item()));
}

TEST_CASE("cuda: many large systems are those of own kernels", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const std::int64_t count = 9;  // more than go to the library
  const Tensor a = random(18, {count, 172, 172}, float64);
  const Tensor b = random(19, {count, 172, 2}, float64);
  CHECK(largest_error(solve(to(a, kGpu), to(b, kGpu)), solve(a, b)) < 1e-10);
}

TEST_CASE("cuda: the exponential of a large matrix", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const Tensor a = affine(random(20, {180, 180}, float64), 0.1, 0.0);
  CHECK(largest_error(expm(to(a, kGpu)), expm(a)) < 1e-12);
}

TEST_CASE("cuda: in graphs large factorisations are those of own kernels", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const Tensor a = positive(9, {180, 180}, float64);
  const auto f = [](const Tensors& in) { return Tensors{cholesky(in[0]), qr(in[0]).r, solve(in[0], in[0])}; };
  Graph recorded = graph(f, {to(a, kGpu)});
  const Tensor b = positive(10, {180, 180}, float64);
  const Tensors got = recorded({to(b, kGpu)});
  CHECK(largest_error(got[0], cholesky(b)) < 1e-13);
  CHECK(largest_error(got[1], qr(b).r) < 1e-12);
  CHECK(largest_error(got[2], eye(180, float64)) < 1e-12);
  CHECK_THROWS_WITH(graph([](const Tensors& in) { return Tensors{eigh(in[0]).values}; }, {to(a, kGpu)}),
                    Catch::Contains("eigh or svd of a large matrix"));
}

}  // namespace
}  // namespace solvent::testing
