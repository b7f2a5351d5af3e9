// Reductions and row kernels against plain loops in wider arithmetic, on all instruction sets of this machine; special
// values; the same bits for any number of threads.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "solvent/core/parallel.h"
#include "solvent/ops/cpu/vector_kernels.h"
#include "solvent/tests/ops/vector_test_tools.h"
#include "solvent/tests/support/catch.h"

namespace {

using namespace solvent::cpu;
using namespace solvent::vector_test;

struct View {
  std::size_t outer, n, inner;
};
const std::vector<View> kViews = {{1, 1, 1},      {3, 7, 1},    {1, 5000, 1},  {5, 33, 4},    {2, 300000, 1},
                                  {1, 300000, 3}, {1, 999, 10}, {2, 64, 1030}, {1, 4099, 63}, {7, 1, 5},
                                  {1, 3000, 200}, {40, 17, 9},  {100, 1000, 1}};

template <class T>
Wide<T> naive(ReduceFn fn, const std::vector<T>& x, View v, std::size_t o, std::size_t i) {
  using W = Wide<T>;
  W sum = 0, product = 1, largest = -std::numeric_limits<W>::infinity(), largest_abs = 0, squares = 0;
  W smallest = std::numeric_limits<W>::infinity();
  for (std::size_t r = 0; r < v.n; ++r) {
    const W e = x[(o * v.n + r) * v.inner + i];
    sum += e;
    product *= e;
    squares += e * e;
    largest = std::max(largest, e);
    smallest = std::min(smallest, e);
    largest_abs = std::max(largest_abs, std::abs(e));
  }
  switch (fn) {
    case ReduceFn::sum: return sum;
    case ReduceFn::sum_squares: return squares;
    case ReduceFn::prod: return product;
    case ReduceFn::max: return largest;
    case ReduceFn::min: return smallest;
    case ReduceFn::max_abs: return largest_abs;
  }
  return 0;
}

}  // namespace

TEMPLATE_TEST_CASE("row kernels: reductions of rows, columns and middle axes", "[vector]", float, double) {
  using T = TestType;
  using W = Wide<T>;
  for_each_target([&](bool) {
    for (const View v : kViews) {
      for (int k = 0; k < kReduceFnCount; ++k) {
        const ReduceFn fn = static_cast<ReduceFn>(k);
        const bool product = fn == ReduceFn::prod;
        if (product && v.n > 5000) continue;
        // Factors near 1 keep products finite.
        const std::vector<T> x =
            random_vector<T>(v.outer * v.n * v.inner, 3, product ? 0.99 : -1.0, product ? 1.01 : 1.0);
        std::vector<T> y(v.outer * v.inner);
        reduce(fn, x.data(), length(v.outer), length(v.n), length(v.inner), y.data());
        for (std::size_t o = 0; o < v.outer; ++o) {
          for (std::size_t i = 0; i<v.inner; i += v.inner> 50 ? 37 : 1) {
            const W want = naive(fn, x, v, o, i);
            const T got = y[o * v.inner + i];
            // Sums: against the sum of magnitudes (about n / 2), far below the bound of 70 ulp.
            const W scale = fn == ReduceFn::sum ? static_cast<W>(v.n) / 4 : W{0};
            const double allowed = product ? static_cast<double>(v.n) : 6.0;
            INFO("function " << k << " of (" << v.outer << ", " << v.n << ", " << v.inner << ") at " << o << ", " << i);
            REQUIRE(ulps(got, want, scale) <= (fn >= ReduceFn::max ? 0.0 : allowed));
          }
        }
      }
    }
  });
}

TEMPLATE_TEST_CASE("row kernels: empty reductions give the neutral element", "[vector]", float, double) {
  using T = TestType;
  const T infinity = std::numeric_limits<T>::infinity();
  const std::array<T, 6> want = {T{0}, T{0}, T{1}, -infinity, infinity, T{0}};
  for (int k = 0; k < kReduceFnCount; ++k) {
    for (std::int64_t inner : {1, 3}) {
      std::vector<T> y(static_cast<std::size_t>(2 * inner), T{5});
      reduce(static_cast<ReduceFn>(k), static_cast<const T*>(nullptr), 2, 0, inner, y.data());
      for (const T v : y) CHECK(v == want[static_cast<std::size_t>(k)]);
    }
  }
}

