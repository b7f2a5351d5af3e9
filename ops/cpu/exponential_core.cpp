// The matrix exponential and phi1 by Pade approximation, scaling and doubling, with Frechet derivatives.
//
// With the numerator and denominator of the diagonal Pade approximant of e^x written as V + U and V - U, U = x P(x^2) odd:
//     e^x = (V - U)^-1 (V + U),    phi1(x) = (e^x - 1) / x = (V - U)^-1 2 P(x^2),
// so phi1 comes out of the same denominator, without dividing by x. Then, `s` times,
//     e^2x = (e^x)^2,    phi1(2x) = (phi1(x) + e^x phi1(x)) / 2.
// Sources: Higham 2005, "The scaling and squaring method for the matrix exponential revisited" (bounds theta_m);
// Al-Mohy & Higham 2009, "A new scaling and squaring algorithm for the matrix exponential" (choice of s by norms of
// powers) and "Computing the Frechet derivative of the matrix exponential" (bounds l_m); Skaflestad & Wright 2009 (phi).
//
// Derivatives: every matrix carries `directions` more, its tangents; (a, da) (b, db) = (ab, a db + da b). The algorithm is
// written once for such jets, so a derivative is that of the algorithm itself, and directions share the value's work.
//
// Two kernels. `large`: one matrix, by GEMM and pivoted LU. `small`: as many matrices as a vector has lanes, interleaved
// element by element, degree 5 or 7: at the norm allowed there, |(V - U) / v_0 - 1| < e^(theta / 2) - 1 < 1, so the
// denominator is diagonally dominant by columns and needs no pivots. What a lane computes does not depend on its neighbours.
// Matrices whose powers are much smaller than their norm (far from normal), where scaling by the norm would cost digits,
// are left to `large`.

#include "solvent/ops/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "solvent/ops/cpu/exponential_core.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "hwy/highway.h"
#include "solvent/core/engine/gemm.h"
#include "solvent/ops/cpu/exponential_kernels.h"
#include "solvent/ops/cpu/factor_kernels.h"
#include "solvent/ops/cpu/row_loops-inl.h"

HWY_BEFORE_NAMESPACE();
namespace solvent::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// --- constants ------------------------------------------------------------------------------------------------------------

constexpr const double* pade(int degree) { return degree == 5 ? kPade5 : degree == 7 ? kPade7 : kPade13; }

// Degrees and largest norms. double: theta_m (values) and l_m (derivatives) of the papers for unit roundoff 2^-53; float:
// theta_5 = 1.88 and theta_7 = 3.93 of Higham 2005 less a margin, in `small` below 2 ln 2.
template <class T>
struct Choice;
template <>
struct Choice<double> {
  static constexpr int kSmallDegree = 7;
  static constexpr double kSmallTheta = 0.95, kSmallThetaDerivative = 0.783;
  static constexpr int kLargeDegree = 13;
  static constexpr double kLargeTheta = 5.37, kLargeThetaDerivative = 4.74;
  static constexpr double kLog2Error = -116.44;  // of the first term of the error: 1 / (C(26, 13) 27!)
};
template <>
struct Choice<float> {
  static constexpr int kSmallDegree = 5;
  static constexpr double kSmallTheta = 1.3, kSmallThetaDerivative = 1.3;
  static constexpr int kLargeDegree = 7;
  static constexpr double kLargeTheta = 3.9, kLargeThetaDerivative = 3.0;
  static constexpr double kLog2Error = -51.99;  // 1 / (C(14, 7) 15!)
};

// Of any vector, in elements of four bytes.
constexpr std::int64_t kMostLanes = 64;

// Halvings after which `norm` is at most `theta`.
inline int halvings_for(double norm, double theta) {
  return norm > theta ? static_cast<int>(std::ceil(std::log2(norm / theta))) : 0;
}

/// Largest sum of magnitudes in a column.
template <class T>
double column_norm(const T* a, std::int64_t n, std::int64_t stride) {
  double largest = 0.0;
  for (std::int64_t j = 0; j < n; ++j) {
    double sum = 0.0;
    for (std::int64_t i = 0; i < n; ++i) sum += std::abs(static_cast<double>(a[(i * n + j) * stride]));
    if (!(sum <= largest)) largest = sum;  // NaN stays
  }
  return largest;
}

