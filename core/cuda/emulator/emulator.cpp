// Fibers, barriers and the runtime functions of the CUDA emulator; cuda_runtime.h says what it is for.

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include <sys/mman.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#include <cuda_runtime.h>  // the emulator's, beside this file

#include "solvent/core/cuda/emulator/access_checks.h"

#if defined(__SANITIZE_ADDRESS__)
#define SOLVENT_EMULATOR_ASAN 1
#include <sanitizer/common_interface_defs.h>
#else
#define SOLVENT_EMULATOR_ASAN 0
#endif

thread_local uint3 threadIdx;
thread_local uint3 blockIdx;
thread_local dim3 blockDim;
thread_local dim3 gridDim;

// Changing stacks. swapcontext() asks the kernel for the signal mask, which takes longer than most threads between barriers;
// here only what the calling convention wants kept is.
#if defined(__x86_64__)
extern "C" void solvent_emulator_switch(void** save_stack, void* to_stack);
asm(R"(
.text
.hidden solvent_emulator_switch
.globl solvent_emulator_switch
.type solvent_emulator_switch, @function
solvent_emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size solvent_emulator_switch, . - solvent_emulator_switch
)");
#endif

namespace solvent::cuda::emulator {
namespace {

#if defined(__x86_64__)

struct Context {
  void* stack = nullptr;
};

void prepare(Context& context, void* memory, std::size_t bytes, void (*entry)()) {
  auto* const top = reinterpret_cast<void**>(static_cast<unsigned char*>(memory) + bytes);
  std::fill(top - 8, top, nullptr);  // six registers, the address of entry, and where entry would return to
  top[-2] = reinterpret_cast<void*>(entry);
  context.stack = top - 8;
}

void change(Context& from, Context& to) { solvent_emulator_switch(&from.stack, to.stack); }

#else

struct Context {
  ucontext_t context;
};

void prepare(Context& context, void* memory, std::size_t bytes, void (*entry)()) {
  getcontext(&context.context);
  context.context.uc_stack.ss_sp = memory;
  context.context.uc_stack.ss_size = bytes;
  context.context.uc_link = nullptr;
  makecontext(&context.context, entry, 0);
}

void change(Context& from, Context& to) { swapcontext(&from.context, &to.context); }

#endif

constexpr std::size_t kStackBytes = std::size_t{256} << 10;  // touched pages only are real
constexpr unsigned kLanes = 32;

enum class State : unsigned char { running, at_block_barrier, at_exchange, ended };

struct Fiber {
  Context context;
  void* stack = nullptr;
  State state = State::ended;
  unsigned number = 0;  // in its block, and
  uint3 index;          // as threadIdx
  unsigned exchange_mask = 0;
  unsigned char published[16] = {};
  int source = 0;
  std::size_t bytes = 0;
  void* result = nullptr;
};

// One per host thread that launches; a block's fibers are reused by the next one.
struct Scheduler {
  std::vector<std::unique_ptr<Fiber>> fibers;
  Context main;
  Fiber* current = nullptr;
  const std::function<void()>* thread = nullptr;
  std::vector<unsigned char> shared;
  unsigned count = 0;
  bool reversed = std::getenv("SOLVENT_EMULATOR_REVERSED") != nullptr;
  const void* main_stack = nullptr;
  std::size_t main_stack_bytes = 0;

  ~Scheduler() {
    for (const auto& f : fibers) munmap(f->stack, kStackBytes);
  }
};

// Work may be left to do when the thread's objects have been destroyed: then there is another one.
Scheduler& scheduler() {
  thread_local Scheduler* instance = nullptr;
  thread_local const struct Owner {
    ~Owner() { delete std::exchange(instance, nullptr); }
  } owner;
  (void)owner;
  if (instance == nullptr) instance = new Scheduler;
  return *instance;
}

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "CUDA emulator: %s (block %u,%u,%u of %u,%u,%u; %u,%u,%u threads)\n", what, blockIdx.x,
               blockIdx.y, blockIdx.z, gridDim.x, gridDim.y, gridDim.z, blockDim.x, blockDim.y, blockDim.z);
  std::abort();
}

