#include "solvent/ops/cpu/gru_kernels.h"

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
using solvent::cpu::gru_backward;
using solvent::cpu::gru_cell_jacobian;
using solvent::cpu::gru_forward;
using solvent::cpu::gru_input_projection;
using solvent::cpu::GruGradients;
using solvent::cpu::GruJacobianLayout;
using solvent::cpu::GruShape;
using solvent::cpu::GruWeights;

std::size_t count(std::int64_t n) { return static_cast<std::size_t>(n); }

/// Weights, inputs, states and cotangents of one problem, with fixed pseudo-random values.
template <class T>
struct Problem {
  GruShape s;
  std::vector<T> w_ih, w_hh, b, b_hn, xs, h0, g_hs;

  explicit Problem(GruShape shape, unsigned seed = 1) : s(shape) {
    std::mt19937 engine(seed);
    std::normal_distribution<double> normal;
    const auto fill = [&](std::vector<T>& v, std::int64_t n, double scale) {
      v.resize(count(n));
      for (T& e : v) e = static_cast<T>(normal(engine) * scale);
    };
    const double hidden_scale = 1 / std::sqrt(static_cast<double>(s.H));
    fill(w_ih, 3 * s.H * s.I, 1 / std::sqrt(static_cast<double>(s.I)));
    fill(w_hh, 3 * s.H * s.H, hidden_scale);
    fill(b, 3 * s.H, 0.3);
    fill(b_hn, s.H, 0.3);
    fill(xs, s.T * s.B * s.I, 1);
    fill(h0, s.B * s.H, 0.5);
    fill(g_hs, s.T * s.B * s.H, 1);
  }

  GruWeights<T> weights() const { return {w_ih.data(), w_hh.data(), b.data(), b_hn.data()}; }
};

template <class T>
std::vector<double> widen(const std::vector<T>& v) {
  return std::vector<double>(v.begin(), v.end());
}

/// The naive twin: scalar double loops straight from the formulas, with a hand-written backward pass through time.
struct Naive {
  GruShape s;
  std::vector<double> w_ih, w_hh, b, b_hn, xs, h0;
  std::vector<double> hs, r, z, n, q;

  template <class T>
  explicit Naive(const Problem<T>& p)
      : s(p.s),
        w_ih(widen(p.w_ih)),
        w_hh(widen(p.w_hh)),
        b(widen(p.b)),
        b_hn(widen(p.b_hn)),
        xs(widen(p.xs)),
        h0(widen(p.h0)) {}

  static double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
  const double* previous(std::int64_t t, std::int64_t batch) const {
    return t == 0 ? &h0[count(batch * s.H)] : &hs[count(((t - 1) * s.B + batch) * s.H)];
  }

  void forward() {
    for (auto* v : {&hs, &r, &z, &n, &q}) v->assign(count(s.T * s.B * s.H), 0.0);
    for (std::int64_t t = 0; t < s.T; ++t) {
      for (std::int64_t batch = 0; batch < s.B; ++batch) {
        const double* h = previous(t, batch);
        for (std::int64_t i = 0; i < s.H; ++i) {
          double in[3], rec[3];
          for (std::int64_t g = 0; g < 3; ++g) {
            in[g] = b[count(g * s.H + i)];
            rec[g] = 0;
            for (std::int64_t k = 0; k < s.I; ++k) {
              in[g] += w_ih[count((g * s.H + i) * s.I + k)] * xs[count((t * s.B + batch) * s.I + k)];
            }
            for (std::int64_t k = 0; k < s.H; ++k) rec[g] += w_hh[count((g * s.H + i) * s.H + k)] * h[k];
          }
          const std::size_t e = count((t * s.B + batch) * s.H + i);
          r[e] = sigmoid(in[0] + rec[0]);
          z[e] = sigmoid(in[1] + rec[1]);
          q[e] = rec[2] + b_hn[count(i)];
          n[e] = std::tanh(in[2] + r[e] * q[e]);
          hs[e] = (1 - z[e]) * n[e] + z[e] * h[i];
        }
      }
    }
  }

  struct Grads {
    std::vector<double> xs, h0, w_ih, w_hh, b, b_hn;
  };

