#include "solvent/experiments/common/data/lorenz96.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/core/parallel.h"
#include "solvent/core/rng.h"
#include "solvent/experiments/common/data/dormand_prince.h"
#include "solvent/ops/random.h"

namespace solvent::experiments {

namespace {

constexpr std::int64_t kMinDimension = 4;

/// Steps in place; owns the stages.
class Stepper {
 public:
  Stepper(std::size_t dimension, double forcing, double time_step) : forcing_(forcing), h_(time_step), at_(dimension) {
    for (auto& stage : stages_) stage.resize(dimension);
  }

  void step(std::span<double> x) {
    lorenz96_field(x, forcing_, stages_[0]);
    for (int i = 1; i < dormand_prince::kStages; ++i) {
      for (std::size_t k = 0; k < x.size(); ++k) {
        double sum = 0;
        for (int j = 0; j < i; ++j) sum += dormand_prince::kA[i][j] * stages_[static_cast<std::size_t>(j)][k];
        at_[k] = x[k] + h_ * sum;
      }
      // The last stage's point is the fifth-order solution.
      if (i + 1 < dormand_prince::kStages) lorenz96_field(at_, forcing_, stages_[static_cast<std::size_t>(i)]);
    }
    std::copy(at_.begin(), at_.end(), x.begin());
  }

 private:
  double forcing_, h_;
  std::vector<double> at_;
  std::array<std::vector<double>, dormand_prince::kStages> stages_;
};

void check(const Lorenz96Settings& s) {
  if (s.dimension < kMinDimension || s.num_sequences < 1 || s.num_steps < 1 || s.burn_in < 0 || !(s.time_step > 0) ||
      !(s.perturbation >= 0)) {
    throw ValueError(fmt::format(
        "[make_lorenz96] got dimension {}, {} sequences of {} steps, burn-in {}, time step {}, perturbation "
        "{}; expected at least 4, 1, 1, 0, > 0, >= 0",
        s.dimension, s.num_sequences, s.num_steps, s.burn_in, s.time_step, s.perturbation));
  }
}

}  // namespace

void lorenz96_field(std::span<const double> x, double forcing, std::span<double> dx) {
  const std::size_t n = x.size();
  for (std::size_t i = 0; i < n; ++i) {
    const double next = x[i + 1 < n ? i + 1 : 0], before = x[(i + n - 1) % n], second = x[(i + n - 2) % n];
    dx[i] = (next - second) * before - x[i] + forcing;
  }
}

std::vector<double> lorenz96_step(std::span<const double> x, double forcing, double time_step) {
  if (static_cast<std::int64_t>(x.size()) < kMinDimension) {
    throw ValueError(fmt::format("[lorenz96_step] got {} components; expected at least {}", x.size(), kMinDimension));
  }
  std::vector<double> next(x.begin(), x.end());
  Stepper(x.size(), forcing, time_step).step(next);
  return next;
}

Lorenz96Data make_lorenz96(const Lorenz96Settings& s) {
  check(s);
  Lorenz96Data data{s.num_sequences, s.num_steps, s.dimension, {}};
  const auto dimension = static_cast<std::size_t>(s.dimension);
  const std::int64_t stride = s.num_steps * s.dimension;
  data.states.resize(static_cast<std::size_t>(s.num_sequences * stride));
  const Key key(s.seed, 0x6c6f72656e7a3936);  // "lorenz96"
  std::vector<std::vector<double>> starts;
  for (std::int64_t i = 0; i < s.num_sequences; ++i) {
    std::vector<double> start(dimension, 0.0);
    if (i > 0) {
      start = normal(key.fold_in(static_cast<std::uint64_t>(i)), {s.dimension}, 0, s.perturbation, float64)
                  .to_vector<double>();
    }
    for (double& x : start) x += s.forcing;
    start[0] += 0.01;
    starts.push_back(std::move(start));
  }
  parallel_for(s.num_sequences, 1, [&](std::int64_t begin, std::int64_t end) {
    Stepper stepper(dimension, s.forcing, s.time_step);
    for (std::int64_t i = begin; i < end; ++i) {
      std::vector<double>& x = starts[static_cast<std::size_t>(i)];
      for (std::int64_t t = 0; t < s.burn_in; ++t) stepper.step(x);
      double* out = data.states.data() + i * stride;
      for (std::int64_t t = 0; t < s.num_steps; ++t) {
        if (t > 0) stepper.step(x);
        out = std::copy(x.begin(), x.end(), out);
      }
    }
  });
  return data;
}

}  // namespace solvent::experiments
