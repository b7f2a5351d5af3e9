#pragma once
/// Learning rates as pure functions of the step (0 for the first): nothing to save for a continuation.
///
///     optimizer.set_learning_rate(schedule(optimizer.steps()));
///
/// They serve other numbers as well: a limit for clipping, a momentum, or, counted in epochs, what a recipe states so.

#include <cstdint>
#include <functional>
#include <vector>

#include "solvent/core/export.h"

namespace solvent::nn {

/// Any of the structs below, or a lambda.
using Schedule = std::function<double(std::int64_t step)>;

/// The same rate at every step.
struct ConstantSchedule {
  double rate = 1e-3;  ///< the rate
  /// `rate`, whatever the step.
  double operator()(std::int64_t) const noexcept { return rate; }
};

/// Rises linearly from `initial` at step 0 to `peak` at step `warmup_steps`, then stays.
struct SOLVENT_API LinearWarmup {
  double peak = 1e-3;             ///< rate after the warm-up
  std::int64_t warmup_steps = 0;  ///< 0: none
  double initial = 0.0;           ///< rate at step 0
  /// @throws ValueError for negative steps
  double operator()(std::int64_t step) const;
};

/// LinearWarmup, then half a cosine from `peak` down to `end` at step `total_steps`, then `end` (Loshchilov and Hutter
/// 2017, arXiv:1608.03983, without restarts).
struct SOLVENT_API WarmupCosine {
  double peak = 1e-3;             ///< rate at step warmup_steps
  std::int64_t warmup_steps = 0;  ///< 0: none
  std::int64_t total_steps = 0;   ///< where `end` is reached
  double initial = 0.0;           ///< rate at step 0, if there is a warm-up
  double end = 0.0;               ///< last rate
  /// @throws ValueError unless 0 <= warmup_steps < total_steps
  double operator()(std::int64_t step) const;
};

/// Half a cosine from `initial` down to `end` at step `total_steps`, then `end`: WarmupCosine without warm-up.
struct SOLVENT_API CosineSchedule {
  double initial = 1e-3;         ///< rate at step 0
  std::int64_t total_steps = 0;  ///< where `end` is reached
  double end = 0.0;              ///< last rate
  /// @throws ValueError unless total_steps > 0
  double operator()(std::int64_t step) const;
};

/// Straight line from `initial` at step 0 to `end` at step `total_steps`, then `end`.
struct SOLVENT_API LinearSchedule {
  double initial = 1e-3;         ///< rate at step 0
  double end = 0.0;              ///< last rate
  std::int64_t total_steps = 0;  ///< where `end` is reached
  /// @throws ValueError unless total_steps > 0
  double operator()(std::int64_t step) const;
};

/// initial * factor^step.
struct SOLVENT_API ExponentialSchedule {
  double initial = 1e-3;  ///< rate at step 0
  double factor = 0.9;    ///< per step
  /// @throws ValueError for negative steps
  double operator()(std::int64_t step) const;
};

/// initial * factor^(number of milestones <= step), milestones in any order.
struct SOLVENT_API MultiStepSchedule {
  double initial = 1e-3;                      ///< rate at step 0
  std::vector<std::int64_t> milestones = {};  ///< steps at which the rate changes
  double factor = 0.1;                        ///< per milestone
  /// @throws ValueError for negative steps
  double operator()(std::int64_t step) const;
};

/// Half a cosine from `peak` towards `end`, again and again; the k-th period has first_period * growth^k steps (Loshchilov
/// and Hutter 2017, arXiv:1608.03983).
struct SOLVENT_API CosineRestarts {
  double peak = 1e-3;             ///< rate at the start of a period
  std::int64_t first_period = 1;  ///< steps
  std::int64_t growth = 1;        ///< each period is this many times as long as the one before
  double end = 0.0;               ///< what a period falls to
  /// @throws ValueError unless first_period >= 1 and growth >= 1
  double operator()(std::int64_t step) const;
};

/// How the height of the triangles of CyclicSchedule changes.
enum class CyclicMode : std::uint8_t {
  triangular,   ///< not at all
  triangular2,  ///< halved after every cycle
  exponential   ///< times decay^step
};

/// Straight from `low` to `high` in `steps_up` steps, back in `steps_down` steps, and again (Smith 2017, arXiv:1506.01186).
struct SOLVENT_API CyclicSchedule {
  double low = 1e-4;                         ///< between the triangles
  double high = 1e-3;                        ///< top of the first triangle
  std::int64_t steps_up = 2000;              ///< from low to high
  std::int64_t steps_down = 2000;            ///< from high to low
  CyclicMode mode = CyclicMode::triangular;  ///< how the height changes
  double decay = 1.0;                        ///< of CyclicMode::exponential
  /// @throws ValueError unless steps_up and steps_down >= 1
  double operator()(std::int64_t step) const;
};

/// Curve of each part of OneCycleSchedule.
enum class Annealing : std::uint8_t { cosine, linear };

/// From `initial` up to `peak` at step rise * total_steps - 1, then down to `end` at step total_steps - 1, then `end` (Smith
/// and Topin 2018, arXiv:1708.07120, as PyTorch's OneCycleLR, whose initial is peak / 25 and whose end is initial / 1e4).
/// `three_phase` puts the way back to `initial`, as long as the way up, before the way down to `end`. A momentum that runs
/// the other way is the same schedule with a low peak: {.initial = 0.95, .peak = 0.85, .end = 0.95}.
struct SOLVENT_API OneCycleSchedule {
  double initial = 4e-5;                    ///< rate at step 0
  double peak = 1e-3;                       ///< largest rate
  double end = 4e-9;                        ///< last rate
  std::int64_t total_steps = 0;             ///< length of the cycle
  double rise = 0.3;                        ///< part of the cycle spent on the way up
  Annealing annealing = Annealing::cosine;  ///< curve of each part
  bool three_phase = false;                 ///< see above
  /// @throws ValueError unless total_steps > 0 and 0 <= rise <= 1 (three phases: 1/2)
  double operator()(std::int64_t step) const;
};

/// initial * factor^floor(step / every).
struct SOLVENT_API StepSchedule {
  double initial = 1e-3;   ///< rate at step 0
  std::int64_t every = 1;  ///< steps between changes
  double factor = 0.1;     ///< per change
  /// @throws ValueError unless every > 0
  double operator()(std::int64_t step) const;
};

}  // namespace solvent::nn
