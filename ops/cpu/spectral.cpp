// Symmetric eigenproblems and singular values of batches: memory, scaling, order, signs and errors around the kernels of
// spectral_core.cpp and, for large matrices, spectral_lapack.cpp. Matrices are scaled by a power of two to elements of at
// most 2, so nothing over- or underflows on the way, and the result is the same as if nothing had been done.

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "solvent/core/engine/gemm.h"
#include "solvent/ops/cpu/factor_kernels.h"
#include "solvent/ops/cpu/matrix_batch.h"
#include "solvent/ops/cpu/spectral_lapack.h"
#include "solvent/ops/matrix_errors.h"

namespace solvent::cpu {
namespace {

// Exponent e with max|a| in [2^e, 2^(e+1)), 0 for a zero matrix; `finite` tells whether all elements are.
template <class T>
int exponent_of(const T* a, std::int64_t count, bool* finite) noexcept {
  T largest = T(0);
  *finite = true;
  for (std::int64_t i = 0; i < count; ++i) {
    if (!std::isfinite(a[i])) *finite = false;
    largest = std::max(largest, std::abs(a[i]));
  }
  return *finite && largest > T(0) ? std::ilogb(largest) : 0;
}

template <class T>
void scale_by_power(T* a, std::int64_t count, int exponent) noexcept {
  if (exponent == 0) return;
  const T factor = std::scalbn(T(1), exponent);
  if (std::isnormal(factor)) {  // the same values, ten times as fast
    for (std::int64_t i = 0; i < count; ++i) a[i] *= factor;
  } else {
    for (std::int64_t i = 0; i < count; ++i) a[i] = std::scalbn(a[i], exponent);
  }
}

// +1 or -1: the sign that makes the component of largest magnitude positive (the first among equals).
template <class T>
T sign_of(const T* v, std::int64_t count) noexcept {
  T largest = T(0);
  for (std::int64_t i = 0; i < count; ++i)
    if (std::abs(v[i]) > std::abs(largest)) largest = v[i];
  return largest < T(0) ? T(-1) : T(1);
}

// The same for every column of v (m, n), row by row; `largest` gets the components, whose signs are meant.
template <class T>
void largest_of_columns(const T* v, std::int64_t m, std::int64_t n, T* largest) noexcept {
  std::fill(largest, largest + n, T(0));
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t k = 0; k < n; ++k)
      if (std::abs(v[i * n + k]) > std::abs(largest[k])) largest[k] = v[i * n + k];
}

// Rows (or columns) per task and side of the tiles in which matrices are transposed.
constexpr std::int64_t kTile = 32;

// What one call works with, `work_each` elements and `ints_each` of LAPACK's integers per task; `order` sorts, `failed`
// collects.
struct Batch {
  Batch(const Tensor& a, std::int64_t n, std::int64_t work_each, std::int64_t ints_each)
      : tasks(matrix_count(a), 16 * n * n * n),
        order_memory(engine::empty({tasks.number, n}, DType::int64)),
        failed_memory(engine::empty({tasks.count}, DType::int64)),
        ints_memory(engine::empty({tasks.number, ints_each}, DType::int64)),  // wider than they need to be
        work_memory(engine::empty({tasks.number, work_each}, a.dtype(), a.device())) {
    order = engine::mutable_ptr<std::int64_t>(order_memory);
    failed = engine::mutable_ptr<std::int64_t>(failed_memory);
  }
  [[nodiscard]] int* ints(std::int64_t task) const {
    Tensor memory = ints_memory;
    return reinterpret_cast<int*>(engine::mutable_ptr<std::int64_t>(memory) + task * memory.size(-1));
  }
  void check(const char* op) const {
    for (std::int64_t i = 0; i < tasks.count; ++i)
      if (failed[i] != 0) detail::throw_no_convergence(op, i, tasks.count);
  }

