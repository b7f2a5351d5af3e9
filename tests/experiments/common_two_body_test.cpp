#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "solvent/core/error.h"
#include "solvent/core/parallel.h"
#include "solvent/experiments/common/data/two_body.h"
#include "solvent/tests/experiments/test_tools.h"
#include "solvent/tests/support/catch.h"

using namespace solvent::experiments;
using solvent::experiments::testing::Contains;
using solvent::experiments::testing::message_of;

namespace {

std::vector<double> uniform(int count, double end) {
  std::vector<double> times;
  for (int i = 0; i < count; ++i) times.push_back(end * i / (count - 1));
  return times;
}

/// Position of body 1 on its Kepler ellipse at time t after the apoapsis; independent of any integrator.
///
/// The separation r1 - r2 obeys r'' = -2 r / |r|^3: semi-major axis a = 2 r0 / (1 + e), mean motion n = sqrt(2/a^3).
std::array<double, 2> kepler_position(double r0, double theta, double f, double t) {
  const double e = 1 - f * f;
  const double a = 2 * r0 / (1 + e), n = std::sqrt(2 / (a * a * a));
  const double mean = std::numbers::pi + n * t;
  double eccentric = mean;
  for (int i = 0; i < 50; ++i) {
    eccentric -= (eccentric - e * std::sin(eccentric) - mean) / (1 - e * std::cos(eccentric));
  }
  const double x = a * (std::cos(eccentric) - e), y = a * std::sqrt(1 - e * e) * std::sin(eccentric);
  // The periapsis points to -theta's side; body 1 has half of the separation.
  const double c = -std::cos(theta), s = -std::sin(theta);
  return {0.5 * (c * x - s * y), 0.5 * (s * x + c * y)};
}

}  // namespace

TEST_CASE("two-body: the integrator follows Kepler's solution") {
  for (const double f : {0.7, 0.85, 1.0}) {
    for (const double r0 : {0.5, 1.5}) {
      const auto times = uniform(200, 10);
      const auto states = integrate_two_body(two_body_start(r0, 0.4, f), times, 1e-11);
      double worst = 0;
      for (std::size_t i = 0; i < times.size(); ++i) {
        const auto exact = kepler_position(r0, 0.4, f, times[i]);
        worst = std::max({worst, std::abs(states[i][0] - exact[0]), std::abs(states[i][1] - exact[1])});
      }
      INFO("f " << f << ", r0 " << r0);
      CHECK(worst < 1e-8);  // measured 2e-9 at the tightest orbit: error growth over two revolutions
    }
  }
}

TEST_CASE("two-body: a smaller tolerance gives a smaller error") {
  const TwoBodyState start = two_body_start(0.6, 0, 0.75);
  const auto error = [&](double tolerance) {
    const auto state = integrate_two_body(start, {0, 10}, tolerance).back();
    const auto exact = kepler_position(0.6, 0, 0.75, 10);
    return std::hypot(state[0] - exact[0], state[1] - exact[1]);
  };
  const double coarse = error(1e-6), fine = error(1e-9), finest = error(1e-12);
  CHECK(coarse > 20 * fine);
  CHECK(fine > 20 * finest);
  CHECK(fine < 1e-6);
}

TEST_CASE("two-body: energy, angular momentum and the centre of mass are kept") {
  const auto states = integrate_two_body(two_body_start(0.8, -1, 0.7), uniform(10000, 10));
  const auto momentum = [](const TwoBodyState& s) { return s[0] * s[5] - s[1] * s[4] + s[2] * s[7] - s[3] * s[6]; };
  const double energy = two_body_energy(states.front()), spin = momentum(states.front());
  for (std::size_t i = 0; i < states.size(); i += 100) {
    REQUIRE(std::abs(two_body_energy(states[i]) - energy) < 1e-9 * std::abs(energy));
    REQUIRE(std::abs(momentum(states[i]) - spin) < 1e-9 * std::abs(spin));
    REQUIRE(states[i][0] == -states[i][2]);
    REQUIRE(states[i][5] == -states[i][7]);
  }
}

TEST_CASE("two-body: the output grid hardly changes the solution") {
  const TwoBodyState start = two_body_start(1, 0, 0.8);
  const auto coarse = integrate_two_body(start, {0, 5, 10}, 1e-10);
  const auto fine = integrate_two_body(start, uniform(1001, 10), 1e-10);
  for (std::size_t k = 0; k < 8; ++k) CHECK(coarse[2][k] == Approx(fine[1000][k]).margin(1e-7));
}

