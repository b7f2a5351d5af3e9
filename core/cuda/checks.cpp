// Checks outside of graphs, and what threads have yet to look at.
//
// Each check has a slot: a report in pinned memory, which kernels address directly, and an event behind them. The host reads
// the report when the event is done, so nothing is read while it is written, and a check costs the host one launch and one
// event beside its kernels. Slots are reused.

#include "solvent/core/cuda/checks.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <cuda_runtime.h>
#include <fmt/format.h>

#include "solvent/core/cuda/runtime.h"
#include "solvent/core/error.h"

namespace solvent::cuda {
namespace {

struct Slot {
  std::int64_t* report = nullptr;
  cudaEvent_t written = nullptr;
};

constexpr std::size_t kReportWords = 3;
constexpr std::size_t kSlotsAtOnce = 128;  // of 24 bytes: most of a page

// The slots of one device that no check uses.
struct Slots {
  std::mutex mutex;
  std::vector<Slot> idle;

  Slot take() {
    const std::lock_guard lock(mutex);
    if (idle.empty()) make();
    const Slot slot = idle.back();
    idle.pop_back();
    std::fill_n(slot.report, kReportWords, -1);
    return slot;
  }
  void give_back(const Slot& slot) {
    const std::lock_guard lock(mutex);
    idle.push_back(slot);
  }

 private:
  void make() {
    void* memory = nullptr;
    check(cudaHostAlloc(&memory, kSlotsAtOnce * kReportWords * sizeof(std::int64_t), cudaHostAllocDefault),
          "allocate pinned memory");
    idle.reserve(kSlotsAtOnce);
    for (std::size_t i = 0; i < kSlotsAtOnce; ++i) {
      Slot slot{static_cast<std::int64_t*>(memory) + i * kReportWords, nullptr};
      check(cudaEventCreateWithFlags(&slot.written, cudaEventDisableTiming), "make an event");
      idle.push_back(slot);
    }
  }
};

Slots& slots_of(Device device) {
  // Never destroyed: checks may be looked at after everything else has ended.
  static auto* const all = new std::vector<Slots>(static_cast<std::size_t>(device_count()));
  return (*all)[static_cast<std::size_t>(device.index)];
}

class EagerCheck final : public Finding {
 public:
  EagerCheck(Device device, Raise raise) : slots_(slots_of(device)), slot_(slots_.take()), raise_(std::move(raise)) {}
  ~EagerCheck() override { slots_.give_back(slot_); }
  EagerCheck(const EagerCheck&) = delete;
  EagerCheck& operator=(const EagerCheck&) = delete;

  [[nodiscard]] Report report() const { return {slot_.report, 0}; }
  void mark(cudaStream_t stream) const { check(cudaEventRecord(slot_.written, stream), "record an event"); }

  [[nodiscard]] bool is_there() const override {
    const int state = cudaEventQuery(slot_.written);
    if (state != cudaSuccess) (void)cudaGetLastError();  // not ready, or an error that the next call reports as well
    return state == cudaSuccess;
  }
  void wait() const noexcept override { (void)cudaEventSynchronize(slot_.written); }
  void throw_failure() override {
    try {
      throw_at_once();
    } catch (const ValueError& e) {
      throw ValueError(
          fmt::format("{} A GPU found this after the call had returned; what was computed from its result is wrong. "
                      "SOLVENT_CUDA_DEBUG=1 reports it at the call.",
                      e.what()));
    }
  }
  void throw_at_once() const {
    if (slot_.report[0] >= 0) raise_(slot_.report[2], slot_.report[1]);
  }

 private:
  Slots& slots_;
  Slot slot_;
  Raise raise_;
};

// --- what is to be looked at ------------------------------------------------------------------------------------------------

using Findings = std::vector<std::shared_ptr<Finding>>;

// Of threads that have ended.
struct Left {
  std::mutex mutex;
  Findings findings;
  std::atomic<bool> any = false;
};

// Never destroyed: threads may end after everything else.
Left& left() {
  static auto* const instance = new Left;
  return *instance;
}

// The program ends: nobody is there to catch an exception.
void print_left() {
  Findings findings;
  {
    const std::lock_guard lock(left().mutex);
    findings.swap(left().findings);
  }
  for (const std::shared_ptr<Finding>& finding : findings) {
    try {
      finding->wait();
      finding->throw_failure();
    } catch (const std::exception& e) {
      std::fprintf(stderr, "solvent: nobody waited for the GPU that found: %s\n", e.what());
    }
  }
}

// This thread's, oldest first.
struct Pending {
  Findings findings;

  ~Pending() {
    if (findings.empty()) return;
    const std::lock_guard lock(left().mutex);
    std::move(findings.begin(), findings.end(), std::back_inserter(left().findings));
    left().any = true;
  }
};
thread_local Pending t_pending;

// Moves what is there, with `in_turn` only up to the first that is not.
void take_ready(Findings& from, bool in_turn, Findings& ready) {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < from.size(); ++i) {
    const bool is_taken = (!in_turn || kept == 0) && from[i]->is_there();
    if (is_taken) {
      ready.push_back(std::move(from[i]));
    } else {
      if (kept != i) from[kept] = std::move(from[i]);
      ++kept;
    }
  }
  from.resize(kept);
}

void throw_ready(bool in_turn) {
  Findings ready;
  if (left().any) {
    const std::lock_guard lock(left().mutex);
    take_ready(left().findings, false, ready);
    left().any = !left().findings.empty();
  }
  if (!t_pending.findings.empty()) take_ready(t_pending.findings, in_turn, ready);
  std::string first;
  std::size_t failures = 0;
  for (const std::shared_ptr<Finding>& finding : ready) {
    try {
      finding->throw_failure();
    } catch (const ValueError& e) {
      if (failures++ == 0) first = e.what();
    }
  }
  if (failures == 1) throw ValueError(first);
  if (failures > 1) throw ValueError(fmt::format("{} Later checks that failed as well: {}.", first, failures - 1));
}

}  // namespace

void look_later(std::shared_ptr<Finding> finding) {
  // Registered after CUDA has been used, so that it runs before CUDA ends.
  static const int registered = std::atexit(print_left);
  (void)registered;
  Findings& findings = t_pending.findings;
  if (std::find(findings.rbegin(), findings.rend(), finding) == findings.rend()) findings.push_back(std::move(finding));
}

void throw_found() { throw_ready(false); }

void add_check(Device device, Raise raise, const std::function<void(const Report&)>& launch) {
  const cudaStream_t stream = current_stream(device);
  if (is_recording(stream)) return launch(recorded_check(std::move(raise)));
  throw_ready(true);
  auto finding = std::make_shared<EagerCheck>(device, std::move(raise));
  try {
    launch(finding->report());
    finding->mark(stream);
  } catch (...) {
    (void)cudaStreamSynchronize(stream);  // nothing writes to the slot when it is given back
    throw;
  }
  if (is_debugging()) {
    finding->wait();
    return finding->throw_at_once();
  }
  look_later(std::move(finding));
}

}  // namespace solvent::cuda
