// factor_library.h for the emulator, where device memory is the host's: the CPU's kernels on single matrices, and
// Householder reflections in LAPACK's form. Signs and orders differ from those of the operations, as the library's do.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include <cuda_runtime.h>

#include "solvent/core/cuda/runtime.h"
#include "solvent/ops/cpu/factor_kernels.h"
#include "solvent/ops/cuda/factor_library.h"

namespace solvent::cuda::library {
namespace {

template <class T>
Failed each_cholesky(T* a, std::int64_t n, std::int64_t count) {
  Failed failed;
  for (std::int64_t i = count - 1; i >= 0; --i) {
    const std::int64_t pivot = cpu::factor_kernels(T{}).cholesky(a + i * n * n, n);
    if (pivot >= 0) failed = {i, pivot + 1};
  }
  return failed;
}

// As LAPACK's getf2, one column-major matrix; the first pivot that is 0, from 1, or 0.
template <class T>
int exchange_and_eliminate(T* a, std::int64_t n, std::int64_t* pivots) {
  int info = 0;
  for (std::int64_t j = 0; j < n; ++j) {
    T* const column = a + j * n;
    std::int64_t p = j;
    for (std::int64_t i = j + 1; i < n; ++i)
      if (std::abs(column[i]) > std::abs(column[p])) p = i;
    pivots[j] = p + 1;
    if (column[p] == T(0)) {
      if (info == 0) info = static_cast<int>(j) + 1;
      continue;
    }
    for (std::int64_t c = 0; c < n && p != j; ++c) std::swap(a[c * n + j], a[c * n + p]);
    for (std::int64_t i = j + 1; i < n; ++i) column[i] /= column[j];
    for (std::int64_t c = j + 1; c < n; ++c)
      for (std::int64_t i = j + 1; i < n; ++i) a[c * n + i] -= column[i] * a[c * n + j];
  }
  return info;
}

// As LAPACK's getrs, one column.
template <class T>
void substitute_column(const T* lu, const std::int64_t* pivots, std::int64_t n, T* x) {
  for (std::int64_t j = 0; j < n; ++j) std::swap(x[j], x[pivots[j] - 1]);
  for (std::int64_t j = 0; j < n; ++j)
    for (std::int64_t i = j + 1; i < n; ++i) x[i] -= lu[j * n + i] * x[j];
  for (std::int64_t j = n - 1; j >= 0; --j) {
    x[j] /= lu[j * n + j];
    for (std::int64_t i = 0; i < j; ++i) x[i] -= lu[j * n + i] * x[j];
  }
}

template <class T>
T dot(const T* x, const T* y, std::int64_t n) {
  return std::inner_product(x, x + n, y, T(0));
}
// y <- y - factor x
template <class T>
void subtract(T factor, const T* x, T* y, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) y[i] -= factor * x[i];
}

// As LAPACK's geqr2: H_k = 1 - tau v v^T with v_k = 1, and the diagonal of R has the sign that avoids cancellation.
template <class T>
void reflect(T* w, std::int64_t m, std::int64_t n, T* tau) {
  for (std::int64_t k = 0; k < n; ++k) {
    T* const v = w + k * m + k;
    const std::int64_t below = m - k - 1;
    const T rest = dot(v + 1, v + 1, below);
    tau[k] = T(0);
    if (!(rest > T(0))) continue;
    const T beta = v[0] > T(0) ? -std::sqrt(v[0] * v[0] + rest) : std::sqrt(v[0] * v[0] + rest);
    tau[k] = (beta - v[0]) / beta;
    const T scale = T(1) / (v[0] - beta);
    for (std::int64_t i = 1; i <= below; ++i) v[i] *= scale;
    v[0] = beta;
    for (std::int64_t j = k + 1; j < n; ++j) {
      T* const x = w + j * m + k;
      const T along = tau[k] * (x[0] + dot(v + 1, x + 1, below));
      x[0] -= along;
      subtract(along, v + 1, x + 1, below);
    }
  }
}

// As LAPACK's org2r.
template <class T>
void form(T* w, std::int64_t m, std::int64_t n, const T* tau) {
  for (std::int64_t k = n - 1; k >= 0; --k) {
    T* const v = w + k * m + k;
    const std::int64_t below = m - k - 1;
    for (std::int64_t j = k + 1; j < n; ++j) {
      T* const x = w + j * m + k;
      const T along = tau[k] * (x[0] + dot(v + 1, x + 1, below));
      x[0] -= along;
      subtract(along, v + 1, x + 1, below);
    }
    for (std::int64_t i = 1; i <= below; ++i) v[i] *= -tau[k];
    v[0] = T(1) - tau[k];
    std::fill(w + k * m, w + k * m + k, T(0));
  }
}

template <class T>
Failed each_eigh(T* a, std::int64_t n, std::int64_t count, T* values) {
  std::vector<T> rows(static_cast<std::size_t>(n * n));
  std::vector<T> work(static_cast<std::size_t>(5 * n));
  for (std::int64_t i = 0; i < count; ++i) {
    T* const matrix = a + i * n * n;
    if (!cpu::spectral_kernels(T{}).eigh(matrix, n, values + i * n, rows.data(), work.data())) return {i, 1};
    std::copy(rows.begin(), rows.end(), matrix);
  }
  return {};
}

template <class T>
Failed each_svd(T* a, std::int64_t n, std::int64_t count, T* u, T* s, T* vt) {
  std::vector<T> turns(static_cast<std::size_t>(n * n));
  for (std::int64_t i = 0; i < count; ++i) {
    T* const rows = a + i * n * n;
    std::fill(turns.begin(), turns.end(), T(0));
    for (std::int64_t k = 0; k < n; ++k) turns[static_cast<std::size_t>(k * (n + 1))] = T(1);
    if (!cpu::spectral_kernels(T{}).orthogonalise(rows, turns.data(), n)) return {i, 1};
    for (std::int64_t k = 0; k < n; ++k) {
      const T value = std::sqrt(dot(rows + k * n, rows + k * n, n));
      s[i * n + k] = value;
      for (std::int64_t j = 0; j < n; ++j) {
        vt[(i * n + k) * n + j] = value > T(0) ? rows[k * n + j] / value : T(0);
        u[(i * n + j) * n + k] = turns[static_cast<std::size_t>(k * n + j)];
      }
    }
  }
  return {};
}

// The stream's earlier work comes first, as where the library is.
void wait(Device device) { check(cudaStreamSynchronize(current_stream(device)), "wait for the stream"); }

}  // namespace