void switch_to_fiber(Scheduler& s, Fiber& f) {
  s.current = &f;
  threadIdx = f.index;
  access::run_thread(f.number, f.stack, kStackBytes);
#if SOLVENT_EMULATOR_ASAN
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, f.stack, kStackBytes);
  change(s.main, f.context);
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
  change(s.main, f.context);
#endif
  s.current = nullptr;
}

void switch_to_main(Scheduler& s, Fiber& f) {
#if SOLVENT_EMULATOR_ASAN
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, s.main_stack, s.main_stack_bytes);
  change(f.context, s.main);
  __sanitizer_finish_switch_fiber(fake, &s.main_stack, &s.main_stack_bytes);
#else
  change(f.context, s.main);
#endif
}

// A fiber's whole life: one thread of every block it is given.
void fiber_main() {
  Scheduler& s = scheduler();
#if SOLVENT_EMULATOR_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &s.main_stack, &s.main_stack_bytes);
#endif
  for (;;) {
    (*s.thread)();
    s.current->state = State::ended;
    switch_to_main(s, *s.current);
  }
}

void make_fiber(Scheduler& s) {
  auto f = std::make_unique<Fiber>();
  f->stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (f->stack == MAP_FAILED) throw std::bad_alloc();
  prepare(f->context, f->stack, kStackBytes, fiber_main);
  s.fibers.push_back(std::move(f));
}

// Lets the fibers pass that wait at the block's barrier if all that have not ended are there.
bool open_block_barrier(Scheduler& s) {
  bool any = false;
  for (unsigned i = 0; i < s.count; ++i) {
    const State state = s.fibers[i]->state;
    if (state == State::running || state == State::at_exchange) return false;
    any |= state == State::at_block_barrier;
  }
  for (unsigned i = 0; i < s.count; ++i)
    if (s.fibers[i]->state == State::at_block_barrier) s.fibers[i]->state = State::running;
  access::passed_block_barrier();
  return any;
}

// Bits of the lanes of `mask` that published a number other than 0.
unsigned voters(const Scheduler& s, unsigned first, unsigned mask) {
  unsigned bits = 0;
  for (unsigned lane = 0; lane < kLanes && first + lane < s.count; ++lane) {
    int vote = 0;
    std::memcpy(&vote, s.fibers[first + lane]->published, sizeof(vote));
    if ((mask >> lane & 1u) && vote != 0) bits |= 1u << lane;
  }
  return bits;
}

// Completes the exchange or the barrier of one mask in one warp if all its lanes are there.
bool open_exchange(Scheduler& s, unsigned first, unsigned mask) {
  unsigned lanes = 0;
  unsigned barriers = 0;
  for (unsigned lane = 0; lane < kLanes && first + lane < s.count; ++lane) {
    if (!(mask >> lane & 1u)) continue;
    const Fiber& f = *s.fibers[first + lane];
    if (f.state == State::ended) fail("a warp function names a lane that has ended");
    if (f.state != State::at_exchange || f.exchange_mask != mask) return false;
    barriers += f.source == kBarrier;
    ++lanes;
  }
  if (barriers == lanes)
    access::passed_warp_barrier(first, mask);
  else if (barriers != 0)
    fail("some lanes of a mask wait at __syncwarp, others at another warp function");
  for (unsigned lane = 0; lane < kLanes && first + lane < s.count; ++lane) {
    if (!(mask >> lane & 1u)) continue;
    Fiber& f = *s.fibers[first + lane];
    if (f.source == kBarrier) {
      f.state = State::running;
      continue;
    }
    if (f.source == kEveryLane) {
      const unsigned bits = voters(s, first, mask);
      std::memcpy(f.result, &bits, sizeof(bits));
      f.state = State::running;
      continue;
    }
    const auto source = static_cast<unsigned>(f.source);
    const bool valid = source < kLanes && first + source < s.count && (mask >> source & 1u);
    const Fiber& from = valid ? *s.fibers[first + source] : f;
    std::memcpy(f.result, from.published, f.bytes);
    f.state = State::running;
  }
  return true;
}

