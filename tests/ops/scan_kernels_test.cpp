#include "solvent/ops/cpu/scan_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "solvent/core/parallel.h"
#include "solvent/tests/support/catch.h"
#include "solvent/tests/support/larger.h"

namespace {

using solvent::NumThreadsGuard;
using solvent::cpu::affine_scan;
using solvent::cpu::ScanShape;

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

template <class T>
struct Problem {
  ScanShape s;
  std::vector<T> a, b, h0;
  std::uint64_t random_ = 3;

  explicit Problem(const ScanShape& shape) : s(shape) {
    const std::int64_t k = s.block == 0 ? s.n : s.block;
    // Contracting on average, with growing directions: rounding errors stay comparable with the states.
    fill(a, s.T * s.B * s.n * k, 1.5 / std::sqrt(static_cast<double>(k)));
    fill(b, s.lead * s.T * s.B * s.n, 1.5);
    fill(h0, s.lead * s.B * s.n, 1.5);
  }

  /// Uniform in (-scale, scale), from a multiplicative generator: these tests fill tens of millions of values.
  void fill(std::vector<T>& v, std::int64_t count, double scale) {
    v.resize(at(count));
    for (T& e : v) {
      random_ = random_ * 6364136223846793005u + 1442695040888963407u;
      e = static_cast<T>((static_cast<double>(random_ >> 11) * 0x1p-52 - 1) * scale);
    }
  }

  std::vector<T> run(bool with_h0 = true) const {
    std::vector<T> h(b.size(), T{-99});
    affine_scan<T>(s, a.data(), b.data(), with_h0 ? h0.data() : nullptr, h.data());
    return h;
  }

  /// The naive twin in double.
  std::vector<double> naive(bool with_h0 = true) const {
    const std::int64_t k = s.block == 0 ? s.n : s.block;
    std::vector<double> h(b.size());
    for (std::int64_t l = 0; l < s.lead; ++l) {
      for (std::int64_t q = 0; q < s.B; ++q) {
        std::vector<double> state(at(s.n), 0.0), next(at(s.n));
        for (std::int64_t i = 0; i < s.n && with_h0; ++i) state[at(i)] = h0[at((l * s.B + q) * s.n + i)];
        for (std::int64_t step = 0; step < s.T; ++step) {
          const std::int64_t t = s.reversed ? s.T - 1 - step : step;
          const bool shift = s.reversed && s.shift_a;
          for (std::int64_t i = 0; i < s.n; ++i) {
            const std::int64_t row = ((l * s.T + t) * s.B + q) * s.n;
            double sum = b[at(row + i)];
            const std::int64_t first = i / k * k;
            for (std::int64_t j = 0; j < k && !(shift && step == 0); ++j) {
              const std::int64_t ta = shift ? t + 1 : t;
              const std::int64_t r = s.transposed ? j : i - first, c = s.transposed ? i - first : j;
              sum += static_cast<double>(a[at(((ta * s.B + q) * s.n + first + r) * k + c)]) * state[at(first + j)];
            }
            next[at(i)] = sum;
            h[at(row + i)] = sum;
          }
          state = next;
        }
      }
    }
    return h;
  }
};

template <class T>
double error(const std::vector<T>& got, const std::vector<double>& expected) {
  double worst = 0, scale = 1;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double diff = std::abs(static_cast<double>(got[i]) - expected[i]);
    worst = solvent::testing::larger(worst, diff);
    scale = std::max(scale, std::abs(expected[i]));
  }
  return worst / scale;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

// Rounding errors of n products per step, amplified by the growing directions of random matrices.
template <class T>
constexpr double kTolerance = sizeof(T) == 4 ? 1e-5 : 1e-13;

std::vector<ScanShape> directions(ScanShape s) {
  std::vector<ScanShape> all;
  for (const bool transposed : {false, true}) {
    s.transposed = transposed;
    s.reversed = s.shift_a = false;
    all.push_back(s);
    s.reversed = true;
    all.push_back(s);
    s.shift_a = true;
    all.push_back(s);
  }
  return all;
}

template <class T>
void check(const ScanShape& shape) {
  Problem<T> p(shape);
  for (const ScanShape& s : directions(shape)) {
    CAPTURE(s.T, s.B, s.n, s.lead, s.block, s.reversed, s.transposed, s.shift_a, sizeof(T));
    p.s = s;
    const bool reads_h0 = !(s.reversed && s.shift_a);
    CHECK(error(p.run(), p.naive(reads_h0)) < kTolerance<T>);
    CHECK(error(p.run(false), p.naive(false)) < kTolerance<T>);
    std::vector<T> in_place = p.b;
    affine_scan<T>(s, p.a.data(), in_place.data(), p.h0.data(), in_place.data());
    CHECK(same_bits(in_place, p.run()));
  }
}

/// One and three threads give the same bits, and so does each sequence without the others.
template <class T>
void check_alone(const ScanShape& s) {
  CAPTURE(s.n, s.lead, s.reversed, s.transposed, s.shift_a, sizeof(T));
  const Problem<T> p(s);
  std::vector<T> one, three;
  {
    const NumThreadsGuard guard(1);
    one = p.run();
  }
  {
    const NumThreadsGuard guard(3);
    three = p.run();
  }
  CHECK(same_bits(one, three));
  for (const std::int64_t q : {std::int64_t{0}, std::int64_t{5}, s.B - 1}) {
    ScanShape small = s;
    small.B = 1;
    Problem<T> alone(small);
    for (std::int64_t t = 0; t < s.T; ++t) {
      std::copy_n(&p.a[at((t * s.B + q) * s.n * s.n)], s.n * s.n, &alone.a[at(t * s.n * s.n)]);
      for (std::int64_t l = 0; l < s.lead; ++l) {
        std::copy_n(&p.b[at(((l * s.T + t) * s.B + q) * s.n)], s.n, &alone.b[at((l * s.T + t) * s.n)]);
      }
    }
    for (std::int64_t l = 0; l < s.lead; ++l) std::copy_n(&p.h0[at((l * s.B + q) * s.n)], s.n, &alone.h0[at(l * s.n)]);
    const std::vector<T> h = alone.run();
    bool equal = true;
    for (std::int64_t l = 0; l < s.lead; ++l) {
      for (std::int64_t t = 0; t < s.T; ++t) {
        equal = equal && std::memcmp(&h[at((l * s.T + t) * s.n)], &one[at(((l * s.T + t) * s.B + q) * s.n)],
                                     at(s.n) * sizeof(T)) == 0;
      }
    }
    CHECK(equal);
  }
}

}  // namespace

