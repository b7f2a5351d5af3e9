// Eigenvalues and singular values of matrices around and above the size from which LAPACK computes them, where there is
// one: the same properties, signs and errors on both sides, the same bits for any number of threads.

#include <array>
#include <cmath>
#include <limits>
#include <thread>
#include <vector>

#include "solvent/autodiff/transforms.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/cpu/factor_kernels.h"
#include "solvent/ops/cpu/spectral_lapack.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/support/catch.h"

extern "C" int omp_get_max_threads(void) __attribute__((weak));  // absent in a build without OpenMP

namespace solvent {
namespace {

// Around the borders of 64 and 96 rows, and over the blocks of 64 reflectors.
const std::int64_t kSizes[] = {64, 65, 96, 97, 130};

double rounding_of(DType dtype) {
  return dtype == float64 ? std::numeric_limits<double>::epsilon()
                          : static_cast<double>(std::numeric_limits<float>::epsilon());
}

double max_difference(const Tensor& a, const Tensor& b) { return max(abs(cast(a, float64) - cast(b, float64))).item(); }

Tensor sample(std::uint64_t n, const Shape& shape) { return normal(Key(77).fold_in(n), shape, 0, 1, float64); }

Tensor symmetric(std::int64_t n) {
  const Tensor noise = sample(static_cast<std::uint64_t>(n), {n, n});
  return (noise + mT(noise)) * 0.5;
}

Tensor orthogonal(std::uint64_t key, std::int64_t n) { return qr(sample(key, {n, n})).q; }

// Each column's (the first) component of largest magnitude is positive.
bool has_positive_columns(const Tensor& v) {
  const Tensor largest = take_along_axis(v, argmax(abs(v), -2, true), -2);
  return min(largest).item() > 0;
}

void check_eigh(const Tensor& a, const EighResult& r) {
  const std::int64_t n = a.size(-1);
  const double tolerance = rounding_of(a.dtype()) * 8 * std::sqrt(static_cast<double>(n));
  const double norm = std::max(max(abs(r.values)).item(), 1e-300);
  CHECK(max_difference(matmul(mT(r.vectors), r.vectors), eye(n, a.dtype())) < tolerance);
  CHECK(max_difference(matmul(a, r.vectors), r.vectors * r.values) < tolerance * norm);
  const auto w = cast(r.values, float64).to_vector<double>();
  CHECK(std::is_sorted(w.begin(), w.end()));
  CHECK(has_positive_columns(r.vectors));
}

void check_svd(const Tensor& a, const SvdResult& r) {
  const std::int64_t k = std::min(a.size(-1), a.size(-2));
  const double tolerance = rounding_of(a.dtype()) * 8 * std::sqrt(static_cast<double>(k));
  const double norm = std::max(max(r.s).item(), 1e-300);
  CHECK(max_difference(matmul(mT(r.u), r.u), eye(k, a.dtype())) < tolerance);
  CHECK(max_difference(matmul(r.vt, mT(r.vt)), eye(k, a.dtype())) < tolerance);
  CHECK(max_difference(matmul(r.u * r.s, r.vt), a) < tolerance * norm);
  const auto s = cast(r.s, float64).to_vector<double>();
  CHECK(std::is_sorted(s.rbegin(), s.rend()));
  CHECK(s.back() >= 0.0);
  CHECK(has_positive_columns(a.size(-2) < a.size(-1) ? mT(r.vt) : r.u));
}

using Values = std::vector<std::vector<double>>;

Values all_values(const Tensor& a) {
  const EighResult e = eigh(a);
  const SvdResult s = svd(a);
  Values values;
  for (const Tensor& x : {e.values, e.vectors, s.u, s.s, s.vt}) values.push_back(cast(x, float64).to_vector<double>());
  return values;
}

}  // namespace

TEST_CASE("eigh, svd: float64 and float32 on both sides of the size for LAPACK") {
  for (const std::int64_t n : kSizes) {
    INFO("n = " << n);
    const Tensor a = symmetric(n);
    const EighResult exact = eigh(a);
    check_eigh(a, exact);
    const Tensor single = cast(a, float32);
    const EighResult rounded = eigh(single);
    check_eigh(single, rounded);
    CHECK(max_difference(rounded.values, exact.values) < 1e-6 * std::sqrt(static_cast<double>(n)) * 4);
    for (const std::int64_t m : {n, n + 40, n - 3}) {
      INFO("m = " << m);
      const Tensor b = sample(static_cast<std::uint64_t>(n), {m, n});
      const SvdResult s = svd(b);
      check_svd(b, s);
      check_svd(cast(b, float32), svd(cast(b, float32)));
      CHECK(max_difference(svd(cast(b, float32)).s, s.s) < 1e-5 * max(s.s).item());
    }
  }
}

TEST_CASE("eigh, svd: the same bits for 1, 2 and 3 threads, and from threads of the caller") {
  for (const std::int64_t n : {90, 160})
    for (const DType dtype : {float32, float64}) {
      INFO("n = " << n << ", " << to_string(dtype));
      const Tensor a = cast(symmetric(n), dtype);
      const NumThreadsGuard guard(1);
      const Values one = all_values(a);
      for (const int threads : {2, 3}) {
        set_num_threads(threads);
        CHECK(all_values(a) == one);
        std::array<Values, 2> own;  // two callers at a time, whose OpenMP settings are the process's defaults
        std::thread first([&] { own[0] = all_values(a); });
        std::thread second([&] { own[1] = all_values(a); });
        first.join();
        second.join();
        CHECK(own[0] == one);
        CHECK(own[1] == one);
      }
    }
}

TEST_CASE("eigh, svd: leave the caller's number of OpenMP threads alone") {
  if (omp_get_max_threads == nullptr) return;
  const NumThreadsGuard guard(3);
  const int before = omp_get_max_threads();
  (void)all_values(symmetric(150));
  CHECK(omp_get_max_threads() == before);
  int own = 0;
  int after = -1;
  std::thread([&] {
    own = omp_get_max_threads();
    (void)all_values(symmetric(150));
    after = omp_get_max_threads();
  }).join();
  CHECK(after == own);
}

TEST_CASE("eigh, svd: a batch of large matrices has the bits of single ones") {
  const Tensor a = stack({symmetric(120), symmetric(120) * 1e-3, eye(120, float64)});
  const EighResult e = eigh(a);
  const SvdResult s = svd(a);
  for (std::int64_t i = 0; i < 3; ++i) {
    CHECK(max_difference(select(e.vectors, 0, i), eigh(select(a, 0, i)).vectors) == 0.0);
    CHECK(max_difference(select(e.values, 0, i), eigh(select(a, 0, i)).values) == 0.0);
    CHECK(max_difference(select(s.u, 0, i), svd(select(a, 0, i)).u) == 0.0);
    CHECK(max_difference(select(s.vt, 0, i), svd(select(a, 0, i)).vt) == 0.0);
  }
}

TEST_CASE("eigh of large matrices: closed forms, repeated values, extreme scales, NaN") {
  const std::int64_t n = 150;
  const Tensor index = arange(0, static_cast<double>(n));
  const Tensor neighbours = cast(equal(index, unsqueeze(index, -1) + 1.0), float64);
  const Tensor second = eye(n, float64) * 2.0 - neighbours - mT(neighbours);
  const Tensor exact =
      2.0 - 2.0 * cos(linspace(1, static_cast<double>(n), n, float64) * (M_PI / static_cast<double>(n + 1)));
  for (const double scale : {1.0, 1e307, 1e-300}) {
    INFO("scale " << scale);
    CHECK(max_difference(eigh(second * scale).values, exact * scale) < 2e-14 * scale);
  }
  CHECK(max_difference(eigh(cast(second, float32) * 5e37).values * 2e-38, exact) < 1e-5);
  // Three values, 50 times each, in a rotated basis; then all equal, and a condition of 1e14.
  const Tensor q = orthogonal(1, n);
  const Tensor repeated = concat({full({50}, -1.0, float64), full({50}, 2.0, float64), full({50}, 2.5, float64)}, 0);
  const Tensor graded = exp(linspace(-std::log(1e14), 0.0, n, float64));
  for (const Tensor& values : {repeated, graded}) {
    const Tensor a = matmul(q * values, mT(q));
    const EighResult r = eigh(a);
    check_eigh((a + mT(a)) * 0.5, r);
    CHECK(max_difference(r.values, values) < 2e-14);
  }
  for (const Tensor& a : {eye(n, float64), zeros({n, n}, float64), ones({n, n}, float64)}) check_eigh(a, eigh(a));
  const Tensor broken = eye(n, float64) + pad(pad(full({1, 1}, NAN, float64), 0, 0, n - 1), 1, n - 1, 0);
  for (const Tensor& x : {eigh(broken).values, eigh(broken).vectors, svd(broken).u, svd(broken).s})
    CHECK(!any(isfinite(x)).to_vector<bool>()[0]);
}

TEST_CASE("svd of large matrices: rank-deficient, repeated, graded, extreme scales") {
  const std::int64_t n = 120;
  const Tensor factor = sample(3, {n, 30});
  const Tensor low_rank = matmul(factor, mT(factor));
  const SvdResult low = svd(low_rank);
  check_svd(low_rank, low);
  CHECK(low.s.to_vector<double>()[30] < 1e-14 * low.s.to_vector<double>()[0] * 10);
  const Tensor tall = concat({low_rank, low_rank}, 0);
  for (const Tensor& a : {tall, mT(tall), zeros({n, n}, float64), zeros({n + 5, n}, float64), eye(n, float64),
                          concat({factor, zeros({n, n - 30}, float64)}, 1)})
    check_svd(a, svd(a));
  for (const double scale : {1e300, 1e-300}) {
    const SvdResult r = svd(low_rank * scale);
    CHECK(max_difference(r.s * (1 / scale), low.s) < 1e-13 * max(low.s).item());
    CHECK(max_difference(matmul(mT(r.u), r.u), eye(n, float64)) < 1e-13);
  }
  // Divide and conquer promises errors of eps times the largest value; Jacobi, below its size, of each value.
  const Tensor values = exp(linspace(0.0, -std::log(1e20), n, float64));
  const Tensor graded = svd(orthogonal(4, n) * values).s;
  CHECK(max_difference(graded, values) < 1e-14);
  const Tensor few = slice(values, 0, 0, 60);
  CHECK(max(abs(svd(orthogonal(5, 60) * few).s / few - 1.0)).item() < 1e-12);
}

TEST_CASE("eigh, svd of large matrices: derivatives of smooth functions of the values") {
  const Tensor a = symmetric(110);
  const Tensor by_eigh = grad([](const Tensor& x) { return sum(square(eigh(x).values)); }, a);
  const Tensor by_svd = grad([](const Tensor& x) { return sum(square(svd(x).s)); }, a);
  CHECK(max_difference(by_eigh, a * 2.0) < 1e-12);
  CHECK(max_difference(by_svd, a * 2.0) < 1e-12);
}

TEST_CASE("LAPACK's path gives the own kernels' values and vectors at all sizes") {
  if (!cpu::has_lapack()) return;
  for (const std::int64_t n : {1, 2, 3, 17, 63, 64, 65, 66, 128, 140}) {
    INFO("n = " << n);
    const auto square = static_cast<std::size_t>(n * n);
    const Tensor input = symmetric(n);
    std::vector<double> a = input.to_vector<double>();
    std::vector<double> rows(square), vt(square), values(static_cast<std::size_t>(n));
    std::vector<double> work(static_cast<std::size_t>(cpu::SpectralLapack<double>::work(n)));
    std::vector<int> iwork(static_cast<std::size_t>(cpu::SpectralLapack<double>::iwork(n)));
    REQUIRE(cpu::SpectralLapack<double>::eigh(a.data(), n, values.data(), rows.data(), work.data(), iwork.data()));
    const Tensor lapack_values = from_vector(values, {n});
    const Tensor lapack_rows = from_vector(rows, {n, n});
    a = input.to_vector<double>();
    std::vector<double> own(static_cast<std::size_t>(n)), own_rows(square), own_work(static_cast<std::size_t>(5 * n));
    REQUIRE(cpu::spectral_kernels(double{}).eigh(a.data(), n, own.data(), own_rows.data(), own_work.data()));
    CHECK(max_difference(lapack_values, sort(from_vector(own, {n})).value) < 1e-13);
    CHECK(max_difference(matmul(mT(lapack_rows * unsqueeze(lapack_values, -1)), lapack_rows), input) < 1e-13);
    a = input.to_vector<double>();
    std::vector<double> u(square);
    REQUIRE(
        cpu::SpectralLapack<double>::svd(a.data(), n, u.data(), values.data(), vt.data(), work.data(), iwork.data()));
    const Tensor s = from_vector(values, {n});
    CHECK(max_difference(s, sort(abs(lapack_values), -1, true).value) < 1e-13);
    CHECK(max_difference(matmul(from_vector(u, {n, n}) * s, from_vector(vt, {n, n})), input) < 1e-13);
  }
}

}  // namespace solvent
