// Eigenvalues and singular values of large matrices: LAPACK reduces to a tridiagonal or bidiagonal matrix and decomposes
// that by divide and conquer (Gu & Eisenstat 1995); the way back to the vectors of the matrix, half of the work, is
// blocked reflectors by our own products.
//
// LAPACK runs on one thread: with several OpenBLAS cuts its sums by their number, and the two steps, matrix-vector
// products and small blocks, gain next to nothing from them. Our products use all threads with the same bits for any
// number of them, where LAPACK's own way back (xORMTR, xORMBR, in blocks of 32) takes twice to four times as long.
//
// LAPACK's matrices are columns after columns: a row-major matrix in memory is its transpose there.

#include "solvent/ops/cpu/spectral_lapack.h"

#include <algorithm>
#include <cstddef>
#include <limits>

#include "solvent/core/engine/blas_setup.h"
#include "solvent/core/engine/gemm.h"

#if SOLVENT_WITH_LAPACK
extern "C" {
// The Fortran interface, with the lengths of the texts at the end. Libraries differ in where they put the C headers.
void ssytrd_(const char* uplo, const int* n, float* a, const int* lda, float* d, float* e, float* tau, float* work,
             const int* lwork, int* info, std::size_t);
void dsytrd_(const char* uplo, const int* n, double* a, const int* lda, double* d, double* e, double* tau, double* work,
             const int* lwork, int* info, std::size_t);
void sstedc_(const char* job, const int* n, float* d, float* e, float* z, const int* ldz, float* work, const int* lwork,
             int* iwork, const int* liwork, int* info, std::size_t);
void dstedc_(const char* job, const int* n, double* d, double* e, double* z, const int* ldz, double* work,
             const int* lwork, int* iwork, const int* liwork, int* info, std::size_t);
void sgebrd_(const int* m, const int* n, float* a, const int* lda, float* d, float* e, float* tauq, float* taup,
             float* work, const int* lwork, int* info);
void dgebrd_(const int* m, const int* n, double* a, const int* lda, double* d, double* e, double* tauq, double* taup,
             double* work, const int* lwork, int* info);
void sbdsdc_(const char* uplo, const char* job, const int* n, float* d, float* e, float* u, const int* ldu, float* vt,
             const int* ldvt, float* q, int* iq, float* work, int* iwork, int* info, std::size_t, std::size_t);
void dbdsdc_(const char* uplo, const char* job, const int* n, double* d, double* e, double* u, const int* ldu,
             double* vt, const int* ldvt, double* q, int* iq, double* work, int* iwork, int* info, std::size_t,
             std::size_t);
}
#endif

namespace solvent::cpu {
namespace {

// Reflectors per block of the way back.
constexpr std::int64_t kBlock = 64;
// Rows per column of LAPACK's own working memory for the reductions.
constexpr std::int64_t kReductionBlock = 64;

#if SOLVENT_WITH_LAPACK

void tridiagonalise(int n, float* a, float* d, float* e, float* tau, float* work, int lwork, int* info) noexcept {
  ssytrd_("L", &n, a, &n, d, e, tau, work, &lwork, info, 1);
}
void tridiagonalise(int n, double* a, double* d, double* e, double* tau, double* work, int lwork, int* info) noexcept {
  dsytrd_("L", &n, a, &n, d, e, tau, work, &lwork, info, 1);
}
void divide_tridiagonal(int n, float* d, float* e, float* z, float* work, int lwork, int* iwork, int liwork,
                        int* info) noexcept {
  sstedc_("I", &n, d, e, z, &n, work, &lwork, iwork, &liwork, info, 1);
}
void divide_tridiagonal(int n, double* d, double* e, double* z, double* work, int lwork, int* iwork, int liwork,
                        int* info) noexcept {
  dstedc_("I", &n, d, e, z, &n, work, &lwork, iwork, &liwork, info, 1);
}
void bidiagonalise(int n, float* a, float* d, float* e, float* tauq, float* taup, float* work, int lwork,
                   int* info) noexcept {
  sgebrd_(&n, &n, a, &n, d, e, tauq, taup, work, &lwork, info);
}
void bidiagonalise(int n, double* a, double* d, double* e, double* tauq, double* taup, double* work, int lwork,
                   int* info) noexcept {
  dgebrd_(&n, &n, a, &n, d, e, tauq, taup, work, &lwork, info);
}
void divide_bidiagonal(int n, float* d, float* e, float* u, float* vt, float* work, int* iwork, int* info) noexcept {
  float unused = 0;
  int iunused = 0;
  sbdsdc_("U", "I", &n, d, e, u, &n, vt, &n, &unused, &iunused, work, iwork, info, 1, 1);
}
void divide_bidiagonal(int n, double* d, double* e, double* u, double* vt, double* work, int* iwork,
                       int* info) noexcept {
  double unused = 0;
  int iunused = 0;
  dbdsdc_("U", "I", &n, d, e, u, &n, vt, &n, &unused, &iunused, work, iwork, info, 1, 1);
}

#endif

// Elements that the reflectors' blocks take.
constexpr std::int64_t block_work(std::int64_t n) noexcept { return 3 * kBlock * n + 2 * kBlock * kBlock; }

// Consecutive reflectors H_0 ... H_{b-1} = I - V T V^T (Schreiber & Van Loan 1989), V^T (b, length) in rows.
template <class T>
struct Reflectors {
  Reflectors(std::int64_t n, T* work) noexcept
      : rows(work), t(rows + kBlock * n), gram(t + kBlock * kBlock), products(gram + kBlock * kBlock) {}

