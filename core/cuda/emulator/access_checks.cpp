// Races and unwritten memory in emulated kernels; access_checks.h says what is found.
//
// Time is counted in phases: one number for each stretch between two barriers of a block, in the order in which the emulator
// runs them, never used twice. As blocks run one after the other, the phase of an access tells its launch, its block and
// its place between barriers; the thread and, within a phase, what it knows of the other lanes of its warp tell the rest.

#include "solvent/core/cuda/emulator/access_checks.h"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <tuple>
#include <unordered_map>
#include <utility>

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <pthread.h>
#include <unistd.h>

#include <cuda_runtime.h>  // the emulator's, beside this file

namespace solvent::cuda::emulator {

using Address = std::uintptr_t;

namespace {

constexpr Address kPageBytes = 4096;
constexpr unsigned kLanes = 32;
constexpr unsigned kWarps = 32;
constexpr unsigned char kFresh = 0xff;  // what cudaMalloc fills memory with

Address address_of(const void* p) { return reinterpret_cast<Address>(p); }

struct Range {
  Address begin = 0, end = 0;
  bool has(Address a) const { return a >= begin && a < end; }
};

// Reads, or atomic updates, of one place since the last write that is ordered before the latest of them.
struct Group {
  std::uint32_t phase = 0;  // of the latest; 0: none
  std::uint32_t time = 0;   // within the phase
  std::uint32_t lanes = 0;  // of `warp`
  std::int32_t code = 0;
  std::uint8_t warp = 0;
  bool other_warps = false;   // in this phase
  bool other_blocks = false;  // in this launch
};

// What happened to one place: 4 bytes, or 1 in pages with smaller accesses.
struct Cell {
  std::uint32_t write_phase = 0;
  std::uint32_t write_time = 0;
  std::int32_t write_code = 0;
  std::uint16_t write_thread = 0;
  bool is_fresh = false;
  Group reads;
  Group atomics;
};

struct Page {
  Address granule = 4;
  std::vector<Cell> cells;
};

enum class Kind { read, write, atomic };

// Of the one launch that runs.
struct State {
  std::mutex mutex;  // held by the launch that runs, and by calls that change what is known about memory
  std::unordered_map<Address, std::unique_ptr<Page>> pages;
  std::array<std::pair<Address, Page*>, 1024> recent{};
  std::map<Address, std::size_t> allocations;

  std::uint32_t phase = 0;
  std::uint32_t launch_phase = 0;  // the first of this launch
  std::uint32_t block_phase = 0;   // and of this block
  std::uint32_t time = 0;          // barriers of warps in this phase

  // known[warp][lane][other]: what `other` did before this time is ordered before what `lane` does now.
  std::array<std::array<std::array<std::uint32_t, kLanes>, kLanes>, kWarps> known{};
  std::array<std::uint32_t, kWarps> known_phase{};

  Range dynamic_shared;
  Range stack;
  Range host_stack;
  std::vector<Range> thread_storage;  // static __shared__ variables are here
  Range all_thread_storage;           // from the first to the last
  std::array<Range, 4> builtins;      // threadIdx and its like are there too

