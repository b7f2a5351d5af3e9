#pragma once
/// What the files of the shooting kernel share; not part of any interface.

#include <cstdint>

#include "solvent/ops/cpu/gru_kernels.h"

namespace solvent::cpu {

/// How time is cut: chunk c of every sequence has the steps [c length, (c+1) length); the last T - count * length < count
/// steps follow one by one.
struct ShootingPlan {
  std::int64_t count = 1;
  std::int64_t length = 0;
  std::int64_t burn_in = 0;
};

/// One rollout to do.
struct Rollout {
  std::int64_t sequence;
  std::int64_t chunk;
};

template <class T>
struct RolloutProblem {
  const GruShape& shape;
  const ShootingPlan& plan;
  const GruWeights<T>& weights;
  const T* xs;
  T* hs;
  T* starts;     ///< (count, B, H): states before each chunk; with burn-in written, except for chunk 0
  bool burn_in;  ///< roll out `plan.burn_in` steps from zero first, for chunks other than 0
};

}  // namespace solvent::cpu