  Tasks tasks;
  Tensor order_memory;
  Tensor failed_memory;
  Tensor ints_memory;
  Tensor work_memory;
  std::int64_t* order;
  std::int64_t* failed;
};

// --- eigh -----------------------------------------------------------------------------------------------------------------

// a <- (a + a^T) / 2
template <class T>
void average_triangles(T* a, std::int64_t n) noexcept {
  parallel_for(n, kTile, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t left = 0; left < end; left += kTile)
      for (std::int64_t i = begin; i < end; ++i)
        for (std::int64_t j = left; j < std::min(i, left + kTile); ++j) {
          // halves first: the sum of two large elements may overflow
          const T mean = a[i * n + j] * T(0.5) + a[j * n + i] * T(0.5);
          a[i * n + j] = mean;
          a[j * n + i] = mean;
        }
  });
}

// Column j of `vectors` <- row order[j] of `rows`, with a positive largest component.
template <class T>
void rows_to_columns(const T* rows, const std::int64_t* order, std::int64_t n, T* vectors) noexcept {
  parallel_for(n, kTile, [=](std::int64_t begin, std::int64_t end) {
    T signs[kTile];
    for (std::int64_t j = begin; j < end; ++j) signs[j - begin] = sign_of(rows + order[j] * n, n);
    for (std::int64_t top = 0; top < n; top += kTile)
      for (std::int64_t j = begin; j < end; ++j) {
        const T* row = rows + order[j] * n;
        for (std::int64_t i = top; i < std::min(n, top + kTile); ++i) vectors[i * n + j] = signs[j - begin] * row[i];
      }
  });
}

std::int64_t eigh_work(std::int64_t n, bool by_lapack) noexcept {
  return n + n * n + (by_lapack ? SpectralLapack<float>::work(n) : 5 * n);
}

// One matrix `a` (destroyed) -> values and vectors (columns). work: eigh_work(n)
template <class T>
bool eigh_matrix(T* a, std::int64_t n, T* values, T* vectors, std::int64_t* order, int* ints, T* work) {
  average_triangles(a, n);
  bool finite = true;
  const int exponent = exponent_of(a, n * n, &finite);
  if (!finite) {
    std::fill(values, values + n, std::numeric_limits<T>::quiet_NaN());
    std::fill(vectors, vectors + n * n, std::numeric_limits<T>::quiet_NaN());
    return true;
  }
  scale_by_power(a, n * n, -exponent);
  T* unsorted = work;
  T* rows = unsorted + n;
  T* rest = rows + n * n;
  const bool ok = lapack_takes_eigh(n) ? SpectralLapack<T>::eigh(a, n, unsorted, rows, rest, ints)
                                       : spectral_kernels(T{}).eigh(a, n, unsorted, rows, rest);
  if (!ok) return false;
  scale_by_power(unsorted, n, exponent);
  for (std::int64_t i = 0; i < n; ++i) order[i] = i;
  std::stable_sort(order, order + n, [=](std::int64_t x, std::int64_t y) { return unsorted[x] < unsorted[y]; });
  for (std::int64_t j = 0; j < n; ++j) values[j] = unsorted[order[j]];
  rows_to_columns(rows, order, n, vectors);
  return true;
}

// --- svd ------------------------------------------------------------------------------------------------------------------

// Rows of w that belong to singular values that are 0 become unit vectors orthogonal to all others.
template <class T>
void complete_rows(T* w, const T* s, std::int64_t n) noexcept {
  for (std::int64_t i = 0; i < n; ++i) {
    if (s[i] > T(0)) continue;
    T* row = w + i * n;
    for (std::int64_t candidate = 0; candidate < n; ++candidate) {
      std::fill(row, row + n, T(0));
      row[candidate] = T(1);
      T square = T(0);
      for (int pass = 0; pass < 2; ++pass) {
        for (std::int64_t p = 0; p < n; ++p) {
          if (p == i || (s[p] == T(0) && p > i)) continue;  // itself and those to come
          T product = T(0);
          for (std::int64_t c = 0; c < n; ++c) product += row[c] * w[p * n + c];
          for (std::int64_t c = 0; c < n; ++c) row[c] -= product * w[p * n + c];
        }
        square = T(0);
        for (std::int64_t c = 0; c < n; ++c) square += row[c] * row[c];
        // Among the unit vectors at least one keeps this much.
        if (square < T(0.5) / static_cast<T>(n)) break;
        const T scale = T(1) / std::sqrt(square);
        for (std::int64_t c = 0; c < n; ++c) row[c] *= scale;
      }
      if (square >= T(0.5) / static_cast<T>(n)) break;
    }
  }
}

