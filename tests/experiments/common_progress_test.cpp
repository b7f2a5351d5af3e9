#include <sys/wait.h>
#include <unistd.h>
#include <algorithm>
#include <cmath>
#include <csignal>
#include <numeric>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "solvent/core/error.h"
#include "solvent/experiments/common/data/sampler.h"
#include "solvent/experiments/common/interrupt.h"
#include "solvent/experiments/common/progress.h"
#include "solvent/experiments/common/text.h"
#include "solvent/tests/experiments/test_tools.h"
#include "solvent/tests/support/catch.h"

using namespace solvent::experiments;
using solvent::experiments::testing::Contains;
using solvent::experiments::testing::message_of;

namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (const std::string_view line : split(text, '\n')) {
    if (!line.empty()) lines.emplace_back(line);
  }
  return lines;
}

}  // namespace

TEST_CASE("progress: plain lines are throttled, the first and the last step are always shown") {
  std::ostringstream out;
  double now = 0;
  {
    Progress progress(out, {.label = "train", .total = 100, .line_interval_s = 10, .clock = [&] { return now; }});
    for (int step = 1; step <= 100; ++step) {
      now += 0.5;
      progress.update(step, 2.0 / step, "accuracy 0.5");
    }
  }
  const auto lines = lines_of(out.str());
  REQUIRE(lines.size() == 6);  // at 0.5, 10.5, 20.5, 30.5, 40.5 s and the last step
  CHECK(lines.front() == "train    1%  1/100  loss 2  accuracy 0.5  2 steps/s  ETA 50 s");
  CHECK(lines.back() == "train  100%  100/100  loss 0.02  accuracy 0.5  2 steps/s");
  CHECK_THAT(out.str(), !Contains("\r"));
}

TEST_CASE("progress: a terminal gets one redrawn line that fits its width") {
  std::ostringstream out;
  double now = 0;
  for (const int width : {40, 60, 80, 200}) {
    out.str("");
    Progress progress(
        out, {.label = "train", .total = 50, .is_terminal = true, .width = width, .clock = [&] { return now; }});
    for (int step = 1; step <= 25; ++step) {
      now += 1;
      progress.update(step, 0.5);
    }
    const std::string text = out.str();
    CHECK_THAT(text, !Contains("\n"));
    for (const std::string_view piece : split(text, '\r')) {
      if (!piece.empty()) CHECK(static_cast<int>(piece.size()) - 3 < width);  // 3: the escape that clears the line
    }
    if (width >= 80) CHECK_THAT(text, Contains("[=====") && Contains(">") && Contains("25/50") && Contains("ETA 25 s"));
    progress.note("saved");
    CHECK_THAT(out.str(), Contains("\r\x1b[Ksaved\n"));
    progress.finish();
    CHECK(out.str().back() == '\n');
  }
}

TEST_CASE("progress: redraws are throttled") {
  std::ostringstream out;
  double now = 0;
  Progress progress(out, {.total = 1000, .is_terminal = true, .redraw_interval_s = 0.1, .clock = [&] { return now; }});
  for (int step = 1; step <= 1000; ++step) {
    now += 0.001;
    progress.update(step, 1);
  }
  const std::string text = out.str();
  CHECK(std::count(text.begin(), text.end(), '\r') <= 11);
}

TEST_CASE("progress: the speed follows a change and a slow first step is forgotten") {
  std::ostringstream out;
  double now = 0;
  Progress progress(out, {.total = 1000, .first = 500, .clock = [&] { return now; }});
  CHECK(std::isnan(progress.eta_s()));
  now += 60;
  progress.update(501, 1);
  CHECK(progress.speed() == Approx(1 / 60.0));
  for (int step = 502; step <= 700; ++step) {
    now += 0.1;
    progress.update(step, 1);
  }
  CHECK(progress.speed() == Approx(10).epsilon(0.05));
  CHECK(progress.eta_s() == Approx(30).epsilon(0.05));
}

TEST_CASE("progress: a loss that is no number is shown as such") {
  std::ostringstream out;
  Progress progress(out, {.total = 2});
  progress.update(1, std::nan(""));
  CHECK_THAT(out.str(), Contains("loss nan"));
}