TEST_CASE("row kernels: long float sums stay accurate", "[vector]") {
  // The documented bound. With eight lanes the error is below 8 ulp; the baseline target has fewer running sums and no
  // fused multiply-add, and equal addends round the same way every time (24 ulp seen).
  constexpr double kBound = 70.0;
  const std::size_t n = 3'000'000;
  const std::vector<float> x(n, 0.1f);  // a naive float sum is off by more than 1 %, about 1e5 ulp
  float row = 0;
  reduce(ReduceFn::sum, x.data(), 1, length(n), 1, &row);
  CHECK(ulps(row, static_cast<double>(n) * static_cast<double>(0.1f)) <= kBound);
  std::array<float, 3> columns{};
  reduce(ReduceFn::sum, x.data(), 1, length(n / 3), 3, columns.data());
  for (const float c : columns) CHECK(ulps(c, static_cast<double>(n / 3) * static_cast<double>(0.1f)) <= kBound);
  CHECK(ulps(dot(x.data(), x.data(), length(n)), static_cast<double>(n) * 0.1f * 0.1f) <= kBound);
}

TEST_CASE("row kernels: infinities and NaN in sums and extrema", "[vector]") {
  const float infinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for_each_target([&](bool) {
    for (std::size_t n : {std::size_t{5}, std::size_t{9000}, std::size_t{400000}}) {
      for (std::int64_t inner : {1, 2}) {
        std::vector<float> x = random_vector<float>(n * static_cast<std::size_t>(inner), 1);
        std::array<float, 2> y{};
        const auto run = [&](ReduceFn fn) {
          reduce(fn, x.data(), 1, length(n), inner, y.data());
          return y[0];
        };
        x[2 * static_cast<std::size_t>(inner)] = infinity;
        CHECK(run(ReduceFn::sum) == infinity);
        CHECK(run(ReduceFn::max) == infinity);
        CHECK(run(ReduceFn::max_abs) == infinity);
        x[4 * static_cast<std::size_t>(inner)] = -infinity;
        CHECK(std::isnan(run(ReduceFn::sum)));
        CHECK(run(ReduceFn::min) == -infinity);
        x[3 * static_cast<std::size_t>(inner)] = nan;
        CHECK(std::isnan(run(ReduceFn::max)));
        CHECK(std::isnan(run(ReduceFn::min)));
        CHECK(std::isnan(run(ReduceFn::max_abs)));
        std::array<std::int64_t, 2> index{};
        reduce_with_index(ReduceFn::max, x.data(), 1, length(n), inner, y.data(), index.data());
        CHECK(std::isnan(y[0]));
        CHECK(index[0] == 3);
      }
    }
  });
}

TEMPLATE_TEST_CASE("row kernels: extrema report their first occurrence", "[vector]", float, double) {
  using T = TestType;
  for_each_target([&](bool) {
    for (const View v : kViews) {
      std::vector<T> x = random_vector<T>(v.outer * v.n * v.inner, 8);
      for (T& e : x) e = std::floor(e * T{4});  // many ties
      std::vector<T> value(v.outer * v.inner);
      std::vector<std::int64_t> index(v.outer * v.inner);
      for (ReduceFn fn : {ReduceFn::max, ReduceFn::min}) {
        reduce_with_index(fn, x.data(), length(v.outer), length(v.n), length(v.inner), value.data(), index.data());
        for (std::size_t o = 0; o < v.outer; ++o) {
          for (std::size_t i = 0; i < v.inner; ++i) {
            std::size_t best = 0;
            for (std::size_t r = 1; r < v.n; ++r) {
              const T e = x[(o * v.n + r) * v.inner + i];
              const T b = x[(o * v.n + best) * v.inner + i];
              if (fn == ReduceFn::max ? e > b : e < b) best = r;
            }
            if (!(index[o * v.inner + i] == length(best))) FAIL("row " << o << ", column " << i);
            if (!(value[o * v.inner + i] == x[(o * v.n + best) * v.inner + i])) FAIL("row " << o << ", column " << i);
          }
        }
      }
    }
  });
}

// --- rows -------------------------------------------------------------------------------------------------------------------

namespace {

const std::vector<std::array<std::size_t, 2>> kMatrices = {{1, 1},     {3, 10},   {2, 16}, {5, 33},
                                                           {70, 1000}, {2, 5000}, {0, 4}};

template <class T>
void check_close(const std::vector<T>& got, const std::vector<Wide<T>>& want, double tolerance) {
  REQUIRE(got.size() == want.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    const Wide<T> error = std::abs(static_cast<Wide<T>>(got[i]) - want[i]);
    const Wide<T> allowed = static_cast<Wide<T>>(tolerance) * std::numeric_limits<T>::epsilon();
    if (!(error <= allowed * std::max<Wide<T>>(1, std::abs(want[i])))) {
      FAIL("element " << i << ": got " << got[i] << ", want " << static_cast<double>(want[i]));
    }
  }
}

template <class T>
std::vector<Wide<T>> naive_softmax(const std::vector<T>& x, std::size_t rows, std::size_t cols) {
  std::vector<Wide<T>> y(x.size());
  for (std::size_t r = 0; r < rows; ++r) {
    Wide<T> sum = 0;
    for (std::size_t c = 0; c < cols; ++c) sum += y[r * cols + c] = std::exp(static_cast<Wide<T>>(x[r * cols + c]));
    for (std::size_t c = 0; c < cols; ++c) y[r * cols + c] /= sum;
  }
  return y;
}

}  // namespace

