#pragma once
/// Own matrix product on one thread: small and skinny sizes, batches, builds without BLAS. Internal to core.

#include <cstdint>

namespace solvent::engine {

/// One product C = alpha op(A) op(B) + beta C. Strides are in elements; transposition is a swap of two strides.
template <class T>
struct GemmCall {
  std::int64_t m, n, k;
  T alpha;
  const T* a;
  std::int64_t a_row, a_col;  // op(A)[i][p] = a[i * a_row + p * a_col]
  const T* b;
  std::int64_t b_row, b_col;  // op(B)[p][j] = b[p * b_row + j * b_col]
  T beta;
  T* c;
  std::int64_t ldc;
};

/// Needs m, n >= 1. No allocation, no threads; `c` is not read when beta is 0. Summation runs over k in order, in blocks
/// that depend on sizes only.
void serial_gemm(const GemmCall<float>& call) noexcept;
void serial_gemm(const GemmCall<double>& call) noexcept;

/// `batch` products with the given strides between operands.
void serial_gemm_batch(const GemmCall<float>& first, std::int64_t stride_a, std::int64_t stride_b, std::int64_t stride_c,
                       std::int64_t batch) noexcept;
void serial_gemm_batch(const GemmCall<double>& first, std::int64_t stride_a, std::int64_t stride_b, std::int64_t stride_c,
                       std::int64_t batch) noexcept;

}  // namespace solvent::engine
