#pragma once
/// Newton's method (DEER) for one GRU layer on a GPU. Internal to solvers/.

#include "solvent/core/tensor.h"
#include "solvent/solvers/sequence.h"

namespace solvent::solvers::cuda {

/// Largest number of units of `gru_newton`.
inline constexpr std::int64_t kGruNewtonMaxHidden = 32;

/// As `Deer{.damping = options.damping, .window = options.chunk}` from `options.guess` on the generic path: the same iterates up to rounding, the same order of tests, the
/// best iterate and status of every sequence. The Jacobians never go through memory. The host waits once per step, for two
/// numbers per sequence.
///
/// @param h0     (B, H), H <= kGruNewtonMaxHidden
/// @param xs     (T, B, I)
/// @param theta  w_ih (3H, I), w_hh (3H, H), b (3H), b_hn (H); all on one GPU, of one dtype, T and B at least 1
/// @throws DeviceError, OutOfMemoryError
FusedResult gru_newton(const Tensor& h0, const Tensor& xs, const Tensors& theta, const FusedOptions& options);

}  // namespace solvent::solvers::cuda
