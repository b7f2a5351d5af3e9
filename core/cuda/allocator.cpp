// Stream-ordered caching allocator of device memory.
//
// cudaMalloc and cudaFree wait for the device, so freed blocks are kept. A block belongs to the stream that was current when
// it was made: it may be reused on that stream at once, without waiting, because the stream runs its work in order. Freed
// while another stream of the thread is current, it makes its own stream wait for what that stream has been given so far.
//
// Sizes are rounded to 16 steps per power of two (at most 6 % waste), at least 512 bytes; a free block of the same or one of
// the next four classes is reused (at most 31 % waste). Blocks below 1 MiB are cut from chunks of 4 MiB, which are kept.
//
// SOLVENT_CUDA_CACHE=0 in the environment is for memory checkers, which see only what the device was asked for: every block
// is memory of its own, of exactly the bytes of the request, and is given back when it is freed. But for the memory of
// graphs: no block can be given back while one is recorded.

#include "solvent/core/cuda/allocator.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <cuda_runtime.h>
#include <fmt/format.h>

#include "solvent/core/cuda/runtime.h"
#include "solvent/core/error.h"

namespace solvent::cuda {
namespace {

constexpr int kStepsPerOctave = 16;
constexpr int kFirstOctave = 9;  // 512 bytes
constexpr std::size_t kSmallest = std::size_t{1} << kFirstOctave;
constexpr std::size_t kChunk = std::size_t{4} << 20;
constexpr std::size_t kLargestInChunk = std::size_t{1} << 20;
constexpr std::size_t kLargestRequest = std::size_t{1} << 46;
constexpr int kExtraClasses = 4;

// Class c > 0 holds blocks of capacity_of(c) bytes; class 0 those of 512.
int class_of(std::size_t bytes) {
  if (bytes <= kSmallest) return 0;
  const int octave = static_cast<int>(std::bit_width(bytes - 1)) - 1;  // 2^octave < bytes <= 2^(octave + 1)
  const std::size_t step = std::max(kSmallest, (std::size_t{1} << octave) / kStepsPerOctave);
  const std::size_t steps = (bytes - 1 - (std::size_t{1} << octave)) / step;
  return (octave - kFirstOctave) * kStepsPerOctave + static_cast<int>(steps) + 1;
}

std::size_t capacity_of(int size_class) {
  if (size_class == 0) return kSmallest;
  const int octave = (size_class - 1) / kStepsPerOctave + kFirstOctave;
  const std::size_t step = std::max(kSmallest, (std::size_t{1} << octave) / kStepsPerOctave);
  return (std::size_t{1} << octave) + step * static_cast<std::size_t>((size_class - 1) % kStepsPerOctave + 1);
}

bool cache_is_off() {
  static const bool off = [] {
    const char* const text = std::getenv("SOLVENT_CUDA_CACHE");
    return text != nullptr && std::string_view(text) == "0";
  }();
  return off;
}

constexpr int kExactSize = -1;  // class of blocks that are not cached
constexpr int kClasses = (46 - kFirstOctave) * kStepsPerOctave + 1;

struct StreamMemory;

struct Block {
  void* memory = nullptr;
  std::size_t capacity = 0;
  int size_class = 0;
  bool is_in_chunk = false;
  bool is_live = false;
  StreamMemory* owner = nullptr;
};

// What belongs to one stream.
struct StreamMemory {
  explicit StreamMemory(cudaStream_t s) : stream(s) {}
  cudaStream_t stream;
  bool is_kept = false;                                 // its cached blocks are in use by a graph
  std::array<std::vector<Block*>, kClasses> free = {};  // by class
};

struct Pool {
  std::mutex mutex;
  std::unordered_map<void*, Block> blocks;             // live and cached ones; they stay where they are
  std::vector<std::unique_ptr<StreamMemory>> streams;  // few
  std::vector<void*> to_give_back;                     // of exact size, freed while a graph was recorded
  std::byte* chunk = nullptr;                          // what is left of the newest chunk
  std::size_t chunk_left = 0;
  std::size_t reserved = 0;  // from the device
  std::size_t active = 0;
  std::size_t peak = 0;
  std::size_t limit = 0;
  std::uint64_t allocations = 0;
  std::uint64_t hits = 0;
};

Pool& pool_of(Device device) {
  // Never destroyed: static tensors may die after everything else.
  static auto* const pools = [] {
    auto* all = new std::vector<std::unique_ptr<Pool>>;
    for (int i = 0; i < device_count(); ++i) all->push_back(std::make_unique<Pool>());
    return all;
  }();
  return *(*pools)[static_cast<std::size_t>(device.index)];
}

StreamMemory& memory_of(Pool& pool, cudaStream_t stream) {
  for (const std::unique_ptr<StreamMemory>& memory : pool.streams)
    if (memory->stream == stream) return *memory;
  return *pool.streams.emplace_back(std::make_unique<StreamMemory>(stream));
}

// A cached block that fits, or null.
Block* take_cached(StreamMemory& memory, int size_class) {
  const int end = std::min(size_class + kExtraClasses + 1, kClasses);
  for (int c = size_class; c < end; ++c) {
    std::vector<Block*>& list = memory.free[static_cast<std::size_t>(c)];
    if (list.empty()) continue;
    Block* const block = list.back();
    list.pop_back();
    return block;
  }
  return nullptr;
}

void give_back(Pool& pool, void* p) {
  const auto block = pool.blocks.find(p);
  (void)cudaFree(p);  // waits for the device
  pool.reserved -= block->second.capacity;
  pool.blocks.erase(block);
}

bool is_captured(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  (void)cudaStreamIsCapturing(stream, &status);
  return status != cudaStreamCaptureStatusNone;
}

// Gives cached blocks that are no parts of chunks back to the device, but not while a graph is recorded, by whatever thread: to
// wait for the device would end the recording. The caller has made the device's CUDA device current.
void release_cached(Pool& pool) {
  for (const std::unique_ptr<StreamMemory>& memory : pool.streams)
    if (memory->is_kept && is_captured(memory->stream)) return;
  (void)cudaDeviceSynchronize();
  for (const std::unique_ptr<StreamMemory>& memory : pool.streams) {
    if (memory->is_kept) continue;
    for (std::vector<Block*>& list : memory->free)
      std::erase_if(list, [&](const Block* block) {
        if (block->is_in_chunk) return false;
        give_back(pool, block->memory);
        return true;
      });
  }
}

// Memory from the device, within the limit; null if there is none.
void* take_fresh(Pool& pool, std::size_t bytes) {
  if (pool.limit != 0 && pool.reserved + bytes > pool.limit) return nullptr;
  void* p = nullptr;
  if (cudaMalloc(&p, bytes) != cudaSuccess) {
    (void)cudaGetLastError();
    return nullptr;
  }
  pool.reserved += bytes;
  return p;
}

void* take_fresh_or_release(Pool& pool, std::size_t bytes) {
  void* p = take_fresh(pool, bytes);
  if (p == nullptr) {
    release_cached(pool);
    p = take_fresh(pool, bytes);
  }
  return p;
}

void* cut_from_chunk(Pool& pool, std::size_t bytes) {
  if (pool.chunk_left < bytes) {
    void* const fresh = take_fresh_or_release(pool, kChunk);
    if (fresh == nullptr) return nullptr;
    pool.chunk = static_cast<std::byte*>(fresh);  // the rest of the old chunk, below 1 MiB, is lost
    pool.chunk_left = kChunk;
  }
  void* const p = pool.chunk;
  pool.chunk += bytes;
  pool.chunk_left -= bytes;
  return p;
}

std::string in_mib(std::size_t bytes) { return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20)); }