// Singular values of r and unit rows: r (n, n) holds orthogonal rows s_i w_i and gets w_i.
template <class T>
void normalise_rows(T* r, T* s, std::int64_t n) noexcept {
  // Below this the squares of the row's elements lose their digits: then it is 0, as far as rounding can tell.
  const T least = std::sqrt(std::numeric_limits<T>::min() / std::numeric_limits<T>::epsilon());
  for (std::int64_t i = 0; i < n; ++i) {
    T square = T(0);
    for (std::int64_t c = 0; c < n; ++c) square += r[i * n + c] * r[i * n + c];
    s[i] = std::sqrt(square);
    if (s[i] < least) s[i] = T(0);
    for (std::int64_t c = 0; c < n && s[i] > T(0); ++c) r[i * n + c] /= s[i];
  }
  complete_rows(r, s, n);
}

template <class T>
struct SvdMemory {  // of one task
  T* q;             // (m, n)
  T* r;             // (n, n)
  T* j;             // (n, n)
  T* s;             // n
  T* rest;          // svd_rest
  std::int64_t* order;
  int* ints;
};

std::int64_t svd_rest(std::int64_t m, std::int64_t n, bool by_lapack) noexcept {
  return by_lapack ? std::max(qr_work(m, n), SpectralLapack<float>::work(n)) : qr_work(m, n);
}

// By one-sided Jacobi: j r = s w, u = q j^T, vt = w.
template <class T>
bool svd_by_jacobi(T* a, std::int64_t m, std::int64_t n, T* u, T* s, T* vt, const SvdMemory<T>& memory) {
  if (!spectral_kernels(T{}).orthogonalise(memory.r, memory.j, n)) return false;
  normalise_rows(memory.r, memory.s, n);
  std::int64_t* order = memory.order;
  for (std::int64_t i = 0; i < n; ++i) order[i] = i;
  std::stable_sort(order, order + n, [=](std::int64_t x, std::int64_t y) { return memory.s[x] > memory.s[y]; });
  T* sorted = a;  // (n, n), rows of j in order
  for (std::int64_t k = 0; k < n; ++k) {
    s[k] = memory.s[order[k]];
    std::copy_n(memory.j + order[k] * n, n, sorted + k * n);
    std::copy_n(memory.r + order[k] * n, n, vt + k * n);
  }
  engine::gemm<T>(false, true, m, n, n, T(1), memory.q, n, sorted, n, T(0), u, n);
  return true;
}

// By LAPACK: r = w s vt, u = q w. A square matrix is its own r.
template <class T>
bool svd_by_lapack(T* a, std::int64_t m, std::int64_t n, T* u, T* s, T* vt, const SvdMemory<T>& memory) {
  if (m == n) return SpectralLapack<T>::svd(a, n, u, s, vt, memory.rest, memory.ints);
  if (!SpectralLapack<T>::svd(memory.r, n, memory.j, s, vt, memory.rest, memory.ints)) return false;
  engine::gemm<T>(false, false, m, n, n, T(1), memory.q, n, memory.j, n, T(0), u, n);
  return true;
}

// One tall matrix a (m, n), destroyed -> u (m, n), s (n), vt (n, n) by way of a = q r.
template <class T>
bool svd_matrix(T* a, std::int64_t m, std::int64_t n, T* u, T* s, T* vt, const SvdMemory<T>& memory) {
  bool finite = true;
  const int exponent = exponent_of(a, m * n, &finite);
  if (!finite) {
    for (T* out : {u, vt}) std::fill(out, out + (out == u ? m : n) * n, std::numeric_limits<T>::quiet_NaN());
    std::fill(s, s + n, std::numeric_limits<T>::quiet_NaN());
    return true;
  }
  scale_by_power(a, m * n, -exponent);
  const bool by_lapack = lapack_takes_svd(n);
  if (!by_lapack || m > n) factor_kernels(T{}).qr(a, m, n, memory.q, memory.r, memory.rest);
  if (!(by_lapack ? svd_by_lapack(a, m, n, u, s, vt, memory) : svd_by_jacobi(a, m, n, u, s, vt, memory))) return false;
  scale_by_power(s, n, exponent);
  T* largest = memory.s;
  largest_of_columns(u, m, n, largest);
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t k = 0; k < n; ++k) u[i * n + k] = largest[k] < T(0) ? -u[i * n + k] : u[i * n + k];
  for (std::int64_t k = 0; k < n; ++k)
    if (largest[k] < T(0))
      for (std::int64_t i = 0; i < n; ++i) vt[k * n + i] = -vt[k * n + i];
  return true;
}

