#pragma once
/// The matrix exponential, phi1 and their Frechet derivatives: kernels, and the functions on tensors.

#include <cstdint>

#include "solvent/core/tensor.h"

namespace solvent::cpu {

enum class MatrixFn : std::uint8_t {
  exp,
  phi1,  // (e^a - 1) a^-1 = sum a^k / (k + 1)!
};

/// Coefficients of the numerators of the Pade approximants of e^x, lowest first (Higham 2005, eq. 2.5 and 2.11).
inline constexpr double kPade5[] = {30240, 15120, 3360, 420, 30, 1};
inline constexpr double kPade7[] = {17297280, 8648640, 1995840, 277200, 25200, 1512, 56, 1};
inline constexpr double kPade13[] = {64764752532480000.0,
                                     32382376266240000.0,
                                     7771770303897600.0,
                                     1187353796428800.0,
                                     129060195264000.0,
                                     10559470521600.0,
                                     670442572800.0,
                                     33522128640.0,
                                     1323241920.0,
                                     40840800.0,
                                     960960.0,
                                     16380.0,
                                     182.0,
                                     1.0};

/// f(a) for a (..., n, n).
Tensor matrix_function(MatrixFn fn, const Tensor& a);

/// Derivative of f at `a` in the direction of `e`: both (..., n, n) with equal leading axes. Along axes where `a` has
/// stride 0, what depends on `a` only is computed once.
Tensor matrix_function_derivative(MatrixFn fn, const Tensor& a, const Tensor& e);

/// Operands of a derivative, with the matrices that differ first and axes along which `a` repeats (stride 0) next; dense.
struct ExponentialOrder {
  Tensor a;   // (own..., n, n)
  Tensor e;   // (own..., repeated..., n, n)
  Axes axes;  // of e's original order
};
ExponentialOrder order_axes(const Tensor& a, const Tensor& e);
/// `out`, shaped as the ordered e, in the axis order and shape of the original one.
Tensor restore_axes(const ExponentialOrder& order, const Tensor& out, const Shape& shape);

/// One matrix a (n, n) with `directions` matrices e: all in memory, row-major.
template <class T>
struct ExponentialTask {
  const T* a;
  const T* e;  // (directions, n, n)
  T* out;      // f(a), or with directions > 0 the (directions, n, n) derivatives
};

template <class T>
struct ExponentialKernels {
  /// Matrices per call of `small`.
  std::int64_t lanes;
  /// Side by side in the lanes of vectors, 1 to `lanes` tasks. Sets redo[i] for matrices that `large` must do.
  void (*small)(MatrixFn fn, std::int64_t n, std::int64_t directions, const ExponentialTask<T>* tasks,
                std::int64_t count, bool* redo, T* work);
  /// One matrix by matrix products.
  void (*large)(MatrixFn fn, std::int64_t n, std::int64_t directions, const ExponentialTask<T>& task,
                std::int64_t* pivots, T* work);
};

const ExponentialKernels<float>& exponential_kernels(float) noexcept;
const ExponentialKernels<double>& exponential_kernels(double) noexcept;

/// Matrices (n, n) times (1 + directions) that a task works with.
inline constexpr std::int64_t kExponentialBuffers = 10;

}  // namespace solvent::cpu
