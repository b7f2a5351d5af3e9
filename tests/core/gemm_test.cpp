#include "solvent/core/engine/gemm.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "solvent/core/parallel.h"
#include "solvent/tests/core/core_support.h"
#include "solvent/tests/support/catch.h"
#include "solvent/tests/support/larger.h"

using namespace solvent;

namespace {

struct Sizes {
  bool trans_a, trans_b;
  std::int64_t m, n, k;
  std::int64_t pad;  // extra elements per row of every operand
};

template <class T>
std::vector<T> random_values(Chooser& choose, std::int64_t count) {
  std::vector<T> values(static_cast<std::size_t>(count) + 1);
  for (T& v : values) v = static_cast<T>(choose.real());
  return values;
}

// Compares with a triple loop in double. `c` starts as NaN where beta is 0, and between the rows.
template <class T>
void check_product(Chooser& choose, const Sizes& s, T alpha, T beta) {
  const std::int64_t lda = (s.trans_a ? s.m : s.k) + s.pad;
  const std::int64_t ldb = (s.trans_b ? s.k : s.n) + s.pad;
  const std::int64_t ldc = s.n + s.pad;
  const auto a = random_values<T>(choose, (s.trans_a ? s.k : s.m) * lda);
  const auto b = random_values<T>(choose, (s.trans_b ? s.n : s.k) * ldb);
  const T nan = std::numeric_limits<T>::quiet_NaN();
  std::vector<T> c(static_cast<std::size_t>(s.m * ldc) + 1, nan);
  const auto at = [](const std::vector<T>& v, std::int64_t i) {
    return static_cast<double>(v[static_cast<std::size_t>(i)]);
  };
  if (beta != 0)
    for (std::int64_t i = 0; i < s.m; ++i)
      for (std::int64_t j = 0; j < s.n; ++j) c[static_cast<std::size_t>(i * ldc + j)] = static_cast<T>(choose.real());
  const std::vector<T> before = c;
  engine::gemm<T>(s.trans_a, s.trans_b, s.m, s.n, s.k, alpha, a.data(), lda, b.data(), ldb, beta, c.data(), ldc);

  double worst = 0;
  bool outside_untouched = std::isnan(c.back());
  for (std::int64_t i = 0; i < s.m; ++i) {
    for (std::int64_t j = 0; j < s.n; ++j) {
      double sum = 0;
      for (std::int64_t p = 0; p < s.k; ++p)
        sum += at(a, s.trans_a ? p * lda + i : i * lda + p) * at(b, s.trans_b ? j * ldb + p : p * ldb + j);
      const double expected =
          static_cast<double>(alpha) * sum + (beta == 0 ? 0 : static_cast<double>(beta) * at(before, i * ldc + j));
      const double error = std::abs(at(c, i * ldc + j) - expected);
      worst = testing::larger(worst, error);
    }
    for (std::int64_t j = s.n; j < ldc; ++j) outside_untouched &= std::isnan(c[static_cast<std::size_t>(i * ldc + j)]);
  }
  INFO((sizeof(T) == 4 ? "float " : "double ") << s.trans_a << s.trans_b << ' ' << s.m << " x " << s.n << " x " << s.k
                                               << " pad " << s.pad << " alpha " << alpha << " beta " << beta);
  // Terms are at most 1, so the errors of k of them are at most k^2 / 2 roundings; random ones stay far below k. Twice,
  // because for T = double the reference has the same error.
  CHECK(worst <= 2 * std::max(1.0, static_cast<double>(alpha)) * std::numeric_limits<T>::epsilon() *
                     (4 + static_cast<double>(s.k)));
  CHECK(outside_untouched);
}

template <class T>
std::vector<T> product_bits(int threads, bool trans_a, bool trans_b, std::int64_t m, std::int64_t n, std::int64_t k) {
  const NumThreadsGuard guard(threads);
  Chooser choose(99);
  const auto a = random_values<T>(choose, m * k);
  const auto b = random_values<T>(choose, k * n);
  std::vector<T> c(static_cast<std::size_t>(m * n));
  engine::gemm<T>(trans_a, trans_b, m, n, k, T{1}, a.data(), trans_a ? m : k, b.data(), trans_b ? k : n, T{0}, c.data(),
                  n);
  return c;
}

}  // namespace

