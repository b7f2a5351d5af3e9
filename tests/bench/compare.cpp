#include "solvent/tests/bench/compare.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <exception>
#include <limits>
#include <memory>

#include "solvent/core/engine/view.h"
#include "solvent/core/parallel.h"
#include "solvent/core/rng.h"
#include "solvent/ops/random.h"

namespace solvent::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kSlowRounds = 3;  // peers of so few rounds are warmed up by the check of results only

double host_seconds(const std::function<void()>& run, int calls) {
  const Clock::time_point start = Clock::now();
  for (int i = 0; i < calls; ++i) run();
  return std::chrono::duration<double>(Clock::now() - start).count() / calls;
}

// Warms up and chooses how many calls make one timed section of at least `section` seconds.
int calibrate(const Timer& seconds, const std::function<void()>& run, double section) {
  double once = seconds(run, 1);
  if (once > 0.1) return 1;  // too slow to be worth a second warm-up
  once = std::max(seconds(run, 2), 1e-9);
  return std::clamp(static_cast<int>(std::ceil(section / once)), 1, 1 << 20);
}

double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  const double at = q * static_cast<double>(values.size() - 1);
  const auto low = static_cast<std::size_t>(at);
  const std::size_t high = std::min(low + 1, values.size() - 1);
  return values[low] + (at - static_cast<double>(low)) * (values[high] - values[low]);
}

struct Samples {
  int calls = 1;
  std::vector<double> times, ratios;
};

void run_row(benchmark::State& state, const Row& row, const Timer& seconds) {
  if (row.error) {
    const double error = row.error();
    if (!(error <= row.tolerance)) {
      state.SkipWithError(
          ("wrong result: error " + std::to_string(error) + " > " + std::to_string(row.tolerance)).c_str());
      return;
    }
    state.counters["error"] = error;
  }
  std::vector<const Peer*> peers;
  for (const Peer& peer : row.peers)
    if (peer.run) peers.push_back(&peer);
  Samples ours{.calls = calibrate(seconds, row.run, row.min_section), .times = {}, .ratios = {}};
  std::vector<Samples> theirs(peers.size());
  for (std::size_t i = 0; i < peers.size(); ++i)
    if (peers[i]->max_rounds > kSlowRounds) theirs[i].calls = calibrate(seconds, peers[i]->run, row.min_section);

  const Clock::time_point start = Clock::now();
  for (auto _ : state) {
    for (int round = 0; round < row.rounds; ++round) {
      const double mine = seconds(row.run, ours.calls);
      ours.times.push_back(mine);
      for (std::size_t i = 0; i < peers.size(); ++i) {
        if (round >= peers[i]->max_rounds) continue;
        const double time = seconds(peers[i]->run, theirs[i].calls);
        theirs[i].times.push_back(time);
        theirs[i].ratios.push_back(peers[i]->scale * time / mine);
      }
      if (round >= 2 && std::chrono::duration<double>(Clock::now() - start).count() > row.max_seconds) break;
    }
    state.SetIterationTime(quantile(ours.times, 0.5));
  }

  const double time = quantile(ours.times, 0.5);
  auto& counters = state.counters;
  counters["ours_s"] = time / row.items;
  counters["ours_p10_s"] = quantile(ours.times, 0.1) / row.items;
  counters["ours_p90_s"] = quantile(ours.times, 0.9) / row.items;
  counters["rounds"] = static_cast<double>(ours.times.size());
  if (row.at_most > 0) counters["limit_s"] = row.at_most;
  if (row.flops > 0) counters["gflops"] = row.flops / time * 1e-9;
  if (row.gflops_at_least > 0) counters["gflops_min"] = row.gflops_at_least;
  if (row.bytes > 0) counters["gbytes"] = row.bytes / time * 1e-9;
  for (std::size_t i = 0; i < peers.size(); ++i) {
    counters["peer_s:" + peers[i]->name] = quantile(theirs[i].times, 0.5) / row.items;
    counters["ratio:" + peers[i]->name] = quantile(theirs[i].ratios, 0.5);
    if (peers[i]->at_least > 0) counters["min:" + peers[i]->name] = peers[i]->at_least;
  }
  for (const auto& [name, value] : row.extra) counters[name] = value;
  state.SetLabel(row.note);
}

std::vector<std::function<std::string()>>& hooks() {
  static std::vector<std::function<std::string()>> list;
  return list;
}

