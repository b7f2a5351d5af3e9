// The walks of the GRU's adjoint in double; see gru_adjoint_walk-inl.h.

#include "solvent/solvers/cuda/gru_adjoint_walk-inl.h"

namespace solvent::solvers::cuda {
namespace {

template <bool kReplay>
void walk(const AdjointWalk<double>& call, Device device) {
  if (call.hidden == 1) return adjoint_threads(call, device, kReplay, adjoint_threads_kernel<double, 1, kReplay>);
  if (call.hidden == 2) return adjoint_threads(call, device, kReplay, adjoint_threads_kernel<double, 2, kReplay>);
  if (call.hidden == 3) return adjoint_threads(call, device, kReplay, adjoint_threads_kernel<double, 3, kReplay>);
  if (call.hidden == 4) return adjoint_threads(call, device, kReplay, adjoint_threads_kernel<double, 4, kReplay>);
  if (call.hidden <= 8) return adjoint_lanes<double, 8, 4, kReplay>(call, device);
  if (call.hidden <= 16) return adjoint_lanes<double, 16, 8, kReplay>(call, device);
  adjoint_lanes<double, 32, 32, kReplay>(call, device);
}

}  // namespace

void adjoint_maps(const AdjointWalk<double>& call, Device device) { walk<false>(call, device); }
void adjoint_replay(const AdjointWalk<double>& call, Device device) { walk<true>(call, device); }

}  // namespace solvent::solvers::cuda