// --- arithmetic of jets -----------------------------------------------------------------------------------------------------
// A jet is `parts` matrices one after the other: a value and its tangents. Both kinds have product(), which may add to c
// (T{1}) or not, and solve().

/// One matrix in row-major memory.
template <class T>
struct PlainOps {
  std::int64_t n;
  std::int64_t parts;
  std::int64_t* pivots;
  [[nodiscard]] std::int64_t width() const { return 1; }
  [[nodiscard]] std::int64_t size() const { return n * n; }

  void product(const T* a, const T* b, T* c, bool add) const {
    engine::gemm<T>(false, false, n, n, n, T(1), a, n, b, n, add ? T(1) : T(0), c, n);
  }
  void subtract_product(const T* a, const T* b, T* c) const {
    engine::gemm<T>(false, false, n, n, n, T(-1), a, n, b, n, T(1), c, n);
  }
  void factor(T* d) const { (void)factor_kernels(T{}).lu(d, n, pivots); }
  void substitute(const T* d, T* y) const { factor_kernels(T{}).lu_solve(d, n, pivots, y, n); }
};

/// Lanes<T> matrices, element by element beside each other.
template <class T>
struct LaneOps {
  using D = hn::ScalableTag<T>;
  std::int64_t n;
  std::int64_t parts;
  [[nodiscard]] static HWY_INLINE std::int64_t width() { return static_cast<std::int64_t>(hn::Lanes(D())); }
  [[nodiscard]] HWY_INLINE std::int64_t size() const { return n * n * width(); }

  template <int kColumns, bool kNegative>
  HWY_INLINE void product_block(const T* a, const T* b, T* c, bool add) const {
    const D d;
    const std::int64_t N = width();
    hn::Vec<D> sum[kColumns];
    HWY_UNROLL(4)
    for (int j = 0; j < kColumns; ++j) sum[j] = add ? hn::LoadU(d, c + j * N) : hn::Zero(d);
    for (std::int64_t k = 0; k < n; ++k) {
      const auto left = hn::LoadU(d, a + k * N);
      HWY_UNROLL(4)
      for (int j = 0; j < kColumns; ++j) {
        const auto right = hn::LoadU(d, b + (k * n + j) * N);
        sum[j] = kNegative ? hn::NegMulAdd(left, right, sum[j]) : hn::MulAdd(left, right, sum[j]);
      }
    }
    HWY_UNROLL(4)
    for (int j = 0; j < kColumns; ++j) hn::StoreU(sum[j], d, c + j * N);
  }
  template <bool kNegative>
  HWY_INLINE void multiply(const T* a, const T* b, T* c, bool add) const {
    const std::int64_t N = width();
    for (std::int64_t i = 0; i < n; ++i) {
      const T* row = a + i * n * N;
      T* to = c + i * n * N;
      std::int64_t j = 0;
      for (; j + 4 <= n; j += 4) product_block<4, kNegative>(row, b + j * N, to + j * N, add);
      for (; j < n; ++j) product_block<1, kNegative>(row, b + j * N, to + j * N, add);
    }
  }
  void product(const T* a, const T* b, T* c, bool add) const { multiply<false>(a, b, c, add); }
  void subtract_product(const T* a, const T* b, T* c) const { multiply<true>(a, b, c, true); }

