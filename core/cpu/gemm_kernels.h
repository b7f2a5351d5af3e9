#pragma once
/// Matrix product kernels, chosen at run time for the vector instructions of the machine. One thread, no allocation,
/// nothing that can fail. Internal to core: engine/gemm.h is the interface.

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

/// The kernels of one element type. All need m, n, k >= 1 and do not read `c` when beta is 0. Sums run over k in order,
/// in blocks that depend on sizes only.
template <class T>
struct GemmKernels {
  /// `batch` products of small or skinny matrices, with strides between the operands.
  void (*batch)(const GemmCall<T>& first, std::int64_t stride_a, std::int64_t stride_b, std::int64_t stride_c,
                std::int64_t batch);
  /// Copies op(B) into panels of `panel` columns: column j of row p goes to to[(j / panel * k + p) * panel + j % panel].
  void (*pack)(const T* b, std::int64_t b_row, std::int64_t b_col, std::int64_t k, std::int64_t n, T* to);
  /// One product whose op(B) was packed; b, b_row and b_col of the call are ignored.
  void (*multiply_packed)(const GemmCall<T>& call, const T* packed);
  /// Columns per panel: two vectors.
  std::int64_t panel;
};

const GemmKernels<float>& gemm_kernels(float) noexcept;
const GemmKernels<double>& gemm_kernels(double) noexcept;

}  // namespace solvent::engine
