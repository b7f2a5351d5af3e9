// Matrix products: the choice between BLAS and our own kernels, and all BLAS calls of the library.
//
// The choice depends on sizes only, so that a product has the same bits whatever the number of threads; the one exception
// is a product inside a parallel region, where BLAS may not be called at all: such calls are few and always inside.
#include "solvent/core/engine/gemm.h"

#include <algorithm>
#include <limits>

#if SOLVENT_WITH_BLAS
#include <cblas.h>
#endif

#include "solvent/core/allocator.h"
#include "solvent/core/cpu/serial_gemm.h"
#include "solvent/core/engine/blas_setup.h"
#include "solvent/core/error.h"
#include "solvent/core/parallel.h"

namespace solvent::engine {
namespace {

// Multiply-adds up to which our own kernels beat BLAS, on one thread and on several (tests/bench: gemm).
constexpr double kOwnWork = 200.0 * 200 * 200;
// Also when a side is short: BLAS spends its time packing.
constexpr std::int64_t kSkinny = 32;
// Multiply-adds per piece of a parallel loop, at least: about 10 us.
constexpr double kPieceWork = 1 << 19;
// Largest tile of C that a thread computes at a time.
constexpr std::int64_t kTileRows = 96;  // a multiple of the kernels' 6 and 8 rows
constexpr std::int64_t kTileColumns = 256;
// Products with few results and a long sum are cut along k.
constexpr std::int64_t kSplitResults = 128 * 128;
constexpr std::int64_t kSplitDepth = 2048;
constexpr std::int64_t kMaxSplits = 32;

template <class T>
GemmCall<T> make_call(bool trans_a, bool trans_b, std::int64_t m, std::int64_t n, std::int64_t k, T alpha, const T* a,
                      std::int64_t lda, const T* b, std::int64_t ldb, T beta, T* c, std::int64_t ldc) noexcept {
  return {m, n, k, alpha, a, trans_a ? 1 : lda, trans_a ? lda : 1, b, trans_b ? 1 : ldb, trans_b ? ldb : 1, beta, c, ldc};
}

// C = beta * C without reading C when beta is 0 (it may be uninitialised memory full of NaN).
template <class T>
void scale(std::int64_t m, std::int64_t n, T beta, T* c, std::int64_t ldc) noexcept {
  if (beta == T{1}) return;
  for (std::int64_t i = 0; i < m; ++i) {
    T* row = c + i * ldc;
    if (beta == T{0})
      std::fill(row, row + n, T{0});
    else
      for (std::int64_t j = 0; j < n; ++j) row[j] *= beta;
  }
}

// Our own product on all threads: tiles of C, each with the whole sum over k.
template <class T>
void tiled_gemm(const GemmCall<T>& call) noexcept {
  const std::int64_t tile_n = std::min(call.n, kTileColumns);
  // Few columns allow more rows per tile; few multiply-adds ask for smaller tiles, down to kPieceWork.
  const double row_work = static_cast<double>(tile_n) * static_cast<double>(call.k);
  const auto least = static_cast<std::int64_t>(kPieceWork / row_work) + 1;
  const std::int64_t tile_m = std::min(call.m, (std::max(least, std::min(kTileRows, call.m / 2)) + 5) / 6 * 6);
  const std::int64_t rows = (call.m + tile_m - 1) / tile_m;
  const std::int64_t columns = (call.n + tile_n - 1) / tile_n;
  parallel_for(rows * columns, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t index = begin; index < end; ++index) {
      const std::int64_t i = index / columns * tile_m;
      const std::int64_t j = index % columns * tile_n;
      GemmCall<T> tile = call;
      tile.m = std::min(tile_m, call.m - i);
      tile.n = std::min(tile_n, call.n - j);
      tile.a += i * call.a_row;
      tile.b += j * call.b_col;
      tile.c += i * call.ldc + j;
      serial_gemm(tile);
    }
  });
}

// Few results, long sums (a weight gradient contracts all rows of a batch): pieces of k in parallel, then their sum in
// order. False if there is no memory for the partial results.
template <class T>
bool split_gemm(const GemmCall<T>& call) noexcept {
  const std::int64_t depth = std::max(kSplitDepth, (call.k + kMaxSplits - 1) / kMaxSplits);
  const std::int64_t splits = (call.k + depth - 1) / depth;
  const std::int64_t results = call.m * call.n;
  const std::size_t bytes = static_cast<std::size_t>(splits * results) * sizeof(T);
  T* partial = nullptr;
  try {
    partial = static_cast<T*>(detail::allocate(bytes, cpu_device));
  } catch (const Error&) {
    return false;
  }
  parallel_for(splits, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t s = begin; s < end; ++s) {
      GemmCall<T> piece = call;
      piece.k = std::min(depth, call.k - s * depth);
      piece.a += s * depth * call.a_col;
      piece.b += s * depth * call.b_row;
      piece.beta = T{0};
      piece.c = partial + s * results;
      piece.ldc = call.n;
      serial_gemm(piece);
    }
  });
  for (std::int64_t i = 0; i < call.m; ++i) {
    for (std::int64_t j = 0; j < call.n; ++j) {
      T sum = partial[i * call.n + j];
      for (std::int64_t s = 1; s < splits; ++s) sum += partial[s * results + i * call.n + j];
      T& c = call.c[i * call.ldc + j];
      c = call.beta == T{0} ? sum : sum + call.beta * c;
    }
  }
  detail::deallocate(partial, bytes, cpu_device);
  return true;
}

