// Elementwise vector kernels against their scalar twins in wider arithmetic: accuracy in units in the last place over the whole range
// of arguments, special values, ragged lengths, in-place use, all instruction sets of this machine.

#include "solvent/ops/cpu/vector_kernels.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "solvent/core/parallel.h"
#include "solvent/ops/functors.h"
#include "solvent/tests/ops/vector_test_tools.h"
#include "solvent/tests/support/catch.h"

namespace {

using namespace solvent::cpu;
using namespace solvent::vector_test;
using solvent::functor::Params;
namespace functor = solvent::functor;

// --- scalar twins by run-time value ---------------------------------------------------------------------------------------

template <class W, std::size_t... I>
W unary_twin(UnaryFn fn, W x, Params p, std::index_sequence<I...>) {
  using Twin = W (*)(W, Params);
  static constexpr Twin kTwins[] = {&functor::unary<static_cast<UnaryFn>(I), W>...};
  return kTwins[static_cast<std::size_t>(fn)](x, p);
}
template <class W>
W unary_twin(UnaryFn fn, W x, Params p) {
  return unary_twin(fn, x, p, std::make_index_sequence<functor::kUnaryFnCount>{});
}
template <class W, std::size_t... I>
W binary_twin(BinaryFn fn, W x, W y, Params p, std::index_sequence<I...>) {
  using Twin = W (*)(W, W, Params);
  static constexpr Twin kTwins[] = {&functor::binary<static_cast<BinaryFn>(I), W>...};
  return kTwins[static_cast<std::size_t>(fn)](x, y, p);
}
template <class W>
W binary_twin(BinaryFn fn, W x, W y, Params p) {
  return binary_twin(fn, x, y, p, std::make_index_sequence<functor::kBinaryFnCount>{});
}

/// Numbers of all magnitudes, and densely where functions bend.
template <class T>
std::vector<T> arguments(std::size_t count) {
  std::mt19937_64 random(7);
  std::vector<T> x;
  const double limit = sizeof(T) == 4 ? 105.0 : 750.0;
  const std::array<double, 4> ranges = {1.2, 5.0, 20.0, limit};
  for (std::size_t i = 0; i < count; ++i) {
    std::uniform_real_distribution<double> uniform(-ranges[i % 4], ranges[i % 4]);
    x.push_back(static_cast<T>(uniform(random)));
    if constexpr (sizeof(T) == 4) {
      const std::uint32_t bits = static_cast<std::uint32_t>(random());
      float any;
      std::memcpy(&any, &bits, sizeof(any));
      x.push_back(any);
    } else {
      const std::uint64_t bits = random();
      double any;
      std::memcpy(&any, &bits, sizeof(any));
      x.push_back(any);
    }
  }
  const T infinity = std::numeric_limits<T>::infinity();
  const T least = std::numeric_limits<T>::denorm_min();
  for (T special : {T{0}, T{1}, T{0.5}, T(1e-30), T{100000}, T(1e30), infinity, least, std::numeric_limits<T>::max()}) {
    x.push_back(special);
    x.push_back(-special);
  }
  x.push_back(std::numeric_limits<T>::quiet_NaN());
  return x;
}

struct Bound {
  double ulp;    ///< allowed error
  double scale;  ///< errors of results smaller than this are measured against it (functions with a zero crossing)
};

/// Largest error allowed for a function on targets with fused multiply-add.
Bound bound(UnaryFn fn) {
  switch (fn) {
    case UnaryFn::identity:
    case UnaryFn::neg:
    case UnaryFn::abs:
    case UnaryFn::sign:
    case UnaryFn::clip:
    case UnaryFn::floor:
    case UnaryFn::ceil:
    case UnaryFn::round:
    case UnaryFn::trunc:
    case UnaryFn::relu:
    case UnaryFn::step:
    case UnaryFn::leaky_relu_derivative:
    case UnaryFn::clip_derivative: return {0.0, 0.0};
    case UnaryFn::affine:
    case UnaryFn::square:
    case UnaryFn::sqrt:
    case UnaryFn::reciprocal:
    case UnaryFn::leaky_relu: return {0.51, 0.0};
    case UnaryFn::exp:
    case UnaryFn::log:
    case UnaryFn::log1p:
    case UnaryFn::rsqrt:
    case UnaryFn::erf: return {1.6, 0.0};
    case UnaryFn::expm1:
    case UnaryFn::elu:
    case UnaryFn::elu_derivative: return {2.5, 0.0};
    case UnaryFn::tanh:
    case UnaryFn::sigmoid:
    case UnaryFn::log_sigmoid:
    case UnaryFn::softplus:
    case UnaryFn::silu:
    case UnaryFn::erf_derivative:
    case UnaryFn::sin:
    case UnaryFn::cos: return {4.0, 0.0};
    case UnaryFn::gelu: return {6.0, 0.0};
    case UnaryFn::
        gelu_tanh:  // the argument of the exponential is rounded: relative errors grow with it in the left tail
      return {6.0, 0.25};
    case UnaryFn::silu_derivative:
    case UnaryFn::gelu_derivative:
    case UnaryFn::gelu_tanh_derivative: return {6.0, 0.25};
  }
  return {0.0, 0.0};
}

/// Numbers of elements around the vector widths and the parallel grain.
const std::vector<std::size_t> kLengths = {0,  1,  2,  3,  4,   5,     7,     8,     9,    15,
                                           16, 17, 31, 33, 100, 32767, 32768, 32769, 70001};

}  // namespace

