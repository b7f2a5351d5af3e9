#pragma once
/// Multiple shooting for one GRU layer on a GPU. Internal to solvers/.

#include "solvent/core/tensor.h"
#include "solvent/solvers/cpu/gru_shooting.h"

namespace solvent::solvers::cuda {

/// As cpu::gru_shooting: chunks of time are rolled out side by side, the first time from zero states `burn_in` steps early;
/// while the end of a chunk is not the start of the next one, the chunks behind wrong borders are rolled out again. Chunk by
/// chunk the states get the bits of one rollout over all steps. The host waits once per pass.
///
/// @param h0     (B, H), H <= solvent::cuda::kGruPersistentHidden
/// @param xs     (T, B, I)
/// @param theta  w_ih (3H, I), w_hh (3H, H), b (3H), b_hn (H); all on one GPU, of one dtype, T and B at least 1
/// @param hs     (T, B, H), made by engine::empty: the states
/// @throws DeviceError, OutOfMemoryError
solvent::cpu::GruSolveReport gru_shooting(const Tensor& h0, const Tensor& xs, const Tensors& theta, Tensor& hs,
                                          const solvent::cpu::GruShootingOptions& options);

}  // namespace solvent::solvers::cuda
