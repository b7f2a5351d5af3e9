#include "solvent/nn/optim/schedule.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include <fmt/format.h>

#include "solvent/core/error.h"

namespace solvent::nn {

namespace {

void check_step(const char* name, std::int64_t step) {
  if (step < 0) throw ValueError(fmt::format("[{}] got step {}; expected 0 or more.", name, step));
}

void check_total(const char* name, std::int64_t total_steps) {
  if (total_steps < 1)
    throw ValueError(fmt::format("[{}] got total_steps {}; expected at least 1.", name, total_steps));
}

/// From `from` at progress 0 to `to` at progress 1.
double half_cosine(double from, double to, double progress) {
  return to + (from - to) * 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
}

double line(double from, double to, double progress) { return from + (to - from) * progress; }

double ratio(std::int64_t a, std::int64_t b) { return static_cast<double>(a) / static_cast<double>(b); }

}  // namespace

double LinearWarmup::operator()(std::int64_t step) const {
  check_step("LinearWarmup", step);
  if (warmup_steps < 0)
    throw ValueError(fmt::format("[LinearWarmup] got warmup_steps {}; expected 0 or more.", warmup_steps));
  if (step >= warmup_steps) return peak;
  return line(initial, peak, ratio(step, warmup_steps));
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
  return half_cosine(peak, end, ratio(step - warmup_steps, total_steps - warmup_steps));
}

double CosineSchedule::operator()(std::int64_t step) const {
  check_step("CosineSchedule", step);
  check_total("CosineSchedule", total_steps);
  return step >= total_steps ? end : half_cosine(initial, end, ratio(step, total_steps));
}

double LinearSchedule::operator()(std::int64_t step) const {
  check_step("LinearSchedule", step);
  check_total("LinearSchedule", total_steps);
  return step >= total_steps ? end : line(initial, end, ratio(step, total_steps));
}

double ExponentialSchedule::operator()(std::int64_t step) const {
  check_step("ExponentialSchedule", step);
  return initial * std::pow(factor, static_cast<double>(step));
}

double MultiStepSchedule::operator()(std::int64_t step) const {
  check_step("MultiStepSchedule", step);
  const auto passed = std::count_if(milestones.begin(), milestones.end(), [step](auto m) { return m <= step; });
  return initial * std::pow(factor, static_cast<double>(passed));
}

double CosineRestarts::operator()(std::int64_t step) const {
  check_step("CosineRestarts", step);
  if (first_period < 1 || growth < 1)
    throw ValueError(fmt::format("[CosineRestarts] got first_period {} and growth {}; expected at least 1 of each.",
                                 first_period, growth));
  std::int64_t period = first_period;
  std::int64_t since = growth == 1 ? step % period : step;
  while (since >= period) {
    since -= period;
    period *= growth;
  }
  return half_cosine(peak, end, ratio(since, period));
}

double CyclicSchedule::operator()(std::int64_t step) const {
  check_step("CyclicSchedule", step);
  if (steps_up < 1 || steps_down < 1)
    throw ValueError(fmt::format("[CyclicSchedule] got steps_up {} and steps_down {}; expected at least 1 of each.",
                                 steps_up, steps_down));
  const std::int64_t cycle = step / (steps_up + steps_down);
  const std::int64_t since = step % (steps_up + steps_down);
  double height = since <= steps_up ? ratio(since, steps_up) : 1.0 - ratio(since - steps_up, steps_down);
  if (mode == CyclicMode::triangular2) height *= std::pow(0.5, static_cast<double>(cycle));
  if (mode == CyclicMode::exponential) height *= std::pow(decay, static_cast<double>(step));
  return line(low, high, height);
}

double OneCycleSchedule::operator()(std::int64_t step) const {
  check_step("OneCycleSchedule", step);
  check_total("OneCycleSchedule", total_steps);
  if (!(rise >= 0) || rise > (three_phase ? 0.5 : 1.0))
    throw ValueError(fmt::format("[OneCycleSchedule] got rise {}; expected a fraction of the steps, at most {}.", rise,
                                 three_phase ? "1/2 with three phases" : "1"));
  struct Part {
    double last, to;  // reaches `to` at step `last`
  };
  const auto total = static_cast<double>(total_steps);
  const std::array<Part, 3> parts = {Part{rise * total - 1, peak}, Part{2 * rise * total - 2, initial},
                                     Part{total - 1, end}};
  const auto at = static_cast<double>(step);
  double first = 0, from = initial;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i == 1 && !three_phase) continue;
    const auto& [last, to] = parts[i];
    if (at <= last) {
      const double progress = last > first ? (at - first) / (last - first) : 1.0;
      return annealing == Annealing::cosine ? half_cosine(from, to, progress) : line(from, to, progress);
    }
    first = last;
    from = to;
  }
  return end;
}

double StepSchedule::operator()(std::int64_t step) const {
  check_step("StepSchedule", step);
  if (every < 1) throw ValueError(fmt::format("[StepSchedule] got every = {}; expected at least 1.", every));
  return initial * std::pow(factor, static_cast<double>(step / every));
}

}  // namespace solvent::nn