bool open_exchanges(Scheduler& s) {
  bool any = false;
  for (unsigned i = 0; i < s.count; ++i) {
    const Fiber& f = *s.fibers[i];
    if (f.state == State::at_exchange) any |= open_exchange(s, i / kLanes * kLanes, f.exchange_mask);
  }
  return any;
}

// The place of number k in an extent, x first.
uint3 index_in(dim3 extent, std::uint64_t k) {
  if (k < extent.x) return {static_cast<unsigned>(k), 0, 0};
  return {static_cast<unsigned>(k % extent.x), static_cast<unsigned>(k / extent.x % extent.y),
          static_cast<unsigned>(k / extent.x / extent.y)};
}

void run_block(Scheduler& s, dim3 block) {
  unsigned alive = s.count;
  for (unsigned i = 0; i < s.count; ++i) {
    s.fibers[i]->number = i;
    s.fibers[i]->index = index_in(block, i);
    s.fibers[i]->state = State::running;
  }
  while (alive > 0) {
    for (unsigned k = 0; k < s.count; ++k) {
      Fiber& f = *s.fibers[s.reversed ? s.count - 1 - k : k];
      if (f.state != State::running) continue;
      switch_to_fiber(s, f);
      if (f.state == State::ended) --alive;
    }
    if (alive == 0) break;
    if (!open_exchanges(s) && !open_block_barrier(s)) fail("threads wait at barriers that can never be passed");
  }
}

}  // namespace

void run(dim3 grid, dim3 block, std::size_t shared_bytes, bool has_barriers, const std::function<void()>& thread) {
  Scheduler& s = scheduler();
  if (s.current != nullptr) fail("a kernel launches a kernel");
  const unsigned count = block.x * block.y * block.z;
  if (count == 0 || count > 1024) fail("a block has 1 to 1024 threads");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535) fail("the grid has a bad extent");
  if (shared_bytes > std::size_t{227} << 10) fail("more than 227 KiB of shared memory");
  gridDim = grid;
  blockDim = block;
  s.thread = &thread;
  s.count = count;
  if (has_barriers)
    while (s.fibers.size() < count) make_fiber(s);
  const access::Launch launch;
  const std::uint64_t blocks = std::uint64_t{grid.x} * grid.y * grid.z;
  for (std::uint64_t k = 0; k < blocks; ++k) {
    blockIdx = index_in(grid, s.reversed ? blocks - 1 - k : k);
    s.shared.assign(shared_bytes, 0xff);
    access::begin_block(s.shared.data(), shared_bytes);
    if (has_barriers) {
      run_block(s, block);
      continue;
    }
    for (unsigned i = 0; i < count; ++i) {
      const unsigned number = s.reversed ? count - 1 - i : i;
      threadIdx = index_in(block, number);
      access::run_thread(number);
      thread();
    }
  }
}

void* dynamic_shared() { return scheduler().shared.data(); }

void block_barrier() {
  Scheduler& s = scheduler();
  if (s.current == nullptr) fail("a barrier in a kernel that was launched as one without barriers");
  s.current->state = State::at_block_barrier;
  switch_to_main(s, *s.current);
}

void exchange(unsigned mask, const void* value, std::size_t bytes, int source, void* result) {
  Scheduler& s = scheduler();
  if (s.current == nullptr) fail("a warp function in a kernel that was launched as one without barriers");
  Fiber& f = *s.current;
  if (bytes > sizeof(f.published)) fail("a warp function exchanges more than 16 bytes");
  if (!(mask >> lane() & 1u)) fail("a warp function was called by a lane outside of its mask");
  std::memcpy(f.published, value, bytes);
  f.bytes = bytes;
  f.source = source;
  f.result = result;
  f.exchange_mask = mask;
  f.state = State::at_exchange;
  switch_to_main(s, f);
}

