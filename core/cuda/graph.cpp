// Streams, events and CUDA graphs. A graph is recorded in relaxed mode, so that the allocator may ask the device for memory;
// the memory belongs to the graph's own stream and is reused only there (see allocator.cpp), hence stays private to it.

#include "solvent/core/cuda/graph.h"

#include <algorithm>
#include <exception>
#include <mutex>
#include <utility>
#include <vector>

#include <cuda_runtime.h>
#include <fmt/format.h>

#include "solvent/core/cuda/allocator.h"
#include "solvent/core/cuda/blas.h"
#include "solvent/core/cuda/checks.h"
#include "solvent/core/cuda/pinned.h"
#include "solvent/core/error.h"

namespace solvent::cuda {

CUstream_st* make_stream(Device device) {
  use(device);
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "make a stream");
  return stream;
}

void destroy_stream(CUstream_st* stream, Device device) noexcept {
  use(device);
  (void)cudaStreamSynchronize(stream);
  give_back_workspaces(stream, device);
  give_back_memory(stream, device);
  (void)cudaStreamDestroy(stream);
}

void synchronize(CUstream_st* stream) {
  check(cudaStreamSynchronize(stream), "wait for the stream");
  release_copied();
  throw_found();
}

void* make_event(Device device) {
  use(device);
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDefault), "make an event");
  return event;
}
void destroy_event(void* event) noexcept { (void)cudaEventDestroy(static_cast<cudaEvent_t>(event)); }
void record_event(void* event, Device device) {
  check(cudaEventRecord(static_cast<cudaEvent_t>(event), current_stream(device)), "record an event");
}
void wait_event(void* event, Device device) {
  check(cudaStreamWaitEvent(current_stream(device), static_cast<cudaEvent_t>(event), 0), "wait for an event");
}
void synchronize_event(void* event) {
  check(cudaEventSynchronize(static_cast<cudaEvent_t>(event)), "wait for an event");
  throw_found();
}
double milliseconds_between(void* start, void* end) {
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, static_cast<cudaEvent_t>(start), static_cast<cudaEvent_t>(end)),
        "take the time between events");
  return static_cast<double>(milliseconds);
}

bool is_recording(CUstream_st* stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream, &status), "ask whether a stream is recorded");
  return status != cudaStreamCaptureStatusNone;
}

// --- checks ---------------------------------------------------------------------------------------------------------------

// What a recorded graph keeps besides its kernels: the report of its checks (checks.h) on the device, and where replays copy
// it; tables that the graph reads. Shared by the graph and the threads that replayed it and have not looked since.
class Checks final : public Finding {
 public:
  explicit Checks(Device device) : device_(device) {}
  ~Checks() override {
    if (copied_ != nullptr) {  // the last replay has ended then
      (void)cudaEventSynchronize(copied_);
      (void)cudaEventDestroy(copied_);
    }
    if (on_host_ != nullptr) (void)cudaFreeHost(on_host_);
    if (report_ != nullptr) deallocate(report_, device_);
    for (void* p : constants_) deallocate(p, device_);
  }
  Checks(const Checks&) = delete;
  Checks& operator=(const Checks&) = delete;

  Report add(Raise raise) {
    if (report_ == nullptr) report_ = static_cast<std::int64_t*>(allocate_apart(kReportBytes));
    raise_.push_back(std::move(raise));
    return {report_, static_cast<std::int64_t>(raise_.size()) - 1};
  }

  const void* keep(const void* host, std::size_t bytes) {
    void* const p = allocate_apart(bytes);
    constants_.push_back(p);
    const cudaStream_t stream = default_stream(device_);
    check(cudaMemcpyAsync(p, host, bytes, cudaMemcpyHostToDevice, stream), "copy to the device");
    check(cudaStreamSynchronize(stream), "wait for a copy to the device");
    return p;
  }

  [[nodiscard]] bool is_empty() const noexcept { return raise_.empty() && constants_.empty(); }

  // Before the first replay.
  void prepare() {
    if (is_empty()) return;
    check(cudaEventCreateWithFlags(&copied_, cudaEventDisableTiming), "make an event");
    if (raise_.empty()) return;
    void* memory = nullptr;
    check(cudaHostAlloc(&memory, kReportBytes, cudaHostAllocDefault), "allocate pinned memory");
    on_host_ = static_cast<std::int64_t*>(memory);
    on_host_[0] = -1;
    must_reset_ = true;
  }

  void before_replay(cudaStream_t stream) {
    if (raise_.empty()) return;
    const std::lock_guard lock(mutex_);
    if (must_reset_) check(cudaMemsetAsync(report_, 0xff, kReportBytes, stream), "set memory");
    must_reset_ = false;
  }

  // True if there is something to be looked at later.
  bool after_replay(cudaStream_t stream) {
    const std::lock_guard lock(mutex_);
    if (!raise_.empty())
      check(cudaMemcpyAsync(on_host_, report_, kReportBytes, cudaMemcpyDeviceToHost, stream), "copy to the host");
    check(cudaEventRecord(copied_, stream), "record an event");
    return !raise_.empty();
  }

  [[nodiscard]] bool is_there() const override {
    const int state = cudaEventQuery(copied_);
    if (state != cudaSuccess) (void)cudaGetLastError();  // not ready, or an error that the next call reports as well
    return state == cudaSuccess;
  }
  void wait() const noexcept override { (void)cudaEventSynchronize(copied_); }