bool takes(std::int64_t n, Device device) { return n > kOwnRows && !is_recording(current_stream(device)); }

Failed cholesky(float* a, std::int64_t n, std::int64_t count, Device device) {
  wait(device);
  return each_cholesky(a, n, count);
}
Failed cholesky(double* a, std::int64_t n, std::int64_t count, Device device) {
  wait(device);
  return each_cholesky(a, n, count);
}
void lu(float* a, std::int64_t n, std::int64_t count, std::int64_t* pivots, int* infos, Device device) {
  wait(device);
  for (std::int64_t i = 0; i < count; ++i) infos[i] = exchange_and_eliminate(a + i * n * n, n, pivots + i * n);
}
void lu(double* a, std::int64_t n, std::int64_t count, std::int64_t* pivots, int* infos, Device device) {
  wait(device);
  for (std::int64_t i = 0; i < count; ++i) infos[i] = exchange_and_eliminate(a + i * n * n, n, pivots + i * n);
}
void solve_lu(const float* lu, const std::int64_t* pivots, std::int64_t n, std::int64_t count, float* x, std::int64_t k,
              Device device) {
  wait(device);
  for (std::int64_t c = 0; c < count * k; ++c) substitute_column(lu + c / k * n * n, pivots + c / k * n, n, x + c * n);
}
void solve_lu(const double* lu, const std::int64_t* pivots, std::int64_t n, std::int64_t count, double* x,
              std::int64_t k, Device device) {
  wait(device);
  for (std::int64_t c = 0; c < count * k; ++c) substitute_column(lu + c / k * n * n, pivots + c / k * n, n, x + c * n);
}
void reflections(float* w, std::int64_t m, std::int64_t n, std::int64_t count, float* tau, Device device) {
  wait(device);
  for (std::int64_t i = 0; i < count; ++i) reflect(w + i * m * n, m, n, tau + i * n);
}
void reflections(double* w, std::int64_t m, std::int64_t n, std::int64_t count, double* tau, Device device) {
  wait(device);
  for (std::int64_t i = 0; i < count; ++i) reflect(w + i * m * n, m, n, tau + i * n);
}
void orthogonal(float* w, std::int64_t m, std::int64_t n, std::int64_t count, const float* tau, Device device) {
  wait(device);
  for (std::int64_t i = 0; i < count; ++i) form(w + i * m * n, m, n, tau + i * n);
}
void orthogonal(double* w, std::int64_t m, std::int64_t n, std::int64_t count, const double* tau, Device device) {
  wait(device);
  for (std::int64_t i = 0; i < count; ++i) form(w + i * m * n, m, n, tau + i * n);
}
Failed eigh(float* a, std::int64_t n, std::int64_t count, float* values, Device device) {
  wait(device);
  return each_eigh(a, n, count, values);
}
Failed eigh(double* a, std::int64_t n, std::int64_t count, double* values, Device device) {
  wait(device);
  return each_eigh(a, n, count, values);
}
Failed svd(float* a, std::int64_t n, std::int64_t count, float* u, float* s, float* vt, Device device) {
  wait(device);
  return each_svd(a, n, count, u, s, vt);
}
Failed svd(double* a, std::int64_t n, std::int64_t count, double* u, double* s, double* vt, Device device) {
  wait(device);
  return each_svd(a, n, count, u, s, vt);
}

}  // namespace solvent::cuda::library
