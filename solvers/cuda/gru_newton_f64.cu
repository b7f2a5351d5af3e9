// The walk of the fused Newton method in double; see gru_newton_walk-inl.h.

#include "solvent/solvers/cuda/gru_newton_walk-inl.h"

namespace solvent::solvers::cuda {

void newton_walk(const NewtonWalk<double>& call, Device device) {
  if (call.hidden == 1) return walk_threads(call, device, walk_threads_kernel<double, 1>);
  if (call.hidden == 2) return walk_threads(call, device, walk_threads_kernel<double, 2>);
  if (call.hidden == 3) return walk_threads(call, device, walk_threads_kernel<double, 3>);
  if (call.hidden == 4) return walk_threads(call, device, walk_threads_kernel<double, 4>);
  if (call.hidden <= 8) return walk_lanes<double, 8, 4>(call, device);
  if (call.hidden <= 16) return walk_lanes<double, 16, 8>(call, device);
  walk_lanes<double, 32, 32>(call, device);
}

void copy_sequences(const double* from, double* to, const bool* marked, std::int64_t steps, std::int64_t batch,
                    std::int64_t hidden, Device device) {
  copy_marked(from, to, marked, steps, batch, hidden, device);
}

}  // namespace solvent::solvers::cuda