TEST_CASE("affine_scan kernels: dense matrices equal the naive recurrence") {
  for (const std::int64_t n : {1, 2, 3, 4, 5, 8, 16, 17, 33}) {
    for (const std::int64_t b : {1, 3, 19}) {
      for (const std::int64_t t : {1, 2, 17}) {
        check<float>({.T = t, .B = b, .n = n});
        check<double>({.T = t, .B = b, .n = n});
      }
    }
  }
}

TEST_CASE("affine_scan kernels: extra right-hand sides share A") {
  for (const std::int64_t n : {1, 2, 4, 6, 20}) {
    for (const std::int64_t lead : {2, 5, 9}) {
      for (const std::int64_t b : {1, 3, 16}) {
        check<float>({.T = 12, .B = b, .n = n, .lead = lead});
        check<double>({.T = 12, .B = b, .n = n, .lead = lead});
      }
    }
  }
}

TEST_CASE("affine_scan kernels: a lone sequence in chunks equals the naive recurrence") {
  for (const std::int64_t n : {1, 2, 3, 4}) {
    for (const std::int64_t t : {4095, 4096, 4225}) {
      check<float>({.T = t, .B = 1, .n = n});
      check<double>({.T = t, .B = 1, .n = n});
    }
  }
}

TEST_CASE("affine_scan kernels: diagonal and block matrices equal the naive recurrence") {
  for (const std::int64_t block : {1, 2, 3, 4}) {
    for (const std::int64_t blocks : {1, 3, 21}) {
      for (const std::int64_t lead : {1, 3}) {
        for (const std::int64_t b : {1, 5}) {
          check<float>({.T = 11, .B = b, .n = block * blocks, .lead = lead, .block = block});
          check<double>({.T = 11, .B = b, .n = block * blocks, .lead = lead, .block = block});
        }
      }
    }
  }
  check<float>({.T = 9, .B = 3, .n = 1100, .block = 1});  // several column pieces
}

