// Symmetric eigenproblems and singular values of one row-major matrix.
//
// eigh: Householder tridiagonalisation, then the implicit QL iteration with Wilkinson's shift (Golub & Van Loan, Matrix
// Computations, 8.3). The rotations of one sweep are collected and applied to the eigenvectors, kept as rows, in strips
// of columns: a strip stays in cache for all rotations, and strips are independent tasks.
// svd: one-sided Jacobi on the rows of a triangular factor (Drmac & Veselic 2008): unconditionally convergent in
// practice, and small singular values keep their digits. Rounds of disjoint pairs (a tournament) are independent tasks.
// The sequence of operations depends on sizes and values only, never on threads. Nothing here allocates or throws.

#include "solvent/ops/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "solvent/ops/cpu/spectral_core.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <limits>

#include "hwy/highway.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/cpu/factor_kernels.h"
#include "solvent/ops/cpu/row_loops-inl.h"

HWY_BEFORE_NAMESPACE();
namespace solvent::cpu::HWY_NAMESPACE {

// Multiply-adds per task.
constexpr std::int64_t kTaskWork = 1 << 16;
constexpr int kMaxQlSteps = 60;  // per eigenvalue; two or three are usual
constexpr int kMaxSweeps = 60;   // of Jacobi; six to ten are usual
constexpr std::int64_t kStrip = 64;

inline std::int64_t rows_per_task(std::int64_t row_work) {
  return std::max<std::int64_t>(1, kTaskWork / std::max<std::int64_t>(row_work, 1));
}

// --- eigh -----------------------------------------------------------------------------------------------------------------

// a -> tridiagonal with diagonal d and off-diagonal e (e[i] beside d[i] and d[i + 1]); the Householder vector of step k
// stays in row k, columns k + 1 to n - 1, its factor in tau[k].
template <class T>
void tridiagonalise(T* a, std::int64_t n, T* d, T* e, T* tau, T* p) {
  for (std::int64_t k = 0; k + 2 < n; ++k) {
    T* v = a + k * n + k + 1;
    const std::int64_t count = n - k - 1;
    d[k] = a[k * n + k];
    tau[k] = reflector(v, count, 1);
    e[k] = v[0];
    v[0] = T(1);
    if (tau[k] == T(0)) continue;
    T* block = a + (k + 1) * n + k + 1;
    const T factor = tau[k];
    parallel_for(count, rows_per_task(count), [=](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) p[i] = factor * dot_rows(count, block + i * n, v);
    });
    add_row(count, -factor / T(2) * dot_rows(count, p, v), v, p);
    parallel_for(count, rows_per_task(2 * count), [=](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) add_rows(count, -v[i], p, -p[i], v, block + i * n);
    });
  }
  for (std::int64_t k = std::max<std::int64_t>(n - 2, 0); k < n; ++k) d[k] = a[k * n + k];
  if (n >= 2) e[n - 2] = a[(n - 2) * n + n - 1];
  e[n - 1] = T(0);
}

// The transpose of the product of the reflectors.
template <class T>
void accumulate_reflectors(const T* a, const T* tau, std::int64_t n, T* rows) {
  std::fill(rows, rows + n * n, T(0));
  for (std::int64_t i = 0; i < n; ++i) rows[i * n + i] = T(1);
  for (std::int64_t k = n - 3; k >= 0; --k) {
    const T* v = a + k * n + k + 1;
    const std::int64_t count = n - k - 1;
    T* block = rows + (k + 1) * n + k + 1;
    const T factor = tau[k];
    if (factor == T(0)) continue;
    parallel_for(count, rows_per_task(2 * count), [=](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        add_row(count, -factor * dot_rows(count, block + i * n, v), v, block + i * n);
    });
  }
}

// One sweep from row m up to row l; rotation i turns rows i and i + 1. Returns the row where it stopped.
template <class T>
std::int64_t ql_sweep(std::int64_t l, std::int64_t m, T* d, T* e, T* cosines, T* sines) {
  const T half_gap = (d[l + 1] - d[l]) / (T(2) * e[l]);
  T g = d[m] - d[l] + e[l] / (half_gap + std::copysign(std::hypot(half_gap, T(1)), half_gap));
  T s = T(1);
  T c = T(1);
  T shift = T(0);
  for (std::int64_t i = m - 1; i >= l; --i) {
    const T f = s * e[i];
    const T b = c * e[i];
    const T r = std::hypot(f, g);
    e[i + 1] = r;
    if (r == T(0)) {  // splits early
      d[i + 1] -= shift;
      e[m] = T(0);
      return i + 1;
    }
    s = f / r;
    c = g / r;
    g = d[i + 1] - shift;
    const T t = (d[i] - g) * s + T(2) * c * b;
    shift = s * t;
    d[i + 1] = g + shift;
    g = c * t - b;
    cosines[i] = c;
    sines[i] = s;
  }
  d[l] -= shift;
  e[l] = g;
  e[m] = T(0);
  return l;
}

