#pragma once
/// The adjoint of one GRU layer, parallel in time, on a GPU. Internal to solvers/.

#include "solvent/core/tensor.h"

namespace solvent::solvers::cuda {

/// Largest number of units of `gru_adjoint`.
inline constexpr std::int64_t kGruAdjointMaxHidden = 32;

/// Solves l_t = g_t + J_{t+1}^T l_{t+1} from l_{T+1} = 0, J_t = dh_t/dh_{t-1} at the states given: what affine_scan_reversed
/// computes from Jacobians, which here never go through memory. Gates are computed again from the states. The order of
/// all sums depends on sizes only.
///
/// @param hs     (T, B, H), H <= kGruAdjointMaxHidden: states after every step
/// @param h0     (B, H)
/// @param xs     (T, B, I)
/// @param theta  w_ih (3H, I), w_hh (3H, H), b (3H), b_hn (H)
/// @param g      (T, B, H); all on one GPU, of one dtype, T and B at least 1
/// @return       (T, B, H)
/// @throws DeviceError, OutOfMemoryError
Tensor gru_adjoint(const Tensor& hs, const Tensor& h0, const Tensor& xs, const Tensors& theta, const Tensor& g);

}  // namespace solvent::solvers::cuda