TEST_CASE("interrupt: the first signal sets a flag and the previous handler comes back") {
  struct sigaction before {};
  sigaction(SIGTERM, nullptr, &before);
  {
    const InterruptGuard guard;
    CHECK_FALSE(guard.requested());
    CHECK_THROWS_AS(InterruptGuard(), solvent::ValueError);
    std::raise(SIGTERM);
    CHECK(guard.requested());
    CHECK(guard.signal_number() == SIGTERM);
  }
  struct sigaction now {};
  sigaction(SIGTERM, nullptr, &now);
  CHECK((now.sa_handler == before.sa_handler));
  const InterruptGuard again;
  CHECK_FALSE(again.requested());
}

TEST_CASE("interrupt: the second signal kills") {
  const pid_t child = fork();
  if (child == 0) {
    const InterruptGuard guard;
    std::raise(SIGINT);
    if (!guard.requested()) _exit(7);
    std::raise(SIGINT);
    _exit(8);  // not reached
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGINT);
}

TEST_CASE("sampler: every epoch is a permutation, and a different one") {
  const EpochSampler sampler({.num_examples = 103, .batch_size = 10, .seed = 7});
  CHECK(sampler.batches_per_epoch() == 11);
  std::set<std::vector<std::int64_t>> orders;
  for (int epoch = 0; epoch < 5; ++epoch) {
    std::vector<std::int64_t> order;
    for (int b = 0; b < 11; ++b) {
      const auto batch = sampler.batch(epoch * 11 + b);
      CHECK(batch.size() == (b == 10 ? 3U : 10U));
      order.insert(order.end(), batch.begin(), batch.end());
    }
    CHECK(order == sampler.permutation(epoch));
    orders.insert(order);
    std::sort(order.begin(), order.end());
    std::vector<std::int64_t> all(103);
    std::iota(all.begin(), all.end(), 0);
    CHECK(order == all);
  }
  CHECK(orders.size() == 5);
}

TEST_CASE("sampler: a batch depends on seed and step only, so a run can resume anywhere") {
  const EpochSampler::Settings settings{.num_examples = 50, .batch_size = 8, .seed = 3};
  const EpochSampler whole(settings), resumed(settings);
  std::vector<std::vector<std::int64_t>> batches;
  for (int step = 0; step < 30; ++step) batches.push_back(whole.batch(step));
  for (const int step : {29, 17, 3, 18, 17}) CHECK(resumed.batch(step) == batches[static_cast<std::size_t>(step)]);
  const EpochSampler other({.num_examples = 50, .batch_size = 8, .seed = 4});
  CHECK(other.batch(0) != batches[0]);
}

TEST_CASE("sampler: drop_last and no shuffling") {
  const EpochSampler sampler({.num_examples = 10, .batch_size = 4, .shuffle = false, .drop_last = true});
  CHECK(sampler.batches_per_epoch() == 2);
  CHECK(sampler.batch(1) == std::vector<std::int64_t>{4, 5, 6, 7});
  CHECK(sampler.batch(2) == std::vector<std::int64_t>{0, 1, 2, 3});
  CHECK(sampler.epoch_of(5) == 2);
}

TEST_CASE("sampler: shuffling is uniform") {
  // Each of 6 values comes first in 6000 epochs about 1000 times: 5 standard deviations of the binomial are 144.
  std::vector<int> counts(6, 0);
  const EpochSampler sampler({.num_examples = 6, .batch_size = 6, .seed = 11});
  for (int epoch = 0; epoch < 6000; ++epoch) ++counts[static_cast<std::size_t>(sampler.permutation(epoch)[0])];
  for (const int count : counts) CHECK(std::abs(count - 1000) < 144);
}

TEST_CASE("sampler: impossible settings are refused") {
  CHECK_THAT(
      message_of<solvent::ValueError>([] { EpochSampler({.num_examples = 3, .batch_size = 4, .drop_last = true}); }),
      Contains("leaves nothing with drop_last; use a batch of at most 3"));
  CHECK_THROWS_AS(EpochSampler({.num_examples = 0, .batch_size = 1}), solvent::ValueError);
  CHECK_THROWS_AS(EpochSampler({.num_examples = 3, .batch_size = 0}), solvent::ValueError);
  CHECK_THROWS_AS(EpochSampler({.num_examples = 3}).batch(-1), solvent::ValueError);
}
