#include "solvent/solvers/cpu/gru_shooting.h"

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
using solvent::cpu::gru_forward;
using solvent::cpu::gru_newton;
using solvent::cpu::gru_shooting;
using solvent::cpu::GruNewtonOptions;
using solvent::cpu::GruShape;
using solvent::cpu::GruShootingOptions;
using solvent::cpu::GruSolveReport;
using solvent::cpu::GruWeights;

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

/// A random layer; `recurrent` scales the recurrent weights (1: contracting, 3 and more: not).
template <class T>
struct Layer {
  GruShape s;
  std::vector<T> w_ih, w_hh, b, b_hn, xs, h0;

  explicit Layer(GruShape shape, double recurrent = 1) : s(shape) {
    std::mt19937 engine(5);
    std::normal_distribution<double> normal;
    const auto fill = [&](std::vector<T>& v, std::int64_t n, double scale) {
      v.resize(at(n));
      for (T& e : v) e = static_cast<T>(normal(engine) * scale);
    };
    fill(w_ih, 3 * s.H * s.I, 1 / std::sqrt(static_cast<double>(s.I)));
    fill(w_hh, 3 * s.H * s.H, recurrent / std::sqrt(static_cast<double>(s.H)));
    fill(b, 3 * s.H, 0.1);
    fill(b_hn, s.H, 0.1);
    fill(xs, s.T * s.B * s.I, 1);
    fill(h0, s.B * s.H, 0.5);
  }

  GruWeights<T> weights() const { return {w_ih.data(), w_hh.data(), b.data(), b_hn.data()}; }

  std::vector<T> sequential() const {
    std::vector<T> hs(at(s.T * s.B * s.H));
    gru_forward<T>(s, weights(), xs.data(), h0.data(), hs.data(), nullptr);
    return hs;
  }

  GruSolveReport shoot(const GruShootingOptions& options, std::vector<T>& hs) const {
    hs.assign(at(s.T * s.B * s.H), T{-9});
    return gru_shooting<T>(s, weights(), xs.data(), h0.data(), hs.data(), options);
  }

  GruSolveReport newton(const GruNewtonOptions& options, std::vector<T>& hs) const {
    hs.assign(at(s.T * s.B * s.H), T{-9});
    return gru_newton<T>(s, weights(), xs.data(), h0.data(), hs.data(), options);
  }

  /// One sequence of the batch.
  Layer alone(std::int64_t sequence) const {
    Layer one({s.T, 1, s.I, s.H});
    one.w_ih = w_ih, one.w_hh = w_hh, one.b = b, one.b_hn = b_hn;
    for (std::int64_t t = 0; t < s.T; ++t) {
      std::copy_n(&xs[at((t * s.B + sequence) * s.I)], s.I, &one.xs[at(t * s.I)]);
    }
    std::copy_n(&h0[at(sequence * s.H)], s.H, one.h0.data());
    return one;
  }
};

template <class T>
double distance(const std::vector<T>& a, const std::vector<T>& b) {
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double diff = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!(diff <= worst)) worst = diff;
    if (std::isnan(worst)) return worst;
  }
  return worst;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

template <class T>
constexpr double kTolerance = sizeof(T) == 4 ? 1e-6 : 1e-12;

}  // namespace

TEST_CASE("gru shooting: contracting cells converge in few passes to the sequential states") {
  for (const std::int64_t h : {1, 2, 3, 4, 5, 8, 16, 17}) {
    for (const std::int64_t b : {1, 3, 16}) {
      for (const std::int64_t t : {1, 63, 700, 3000}) {
        const Layer<float> layer({t, b, h % 2 == 0 ? h : 3, h});
        std::vector<float> hs;
        const GruSolveReport report = layer.shoot({}, hs);
        CAPTURE(h, b, t, report.passes, report.chunks);
        CHECK(report.converged());
        CHECK(report.passes <= 3);
        CHECK(report.residual.size() == at(b));
        // An error at a border fades inside the chunk, so it bounds the error of all states of a contracting cell.
        CHECK(distance(hs, layer.sequential()) < 1e-5);
      }
    }
  }
}