// Rotations m - 1, ..., first on strips of columns of `rows`.
template <class T>
void apply_rotations(std::int64_t first, std::int64_t m, const T* cosines, const T* sines, std::int64_t n, T* rows) {
  const std::int64_t strips = (n + kStrip - 1) / kStrip;
  parallel_for(strips, rows_per_task(4 * kStrip * (m - first)), [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t strip = begin; strip < end; ++strip) {
      const std::int64_t column = strip * kStrip;
      const std::int64_t width = std::min(kStrip, n - column);
      for (std::int64_t i = m - 1; i >= first; --i)
        rotate_rows(width, cosines[i], sines[i], rows + i * n + column, rows + (i + 1) * n + column);
    }
  });
}

template <class T>
bool eigh_one(T* a, std::int64_t n, T* d, T* rows, T* work) {
  T* e = work;
  T* tau = e + n;
  T* p = tau + n;
  T* cosines = p + n;
  T* sines = cosines + n;
  tridiagonalise(a, n, d, e, tau, p);
  accumulate_reflectors(a, tau, n, rows);
  for (std::int64_t l = 0; l < n; ++l)
    for (int step = 0;; ++step) {
      std::int64_t m = l;
      while (m < n - 1 && std::abs(e[m]) > std::numeric_limits<T>::epsilon() * (std::abs(d[m]) + std::abs(d[m + 1])) &&
             std::abs(e[m]) >= std::numeric_limits<T>::min())
        ++m;
      if (m == l) break;
      if (step == kMaxQlSteps) return false;
      const std::int64_t first = ql_sweep(l, m, d, e, cosines, sines);
      if (first < m) apply_rotations(first, m, cosines, sines, n, rows);
    }
  return true;
}

// --- one-sided Jacobi ---------------------------------------------------------------------------------------------------------

// Makes rows x and y orthogonal by a rotation of at most 45 degrees; true if they were not.
template <class T>
HWY_INLINE bool orthogonalise_pair(std::int64_t n, T tolerance, T* x, T* y, T* jx, T* jy) {
  T xx, yy, xy;
  dots_of_pair(n, x, y, &xx, &yy, &xy);
  if (std::abs(xy) <= tolerance * std::sqrt(xx) * std::sqrt(yy)) return false;
  const T ratio = (xx - yy) / (T(2) * xy);
  const T tangent = std::copysign(T(1), ratio) / (std::abs(ratio) + std::hypot(ratio, T(1)));
  const T c = T(1) / std::hypot(tangent, T(1));
  const T s = -tangent * c;
  rotate_rows(n, c, s, x, y);
  rotate_rows(n, c, s, jx, jy);
  return true;
}

template <class T>
bool orthogonalise_one(T* r, T* j, std::int64_t n) {
  std::fill(j, j + n * n, T(0));
  for (std::int64_t i = 0; i < n; ++i) j[i * n + i] = T(1);
  const T tolerance = std::numeric_limits<T>::epsilon() * std::sqrt(static_cast<T>(std::max<std::int64_t>(n, 16)));
  const std::int64_t players = n + n % 2;  // with an odd number one row rests each round
  for (int sweep = 0; sweep < kMaxSweeps; ++sweep) {
    std::atomic<bool> turned{false};
    for (std::int64_t round = 0; round < players - 1; ++round)
      parallel_for(players / 2, rows_per_task(7 * n), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t table = begin; table < end; ++table) {
          // Player 0 keeps its seat, the others move on by one each round.
          const auto player = [&](std::int64_t seat) { return seat == 0 ? 0 : 1 + (seat - 1 + round) % (players - 1); };
          const std::int64_t a = std::min(player(table), player(players - 1 - table));
          const std::int64_t b = std::max(player(table), player(players - 1 - table));
          if (b < n && orthogonalise_pair(n, tolerance, r + a * n, r + b * n, j + a * n, j + b * n))
            turned.store(true, std::memory_order_relaxed);
        }
      });
    if (!turned.load()) return true;
  }
  return false;
}

template <class T>
inline constexpr SpectralKernels<T> kSpectralKernels{eigh_one<T>, orthogonalise_one<T>};

const SpectralKernels<float>& spectral_float() { return kSpectralKernels<float>; }
const SpectralKernels<double>& spectral_double() { return kSpectralKernels<double>; }

}  // namespace solvent::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace solvent::cpu {

HWY_EXPORT(spectral_float);
HWY_EXPORT(spectral_double);

const SpectralKernels<float>& spectral_kernels(float) noexcept { return HWY_DYNAMIC_DISPATCH(spectral_float)(); }
const SpectralKernels<double>& spectral_kernels(double) noexcept { return HWY_DYNAMIC_DISPATCH(spectral_double)(); }

}  // namespace solvent::cpu
#endif  // HWY_ONCE