  unsigned thread = 0, warp = 0, lane = 0;
};

State& state() {
  static auto* const instance = new State;  // launches may come from destructors of static objects
  return *instance;
}

thread_local bool t_in_kernel = false;

// Threads of this block have their number; and others are
enum Other { kNobody = -1, kOtherBlock = -2, kOtherWarp = -3, kWarp = 2000 };

// --- reports ------------------------------------------------------------------------------------------------------------

CollectFindings* collector = nullptr;
std::set<std::tuple<int, std::int32_t, std::int32_t>>& reported() {
  static auto* const places = new std::set<std::tuple<int, std::int32_t, std::int32_t>>;
  return *places;
}

// Places in the code are kept as distances from here, in half the bytes.
const char kAnchor = 0;

std::int32_t code_of(const void* caller) {
  const auto distance = static_cast<std::int64_t>(address_of(caller) - address_of(&kAnchor));
  return distance >= INT32_MIN && distance <= INT32_MAX ? static_cast<std::int32_t>(distance) : 0;
}

// File and line, if there is debug information and binutils' addr2line; else the program and the offset.
std::string place_in_source(std::int32_t code) {
  const Address address = address_of(&kAnchor) + static_cast<Address>(static_cast<std::int64_t>(code)) - 1;
  Dl_info info;
  if (code == 0 || dladdr(reinterpret_cast<void*>(address), &info) == 0) return "unknown place";
  const auto* const header = static_cast<const ElfW(Ehdr)*>(info.dli_fbase);
  const Address offset = header->e_type == ET_DYN ? address - address_of(info.dli_fbase) : address;
  char path[4096];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);
  const std::string file = std::strchr(info.dli_fname, '/') != nullptr || length < 0
                               ? std::string(info.dli_fname)
                               : std::string(path, static_cast<std::size_t>(length));
  char hex[32];
  std::snprintf(hex, sizeof(hex), "0x%zx", static_cast<std::size_t>(offset));
  std::string text;
  if (file.find('\'') == std::string::npos) {
    if (FILE* const lines = popen(("addr2line -s -i -e '" + file + "' " + hex + " 2>/dev/null").c_str(), "r")) {
      char line[512];
      while (std::fgets(line, sizeof(line), lines) != nullptr) {
        line[std::strcspn(line, " \n")] = 0;
        if (line[0] != '?') text += (text.empty() ? "" : ", inlined into ") + std::string(line);
      }
      pclose(lines);
    }
  }
  return text.empty() ? file + "+" + hex : text;
}

std::string memory_name(const State& s, Address a, bool shared) {
  if (shared)
    return s.dynamic_shared.has(a) ? "byte " + std::to_string(a - s.dynamic_shared.begin) + " of dynamic shared memory"
                                   : "a __shared__ variable";
  auto after = s.allocations.upper_bound(a);
  if (after == s.allocations.begin()) return "memory of the host";
  const auto& [begin, bytes] = *std::prev(after);
  if (a >= begin + bytes) return "memory of the host";
  return "byte " + std::to_string(a - begin) + " of " + std::to_string(bytes) + " allocated ones";
}

std::string thread_name(unsigned thread) {
  return "thread " + std::to_string(thread) + " of block " + std::to_string(blockIdx.x) + "," +
         std::to_string(blockIdx.y) + "," + std::to_string(blockIdx.z);
}

std::string other_name(int who) {
  if (who == kOtherBlock) return "a thread of another block";
  if (who == kOtherWarp) return "a thread of another warp";
  return who >= kWarp ? "a thread of warp " + std::to_string(who - kWarp) : "thread " + std::to_string(who);
}

const char* verb(Kind kind) { return kind == Kind::read ? "reads" : kind == Kind::write ? "writes" : "updates"; }

}  // namespace

CollectFindings::CollectFindings() {
  const std::lock_guard lock(state().mutex);
  reported().clear();
  collector = this;
}
CollectFindings::~CollectFindings() {
  const std::lock_guard lock(state().mutex);
  reported().clear();
  collector = nullptr;
}

// Prints each pair of places in the code once. The process fails at its end, as under a sanitizer.
struct Report {
  static bool is_new(int what, std::int32_t code, std::int32_t other) {
    return reported().insert({what, code, other}).second;
  }
  static void add(const std::string& text) {
    if (collector != nullptr) {
      collector->texts_.push_back(text);
      return;
    }
    static const int registered = std::atexit([] {
      std::fprintf(stderr, "CUDA emulator: %zu findings in kernels; see above\n", reported().size());
      std::fflush(nullptr);
      _exit(66);
    });
    (void)registered;
    std::fprintf(stderr, "CUDA emulator: %s\n", text.c_str());
  }
};

