// Pinned memory: the allocator of pinned tensors, and staging buffers for copies of other memory.
//
// Pinning pages takes about a millisecond per megabyte, so blocks are kept. A tensor's block may be freed while a copy still
// reads it: each such copy holds a reference of the storage, with an event behind it in its stream, and gives it back when a
// later call finds the event done.

#include "solvent/core/cuda/pinned.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include <cuda_runtime.h>
#include <fmt/format.h>

#include "solvent/core/cuda/runtime.h"
#include "solvent/core/error.h"
#include "solvent/core/parallel.h"
#include "solvent/core/tensor.h"

namespace solvent::cuda {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::int64_t kCopyGrain = std::int64_t{256} << 10;  // bytes; about 20 us of a processor's copying

// Sizes are rounded to 8 steps per power of two, at least a page: at most 12 % waste.
std::size_t rounded(std::size_t bytes) {
  std::size_t step = kPage;
  while (step * 16 < bytes) step *= 2;
  return std::max(kPage, (bytes + step - 1) / step * step);
}

struct Pool {
  std::mutex mutex;
  std::unordered_map<void*, std::size_t> sizes;  // live and cached blocks of tensors
  std::multimap<std::size_t, void*> cached;      // by size
  std::size_t reserved = 0;                      // from the system, staging buffers included
  std::size_t active = 0;
  std::size_t peak = 0;
  std::size_t limit = 0;
  std::uint64_t allocations = 0;
  std::uint64_t hits = 0;
};

// Never destroyed: static tensors may die after everything else.
Pool& pool() {
  static auto* const instance = new Pool;
  return *instance;
}

void free_cached(Pool& p) noexcept {
  for (const auto& [bytes, block] : p.cached) {
    (void)cudaFreeHost(block);
    p.sizes.erase(block);
    p.reserved -= bytes;
  }
  p.cached.clear();
}

// Null if the limit or the system has no more. The pool is locked.
void* pin(Pool& p, std::size_t bytes) {
  if (p.limit != 0 && p.reserved + bytes > p.limit) free_cached(p);
  if (p.limit != 0 && p.reserved + bytes > p.limit) return nullptr;
  void* block = nullptr;
  if (cudaHostAlloc(&block, bytes, cudaHostAllocDefault) != cudaSuccess) {  // for all devices: addresses are unified
    (void)cudaGetLastError();
    free_cached(p);
    if (cudaHostAlloc(&block, bytes, cudaHostAllocDefault) != cudaSuccess) {
      (void)cudaGetLastError();
      return nullptr;
    }
  }
  p.reserved += bytes;
  return block;
}

[[noreturn]] void throw_out_of_memory(std::size_t wanted, const Pool& p) {
  constexpr double kMebi = 1 << 20;
  throw OutOfMemoryError(fmt::format(
      "[pin_memory] got a request for {:.1f} MiB of pinned memory: {:.1f} MiB active, {:.1f} MiB cached, limit {}. "
      "Free "
      "pinned tensors, raise the limit with set_pinned_memory_limit, or copy without pinning.",
      static_cast<double>(wanted) / kMebi, static_cast<double>(p.active) / kMebi,
      static_cast<double>(p.reserved - p.active) / kMebi,
      p.limit == 0 ? std::string("none") : fmt::format("{:.1f} MiB", static_cast<double>(p.limit) / kMebi)));
}

}  // namespace

void* allocate_pinned(std::size_t bytes) {
  release_copied();
  const std::size_t wanted = rounded(bytes);
  Pool& p = pool();
  const std::lock_guard lock(p.mutex);
  ++p.allocations;
  void* block = nullptr;
  std::size_t size = wanted;
  const auto found = p.cached.lower_bound(wanted);
  if (found != p.cached.end() && found->first <= wanted + wanted / 4) {
    std::tie(size, block) = *found;
    p.cached.erase(found);
    ++p.hits;
  } else {
    block = pin(p, wanted);
    if (block == nullptr) throw_out_of_memory(wanted, p);
    p.sizes[block] = wanted;
  }
  p.active += size;
  p.peak = std::max(p.peak, p.active);
  return block;
}

void deallocate_pinned(void* block) noexcept {
  Pool& p = pool();
  const std::lock_guard lock(p.mutex);
  const std::size_t bytes = p.sizes.at(block);
  p.active -= bytes;
  p.cached.emplace(bytes, block);
}