[[noreturn]] void throw_out_of_memory(const Pool& pool, std::size_t bytes, Device device) {
  std::vector<std::size_t> sizes;
  for (const auto& [p, block] : pool.blocks)
    if (block.is_live) sizes.push_back(block.capacity);
  std::sort(sizes.rbegin(), sizes.rend());
  std::string holders;
  for (std::size_t i = 0; i < std::min<std::size_t>(sizes.size(), 5); ++i)
    holders += (i == 0 ? "" : ", ") + in_mib(sizes[i]);
  std::size_t free_bytes = 0;
  std::size_t total_bytes = 0;
  (void)cudaMemGetInfo(&free_bytes, &total_bytes);
  throw OutOfMemoryError(fmt::format(
      "[allocate] got a request for {} on {}: {} active, {} cached, limit {}, {} of {} free on the device; the largest "
      "live "
      "blocks hold {}. Use smaller batches, free tensors, or raise the limit with set_memory_limit.",
      in_mib(bytes), to_string(device), in_mib(pool.active),
      in_mib(pool.reserved - std::min(pool.reserved, pool.active)), pool.limit == 0 ? "none" : in_mib(pool.limit),
      in_mib(free_bytes), in_mib(total_bytes), holders.empty() ? "nothing" : holders));
}

}  // namespace

