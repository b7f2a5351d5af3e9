// Vector kernels against their scalar twins in wider arithmetic: accuracy in units in the last place over the whole range
// of arguments, special values, ragged lengths, in-place use, all instruction sets of this machine, thread counts.

#include "solvent/ops/cpu/vector_kernels.h"

#include "solvent/ops/cpu/simd_targets.h"  // before Highway: which targets the kernels have

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

#include "hwy/targets.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/functors.h"
#include "solvent/tests/support/catch.h"

namespace {

using namespace solvent::cpu;
using solvent::functor::Params;
namespace functor = solvent::functor;

/// The arithmetic references are computed in.
template <class T>
struct Wider {
  using type = double;
};
template <>
struct Wider<double> {
  using type = long double;
};
template <class T>
using Wide = typename Wider<T>::type;

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

// --- measuring ------------------------------------------------------------------------------------------------------------

/// Distance of two results in units in the last place of T at the reference, or at `scale` if that is larger. Results near
/// the end of the normal numbers are measured against 1024 times the smallest one: products with denormal factors lose
/// digits there. 0 for equal special values, infinity for unequal ones.
template <class T>
double ulps(T got, Wide<T> want, Wide<T> scale = 0) {
  const T rounded = static_cast<T>(want);
  const double infinity = std::numeric_limits<double>::infinity();
  if (rounded != rounded) return got != got ? 0.0 : infinity;
  if (std::isinf(rounded)) return got == rounded ? 0.0 : infinity;
  if (!std::isfinite(got)) return infinity;
  const Wide<T> least = static_cast<Wide<T>>(std::numeric_limits<T>::min()) * 1024;
  const Wide<T> size = std::max({std::abs(want), scale, least});
  int exponent = 0;
  std::frexp(size, &exponent);
  return static_cast<double>(std::abs(static_cast<Wide<T>>(got) - want) /
                             std::ldexp(Wide<T>{1}, exponent - std::numeric_limits<T>::digits));
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

/// Runs `body(fused)` once for every instruction set that is compiled in and present, the portable one included; `fused`
/// tells whether it has fused multiply-add.
template <class Body>
void for_each_target(const Body& body) {
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    INFO("instruction set " << hwy::TargetName(target));
    body((target & (HWY_SCALAR | HWY_EMU128)) == 0);
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
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

template <class T>
std::vector<T> random_vector(std::size_t n, std::uint32_t seed, double low = -3.0, double high = 3.0) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> uniform(low, high);
  std::vector<T> x(n);
  for (T& v : x) v = static_cast<T>(uniform(random));
  return x;
}

std::int64_t length(std::size_t n) { return static_cast<std::int64_t>(n); }

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
      for (int mode = 0; mode < 8 && n > 0; ++mode) {
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

// --- reductions -----------------------------------------------------------------------------------------------------------

namespace {

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

TEMPLATE_TEST_CASE("vector kernels: reductions of rows, columns and middle axes", "[vector]", float, double) {
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

TEMPLATE_TEST_CASE("vector kernels: empty reductions give the neutral element", "[vector]", float, double) {
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

TEST_CASE("vector kernels: long float sums stay accurate", "[vector]") {
  const std::size_t n = 3'000'000;
  const std::vector<float> x(n, 0.1f);  // a naive float sum is off by more than 1 %, about 1e5 ulp
  float row = 0;
  reduce(ReduceFn::sum, x.data(), 1, length(n), 1, &row);
  CHECK(ulps(row, static_cast<double>(n) * static_cast<double>(0.1f)) <= 8.0);
  std::array<float, 3> columns{};
  reduce(ReduceFn::sum, x.data(), 1, length(n / 3), 3, columns.data());
  for (const float c : columns) CHECK(ulps(c, static_cast<double>(n / 3) * static_cast<double>(0.1f)) <= 8.0);
  CHECK(ulps(dot(x.data(), x.data(), length(n)), static_cast<double>(n) * 0.1f * 0.1f) <= 8.0);
}

TEST_CASE("vector kernels: infinities and NaN in sums and extrema", "[vector]") {
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

TEMPLATE_TEST_CASE("vector kernels: extrema report their first occurrence", "[vector]", float, double) {
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

TEMPLATE_TEST_CASE("vector kernels: softmax family and its cotangents", "[vector]", float, double) {
  using T = TestType;
  using W = Wide<T>;
  for_each_target([&](bool) {
    for (const auto [rows, cols] : kMatrices) {
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

TEST_CASE("vector kernels: softmax of extreme rows", "[vector]") {
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

TEMPLATE_TEST_CASE("vector kernels: layer_norm and its cotangents", "[vector]", float, double) {
  using T = TestType;
  using W = Wide<T>;
  const double eps = 1e-5;
  for_each_target([&](bool) {
    for (const auto [rows, cols] :
         std::vector<std::array<std::size_t, 2>>{{1, 8}, {3, 10}, {200, 33}, {600, 100}, {3, 4097}}) {
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

TEST_CASE("vector kernels: the same bits for one and two threads", "[vector]") {
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
