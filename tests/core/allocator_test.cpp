#include "solvent/core/allocator.h"

#include <cstring>
#include <limits>
#include <thread>
#include <vector>

#include "solvent/core/error.h"
#include "solvent/core/tensor.h"
#include "solvent/tests/core/core_support.h"
#include "solvent/tests/support/catch.h"

// Address sanitizer builds bypass caching, so that every use after free is found.
#if defined(__SANITIZE_ADDRESS__)
#define SOLVENT_TEST_CACHING 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SOLVENT_TEST_CACHING 0
#endif
#endif
#ifndef SOLVENT_TEST_CACHING
#define SOLVENT_TEST_CACHING 1
#endif

using namespace solvent;

namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

struct LimitGuard {
  explicit LimitGuard(std::size_t bytes) { set_memory_limit(bytes); }
  ~LimitGuard() { set_memory_limit(0); }
};

[[maybe_unused]] std::size_t reserved() {
  const MemoryStats stats = memory_stats();
  return stats.active + stats.cached;
}

}  // namespace

TEST_CASE("allocator: blocks are aligned, distinct and writable over their whole size") {
  std::vector<std::pair<void*, std::size_t>> blocks;
  for (const std::size_t bytes :
       std::initializer_list<std::size_t>{0, 1, 63, 64, 65, 4000, 4096, 4097, 70000, 1048576, 1048577, 5000000}) {
    void* const p = detail::allocate(bytes, cpu_device);
    REQUIRE(p != nullptr);
    CHECK(reinterpret_cast<std::uintptr_t>(p) % 64 == 0);
    for (const auto& [other, size] : blocks) CHECK(p != other);
    std::memset(p, static_cast<int>(blocks.size()), bytes);
    blocks.emplace_back(p, bytes);
  }
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const auto [p, bytes] = blocks[i];
    const auto* const data = static_cast<const unsigned char*>(p);
    bool intact = true;
    for (std::size_t j = 0; j < bytes; ++j) intact &= data[j] == i;
    CHECK(intact);
    detail::deallocate(p, bytes, cpu_device);
  }
}

TEST_CASE("allocator: active and peak follow large blocks exactly") {
  const std::size_t before = memory_stats().active;
  reset_peak_memory();
  {
    const Tensor a = zeros({std::int64_t{kMiB} / 4});
    {
      const Tensor b = zeros({std::int64_t{kMiB} / 4});
      const Tensor c = zeros({std::int64_t{kMiB} / 4});
      CHECK(memory_stats().active - before >= 3 * kMiB);
      CHECK(memory_stats().active - before <= 3 * kMiB + 3 * kMiB / 8);  // rounding, handles, guards of debug builds
    }
    CHECK(memory_stats().active - before < 2 * kMiB);
  }
  CHECK(memory_stats().active == before);
  CHECK(memory_stats().peak - before >= 3 * kMiB);
  CHECK(memory_stats().peak - before <= 3 * kMiB + 3 * kMiB / 8);
  reset_peak_memory();
  CHECK(memory_stats().peak == before);
}

TEST_CASE("allocator: absurd sizes are refused with all figures") {
  const std::string text =
      message_of<OutOfMemoryError>([] { detail::allocate(std::numeric_limits<std::size_t>::max() / 2, cpu_device); });
  for (const char* word : {"[allocate] out of memory on cpu", "requested", "active", "cached", "limit",
                           "largest holders", "set_memory_limit"})
    CHECK_THAT(text, Catch::Contains(word));
  CHECK_FALSE(message_of<OutOfMemoryError>([] { (void)zeros({std::int64_t{1} << 60}); }).empty());
}

#if SOLVENT_TEST_CACHING

TEST_CASE("allocator: freed blocks of equal size are reused, the last one first") {
  for (const std::size_t bytes : {std::size_t{200}, std::size_t{4096}, std::size_t{100000}, 3 * kMiB}) {
    void* const p = detail::allocate(bytes, cpu_device);
    detail::deallocate(p, bytes, cpu_device);
    const MemoryStats before = memory_stats();
    void* const q = detail::allocate(bytes, cpu_device);
    CHECK(p == q);
    CHECK(memory_stats().cache_hits == before.cache_hits + 1);
    CHECK(memory_stats().allocations == before.allocations + 1);
    detail::deallocate(q, bytes, cpu_device);
  }
}

TEST_CASE("allocator: a large free block does not serve a much smaller request") {
  empty_cache();
  void* const big = detail::allocate(64 * kMiB, cpu_device);
  detail::deallocate(big, 64 * kMiB, cpu_device);
  const std::size_t before = memory_stats().active;
  void* const p = detail::allocate(5 * kMiB, cpu_device);
  CHECK(memory_stats().active - before <= 7 * kMiB);
  detail::deallocate(p, 5 * kMiB, cpu_device);
  void* const q = detail::allocate(4 * kMiB, cpu_device);  // but a slightly smaller one is served
  CHECK(p == q);
  detail::deallocate(q, 4 * kMiB, cpu_device);
  empty_cache();
  CHECK(memory_stats().cached < 64 * kMiB);
}

