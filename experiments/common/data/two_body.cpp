#include "solvent/experiments/common/data/two_body.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numbers>

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/core/parallel.h"
#include "solvent/core/rng.h"
#include "solvent/experiments/common/data/dormand_prince.h"

namespace solvent::experiments {

TwoBodyState two_body_field(const TwoBodyState& s) {
  const double dx = s[2] - s[0], dy = s[3] - s[1];
  const double squared = dx * dx + dy * dy;
  const double inverse_cube = 1 / (squared * std::sqrt(squared));
  const double ax = dx * inverse_cube, ay = dy * inverse_cube;
  return {s[4], s[5], s[6], s[7], ax, ay, -ax, -ay};
}

double two_body_energy(const TwoBodyState& s) {
  const double kinetic = 0.5 * (s[4] * s[4] + s[5] * s[5] + s[6] * s[6] + s[7] * s[7]);
  return kinetic - 1 / std::hypot(s[2] - s[0], s[3] - s[1]);
}

TwoBodyState two_body_start(double r0, double theta, double speed_factor) {
  const double v = speed_factor * 0.5 / std::sqrt(r0);
  const double c = std::cos(theta), s = std::sin(theta);
  return {r0 * c, r0 * s, -r0 * c, -r0 * s, -v * s, v * c, v * s, -v * c};
}

namespace {

using dormand_prince::kA;
using dormand_prince::kError;
using dormand_prince::kStages;

class DormandPrince {
 public:
  DormandPrince(const TwoBodyState& start, double tolerance)
      : y_(start), slope_(two_body_field(start)), tolerance_(tolerance) {}

  /// Integrates over `span`; false if the step size vanished.
  bool advance(double span) {
    double done = 0;
    while (done < span) {
      const double left = span - done;
      const bool is_last = h_ >= left;
      const double h = is_last ? left : h_;
      const double error = try_step(h);
      // A step cut short at an output says nothing about a longer one: keep the larger proposal.
      const double growth = std::clamp(0.9 * std::pow(std::max(error, 1e-10), -0.2), 0.2, 5.0);
      if (error <= 1) {
        done = is_last ? span : done + h;
        y_ = candidate_;
        slope_ = stages_[kStages - 1];
        h_ = std::max(is_last ? h_ : 0.0, h * growth);
      } else if (error > 1) {
        h_ = h * growth;
      } else {
        return false;  // NaN: the field was evaluated at a collision
      }
      if (h_ < 1e-14) return false;
    }
    return true;
  }

  [[nodiscard]] const TwoBodyState& state() const { return y_; }

 private:
  /// Fills `candidate_` and returns the error estimate in units of the tolerance (root mean square).
  double try_step(double h) {
    stages_[0] = slope_;
    for (int i = 1; i < kStages; ++i) {
      for (std::size_t k = 0; k < y_.size(); ++k) {
        double sum = 0;
        for (int j = 0; j < i; ++j) sum += kA[i][j] * stages_[static_cast<std::size_t>(j)][k];
        candidate_[k] = y_[k] + h * sum;
      }
      stages_[static_cast<std::size_t>(i)] = two_body_field(candidate_);
    }
    double total = 0;
    for (std::size_t k = 0; k < y_.size(); ++k) {
      double error = 0;
      for (std::size_t i = 0; i < kStages; ++i) error += kError[i] * stages_[i][k];
      const double scale = tolerance_ * (1 + std::max(std::abs(y_[k]), std::abs(candidate_[k])));
      total += (h * error / scale) * (h * error / scale);
    }
    return std::sqrt(total / static_cast<double>(y_.size()));
  }