namespace {

enum Finding { kAfterWrite, kAfterRead, kAfterAtomic, kUnwritten };

void report_race(const State& s, Kind kind, Address a, bool shared, Finding finding, std::int32_t code,
                 std::int32_t other, int who) {
  if (!Report::is_new(finding, code, other)) return;
  const char* const did = finding == kAfterWrite ? "wrote" : finding == kAfterRead ? "read" : "updated";
  Report::add("race: " + thread_name(s.thread) + " " + verb(kind) + " " + memory_name(s, a, shared) + ", which " +
              other_name(who) + " " + did + ", and nothing orders the two\n    at " + place_in_source(code) +
              "\n    after " + place_in_source(other));
}

void report_unwritten(const State& s, Kind kind, Address a, bool shared, std::int32_t code) {
  if (!Report::is_new(kUnwritten, code, 0)) return;
  Report::add("unwritten memory: " + thread_name(s.thread) + " " + verb(kind) + " " + memory_name(s, a, shared) +
              ", which nothing has written\n    at " + place_in_source(code));
}

// --- what is known about memory -----------------------------------------------------------------------------------------

bool is_allocated(const State& s, Address a) {
  auto after = s.allocations.upper_bound(a);
  return after != s.allocations.begin() && a < std::prev(after)->first + std::prev(after)->second;
}

// Fresh memory still holds what cudaMalloc put there: else something wrote it that the checks do not see.
bool is_still_fresh(Address a, Address bytes) {
  const auto* const p = reinterpret_cast<const unsigned char*>(a);
  for (Address i = 0; i < bytes; ++i)
    if (p[i] != kFresh) return false;
  return true;
}

void mark_fresh(const State& s, Address begin, Page& page) {
  auto allocation = s.allocations.upper_bound(begin);
  if (allocation != s.allocations.begin()) --allocation;
  for (; allocation != s.allocations.end() && allocation->first < begin + kPageBytes; ++allocation) {
    const Address from = std::max(allocation->first, begin);
    const Address to = std::min(allocation->first + allocation->second, begin + kPageBytes);
    for (Address a = from; a < to; a += page.granule) page.cells[(a - begin) / page.granule].is_fresh = true;
  }
}

Page& page_of(State& s, Address a) {
  const Address number = a / kPageBytes;
  auto& [recent_number, recent_page] = s.recent[number % s.recent.size()];
  if (recent_page != nullptr && recent_number == number) return *recent_page;
  std::unique_ptr<Page>& page = s.pages[number];
  if (page == nullptr) {
    page = std::make_unique<Page>();
    page->cells.resize(kPageBytes / page->granule);
    mark_fresh(s, number * kPageBytes, *page);
  }
  recent_number = number;
  recent_page = page.get();
  return *page;
}

void split_into_bytes(Page& page) {
  std::vector<Cell> cells(kPageBytes);
  for (Address i = 0; i < kPageBytes; ++i) cells[i] = page.cells[i / page.granule];
  page.cells = std::move(cells);
  page.granule = 1;
}

// Calls what(cell, address, bytes) for all cells of [a, a + bytes).
template <class What>
void for_cells(State& s, Address a, Address bytes, What what) {
  while (bytes > 0) {
    Page& page = page_of(s, a);
    const Address here = std::min(bytes, kPageBytes - a % kPageBytes);
    if (page.granule != 1 && (a % page.granule != 0 || here % page.granule != 0)) split_into_bytes(page);
    for (Address done = 0; done < here; done += page.granule)
      what(page.cells[(a + done) % kPageBytes / page.granule], a + done, page.granule);
    a += here;
    bytes -= here;
  }
}

// The same for the cells that there are.
template <class What>
void for_known_cells(State& s, Address a, Address bytes, What what) {
  for (Address number = a / kPageBytes; number * kPageBytes < a + bytes; ++number) {
    const auto found = s.pages.find(number);
    if (found == s.pages.end()) continue;
    Page& page = *found->second;
    for (Address i = 0; i < page.cells.size(); ++i) {
      const Address at = number * kPageBytes + i * page.granule;
      if (at >= a && at < a + bytes) what(page.cells[i]);
    }
  }
}

// --- order --------------------------------------------------------------------------------------------------------------

std::array<std::uint32_t, kLanes>& known_to_me(State& s) { return s.known[s.warp][s.lane]; }

// Adds me to the group. Members that are ordered before me leave: a later write that is ordered after me is after them too.
void join(State& s, Group& g, std::uint32_t horizon, std::int32_t code) {
  if (g.phase >= s.phase && g.warp != s.warp) {
    g.other_warps = true;
    return;
  }
  const bool other_blocks = g.phase >= horizon && (g.other_blocks || g.phase < s.block_phase);
  if (g.phase < s.phase) {
    g = Group{};
  } else if (g.time < s.time) {
    for (unsigned left = g.lanes; left != 0; left &= left - 1) {
      const int lane = __builtin_ctz(left);
      if (g.time < known_to_me(s)[static_cast<unsigned>(lane)]) g.lanes &= ~(1u << lane);
    }
  }
  g.phase = s.phase;
  g.time = s.time;
  g.lanes |= 1u << s.lane;
  g.code = code;
  g.warp = static_cast<std::uint8_t>(s.warp);
  g.other_blocks = other_blocks;
}

// One of the group that nothing orders before me, or kNobody.
int conflict(State& s, const Group& g, std::uint32_t horizon) {
  if (g.phase == 0 || g.phase < horizon) return kNobody;
  if (g.other_blocks || g.phase < s.block_phase) return kOtherBlock;
  if (g.phase < s.phase) return kNobody;
  if (g.warp != s.warp) return kWarp + g.warp;
  if (g.other_warps) return kOtherWarp;
  for (unsigned lane = 0; lane < kLanes; ++lane)
    if ((g.lanes >> lane & 1u) && lane != s.lane && g.time >= known_to_me(s)[lane])
      return static_cast<int>(s.warp * kLanes + lane);
  return kNobody;
}

int write_conflict(State& s, const Cell& c, std::uint32_t horizon) {
  if (c.write_phase == 0 || c.write_phase < horizon) return kNobody;
  if (c.write_phase < s.block_phase) return kOtherBlock;
  if (c.write_phase < s.phase || c.write_thread == s.thread) return kNobody;
  if (c.write_thread / kLanes == s.warp && c.write_time < known_to_me(s)[c.write_thread % kLanes]) return kNobody;
  return c.write_thread;
}

// Of the access the cell is a part of.
struct Access {
  Address begin, end;
  Kind kind;
  bool shared;
  std::int32_t code;
};

// Of a word that library code wrote one byte may be that of fresh memory: all that the access reads of a word must be.
bool reads_fresh(const Access& access, Address a) {
  const Address word = a & ~Address{3};
  const Address begin = std::max(word, access.begin);
  return is_still_fresh(begin, std::min(word + 4, access.end) - begin);
}

void check_cell(State& s, Cell& c, Address a, const Access& access) {
  const auto& [begin, end, kind, shared, code] = access;
  const std::uint32_t horizon = shared ? s.block_phase : s.launch_phase;
  if (kind != Kind::write) {
    if (shared && c.write_phase < horizon && c.atomics.phase < horizon) report_unwritten(s, kind, a, shared, code);
    if (c.is_fresh && reads_fresh(access, a)) report_unwritten(s, kind, a, shared, code);
  }
  if (const int who = write_conflict(s, c, horizon); who != kNobody)
    report_race(s, kind, a, shared, kAfterWrite, code, c.write_code, who);
  if (kind != Kind::atomic)
    if (const int who = conflict(s, c.atomics, horizon); who != kNobody)
      report_race(s, kind, a, shared, kAfterAtomic, code, c.atomics.code, who);
  if (kind == Kind::read) {
    join(s, c.reads, horizon, code);
    return;
  }
  if (const int who = conflict(s, c.reads, horizon); who != kNobody)
    report_race(s, kind, a, shared, kAfterRead, code, c.reads.code, who);
  c.is_fresh = false;
  if (kind == Kind::atomic) {
    join(s, c.atomics, horizon, code);
    return;
  }
  c.write_phase = s.phase;
  c.write_time = s.time;
  c.write_code = code;
  c.write_thread = static_cast<std::uint16_t>(s.thread);
  if (c.reads.phase != 0) c.reads = Group{};
  if (c.atomics.phase != 0) c.atomics = Group{};
}

// What another access of this kind by this thread would not change.
bool is_known(const State& s, const Cell& c, Kind kind) {
  const std::uint32_t me = 1u << s.lane;
  const bool reads = c.reads.phase == s.phase && c.reads.time == s.time && c.reads.warp == s.warp;
  if (kind == Kind::read) return reads && (c.reads.lanes & me) && c.atomics.phase == 0;
  return kind == Kind::write && c.write_phase == s.phase && c.write_time == s.time && c.write_thread == s.thread &&
         c.reads.phase == 0 && c.atomics.phase == 0;
}

void access_memory(const void* p, std::size_t bytes, Kind kind, const void* caller) {
  if (!t_in_kernel) return;
  State& s = state();
  const Address a = address_of(p);
  if (s.stack.has(a)) return;
  bool shared = s.dynamic_shared.has(a);
  if (!shared && s.all_thread_storage.has(a)) {
    for (const Range& range : s.builtins)
      if (range.has(a)) return;
    for (const Range& range : s.thread_storage) shared |= range.has(a);
  }
  const Access access{a, a + bytes, kind, shared, code_of(caller)};
  for_cells(s, a, bytes, [&](Cell& c, Address at, Address) {
    if (!is_known(s, c, kind)) check_cell(s, c, at, access);
  });
}

template <class T>
Range range_of(const T& object) {
  return {address_of(&object), address_of(&object) + sizeof(T)};
}

// Where this thread of the host keeps thread_local variables, of all parts of the program.
const std::vector<Range>& thread_storage() {
  thread_local const std::vector<Range> ranges = [] {
    std::vector<Range> found;
    dl_iterate_phdr(
        [](dl_phdr_info* info, std::size_t, void* data) {
          for (unsigned i = 0; i < info->dlpi_phnum; ++i) {
            const auto& header = info->dlpi_phdr[i];
            if (header.p_type != PT_TLS || info->dlpi_tls_data == nullptr) continue;
            const Address begin = address_of(info->dlpi_tls_data);
            static_cast<std::vector<Range>*>(data)->push_back({begin, begin + header.p_memsz});
          }
          return 0;
        },
        &found);
    return found;
  }();
  return ranges;
}

Range host_stack() {
  thread_local const Range range = [] {
    pthread_attr_t attributes;
    void* begin = nullptr;
    std::size_t bytes = 0;
    if (pthread_getattr_np(pthread_self(), &attributes) != 0) return Range{};
    pthread_attr_getstack(&attributes, &begin, &bytes);
    pthread_attr_destroy(&attributes);
    return Range{address_of(begin), address_of(begin) + bytes};
  }();
  return range;
}

void next_phase(State& s) {
  if (++s.phase == 0) {
    std::fprintf(stderr, "CUDA emulator: more than 2^32 barriers; run fewer tests in one process\n");
    std::abort();
  }
  s.time = 0;
}

}  // namespace

