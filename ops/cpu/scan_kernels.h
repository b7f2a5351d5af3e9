#pragma once
/// Affine scans h_t = A_t h_{t-1} + b_t on raw memory, forward or reversed in time.
///
/// Results have the same bits for any number of threads. Each sequence is a plain recurrence whose bits do not depend on
/// its neighbours, with two exceptions, both for a lone sequence with one right-hand side and T >= 4096: with blocks or
/// matrices up to 4 x 4 it is cut into chunks whose number depends on T only, and a diagonal chain is scanned a few steps
/// at a time. These two differ from the plain recurrence by rounding.

#include <cstdint>

#include "solvent/core/export.h"

namespace solvent::cpu {

/// Sizes and direction of a scan.
///
/// `lead` right-hand sides share the same A (K tangent directions over one Newton system): A is read once for all of
/// them. Directions:
///
///   forward                     h_t = A_t     h_{t-1} + b_t,  h_{-1} = h0
///   reversed                    h_t = A_t     h_{t+1} + b_t,  h_T = h0            (mirror image of the forward scan)
///   reversed, shift_a           h_t = A_{t+1} h_{t+1} + b_t,  h_{T-1} = b_{T-1}   (neither h0 nor A_0 is read)
///
/// The last one with `transposed` is the adjoint of the forward scan: lambda_t = g_t + A_{t+1}^T lambda_{t+1}.
struct ScanShape {
  std::int64_t T = 0;       ///< time steps, >= 1
  std::int64_t B = 1;       ///< sequences, each with its own A
  std::int64_t n = 0;       ///< state size
  std::int64_t lead = 1;    ///< right-hand sides per sequence
  std::int64_t block = 0;   ///< 0: dense A (T, B, n, n); 1: diagonal A (T, B, n); 2..4: blocks A (T, B, n/k, k, k)
  bool reversed = false;    ///< run from the last step to the first
  bool transposed = false;  ///< use A^T (no effect for a diagonal A)
  bool shift_a = false;     ///< reversed only: step t uses A_{t+1}
};

/// Solves the recurrence.
///
/// @param a   transition matrices, row-major, contiguous, layout by `shape.block`.
/// @param b   (lead, T, B, n) inputs, contiguous.
/// @param h0  (lead, B, n) initial states; null means zeros.
/// @param h   (lead, T, B, n) states (output; may be the same memory as `b`).
template <class T>
SOLVENT_API void affine_scan(const ScanShape& shape, const T* a, const T* b, const T* h0, T* h);

namespace detail {

/// `affine_scan` for A (T, n): n independent chains; `shape.B` is 1.
template <class T>
void diagonal_scan(const ScanShape& shape, const T* a, const T* b, const T* h0, T* h);

/// `affine_scan` for A (T, B, n, n).
template <class T>
void dense_scan(const ScanShape& shape, const T* a, const T* b, const T* h0, T* h);

}  // namespace detail
}  // namespace solvent::cpu