  // row y -= f * row x over `count` elements of each lane
  HWY_INLINE void eliminate(hn::Vec<D> f, const T* x, T* y, std::int64_t count) const {
    const D d;
    const std::int64_t N = width();
    for (std::int64_t j = 0; j < count; ++j)
      hn::StoreU(hn::NegMulAdd(f, hn::LoadU(d, x + j * N), hn::LoadU(d, y + j * N)), d, y + j * N);
  }
  /// LU without pivots; the diagonal of U as reciprocals.
  void factor(T* a) const {
    const D d;
    const std::int64_t N = width();
    for (std::int64_t k = 0; k < n; ++k) {
      T* top = a + k * n * N;
      const auto inverse = hn::Div(hn::Set(d, T(1)), hn::LoadU(d, top + k * N));
      hn::StoreU(inverse, d, top + k * N);
      for (std::int64_t i = k + 1; i < n; ++i) {
        T* row = a + i * n * N;
        const auto f = hn::Mul(hn::LoadU(d, row + k * N), inverse);
        hn::StoreU(f, d, row + k * N);
        eliminate(f, top + (k + 1) * N, row + (k + 1) * N, n - k - 1);
      }
    }
  }
  void substitute(const T* a, T* y) const {
    const D d;
    const std::int64_t N = width();
    for (std::int64_t i = 1; i < n; ++i)
      for (std::int64_t k = 0; k < i; ++k)
        eliminate(hn::LoadU(d, a + (i * n + k) * N), y + k * n * N, y + i * n * N, n);
    for (std::int64_t i = n - 1; i >= 0; --i) {
      T* row = y + i * n * N;
      for (std::int64_t k = i + 1; k < n; ++k) eliminate(hn::LoadU(d, a + (i * n + k) * N), y + k * n * N, row, n);
      const auto inverse = hn::LoadU(d, a + (i * n + i) * N);
      for (std::int64_t j = 0; j < n; ++j) hn::StoreU(hn::Mul(inverse, hn::LoadU(d, row + j * N)), d, row + j * N);
    }
  }
};

/// c = a b as jets
template <class Ops, class T>
void multiply(const Ops& ops, const T* a, const T* b, T* c) {
  const std::int64_t size = ops.size();
  ops.product(a, b, c, false);
  for (std::int64_t p = 1; p < ops.parts; ++p) {
    ops.product(a, b + p * size, c + p * size, false);
    ops.product(a + p * size, b, c + p * size, true);
  }
}

/// y <- d^-1 y as jets; the value of d is destroyed.
template <class Ops, class T>
void solve(const Ops& ops, T* d, T* y) {
  const std::int64_t size = ops.size();
  ops.factor(d);
  ops.substitute(d, y);
  for (std::int64_t p = 1; p < ops.parts; ++p) {
    ops.subtract_product(d + p * size, y, y + p * size);
    ops.substitute(d, y + p * size);
  }
}

template <class T>
struct Term {
  T factor;
  const T* jet;
};

/// to = identity * unit + sum of terms; `to` may be one of them.
template <class Ops, class T, int kTerms>
void combine(const Ops& ops, T* to, double unit, const Term<T> (&terms)[kTerms]) {
  const hn::ScalableTag<T> d;
  const std::int64_t N = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t count = ops.size() * ops.parts;
  std::int64_t i = 0;
  for (; i + N <= count; i += N) {
    auto sum = hn::Mul(hn::Set(d, terms[0].factor), hn::LoadU(d, terms[0].jet + i));
    for (int t = 1; t < kTerms; ++t) sum = hn::MulAdd(hn::Set(d, terms[t].factor), hn::LoadU(d, terms[t].jet + i), sum);
    hn::StoreU(sum, d, to + i);
  }
  for (; i < count; ++i) {
    T sum = terms[0].factor * terms[0].jet[i];
    for (int t = 1; t < kTerms; ++t) sum += terms[t].factor * terms[t].jet[i];
    to[i] = sum;
  }
  const std::int64_t width = ops.width();
  for (std::int64_t j = 0; j < ops.n && unit != 0.0; ++j)
    for (std::int64_t lane = 0; lane < width; ++lane) to[j * (ops.n + 1) * width + lane] += static_cast<T>(unit);
}

