// The walk of the fused Newton method in float; see gru_newton_walk-inl.h.

#include "solvent/solvers/cuda/gru_newton_walk-inl.h"

namespace solvent::solvers::cuda {

void newton_walk(const NewtonWalk<float>& call, Device device) {
  if (call.hidden == 1) return walk_threads(call, device, walk_threads_kernel<float, 1>);
  if (call.hidden == 2) return walk_threads(call, device, walk_threads_kernel<float, 2>);
  if (call.hidden == 3) return walk_threads(call, device, walk_threads_kernel<float, 3>);
  if (call.hidden == 4) return walk_threads(call, device, walk_threads_kernel<float, 4>);
  if (call.hidden <= 8) return walk_lanes<float, 8, 4>(call, device);
  if (call.hidden <= 16) return walk_lanes<float, 16, 8>(call, device);
  walk_lanes<float, 32, 16>(call, device);
}

void copy_sequences(const float* from, float* to, const bool* marked, std::int64_t steps, std::int64_t batch,
                    std::int64_t hidden, Device device) {
  copy_marked(from, to, marked, steps, batch, hidden, device);
}

}  // namespace solvent::solvers::cuda