namespace access {

Launch::Launch() {
  State& s = state();
  s.mutex.lock();
  s.launch_phase = s.phase + 1;
  s.thread_storage = thread_storage();
  s.all_thread_storage = {~Address{0}, 0};
  for (const Range& range : s.thread_storage)
    s.all_thread_storage = {std::min(s.all_thread_storage.begin, range.begin),
                            std::max(s.all_thread_storage.end, range.end)};
  s.builtins = {range_of(threadIdx), range_of(blockIdx), range_of(blockDim), range_of(gridDim)};
  s.host_stack = host_stack();
  t_in_kernel = true;
}
Launch::~Launch() {
  t_in_kernel = false;
  state().mutex.unlock();
}

void begin_block(const void* shared, std::size_t bytes) {
  State& s = state();
  next_phase(s);
  s.block_phase = s.phase;
  s.dynamic_shared = {address_of(shared), address_of(shared) + bytes};
}

void run_thread(unsigned number, const void* stack, std::size_t bytes) {
  State& s = state();
  s.stack = {address_of(stack), address_of(stack) + bytes};
  s.thread = number;
  s.warp = number / kLanes;
  s.lane = number % kLanes;
  if (s.known_phase[s.warp] != s.phase) {
    s.known_phase[s.warp] = s.phase;
    s.known[s.warp] = {};
  }
}
void run_thread(unsigned number) {
  State& s = state();
  run_thread(number, reinterpret_cast<const void*>(s.host_stack.begin), s.host_stack.end - s.host_stack.begin);
}

void passed_block_barrier() { next_phase(state()); }

void passed_warp_barrier(unsigned first_thread, unsigned mask) {
  State& s = state();
  ++s.time;
  auto& known = s.known[first_thread / kLanes];
  std::array<std::uint32_t, kLanes> all{};
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    if (!(mask >> lane & 1u)) continue;
    for (unsigned other = 0; other < kLanes; ++other) all[other] = std::max(all[other], known[lane][other]);
  }
  for (unsigned lane = 0; lane < kLanes; ++lane)
    if (mask >> lane & 1u) all[lane] = s.time;
  for (unsigned lane = 0; lane < kLanes; ++lane)
    if (mask >> lane & 1u) known[lane] = all;
}