TEMPLATE_TEST_CASE("vector kernels: unary functions agree with their scalar twins", "[vector]", float, double) {
  const std::vector<TestType> x = arguments<TestType>(20000);
  std::vector<TestType> y(x.size());
  const Params p{0.25, 1.5};
  for_each_target([&](bool fused) {
    const double slack = fused ? 1.0 : 4.0;
    for (int k = 0; k < functor::kUnaryFnCount; ++k) {
      const UnaryFn fn = static_cast<UnaryFn>(k);
      if (!fused && fn == UnaryFn::affine) continue;  // two roundings, and cancellation at x = -b/a
      const Bound allowed = bound(fn);
      unary(fn, x.data(), y.data(), length(x.size()), p);
      double worst = 0.0;
      std::size_t at = 0;
      for (std::size_t i = 0; i < x.size(); ++i) {
        if (!fused && std::abs(x[i]) > TestType{3} && (fn == UnaryFn::gelu || fn == UnaryFn::erf_derivative)) continue;
        const Wide<TestType> want = unary_twin<Wide<TestType>>(fn, x[i], p);
        double error = ulps(y[i], want, static_cast<Wide<TestType>>(allowed.scale));
        // gelu goes to 0 where its exact value leaves the normal numbers.
        if (fn == UnaryFn::gelu && std::abs(want) < std::numeric_limits<TestType>::min() && y[i] == TestType{0})
          error = 0.0;
        if (error > worst) {
          worst = error;
          at = i;
        }
      }
      INFO("function " << k << ": " << worst << " ulp at x = " << x[at] << ", got " << y[at]);
      CHECK(worst <= allowed.ulp * (allowed.ulp < 0.6 ? 1.0 : slack));
    }
  });
}

TEMPLATE_TEST_CASE("vector kernels: special values", "[vector]", float, double) {
  using T = TestType;
  const T infinity = std::numeric_limits<T>::infinity();
  const T nan = std::numeric_limits<T>::quiet_NaN();
  const auto value = [](UnaryFn fn, T x) {
    T y = 0;
    unary(fn, &x, &y, 1, Params{0.25, 1.5});
    return y;
  };
  for_each_target([&](bool) {
    CHECK(value(UnaryFn::exp, -infinity) == T{0});
    CHECK(value(UnaryFn::exp, infinity) == infinity);
    CHECK(value(UnaryFn::exp, T{0}) == T{1});
    CHECK(value(UnaryFn::expm1, -infinity) == T{-1});
    CHECK(value(UnaryFn::log, T{0}) == -infinity);
    CHECK(value(UnaryFn::log, T{1}) == T{0});
    CHECK(std::isnan(value(UnaryFn::log, T{-1})));
    CHECK(value(UnaryFn::log, infinity) == infinity);
    CHECK(value(UnaryFn::log1p, T{-1}) == -infinity);
    CHECK(std::isnan(value(UnaryFn::log1p, T{-2})));
    CHECK(std::signbit(value(UnaryFn::log1p, T{-0.0})));
    CHECK(std::signbit(value(UnaryFn::expm1, T{-0.0})));
    CHECK(std::signbit(value(UnaryFn::tanh, T{-0.0})));
    CHECK(std::signbit(value(UnaryFn::erf, T{-0.0})));
    CHECK(value(UnaryFn::tanh, infinity) == T{1});
    CHECK(value(UnaryFn::tanh, -infinity) == T{-1});
    CHECK(value(UnaryFn::erf, -infinity) == T{-1});
    CHECK(value(UnaryFn::sigmoid, -infinity) == T{0});
    CHECK(value(UnaryFn::sigmoid, infinity) == T{1});
    CHECK(value(UnaryFn::softplus, -infinity) == T{0});
    CHECK(value(UnaryFn::softplus, infinity) == infinity);
    CHECK(value(UnaryFn::silu, -infinity) == T{0});
    CHECK(value(UnaryFn::gelu, -infinity) == T{0});
    CHECK(value(UnaryFn::gelu, infinity) == infinity);
    CHECK(value(UnaryFn::gelu_tanh, -infinity) == T{0});
    CHECK(value(UnaryFn::gelu_derivative, -infinity) == T{0});
    CHECK(value(UnaryFn::gelu_derivative, infinity) == T{1});
    CHECK(value(UnaryFn::silu_derivative, infinity) == T{1});
    CHECK(std::isnan(value(UnaryFn::sin, infinity)));
    CHECK(value(UnaryFn::sin, T{1e6}) == Approx(std::sin(1e6)));
    for (int k = 0; k < functor::kUnaryFnCount; ++k) {
      INFO("function " << k);
      CHECK(std::isnan(value(static_cast<UnaryFn>(k), nan)));
    }
    // Conventions at kinks.
    CHECK(value(UnaryFn::step, T{0}) == T{0});
    CHECK(value(UnaryFn::sign, T{0}) == T{0});
    CHECK(value(UnaryFn::leaky_relu_derivative, T{0}) == T{0.25});
    CHECK(value(UnaryFn::clip_derivative, T{0.25}) == T{1});
    CHECK(value(UnaryFn::clip_derivative, T{1.5}) == T{1});
  });
}

