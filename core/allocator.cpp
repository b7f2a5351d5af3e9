// The caching allocator of CPU memory.
//
// Small blocks (at most 4 KiB; data, handles, tape nodes): 64 size classes in steps of 64 bytes. Each thread keeps, per
// class, two singly linked lists ("magazines", Bonwick 2001): blocks are taken from and put on the first one; a full one
// is handed to a global pool in O(1), an empty one is refilled from there. So a block may be freed by any thread, and a
// thread's lists go back to the pool when it ends. Cost: about 2 ns, no atomic read-modify-write.
//
// Large blocks: sizes are rounded to 16 steps per power of two (at most 6 % waste); a free block of the same or one of
// the next four classes is reused (at most 31 % waste), the most recently freed first because it is still in the cache.
// Blocks from 1 MiB on are mapped at 2 MiB boundaries with huge pages requested, which makes first touch 5 times cheaper.
// Their data starts at varying multiples of 64 bytes: equal low address bits of several operands would make loads wait
// for unrelated stores (4K aliasing) and share cache sets.
//
// Address sanitizer builds bypass all caching, so that every block has red zones and a use after free is found.
#include "solvent/core/allocator.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include <sys/mman.h>

#include <fmt/format.h>

#include "solvent/core/error.h"

#if SOLVENT_WITH_CUDA
#include "solvent/core/cuda/allocator.h"
#include "solvent/core/cuda/pinned.h"
#include "solvent/core/cuda/runtime.h"
#include "solvent/core/engine/storage.h"
#endif

#if defined(__SANITIZE_ADDRESS__)
#define SOLVENT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SOLVENT_ASAN 1
#endif
#endif
#ifndef SOLVENT_ASAN
#define SOLVENT_ASAN 0
#endif

// Guard bytes behind every block, NaN patterns in fresh memory, poison in freed memory.
#ifndef SOLVENT_DEBUG_ALLOC
#if defined(NDEBUG) || SOLVENT_ASAN
#define SOLVENT_DEBUG_ALLOC 0
#else
#define SOLVENT_DEBUG_ALLOC 1
#endif
#endif