void* allocate(std::size_t bytes, Device device) {
  const cudaStream_t stream = current_stream(device);
  Pool& pool = pool_of(device);
  const std::lock_guard lock(pool.mutex);
  if (bytes > kLargestRequest) throw_out_of_memory(pool, bytes, device);
  StreamMemory& memory = memory_of(pool, stream);
  const bool exact = cache_is_off() && !memory.is_kept;
  const int size_class = exact ? kExactSize : class_of(bytes);
  ++pool.allocations;
  Block* block = exact ? nullptr : take_cached(memory, size_class);
  if (block != nullptr) {
    ++pool.hits;
  } else {
    const std::size_t capacity = exact ? std::max<std::size_t>(bytes, 1) : capacity_of(size_class);
    const bool small = !exact && capacity < kLargestInChunk;
    void* const p = small ? cut_from_chunk(pool, capacity) : take_fresh_or_release(pool, capacity);
    if (p == nullptr) throw_out_of_memory(pool, bytes, device);
    block = &pool.blocks[p];
    *block = {.memory = p, .capacity = capacity, .size_class = size_class, .is_in_chunk = small, .owner = &memory};
  }
  block->is_live = true;
  pool.active += block->capacity;
  pool.peak = std::max(pool.peak, pool.active);
  return block->memory;
}

namespace {

// The block's stream goes on when `last`, where the block may have been used last, has done what it has been given.
void order_after(Pool& pool, Block& block, cudaStream_t last) noexcept {
  if (is_captured(last)) {  // replays will use the block, and no other stream can wait for them
    block.owner = &memory_of(pool, last);
    return;
  }
  if (is_captured(block.owner->stream)) {  // by another thread: a recording must not wait for what it does not hold
    (void)cudaStreamSynchronize(last);
    return;
  }
  cudaEvent_t done = nullptr;
  if (cudaEventCreateWithFlags(&done, cudaEventDisableTiming) != cudaSuccess) return;
  (void)cudaEventRecord(done, last);
  (void)cudaStreamWaitEvent(block.owner->stream, done, 0);
  (void)cudaEventDestroy(done);
}

}  // namespace

void deallocate(void* p, Device device) noexcept {
  Pool& pool = pool_of(device);
  const cudaStream_t stream = current_stream(device);
  const std::lock_guard lock(pool.mutex);
  Block& block = pool.blocks.find(p)->second;
  block.is_live = false;
  pool.active -= block.capacity;
  if (block.size_class == kExactSize) {
    pool.to_give_back.push_back(p);
    if (memory_of(pool, stream).is_kept) return;
    for (void* const q : std::exchange(pool.to_give_back, {})) give_back(pool, q);
    return;
  }
  if (block.owner->stream != stream) order_after(pool, block, stream);
  block.owner->free[static_cast<std::size_t>(block.size_class)].push_back(&block);
}

void keep_memory(CUstream_st* stream, Device device) {
  Pool& pool = pool_of(device);
  const std::lock_guard lock(pool.mutex);
  memory_of(pool, stream).is_kept = true;
}

void give_back_memory(CUstream_st* stream, Device device) noexcept {
  const cudaStream_t heir = default_stream(device);
  Pool& pool = pool_of(device);
  const std::lock_guard lock(pool.mutex);
  StreamMemory& to = memory_of(pool, heir);
  const auto found =
      std::find_if(pool.streams.begin(), pool.streams.end(),
                   [&](const std::unique_ptr<StreamMemory>& memory) { return memory->stream == stream; });
  if (found == pool.streams.end()) return;
  StreamMemory& from = **found;
  for (auto& [p, block] : pool.blocks)
    if (block.owner == &from) block.owner = &to;
  for (std::size_t c = 0; c < from.free.size(); ++c)
    to.free[c].insert(to.free[c].end(), from.free[c].begin(), from.free[c].end());
  pool.streams.erase(found);
}

MemoryStats memory_stats(Device device) {
  Pool& pool = pool_of(device);
  const std::lock_guard lock(pool.mutex);
  return {.active = pool.active,
          .peak = pool.peak,
          .cached = pool.reserved - std::min(pool.reserved, pool.active),
          .limit = pool.limit,
          .allocations = pool.allocations,
          .cache_hits = pool.hits};
}

void reset_peak_memory(Device device) noexcept {
  Pool& pool = pool_of(device);
  const std::lock_guard lock(pool.mutex);
  pool.peak = pool.active;
}

void empty_cache(Device device) noexcept {
  use(device);
  Pool& pool = pool_of(device);
  const std::lock_guard lock(pool.mutex);
  release_cached(pool);
}

void set_memory_limit(std::size_t bytes, Device device) {
  use(device);
  Pool& pool = pool_of(device);
  const std::lock_guard lock(pool.mutex);
  pool.limit = bytes;
  if (bytes != 0 && pool.reserved > bytes) release_cached(pool);
}

}  // namespace solvent::cuda