MemoryStats pinned_memory_stats() {
  release_copied();
  Pool& p = pool();
  const std::lock_guard lock(p.mutex);
  return {.active = p.active,
          .peak = p.peak,
          .cached = p.reserved - p.active,
          .limit = p.limit,
          .allocations = p.allocations,
          .cache_hits = p.hits};
}

// --- copies of pinned tensors -------------------------------------------------------------------------------------------

namespace {

struct Copying {
  detail::Storage* storage;  // one reference
  cudaEvent_t copied;
};

struct Copies {
  std::mutex mutex;
  std::vector<Copying> under_way;
};

Copies& copies() {
  static auto* const instance = new Copies;
  return *instance;
}

bool is_done(cudaEvent_t event) {
  const int state = cudaEventQuery(event);
  if (state != cudaSuccess)
    (void)cudaGetLastError();  // not ready; errors of the stream are reported where it is waited for
  return state == cudaSuccess;
}

}  // namespace

void copy_pinned_to_device(void* to, const void* host, std::size_t bytes, Device device, detail::Storage* storage) {
  if (bytes == 0) return;
  release_copied();
  const cudaStream_t stream = current_stream(device);
  cudaEvent_t copied = nullptr;
  check(cudaEventCreateWithFlags(&copied, cudaEventDisableTiming), "make an event");
  int error = cudaMemcpyAsync(to, host, bytes, cudaMemcpyHostToDevice, stream);
  if (error == cudaSuccess) error = cudaEventRecord(copied, stream);
  if (error != cudaSuccess) {
    (void)cudaStreamSynchronize(stream);
    (void)cudaEventDestroy(copied);
    check(error, "copy to the device");
  }
  storage->refs.fetch_add(1, std::memory_order_relaxed);
  Copies& c = copies();
  const std::lock_guard lock(c.mutex);
  c.under_way.push_back({storage, copied});
}

void release_copied() noexcept {
  std::vector<Copying> ended;
  {
    Copies& c = copies();
    const std::lock_guard lock(c.mutex);
    if (c.under_way.empty()) return;
    const auto first = std::partition(c.under_way.begin(), c.under_way.end(),
                                      [](const Copying& copying) { return !is_done(copying.copied); });
    ended.assign(first, c.under_way.end());
    c.under_way.erase(first, c.under_way.end());
  }
  for (const Copying& copying : ended) {
    (void)cudaEventDestroy(copying.copied);
    if (detail::drop_reference(copying.storage->refs)) detail::release(copying.storage);
  }
}

// --- staging --------------------------------------------------------------------------------------------------------------