TEST_CASE("gemm: random small products with transposes, padded rows, alpha and beta", "[gemm]") {
  Chooser choose(3);
  for (int trial = 0; trial < 600; ++trial) {
    const Sizes s{choose.integer(0, 1) == 1, choose.integer(0, 1) == 1, choose.integer(0, 20),
                  choose.integer(0, 40),     choose.integer(0, 30),     choose.integer(0, 3)};
    const double alpha = trial % 3 == 0 ? 0.5 : 1.0;
    const double beta = trial % 4 == 0 ? 0.25 : trial % 4 == 1 ? 1.0 : 0.0;
    check_product<float>(choose, s, static_cast<float>(alpha), static_cast<float>(beta));
    check_product<double>(choose, s, alpha, beta);
  }
}

TEST_CASE("gemm: vectors, skinny, packed and split shapes", "[gemm]") {
  Chooser choose(4);
  for (const auto& [m, n, k] : std::vector<std::array<std::int64_t, 3>>{{1, 1, 1},
                                                                        {1, 300, 70},
                                                                        {300, 1, 70},
                                                                        {2, 131, 257},
                                                                        {500, 7, 300},
                                                                        {7, 900, 300},
                                                                        {97, 203, 300},
                                                                        {200, 130, 515},
                                                                        {5, 9, 9000},
                                                                        {33, 33, 5000}}) {
    for (const bool trans_a : {false, true}) {
      for (const bool trans_b : {false, true}) {
        check_product<float>(choose, {trans_a, trans_b, m, n, k, 0}, 1.0f, 0.0f);
        check_product<double>(choose, {trans_a, trans_b, m, n, k, 5}, 2.0, 1.0);
      }
    }
  }
}

TEST_CASE("gemm: rows of A that lie further apart than a page", "[gemm]") {
  Chooser choose(7);
  for (const bool trans_a : {false, true}) {
    check_product<float>(choose, {trans_a, false, 1600, 300, 26, 1100}, 1.0f, 0.0f);
    check_product<double>(choose, {trans_a, true, 1600, 300, 26, 600}, 0.5, 1.0);
  }
}

TEST_CASE("gemm: k = 0 and alpha = 0 scale C and read nothing else", "[gemm]") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> c{1, 2, nan, 3};
  engine::gemm<float>(false, false, 2, 2, 0, 1.0f, nullptr, 1, nullptr, 2, 0.0f, c.data(), 2);
  CHECK(c == std::vector<float>{0, 0, 0, 0});
  c = {1, 2, 3, 4};
  const std::vector<float> poison(4, nan);
  engine::gemm<float>(false, false, 2, 2, 2, 0.0f, poison.data(), 2, poison.data(), 2, 2.0f, c.data(), 2);
  CHECK(c == std::vector<float>{2, 4, 6, 8});
  engine::gemm<float>(false, false, 0, 2, 2, 1.0f, nullptr, 2, nullptr, 2, 0.0f, nullptr, 2);
}

TEST_CASE("gemm: NaN and infinity in the operands reach the result", "[gemm]") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> a(40 * 40, 0.0f);
  std::vector<float> b(40 * 40, 0.0f);
  a[3 * 40 + 5] = nan;
  std::vector<float> c(40 * 40);
  engine::gemm<float>(false, false, 40, 40, 40, 1.0f, a.data(), 40, b.data(), 40, 0.0f, c.data(), 40);
  for (int i = 0; i < 40; ++i)
    for (int j = 0; j < 40; ++j) CHECK(std::isnan(c[static_cast<std::size_t>(i * 40 + j)]) == (i == 3));
}