/// In lanes that are doubled at this step: to <- other, or with `mean` the mean of both.
template <class Ops, class T>
void take(const Ops& ops, int step, const int* doublings, bool mean, const T* other, T* to) {
  const hn::ScalableTag<T> d;
  const std::int64_t N = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t width = ops.width();
  const std::int64_t count = ops.size() * ops.parts;
  const auto half = hn::Set(d, T(0.5));
  const auto next = [&](std::int64_t i) HWY_ATTR {
    const auto o = hn::LoadU(d, other + i);
    return mean ? hn::Mul(half, hn::Add(o, hn::LoadU(d, to + i))) : o;
  };
  if (std::all_of(doublings, doublings + width, [step](int s) { return step < s; })) {
    std::int64_t i = 0;
    for (; i + N <= count; i += N) hn::StoreU(next(i), d, to + i);
    for (; i < count; ++i) to[i] = mean ? T(0.5) * (other[i] + to[i]) : other[i];
    return;
  }
  T on[kMostLanes];
  for (std::int64_t lane = 0; lane < width; ++lane) on[lane] = step < doublings[lane] ? T(1) : T(0);
  const auto mask = hn::Gt(hn::LoadU(d, on), hn::Zero(d));
  for (std::int64_t i = 0; i < count; i += N)
    hn::StoreU(hn::IfThenElse(mask, next(i), hn::LoadU(d, to + i)), d, to + i);
}

// --- the algorithm ------------------------------------------------------------------------------------------------------------

/// Working memory: kExponentialBuffers jets.
template <class T>
struct Buffers {
  T *x, *x2, *x4, *x6, *odd, *even, *u, *r, *one, *two;
  Buffers(T* work, std::int64_t jet)
      : x(work),
        x2(work + jet),
        x4(work + 2 * jet),
        x6(work + 3 * jet),
        odd(work + 4 * jet),
        even(work + 5 * jet),
        u(work + 6 * jet),
        r(work + 7 * jet),
        one(work + 8 * jet),
        two(work + 9 * jet) {}
};

template <class Ops, class T>
void powers(const Ops& ops, int degree, const Buffers<T>& b) {
  multiply(ops, b.x, b.x, b.x2);
  multiply(ops, b.x2, b.x2, b.x4);
  if (degree > 5) multiply(ops, b.x4, b.x2, b.x6);
}

/// odd = P(x^2) with U = x P, even = V, both divided by v_0.
template <class Ops, class T>
void pade_polynomials(const Ops& ops, int degree, const Buffers<T>& b) {
  const double* p = pade(degree);
  const auto c = [p](int k) { return static_cast<T>(p[k] / p[0]); };
  const double odd_unit = p[1] / p[0];
  if (degree == 5) {
    combine(ops, b.odd, odd_unit, {Term<T>{c(5), b.x4}, {c(3), b.x2}});
    combine(ops, b.even, 1.0, {Term<T>{c(4), b.x4}, {c(2), b.x2}});
  } else if (degree == 7) {
    combine(ops, b.odd, odd_unit, {Term<T>{c(7), b.x6}, {c(5), b.x4}, {c(3), b.x2}});
    combine(ops, b.even, 1.0, {Term<T>{c(6), b.x6}, {c(4), b.x4}, {c(2), b.x2}});
  } else {
    combine(ops, b.one, 0.0, {Term<T>{c(13), b.x6}, {c(11), b.x4}, {c(9), b.x2}});
    multiply(ops, b.x6, b.one, b.odd);
    combine(ops, b.odd, odd_unit, {Term<T>{T(1), b.odd}, {c(7), b.x6}, {c(5), b.x4}, {c(3), b.x2}});
    combine(ops, b.one, 0.0, {Term<T>{c(12), b.x6}, {c(10), b.x4}, {c(8), b.x2}});
    multiply(ops, b.x6, b.one, b.even);
    combine(ops, b.even, 1.0, {Term<T>{T(1), b.even}, {c(6), b.x6}, {c(4), b.x4}, {c(2), b.x2}});
  }
}