TEMPLATE_TEST_CASE("row kernels: softmax family and its cotangents", "[vector]", float, double) {
  using T = TestType;
  using W = Wide<T>;
  for_each_target([&](bool) {
    for (const auto& matrix : kMatrices) {
      const std::size_t rows = matrix[0];
      const std::size_t cols = matrix[1];
      INFO(rows << " x " << cols);
      const std::int64_t m = length(rows), n = length(cols);
      const std::vector<T> x = random_vector<T>(rows * cols, 1, -8.0, 8.0);
      const std::vector<T> g = random_vector<T>(rows * cols, 2);
      const std::vector<W> p = naive_softmax(x, rows, cols);
      std::vector<T> y(x.size()), z(x.size()), lse(rows), loss(rows);
      std::vector<W> want(x.size()), want_lse(rows), want_loss(rows);
      std::vector<std::int64_t> label(rows);
      softmax(x.data(), y.data(), m, n);
      check_close(y, p, 4.0);
      std::vector<T> in_place = x;
      softmax(in_place.data(), in_place.data(), m, n);
      CHECK(in_place == y);

      for (std::size_t r = 0; r < rows; ++r) {
        W sum = 0, dot_product = 0;
        for (std::size_t c = 0; c < cols; ++c) sum += std::exp(static_cast<W>(x[r * cols + c]));
        for (std::size_t c = 0; c < cols; ++c) dot_product += static_cast<W>(g[r * cols + c]) * p[r * cols + c];
        want_lse[r] = std::log(sum);
        label[r] = length((r * 7) % cols);
        want_loss[r] = want_lse[r] - x[r * cols + static_cast<std::size_t>(label[r])];
        for (std::size_t c = 0; c < cols; ++c) want[r * cols + c] = p[r * cols + c] * (g[r * cols + c] - dot_product);
      }
      softmax_backward(g.data(), y.data(), z.data(), m, n);
      check_close(z, want, 8.0);
      logsumexp(x.data(), lse.data(), m, n);
      check_close(lse, want_lse, 4.0);
      cross_entropy(x.data(), label.data(), m, n, loss.data(), lse.data());
      check_close(lse, want_lse, 4.0);
      check_close(loss, want_loss, 16.0);  // measured against 1; the terms are up to 16
      cross_entropy(x.data(), label.data(), m, n, loss.data(), static_cast<T*>(nullptr));

      log_softmax(x.data(), y.data(), m, n);
      for (std::size_t i = 0; i < x.size(); ++i) want[i] = static_cast<W>(x[i]) - want_lse[i / cols];
      check_close(y, want, 8.0);
      for (std::size_t r = 0; r < rows; ++r) {
        W sum = 0;
        for (std::size_t c = 0; c < cols; ++c) sum += g[r * cols + c];
        for (std::size_t c = 0; c < cols; ++c) want[r * cols + c] = g[r * cols + c] - p[r * cols + c] * sum;
      }
      log_softmax_backward(g.data(), y.data(), z.data(), m, n);
      check_close(z, want, 64.0);  // sums of up to 5000 terms of size 3 enter
      for (std::int64_t stride : {0, 1}) {
        if (rows == 0) continue;
        cross_entropy_backward(g.data(), stride, x.data(), label.data(), lse.data(), z.data(), m, n);
        for (std::size_t i = 0; i < x.size(); ++i) {
          const std::size_t r = i / cols;
          const W factor = g[stride != 0 ? r : 0];
          want[i] = factor * (p[i] - (length(i % cols) == label[r] ? 1 : 0));
        }
        check_close(z, want, 32.0);
      }
    }
  });
}

