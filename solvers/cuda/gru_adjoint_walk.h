#pragma once
/// The kernels of gru_adjoint. Internal to solvers/cuda.

#include <cstdint>

#include "solvent/core/device.h"
#include "solvent/solvers/cuda/gru_walk.h"

namespace solvent::solvers::cuda {

/// The adjoint recurrence in chunks of time. With mu_t = J_t^T l_t, what a step hands to the one before it:
///
///     l_t = g_t + mu_{t+1},   mu_t = J_t^T (g_t + mu_{t+1}),   mu_{T+1} = 0
///
/// Maps of chunks, mu -> P mu + v, and what is scanned over them have the latest chunk first; the first chunk has no map.
template <class T>
struct AdjointWalk : GruWalk<T> {
  const T* hs;       ///< (steps, batch, hidden)
  const T* g;        ///< (steps, batch, hidden)
  T* adjoint;        ///< (steps, batch, hidden): l
  T* matrices;       ///< (chunks - 1, batch, hidden, hidden): P; 0 for the latest chunk, where mu = 0
  T* offsets;        ///< (chunks - 1, batch, hidden): v
  const T* carries;  ///< (chunks - 1, batch, hidden): mu that each chunk hands to the one before it
};
/// Writes the maps of the chunks, or, with `carries`, l. hidden <= 32. @throws DeviceError
/// @{
void adjoint_maps(const AdjointWalk<float>& call, Device device);
void adjoint_maps(const AdjointWalk<double>& call, Device device);
void adjoint_replay(const AdjointWalk<float>& call, Device device);
void adjoint_replay(const AdjointWalk<double>& call, Device device);
/// @}

}  // namespace solvent::solvers::cuda