template <class T>
void svd_batch(const Batch& batch, Tensor& copy, std::int64_t m, std::int64_t n, Tensor& u, Tensor& s, Tensor& vt) {
  T* in = engine::mutable_ptr<T>(copy);
  T* to_u = engine::mutable_ptr<T>(u);
  T* to_s = engine::mutable_ptr<T>(s);
  T* to_vt = engine::mutable_ptr<T>(vt);
  Tensor work = batch.work_memory;
  T* scratch = engine::mutable_ptr<T>(work);
  const std::int64_t each = work.size(-1);
  batch.tasks.run([=, &batch](std::int64_t task, std::int64_t i) {
    T* memory = scratch + task * each;
    const SvdMemory<T> parts{memory,
                             memory + m * n,
                             memory + m * n + n * n,
                             memory + m * n + 2 * n * n,
                             memory + m * n + 2 * n * n + n,
                             batch.order + task * n,
                             batch.ints(task)};
    const bool ok = svd_matrix(in + i * m * n, m, n, to_u + i * m * n, to_s + i * n, to_vt + i * n * n, parts);
    batch.failed[i] = ok ? 0 : 1;
  });
}

}  // namespace

TensorVec eigh(const Tensor& a) {
  const std::int64_t n = a.size(-1);
  Shape lead = a.shape();
  lead.pop_back();
  Tensor values = engine::empty(lead, a.dtype(), a.device());
  Tensor vectors = engine::empty(a.shape(), a.dtype(), a.device());
  if (a.numel() == 0) return {std::move(values), std::move(vectors)};
  Tensor copy = dense_copy(a);
  const bool by_lapack = lapack_takes_eigh(n);
  Batch batch(a, n, eigh_work(n, by_lapack), by_lapack ? SpectralLapack<float>::iwork(n) : 0);
  dispatch_float(a.dtype(), "eigh", [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* in = engine::mutable_ptr<T>(copy);
    T* to_values = engine::mutable_ptr<T>(values);
    T* to_vectors = engine::mutable_ptr<T>(vectors);
    T* work = engine::mutable_ptr<T>(batch.work_memory);
    const std::int64_t each = batch.work_memory.size(-1);
    batch.tasks.run([=, &batch](std::int64_t task, std::int64_t i) {
      const bool ok = eigh_matrix(in + i * n * n, n, to_values + i * n, to_vectors + i * n * n, batch.order + task * n,
                                  batch.ints(task), work + task * each);
      batch.failed[i] = ok ? 0 : 1;
    });
  });
  batch.check("eigh");
  return {std::move(values), std::move(vectors)};
}

TensorVec svd(const Tensor& a) {
  const std::int64_t m = a.size(-2);
  const std::int64_t n = a.size(-1);
  Shape s_shape = a.shape();
  Shape vt_shape = a.shape();
  vt_shape[a.rank() - 2] = n;
  s_shape.pop_back();
  s_shape[a.rank() - 2] = n;
  Tensor u = engine::empty(a.shape(), a.dtype(), a.device());
  Tensor s = engine::empty(s_shape, a.dtype(), a.device());
  Tensor vt = engine::empty(vt_shape, a.dtype(), a.device());
  if (a.numel() == 0) return {std::move(u), std::move(s), std::move(vt)};
  Tensor copy = dense_copy(a);
  const bool by_lapack = lapack_takes_svd(n);
  Batch batch(a, n, m * n + 2 * n * n + n + svd_rest(m, n, by_lapack), by_lapack ? SpectralLapack<float>::iwork(n) : 0);
  dispatch_float(a.dtype(), "svd",
                 [&](auto tag) { svd_batch<typename decltype(tag)::type>(batch, copy, m, n, u, s, vt); });
  batch.check("svd");
  return {std::move(u), std::move(s), std::move(vt)};
}

}  // namespace solvent::cpu
