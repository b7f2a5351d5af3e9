#pragma once
/// Curves for regression: the sine of the infinite-width comparisons, and the sinusoid tasks of meta-learning.

#include <cstdint>
#include <vector>

namespace solvent::experiments {

/// y = sin x on `count` uniform points of [-pi, pi], ends included, with the input (x, 1).
struct SineCurve {
  std::vector<double> inputs;   ///< (count, 2): x and the constant 1
  std::vector<double> targets;  ///< (count)
};
/// @throws ValueError for fewer than 2 points
SineCurve make_sine_curve(std::int64_t count = 100);

/// A regression task y = a sin(x - p) (Finn et al. 2017, "Model-agnostic meta-learning", 5.1).
struct SineTask {
  double amplitude = 1, phase = 0;
  std::vector<double> support_x, support_y, query_x, query_y;
};

/// Ranges that the tasks are drawn from.
struct SineTaskSettings {
  double amplitude_low = 0.1, amplitude_high = 5, phase_high = 3.141592653589793;  ///< phase from 0
  double x_low = -5, x_high = 5;
  std::int64_t num_support = 10, num_query = 10;
  std::uint64_t seed = 0;
};

/// Task number `index`, a function of (seed, index) only. @throws ValueError for an empty range or negative counts
SineTask make_sine_task(const SineTaskSettings& settings, std::int64_t index);

}  // namespace solvent::experiments
