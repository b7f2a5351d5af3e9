#pragma once
/// Functions of square matrices, on batches (..., n, n); float32 and float64. Differentiable to any order; the same bits
/// for any number of threads. ShapeError and DtypeError for other operands; NaN or infinity in a matrix gives NaN.

#include "solvent/autodiff/basis.h"

namespace solvent {

/// Matrix exponential e^a = sum a^k / k!.
///
/// Pade approximation with scaling and squaring; backward stable in practice, with relative error about
/// eps max(1, |a|_1) for normal matrices. Overflow gives infinity or NaN.
/// The derivative is the Frechet derivative, computed by the same algorithm on pairs (three times the work).
/// Sources: Higham 2005; Al-Mohy & Higham 2009 (scaling by norms of powers; Frechet derivative).
SOLVENT_API Tensor expm(Tensor a);

/// phi1(a) = sum a^k / (k + 1)!, which is a^-1 (e^a - 1) for invertible a: the weight of a constant forcing over one step
/// of y' = a y + b, y(1) = e^a y(0) + phi1(a) b.
///
/// Nothing is divided by `a`: singular, zero and tiny matrices are as accurate as others. Scaling and doubling keep it
/// stable for large ones. e^a is `1 + a phi1(a)`, so a step needs only this function. Source: Skaflestad & Wright 2009,
/// "The scaling and modified squaring method for matrix functions related to the exponential".
SOLVENT_API Tensor phi1(Tensor a);

}  // namespace solvent
