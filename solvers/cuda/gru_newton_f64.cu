// The walk of the fused Newton method in double; see gru_newton_walk-inl.h.

#include "solvent/solvers/cuda/gru_newton_walk-inl.h"

namespace solvent::solvers::cuda {

void newton_walk(const NewtonWalk<double>& call, Device device) { launch_walk(call, WalkLaunch<double>{call, device}); }

void copy_sequences(const double* from, double* to, const bool* marked, std::int64_t steps, std::int64_t batch,
                    std::int64_t hidden, Device device) {
  copy_marked(from, to, marked, steps, batch, hidden, device);
}

}  // namespace solvent::solvers::cuda