void allocated(const void* p, std::size_t bytes) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  s.allocations[address_of(p)] = bytes;
  for_known_cells(s, address_of(p), bytes, [](Cell& c) { c.is_fresh = true; });
}

void freed(const void* p, std::size_t bytes) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  s.allocations.erase(address_of(p));
  for_known_cells(s, address_of(p), bytes, [](Cell& c) { c.is_fresh = false; });
  // What is known of whole pages goes with the memory; other allocations may be in the first and the last.
  const Address end = (address_of(p) + bytes) / kPageBytes;
  for (Address number = address_of(p) / kPageBytes + 1; number < end; ++number) {
    auto& recent = s.recent[number % s.recent.size()];
    if (recent.first == number) recent = {};
    s.pages.erase(number);
  }
}

void written(const void* p, std::size_t bytes) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  if (bytes == 0 || !is_allocated(s, address_of(p))) return;
  for_cells(s, address_of(p), bytes, [](Cell& c, Address, Address) { c.is_fresh = false; });
}

}  // namespace access

void touch_atomically(const void* p, std::size_t bytes) {
  access_memory(p, bytes, Kind::atomic, __builtin_return_address(0));
}

}  // namespace solvent::cuda::emulator

// --- what the compiler calls --------------------------------------------------------------------------------------------

