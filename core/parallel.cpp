// Threads: their number, and the one parallel loop of the library.
//
// Decomposition: [0, n) is cut into blocks of `grain` indices, whatever the number of threads. Each thread owns one
// contiguous range of blocks (neighbouring blocks on one core keep its pages and prefetchers busy with whole rows) and
// when it is done takes blocks from the others' ranges, so that a core busy with another process delays no one.
// Which thread runs a block never changes what the block computes: the results are the same bits for any thread count.
#include "solvent/core/parallel.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <fstream>
#include <string>

#if SOLVENT_WITH_OPENMP
#include <omp.h>
#endif

#include "solvent/core/engine/blas_setup.h"
#include "solvent/core/error.h"

// Thread sanitizer does not see libgomp's barriers. All parallel regions are the one below, so annotating its fork and
// join tells the sanitizer exactly what OpenMP guarantees, and data races between blocks are still found.
#if defined(__SANITIZE_THREAD__)
#define SOLVENT_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SOLVENT_TSAN 1
#endif
#endif
#ifdef SOLVENT_TSAN
extern "C" {
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}
#define SOLVENT_TSAN_ACQUIRE(address) __tsan_acquire(address)
#define SOLVENT_TSAN_RELEASE(address) __tsan_release(address)
#define SOLVENT_NO_TSAN __attribute__((no_sanitize("thread")))
#else
#define SOLVENT_TSAN_ACQUIRE(address) static_cast<void>(address)
#define SOLVENT_TSAN_RELEASE(address) static_cast<void>(address)
#define SOLVENT_NO_TSAN
#endif

namespace solvent {

namespace {

#if SOLVENT_WITH_OPENMP

constexpr int kMaxThreads = 1024;

// Processors this process may be scheduled on (taskset, cpusets of containers).
int affinity_count() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return kMaxThreads;
  return std::max(1, CPU_COUNT(&set));
}

// A container's CPU time limit in whole processors, rounded up; kMaxThreads when there is none. Running more threads
// than that makes the kernel stop all of them for part of every period.
int cgroup_limit() {
  double limit = kMaxThreads;
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    if (line.rfind("0::", 0) != 0) continue;  // the unified hierarchy (cgroup v2)
    std::string path = line.substr(3);
    while (true) {  // the tightest limit of this group and its parents
      std::ifstream file("/sys/fs/cgroup" + path + "/cpu.max");
      std::string quota;
      double period = 0;
      if (file >> quota >> period && quota != "max" && period > 0) {
        limit = std::min(limit, std::strtod(quota.c_str(), nullptr) / period);
      }
      const std::size_t slash = path.find_last_of('/');
      if (slash == std::string::npos) break;
      path.resize(slash);
    }
  }
  std::ifstream quota_file("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");  // cgroup v1
  std::ifstream period_file("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  double quota = 0;
  double period = 0;
  if (quota_file >> quota && period_file >> period && quota > 0 && period > 0) limit = std::min(limit, quota / period);
  return std::clamp(static_cast<int>(limit + 0.999), 1, kMaxThreads);
}

// OMP_NUM_THREADS may be a list for nested regions ("4,2"): the first number counts.
int default_num_threads() {
  if (const char* text = std::getenv("OMP_NUM_THREADS")) {
    char* end = nullptr;
    errno = 0;
    const long value = std::strtol(text, &end, 10);
    if (end != text && errno == 0 && value >= 1) return static_cast<int>(std::min<long>(value, kMaxThreads));
  }
  return std::min(affinity_count(), cgroup_limit());
}

#else

int default_num_threads() { return 1; }

#endif

std::atomic<int>& thread_count() {
  static std::atomic<int> count{default_num_threads()};
  return count;
}

constinit thread_local bool t_in_region = false;

// Runs serially what would run in parallel: the same blocks in ascending order. It counts as a parallel region too: code
// that asks in_parallel_region() must take the same path, hence give the same bits, for any number of threads.
void run_serially(std::int64_t n, std::int64_t grain, detail::RangeFn fn, void* context) noexcept {
  const bool outer = t_in_region;
  t_in_region = true;
  for (std::int64_t begin = 0; begin < n; begin += grain) fn(context, begin, std::min(n, begin + grain));
  t_in_region = outer;
}

#if SOLVENT_WITH_OPENMP

// The blocks [first, last) of one thread's range that nobody has taken yet. One cache line each: threads would
// otherwise slow each other down on every block.
struct alignas(64) BlockRange {
  std::atomic<std::int64_t> next{0};
  std::int64_t last = 0;
};

struct Region {
  std::int64_t n;
  std::int64_t grain;
  detail::RangeFn fn;
  void* context;
  BlockRange* ranges;
  int num_ranges;
};

void run_range(const Region& region, BlockRange& range) noexcept {
  while (true) {
    const std::int64_t block = range.next.fetch_add(1, std::memory_order_relaxed);
    if (block >= range.last) return;
    const std::int64_t begin = block * region.grain;
    region.fn(region.context, begin, std::min(region.n, begin + region.grain));
  }
}

void run_thread(Region& region, int thread) noexcept {
  SOLVENT_TSAN_ACQUIRE(&region);
  t_in_region = true;
  for (int i = 0; i < region.num_ranges; ++i) run_range(region, region.ranges[(thread + i) % region.num_ranges]);
  t_in_region = false;
  SOLVENT_TSAN_RELEASE(&region);
}

// Only this function holds an OpenMP region. Uninstrumented, because the hidden argument block that libgomp passes to
// its threads is outside the annotations' reach.
SOLVENT_NO_TSAN void fork_join(Region& region, int threads) noexcept {
  Region* const shared = &region;
  SOLVENT_TSAN_RELEASE(shared);
#pragma omp parallel num_threads(threads) default(none) firstprivate(shared)
  run_thread(*shared, omp_get_thread_num());
  SOLVENT_TSAN_ACQUIRE(shared);
}

#endif

}  // namespace

