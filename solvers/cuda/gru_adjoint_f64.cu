// The walks of the GRU's adjoint in double; see gru_adjoint_walk-inl.h.

#include "solvent/solvers/cuda/gru_adjoint_walk-inl.h"

namespace solvent::solvers::cuda {

void adjoint_maps(const AdjointWalk<double>& call, Device device) {
  launch_walk(call, AdjointLaunch<double, false>{call, device});
}
void adjoint_replay(const AdjointWalk<double>& call, Device device) {
  launch_walk(call, AdjointLaunch<double, true>{call, device});
}

}  // namespace solvent::solvers::cuda