TEMPLATE_TEST_CASE("vector kernels: any length, alignment and in-place use give the same elements", "[vector]", float,
                   double) {
  using T = TestType;
  for_each_target([&](bool) {
    for (UnaryFn fn : {UnaryFn::tanh, UnaryFn::relu, UnaryFn::sin}) {
      for (std::size_t n : kLengths) {
        INFO("n = " << n);
        const std::vector<T> x = random_vector<T>(n + 1, 3);
        std::vector<T> y(n + 2, T{77});
        unary(fn, x.data() + 1, y.data() + 1, length(n));  // one element off alignment
        REQUIRE(y[0] == T{77});
        REQUIRE(y[n + 1] == T{77});
        std::vector<T> z(x.begin() + 1, x.end());
        unary(fn, z.data(), z.data(), length(n));
        REQUIRE(std::equal(z.begin(), z.end(), y.begin() + 1));
        for (std::size_t i = 0; i < n; i += 997) {
          T one = 0;
          unary(fn, &x[i + 1], &one, 1);
          REQUIRE(one == z[i]);
        }
      }
    }
  });
}

TEMPLATE_TEST_CASE("vector kernels: binary functions with arrays and repeated values", "[vector]", float, double) {
  using T = TestType;
  using W = Wide<T>;
  const Params p{0.25, 1.5};
  for_each_target([&](bool fused) {
    for (int k = 0; k < functor::kBinaryFnCount; ++k) {
      const BinaryFn fn = static_cast<BinaryFn>(k);
      const double low = fn == BinaryFn::pow || fn == BinaryFn::sqrt_grad || fn == BinaryFn::log1p_grad ? 0.1 : -3.0;
      for (std::size_t n : {std::size_t{1}, std::size_t{13}, std::size_t{3000}}) {
        const std::vector<T> a = random_vector<T>(n, 1, low);
        const std::vector<T> b = random_vector<T>(n, 2, low);
        std::vector<T> y(n);
        for (int mode = 0; mode < 4; ++mode) {
          const std::int64_t stride_a = mode & 1;
          const std::int64_t stride_b = mode >> 1;
          INFO("function " << k << ", n = " << n << ", strides " << stride_a << ", " << stride_b);
          binary(fn, a.data(), stride_a, b.data(), stride_b, y.data(), length(n), p);
          for (std::size_t i = 0; i < n; ++i) {
            const T x0 = a[stride_a != 0 ? i : 0];
            const T x1 = b[stride_b != 0 ? i : 0];
            const W want = binary_twin<W>(fn, x0, x1, p);
            // Derivatives cross zero: measured against the size of the cotangent there.
            const bool gradient = k >= static_cast<int>(BinaryFn::add_scaled);
            const double error = ulps(y[i], want, gradient ? std::abs(static_cast<W>(x0)) : W{0});
            if (error > (fused ? 8.0 : 24.0)) {
              FAIL("x = " << x0 << ", y = " << x1 << ", got " << y[i] << ": " << error << " ulp");
            }
          }
          if (n > 1 && mode == 3) {  // in place of either operand
            std::vector<T> left = a;
            std::vector<T> right = b;
            binary(fn, left.data(), 1, b.data(), 1, left.data(), length(n), p);
            binary(fn, a.data(), 1, right.data(), 1, right.data(), length(n), p);
            REQUIRE(std::memcmp(left.data(), y.data(), n * sizeof(T)) == 0);
            REQUIRE(std::memcmp(right.data(), y.data(), n * sizeof(T)) == 0);
          }
        }
      }
    }
  });
}