  // The report is that of the first failure; replays that came after it are not told apart.
  void throw_failure() override {
    std::int64_t found[3];
    {
      const std::lock_guard lock(mutex_);
      std::copy_n(on_host_, 3, found);
      if (found[0] < 0) return;
      on_host_[0] = -1;
      must_reset_ = true;
    }
    try {
      raise_[static_cast<std::size_t>(found[0])](found[2], found[1]);
    } catch (const ValueError& e) {
      throw ValueError(
          fmt::format("{} Found when a graph was replayed; the results of that replay are wrong.", e.what()));
    }
  }

 private:
  static constexpr std::size_t kReportBytes = 3 * sizeof(std::int64_t);

  // Not from the recorded stream's memory: the recorded kernels may write there, in what was free for them before.
  void* allocate_apart(std::size_t bytes) const {
    CUstream_st* const before = set_current_stream(device_, default_stream(device_));
    void* p = nullptr;
    try {
      p = allocate(bytes, device_);
    } catch (...) {
      set_current_stream(device_, before);
      throw;
    }
    set_current_stream(device_, before);
    return p;
  }

  Device device_;
  std::int64_t* report_ = nullptr;
  std::int64_t* on_host_ = nullptr;
  cudaEvent_t copied_ = nullptr;
  bool must_reset_ = false;
  std::mutex mutex_;  // threads that replayed the graph look at it
  std::vector<Raise> raise_;
  std::vector<void*> constants_;
};

namespace {

thread_local Checks* t_recording = nullptr;

Checks& checks_of_recording() {
  if (t_recording == nullptr)
    throw DeviceError(
        "[graph] the stream is recorded by other code than graph(); expected checks of values outside of it.");
  return *t_recording;
}

}  // namespace

Report recorded_check(Raise raise) { return checks_of_recording().add(std::move(raise)); }

const void* keep_constant(const void* host, std::size_t bytes, Device) {
  return checks_of_recording().keep(host, bytes);
}

// --- graphs -----------------------------------------------------------------------------------------------------------------

struct RecordedGraph::Parts {
  Parts(CUgraphExec_st* e, std::shared_ptr<Checks> c) : executable(e), checks(std::move(c)) {}
  ~Parts() {
    if (used != nullptr) {
      (void)cudaEventSynchronize(used);
      (void)cudaEventDestroy(used);
    }
    (void)cudaGraphExecDestroy(executable);
  }
  Parts(const Parts&) = delete;
  Parts& operator=(const Parts&) = delete;

  cudaGraphExec_t executable;
  std::shared_ptr<Checks> checks;  // null if it has none
  cudaEvent_t used = nullptr;      // behind the last use
  cudaStream_t last = nullptr;     // the stream of that
};

RecordedGraph::RecordedGraph() noexcept = default;
RecordedGraph::RecordedGraph(CUgraphExec_st* executable, std::shared_ptr<Checks> checks)
    : parts_(std::make_unique<Parts>(executable, std::move(checks))) {}
RecordedGraph::RecordedGraph(RecordedGraph&&) noexcept = default;
RecordedGraph& RecordedGraph::operator=(RecordedGraph&&) noexcept = default;
RecordedGraph::~RecordedGraph() = default;

RecordedGraph::Use::Use(const RecordedGraph& graph, Device device) : graph_(graph), stream_(current_stream(device)) {
  if (is_recording(stream_))
    throw DeviceError(
        "[graph] got a replay inside of a function that is being recorded; expected graphs side by side. Call the "
        "function of the inner graph itself.");
  Parts& parts = *graph_.parts_;
  if (parts.used == nullptr) check(cudaEventCreateWithFlags(&parts.used, cudaEventDisableTiming), "make an event");
  if (parts.last != nullptr && parts.last != stream_)
    check(cudaStreamWaitEvent(stream_, parts.used, 0), "wait for the last replay");
}

RecordedGraph::Use::~Use() {
  Parts& parts = *graph_.parts_;
  parts.last = stream_;
  (void)cudaEventRecord(parts.used, stream_);  // errors of the stream are reported by the next call
}

void RecordedGraph::Use::replay() const {
  throw_found();
  const std::shared_ptr<Checks>& checks = graph_.parts_->checks;
  if (checks) checks->before_replay(stream_);
  check(cudaGraphLaunch(graph_.parts_->executable, stream_), "replay a graph");
  if (checks && checks->after_replay(stream_)) look_later(checks);
}

namespace {

// The recorded work, or null after an error, which is thrown.
cudaGraph_t capture(cudaStream_t stream, const std::function<void()>& work) {
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), "begin recording");
  std::exception_ptr failure;
  try {
    work();
  } catch (...) {
    failure = std::current_exception();
  }
  cudaGraph_t recorded = nullptr;
  const int error = cudaStreamEndCapture(stream, &recorded);
  if (failure) {
    if (recorded != nullptr) (void)cudaGraphDestroy(recorded);
    (void)cudaGetLastError();
    std::rethrow_exception(failure);
  }
  check(error, "record the function");
  return recorded;
}

}  // namespace

RecordedGraph record_graph(Device device, const std::function<void()>& work) {
  const cudaStream_t stream = current_stream(device);
  keep_memory(stream, device);
  auto checks = std::make_shared<Checks>(device);
  t_recording = checks.get();
  cudaGraph_t recorded = nullptr;
  try {
    recorded = capture(stream, work);
  } catch (...) {
    t_recording = nullptr;
    throw;
  }
  t_recording = nullptr;
  cudaGraphExec_t executable = nullptr;
  const int made = cudaGraphInstantiate(&executable, recorded, 0);
  (void)cudaGraphDestroy(recorded);
  check(made, "make the recorded graph executable");
  RecordedGraph graph(executable, checks->is_empty() ? nullptr : checks);
  checks->prepare();
  return graph;
}

}  // namespace solvent::cuda
