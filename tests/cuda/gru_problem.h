#pragma once
/// A GRU on the device of the tests, as the sequence methods see it.

#include "solvent/core/rng.h"
#include "solvent/nn/gru.h"
#include "solvent/ops/ops.h"
#include "solvent/solvers/sequence.h"
#include "solvent/tests/cuda/cuda_device.h"

namespace solvent::testing {

/// A cell with its weights, first states (batch, n) and inputs (steps, batch, inputs).
struct GruProblem {
  solvers::SequenceCell cell;
  Tensor h0, xs;
  Tensors theta;
};

/// Random states and inputs for `gru`.
inline GruProblem gru_problem(const nn::GruCell& gru, std::int64_t steps, std::int64_t batch) {
  const DType dtype = gru.w_hh.value().dtype();
  const Device device = cuda_test_device();
  GruProblem p{solvers::sequence_cell(gru.functions()),
               to(normal(Key(1), {batch, gru.state_size()}, 0.0, 0.5, dtype), device),
               to(normal(Key(2), {steps, batch, gru.input_size()}, 0.0, 1.0, dtype), device), Tensors{}};
  for (const Tensor& t : gru.theta()) p.theta.push_back(to(t, device));
  return p;
}

/// A cell of n units and two inputs. `scale` multiplies the recurrent weights: far above 1 the cell expands, and Newton's method
/// has to work for it.
inline GruProblem gru_problem(std::int64_t n, std::int64_t steps, std::int64_t batch, DType dtype, double scale = 1.0,
                              nn::RecurrentInit init = nn::RecurrentInit::equinox) {
  GruProblem p = gru_problem(nn::GruCell(2, n, Key(3), {.init = init, .dtype = dtype}), steps, batch);
  if (scale != 1.0) p.theta[1] = p.theta[1] * scale;
  return p;
}

}  // namespace solvent::testing
