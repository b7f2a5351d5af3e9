#pragma once
// Recurrences over rows that are too short to share out. One thread does not read memory as fast as several, and threads that
// read neighbouring pieces of the same rows fetch each other's pieces (the prefetchers do not stop at the border). So threads
// take whole tiles of time in turn: while one computes its tile, the others bring the next ones into their caches.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>

#include "hwy/cache_control.h"
#include "solvent/core/parallel.h"

namespace solvent::cpu {

/// Reads one element of each cache line of [begin, begin + count).
template <class T>
inline void touch_lines(const T* begin, std::size_t count) {
  constexpr std::size_t kLine = 64 / sizeof(T);
  const volatile T* p = begin;
  for (std::size_t i = 0; i < count; i += kLine) static_cast<void>(p[i]);
}

/// Calls work(i0, i1) for the tiles [0, tile), [tile, 2 tile), ... of [0, steps), one after the other, each on one of the
/// threads; touch(i0, i1), called before by the same thread while earlier tiles may be at work, reads the tile's inputs.
/// Everything that a tile wrote is visible to the next one. With one thread there is nothing to overlap and no touch.
template <class Touch, class Work>
void time_pipeline(std::size_t steps, std::size_t tile, Touch touch, Work work) {
  if (num_threads() == 1 || in_parallel_region() || steps <= tile) return work(std::size_t{0}, steps);
  std::atomic<std::size_t> next{0}, done{0};
  const auto run = [&](std::int64_t, std::int64_t) {
    while (true) {
      // Tickets are taken in order, so the thread of the tile before is at work: waiting for it ends.
      const std::size_t i0 = next.fetch_add(tile, std::memory_order_relaxed), i1 = std::min(steps, i0 + tile);
      if (i0 >= steps) return;
      touch(i0, i1);
      for (int spins = 0; done.load(std::memory_order_acquire) != i0; ++spins) {
        if (spins < 4096) {
          hwy::Pause();
        } else {
          std::this_thread::yield();
        }
      }
      work(i0, i1);
      done.store(i1, std::memory_order_release);
    }
  };
  // More than a few threads only wait: memory is at its pace by then.
  parallel_for(std::min(num_threads(), 4), 1, run);
}

}  // namespace solvent::cpu
