// Cells of nn/ as solvers see them, with their fused kernels.

#include "solvent/solvers/sequence.h"

namespace solvent::solvers {

SequenceCell sequence_cell(const nn::RecurrentCell& cell) {
  SequenceCell c;
  const bool projected = static_cast<bool>(cell.project);
  c.project = cell.project;
  c.step = projected ? cell.step_projected : cell.step;
  c.jacobian = projected ? cell.jacobian_projected : cell.jacobian;
  c.jacobian_diagonal = projected ? cell.jacobian_diagonal_projected : cell.jacobian_diagonal;
  return c;
}

Solution solve_sequence(const nn::RecurrentCell& cell, const Tensor& h0, const Tensor& xs, const SequenceMethod& method,
                        const Options& options) {
  return solve_sequence(sequence_cell(cell), h0, xs, cell.theta, method, options);
}

}  // namespace solvent::solvers
