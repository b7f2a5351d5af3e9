// The walk of the fused Newton method in float; see gru_newton_walk-inl.h.

#include "solvent/solvers/cuda/gru_newton_walk-inl.h"

namespace solvent::solvers::cuda {

void newton_walk(const NewtonWalk<float>& call, Device device) { launch_walk(call, WalkLaunch<float>{call, device}); }

void copy_sequences(const float* from, float* to, const bool* marked, std::int64_t steps, std::int64_t batch,
                    std::int64_t hidden, Device device) {
  copy_marked(from, to, marked, steps, batch, hidden, device);
}

}  // namespace solvent::solvers::cuda