TEST_CASE("gemm: the bits do not depend on the number of threads", "[gemm][threads]") {
  for (const auto& [m, n, k] : std::vector<std::array<std::int64_t, 3>>{
           {200, 300, 400}, {619, 281, 300}, {3000, 16, 40}, {16, 3000, 40}, {24, 20, 20000}, {300, 300, 300}}) {
    for (const bool trans_a : {false, true}) {
      for (const bool trans_b : {false, true}) {
        INFO(m << ' ' << n << ' ' << k << ' ' << trans_a << trans_b);
        const auto one = product_bits<float>(1, trans_a, trans_b, m, n, k);
        CHECK((one == product_bits<float>(2, trans_a, trans_b, m, n, k)));
        CHECK((one == product_bits<float>(5, trans_a, trans_b, m, n, k)));
      }
    }
  }
}

TEST_CASE("gemm_batched: equals one product after the other, shared operands included", "[gemm]") {
  Chooser choose(5);
  for (int trial = 0; trial < 120; ++trial) {
    const std::int64_t m = choose.integer(1, 40);
    const std::int64_t n = choose.integer(1, 40);
    const std::int64_t k = choose.integer(0, 40);
    const std::int64_t batch = choose.integer(0, 30);
    const bool trans_a = choose.integer(0, 1) == 1;
    const bool trans_b = choose.integer(0, 1) == 1;
    const std::int64_t stride_a = choose.integer(0, 2) == 0 ? 0 : m * k;
    const std::int64_t stride_b = choose.integer(0, 1) == 0 ? 0 : k * n;
    const auto a = random_values<double>(choose, m * k * batch + m * k);
    const auto b = random_values<double>(choose, k * n * batch + k * n);
    std::vector<double> c(static_cast<std::size_t>(m * n * batch) + 1, std::nan(""));
    engine::gemm_batched<double>(trans_a, trans_b, m, n, k, 1.0, a.data(), trans_a ? m : k, stride_a, b.data(),
                                 trans_b ? k : n, stride_b, 0.0, c.data(), n, m * n, batch);
    std::vector<double> one(static_cast<std::size_t>(m * n));
    double worst = 0;
    for (std::int64_t i = 0; i < batch; ++i) {
      engine::gemm<double>(trans_a, trans_b, m, n, k, 1.0, a.data() + i * stride_a, trans_a ? m : k,
                           b.data() + i * stride_b, trans_b ? k : n, 0.0, one.data(), n);
      for (std::size_t j = 0; j < one.size(); ++j) {
        const double error = std::abs(one[j] - c[static_cast<std::size_t>(i * m * n) + j]);
        worst = testing::larger(worst, error);
      }
    }
    INFO(m << ' ' << n << ' ' << k << " batch " << batch);
    CHECK(worst <= 1e-13);
    CHECK(std::isnan(c.back()));
  }
}

// [bits]: holds for the own kernels only; SOLVENT_GEMM=blas computes outside of parallel regions with BLAS.
TEST_CASE("gemm: has the same bits inside a parallel region", "[gemm][bits]") {
  const std::int64_t n = 150;
  Chooser choose(6);
  const auto a = random_values<float>(choose, n * n);
  std::vector<float> outside(static_cast<std::size_t>(n * n));
  engine::gemm<float>(false, false, n, n, n, 1.0f, a.data(), n, a.data(), n, 0.0f, outside.data(), n);
  std::vector<std::vector<float>> inside(4, std::vector<float>(outside.size()));
  parallel_for(4, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      engine::gemm<float>(false, false, n, n, n, 1.0f, a.data(), n, a.data(), n, 0.0f,
                          inside[static_cast<std::size_t>(i)].data(), n);
  });
  for (const auto& c : inside) CHECK((c == outside));
}