namespace solvent {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kSmallLimit = 4096;
constexpr int kSmallClasses = kSmallLimit / kAlignment;
constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kMapThreshold = std::size_t{1} << 20;
constexpr std::size_t kLargestRequest = std::size_t{1} << 47;

constexpr std::size_t round_up(std::size_t n, std::size_t step) { return (n + step - 1) / step * step; }

// --- sizes of large blocks ------------------------------------------------------------------------------------------

constexpr int kStepsPerOctave = 16;
constexpr int kFirstOctave = 12;  // 4 KiB
constexpr int kLargeClasses = (48 - kFirstOctave) * kStepsPerOctave;
constexpr int kExtraClasses = 4;  // how much larger a reused block may be

constexpr int large_class(std::size_t bytes) {
  const int octave = static_cast<int>(std::bit_width(bytes - 1)) - 1;  // 2^octave < bytes <= 2^(octave + 1)
  const std::size_t step = (std::size_t{1} << octave) / kStepsPerOctave;
  const std::size_t steps = (bytes - 1 - (std::size_t{1} << octave)) / step;
  return (octave - kFirstOctave) * kStepsPerOctave + static_cast<int>(steps);
}

constexpr std::size_t large_capacity(int size_class) {
  const int octave = size_class / kStepsPerOctave + kFirstOctave;
  const std::size_t step = (std::size_t{1} << octave) / kStepsPerOctave;
  return (std::size_t{1} << octave) + step * static_cast<std::size_t>(size_class % kStepsPerOctave + 1);
}

static_assert(large_class(4097) == 0 && large_capacity(0) == 4096 + 256);
static_assert(large_capacity(large_class(1 << 20)) == 1 << 20);
static_assert(large_capacity(large_class((1 << 20) + 1)) == (1 << 20) + (1 << 16));
static_assert(large_class(kLargestRequest) < kLargeClasses);

// Stands right before the data of a large block.
struct alignas(kAlignment) LargeBlock {
  LargeBlock* previous;  // in the list of live blocks, or of free blocks of this class
  LargeBlock* next;
  LargeBlock* lru_previous;  // free blocks of all classes, most recently freed first
  LargeBlock* lru_next;
  std::size_t capacity;
  void* base;          // what the system returned
  std::size_t mapped;  // length of the mapping; 0 if from aligned_alloc
  std::size_t size_class;
};
static_assert(sizeof(LargeBlock) == kAlignment);

LargeBlock* header_of(void* data) { return static_cast<LargeBlock*>(data) - 1; }

// --- small blocks ---------------------------------------------------------------------------------------------------

struct FreeBlock {
  FreeBlock* next;        // in its magazine
  FreeBlock* next_chain;  // first block of a magazine in the global pool: the next magazine
  std::size_t count;      // first block of a magazine in the global pool: blocks in it
};

[[maybe_unused]] constexpr int small_class(std::size_t bytes) {
  return bytes == 0 ? 0 : static_cast<int>((bytes - 1) / kAlignment);
}
constexpr std::size_t small_size(int size_class) { return static_cast<std::size_t>(size_class + 1) * kAlignment; }
// Blocks per magazine: about 32 KiB, so that two of them stay within L2 even for the largest class.
constexpr std::uint32_t magazine_size(int size_class) {
  return static_cast<std::uint32_t>(std::clamp<std::size_t>((std::size_t{32} << 10) / small_size(size_class), 8, 256));
}

// The lists of one class on one thread. Atomic only so that statistics may look at other threads' lists: relaxed loads
// and stores are plain ones.
struct Magazine {
  FreeBlock* head = nullptr;               // blocks to take
  std::atomic<FreeBlock*> spare{nullptr};  // null, or a full list of magazine_size blocks
  std::atomic<std::uint32_t> room{0};      // how many may be put before the slow path; 0 until the thread is registered

  [[nodiscard]] std::uint32_t get_room() const noexcept { return room.load(std::memory_order_relaxed); }
  void set_room(std::uint32_t n) noexcept { room.store(n, std::memory_order_relaxed); }
  [[nodiscard]] FreeBlock* get_spare() const noexcept { return spare.load(std::memory_order_relaxed); }
  void set_spare(FreeBlock* list) noexcept { spare.store(list, std::memory_order_relaxed); }
  // Blocks in both lists of a registered thread.
  [[nodiscard]] std::uint32_t held(std::uint32_t full) const noexcept {
    return full - std::min(full, get_room()) + (get_spare() ? full : 0);
  }
};

// All zero at first, so it needs no initialisation; a thread registers itself in its first slow path.
struct ThreadCache {
  std::array<Magazine, kSmallClasses> magazines{};
  std::atomic<std::uint64_t> allocations{0};  // of data
  ThreadCache* next = nullptr;
  bool registered = false;
  bool ended = false;