/// b.r = f(2^doublings x) from x and its powers; `doublings` has one entry for each lane.
template <class Ops, class T>
void evaluate(const Ops& ops, MatrixFn fn, int degree, const int* doublings, const Buffers<T>& b) {
  pade_polynomials(ops, degree, b);
  multiply(ops, b.x, b.odd, b.u);
  combine(ops, b.one, 0.0, {Term<T>{T(1), b.even}, {T(-1), b.u}});
  if (fn == MatrixFn::exp) {
    combine(ops, b.r, 0.0, {Term<T>{T(1), b.even}, {T(1), b.u}});
  } else {
    combine(ops, b.r, 0.0, {Term<T>{T(2), b.odd}});
  }
  solve(ops, b.one, b.r);
  const int most = *std::max_element(doublings, doublings + ops.width());
  if (fn == MatrixFn::exp) {
    for (int step = 0; step < most; ++step) {
      multiply(ops, b.r, b.r, b.two);
      take(ops, step, doublings, false, b.two, b.r);
    }
    return;
  }
  if (most == 0) return;
  multiply(ops, b.x, b.r, b.u);  // e^x = 1 + x phi1(x)
  combine(ops, b.u, 1.0, {Term<T>{T(1), b.u}});
  for (int step = 0; step < most; ++step) {
    multiply(ops, b.u, b.r, b.two);
    take(ops, step, doublings, true, b.two, b.r);
    if (step + 1 == most) break;
    multiply(ops, b.u, b.u, b.two);
    take(ops, step, doublings, false, b.two, b.u);
  }
}

// --- large ----------------------------------------------------------------------------------------------------------------------

/// log2 of the column norm of |x|^count
template <class T>
double log2_norm_of_power(const T* x, std::int64_t n, int count, T* v, T* w) {
  std::fill(v, v + n, T(1));
  for (int step = 0; step < count; ++step) {
    std::fill(w, w + n, T(0));
    for (std::int64_t i = 0; i < n; ++i) add_magnitudes(n, v[i], x + i * n, w);
    std::swap(v, w);
  }
  return std::log2(static_cast<double>(*std::max_element(v, v + n)));
}

/// Halvings by the norms of powers (Al-Mohy & Higham 2009, algorithms 3.1 and 5.1), for x halved `most` times already,
/// after which its norm is at most theta. At least 0, at most `most`.
template <class T>
int refined_halvings(const Buffers<T>& b, std::int64_t n, int most, double norm, double theta) {
  const auto norm_of = [&](const T* x) { return std::exp2(log2_norm_of_power(x, n, 1, b.one, b.two)); };
  const double fourth = std::pow(norm_of(b.x4), 0.25);
  const double sixth = std::pow(norm_of(b.x6), 1.0 / 6.0);
  const double size = std::max(fourth, sixth);
  int halvings = size > 0.0 ? most + static_cast<int>(std::ceil(std::log2(size / theta))) : 0;
  halvings = std::clamp(halvings, 0, most);
  constexpr int kDegree = Choice<T>::kLargeDegree;
  const double roundoff = std::numeric_limits<T>::digits;
  const double power = log2_norm_of_power(b.x, n, 2 * kDegree + 1, b.one, b.two);
  const double error = Choice<T>::kLog2Error + power - std::log2(norm) + 2.0 * kDegree * (most - halvings) + roundoff;
  if (error > 0.0) halvings += static_cast<int>(std::ceil(error / (2 * kDegree)));
  return std::min(halvings, most);
}

template <class T>
void scale(T* x, std::int64_t count, int exponent) {
  for (std::int64_t i = 0; i < count && exponent != 0; ++i) x[i] = std::scalbn(x[i], exponent);
}

template <class T>
void large(MatrixFn fn, std::int64_t n, std::int64_t directions, const ExponentialTask<T>& task, std::int64_t* pivots,
           T* work) {
  const PlainOps<T> ops{n, 1 + directions, pivots};
  const std::int64_t jet = ops.parts * ops.size();
  const std::int64_t results = std::max<std::int64_t>(directions, 1) * n * n;
  const Buffers<T> b(work, jet);
  const double norm = column_norm(task.a, n, 1);
  if (!std::isfinite(norm)) {
    std::fill(task.out, task.out + results, std::numeric_limits<T>::quiet_NaN());
    return;
  }
  const double theta = directions > 0 ? Choice<T>::kLargeThetaDerivative : Choice<T>::kLargeTheta;
  const int most = halvings_for(norm, theta);
  std::copy_n(task.a, n * n, b.x);
  if (directions > 0) std::copy_n(task.e, directions * n * n, b.x + n * n);
  scale(b.x, jet, -most);
  powers(ops, Choice<T>::kLargeDegree, b);
  int halvings = most;
  if (most > 0) {
    halvings = refined_halvings(b, n, most, std::scalbn(norm, -most), theta);
    scale(b.x, jet, most - halvings);
    scale(b.x2, jet, 2 * (most - halvings));
    scale(b.x4, jet, 4 * (most - halvings));
    scale(b.x6, jet, 6 * (most - halvings));
  }
  evaluate(ops, fn, Choice<T>::kLargeDegree, &halvings, b);
  std::copy_n(directions > 0 ? b.r + n * n : b.r, results, task.out);
}