TEMPLATE_TEST_CASE("column kernels: softmax family along a middle axis", "[vector]", float, double) {
  using T = TestType;
  using W = Wide<T>;
  const std::array<std::size_t, 3> sizes[] = {{1, 1, 16},   {2, 3, 17},    {3, 70, 40},
                                              {1, 700, 70}, {2, 65, 1030}, {3, 5, 1}};
  for_each_target([&](bool) {
    for (const auto& [outer, n, inner] : sizes) {
      INFO(outer << " x " << n << " x " << inner);
      const auto transposed = [&, n = n, inner = inner](const auto& x) {  // columns to rows
        auto rows = x;
        for (std::size_t i = 0; i < x.size(); ++i)
          rows[(i / (n * inner) * inner + i % inner) * n + i / inner % n] = x[i];
        return rows;
      };
      const std::vector<T> x = random_vector<T>(outer * n * inner, 1, -8.0, 8.0);
      const std::vector<T> g = random_vector<T>(x.size(), 2);
      const std::vector<W> p = naive_softmax(transposed(x), outer * inner, n);
      std::vector<T> y(x.size()), z(x.size());
      softmax_along(x.data(), y.data(), length(outer), length(n), length(inner));
      check_close(transposed(y), p, 4.0);
      std::vector<T> in_place = x;
      softmax_along(in_place.data(), in_place.data(), length(outer), length(n), length(inner));
      CHECK(in_place == y);

      const std::vector<T> row_g = transposed(g);
      std::vector<W> want(x.size());
      for (std::size_t r = 0; r < outer * inner; ++r) {
        W product = 0;
        for (std::size_t k = r * n; k < (r + 1) * n; ++k) product += static_cast<W>(row_g[k]) * p[k];
        for (std::size_t k = r * n; k < (r + 1) * n; ++k) want[k] = p[k] * (row_g[k] - product);
      }
      softmax_backward_along(g.data(), y.data(), z.data(), length(outer), length(n), length(inner));
      check_close(transposed(z), want, 8.0);
      for (std::size_t i = 0; i < x.size(); ++i) want[i] = std::log(p[i]);
      log_softmax_along(x.data(), y.data(), length(outer), length(n), length(inner));
      check_close(transposed(y), want, 8.0);
    }
  });
}

TEST_CASE("row kernels: softmax of extreme rows", "[vector]") {
  const float infinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for_each_target([&](bool) {
    const std::size_t cols = 11;
    std::vector<float> x(5 * cols, -infinity);  // row 0: all -inf
    std::fill_n(x.begin() + 11, 11, 1000.0f);   // row 1: large
    x[1 * cols + 3] = -infinity;
    std::fill_n(x.begin() + 22, 11, -2000.0f);  // row 2: very negative
    std::fill_n(x.begin() + 33, 11, 0.0f);      // row 3: one +inf
    x[3 * cols + 9] = infinity;
    std::fill_n(x.begin() + 44, 11, 0.0f);  // row 4: one NaN, in the ragged end
    x[4 * cols + 10] = nan;
    std::vector<float> y(x.size()), lse(5);
    softmax(x.data(), y.data(), 5, length(cols));
    logsumexp(x.data(), lse.data(), 5, length(cols));
    for (std::size_t c = 0; c < cols; ++c) {
      CHECK(std::isnan(y[c]));
      CHECK(y[cols + c] == Approx(c == 3 ? 0.0 : 0.1));
      CHECK(y[2 * cols + c] == Approx(1.0 / 11));
      CHECK(std::isnan(y[4 * cols + c]));
    }
    CHECK(std::isnan(y[3 * cols + 9]));
    CHECK(lse[0] == -infinity);
    CHECK(lse[1] == Approx(1000.0 + std::log(10.0)));
    CHECK(lse[2] == Approx(-2000.0 + std::log(11.0)));
    CHECK(lse[3] == infinity);
    CHECK(std::isnan(lse[4]));
    log_softmax(x.data(), y.data(), 5, length(cols));
    CHECK(std::isnan(y[0]));
    CHECK(y[cols + 3] == -infinity);
    CHECK(y[cols] == Approx(-std::log(10.0)));
  });
}