TEMPLATE_TEST_CASE("vector kernels: pow follows std::pow in every special case", "[vector]", float, double) {
  using T = TestType;
  const T infinity = std::numeric_limits<T>::infinity();
  const std::vector<T> values = {T{0},    T{-0.0},  T{1},     T{-1},    T{2},      T{-2},
                                 T{0.5},  T{-0.5},  T{3},     T{-3},    T{2.5},    T{-2.5},
                                 T{1e10}, T{-1e10}, T(1e-10), infinity, -infinity, std::numeric_limits<T>::quiet_NaN()};
  for_each_target([&](bool) {
    for (const T x : values) {
      for (const T y : values) {
        T got = 0;
        binary(BinaryFn::pow, &x, 1, &y, 1, &got, 1);
        const T want = std::pow(x, y);
        INFO(x << " ^ " << y << " = " << want << ", got " << got);
        CHECK(ulps<T>(got, static_cast<Wide<T>>(want)) <= 1.0);
        if (want == T{0} && !std::isnan(want)) CHECK(std::signbit(got) == std::signbit(want));
      }
    }
    const std::vector<T> a = random_vector<T>(5000, 5, 0.0, 20.0);
    const std::vector<T> b = random_vector<T>(5000, 6, -25.0, 25.0);
    std::vector<T> y(a.size());
    binary(BinaryFn::pow, a.data(), 1, b.data(), 1, y.data(), length(a.size()));
    for (std::size_t i = 0; i < a.size(); ++i) {
      const double error = ulps(y[i], std::pow(static_cast<Wide<T>>(a[i]), static_cast<Wide<T>>(b[i])));
      if (error > 1.0) FAIL(a[i] << " ^ " << b[i] << ": " << error << " ulp");
    }
  });
}

TEMPLATE_TEST_CASE("vector kernels: minimum and maximum propagate NaN from either side", "[vector]", float, double) {
  using T = TestType;
  const T nan = std::numeric_limits<T>::quiet_NaN();
  const std::vector<T> a = {1, nan, 2, nan, -1, 5, 5, 0, 3};
  const std::vector<T> b = {2, 1, nan, nan, -3, 5, 4, 1, nan};
  std::vector<T> y(a.size());
  for_each_target([&](bool) {
    for (BinaryFn fn : {BinaryFn::minimum, BinaryFn::maximum}) {
      binary(fn, a.data(), 1, b.data(), 1, y.data(), length(a.size()));
      for (std::size_t i = 0; i < a.size(); ++i) {
        if (std::isnan(a[i]) || std::isnan(b[i])) {
          CHECK(std::isnan(y[i]));
        } else {
          CHECK(y[i] == (fn == BinaryFn::minimum ? std::min(a[i], b[i]) : std::max(a[i], b[i])));
        }
      }
    }
  });
}

