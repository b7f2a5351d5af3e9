// The walks of the GRU's adjoint in float; see gru_adjoint_walk-inl.h.

#include "solvent/solvers/cuda/gru_adjoint_walk-inl.h"

namespace solvent::solvers::cuda {

void adjoint_maps(const AdjointWalk<float>& call, Device device) {
  launch_walk(call, AdjointLaunch<float, false>{call, device});
}
void adjoint_replay(const AdjointWalk<float>& call, Device device) {
  launch_walk(call, AdjointLaunch<float, true>{call, device});
}

}  // namespace solvent::solvers::cuda