double difference(const float* a, const float* b, std::int64_t n) {
  double largest = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const double d = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!(d <= std::numeric_limits<double>::max())) return std::numeric_limits<double>::quiet_NaN();
    largest = std::max(largest, d);
  }
  return largest;
}

std::size_t bytes_of(const Tensor& t) { return static_cast<std::size_t>(t.numel()) * size_of(t.dtype()); }

constexpr std::int64_t kBlock = std::int64_t{1} << 20;  // bytes (memcpy) or elements (reads) per block of threads

}  // namespace

bool add_row(const std::string& name, std::function<Row()> make, Timer timer) {
  if (!timer) timer = host_seconds;
  benchmark::RegisterBenchmark(name.c_str(),
                               [make = std::move(make), timer = std::move(timer)](benchmark::State& state) {
                                 try {
                                   run_row(state, make(), timer);
                                 } catch (const std::exception& e) {
                                   state.SkipWithError(e.what());
                                 }
                               })
      ->Iterations(1)
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond);
  return true;
}

bool before_rows(std::function<std::string()> hook) {
  hooks().push_back(std::move(hook));
  return true;
}

std::string call_before_rows() {
  for (const auto& hook : hooks())
    if (std::string text = hook(); !text.empty()) return text;
  return "";
}

Tensor random_normal(const Shape& shape, std::uint64_t seed) { return normal(Key(seed), shape); }

double max_difference(const Tensor& a, const Tensor& b) {
  const Tensor x = engine::contiguous(a), y = engine::contiguous(b);
  return x.numel() == y.numel() ? difference(x.data<float>(), y.data<float>(), x.numel())
                                : std::numeric_limits<double>::quiet_NaN();
}

double max_difference(const Tensor& a, const std::vector<float>& b) {
  const Tensor x = engine::contiguous(a);
  return x.numel() == static_cast<std::int64_t>(b.size()) ? difference(x.data<float>(), b.data(), x.numel())
                                                          : std::numeric_limits<double>::quiet_NaN();
}

Peer memcpy_peer(const Tensor& like, double at_least, double our_bytes_per_byte) {
  const std::size_t bytes = bytes_of(like);
  const Tensor target = zeros({static_cast<std::int64_t>(bytes)}, uint8);
  const auto* from = static_cast<const std::byte*>(like.impl()->storage->data);
  auto* to = static_cast<std::byte*>(target.impl()->storage->data);
  auto run = [like, target, from, to, bytes] {
    parallel_for(static_cast<std::int64_t>(bytes), kBlock, [=](std::int64_t begin, std::int64_t end) {
      std::memcpy(to + begin, from + begin, static_cast<std::size_t>(end - begin));
    });
    benchmark::ClobberMemory();
  };
  return {.name = "memcpy", .run = run, .at_least = at_least, .scale = our_bytes_per_byte / 2};
}

Peer read_peer(const Tensor& x, double at_least, double scale) {
  const std::int64_t n = static_cast<std::int64_t>(bytes_of(x) / sizeof(std::uint32_t));
  const auto* data = static_cast<const std::uint32_t*>(x.impl()->storage->data);
  auto run = [x, data, n] {
    parallel_for(n, kBlock / 8, [=](std::int64_t begin, std::int64_t end) {
      std::uint32_t sums[32] = {};  // integers: the compiler may use vectors
      std::int64_t i = begin;
      for (; i + 32 <= end; i += 32)
        for (int j = 0; j < 32; ++j) sums[j] ^= data[i + j];
      for (; i < end; ++i) sums[0] ^= data[i];
      benchmark::DoNotOptimize(sums);
    });
  };
  return {.name = "read", .run = run, .at_least = at_least, .scale = scale};
}

Peer triad_peer(std::int64_t elements, double at_least, double our_bytes_per_element) {
  const Tensor a = ones({elements}), b = ones({elements}), y = zeros({elements});
  auto run = [a, b, y, elements] {
    const float* __restrict pa = a.data<float>();
    const float* __restrict pb = b.data<float>();
    float* __restrict py = static_cast<float*>(y.impl()->storage->data);
    for (std::int64_t i = 0; i < elements; ++i) py[i] = pa[i] + 3.0f * pb[i];
    benchmark::ClobberMemory();
  };
  return {.name = "triad", .run = run, .at_least = at_least, .scale = our_bytes_per_element / 12};
}

}  // namespace solvent::bench