#define SOLVENT_ACCESS(name, kind, bytes)                                                 \
  void __tsan_##name(void* p);                                                            \
  void __tsan_##name(void* p) {                                                           \
    solvent::cuda::emulator::access_memory(p, bytes, solvent::cuda::emulator::Kind::kind, \
                                           __builtin_return_address(0));                  \
  }
#define SOLVENT_ACCESSES(bytes)                      \
  SOLVENT_ACCESS(read##bytes, read, bytes)           \
  SOLVENT_ACCESS(write##bytes, write, bytes)         \
  SOLVENT_ACCESS(unaligned_read##bytes, read, bytes) \
  SOLVENT_ACCESS(unaligned_write##bytes, write, bytes)

// Atomic operations of C++ are the host's (static objects, shared_ptr); kernels have functions of their own.
#define SOLVENT_ATOMIC_UPDATE(bits, name, call)                                                                   \
  std::uint##bits##_t __tsan_atomic##bits##_##name(volatile std::uint##bits##_t* p, std::uint##bits##_t v, int);  \
  std::uint##bits##_t __tsan_atomic##bits##_##name(volatile std::uint##bits##_t* p, std::uint##bits##_t v, int) { \
    return call(p, v, __ATOMIC_SEQ_CST);                                                                          \
  }
#define SOLVENT_ATOMIC_COMPARE(bits, name)                                                         \
  int __tsan_atomic##bits##_##name(volatile std::uint##bits##_t* p, std::uint##bits##_t* expected, \
                                   std::uint##bits##_t v, int, int);                               \
  int __tsan_atomic##bits##_##name(volatile std::uint##bits##_t* p, std::uint##bits##_t* expected, \
                                   std::uint##bits##_t v, int, int) {                              \
    return __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  }
#define SOLVENT_ATOMICS(bits)                                                                     \
  std::uint##bits##_t __tsan_atomic##bits##_load(const volatile std::uint##bits##_t* p, int);     \
  std::uint##bits##_t __tsan_atomic##bits##_load(const volatile std::uint##bits##_t* p, int) {    \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                  \
  }                                                                                               \
  void __tsan_atomic##bits##_store(volatile std::uint##bits##_t* p, std::uint##bits##_t v, int);  \
  void __tsan_atomic##bits##_store(volatile std::uint##bits##_t* p, std::uint##bits##_t v, int) { \
    __atomic_store_n(p, v, __ATOMIC_SEQ_CST);                                                     \
  }                                                                                               \
  SOLVENT_ATOMIC_UPDATE(bits, exchange, __atomic_exchange_n)                                      \
  SOLVENT_ATOMIC_UPDATE(bits, fetch_add, __atomic_fetch_add)                                      \
  SOLVENT_ATOMIC_UPDATE(bits, fetch_sub, __atomic_fetch_sub)                                      \
  SOLVENT_ATOMIC_UPDATE(bits, fetch_and, __atomic_fetch_and)                                      \
  SOLVENT_ATOMIC_UPDATE(bits, fetch_or, __atomic_fetch_or)                                        \
  SOLVENT_ATOMIC_UPDATE(bits, fetch_xor, __atomic_fetch_xor)                                      \
  SOLVENT_ATOMIC_COMPARE(bits, compare_exchange_strong)                                           \
  SOLVENT_ATOMIC_COMPARE(bits, compare_exchange_weak)