  Grads backward(const std::vector<double>& g_hs) const {
    Grads d;
    d.xs.assign(xs.size(), 0), d.h0.assign(h0.size(), 0), d.w_ih.assign(w_ih.size(), 0);
    d.w_hh.assign(w_hh.size(), 0), d.b.assign(b.size(), 0), d.b_hn.assign(b_hn.size(), 0);
    std::vector<double> carry(h0.size(), 0.0);
    for (std::int64_t t = s.T - 1; t >= 0; --t) {
      std::vector<double> next(h0.size(), 0.0);
      for (std::int64_t batch = 0; batch < s.B; ++batch) {
        const double* h = previous(t, batch);
        for (std::int64_t i = 0; i < s.H; ++i) {
          const std::size_t e = count((t * s.B + batch) * s.H + i);
          const double dh = g_hs[e] + carry[count(batch * s.H + i)];
          const double dn = dh * (1 - z[e]) * (1 - n[e] * n[e]);
          const double dz = dh * (h[i] - n[e]) * z[e] * (1 - z[e]);
          const double dr = dn * q[e] * r[e] * (1 - r[e]);
          const double in[3] = {dr, dz, dn}, rec[3] = {dr, dz, dn * r[e]};
          next[count(batch * s.H + i)] += dh * z[e];
          d.b_hn[count(i)] += rec[2];
          for (std::int64_t g = 0; g < 3; ++g) {
            const std::int64_t row = g * s.H + i;
            d.b[count(row)] += in[g];
            for (std::int64_t k = 0; k < s.I; ++k) {
              const std::size_t x = count((t * s.B + batch) * s.I + k), w = count(row * s.I + k);
              d.w_ih[w] += in[g] * xs[x];
              d.xs[x] += in[g] * w_ih[w];
            }
            for (std::int64_t k = 0; k < s.H; ++k) {
              const std::size_t w = count(row * s.H + k);
              d.w_hh[w] += rec[g] * h[k];
              next[count(batch * s.H + k)] += rec[g] * w_hh[w];
            }
          }
        }
      }
      carry = next;
    }
    d.h0 = carry;
    return d;
  }
};

/// Largest error relative to 1 + the largest magnitude of the reference.
template <class T>
double error(const std::vector<T>& got, const std::vector<double>& expected) {
  REQUIRE(got.size() == expected.size());
  double worst = 0, scale = 1;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double diff = std::abs(static_cast<double>(got[i]) - expected[i]);
    worst = solvent::testing::larger(worst, diff);
    scale = std::max(scale, std::abs(expected[i]));
  }
  return worst / scale;
}

// About ten rounding errors of contracting steps, plus those of gradient sums over up to 2000 rows.
template <class T>
constexpr double kTolerance = sizeof(T) == 4 ? 5e-6 : 1e-14;

template <class T>
struct Result {
  std::vector<T> hs, gates, d_xs, d_h0, d_w_ih, d_w_hh, d_b, d_b_hn;
};

template <class T>
Result<T> run(const Problem<T>& p, bool saved) {
  Result<T> out;
  out.hs.assign(p.g_hs.size(), T{-7});
  if (saved) out.gates.assign(4 * p.g_hs.size(), T{-7});
  T* gates = saved ? out.gates.data() : nullptr;
  gru_forward(p.s, p.weights(), p.xs.data(), p.h0.data(), out.hs.data(), gates);
  out.d_xs.assign(p.xs.size(), T{-7}), out.d_h0.assign(p.h0.size(), T{-7});
  out.d_w_ih.assign(p.w_ih.size(), T{-7}), out.d_w_hh.assign(p.w_hh.size(), T{-7});
  out.d_b.assign(p.b.size(), T{-7}), out.d_b_hn.assign(p.b_hn.size(), T{-7});
  const GruGradients<T> g{out.d_xs.data(),   out.d_h0.data(), out.d_w_ih.data(),
                          out.d_w_hh.data(), out.d_b.data(),  out.d_b_hn.data()};
  gru_backward<T>(p.s, p.weights(), p.xs.data(), p.h0.data(), out.hs.data(), gates, p.g_hs.data(), g);
  return out;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

template <class T>
void check_against_naive(GruShape shape) {
  const Problem<T> p(shape);
  Naive naive(p);
  naive.forward();
  const auto expected = naive.backward(widen(p.g_hs));
  for (const bool saved : {false, true}) {
    CAPTURE(shape.T, shape.B, shape.I, shape.H, sizeof(T), saved);
    const Result<T> got = run(p, saved);
    CHECK(error(got.hs, naive.hs) < kTolerance<T>);
    CHECK(error(got.d_xs, expected.xs) < kTolerance<T>);
    CHECK(error(got.d_h0, expected.h0) < kTolerance<T>);
    CHECK(error(got.d_w_ih, expected.w_ih) < kTolerance<T>);
    CHECK(error(got.d_w_hh, expected.w_hh) < kTolerance<T>);
    CHECK(error(got.d_b, expected.b) < kTolerance<T>);
    CHECK(error(got.d_b_hn, expected.b_hn) < kTolerance<T>);
  }
}

}  // namespace

