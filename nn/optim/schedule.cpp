#include "solvent/nn/optim/schedule.h"

#include <cmath>
#include <numbers>

#include <fmt/format.h>

#include "solvent/core/error.h"

namespace solvent::nn {

namespace {

void check_step(const char* name, std::int64_t step) {
  if (step < 0) throw ValueError(fmt::format("[{}] got step {}; expected 0 or more.", name, step));
}

}  // namespace

double LinearWarmup::operator()(std::int64_t step) const {
  check_step("LinearWarmup", step);
  if (warmup_steps < 0)
    throw ValueError(fmt::format("[LinearWarmup] got warmup_steps {}; expected 0 or more.", warmup_steps));
  if (step >= warmup_steps) return peak;
  return initial + (peak - initial) * static_cast<double>(step) / static_cast<double>(warmup_steps);
}

double WarmupCosine::operator()(std::int64_t step) const {
  check_step("WarmupCosine", step);
  if (warmup_steps < 0 || warmup_steps >= total_steps)
    throw ValueError(
        fmt::format("[WarmupCosine] got warmup_steps {} and total_steps {}; expected 0 <= warmup_steps < "
                    "total_steps.",
                    warmup_steps, total_steps));
  if (step < warmup_steps) return LinearWarmup{peak, warmup_steps, initial}(step);
  if (step >= total_steps) return end;
  const double progress = static_cast<double>(step - warmup_steps) / static_cast<double>(total_steps - warmup_steps);
  return end + (peak - end) * 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
}

double StepSchedule::operator()(std::int64_t step) const {
  check_step("StepSchedule", step);
  if (every < 1) throw ValueError(fmt::format("[StepSchedule] got every = {}; expected at least 1.", every));
  return initial * std::pow(factor, static_cast<double>(step / every));
}

}  // namespace solvent::nn
