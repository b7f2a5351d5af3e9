#pragma once
/// Planar two-body orbits: trajectories for NeuralODE training, and a classification task that needs no download.
///
/// Two unit masses with G = 1 around their common centre (Lim et al. 2024, experiment 3):
///   state (x1, y1, x2, y2, vx1, vy1, vx2, vy2),  a1 = (r2 - r1) / |r2 - r1|^3,  a2 = -a1
///   r0 ~ U(0.5, 1.5), theta ~ U(-pi, pi), v = f * 0.5 / sqrt(r0) with f ~ U(0.7, 1)
///   r1 = r0 (cos theta, sin theta) = -r2,  v1 = v (-sin theta, cos theta) = -v2
/// f = 1 is the circular orbit; in general the eccentricity is 1 - f^2, started at the largest distance.

#include <array>
#include <cstdint>
#include <vector>

#include "solvent/experiments/common/data/sequence_data.h"

namespace solvent::experiments {

using TwoBodyState = std::array<double, 8>;

/// Time derivative of the state.
TwoBodyState two_body_field(const TwoBodyState& state);
/// Kinetic plus potential energy; constant along an orbit.
double two_body_energy(const TwoBodyState& state);
/// State at the largest distance of an orbit.
TwoBodyState two_body_start(double r0, double theta, double speed_factor);

/// States at `times` (increasing, the first one is the time of `start`) by the adaptive Dormand-Prince 5(4) pair with
/// absolute and relative tolerance `tolerance`, in steps that end on every time.
/// @throws ValueError for times that do not increase or a tolerance <= 0; SolverError if the step size vanishes (the
/// bodies collide).
std::vector<TwoBodyState> integrate_two_body(const TwoBodyState& start, const std::vector<double>& times,
                                             double tolerance = 1e-9);

struct TwoBodySettings {
  std::int64_t num_trajectories = 1000;
  std::int64_t num_points = 10000;  ///< uniform on [0, t_end]
  double t_end = 10;
  double speed_factor_low = 0.7, speed_factor_high = 1.0;
  double tolerance = 1e-9;
  std::uint64_t seed = 0;
};

/// Trajectories of the NeuralODE experiment.
struct TwoBodyData {
  std::int64_t num_trajectories = 0, num_points = 0;
  std::vector<double> times;          ///< (num_points)
  std::vector<double> states;         ///< (num_trajectories, num_points, 8)
  std::vector<double> speed_factors;  ///< (num_trajectories)
};

/// Trajectory i depends on (seed, i) only, whatever the number of threads or of trajectories.
/// @throws ValueError for counts below 1 (2 points) or an empty range of factors.
TwoBodyData make_two_body_data(const TwoBodySettings& settings);

/// Classification of orbits by their eccentricity: class k has a speed factor in the k-th part of (0.7, 1).
struct OrbitTask {
  std::int64_t num_classes = 5;
  std::int64_t num_train = 200, num_test = 100;  ///< classes in turn, so balanced
  std::int64_t num_points = 1000;
  double t_end = 20;  ///< about one to eight revolutions
  std::uint64_t seed = 0;
};

/// Train and test part as series of 4 channels: position and velocity of the first body (the second one mirrors it).
DataSplits make_orbit_task(const OrbitTask& task);

}  // namespace solvent::experiments
