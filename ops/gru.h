#pragma once
/// The gated recurrent unit over a whole sequence as one fused operation: the honest sequential baseline.

#include "solvent/autodiff/basis.h"

namespace solvent {

/// States of a GRU (Cho et al. 2014 in the form of PyTorch, Equinox and Flax) after every step:
///   r = sigmoid(W_ir x + b_r + W_hr h),  z = sigmoid(W_iz x + b_z + W_hz h),
///   c = tanh(W_in x + b_n + r * (W_hn h + b_hn)),  h' = (1 - z) * c + z * h.
///
/// @param xs   (T, B, I)
/// @param h0   (B, H)
/// @param w_ih (3H, I) gates in the order r, z, n, rows are outputs (PyTorch's layout)
/// @param w_hh (3H, H) likewise
/// @param b    (3H) input-side biases (for r and z the sum of both of PyTorch's)
/// @param b_hn (H) the bias inside r * (...)
/// @return     (T, B, H)
/// @throws ShapeError (also for T == 0), DtypeError, DeviceError
///
/// Differentiable in all arguments to any order; the backward pass recomputes or saves gates, whichever is faster.
SOLVENT_API Tensor gru_sequence(Tensor xs, Tensor h0, Tensor w_ih, Tensor w_hh, Tensor b, Tensor b_hn);

}  // namespace solvent