  // T from `rows`.
  void form(std::int64_t b, std::int64_t length, const T* tau) noexcept {
    engine::gemm<T>(false, true, b, b, length, T(1), rows, length, rows, length, T(0), gram, b);
    std::fill(t, t + b * b, T(0));
    for (std::int64_t j = 0; j < b; ++j) {
      for (std::int64_t i = 0; i < j; ++i) {
        T sum = T(0);
        for (std::int64_t p = i; p < j; ++p) sum += t[i * b + p] * gram[p * b + j];
        t[i * b + j] = -tau[j] * sum;
      }
      t[j * b + j] = tau[j];
    }
  }
  // c (count, length) <- c (I - V T V^T)^T
  void apply_to_rows(std::int64_t b, std::int64_t length, T* c, std::int64_t ld, std::int64_t count) const noexcept {
    T* second = products + b * count;
    engine::gemm<T>(false, true, count, b, length, T(1), c, ld, rows, length, T(0), products, b);
    engine::gemm<T>(false, true, count, b, b, T(1), products, b, t, b, T(0), second, b);
    engine::gemm<T>(false, false, count, length, b, T(-1), second, b, rows, length, T(1), c, ld);
  }
  // c (length, count) <- (I - V T V^T) c
  void apply_to_columns(std::int64_t b, std::int64_t length, T* c, std::int64_t ld, std::int64_t count) const noexcept {
    T* second = products + b * count;
    engine::gemm<T>(false, false, b, count, length, T(1), rows, length, c, ld, T(0), products, count);
    engine::gemm<T>(false, false, b, count, b, T(1), t, b, products, count, T(0), second, count);
    engine::gemm<T>(true, false, length, count, b, T(-1), rows, length, second, count, T(1), c, ld);
  }

