// Schedules against PyTorch's over 50 steps (tests/golden/make_optim.py), and their values at the joints.

#include <cmath>
#include <numbers>

#include "solvent/nn/nn.h"
#include "solvent/tests/nn/nn_support.h"

namespace solvent::nn {
namespace {

using testing::Golden;
using testing::values_of;

void check_rates(const std::string& name, const Tensor& expected, const Schedule& schedule) {
  const std::vector<double> rates = values_of(expected);
  REQUIRE(rates.size() == 50);
  for (std::size_t i = 0; i < rates.size(); ++i) {
    INFO(name << ", step " << i << ": " << schedule(static_cast<std::int64_t>(i)) << " against " << rates[i]);
    CHECK(std::fabs(schedule(static_cast<std::int64_t>(i)) - rates[i]) <= 1e-12 * 0.1);
  }
}

TEST_CASE("schedules: 50 rates equal PyTorch's", "[nn]") {
  const Golden golden("optim");
  const std::vector<std::pair<std::string, Schedule>> cases = {
      {"constant", ConstantSchedule{0.1}},
      {"step", StepSchedule{.initial = 0.1, .every = 7, .factor = 0.6}},
      {"multi_step", MultiStepSchedule{.initial = 0.1, .milestones = {30, 5, 6}, .factor = 0.3}},
      {"exponential", ExponentialSchedule{.initial = 0.1, .factor = 0.95}},
      {"linear", LinearSchedule{.initial = 0.02, .end = 0.09, .total_steps = 31}},
      {"cosine", CosineSchedule{.initial = 0.1, .total_steps = 50, .end = 0.003}},
      {"cosine", WarmupCosine{.peak = 0.1, .total_steps = 50, .end = 0.003}},
      {"warmup_cosine",
       WarmupCosine{.peak = 0.1, .warmup_steps = 9, .total_steps = 50, .initial = 0.001, .end = 0.003}},
      {"restarts", CosineRestarts{.peak = 0.1, .first_period = 8, .end = 0.003}},
      {"restarts_growing", CosineRestarts{.peak = 0.1, .first_period = 5, .growth = 2, .end = 0.003}},
      {"triangular", CyclicSchedule{.low = 0.01, .high = 0.1, .steps_up = 6, .steps_down = 9}},
      {"triangular2",
       CyclicSchedule{.low = 0.01, .high = 0.1, .steps_up = 6, .steps_down = 6, .mode = CyclicMode::triangular2}},
      {"exp_range",
       CyclicSchedule{
           .low = 0.01, .high = 0.1, .steps_up = 6, .steps_down = 3, .mode = CyclicMode::exponential, .decay = 0.97}},
      {"one_cycle", OneCycleSchedule{.initial = 0.004, .peak = 0.1, .end = 4e-7, .total_steps = 50}},
      {"one_cycle_linear",
       OneCycleSchedule{
           .initial = 0.01, .peak = 0.1, .end = 1e-4, .total_steps = 50, .rise = 0.37, .annealing = Annealing::linear}},
      {"one_cycle_three",
       OneCycleSchedule{
           .initial = 0.004, .peak = 0.1, .end = 4e-7, .total_steps = 50, .rise = 0.4, .three_phase = true}}};
  for (const auto& [name, schedule] : cases) check_rates(name, golden["rates." + name], schedule);
}

TEST_CASE("schedules: the momentum of one-cycle training is the same schedule upside down", "[nn]") {
  const Golden golden("optim");
  OneCycleSchedule momentum{.initial = 0.95, .peak = 0.85, .end = 0.95, .total_steps = 50};
  check_rates("one_cycle", golden["momenta.one_cycle"], momentum);
  momentum.rise = 0.4;
  momentum.three_phase = true;
  check_rates("one_cycle_three", golden["momenta.one_cycle_three"], momentum);
  momentum.rise = 0.37;
  momentum.three_phase = false;
  momentum.annealing = Annealing::linear;
  check_rates("one_cycle_linear", golden["momenta.one_cycle_linear"], momentum);
}

TEST_CASE("schedules: ends stay, and edge cases are defined", "[nn]") {
  CHECK(CosineSchedule{.initial = 1, .total_steps = 10, .end = 0.25}(1000) == 0.25);
  CHECK(LinearSchedule{.initial = 1, .end = 0.25, .total_steps = 10}(1000) == 0.25);
  const OneCycleSchedule one{.initial = 0.1, .peak = 1, .end = 0.01, .total_steps = 20};
  CHECK(one(5) == Approx(1.0));
  CHECK(one(19) == Approx(0.01));
  CHECK(one(1000) == 0.01);
  CHECK(OneCycleSchedule{.initial = 0.1, .peak = 1, .end = 0.01, .total_steps = 1}(0) == Approx(0.01));
  CHECK(OneCycleSchedule{.initial = 0.1, .peak = 1, .total_steps = 10, .rise = 0.1}(0) == Approx(1.0));
  CHECK(MultiStepSchedule{.initial = 1, .milestones = {}}(100) == 1);
  CHECK(MultiStepSchedule{.initial = 1, .milestones = {3, 3}, .factor = 0.5}(3) == 0.25);
  const CosineRestarts restarts{.peak = 1, .first_period = 3, .growth = 3};
  for (const std::int64_t start : {0, 3, 12, 39}) CHECK(restarts(start) == 1);
  CHECK_ERROR(ValueError, (CosineSchedule{}(0)), "[CosineSchedule]", "total_steps 0");
  CHECK_ERROR(ValueError, (LinearSchedule{}(0)), "[LinearSchedule]", "total_steps 0");
  CHECK_ERROR(ValueError, (ExponentialSchedule{}(-1)), "[ExponentialSchedule]", "step -1");
  CHECK_ERROR(ValueError, (MultiStepSchedule{}(-1)), "[MultiStepSchedule]", "step -1");
  CHECK_ERROR(ValueError, (CosineRestarts{.growth = 0}(0)), "[CosineRestarts]", "growth 0");
  CHECK_ERROR(ValueError, (CyclicSchedule{.steps_up = 0}(0)), "[CyclicSchedule]", "steps_up 0");
  CHECK_ERROR(ValueError, (OneCycleSchedule{.total_steps = 5, .rise = 0.6, .three_phase = true}(0)),
              "[OneCycleSchedule]", "rise 0.6", "1/2");
}

TEST_CASE("schedules: values at the joints", "[nn]") {
  CHECK(ConstantSchedule{0.1}(12345) == 0.1);
  const LinearWarmup warmup{.peak = 1.0, .warmup_steps = 4, .initial = 0.2};
  CHECK(warmup(0) == 0.2);
  CHECK(warmup(2) == Approx(0.6));
  CHECK(warmup(4) == 1.0);
  CHECK(warmup(100) == 1.0);
  CHECK(LinearWarmup{.peak = 1.0}(0) == 1.0);

  const WarmupCosine cosine{.peak = 2.0, .warmup_steps = 10, .total_steps = 110, .end = 0.5};
  CHECK(cosine(0) == 0.0);
  CHECK(cosine(5) == Approx(1.0));
  CHECK(cosine(10) == 2.0);
  CHECK(cosine(60) == Approx(1.25));
  CHECK(cosine(35) == Approx(0.5 + 1.5 * 0.5 * (1 + std::numbers::sqrt2 / 2)));
  CHECK(cosine(110) == 0.5);
  CHECK(cosine(1000) == 0.5);
  for (std::int64_t i = 10; i < 110; ++i) CHECK(cosine(i + 1) < cosine(i));

  const StepSchedule steps{.initial = 1.0, .every = 30, .factor = 0.5};
  CHECK(steps(29) == 1.0);
  CHECK(steps(30) == 0.5);
  CHECK(steps(90) == 0.125);

  const Schedule any = cosine;  // all of them, and lambdas, are a Schedule
  CHECK(any(10) == 2.0);
  CHECK_ERROR(ValueError, cosine(-1), "[WarmupCosine]", "step -1");
  CHECK_ERROR(ValueError, (WarmupCosine{.warmup_steps = 5, .total_steps = 5}(0)), "[WarmupCosine]", "total_steps 5");
  CHECK_ERROR(ValueError, (StepSchedule{.every = 0}(0)), "[StepSchedule]", "every = 0");
  CHECK_ERROR(ValueError, (LinearWarmup{.warmup_steps = -1}(0)), "[LinearWarmup]", "warmup_steps -1");
}

}  // namespace
}  // namespace solvent::nn