TEST_CASE("allocator: at the limit the cache is trimmed first, then the error names the largest holders") {
  empty_cache();
  const LimitGuard guard(reserved() + 9 * kMiB);
  void* const held = detail::allocate(4 * kMiB, cpu_device);
  const std::string text = message_of<OutOfMemoryError>([] { detail::allocate(6 * kMiB, cpu_device); });
  for (const char* word : {"requested 6.0 MiB", "limit", "1 x 4."}) CHECK_THAT(text, Catch::Contains(word));
  detail::deallocate(held, 4 * kMiB, cpu_device);
  CHECK(memory_stats().cached >= 4 * kMiB);
  void* const p = detail::allocate(6 * kMiB, cpu_device);  // gives the cached 4 MiB back
  CHECK(reserved() <= memory_stats().limit);
  detail::deallocate(p, 6 * kMiB, cpu_device);
}

TEST_CASE("allocator: the least recently freed block is given back first") {
  empty_cache();
  const LimitGuard guard(reserved() + 15 * kMiB);
  void* const a = detail::allocate(4 * kMiB, cpu_device);
  void* const b = detail::allocate(6 * kMiB, cpu_device);
  detail::deallocate(a, 4 * kMiB, cpu_device);
  detail::deallocate(b, 6 * kMiB, cpu_device);
  void* const c = detail::allocate(8 * kMiB, cpu_device);  // 18 MiB would be too many: a goes, b stays
  CHECK(detail::allocate(6 * kMiB, cpu_device) == b);
  detail::deallocate(b, 6 * kMiB, cpu_device);
  detail::deallocate(c, 8 * kMiB, cpu_device);
}

TEST_CASE("allocator: blocks freed by another thread come back") {
  constexpr int kBlocks = 3000;
  std::vector<void*> blocks(kBlocks);
  std::size_t after_warm_up = 0;
  const std::size_t active = memory_stats().active;
  for (int round = 0; round < 30; ++round) {
    for (void*& p : blocks) p = detail::allocate_body(192);
    std::thread([&] {
      for (void* p : blocks) detail::deallocate_body(p, 192);
    }).join();
    if (round == 2) after_warm_up = reserved();
  }
  CHECK(reserved() == after_warm_up);
  CHECK(memory_stats().active == active);
}

TEST_CASE("allocator: threads that end leave their lists behind") {
  const auto work = [] {
    std::vector<void*> blocks;
    for (int i = 0; i < 500; ++i) blocks.push_back(detail::allocate(640, cpu_device));
    for (void* p : blocks) detail::deallocate(p, 640, cpu_device);
  };
  std::thread(work).join();
  const std::size_t before = reserved();
  const std::size_t active = memory_stats().active;
  const std::uint64_t allocations = memory_stats().allocations;
  for (int i = 0; i < 50; ++i) std::thread(work).join();
  CHECK(reserved() == before);
  CHECK(memory_stats().active == active);
  CHECK(memory_stats().allocations == allocations + 50 * 500);
}

#endif  // SOLVENT_TEST_CACHING

TEST_CASE("allocator: thread-local tensors may outlive their thread's lists") {
  const std::size_t active = memory_stats().active;
  std::thread([] {
    // Made before the thread's first allocation, hence destroyed after the lists were flushed.
    thread_local Tensor kept;
    kept.reset();
    kept = ones({8, 8});
  }).join();
  CHECK(memory_stats().active == active);
}

TEST_CASE("allocator: many threads at once") {
  const std::size_t active = memory_stats().active;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      Chooser choose(static_cast<std::uint64_t>(t));
      std::vector<std::pair<unsigned char*, std::size_t>> live;
      for (int i = 0; i < 4000; ++i) {
        if (live.size() > 50 || (!live.empty() && choose.integer(0, 1) == 0)) {
          const auto index = static_cast<std::size_t>(choose.integer(0, static_cast<std::int64_t>(live.size()) - 1));
          const auto [p, bytes] = live[index];
          if (p[0] != t || p[bytes - 1] != t) std::abort();  // Catch2 assertions are not thread-safe
          detail::deallocate(p, bytes, cpu_device);
          live[index] = live.back();
          live.pop_back();
        } else {
          const auto bytes = static_cast<std::size_t>(choose.integer(1, choose.integer(0, 9) == 0 ? 300000 : 5000));
          auto* const p = static_cast<unsigned char*>(detail::allocate(bytes, cpu_device));
          p[0] = p[bytes - 1] = static_cast<unsigned char>(t);
          live.emplace_back(p, bytes);
        }
      }
      for (const auto& [p, bytes] : live) detail::deallocate(p, bytes, cpu_device);
    });
  }
  for (std::thread& t : threads) t.join();
  CHECK(memory_stats().active == active);
}