TEST_CASE("gru kernels: forward and gradients equal the naive loop for odd sizes") {
  for (const std::int64_t h : {1, 3, 5, 8, 16, 17, 33}) {
    for (const std::int64_t b : {1, 3, 16, 19}) {
      for (const std::int64_t t : {1, 2, 7, 100}) {
        const std::int64_t i = h % 3 == 0 ? h + 2 : (h + 1) / 2;
        check_against_naive<float>({t, b, i, h});
        check_against_naive<double>({t, b, i, h});
      }
    }
  }
}

TEST_CASE("gru kernels: one step of many rows (a batched cell) equals the naive loop") {
  check_against_naive<float>({1, 1000, 3, 5});
  check_against_naive<double>({1, 1000, 3, 16});
  check_against_naive<float>({3, 300, 20, 24});
}

TEST_CASE("gru kernels: gradients equal central differences") {
  Problem<double> p({6, 3, 2, 5});
  const Result<double> got = run(p, false);
  const auto loss = [&p] {
    std::vector<double> hs(p.g_hs.size());
    gru_forward<double>(p.s, p.weights(), p.xs.data(), p.h0.data(), hs.data(), nullptr);
    double sum = 0;
    for (std::size_t i = 0; i < hs.size(); ++i) sum += hs[i] * p.g_hs[i];
    return sum;
  };
  const auto check = [&](std::vector<double>& values, const std::vector<double>& gradient) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      constexpr double kEps = 1e-6;
      const double original = values[i];
      values[i] = original + kEps;
      const double up = loss();
      values[i] = original - kEps;
      const double down = loss();
      values[i] = original;
      CHECK(std::abs(gradient[i] - (up - down) / (2 * kEps)) < 1e-7 * (1 + std::abs(gradient[i])));
    }
  };
  check(p.xs, got.d_xs);
  check(p.h0, got.d_h0);
  check(p.w_ih, got.d_w_ih);
  check(p.w_hh, got.d_w_hh);
  check(p.b, got.d_b);
  check(p.b_hn, got.d_b_hn);
}

TEST_CASE("gru kernels: bits do not depend on the number of threads") {
  for (const GruShape shape : {GruShape{50, 37, 5, 7}, GruShape{40, 16, 16, 16}, GruShape{1, 500, 4, 33}}) {
    const Problem<float> p(shape);
    for (const bool saved : {false, true}) {
      Result<float> one, three;
      {
        const NumThreadsGuard guard(1);
        one = run(p, saved);
      }
      {
        const NumThreadsGuard guard(3);
        three = run(p, saved);
      }
      CHECK(same_bits(one.hs, three.hs));
      CHECK(same_bits(one.gates, three.gates));
      CHECK(same_bits(one.d_xs, three.d_xs));
      CHECK(same_bits(one.d_h0, three.d_h0));
      CHECK(same_bits(one.d_w_ih, three.d_w_ih));
      CHECK(same_bits(one.d_w_hh, three.d_w_hh));
      CHECK(same_bits(one.d_b, three.d_b));
      CHECK(same_bits(one.d_b_hn, three.d_b_hn));
    }
  }
}

TEST_CASE("gru kernels: a sequence's states have the same bits alone and in any batch") {
  for (const std::int64_t h : {1, 2, 3, 4, 8, 16, 24, 33}) {
    const Problem<float> p({70, 21, 3, h});
    const Result<float> all = run(p, false);
    for (const std::int64_t b : {0, 1, 7, 8, 20}) {
      Problem<float> one({70, 1, 3, h});
      one.w_ih = p.w_ih, one.w_hh = p.w_hh, one.b = p.b, one.b_hn = p.b_hn;
      one.h0.assign(p.h0.begin() + b * h, p.h0.begin() + (b + 1) * h);
      for (std::int64_t t = 0; t < 70; ++t) {
        for (std::int64_t i = 0; i < 3; ++i) one.xs[count(t * 3 + i)] = p.xs[count((t * 21 + b) * 3 + i)];
      }
      std::vector<float> hs(count(70 * h)), expected(count(70 * h));
      gru_forward<float>(one.s, one.weights(), one.xs.data(), one.h0.data(), hs.data(), nullptr);
      for (std::int64_t t = 0; t < 70; ++t) {
        for (std::int64_t i = 0; i < h; ++i) expected[count(t * h + i)] = all.hs[count((t * 21 + b) * h + i)];
      }
      CAPTURE(h, b);
      CHECK(same_bits(hs, expected));
    }
  }
}