  void count_allocation() noexcept {
    allocations.store(allocations.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
};

constinit thread_local ThreadCache thread_cache;

// --- the process-wide part ------------------------------------------------------------------------------------------

// One instance that is never destroyed: static and thread-local tensors may die after everything else.
struct Pool {
  std::mutex mutex;  // guards everything below

  std::array<FreeBlock*, kSmallClasses> chains{};
  std::array<std::int64_t, kSmallClasses> outside{};  // blocks of a class in threads' lists or in use
  std::size_t outside_bytes = 0;
  std::byte* slab = nullptr;
  std::size_t slab_left = 0;
  std::size_t slab_bytes = 0;  // from the system, for small blocks
  ThreadCache* threads = nullptr;
  std::uint64_t ended_allocations = 0;  // of threads that ended

  std::array<LargeBlock*, kLargeClasses> free_large{};
  LargeBlock* live_large = nullptr;
  LargeBlock* lru_first = nullptr;
  LargeBlock* lru_last = nullptr;
  std::size_t large_active = 0;
  std::size_t large_cached = 0;

  std::size_t peak = 0;
  std::size_t peak_bound = 0;
  std::size_t limit = 0;
  std::uint64_t large_allocations = 0;
  std::uint64_t system_calls = 0;  // allocations that needed fresh memory
  unsigned colour = 0;

  [[nodiscard]] std::size_t small_active() const {
    std::int64_t bytes = 0;
    for (int c = 0; c < kSmallClasses; ++c) {
      const auto i = static_cast<std::size_t>(c);
      std::int64_t used = outside[i];
      if (used == 0) continue;
      for (const ThreadCache* t = threads; t; t = t->next) used -= t->magazines[i].held(magazine_size(c));
      bytes += used * static_cast<std::int64_t>(small_size(c));
    }
    return static_cast<std::size_t>(std::max<std::int64_t>(bytes, 0));
  }
  [[nodiscard]] std::size_t active() const { return large_active + small_active(); }
  [[nodiscard]] std::size_t reserved() const { return large_active + large_cached + slab_bytes; }
  // Summing over the threads' lists is needed only when this upper bound of `active` exceeds all former ones. So the
  // peak is exact for large blocks, and for small ones to within what the threads' lists hold.
  void update_peak() {
    const std::size_t bound = large_active + outside_bytes;
    if (bound <= peak_bound) return;
    peak_bound = bound;
    peak = std::max(peak, active());
  }
  void reset_peak() {
    peak = active();
    peak_bound = large_active + outside_bytes;
  }
};

Pool& pool() {
  alignas(Pool) static std::byte memory[sizeof(Pool)];
  static Pool* const instance = ::new (memory) Pool;
  return *instance;
}

// --- memory of the system -------------------------------------------------------------------------------------------

// `bytes` at a 2 MiB boundary with huge pages requested; null if the system refuses.
std::byte* map_huge(std::size_t bytes) noexcept {
  const std::size_t length = bytes + kHugePage;
  void* const raw = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) return nullptr;
  auto* const begin = static_cast<std::byte*>(raw);
  const std::size_t skip =
      round_up(reinterpret_cast<std::size_t>(begin), kHugePage) - reinterpret_cast<std::size_t>(begin);
  if (skip > 0) ::munmap(begin, skip);
  if (kHugePage - skip > 0) ::munmap(begin + skip + bytes, kHugePage - skip);
#ifdef MADV_HUGEPAGE
  ::madvise(begin + skip, bytes, MADV_HUGEPAGE);  // only advice: refusal is fine
#endif
  return begin + skip;
}

LargeBlock* system_allocate(int size_class, unsigned colour) noexcept {
  const std::size_t capacity = large_capacity(size_class);
  std::byte* base = nullptr;
  std::size_t mapped = 0;
  std::size_t offset = kAlignment;
  if (capacity >= kMapThreshold) {
    mapped = round_up(capacity, 4096) + 4096;
    base = map_huge(mapped);
    offset += kAlignment * (colour * 13 % 63);  // data within the first page; 13 and 63 have no common factor
  } else {
    base = static_cast<std::byte*>(std::aligned_alloc(kAlignment, round_up(capacity + kAlignment, kAlignment)));
  }
  if (!base) return nullptr;
  LargeBlock* const block = reinterpret_cast<LargeBlock*>(base + offset) - 1;
  return ::new (block)
      LargeBlock{nullptr, nullptr, nullptr, nullptr, capacity, base, mapped, static_cast<std::size_t>(size_class)};
}

void system_free(LargeBlock* block) noexcept {
  if (block->mapped > 0)
    ::munmap(block->base, block->mapped);
  else
    std::free(block->base);
}

// --- lists of large blocks (mutex held) -----------------------------------------------------------------------------

void push_front(LargeBlock*& list, LargeBlock* block) noexcept {
  block->previous = nullptr;
  block->next = list;
  if (list) list->previous = block;
  list = block;
}

void unlink(LargeBlock*& list, LargeBlock* block) noexcept {
  (block->previous ? block->previous->next : list) = block->next;
  if (block->next) block->next->previous = block->previous;
}

void add_free(Pool& p, LargeBlock* block) noexcept {
  push_front(p.free_large[block->size_class], block);
  block->lru_previous = nullptr;
  block->lru_next = p.lru_first;
  (p.lru_first ? p.lru_first->lru_previous : p.lru_last) = block;
  p.lru_first = block;
  p.large_cached += block->capacity;
}

void remove_free(Pool& p, LargeBlock* block) noexcept {
  unlink(p.free_large[block->size_class], block);
  (block->lru_previous ? block->lru_previous->lru_next : p.lru_first) = block->lru_next;
  (block->lru_next ? block->lru_next->lru_previous : p.lru_last) = block->lru_previous;
  p.large_cached -= block->capacity;
}

LargeBlock* find_free(Pool& p, int size_class) noexcept {
  const int end = std::min(size_class + kExtraClasses + 1, kLargeClasses);
  for (int c = size_class; c < end; ++c)
    if (LargeBlock* block = p.free_large[static_cast<std::size_t>(c)]) return block;
  return nullptr;
}

// Gives the least recently freed blocks back until `bytes` more fit under the limit; false if that is impossible.
bool make_room(Pool& p, std::size_t bytes) noexcept {
  if (p.limit == 0) return true;
  if (bytes > p.limit) return false;
  while (p.reserved() > p.limit - bytes && p.lru_last) {
    LargeBlock* const block = p.lru_last;
    remove_free(p, block);
    system_free(block);
  }
  return p.reserved() <= p.limit - bytes;
}

void free_cached(Pool& p) noexcept {
  while (LargeBlock* block = p.lru_first) {
    remove_free(p, block);
    system_free(block);
  }
}

// --- running out of memory ------------------------------------------------------------------------------------------

std::string format_bytes(std::size_t bytes) {
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes);
  const char* unit = "B";
  for (const char* larger : {"KiB", "MiB", "GiB", "TiB"}) {
    if (value < 1024) break;
    value /= 1024;
    unit = larger;
  }
  return fmt::format("{:.1f} {}", value, unit);
}

// The three largest groups of live blocks of equal size: "2 x 512.0 MiB, 1 x 64.0 MiB". Mutex held.
std::string largest_holders(const Pool& p) {
  struct Group {
    std::size_t size;
    std::size_t count;
  };
  std::vector<Group> groups;
  for (const LargeBlock* b = p.live_large; b; b = b->next) {
    const auto found =
        std::find_if(groups.begin(), groups.end(), [&](const Group& g) { return g.size == b->capacity; });
    if (found == groups.end())
      groups.push_back({b->capacity, 1});
    else
      ++found->count;
  }
  std::sort(groups.begin(), groups.end(), [](const Group& a, const Group& b) {
    return a.size * a.count != b.size * b.count ? a.size * a.count > b.size * b.count : a.size > b.size;
  });
  std::string text;
  for (std::size_t i = 0; i < std::min<std::size_t>(3, groups.size()); ++i)
    text += fmt::format("{}{} x {}", i == 0 ? "" : ", ", groups[i].count, format_bytes(groups[i].size));
  return text.empty() ? "none above 4 KiB" : text;
}

[[noreturn]] void throw_out_of_memory(std::size_t requested) {
  Pool& p = pool();
  std::string message;
  {
    const std::lock_guard lock(p.mutex);
    const std::size_t active = p.active();
    message = fmt::format(
        "[allocate] out of memory on cpu: requested {}, active {}, cached {}, limit {}; largest holders: {}. Release "
        "tensors, use smaller batches or checkpoint(), or raise the limit with set_memory_limit().",
        format_bytes(requested), format_bytes(active), format_bytes(p.reserved() - std::min(p.reserved(), active)),
        p.limit == 0 ? "none (the system refused)" : format_bytes(p.limit), largest_holders(p));
  }
  throw OutOfMemoryError(message);
}

// --- large blocks ---------------------------------------------------------------------------------------------------

void activate(Pool& p, LargeBlock* block) noexcept {
  push_front(p.live_large, block);
  p.large_active += block->capacity;
  ++p.large_allocations;
  p.update_peak();
}

[[maybe_unused]] void* allocate_large(std::size_t bytes) {
  if (bytes > kLargestRequest) throw_out_of_memory(bytes);
  const int size_class = large_class(bytes);
  const std::size_t capacity = large_capacity(size_class);
  Pool& p = pool();
  unsigned colour = 0;
  {
    const std::lock_guard lock(p.mutex);
    if (LargeBlock* block = find_free(p, size_class)) {
      remove_free(p, block);
      activate(p, block);
      return block + 1;
    }
    if (!make_room(p, capacity)) goto refused;
    p.large_active += capacity;  // reserved before the lock is released, so that threads together respect the limit
    ++p.system_calls;
    colour = p.colour++;
  }
  {
    LargeBlock* block = system_allocate(size_class, colour);
    if (!block) {
      empty_cache();
      block = system_allocate(size_class, colour);
    }
    const std::lock_guard lock(p.mutex);
    p.large_active -= capacity;
    if (block) {
      activate(p, block);
      return block + 1;
    }
  }
refused:
  throw_out_of_memory(bytes);
}

[[maybe_unused]] void deallocate_large(void* data) noexcept {
  LargeBlock* const block = header_of(data);
  Pool& p = pool();
  const std::lock_guard lock(p.mutex);
  unlink(p.live_large, block);
  p.large_active -= block->capacity;
  add_free(p, block);
}

// --- small blocks: slow paths ---------------------------------------------------------------------------------------

// `count` fresh blocks as a list, cut from the slab. Mutex held. Null if the limit or the system refuses.
FreeBlock* carve(Pool& p, int size_class, std::uint32_t count) noexcept {
  const std::size_t size = small_size(size_class);
  const std::size_t bytes = size * count;
  if (p.slab_left < bytes) {
    // The first slab is small so that small programs stay small. What is left of the old one is given up.
    const std::size_t slab = p.slab_bytes == 0 ? std::size_t{256} << 10 : kHugePage;
    if (!make_room(p, slab)) return nullptr;
    std::byte* memory =
        slab == kHugePage ? map_huge(slab) : static_cast<std::byte*>(std::aligned_alloc(kAlignment, slab));
    if (!memory) {
      free_cached(p);
      memory = slab == kHugePage ? map_huge(slab) : static_cast<std::byte*>(std::aligned_alloc(kAlignment, slab));
    }
    if (!memory) return nullptr;
    ++p.system_calls;
    p.slab = memory;
    p.slab_left = slab;
    p.slab_bytes += slab;
  }
  FreeBlock* list = nullptr;
  for (std::uint32_t i = count; i-- > 0;) list = ::new (p.slab + i * size) FreeBlock{list, nullptr, 0};
  p.slab += bytes;
  p.slab_left -= bytes;
  return list;
}

// A list of blocks from the global pool, and how many they are. Mutex held.
FreeBlock* take_chain(Pool& p, int size_class, std::uint32_t& count) noexcept {
  const auto i = static_cast<std::size_t>(size_class);
  FreeBlock* chain = p.chains[i];
  if (chain) {
    p.chains[i] = chain->next_chain;
    count = static_cast<std::uint32_t>(chain->count);
  } else {
    count = magazine_size(size_class);
    chain = carve(p, size_class, count);
    if (!chain) count = 0;
  }
  p.outside[i] += count;
  p.outside_bytes += count * small_size(size_class);
  return chain;
}

void put_chain(Pool& p, int size_class, FreeBlock* chain, std::uint32_t count) noexcept {
  const auto i = static_cast<std::size_t>(size_class);
  chain->count = count;
  chain->next_chain = p.chains[i];
  p.chains[i] = chain;
  p.outside[i] -= count;
  p.outside_bytes -= count * small_size(size_class);
}

// Flushes a thread's lists when it ends. Blocks freed later (by other thread-local objects) take the slow path.
struct ThreadEnd {
  ~ThreadEnd() {
    ThreadCache& cache = thread_cache;
    Pool& p = pool();
    const std::lock_guard lock(p.mutex);
    for (int c = 0; c < kSmallClasses; ++c) {
      Magazine& m = cache.magazines[static_cast<std::size_t>(c)];
      const std::uint32_t full = magazine_size(c);
      if (FreeBlock* spare = m.get_spare()) put_chain(p, c, spare, full);
      if (m.head) put_chain(p, c, m.head, full - m.get_room());
      m.head = nullptr;
      m.set_spare(nullptr);
      m.set_room(0);
    }
    ThreadCache** link = &p.threads;
    while (*link != &cache) link = &(*link)->next;
    *link = cache.next;
    p.ended_allocations += cache.allocations.load(std::memory_order_relaxed);
    cache.ended = true;
  }
};

void register_thread(ThreadCache& cache) {
  if (cache.registered) return;
  static thread_local ThreadEnd end;
  (void)end;
  cache.registered = true;
  for (int c = 0; c < kSmallClasses; ++c) cache.magazines[static_cast<std::size_t>(c)].set_room(magazine_size(c));
  Pool& p = pool();
  const std::lock_guard lock(p.mutex);
  cache.next = p.threads;
  p.threads = &cache;
}

// On a thread whose cache was flushed: straight from and to the pool.
void* take_after_end(int size_class) {
  Pool& p = pool();
  {
    const std::lock_guard lock(p.mutex);
    std::uint32_t count = 0;
    if (FreeBlock* block = take_chain(p, size_class, count)) {
      if (count > 1) put_chain(p, size_class, block->next, count - 1);
      return block;
    }
  }
  throw_out_of_memory(small_size(size_class));
}

[[gnu::noinline]] void* take_slow(int size_class) {
  ThreadCache& cache = thread_cache;
  if (cache.ended) return take_after_end(size_class);
  register_thread(cache);
  const std::uint32_t full = magazine_size(size_class);
  Magazine& m = cache.magazines[static_cast<std::size_t>(size_class)];
  if (FreeBlock* spare = m.get_spare()) {
    m.set_spare(nullptr);
    m.head = spare;
    m.set_room(0);
  } else {
    Pool& p = pool();
    const std::lock_guard lock(p.mutex);
    std::uint32_t count = 0;
    m.head = take_chain(p, size_class, count);
    m.set_room(full - count);
    p.update_peak();
  }
  FreeBlock* const block = m.head;
  if (!block) throw_out_of_memory(small_size(size_class));
  m.head = block->next;
  m.set_room(m.get_room() + 1);
  return block;
}

[[gnu::noinline]] void put_slow(void* data, int size_class) noexcept {
  ThreadCache& cache = thread_cache;
  auto* const block = ::new (data) FreeBlock{};
  if (cache.ended) {
    Pool& p = pool();
    const std::lock_guard lock(p.mutex);
    put_chain(p, size_class, block, 1);
    return;
  }
  register_thread(cache);
  const std::uint32_t full = magazine_size(size_class);
  Magazine& m = cache.magazines[static_cast<std::size_t>(size_class)];
  if (m.get_room() == 0) {
    if (FreeBlock* spare = m.get_spare()) {
      Pool& p = pool();
      const std::lock_guard lock(p.mutex);
      put_chain(p, size_class, spare, full);
    }
    m.set_spare(m.head);
    m.head = nullptr;
    m.set_room(full);
  }
  block->next = m.head;
  m.head = block;
  m.set_room(m.get_room() - 1);
}

// --- small blocks: fast paths ---------------------------------------------------------------------------------------

[[maybe_unused]] inline void* take_small(int size_class) {
  Magazine& m = thread_cache.magazines[static_cast<std::size_t>(size_class)];
  FreeBlock* const block = m.head;
  if (!block) [[unlikely]]
    return take_slow(size_class);
  m.head = block->next;
  m.set_room(m.get_room() + 1);
  return block;
}

[[maybe_unused]] inline void put_small(void* data, int size_class) noexcept {
  Magazine& m = thread_cache.magazines[static_cast<std::size_t>(size_class)];
  const std::uint32_t room = m.get_room();
  if (room == 0) [[unlikely]]
    return put_slow(data, size_class);
  auto* const block = static_cast<FreeBlock*>(data);
  block->next = m.head;
  m.head = block;
  m.set_room(room - 1);
}

// --- with and without caching ---------------------------------------------------------------------------------------

#if SOLVENT_ASAN

std::atomic<std::size_t> asan_active{0};
std::atomic<std::size_t> asan_peak{0};
std::atomic<std::size_t> asan_limit{0};
std::atomic<std::uint64_t> asan_allocations{0};

void* take(std::size_t bytes, bool is_data) {
  const std::size_t active = asan_active.fetch_add(bytes) + bytes;
  const std::size_t limit = asan_limit.load();
  void* data = nullptr;
  if (bytes > kLargestRequest || (limit > 0 && active > limit) ||
      ::posix_memalign(&data, kAlignment, std::max<std::size_t>(bytes, 1)) != 0) {
    asan_active.fetch_sub(bytes);
    throw OutOfMemoryError(fmt::format(
        "[allocate] out of memory on cpu: requested {}, active {}, cached 0 B, limit {}; largest holders: not tracked "
        "in "
        "address sanitizer builds. Release tensors, use smaller batches or checkpoint(), or raise the limit with "
        "set_memory_limit().",
        format_bytes(bytes), format_bytes(active - bytes),
        limit == 0 ? "none (the system refused)" : format_bytes(limit)));
  }
  if (is_data) asan_allocations.fetch_add(1);
  std::size_t peak = asan_peak.load();
  while (active > peak && !asan_peak.compare_exchange_weak(peak, active)) {
  }
  return data;
}

void put(void* data, std::size_t bytes) noexcept {
  asan_active.fetch_sub(bytes);
  std::free(data);
}

#else

inline void* take(std::size_t bytes, bool is_data) {
  if (bytes > kSmallLimit) return allocate_large(bytes);
  if (is_data) thread_cache.count_allocation();
  return take_small(small_class(bytes));
}

inline void put(void* data, std::size_t bytes) noexcept {
  if (bytes > kSmallLimit) return deallocate_large(data);
  put_small(data, small_class(bytes));
}

#endif

#if SOLVENT_DEBUG_ALLOC

constexpr std::size_t kGuard = 64;
constexpr int kGuardByte = 0xA5;
constexpr int kFreshByte = 0xFF;  // NaN in float32 and float64: a kernel that reads what it never wrote is noticed
constexpr int kFreedByte = 0xDB;

void* take_guarded(std::size_t bytes, bool is_data) {
  if (bytes > kLargestRequest) throw_out_of_memory(bytes);
  void* const data = take(bytes + kGuard, is_data);
  std::memset(data, kFreshByte, bytes);
  std::memset(static_cast<std::byte*>(data) + bytes, kGuardByte, kGuard);
  return data;
}

void put_guarded(void* data, std::size_t bytes) noexcept {
  const auto* const guard = static_cast<const std::byte*>(data) + bytes;
  for (std::size_t i = 0; i < kGuard; ++i) {
    if (guard[i] != std::byte{kGuardByte}) {
      std::fprintf(stderr,
                   "solvent: memory behind a block of %zu bytes at %p was overwritten (byte %zu past its end)\n", bytes,
                   data, i);
      std::abort();
    }
  }
  std::memset(data, kFreedByte, bytes + kGuard);
  put(data, bytes + kGuard);
}

#else

inline void* take_guarded(std::size_t bytes, bool is_data) { return take(bytes, is_data); }
inline void put_guarded(void* data, std::size_t bytes) noexcept { put(data, bytes); }

#endif

// --- GPUs -----------------------------------------------------------------------------------------------------------

#if SOLVENT_WITH_CUDA
bool is_gpu(Device device) noexcept { return device.index >= 0 && device.index < cuda::device_count(); }
void reset_gpu_peak(Device device) noexcept {
  if (is_gpu(device)) cuda::reset_peak_memory(device);
}
void empty_gpu_cache(Device device) noexcept {
  if (is_gpu(device)) cuda::empty_cache(device);
}
#else
void reset_gpu_peak(Device) noexcept {}
void empty_gpu_cache(Device) noexcept {}
#endif

}  // namespace

