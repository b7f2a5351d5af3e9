#include "solvent/experiments/common/data/sine.h"

#include <cmath>
#include <numbers>

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/core/rng.h"

namespace solvent::experiments {

SineCurve make_sine_curve(std::int64_t count) {
  if (count < 2) throw ValueError(fmt::format("[make_sine_curve] got {} points; expected at least 2", count));
  SineCurve curve;
  for (std::int64_t i = 0; i < count; ++i) {
    const double x = std::numbers::pi * (2 * static_cast<double>(i) / static_cast<double>(count - 1) - 1);
    curve.inputs.push_back(x);
    curve.inputs.push_back(1);
    curve.targets.push_back(std::sin(x));
  }
  return curve;
}

SineTask make_sine_task(const SineTaskSettings& s, std::int64_t index) {
  if (!(s.amplitude_low <= s.amplitude_high) || !(s.phase_high >= 0) || !(s.x_low < s.x_high) || s.num_support < 0 ||
      s.num_query < 0 || index < 0) {
    throw ValueError(fmt::format(
        "[make_sine_task] got amplitudes {} to {}, phases 0 to {}, x {} to {}, {} + {} points, task {}; "
        "expected ascending ranges and numbers >= 0",
        s.amplitude_low, s.amplitude_high, s.phase_high, s.x_low, s.x_high, s.num_support, s.num_query, index));
  }
  const Key key = Key(s.seed, 0x73696e65).fold_in(static_cast<std::uint64_t>(index));  // "sine"
  std::uint64_t next = 0;
  const auto draw = [&](double low, double high) { return low + (high - low) * key.uniform(next++); };
  SineTask task;
  task.amplitude = draw(s.amplitude_low, s.amplitude_high);
  task.phase = draw(0, s.phase_high);
  const auto fill = [&](std::int64_t count, std::vector<double>& xs, std::vector<double>& ys) {
    for (std::int64_t i = 0; i < count; ++i) {
      xs.push_back(draw(s.x_low, s.x_high));
      ys.push_back(task.amplitude * std::sin(xs.back() - task.phase));
    }
  };
  fill(s.num_support, task.support_x, task.support_y);
  fill(s.num_query, task.query_x, task.query_y);
  return task;
}

}  // namespace solvent::experiments