TEST_CASE("gru kernels: a missing initial state means zeros and missing outputs are skipped") {
  Problem<float> p({9, 3, 2, 5});
  std::fill(p.h0.begin(), p.h0.end(), 0.0f);
  const Result<float> full = run(p, false);
  std::vector<float> hs(p.g_hs.size());
  gru_forward<float>(p.s, p.weights(), p.xs.data(), nullptr, hs.data(), nullptr);
  CHECK(same_bits(hs, full.hs));
  std::vector<float> d_w_hh(p.w_hh.size()), d_b_hn(p.b_hn.size());
  GruGradients<float> only;
  only.d_w_hh = d_w_hh.data();
  only.d_b_hn = d_b_hn.data();
  gru_backward<float>(p.s, p.weights(), p.xs.data(), nullptr, hs.data(), nullptr, p.g_hs.data(), only);
  CHECK(same_bits(d_w_hh, full.d_w_hh));
  CHECK(same_bits(d_b_hn, full.d_b_hn));
}

TEST_CASE("gru kernels: NaN and infinite inputs are never turned into ordinary numbers") {
  for (const std::int64_t h : {1, 4, 8, 33}) {
    for (const std::int64_t batch : {1, 9, 16}) {
      for (const std::uint32_t payload : {0x7fc00000u, 0x7fc00001u, 0xffffffffu}) {
        Problem<float> p({5, batch, 2, h});
        float nan = 0;
        std::memcpy(&nan, &payload, sizeof nan);
        p.xs[count(2 * batch * 2)] = nan;  // step 2, sequence 0
        const Result<float> got = run(p, false);
        CAPTURE(h, batch, payload);
        for (std::int64_t i = 0; i < h; ++i) {
          CHECK(std::isfinite(got.hs[count((1 * batch) * h + i)]));
          CHECK(std::isnan(got.hs[count((2 * batch) * h + i)]));
          CHECK(std::isnan(got.hs[count((4 * batch) * h + i)]));
          if (batch > 1) CHECK(std::isfinite(got.hs[count((4 * batch + 1) * h + i)]));
        }
        CHECK(std::isnan(got.d_b[0]));
      }
    }
  }
  // Saturated gates are exact: z = 1 keeps the state, z = 0 and n = +-1 replace it.
  Problem<float> p({1, 1, 1, 1});
  p.w_ih = {0, 0, 0}, p.w_hh = {0, 0, 0}, p.b_hn = {0}, p.xs = {0}, p.h0 = {0.25f};
  float h = 0;
  for (const float big : {1e4f, std::numeric_limits<float>::infinity()}) {
    p.b = {0, big, big};
    gru_forward<float>(p.s, p.weights(), p.xs.data(), p.h0.data(), &h, nullptr);
    CHECK(h == 0.25f);
    p.b = {0, -big, -big};
    gru_forward<float>(p.s, p.weights(), p.xs.data(), p.h0.data(), &h, nullptr);
    CHECK(h == -1.0f);
  }
}

TEST_CASE("gru kernels: zero weights and state stay exactly zero") {
  Problem<double> p({20, 2, 3, 6});
  for (auto* v : {&p.w_ih, &p.w_hh, &p.b, &p.b_hn, &p.h0}) std::fill(v->begin(), v->end(), 0.0);
  const Result<double> got = run(p, false);
  CHECK(std::all_of(got.hs.begin(), got.hs.end(), [](double x) { return x == 0; }));
}

