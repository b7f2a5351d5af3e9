#pragma once
/// Factorisations of row-major matrices in memory, one matrix per call, chosen at run time for the vector instructions
/// of the machine; and the functions on tensors that the operations call.

#include <cstdint>

#include "solvent/autodiff/op.h"
#include "solvent/core/export.h"

namespace solvent::cpu {

/// Lower Cholesky factor of (a + a^T) / 2 for a (..., n, n), zeros above the diagonal. @throws ValueError if a matrix is
/// not positive definite
Tensor cholesky(const Tensor& a);

/// x with a x = b where only one triangle of a (..., n, n) is read (without its diagonal if `unit`); leading axes are
/// equal. Along axes where `a` has stride 0 all right-hand sides are solved together. @throws ValueError for a zero on
/// the diagonal
Tensor triangular_solve(const Tensor& a, const Tensor& b, bool upper, bool unit);

/// {q (..., m, n), r (..., n, n)} of a (..., m, n) with m >= n; diagonal of r >= 0.
TensorVec qr(const Tensor& a);

/// {values (..., n) ascending, vectors (..., n, n) in columns} of (a + a^T) / 2. @throws ValueError without convergence
TensorVec eigh(const Tensor& a);

/// {u (..., m, n), s (..., n) descending, vt (..., n, n)} of a (..., m, n) with m >= n. @throws ValueError without
/// convergence
TensorVec svd(const Tensor& a);

/// Kernels on one matrix. `work` has the number of elements that the function of that name says.
template <class T>
struct FactorKernels {
  /// a (n, n), lower triangle read and overwritten; returns the first pivot that is not positive, or -1.
  std::int64_t (*cholesky)(T* a, std::int64_t n);
  /// Matrices per call of `cholesky_lanes`.
  std::int64_t lanes;
  /// The same for 1 to `lanes` matrices one after the other in memory, side by side in the lanes of vectors; reads both
  /// triangles of a symmetric matrix. work: n n lanes
  void (*cholesky_lanes)(T* a, std::int64_t n, std::int64_t count, std::int64_t* failed, T* work);
  /// a (n, n) <- L and U of rows exchanged as in `pivots` (n); returns the column of a pivot that is 0, or -1.
  std::int64_t (*lu)(T* a, std::int64_t n, std::int64_t* pivots);
  /// x (n, k) <- a^-1 x from what `lu` left.
  void (*lu_solve)(const T* lu, std::int64_t n, const std::int64_t* pivots, T* x, std::int64_t k);
  /// x (n, k) <- a^-1 x; returns the first zero on the diagonal or -1.
  std::int64_t (*triangular_solve)(const T* a, std::int64_t n, bool upper, bool unit, T* x, std::int64_t k);
  /// a (m, n), m >= n, is destroyed; q (m, n), r (n, n). work: qr_work(m, n)
  void (*qr)(T* a, std::int64_t m, std::int64_t n, T* q, T* r, T* work);
};

template <class T>
struct SpectralKernels {
  /// a (n, n) symmetric, destroyed -> values (n) in no order and `rows` (n, n) with their eigenvectors. work: 5 n.
  /// False: no convergence.
  bool (*eigh)(T* a, std::int64_t n, T* values, T* rows, T* work);
  /// Rotates rows of r (n, n) until they are orthogonal, and the rows of j (n, n) with them. False: no convergence.
  bool (*orthogonalise)(T* r, T* j, std::int64_t n);
};

inline std::int64_t qr_work(std::int64_t m, std::int64_t n) noexcept {
  constexpr std::int64_t kPanel = 32;
  return m * kPanel + kPanel * (3 * kPanel + 2 * n) + 2 * n;
}

const FactorKernels<float>& factor_kernels(float) noexcept;
const FactorKernels<double>& factor_kernels(double) noexcept;
SOLVENT_API const SpectralKernels<float>& spectral_kernels(float) noexcept;
SOLVENT_API const SpectralKernels<double>& spectral_kernels(double) noexcept;

}  // namespace solvent::cpu