template <class T>
void own_gemm(const GemmCall<T>& call, double work) noexcept {
  if (work <= kPieceWork) return serial_gemm(call);
  if (call.m * call.n <= kSplitResults && call.k >= 2 * kSplitDepth && split_gemm(call)) return;
  tiled_gemm(call);
}

#if SOLVENT_WITH_BLAS

void blas_gemm(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, float alpha, const float* a, int lda,
               const float* b, int ldb, float beta, float* c, int ldc) noexcept {
  cblas_sgemm(CblasRowMajor, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

void blas_gemm(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, double alpha, const double* a, int lda,
               const double* b, int ldb, double beta, double* c, int ldc) noexcept {
  cblas_dgemm(CblasRowMajor, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

// False if BLAS may not or cannot be used for this call.
template <class T>
bool try_blas(bool trans_a, bool trans_b, std::int64_t m, std::int64_t n, std::int64_t k, T alpha, const T* a,
              std::int64_t lda, const T* b, std::int64_t ldb, T beta, T* c, std::int64_t ldc) noexcept {
  constexpr std::int64_t kMax = std::numeric_limits<int>::max();
  if (std::max({m, n, k, lda, ldb, ldc}) > kMax || in_parallel_region()) return false;
  detail::prepare_blas();
  blas_gemm(trans_a ? CblasTrans : CblasNoTrans, trans_b ? CblasTrans : CblasNoTrans, static_cast<int>(m),
            static_cast<int>(n), static_cast<int>(k), alpha, a, static_cast<int>(lda), b, static_cast<int>(ldb), beta, c,
            static_cast<int>(ldc));
  return true;
}

#endif

double work_of(std::int64_t m, std::int64_t n, std::int64_t k) noexcept {
  return static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
}

}  // namespace

template <class T>
void gemm(bool trans_a, bool trans_b, std::int64_t m, std::int64_t n, std::int64_t k, T alpha, const T* a, std::int64_t lda,
          const T* b, std::int64_t ldb, T beta, T* c, std::int64_t ldc) noexcept {
  if (m <= 0 || n <= 0) return;
  if (k <= 0 || alpha == T{0}) return scale(m, n, beta, c, ldc);
  const GemmCall<T> call = make_call(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  const double work = work_of(m, n, k);
#if SOLVENT_WITH_BLAS
  const bool is_own = work <= kOwnWork || std::min({m, n, k}) <= kSkinny;
  if (!is_own && try_blas(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)) return;
#endif
  own_gemm(call, work);
}

template <class T>
void gemm_batched(bool trans_a, bool trans_b, std::int64_t m, std::int64_t n, std::int64_t k, T alpha, const T* a,
                  std::int64_t lda, std::int64_t stride_a, const T* b, std::int64_t ldb, std::int64_t stride_b, T beta, T* c,
                  std::int64_t ldc, std::int64_t stride_c, std::int64_t batch) noexcept {
  if (batch <= 0 || m <= 0 || n <= 0) return;
  // A shared right operand and rows that follow each other: one product with batch * m rows.
  if (batch == 1 || (stride_b == 0 && !trans_a && stride_a == m * lda && stride_c == m * ldc))
    return gemm(trans_a, trans_b, batch * m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  const double work = work_of(m, n, k);
  if (k <= 0 || alpha == T{0} || work > kOwnWork) {
    for (std::int64_t i = 0; i < batch; ++i)
      gemm(trans_a, trans_b, m, n, k, alpha, a + i * stride_a, lda, b + i * stride_b, ldb, beta, c + i * stride_c, ldc);
    return;
  }
  const GemmCall<T> first = make_call(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  const auto grain = static_cast<std::int64_t>(std::max(1.0, kPieceWork / work));
  parallel_for(batch, grain, [&](std::int64_t begin, std::int64_t end) {
    GemmCall<T> call = first;
    call.a += begin * stride_a;
    call.b += begin * stride_b;
    call.c += begin * stride_c;
    serial_gemm_batch(call, stride_a, stride_b, stride_c, end - begin);
  });
}

#define SOLVENT_INSTANTIATE(T)                                                                                            \
  template SOLVENT_API void gemm<T>(bool, bool, std::int64_t, std::int64_t, std::int64_t, T, const T*, std::int64_t,      \
                                    const T*, std::int64_t, T, T*, std::int64_t) noexcept;                                \
  template SOLVENT_API void gemm_batched<T>(bool, bool, std::int64_t, std::int64_t, std::int64_t, T, const T*,            \
                                            std::int64_t, std::int64_t, const T*, std::int64_t, std::int64_t, T, T*,      \
                                            std::int64_t, std::int64_t, std::int64_t) noexcept;
SOLVENT_INSTANTIATE(float)
SOLVENT_INSTANTIATE(double)
#undef SOLVENT_INSTANTIATE

}  // namespace solvent::engine