extern "C" {

void __tsan_init();
void __tsan_init() {}
void __tsan_func_entry(void*);
void __tsan_func_entry(void*) {}
void __tsan_func_exit();
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*);
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**);
void __tsan_vptr_read(void**) {}
void __tsan_atomic_thread_fence(int);
void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void __tsan_atomic_signal_fence(int);
void __tsan_atomic_signal_fence(int) {}

void __tsan_read_range(void* p, std::size_t bytes);
void __tsan_read_range(void* p, std::size_t bytes) {
  solvent::cuda::emulator::access_memory(p, bytes, solvent::cuda::emulator::Kind::read, __builtin_return_address(0));
}
void __tsan_write_range(void* p, std::size_t bytes);
void __tsan_write_range(void* p, std::size_t bytes) {
  solvent::cuda::emulator::access_memory(p, bytes, solvent::cuda::emulator::Kind::write, __builtin_return_address(0));
}

SOLVENT_ACCESSES(1)
SOLVENT_ACCESSES(2)
SOLVENT_ACCESSES(4)
SOLVENT_ACCESSES(8)
SOLVENT_ACCESSES(16)
SOLVENT_ATOMICS(8)
SOLVENT_ATOMICS(16)
SOLVENT_ATOMICS(32)
SOLVENT_ATOMICS(64)

}  // extern "C"
