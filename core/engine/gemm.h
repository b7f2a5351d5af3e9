#pragma once
/// Matrix products on raw row-major memory, computed by Solvent's own kernels.
///
/// BLAS is called only if the environment says SOLVENT_GEMM=blas, and nowhere else in the library: OpenBLAS cuts its sums
/// according to the number of threads, so its bits depend on it; the own kernels reach its speed for large products and
/// exceed it for small ones (core/README.md).

#include <cstdint>

#include "solvent/core/export.h"

namespace solvent::engine {

/// Matrices are row-major with leading dimension `ld`, operands optionally read transposed.
/// C = alpha * op(A) op(B) + beta * C with op(A) (m, k), op(B) (k, n), C (m, n).
/// Sizes may be 0. C is not read when beta is 0; A and B are not read when alpha or k is 0; NaN and infinity in operands
/// reach the result. The bits do not depend on the number of threads.
template <class T>
SOLVENT_API void gemm(bool trans_a, bool trans_b, std::int64_t m, std::int64_t n, std::int64_t k, T alpha, const T* a,
                      std::int64_t lda, const T* b, std::int64_t ldb, T beta, T* c, std::int64_t ldc) noexcept;

/// `batch` independent products with strides between consecutive operands (0 = shared, inputs only). Small matrices use
/// a serial kernel with the batch split over threads; large ones call gemm one after the other; a shared right operand
/// and consecutive rows become one large product.
template <class T>
SOLVENT_API void gemm_batched(bool trans_a, bool trans_b, std::int64_t m, std::int64_t n, std::int64_t k, T alpha,
                              const T* a, std::int64_t lda, std::int64_t stride_a, const T* b, std::int64_t ldb,
                              std::int64_t stride_b, T beta, T* c, std::int64_t ldc, std::int64_t stride_c,
                              std::int64_t batch) noexcept;

}  // namespace solvent::engine
