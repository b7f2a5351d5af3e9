#include "solvent/core/parallel.h"

#include <atomic>
#include <cstdint>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "solvent/core/error.h"
#include "solvent/tests/support/catch.h"

using solvent::NumThreadsGuard;
using solvent::parallel_for;

namespace {

using Block = std::pair<std::int64_t, std::int64_t>;

std::set<Block> blocks_of(std::int64_t n, std::int64_t grain) {
  std::mutex mutex;
  std::set<Block> blocks;
  parallel_for(n, grain, [&](std::int64_t begin, std::int64_t end) {
    const std::lock_guard<std::mutex> lock(mutex);
    CHECK(blocks.emplace(begin, end).second);
  });
  return blocks;
}

// Per-block float sums combined in block order: the pattern of every reduction kernel.
float sum_in_blocks(const std::vector<float>& x, std::int64_t grain) {
  const auto n = static_cast<std::int64_t>(x.size());
  std::vector<float> partial(static_cast<std::size_t>((n + grain - 1) / grain));
  parallel_for(n, grain, [&](std::int64_t begin, std::int64_t end) {
    float sum = 0;
    for (std::int64_t i = begin; i < end; ++i) sum += x[static_cast<std::size_t>(i)];
    partial[static_cast<std::size_t>(begin / grain)] = sum;
  });
  float total = 0;
  for (const float p : partial) total += p;
  return total;
}

}  // namespace

TEST_CASE("parallel_for: every index once, for sizes around the block borders") {
  for (const int threads : {1, 2, 3, 20}) {
    const NumThreadsGuard guard(threads);
    for (const std::int64_t grain : {1, 2, 7, 64}) {
      for (const std::int64_t n : {0, 1, 2, 6, 7, 8, 63, 64, 65, 1000}) {
        std::vector<std::atomic<int>> visits(static_cast<std::size_t>(n));
        parallel_for(n, grain, [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t i = begin; i < end; ++i) ++visits[static_cast<std::size_t>(i)];
        });
        std::int64_t wrong = 0;
        for (const auto& count : visits) wrong += count.load() != 1;
        INFO("threads " << threads << ", grain " << grain << ", n " << n);
        CHECK(wrong == 0);
      }
    }
  }
}

TEST_CASE("parallel_for: the blocks do not depend on the number of threads") {
  std::set<Block> serial;
  {
    const NumThreadsGuard guard(1);
    serial = blocks_of(1000, 13);
  }
  CHECK(serial.size() == 77);
  for (const int threads : {2, 3, 5}) {
    const NumThreadsGuard guard(threads);
    CHECK(blocks_of(1000, 13) == serial);
  }
}

TEST_CASE("parallel_for: a sum by blocks has the same bits for any number of threads") {
  std::vector<float> x(100000);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = 1.0F / static_cast<float>(i + 1);
  float serial = 0;
  {
    const NumThreadsGuard guard(1);
    serial = sum_in_blocks(x, 1000);
  }
  for (const int threads : {2, 3, 4}) {
    const NumThreadsGuard guard(threads);
    CHECK(sum_in_blocks(x, 1000) == serial);
  }
}

TEST_CASE("parallel_for: nested loops run serially inside a region") {
  const NumThreadsGuard guard(2);
  std::atomic<int> outside{0};
  std::atomic<int> inner_blocks{0};
  parallel_for(4, 1, [&](std::int64_t, std::int64_t) {
    if (solvent::num_threads() > 1 && !solvent::in_parallel_region()) ++outside;
    const std::thread::id self = std::this_thread::get_id();
    parallel_for(10, 2, [&](std::int64_t, std::int64_t) {
      if (std::this_thread::get_id() != self) ++outside;
      ++inner_blocks;
    });
  });
  CHECK(outside == 0);
  CHECK(inner_blocks == 20);
  CHECK_FALSE(solvent::in_parallel_region());
}

TEST_CASE("parallel_for: may be used from several threads at once") {
  std::vector<std::int64_t> sums(4);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < sums.size(); ++t) {
    threads.emplace_back([&sums, t] {
      std::atomic<std::int64_t> sum{0};
      for (int repeat = 0; repeat < 20; ++repeat) {
        parallel_for(1000, 10, [&](std::int64_t begin, std::int64_t end) { sum += end - begin; });
      }
      sums[t] = sum;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(sums == std::vector<std::int64_t>(4, 20000));
}

TEST_CASE("set_num_threads: refuses numbers below one and names itself") {
  CHECK_THROWS_AS(solvent::set_num_threads(0), solvent::ValueError);
  CHECK_THROWS_WITH(solvent::set_num_threads(-3), "[set_num_threads] got -3; expected a number >= 1");
}

TEST_CASE("NumThreadsGuard: restores the previous number") {
  const int before = solvent::num_threads();
  {
    const NumThreadsGuard guard(1);
    CHECK(solvent::num_threads() == 1);
  }
  CHECK(solvent::num_threads() == before);
}
