#pragma once
/// First-order linear recurrences, solved for all time steps at once.

#include "solvent/autodiff/basis.h"

namespace solvent {

/// Solves h_t = A_t h_{t-1} + b_t, t = 1..T (Blelloch 1990, first-order recurrences).
///
/// @param a   (T, B, n, n) dense, (T, B, n) diagonal, or (T, B, n/k, k, k) block-diagonal with k <= 4. Any strides.
/// @param b   (..., T, B, n) inputs; extra leading axes (directions) share `a`.
/// @param h0  (..., B, n) state before step 1.
/// @return    shape of b; row t is the state after step t. T may be 1.
/// @throws ShapeError if T, B or n disagree or T == 0; DtypeError.
///
/// Work O(T n^2) per sequence when there are sequences enough to fill the machine, else O(T n^3) by chunks.
/// Deterministic; differentiable in all arguments to any order.
SOLVENT_API Tensor affine_scan(Tensor a, Tensor b, Tensor h0);

/// Solves l_t = A_{t+1}^T l_{t+1} + b_t, t = T..1, with l_{T+1} = 0 (the first matrix is not read): the adjoint of
/// affine_scan in b.
SOLVENT_API Tensor affine_scan_reversed(Tensor a, Tensor b);

/// Running sum along an axis: y_i = x_0 + ... + x_i. `reversed` sums from the end; `exclusive` leaves x_i itself out, so
/// that the first sum (the last, if reversed) is 0. @throws ShapeError, DtypeError for bool and uint8
SOLVENT_API Tensor cumsum(Tensor x, std::int64_t axis, bool reversed = false, bool exclusive = false);

/// Running product along an axis: y_i = x_0 ... x_i. `reversed` multiplies from the end; `exclusive` leaves x_i itself out,
/// so that the first product (the last, if reversed) is 1. int64 wraps around. @throws ShapeError, DtypeError
///
/// Derivatives are exact where x has zeros: they solve dy_i = x_i dy_{i-1} + y_{i-1} dx_i and divide by nothing.
SOLVENT_API Tensor cumprod(Tensor x, std::int64_t axis, bool reversed = false, bool exclusive = false);

}  // namespace solvent