int num_threads() noexcept { return thread_count().load(std::memory_order_relaxed); }

void set_num_threads(int n) {
  if (n < 1) throw ValueError(fmt::format("[set_num_threads] got {}; expected a number >= 1", n));
#if SOLVENT_WITH_OPENMP
  n = std::min(n, kMaxThreads);
  omp_set_num_threads(n);  // for oneDNN, which asks OpenMP
#else
  n = 1;
#endif
  thread_count().store(n, std::memory_order_relaxed);
  detail::set_blas_threads(n);
}

NumThreadsGuard::NumThreadsGuard(int n) : previous_(num_threads()) { set_num_threads(n); }

NumThreadsGuard::~NumThreadsGuard() { set_num_threads(previous_); }

bool in_parallel_region() noexcept {
#if SOLVENT_WITH_OPENMP
  return t_in_region || omp_in_parallel() != 0;
#else
  return t_in_region;
#endif
}

namespace detail {

void parallel_blocks(std::int64_t n, std::int64_t grain, RangeFn fn, void* context) noexcept {
  grain = std::max<std::int64_t>(grain, 1);
#if SOLVENT_WITH_OPENMP
  // An ordinary `if`: `omp parallel if(false)` alone costs 320 ns, ten times a small op.
  const std::int64_t blocks = (n - 1) / grain + 1;
  const int threads = static_cast<int>(std::min<std::int64_t>(num_threads(), blocks));
  if (threads > 1 && !in_parallel_region()) {
    constexpr int kInlineThreads = 16;
    BlockRange inline_ranges[kInlineThreads];
    BlockRange* ranges = inline_ranges;
    // More threads than slots: several threads start in one range, which is correct and only shares a counter.
    const int num_ranges = std::min(threads, kInlineThreads);
    for (int i = 0; i < num_ranges; ++i) {
      ranges[i].next.store(blocks * i / num_ranges, std::memory_order_relaxed);
      ranges[i].last = blocks * (i + 1) / num_ranges;
    }
    Region region{n, grain, fn, context, ranges, num_ranges};
    fork_join(region, threads);
    return;
  }
#endif
  run_serially(n, grain, fn, context);
}

}  // namespace detail

}  // namespace solvent
