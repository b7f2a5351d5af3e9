#pragma once
/// The Lorenz-96 system, a chaotic recurrence for the sequence solvers: dx_i/dt = (x_{i+1} - x_{i-2}) x_{i-1} - x_i + F,
/// indices modulo the dimension. Source: Lorenz 1996, "Predictability: a problem partly solved".

#include <cstdint>
#include <span>
#include <vector>

namespace solvent::experiments {

struct Lorenz96Settings {
  std::int64_t dimension = 5;  ///< at least 4
  double forcing = 8;
  double time_step = 0.01;
  std::int64_t num_sequences = 10, num_steps = 1000;
  std::int64_t burn_in = 20000;  ///< steps before the first one kept
  double perturbation = 0.01;    ///< standard deviation of what is added to each start but the first one
  std::uint64_t seed = 0;
};

/// `num_sequences` trajectories, row-major.
struct Lorenz96Data {
  std::int64_t num_sequences = 0, num_steps = 0, dimension = 0;
  std::vector<double> states;  ///< (num_sequences, num_steps, dimension); step 0 is the state after the burn-in
};

/// dx/dt; both spans have the same size, at least 4.
void lorenz96_field(std::span<const double> x, double forcing, std::span<double> dx);

/// One step of the explicit fifth-order Dormand-Prince formula (no error control, as a recurrence needs it).
/// @throws ValueError for fewer than 4 components
std::vector<double> lorenz96_step(std::span<const double> x, double forcing, double time_step);

/// Sequence 0 starts from F everywhere but F + 0.01 in the first component (Gonzalez et al. 2024, figure 8); sequence i
/// from that plus normal noise that depends on (seed, i) only. Bit-exact for any number of threads and of sequences.
/// @throws ValueError for a dimension below 4, counts below 1, or a step that is not positive
Lorenz96Data make_lorenz96(const Lorenz96Settings& settings);

}  // namespace solvent::experiments
