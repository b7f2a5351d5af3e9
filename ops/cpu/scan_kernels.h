#pragma once
/// Affine scans h_t = A_t h_{t-1} + b_t on raw memory, forward or reversed in time.
///
/// Results have the same bits for any number of threads, and with at least two sequences (or right-hand sides) each
/// sequence is a plain recurrence whose bits do not depend on its neighbours. A single sequence is cut into a number of
/// chunks that depends on T only, so its result differs from the plain recurrence by rounding.

#include <cstdint>

#include "solvent/core/export.h"

namespace solvent::cpu {

/// Sizes and direction of a scan.
///
/// `lead` right-hand sides share the same A (K tangent directions over one Newton system): A is read once for all of
/// them. With `reversed` the recurrence runs from the last step to the first: h_t = A_{t+1} h_{t+1} + b_t, where
/// A_{T} never enters, h0 stands for the state after the last step, and its matrix is A_T only if `shift_a` is false:
///
///   reversed, shift_a = false:  h_t = A_t     h_{t+1} + b_t,  h_T = h0        (mirror image of the forward scan)
///   reversed, shift_a = true:   h_t = A_{t+1} h_{t+1} + b_t,  h_{T-1} = b_{T-1}  (h0 is not read; A_0 is not read)
///
/// The second form with `transposed` is the adjoint of the forward scan: lambda_t = g_t + A_{t+1}^T lambda_{t+1}.
struct ScanShape {
  std::int64_t T = 0;     ///< time steps, >= 1
  std::int64_t B = 1;     ///< sequences, each with its own A
  std::int64_t n = 0;     ///< state size
  std::int64_t lead = 1;  ///< right-hand sides per sequence
  std::int64_t block = 0; ///< 0: dense A (T, B, n, n); 1: diagonal A (T, B, n); 2..4: blocks A (T, B, n/k, k, k)
  bool reversed = false;
  bool transposed = false;  ///< use A^T (no effect for a diagonal A)
  bool shift_a = false;     ///< reversed only: step t uses A_{t+1}
};

/// Solves the recurrence.
///
/// @param a   transition matrices, contiguous, layout by `shape.block`.
/// @param b   (lead, T, B, n) inputs, contiguous.
/// @param h0  (lead, B, n) initial states; null means zeros.
/// @param h   (lead, T, B, n) states (output; may be the same memory as `b`).
template <class T>
SOLVENT_API void affine_scan(const ScanShape& shape, const T* a, const T* b, const T* h0, T* h);

}  // namespace solvent::cpu