// --- public ---------------------------------------------------------------------------------------------------------

MemoryStats memory_stats(Device device) {
  detail::require_device("memory_stats", device);
#if SOLVENT_WITH_CUDA
  if (device != cpu_device) return cuda::memory_stats(device);
#endif
#if SOLVENT_ASAN
  return {asan_active.load(), asan_peak.load(), 0, asan_limit.load(), asan_allocations.load(), 0};
#else
  Pool& p = pool();
  const std::lock_guard lock(p.mutex);
  MemoryStats stats;
  stats.active = p.active();
  p.peak = std::max(p.peak, stats.active);
  stats.peak = p.peak;
  stats.cached = p.reserved() - std::min(p.reserved(), stats.active);
  stats.limit = p.limit;
  stats.allocations = p.large_allocations + p.ended_allocations;
  for (const ThreadCache* t = p.threads; t; t = t->next)
    stats.allocations += t->allocations.load(std::memory_order_relaxed);
  stats.cache_hits = stats.allocations - std::min(p.system_calls, stats.allocations);
  return stats;
#endif
}

void reset_peak_memory(Device device) noexcept {
  if (device != cpu_device) return reset_gpu_peak(device);
#if SOLVENT_ASAN
  asan_peak.store(asan_active.load());
#else
  Pool& p = pool();
  const std::lock_guard lock(p.mutex);
  p.reset_peak();
#endif
}