TEST_CASE("gru kernels: agrees with torch.nn.GRU") {
  // torch 2.x, torch.nn.GRU(2, 3, dtype=float64): weight_ih[i, j] = sin(1 + 2i + j) / 2, weight_hh[i, j] =
  // cos(3 + i + 2j) / 2, bias_ih[i] = i / 20, bias_hh[i] = (i - 4) / 10, x[t, 0, j] = cos(t + j), h0[0, 0, j] = j / 4.
  // bias_hh of r and z is added to bias_ih (b), that of n is b_hn.
  Problem<double> p({4, 1, 2, 3});
  for (int i = 0; i < 9; ++i) {
    for (int j = 0; j < 2; ++j) p.w_ih[count(i * 2 + j)] = std::sin(1.0 + 2 * i + j) / 2;
    for (int j = 0; j < 3; ++j) p.w_hh[count(i * 3 + j)] = std::cos(3.0 + i + 2 * j) / 2;
    p.b[count(i)] = i / 20.0 + (i < 6 ? (i - 4) / 10.0 : 0.0);
  }
  for (int i = 0; i < 3; ++i) p.b_hn[count(i)] = (i + 2) / 10.0, p.h0[count(i)] = i / 4.0;
  for (int t = 0; t < 4; ++t) {
    for (int j = 0; j < 2; ++j) p.xs[count(t * 2 + j)] = std::cos(t + j);
  }
  std::fill(p.g_hs.begin(), p.g_hs.end(), 1.0);
  const Result<double> got = run(p, false);
  const std::vector<double> hs = {0.30928626534924736,   0.43782857057258129, 0.12772128552084941,
                                  0.28054050446985229,   0.52505340209546492, 0.3109469880867719,
                                  -0.040906921575839972, 0.52855526811316567, 0.48983109641438177,
                                  -0.080735894836497263, 0.46520995686250632, 0.59538087158461284};
  const std::vector<double> d_xs = {-0.53193362949061718,  -0.55134793279295036, -0.047380646334859722,
                                    -0.033450779334825875, 0.38504731520973617,  0.30286229506519569,
                                    0.33706675066508907,   0.28420360550517837};
  const std::vector<double> d_b_hn = {0.74678718036562797, 1.109060652239044, 0.81052579023277849};
  CHECK(error(got.hs, hs) < 1e-14);
  CHECK(error(got.d_xs, d_xs) < 1e-14);
  CHECK(error(got.d_b_hn, d_b_hn) < 1e-14);
}

namespace {

template <class T>
void check_jacobian(std::int64_t rows, std::int64_t h) {
  CAPTURE(rows, h, sizeof(T));
  const Problem<T> p({1, rows, 3, h});
  Naive naive(p);
  naive.forward();
  std::vector<T> xw(count(rows * 3 * h)), f(count(rows * h)), jac(count(rows * h * h)), columns(jac), diagonal(f);
  gru_input_projection<T>(rows, 3, h, p.weights(), p.xs.data(), xw.data());
  gru_cell_jacobian<T>(rows, h, p.weights(), xw.data(), p.h0.data(), f.data(), jac.data(),
                       GruJacobianLayout::row_major);
  gru_cell_jacobian<T>(rows, h, p.weights(), xw.data(), p.h0.data(), nullptr, columns.data(),
                       GruJacobianLayout::column_major);
  gru_cell_jacobian<T>(rows, h, p.weights(), xw.data(), p.h0.data(), nullptr, diagonal.data(),
                       GruJacobianLayout::diagonal);
  CHECK(error(f, naive.hs) < kTolerance<T>);
  std::vector<double> expected(jac.size()), expected_columns(jac.size()), expected_diagonal(f.size());
  for (std::int64_t i = 0; i < h; ++i) {  // row i of J is the gradient of output i
    std::vector<double> g(count(rows * h), 0.0);
    for (std::int64_t r = 0; r < rows; ++r) g[count(r * h + i)] = 1;
    const std::vector<double> d_h0 = naive.backward(g).h0;
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t j = 0; j < h; ++j) {
        expected[count((r * h + i) * h + j)] = expected_columns[count((r * h + j) * h + i)] = d_h0[count(r * h + j)];
      }
      expected_diagonal[count(r * h + i)] = d_h0[count(r * h + i)];
    }
  }
  CHECK(error(jac, expected) < kTolerance<T>);
  CHECK(error(columns, expected_columns) < kTolerance<T>);
  CHECK(error(diagonal, expected_diagonal) < kTolerance<T>);
}

}  // namespace

TEST_CASE("gru kernels: the closed-form Jacobian equals the naive gradients of every output") {
  for (const std::int64_t h : {1, 2, 3, 4, 5, 8, 16, 17, 33}) {
    for (const std::int64_t rows : {1, 5, 70}) {
      check_jacobian<float>(rows, h);
      check_jacobian<double>(rows, h);
    }
  }
}