namespace {

struct Buffer {
  void* memory = nullptr;
  cudaEvent_t copied = nullptr;  // after the copy that used it last
};

// The buffers of one device that no call holds, in the order in which their copies were given.
struct Staging {
  std::mutex mutex;
  std::deque<Buffer> idle;
  std::size_t made = 0;
};

Staging& staging_of(Device device) {
  static auto* const all = [] {
    auto* each = new std::vector<std::unique_ptr<Staging>>;
    for (int i = 0; i < device_count(); ++i) each->push_back(std::make_unique<Staging>());
    return each;
  }();
  return *(*all)[static_cast<std::size_t>(device.index)];
}

// A buffer of this call, whose former copy may be under way. Given back at the end.
class Lease {
 public:
  explicit Lease(Device device) : staging_(staging_of(device)) {
    const std::lock_guard lock(staging_.mutex);
    const bool may_grow = staging_.made < kMostStagingBuffers;
    if (!staging_.idle.empty() && (!may_grow || is_done(staging_.idle.front().copied))) {
      buffer_ = staging_.idle.front();
      staging_.idle.pop_front();
    } else {
      make();
    }
  }
  ~Lease() {
    if (buffer_.memory == nullptr) return;
    const std::lock_guard lock(staging_.mutex);
    staging_.idle.push_back(buffer_);
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  /// Null if no more memory may or can be pinned.
  [[nodiscard]] void* memory() const noexcept { return buffer_.memory; }
  void wait() const { check(cudaEventSynchronize(buffer_.copied), "wait for a copy"); }
  void mark(cudaStream_t stream) const { check(cudaEventRecord(buffer_.copied, stream), "record an event"); }

 private:
  void make() {
    Pool& p = pool();
    {
      const std::lock_guard lock(p.mutex);
      buffer_.memory = pin(p, kStagingBytes);
    }
    if (buffer_.memory == nullptr) return;
    if (const int error = cudaEventCreateWithFlags(&buffer_.copied, cudaEventDisableTiming); error != cudaSuccess) {
      const std::lock_guard lock(p.mutex);
      (void)cudaFreeHost(buffer_.memory);
      p.reserved -= kStagingBytes;
      check(error, "make an event");
    }
    ++staging_.made;
  }

  Staging& staging_;
  Buffer buffer_;
};

void copy_bytes(void* to, const void* from, std::size_t bytes) {
  parallel_for(static_cast<std::int64_t>(bytes), kCopyGrain, [=](std::int64_t begin, std::int64_t end) {
    std::memcpy(static_cast<std::byte*>(to) + begin, static_cast<const std::byte*>(from) + begin,
                static_cast<std::size_t>(end - begin));
  });
}

}  // namespace

void stage_to_device(void* to, const void* host, std::size_t bytes, Device device) {
  const cudaStream_t stream = current_stream(device);
  for (std::size_t first = 0; first < bytes; first += kStagingBytes) {
    const std::size_t size = std::min(kStagingBytes, bytes - first);
    const Lease buffer(device);
    if (buffer.memory() == nullptr) {  // the driver has a buffer of its own
      check(cudaMemcpyAsync(static_cast<std::byte*>(to) + first, static_cast<const std::byte*>(host) + first,
                            bytes - first, cudaMemcpyHostToDevice, stream),
            "copy to the device");
      return;
    }
    buffer.wait();
    copy_bytes(buffer.memory(), static_cast<const std::byte*>(host) + first, size);
    check(cudaMemcpyAsync(static_cast<std::byte*>(to) + first, buffer.memory(), size, cudaMemcpyHostToDevice, stream),
          "copy to the device");
    buffer.mark(stream);
  }
}

void stage_to_host(void* host, const void* from, std::size_t bytes, Device device) {
  const cudaStream_t stream = current_stream(device);
  std::unique_ptr<Lease> filling;  // the buffer that the device copies to, for the chunk before
  for (std::size_t first = 0; first < bytes + kStagingBytes; first += kStagingBytes) {
    std::unique_ptr<Lease> next;
    if (first < bytes) {
      const std::size_t size = std::min(kStagingBytes, bytes - first);
      const std::byte* const source = static_cast<const std::byte*>(from) + first;
      next = std::make_unique<Lease>(device);
      if (next->memory() == nullptr) {  // the driver has a buffer of its own
        check(cudaMemcpyAsync(static_cast<std::byte*>(host) + first, source, bytes - first, cudaMemcpyDeviceToHost,
                              stream),
              "copy to the host");
        check(cudaStreamSynchronize(stream), "wait for a copy to the host");
        bytes = first;  // the chunk before is left
      } else {
        next->wait();  // another stream may use it
        check(cudaMemcpyAsync(next->memory(), source, size, cudaMemcpyDeviceToHost, stream), "copy to the host");
        next->mark(stream);
      }
    }
    if (filling) {
      const std::size_t before = first - kStagingBytes;
      filling->wait();
      copy_bytes(static_cast<std::byte*>(host) + before, filling->memory(), std::min(kStagingBytes, bytes - before));
    }
    filling = std::move(next);
  }
}

void set_pinned_memory_limit(std::size_t bytes) {
  Pool& p = pool();
  const std::lock_guard lock(p.mutex);
  p.limit = bytes;
  if (bytes != 0 && p.reserved > bytes) free_cached(p);
}

void empty_pinned_cache() noexcept {
  release_copied();
  for (int i = 0; i < device_count(); ++i) {
    Staging& staging = staging_of({DeviceType::cuda, static_cast<std::int16_t>(i)});
    std::deque<Buffer> buffers;
    {
      const std::lock_guard lock(staging.mutex);
      buffers.swap(staging.idle);
      staging.made -= buffers.size();
    }
    for (const Buffer& buffer : buffers) {
      (void)cudaEventSynchronize(buffer.copied);
      (void)cudaEventDestroy(buffer.copied);
      (void)cudaFreeHost(buffer.memory);
    }
    Pool& p = pool();
    const std::lock_guard lock(p.mutex);
    p.reserved -= buffers.size() * kStagingBytes;
  }
  Pool& p = pool();
  const std::lock_guard lock(p.mutex);
  free_cached(p);
}

}  // namespace solvent::cuda