void empty_cache(Device device) noexcept {
  if (device != cpu_device) return empty_gpu_cache(device);
  Pool& p = pool();
  const std::lock_guard lock(p.mutex);
  free_cached(p);
}

void set_memory_limit(std::size_t bytes, Device device) {
  detail::require_device("set_memory_limit", device);
#if SOLVENT_WITH_CUDA
  if (device != cpu_device) return cuda::set_memory_limit(bytes, device);
#endif
#if SOLVENT_ASAN
  asan_limit.store(bytes);
#else
  Pool& p = pool();
  const std::lock_guard lock(p.mutex);
  p.limit = bytes;
  make_room(p, 0);
#endif
}

namespace detail {

void* allocate(std::size_t bytes, Device device) {
  if (device.type != DeviceType::cpu) [[unlikely]] {
    require_device("allocate", device);
#if SOLVENT_WITH_CUDA
    return cuda::allocate(bytes, device);
#endif
  }
  return take_guarded(bytes, true);
}

void deallocate(void* p, std::size_t bytes, [[maybe_unused]] Device device) noexcept {
#if SOLVENT_WITH_CUDA
  if (device.type != DeviceType::cpu) [[unlikely]]
    return device == kPinnedMemory ? cuda::deallocate_pinned(p) : cuda::deallocate(p, device);
#endif
  put_guarded(p, bytes);
}

void* allocate_body(std::size_t bytes) { return take_guarded(bytes, false); }

void deallocate_body(void* p, std::size_t bytes) noexcept { put_guarded(p, bytes); }

}  // namespace detail
}  // namespace solvent