TEMPLATE_TEST_CASE("row kernels: layer_norm and its cotangents", "[vector]", float, double) {
  using T = TestType;
  using W = Wide<T>;
  const double eps = 1e-5;
  for_each_target([&](bool) {
    for (const auto& matrix :
         std::vector<std::array<std::size_t, 2>>{{1, 8}, {3, 10}, {200, 33}, {600, 100}, {3, 4097}}) {
      const std::size_t rows = matrix[0];
      const std::size_t cols = matrix[1];
      INFO(rows << " x " << cols);
      const std::int64_t m = length(rows), n = length(cols);
      const std::vector<T> x = random_vector<T>(rows * cols, 1, -2.0, 5.0);
      const std::vector<T> g = random_vector<T>(rows * cols, 2, -1.0, 1.0);
      const std::vector<T> scale = random_vector<T>(cols, 3);
      const std::vector<T> shift = random_vector<T>(cols, 4);
      std::vector<T> y(x.size()), gx(x.size()), mean(rows), rstd(rows), g_scale(cols), g_shift(cols);
      std::vector<W> xn(x.size()), want_gx(x.size()), want_scale(cols), want_shift(cols), want(x.size());
      for (std::size_t r = 0; r < rows; ++r) {
        W centre = 0, variance = 0;
        for (std::size_t c = 0; c < cols; ++c) centre += x[r * cols + c];
        centre /= static_cast<W>(cols);
        for (std::size_t c = 0; c < cols; ++c) variance += std::pow(x[r * cols + c] - centre, W{2});
        const W factor = 1 / std::sqrt(variance / static_cast<W>(cols) + static_cast<W>(eps));
        W mean_h = 0, mean_hx = 0;
        for (std::size_t c = 0; c < cols; ++c) {
          const std::size_t i = r * cols + c;
          xn[i] = (x[i] - centre) * factor;
          const W h = static_cast<W>(g[i]) * scale[c];
          mean_h += h / static_cast<W>(cols);
          mean_hx += h * xn[i] / static_cast<W>(cols);
          want_scale[c] += g[i] * xn[i];
          want_shift[c] += g[i];
        }
        for (std::size_t c = 0; c < cols; ++c) {
          const std::size_t i = r * cols + c;
          want_gx[i] = factor * (static_cast<W>(g[i]) * scale[c] - mean_h - xn[i] * mean_hx);
        }
      }
      const auto expect = [&](bool with_scale, bool with_shift) {
        for (std::size_t i = 0; i < x.size(); ++i) {
          want[i] =
              xn[i] * (with_scale ? static_cast<W>(scale[i % cols]) : W{1}) + (with_shift ? shift[i % cols] : T{0});
        }
        layer_norm(x.data(), with_scale ? scale.data() : nullptr, with_shift ? shift.data() : nullptr, eps, y.data(),
                   mean.data(), rstd.data(), m, n);
        check_close(y, want, 16.0);
      };
      expect(false, false);
      expect(true, false);
      expect(false, true);
      expect(true, true);
      layer_norm_backward(g.data(), x.data(), mean.data(), rstd.data(), scale.data(), gx.data(), g_scale.data(),
                          g_shift.data(), m, n);
      check_close(gx, want_gx, 32.0);
      check_close(g_scale, want_scale, 64.0);
      check_close(g_shift, want_shift, 64.0);
      std::vector<T> again = g;  // in place of the cotangent, without the sums
      layer_norm_backward(again.data(), x.data(), mean.data(), rstd.data(), scale.data(), again.data(),
                          static_cast<T*>(nullptr), static_cast<T*>(nullptr), m, n);
      CHECK(again == gx);
    }
  });
}

TEST_CASE("row kernels: the same bits for one and two threads", "[vector]") {
  const std::int64_t rows = 300, cols = 1001;
  const std::size_t total = static_cast<std::size_t>(rows * cols);
  const std::vector<float> x = random_vector<float>(total, 1);
  const std::vector<float> g = random_vector<float>(total, 2);
  const auto run = [&](int threads) {
    const solvent::NumThreadsGuard guard(threads);
    std::vector<float> out(3 * total);
    unary(UnaryFn::gelu, x.data(), out.data(), length(total));
    softmax(x.data(), out.data() + total, rows, cols);
    std::vector<float> mean(300), rstd(300), scale_cotangent(1001), shift_cotangent(1001), column(1001), one(2);
    layer_norm(x.data(), static_cast<float*>(nullptr), static_cast<float*>(nullptr), 1e-5, out.data() + 2 * total,
               mean.data(), rstd.data(), rows, cols);
    layer_norm_backward(g.data(), x.data(), mean.data(), rstd.data(), static_cast<float*>(nullptr),
                        static_cast<float*>(nullptr), scale_cotangent.data(), shift_cotangent.data(), rows, cols);
    reduce(ReduceFn::sum, x.data(), 1, rows, cols, column.data());
    reduce(ReduceFn::sum, x.data(), 1, rows * cols, 1, one.data());
    one[1] = dot(x.data(), g.data(), rows * cols);
    for (const auto* part : {&mean, &rstd, &scale_cotangent, &shift_cotangent, &column, &one}) {
      out.insert(out.end(), part->begin(), part->end());
    }
    return out;
  };
  const std::vector<float> one = run(1);
  const std::vector<float> two = run(2);
  CHECK(std::memcmp(one.data(), two.data(), one.size() * sizeof(float)) == 0);
}