TEST_CASE("two-body: speed factor 1 is the circular orbit") {
  for (const TwoBodyState& state : integrate_two_body(two_body_start(0.9, 2, 1), uniform(50, 10))) {
    CHECK(std::hypot(state[0], state[1]) == Approx(0.9).epsilon(1e-8));
  }
}

TEST_CASE("two-body: impossible requests are refused") {
  const TwoBodyState start = two_body_start(1, 0, 1);
  CHECK_THAT(message_of<solvent::ValueError>([&] {
               integrate_two_body(start, {0, 1, 1});
             }),
             Contains("strictly increasing"));
  CHECK_THROWS_AS(integrate_two_body(start, {}), solvent::ValueError);
  CHECK_THROWS_AS(integrate_two_body(start, {0, 1}, 0), solvent::ValueError);
  CHECK_THROWS_AS(integrate_two_body(start, {0, std::nan("")}), solvent::ValueError);
  const TwoBodyState falling = {1, 0, -1, 0, 0, 0, 0, 0};  // at rest: they meet after pi / sqrt(2) * 2^(3/2) / 2 = 2.2
  CHECK_THAT(message_of<solvent::SolverError>([&] { integrate_two_body(falling, {0, 10}); }), Contains("collide"));
  CHECK_THROWS_AS(make_two_body_data({.num_trajectories = 0}), solvent::ValueError);
  CHECK_THROWS_AS(make_two_body_data({.num_points = 1}), solvent::ValueError);
  CHECK_THROWS_AS(make_two_body_data({.speed_factor_low = 1, .speed_factor_high = 0.5}), solvent::ValueError);
  CHECK_THROWS_AS(make_orbit_task({.num_classes = 0}), solvent::ValueError);
}

TEST_CASE("two-body: trajectory i depends on seed and i only, for any number of threads") {
  const TwoBodyData all = make_two_body_data({.num_trajectories = 8, .num_points = 20, .seed = 5});
  const solvent::NumThreadsGuard one_thread(1);
  const TwoBodyData some = make_two_body_data({.num_trajectories = 3, .num_points = 20, .seed = 5});
  CHECK(std::equal(some.states.begin(), some.states.end(), all.states.begin()));
  CHECK(make_two_body_data({.num_trajectories = 3, .num_points = 20, .seed = 6}).states != some.states);
  CHECK(all.times.back() == 10);
  for (std::size_t i = 0; i < 8; ++i) {
    CHECK(all.speed_factors[i] >= 0.7);
    CHECK(all.speed_factors[i] < 1.0);
    const double* s = all.states.data() + i * 20 * 8;
    const double r0 = std::hypot(s[0], s[1]);
    CHECK(r0 >= 0.5);
    CHECK(r0 < 1.5);
    CHECK(std::hypot(s[4], s[5]) == Approx(all.speed_factors[i] * 0.5 / std::sqrt(r0)));
  }
}

TEST_CASE("two-body: the label of the orbit task is the eccentricity's class") {
  const DataSplits data =
      make_orbit_task({.num_classes = 4, .num_train = 12, .num_test = 8, .num_points = 400, .t_end = 25});
  for (std::int64_t i = 0; i < data.train.size(); ++i) {
    const auto series = data.train.series(i);
    double nearest = 1e9, farthest = 0;
    for (std::size_t t = 0; t < series.size() / 4; ++t) {
      const double r = std::hypot(series[4 * t], series[4 * t + 1]);
      nearest = std::min(nearest, r);
      farthest = std::max(farthest, r);
    }
    const double e = (farthest - nearest) / (farthest + nearest), f = std::sqrt(1 - e);
    const double place = (f - 0.7) / 0.3 * 4;
    INFO("series " << i << ", f " << f);
    CHECK(place > static_cast<double>(data.train.labels[static_cast<std::size_t>(i)]) - 0.05);
    CHECK(place < static_cast<double>(data.train.labels[static_cast<std::size_t>(i)]) + 1.05);
  }
  CHECK(data.train.values != data.test.values);
  CHECK(make_orbit_task({.num_train = 5, .num_test = 2}).train.values ==
        make_orbit_task({.num_train = 5, .num_test = 9}).train.values);
}