void warp_barrier(unsigned mask) {
  const int nothing = 0;
  exchange(mask, &nothing, 0, kBarrier, nullptr);
}

int lane() { return static_cast<int>((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % kLanes); }

}  // namespace solvent::cuda::emulator

// --- runtime ------------------------------------------------------------------------------------------------------------

// SOLVENT_EMULATED_GPUS sets the number of devices, 0 included; SOLVENT_EMULATED_MEMORY their bytes.
namespace {

constexpr std::size_t kDefaultMemory = std::size_t{4} << 30;

std::size_t setting(const char* name, std::size_t otherwise) {
  const char* text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

int device_count() { return static_cast<int>(setting("SOLVENT_EMULATED_GPUS", 1)); }

thread_local int t_device = 0;
thread_local cudaError_t t_error = cudaSuccess;
std::size_t used_bytes = 0;  // the library's allocator holds a lock around cudaMalloc and cudaFree

cudaError_t note(cudaError_t error) {
  if (error != cudaSuccess) t_error = error;
  return error;
}

}  // namespace

// Work in the order in which it was given.
using Recording = std::vector<std::function<void()>>;

struct CUstream_st {
  std::unique_ptr<Recording> recording;  // while a graph is recorded
  bool is_invalid = false;               // it did what no graph can hold

  std::deque<std::function<void()>> late;  // left to do
  std::uint64_t id = 0, given = 0, done = 0;
};
struct CUgraph_st {
  Recording work;
};
struct CUgraphExec_st {
  Recording work;
};
struct CUevent_st {
  std::chrono::steady_clock::time_point time;
  std::uint64_t stream = 0, mark = 0;  // what must be done before it
};

// With SOLVENT_EMULATOR_LATE=1 streams do their work as late as possible, when something waits for it: so tests find memory
// that the host frees or changes too early, and streams that are not ordered.
namespace {

bool is_late() {
  static const bool late = setting("SOLVENT_EMULATOR_LATE", 0) != 0;
  return late;
}

// Guards what streams have left to do, the streams that there are, and pinned memory.
std::recursive_mutex& late_mutex() {
  static auto* const mutex = new std::recursive_mutex;
  return *mutex;
}
std::map<std::uint64_t, cudaStream_t>& late_streams() {
  static auto* const streams = new std::map<std::uint64_t, cudaStream_t>;
  return *streams;
}
std::map<const unsigned char*, std::size_t>& pinned_blocks() {
  static auto* const blocks = new std::map<const unsigned char*, std::size_t>;
  return *blocks;
}

bool is_pinned(const void* p) {
  const std::lock_guard lock(late_mutex());
  const auto* const byte = static_cast<const unsigned char*>(p);
  auto after = pinned_blocks().upper_bound(byte);
  return after != pinned_blocks().begin() && byte < std::prev(after)->first + std::prev(after)->second;
}

// Does the work of stream number `id` up to item `end`, if it is not done.
void do_late(std::uint64_t id, std::uint64_t end) {
  const std::lock_guard lock(late_mutex());
  const auto found = late_streams().find(id);
  if (found == late_streams().end()) return;  // it did everything before it was destroyed
  CUstream_st& stream = *found->second;
  while (stream.done < end && !stream.late.empty()) {
    const std::function<void()> work = std::move(stream.late.front());
    stream.late.pop_front();
    work();
    ++stream.done;
  }
}
void do_late(cudaStream_t stream) {
  if (stream != nullptr && !stream->recording) do_late(stream->id, stream->given);
}
void do_all_late() {
  const std::lock_guard lock(late_mutex());
  for (const auto& [id, stream] : late_streams()) do_late(id, stream->given);
}

}  // namespace

std::int64_t solvent::cuda::emulator::most_blocks() {
  static const std::size_t most = setting("SOLVENT_EMULATOR_BLOCKS", std::size_t{1} << 20);
  return std::max<std::int64_t>(static_cast<std::int64_t>(most), 1);
}

void solvent::cuda::emulator::submit(cudaStream_t stream, std::function<void()> work) {
  if (stream != nullptr && stream->recording) {
    stream->recording->push_back(std::move(work));
  } else if (stream != nullptr && is_late()) {
    const std::lock_guard lock(late_mutex());
    stream->late.push_back(std::move(work));
    ++stream->given;
  } else {
    work();
  }
}

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorNoDevice: return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
    case cudaErrorInsufficientDriver: return "cudaErrorInsufficientDriver";
    case cudaErrorStreamCaptureUnsupported: return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated: return "cudaErrorStreamCaptureInvalidated";
    default: return "cudaErrorInvalidValue";
  }
}
const char* cudaGetErrorString(cudaError_t error) { return cudaGetErrorName(error); }
cudaError_t cudaGetLastError() { return std::exchange(t_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return t_error; }
cudaError_t cudaGetDeviceCount(int* count) {
  *count = device_count();
  return *count > 0 ? cudaSuccess : note(cudaErrorNoDevice);
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= device_count()) return note(cudaErrorInvalidDevice);
  t_device = device;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = t_device;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device < 0 || device >= device_count()) return note(cudaErrorInvalidDevice);
  *properties = {};
  std::strcpy(properties->name, "emulated GPU");
  properties->totalGlobalMem = setting("SOLVENT_EMULATED_MEMORY", kDefaultMemory);
  properties->major = 9;
  properties->multiProcessorCount = 4;
  return cudaSuccess;
}
// SOLVENT_EMULATOR_SHARED=<bytes> makes shared memory small, so that tests reach the kernels for large matrices with small ones.
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  const char* const shared = std::getenv("SOLVENT_EMULATOR_SHARED");
  *value = attribute == cudaDevAttrMultiProcessorCount ? 4 : shared != nullptr ? std::atoi(shared) : 227 << 10;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 0;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) { return cudaRuntimeGetVersion(version); }