// --- small ----------------------------------------------------------------------------------------------------------------------

/// Fewer halvings than the norm asks for would have done, by more than this: the lane is left to `large`.
constexpr int kToleratedHalvings = 2;

template <class T>
void small(MatrixFn fn, std::int64_t n, std::int64_t directions, const ExponentialTask<T>* tasks, std::int64_t count,
           bool* redo, T* work) {
  const LaneOps<T> ops{n, 1 + directions};
  const std::int64_t N = ops.width();
  const std::int64_t jet = ops.parts * ops.size();
  const Buffers<T> b(work, jet);
  const double theta = directions > 0 ? Choice<T>::kSmallThetaDerivative : Choice<T>::kSmallTheta;
  int halvings[kMostLanes] = {};
  for (std::int64_t lane = 0; lane < N; ++lane) {
    const ExponentialTask<T>& task = tasks[lane < count ? lane : 0];  // idle lanes repeat the first matrix
    const double norm = column_norm(task.a, n, 1);
    const bool finite = std::isfinite(norm);
    halvings[lane] = finite ? halvings_for(norm, theta) : 0;
    const T factor = finite ? std::scalbn(T(1), -std::min(halvings[lane], 100)) : std::numeric_limits<T>::quiet_NaN();
    for (std::int64_t i = 0; i < n * n; ++i) b.x[i * N + lane] = task.a[i] * factor;
    for (std::int64_t i = 0; i < directions * n * n; ++i) b.x[(n * n + i) * N + lane] = task.e[i] * factor;
    if (lane < count) redo[lane] = halvings[lane] > 100;  // not worth a second factor
  }
  powers(ops, Choice<T>::kSmallDegree, b);
  for (std::int64_t lane = 0; lane < count; ++lane) {
    if (halvings[lane] <= kToleratedHalvings) continue;
    const double fourth = std::pow(column_norm(b.x4 + lane, n, N), 0.25);
    if (fourth < std::scalbn(theta, -kToleratedHalvings - 1)) redo[lane] = true;
  }
  for (std::int64_t lane = 0; lane < N; ++lane)  // lanes to be redone cost the others no doublings
    if (lane >= count || redo[lane]) halvings[lane] = 0;
  evaluate(ops, fn, Choice<T>::kSmallDegree, halvings, b);
  const T* result = directions > 0 ? b.r + ops.size() : b.r;
  for (std::int64_t lane = 0; lane < count; ++lane)
    for (std::int64_t i = 0; i < std::max<std::int64_t>(directions, 1) * n * n; ++i)
      tasks[lane].out[i] = result[i * N + lane];
}

template <class T>
const ExponentialKernels<T>& kernels() {
  static const ExponentialKernels<T> table{LaneOps<T>::width(), small<T>, large<T>};
  return table;
}

const ExponentialKernels<float>& exponential_float() { return kernels<float>(); }
const ExponentialKernels<double>& exponential_double() { return kernels<double>(); }

}  // namespace solvent::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace solvent::cpu {

HWY_EXPORT(exponential_float);
HWY_EXPORT(exponential_double);

const ExponentialKernels<float>& exponential_kernels(float) noexcept {
  return HWY_DYNAMIC_DISPATCH(exponential_float)();
}
const ExponentialKernels<double>& exponential_kernels(double) noexcept {
  return HWY_DYNAMIC_DISPATCH(exponential_double)();
}

}  // namespace solvent::cpu
#endif  // HWY_ONCE
