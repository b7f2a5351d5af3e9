#pragma once
/// Learning rates as pure functions of the step (0 for the first): nothing to save for a continuation.
///
///     optimizer.set_learning_rate(schedule(optimizer.steps()));

#include <cstdint>
#include <functional>

#include "solvent/core/export.h"

namespace solvent::nn {

/// Any of the structs below, or a lambda.
using Schedule = std::function<double(std::int64_t step)>;

/// The same rate at every step.
struct ConstantSchedule {
  double rate = 1e-3;
  double operator()(std::int64_t) const noexcept { return rate; }
};

/// Rises linearly from `initial` at step 0 to `peak` at step `warmup_steps`, then stays.
struct SOLVENT_API LinearWarmup {
  double peak = 1e-3;
  std::int64_t warmup_steps = 0;
  double initial = 0.0;
  /// @throws ValueError for negative steps
  double operator()(std::int64_t step) const;
};

/// LinearWarmup, then half a cosine from `peak` down to `end` at step `total_steps`, then `end` (Loshchilov and Hutter
/// 2017, arXiv:1608.03983, without restarts).
struct SOLVENT_API WarmupCosine {
  double peak = 1e-3;
  std::int64_t warmup_steps = 0;
  std::int64_t total_steps = 0;
  double initial = 0.0;
  double end = 0.0;
  /// @throws ValueError unless 0 <= warmup_steps < total_steps
  double operator()(std::int64_t step) const;
};

/// initial * factor^floor(step / every).
struct SOLVENT_API StepSchedule {
  double initial = 1e-3;
  std::int64_t every = 1;
  double factor = 0.1;
  /// @throws ValueError unless every > 0
  double operator()(std::int64_t step) const;
};

}  // namespace solvent::nn