// The size stands in front of the block, for the account of used memory.
cudaError_t cudaMalloc(void** p, std::size_t bytes) {
  if (used_bytes + bytes > setting("SOLVENT_EMULATED_MEMORY", kDefaultMemory)) return note(cudaErrorMemoryAllocation);
  void* memory = nullptr;  // not one byte more, so that sanitizers see what is beyond
  if (posix_memalign(&memory, 512, bytes + 512) != 0) return note(cudaErrorMemoryAllocation);
  auto* const block = static_cast<unsigned char*>(memory);
  std::memcpy(block, &bytes, sizeof(bytes));
  std::memset(block + 512, 0xff, bytes);  // fresh memory holds NaN
  used_bytes += bytes;
  *p = block + 512;
  solvent::cuda::emulator::access::allocated(*p, bytes);
  return cudaSuccess;
}
cudaError_t cudaFree(void* p) {
  if (p == nullptr) return cudaSuccess;
  do_all_late();
  unsigned char* const block = static_cast<unsigned char*>(p) - 512;
  std::size_t bytes = 0;
  std::memcpy(&bytes, block, sizeof(bytes));
  used_bytes -= bytes;
  solvent::cuda::emulator::access::freed(p, bytes);
  std::free(block);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* free_bytes, std::size_t* total_bytes) {
  *total_bytes = setting("SOLVENT_EMULATED_MEMORY", kDefaultMemory);
  *free_bytes = *total_bytes - used_bytes;
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** p, std::size_t bytes, unsigned) {
  *p = std::malloc(bytes);
  if (*p == nullptr) return note(cudaErrorMemoryAllocation);
  std::memset(*p, 0xff, bytes);
  const std::lock_guard lock(late_mutex());
  pinned_blocks()[static_cast<unsigned char*>(*p)] = bytes;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* p) {
  const std::lock_guard lock(late_mutex());
  pinned_blocks().erase(static_cast<unsigned char*>(p));
  std::free(p);
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind) {
  if (bytes > 0) std::memmove(to, from, bytes);
  solvent::cuda::emulator::access::written(to, bytes);
  return cudaSuccess;
}
// As the driver does, memory of the host that is not pinned is read before the call returns, and written before it returns.
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  const bool at_once = is_late() && stream != nullptr && !stream->recording;
  if (at_once && kind == cudaMemcpyHostToDevice && !is_pinned(from)) {
    const auto* const first = static_cast<const unsigned char*>(from);
    solvent::cuda::emulator::submit(stream, [to, copy = std::vector<unsigned char>(first, first + bytes)] {
      (void)cudaMemcpy(to, copy.data(), copy.size(), cudaMemcpyHostToDevice);
    });
    return cudaSuccess;
  }
  if (at_once && kind == cudaMemcpyDeviceToHost && !is_pinned(to)) {
    do_late(stream);
    return cudaMemcpy(to, from, bytes, kind);
  }
  solvent::cuda::emulator::submit(stream, [=] { (void)cudaMemcpy(to, from, bytes, kind); });
  return cudaSuccess;
}
cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, std::size_t bytes, cudaStream_t stream) {
  return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream);
}
cudaError_t cudaMemsetAsync(void* p, int value, std::size_t bytes, cudaStream_t stream) {
  solvent::cuda::emulator::submit(stream, [=] {
    if (bytes > 0) std::memset(p, value, bytes);
    solvent::cuda::emulator::access::written(p, bytes);
  });
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  do_all_late();
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  static std::uint64_t number = 0;
  const std::lock_guard lock(late_mutex());
  *stream = new CUstream_st;
  (*stream)->id = ++number;
  late_streams()[number] = *stream;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  do_late(stream);
  const std::lock_guard lock(late_mutex());
  late_streams().erase(stream->id);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  do_late(stream);
  if (stream == nullptr || !stream->recording) return cudaSuccess;
  stream->is_invalid = true;
  return note(cudaErrorStreamCaptureUnsupported);
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (is_late())
    solvent::cuda::emulator::submit(stream, [id = event->stream, mark = event->mark] { do_late(id, mark); });
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status = stream == nullptr || !stream->recording ? cudaStreamCaptureStatusNone
            : stream->is_invalid                    ? cudaStreamCaptureStatusInvalidated
                                                    : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream == nullptr || stream->recording) return note(cudaErrorInvalidValue);
  stream->recording = std::make_unique<Recording>();
  stream->is_invalid = false;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  if (stream == nullptr || !stream->recording) return note(cudaErrorInvalidValue);
  const std::unique_ptr<Recording> work = std::move(stream->recording);
  if (stream->is_invalid) return note(cudaErrorStreamCaptureInvalidated);
  *graph = new CUgraph_st{std::move(*work)};
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = new CUgraphExec_st{graph->work};
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  for (const std::function<void()>& work : executable->work) solvent::cuda::emulator::submit(stream, work);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const std::lock_guard lock(late_mutex());
  event->time = std::chrono::steady_clock::now();
  event->stream = stream == nullptr ? 0 : stream->id;
  event->mark = stream == nullptr ? 0 : stream->given;
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  constexpr auto kNotReady = static_cast<cudaError_t>(600);
  const std::lock_guard lock(late_mutex());
  const auto found = late_streams().find(event->stream);
  return found == late_streams().end() || found->second->done >= event->mark ? cudaSuccess : kNotReady;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  do_late(event->stream, event->mark);
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  *milliseconds = std::chrono::duration<float, std::milli>(end->time - start->time).count();
  return cudaSuccess;
}
