#pragma once
/// The kernels of gru_newton. Internal to solvers/cuda.

#include <cstdint>
#include <type_traits>

#include "solvent/core/device.h"
#include "solvent/solvers/cuda/gru_walk.h"

namespace solvent::solvers::cuda {

/// Bits of a number that is not negative; they are ordered as the numbers are.
template <class T>
using NormBits = std::conditional_t<sizeof(T) == 4, unsigned, unsigned long long>;

/// One pass over all steps: y <- y + d with d_t = J_t d_{t-1} + r_t at the old states, then r and J at the new ones, composed
/// to one map d -> A d + v per chunk of time; with damping, a part of J in its place.
template <class T>
struct NewtonWalk : GruWalk<T> {
  const T* from;    ///< (steps, batch, hidden): the old states; null: `before` at every step
  T* to;            ///< (steps, batch, hidden): the new states
  const T* deltas;  ///< (chunks - 1, batch, hidden): d at the end of each chunk but the last
  T* matrices;      ///< (chunks - 1, batch, hidden, hidden): A of each chunk but the last; 0 for the first, where d = 0
  T* offsets;       ///< (chunks - 1, batch, hidden): v
  NormBits<T>*
      norms;  ///< (2, batch), zero before: largest |r| / (atol + rtol |y|), largest |r|; infinite if not finite
  const bool* active;  ///< (batch): sequences to walk over
  T atol, rtol;
  bool corrects;  ///< false: the new states are the old ones
  T keep;         ///< 1 - damping: factor of J
};
/// hidden <= 32. @throws DeviceError
/// @{
void newton_walk(const NewtonWalk<float>& call, Device device);
void newton_walk(const NewtonWalk<double>& call, Device device);
/// @}

/// Copies the marked sequences of (steps, batch, hidden). @throws DeviceError
/// @{
void copy_sequences(const float* from, float* to, const bool* marked, std::int64_t steps, std::int64_t batch,
                    std::int64_t hidden, Device device);
void copy_sequences(const double* from, double* to, const bool* marked, std::int64_t steps, std::int64_t batch,
                    std::int64_t hidden, Device device);
/// @}

}  // namespace solvent::solvers::cuda