  T* rows;      // (b, length)
  T* t;         // (b, b), upper triangle
  T* gram;      // (b, b)
  T* products;  // 2 b n
};

// rows (n, n) <- rows Q^T for the product Q of reflectors k = 0 ..., number k in row k of a (n, n) right of column
// k + shift, where its 1 is not stored.
template <class T>
void turn_rows(const T* a, std::int64_t n, std::int64_t shift, const T* tau, T* rows, T* work) noexcept {
  Reflectors<T> block(n, work);
  const std::int64_t number = n - shift;
  if (number == 0) return;
  for (std::int64_t k0 = (number - 1) / kBlock * kBlock; k0 >= 0; k0 -= kBlock) {
    const std::int64_t b = std::min(kBlock, number - k0);
    const std::int64_t first = k0 + shift;
    const std::int64_t length = n - first;
    for (std::int64_t j = 0; j < b; ++j) {
      T* to = block.rows + j * length;
      std::fill(to, to + j, T(0));
      to[j] = T(1);
      std::copy_n(a + (k0 + j) * n + first + j + 1, length - j - 1, to + j + 1);
    }
    block.form(b, length, tau + k0);
    block.apply_to_rows(b, length, rows + first, n, n);
  }
}

// c (n, n) <- P c for the product P of reflectors k = 0 ..., number k in column k of a (n, n) below row k + 1, where its
// 1 is not stored.
template <class T>
void turn_columns(const T* a, std::int64_t n, const T* tau, T* c, T* work) noexcept {
  Reflectors<T> block(n, work);
  const std::int64_t number = n - 1;
  if (number == 0) return;
  for (std::int64_t k0 = (number - 1) / kBlock * kBlock; k0 >= 0; k0 -= kBlock) {
    const std::int64_t b = std::min(kBlock, number - k0);
    const std::int64_t first = k0 + 1;
    const std::int64_t length = n - first;
    for (std::int64_t i = 0; i < length; ++i)
      for (std::int64_t j = 0; j < b; ++j)
        block.rows[j * length + i] = i > j ? a[(first + i) * n + k0 + j] : i == j ? T(1) : T(0);
    block.form(b, length, tau + k0);
    block.apply_to_columns(b, length, c + first * n, n, n);
  }
}

// Up to these sizes the own kernels are as fast (tests/bench/README.md).
constexpr std::int64_t kOwnEigh = 96;
constexpr std::int64_t kOwnSvd = 64;
// The largest working memory in elements is counted by an int in LAPACK.
constexpr std::int64_t kMostRows = 20000;

template <class T>
constexpr std::int64_t work_of(std::int64_t n) noexcept {
  // sstedc 1 + 4 n + n^2, sbdsdc 3 n^2 + 4 n; beside it the diagonals and factors of the reduction.
  return 4 * n + std::max(3 * n * n + 4 * n + 1, std::max(2 * kReductionBlock * n, block_work(n)));
}
static_assert(work_of<float>(kMostRows) < std::numeric_limits<int>::max());

}  // namespace

bool has_lapack() noexcept {
#if SOLVENT_WITH_LAPACK
  static const bool can = detail::blas_can_be_serial();
  return can;
#else
  return false;
#endif
}

bool lapack_takes_eigh(std::int64_t n) noexcept { return n > kOwnEigh && n <= kMostRows && has_lapack(); }
bool lapack_takes_svd(std::int64_t n) noexcept { return n > kOwnSvd && n <= kMostRows && has_lapack(); }

template <class T>
std::int64_t SpectralLapack<T>::work(std::int64_t n) noexcept {
  return work_of<T>(n);
}

template <class T>
std::int64_t SpectralLapack<T>::iwork(std::int64_t n) noexcept {
  return 8 * n + 3;
}

#if SOLVENT_WITH_LAPACK

// Lower triangle of the transpose: row k of ours, columns k + 1 to n - 1, gets reflector k.
template <class T>
bool SpectralLapack<T>::eigh(T* a, std::int64_t n, T* values, T* rows, T* work, int* iwork) noexcept {
  T* e = work;
  T* tau = e + n;
  T* rest = tau + n;
  const int size = static_cast<int>(n);
  const int lwork = static_cast<int>(work_of<T>(n) - 2 * n);
  int info = 0;
  {
    const detail::SerialBlas serial;
    tridiagonalise(size, a, values, e, tau, rest, lwork, &info);
    if (info == 0)
      divide_tridiagonal(size, values, e, rows, rest, lwork, iwork, static_cast<int>(SpectralLapack<T>::iwork(n)),
                         &info);
  }
  if (info != 0) return false;
  turn_rows(a, n, 1, tau, rows, rest);
  return true;
}

// The transpose is Q B P^T with B upper bidiagonal, B = U S V^T: a = (P V) S (Q U)^T. The columns of LAPACK's V^T and U in
// memory are the rows of our V and U^T.
template <class T>
bool SpectralLapack<T>::svd(T* a, std::int64_t n, T* u, T* s, T* vt, T* work, int* iwork) noexcept {
  T* e = work;
  T* tauq = e + n;
  T* taup = tauq + n;
  T* rest = taup + n;
  const int size = static_cast<int>(n);
  int info = 0;
  {
    const detail::SerialBlas serial;
    bidiagonalise(size, a, s, e, tauq, taup, rest, static_cast<int>(work_of<T>(n) - 3 * n), &info);
    if (info == 0) divide_bidiagonal(size, s, e, vt, u, rest, iwork, &info);
  }
  if (info != 0) return false;
  turn_columns(a, n, taup, u, rest);
  turn_rows(a, n, 0, tauq, vt, rest);
  return true;
}

#else

template <class T>
bool SpectralLapack<T>::eigh(T*, std::int64_t, T*, T*, T*, int*) noexcept {
  return false;
}
template <class T>
bool SpectralLapack<T>::svd(T*, std::int64_t, T*, T*, T*, T*, int*) noexcept {
  return false;
}

#endif

template struct SpectralLapack<float>;
template struct SpectralLapack<double>;

}  // namespace solvent::cpu