TEST_CASE("gru shooting: with zero tolerance the states have the bits of the sequential kernel") {
  for (const std::int64_t h : {1, 2, 3, 4, 7, 16, 20}) {
    for (const std::int64_t b : {1, 5}) {
      for (const double scale : {1.0, 4.0}) {
        const Layer<float> layer({400, b, 2, h}, scale);
        std::vector<float> hs;
        GruShootingOptions options;
        options.atol = 0;
        options.chunk = 30;  // 13 chunks and 10 steps left over
        options.burn_in = 10;
        const GruSolveReport report = layer.shoot(options, hs);
        CAPTURE(h, b, scale, report.passes);
        CHECK(report.passes <= 13);
        CHECK(report.residual[0] == 0);
        CHECK(report.converged());
        CHECK(same_bits(hs, layer.sequential()));
      }
    }
  }
  const Layer<double> layer({400, 3, 2, 6}, 3);
  std::vector<double> hs;
  GruShootingOptions options;
  options.atol = 0;
  options.chunk = 16;
  options.burn_in = 0;
  CHECK(layer.shoot(options, hs).converged());
  CHECK(same_bits(hs, layer.sequential()));
}

TEST_CASE("gru shooting: too few passes are reported by the certificate") {
  const Layer<float> layer({2000, 2, 2, 4}, 8);
  std::vector<float> hs;
  GruShootingOptions options;
  options.chunk = 20;
  options.burn_in = 0;
  options.max_passes = 1;
  const GruSolveReport report = layer.shoot(options, hs);
  CHECK(report.passes == 1);
  CHECK(report.max_passes == 1);
  CHECK_FALSE(report.converged());
  CHECK(report.residual[0] > 1e-3);
}

TEST_CASE("gru newton: equals the sequential states, with the defect it reports") {
  for (const std::int64_t h : {1, 2, 3, 4, 5, 8, 9, 16}) {
    for (const std::int64_t b : {1, 3}) {
      for (const std::int64_t t : {1, 64, 100, 1000}) {
        const auto check = [&](auto zero) {
          using T = decltype(zero);
          const Layer<T> layer({t, b, h % 2 == 0 ? h : 3, h});
          std::vector<T> hs;
          GruNewtonOptions options;
          options.atol = kTolerance<T>;
          const GruSolveReport report = layer.newton(options, hs);
          CAPTURE(h, b, t, report.passes, report.windows, report.residual[0], sizeof(T));
          CHECK(report.converged());
          CHECK(report.passes <= 20);
          CHECK(distance(hs, layer.sequential()) < 10 * kTolerance<T>);
          // The reported defect bounds the one recomputed by evaluating the cell on the returned states.
          double worst = 0;
          for (std::int64_t step = 1; step < t; ++step) {
            std::vector<T> f(at(b * h));
            gru_forward<T>({1, b, layer.s.I, h}, layer.weights(), &layer.xs[at(step * b * layer.s.I)],
                           &hs[at((step - 1) * b * h)], f.data(), nullptr);
            for (std::int64_t i = 0; i < b * h; ++i) {
              worst =
                  solvent::testing::larger(worst, std::abs(static_cast<double>(f[at(i)] - hs[at(step * b * h + i)])));
            }
          }
          CHECK(worst <= 2 * options.atol);
        };
        check(0.0f);
        check(0.0);
      }
    }
  }
}

TEST_CASE("gru newton: small windows give the same fixed point and count their steps") {
  const Layer<double> layer({2000, 1, 2, 2});
  std::vector<double> whole, windows;
  GruNewtonOptions options;
  options.atol = 1e-12;
  const GruSolveReport one = layer.newton(options, whole);
  options.window = 256;
  const GruSolveReport many = layer.newton(options, windows);
  CHECK(one.windows == 1);
  CHECK(many.windows == 8);
  CHECK(many.steps >= many.windows);
  CHECK(many.steps <= many.windows * many.passes);
  CHECK(distance(whole, windows) < 1e-10);
}

