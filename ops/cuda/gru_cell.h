#pragma once
/// The cell of a gated recurrent unit, one hidden unit at a time. For `.cu` files only; formulas as in ops/cpu/gru_kernels.h.

#include <cmath>

#include "solvent/core/cuda/launch.h"

namespace solvent::cuda {

/// 1 / d for d >= 1: the instructions of a division without its branch for denormal results, behind which a second division
/// would have to wait. Correctly rounded up to d = 2^126, 0 beyond.
__device__ inline float reciprocal(float d) {
#if SOLVENT_CUDA_EMULATED
  return d > 0x1p126f ? 0.0f : 1.0f / d;
#else
  float first;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(first) : "f"(d));
  const float refined = std::fma(first, std::fma(-d, first, 1.0f), first);
  return d > 0x1p126f ? 0.0f : refined;
#endif
}
__device__ inline double reciprocal(double d) { return 1.0 / d; }

template <class T>
__device__ T sigmoid(T x) {
  return reciprocal(T(1) + std::exp(-x));
}

/// What one unit computes from its pre-activations.
template <class T>
struct GruUnit {
  T r, z, n, q;

  GruUnit() = default;
  /// From the sums for r, z and n (inputs and bias; for r and z also states) and q = W_hn h + b_hn.
  __device__ GruUnit(T of_r, T of_z, T of_n, T of_q)
      : r(sigmoid(of_r)), z(sigmoid(of_z)), n(std::tanh(std::fma(sigmoid(of_r), of_q, of_n))), q(of_q) {}

  /// (1 - z) n + z h
  __device__ T next(T h) const { return std::fma(z, h - n, n); }
};

/// Factors of the rows of W_hr, W_hz and W_hn in the Jacobian, and d h' / d (pre-activation of n).
template <class T>
struct GruSlopes {
  T r, z, q, n;

  __device__ GruSlopes(const GruUnit<T>& unit, T h) {
    const T keep = T(1) - unit.z;
    n = keep * (T(1) - unit.n * unit.n);
    q = n * unit.r;
    r = q * unit.q * (T(1) - unit.r);
    z = (h - unit.n) * unit.z * keep;
  }
};

}  // namespace solvent::cuda