TEST_CASE("affine_scan kernels: a long diagonal scan past the streaming limit stays correct") {
  // 36 MB of output. Only the ends are compared: the recurrence forgets its start within 400 steps.
  for (const bool reversed : {false, true}) {
    const std::int64_t t = 9'000'000;
    ScanShape s{.T = t, .B = 1, .n = 1, .block = 1, .reversed = reversed};
    const Problem<float> p(s);
    const std::vector<float> h = p.run();
    double state = 0;
    for (std::int64_t i = t - 2000; i < t; ++i) {
      const std::size_t k = at(reversed ? t - 1 - i : i);
      state = static_cast<double>(p.a[k]) * state + static_cast<double>(p.b[k]);
      if (i >= t - 1000 && !(std::abs(state - static_cast<double>(h[k])) < 1e-5 * (1 + std::abs(state)))) {
        FAIL("step " << i << ": " << state << " against " << h[k]);
      }
    }
    CHECK(std::isfinite(state));
  }
}

TEST_CASE("affine_scan kernels: bits depend neither on threads nor on the batch around a sequence") {
  for (const std::int64_t n : {1, 2, 3, 4, 7, 8, 16, 20}) {
    for (const std::int64_t lead : {1, 2}) {
      for (const ScanShape& s : directions({.T = 30, .B = 37, .n = n, .lead = lead})) {
        check_alone<float>(s);
        check_alone<double>(s);
      }
    }
  }
  for (const std::int64_t n : {1, 2, 3, 4}) {
    const Problem<float> p({.T = 5000, .B = 1, .n = n});
    std::vector<float> one, three;
    {
      const NumThreadsGuard guard(1);
      one = p.run();
    }
    {
      const NumThreadsGuard guard(3);
      three = p.run();
    }
    CHECK(same_bits(one, three));
  }
}

TEST_CASE("affine_scan kernels: long scans of few sequences, whose tiles of time go from thread to thread") {
  for (const ScanShape& shape : {ScanShape{.T = 1201, .B = 13, .n = 8}, ScanShape{.T = 555, .B = 7, .n = 16},
                                 ScanShape{.T = 4001, .B = 3, .n = 7}, ScanShape{.T = 90000, .B = 1, .n = 5}}) {
    const NumThreadsGuard guard(3);
    check<float>(shape);
    check<double>(shape);
    for (const ScanShape& s : directions(shape)) {
      const Problem<float> p(s);
      const std::vector<float> three = p.run();
      const NumThreadsGuard alone(1);
      CHECK(same_bits(three, p.run()));
    }
  }
}

TEST_CASE("affine_scan kernels: the shifted, transposed, reversed scan is the adjoint") {
  // <g, scan(b)> = <adjoint(g), b> for zero initial state.
  for (const std::int64_t block : {0, 1, 2, 3, 4}) {
    const std::int64_t n = block == 0 ? 5 : 3 * block;
    const Problem<double> p({.T = 20, .B = 3, .n = n, .block = block});
    Problem<double> q = p;
    std::mt19937 engine(9);
    std::normal_distribution<double> normal;
    for (double& e : q.b) e = normal(engine);
    q.s.reversed = q.s.shift_a = q.s.transposed = true;
    const std::vector<double> h = p.run(false), lambda = q.run(false);
    double left = 0, right = 0;
    for (std::size_t i = 0; i < h.size(); ++i) {
      left += q.b[i] * h[i];
      right += lambda[i] * p.b[i];
    }
    CHECK(std::abs(left - right) < 1e-12 * (1 + std::abs(left)));
  }
}

TEST_CASE("affine_scan kernels: NaN stays in its own sequence and reaches all later steps") {
  for (const std::int64_t n : {1, 2, 4, 6, 18}) {
    Problem<float> p({.T = 10, .B = 9, .n = n});
    p.b[at((4 * 9 + 3) * n)] = std::numeric_limits<float>::quiet_NaN();
    const std::vector<float> h = p.run();
    CHECK(std::isfinite(h[at((3 * 9 + 3) * n)]));
    CHECK(std::isnan(h[at((9 * 9 + 3) * n)]));
    CHECK(std::isfinite(h[at((9 * 9 + 2) * n)]));
    CHECK(std::isfinite(h[at((9 * 9 + 4) * n)]));
  }
}