TEST_CASE("gru newton: strongly coupled cells converge by the growing exact prefix") {
  const Layer<double> layer({256, 2, 2, 3}, 5);
  std::vector<double> hs;
  GruNewtonOptions options;
  options.atol = 1e-11;
  const GruSolveReport report = layer.newton(options, hs);
  CAPTURE(report.passes, report.residual[0]);
  CHECK(report.converged());
  CHECK(report.passes <= 256);
  CHECK(distance(hs, layer.sequential()) < 1e-7);
}

TEST_CASE("gru newton: too few steps are reported, and a tolerance below rounding ends as stalled") {
  const Layer<float> layer({640, 1, 2, 4});
  std::vector<float> hs;
  GruNewtonOptions options;
  options.max_steps = 1;
  const GruSolveReport few = layer.newton(options, hs);
  CHECK(few.passes == 1);
  CHECK_FALSE(few.converged());
  CHECK(few.residual[0] > 1e-4);
  options.max_steps = 0;
  options.atol = 1e-12;
  const GruSolveReport stalled = layer.newton(options, hs);
  CHECK_FALSE(stalled.converged());
  CHECK(stalled.passes < 30);
  CHECK(stalled.residual[0] < 1e-6);
}

TEST_CASE("gru fused solvers: bits depend neither on threads nor on the batch around a sequence") {
  for (const std::int64_t h : {1, 2, 4, 6}) {
    const Layer<float> layer({1500, 5, 2, h});
    std::vector<float> one, three;
    const auto same = [&](auto solve) {
      {
        const NumThreadsGuard guard(1);
        solve(layer, one);
      }
      {
        const NumThreadsGuard guard(3);
        solve(layer, three);
      }
      CHECK(same_bits(one, three));
    };
    const auto newton = [](const Layer<float>& l, std::vector<float>& hs) { l.newton({}, hs); };
    same([](const Layer<float>& l, std::vector<float>& hs) { l.shoot({}, hs); });
    same(newton);
    for (const std::int64_t b : {0, 4}) {
      std::vector<float> alone;
      newton(layer.alone(b), alone);
      bool equal = true;
      for (std::int64_t t = 0; t < 1500; ++t) {
        equal = equal && std::memcmp(&alone[at(t * h)], &one[at((t * 5 + b) * h)], at(h) * sizeof(float)) == 0;
      }
      CHECK(equal);
    }
  }
}

TEST_CASE("gru fused solvers: a NaN is reported for its sequence and never as success") {
  for (const std::int64_t when : {0, 500, 1279, 1290}) {
    for (const std::int64_t h : {1, 4, 8}) {
      Layer<float> layer({1300, 3, 2, h});
      layer.xs[at((when * 3 + 1) * 2)] = std::numeric_limits<float>::quiet_NaN();
      const auto check = [&](const GruSolveReport& report, const std::vector<float>& hs) {
        CAPTURE(when, h, report.passes);
        CHECK(std::isnan(report.ratio[1]));
        CHECK(std::isnan(report.residual[1]));
        CHECK_FALSE(report.converged());
        CHECK(report.ratio[0] <= 1);
        CHECK(report.ratio[2] <= 1);
        if (when > 0) CHECK(std::isfinite(hs[at(((when - 1) * 3 + 1) * h)]));
        CHECK(std::isnan(hs[at((when * 3 + 1) * h)]));
        CHECK(std::isnan(hs[at((1299 * 3 + 1) * h)]));
        CHECK(std::isfinite(hs[at((1299 * 3 + 2) * h)]));
      };
      std::vector<float> hs;
      const GruSolveReport shooting = layer.shoot({}, hs);
      check(shooting, hs);
      const GruSolveReport newton = layer.newton({}, hs);
      check(newton, hs);
      CHECK(newton.passes <= 30);
    }
  }
}
