#pragma once
/// Matrix products on raw row-major memory. The only place that calls BLAS.

#include <cstdint>

#include "solvent/core/export.h"

namespace solvent::engine {

/// One operand of a product: row-major with leading dimension `ld`, optionally read transposed.
/// C = alpha * op(A) op(B) + beta * C with op(A) (m, k), op(B) (k, n), C (m, n).
/// Sizes may be 0. Deterministic: bits do not depend on the number of threads.
template <class T>
SOLVENT_API void gemm(bool trans_a, bool trans_b, std::int64_t m, std::int64_t n, std::int64_t k, T alpha, const T* a,
                      std::int64_t lda, const T* b, std::int64_t ldb, T beta, T* c, std::int64_t ldc) noexcept;

/// `batch` independent products with strides between consecutive operands (0 = shared). Small matrices use a serial
/// micro-kernel with the batch split over threads; large ones call gemm one after the other.
template <class T>
SOLVENT_API void gemm_batched(bool trans_a, bool trans_b, std::int64_t m, std::int64_t n, std::int64_t k, T alpha,
                              const T* a, std::int64_t lda, std::int64_t stride_a, const T* b, std::int64_t ldb,
                              std::int64_t stride_b, T beta, T* c, std::int64_t ldc, std::int64_t stride_c,
                              std::int64_t batch) noexcept;

}  // namespace solvent::engine