  TwoBodyState y_, slope_, candidate_{};
  std::array<TwoBodyState, kStages> stages_{};
  double tolerance_, h_ = 1e-3;
};

/// Writes the states at `times` to `out`; false if the step size vanished.
bool integrate_into(const TwoBodyState& start, const std::vector<double>& times, double tolerance, double* out) {
  DormandPrince solver(start, tolerance);
  for (std::size_t i = 0; i < times.size(); ++i) {
    if (i > 0 && !solver.advance(times[i] - times[i - 1])) return false;
    out = std::copy(solver.state().begin(), solver.state().end(), out);
  }
  return true;
}

void check_times(const std::vector<double>& times, double tolerance) {
  const bool increasing =
      std::adjacent_find(times.begin(), times.end(), [](double a, double b) { return !(b > a); }) == times.end();
  if (times.empty() || !increasing || !(tolerance > 0)) {
    throw ValueError(
        fmt::format("[integrate_two_body] got {} times and tolerance {}; expected strictly increasing "
                    "times and a tolerance > 0",
                    times.size(), tolerance));
  }
}

constexpr const char* kCollision =
    "[integrate_two_body] the step size vanished: the bodies collide; use speed factors further from 0";

std::vector<double> uniform_times(std::int64_t count, double end) {
  std::vector<double> times(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < times.size(); ++i) {
    times[i] = end * static_cast<double>(i) / static_cast<double>(count - 1);
  }
  return times;
}

double between(double low, double high, double u) { return low + (high - low) * u; }

/// Orbit i of a stream: draws r0, theta and the speed factor within [low, high).
TwoBodyState draw_start(const Key& key, std::int64_t i, double low, double high, double& speed_factor) {
  const Key own = key.fold_in(static_cast<std::uint64_t>(i));
  const double r0 = between(0.5, 1.5, own.uniform(0));
  const double theta = between(-std::numbers::pi, std::numbers::pi, own.uniform(1));
  speed_factor = between(low, high, own.uniform(2));
  return two_body_start(r0, theta, speed_factor);
}

}  // namespace

std::vector<TwoBodyState> integrate_two_body(const TwoBodyState& start, const std::vector<double>& times,
                                             double tolerance) {
  check_times(times, tolerance);
  std::vector<TwoBodyState> states(times.size());
  if (!integrate_into(start, times, tolerance, states.front().data())) throw SolverError(kCollision);
  return states;
}

TwoBodyData make_two_body_data(const TwoBodySettings& s) {
  if (s.num_trajectories < 1 || s.num_points < 2 || !(s.speed_factor_low > 0) ||
      !(s.speed_factor_low <= s.speed_factor_high) || !(s.t_end > 0)) {
    throw ValueError(
        fmt::format("[make_two_body_data] got {} trajectories, {} points, speed factors {} to {}, t_end "
                    "{}; expected at least 1, at least 2, 0 < low <= high, > 0",
                    s.num_trajectories, s.num_points, s.speed_factor_low, s.speed_factor_high, s.t_end));
  }
  TwoBodyData data;
  data.num_trajectories = s.num_trajectories;
  data.num_points = s.num_points;
  data.times = uniform_times(s.num_points, s.t_end);
  check_times(data.times, s.tolerance);
  const std::int64_t stride = s.num_points * 8;
  data.states.resize(static_cast<std::size_t>(s.num_trajectories * stride));
  data.speed_factors.resize(static_cast<std::size_t>(s.num_trajectories));
  const Key key(s.seed, 0x6f72626974);  // "orbit"
  std::atomic<bool> collided{false};
  parallel_for(s.num_trajectories, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      double& factor = data.speed_factors[static_cast<std::size_t>(i)];
      const TwoBodyState start = draw_start(key, i, s.speed_factor_low, s.speed_factor_high, factor);
      if (!integrate_into(start, data.times, s.tolerance, data.states.data() + i * stride)) collided = true;
    }
  });
  if (collided) throw SolverError(kCollision);
  return data;
}

namespace {

constexpr double kTaskFactorLow = 0.7, kTaskFactorHigh = 1.0;

SequenceData make_orbit_part(const OrbitTask& task, std::int64_t count, std::uint64_t part) {
  SequenceData data;
  data.name = "orbits";
  data.num_channels = 4;
  const double width = (kTaskFactorHigh - kTaskFactorLow) / static_cast<double>(task.num_classes);
  for (std::int64_t k = 0; k < task.num_classes; ++k) {
    const double low = kTaskFactorLow + width * static_cast<double>(k), high = low + width;
    // e = 1 - f^2 falls as f grows.
    data.class_names.push_back(fmt::format("e {:.2f}-{:.2f}", 1 - high * high, 1 - low * low));
  }
  const std::vector<double> times = uniform_times(task.num_points, task.t_end);
  const Key key = Key(task.seed, 0x6f72626974636c73).fold_in(part);  // "orbitcls"
  const std::size_t steps = times.size();
  std::vector<float> series(static_cast<std::size_t>(count) * steps * 4);
  std::atomic<bool> collided{false};
  parallel_for(count, 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<double> states(steps * 8);
    for (std::int64_t i = begin; i < end; ++i) {
      const double low = kTaskFactorLow + width * static_cast<double>(i % task.num_classes);
      double factor = 0;
      const TwoBodyState start = draw_start(key, i, low, low + width, factor);
      if (!integrate_into(start, times, 1e-9, states.data())) collided = true;
      for (std::size_t t = 0; t < steps; ++t) {
        float* row = series.data() + (static_cast<std::size_t>(i) * steps + t) * 4;
        const double* state = states.data() + t * 8;
        for (std::size_t c = 0; c < 2; ++c) {
          row[c] = static_cast<float>(state[c]);
          row[c + 2] = static_cast<float>(state[c + 4]);
        }
      }
    }
  });
  if (collided) throw SolverError(kCollision);
  for (std::int64_t i = 0; i < count; ++i) {
    data.append({series.data() + static_cast<std::size_t>(i) * steps * 4, steps * 4}, i % task.num_classes);
  }
  return data;
}

}  // namespace

DataSplits make_orbit_task(const OrbitTask& task) {
  if (task.num_classes < 1 || task.num_train < 1 || task.num_test < 1 || task.num_points < 2 || !(task.t_end > 0)) {
    throw ValueError(
        fmt::format("[make_orbit_task] got {} classes, {} + {} orbits, {} points, t_end {}; expected at "
                    "least 1, 1 + 1, 2, > 0",
                    task.num_classes, task.num_train, task.num_test, task.num_points, task.t_end));
  }
  return {make_orbit_part(task, task.num_train, 0), make_orbit_part(task, task.num_test, 1), "generated"};
}

}  // namespace solvent::experiments