TEMPLATE_TEST_CASE("vector kernels: comparisons, predicates and selection", "[vector]", float, double) {
  using T = TestType;
  const T nan = std::numeric_limits<T>::quiet_NaN();
  for_each_target([&](bool) {
    for (std::size_t n : kLengths) {
      std::vector<T> a = random_vector<T>(n, 1);
      std::vector<T> b = random_vector<T>(n, 2);
      for (std::size_t i = 0; i < n; i += 3) b[i] = a[i];
      for (std::size_t i = 0; i < n; i += 7) a[i] = nan;
      for (std::size_t i = 1; i < n; i += 11) a[i] = -std::numeric_limits<T>::infinity();
      std::vector<std::uint8_t> y(n + 1, 9);
      const auto compare_all = [&](CompareFn fn, auto want) {
        for (int mode = 0; mode < 4 && n > 0; ++mode) {
          compare(fn, a.data(), mode & 1, b.data(), mode >> 1, y.data(), length(n));
          for (std::size_t i = 0; i < n; ++i) {
            if (!(y[i] == want(a[(mode & 1) != 0 ? i : 0], b[mode >> 1 != 0 ? i : 0]))) FAIL("element " << i);
          }
        }
        REQUIRE(y[n] == 9);
      };
      INFO("n = " << n);
      compare_all(CompareFn::equal, [](T u, T v) { return u == v ? 1 : 0; });
      compare_all(CompareFn::not_equal, [](T u, T v) { return u != v ? 1 : 0; });
      compare_all(CompareFn::less, [](T u, T v) { return u < v ? 1 : 0; });
      compare_all(CompareFn::less_equal, [](T u, T v) { return u <= v ? 1 : 0; });
      compare_all(CompareFn::greater, [](T u, T v) { return u > v ? 1 : 0; });
      compare_all(CompareFn::greater_equal, [](T u, T v) { return u >= v ? 1 : 0; });

      predicate(PredicateFn::is_finite, a.data(), y.data(), length(n));
      for (std::size_t i = 0; i < n; ++i) {
        if (!(y[i] == (std::isfinite(a[i]) ? 1 : 0))) FAIL("element " << i);
      }
      predicate(PredicateFn::is_inf, a.data(), y.data(), length(n));
      for (std::size_t i = 0; i < n; ++i) {
        if (!(y[i] == (std::isinf(a[i]) ? 1 : 0))) FAIL("element " << i);
      }
      predicate(PredicateFn::is_nan, a.data(), y.data(), length(n));
      for (std::size_t i = 0; i < n; ++i) {
        if (!(y[i] == (std::isnan(a[i]) ? 1 : 0))) FAIL("element " << i);
      }
      REQUIRE(y[n] == 9);

      for (std::size_t i = 0; i < n; ++i)
        y[i] = static_cast<std::uint8_t>(i % 5 == 0 ? 0 : i % 3);  // 2 is true as well
      std::vector<T> z(n + 1, T{9});
      for (std::size_t mode = 0; mode < 8 && n > 0; ++mode) {
        const std::size_t sc = mode & 1, sa = (mode >> 1) & 1, sb = mode >> 2;
        select(y.data(), length(sc), a.data(), length(sa), b.data(), length(sb), z.data(), length(n));
        for (std::size_t i = 0; i < n; ++i) {
          const T want = y[sc * i] != 0 ? a[sa * i] : b[sb * i];
          if (!(z[i] == want || (std::isnan(z[i]) && std::isnan(want)))) FAIL("element " << i);
        }
      }
      REQUIRE(z[n] == T{9});
    }
  });
}

TEST_CASE("vector kernels: logic on bytes", "[vector]") {
  for_each_target([](bool) {
    for (std::size_t n : kLengths) {
      std::vector<std::uint8_t> a(n), b(n), y(n + 1, 9);
      for (std::size_t i = 0; i < n; ++i) {
        a[i] = static_cast<std::uint8_t>(i & 1);
        b[i] = static_cast<std::uint8_t>(i / 2 & 1);
      }
      logical(LogicalFn::logical_and, a.data(), 1, b.data(), 1, y.data(), length(n));
      for (std::size_t i = 0; i < n; ++i) {
        if (!(y[i] == (a[i] & b[i]))) FAIL("element " << i);
      }
      logical(LogicalFn::logical_or, a.data(), 1, b.data(), 1, y.data(), length(n));
      for (std::size_t i = 0; i < n; ++i) {
        if (!(y[i] == (a[i] | b[i]))) FAIL("element " << i);
      }
      logical(LogicalFn::logical_xor, a.data(), 1, b.data(), 1, y.data(), length(n));
      for (std::size_t i = 0; i < n; ++i) {
        if (!(y[i] == (a[i] ^ b[i]))) FAIL("element " << i);
      }
      logical_not(a.data(), y.data(), length(n));
      for (std::size_t i = 0; i < n; ++i) {
        if (!(y[i] == 1 - a[i])) FAIL("element " << i);
      }
      REQUIRE(y[n] == 9);
    }
  });
}

TEST_CASE("vector kernels: large outputs are written past the caches with the same values", "[vector]") {
  const std::size_t n = static_cast<std::size_t>(kStreamBytes) / sizeof(float) + 5;
  std::vector<float> x = random_vector<float>(n, 4);
  std::vector<float> storage(n + 32);
  const std::size_t skip = (64 - reinterpret_cast<std::uintptr_t>(storage.data()) % 64) % 64 / sizeof(float);
  float* y = storage.data() + skip;
  unary(UnaryFn::exp, x.data(), y, length(n));         // streamed
  unary(UnaryFn::exp, x.data(), x.data(), length(n));  // in place, never streamed
  CHECK(std::memcmp(x.data(), y, n * sizeof(float)) == 0);
}
