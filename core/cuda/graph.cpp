// Streams, events and CUDA graphs. A graph is recorded in relaxed mode, so that the allocator may ask the device for memory;
// the memory belongs to the graph's own stream and is reused only there (see allocator.cpp), hence stays private to it.

#include "solvent/core/cuda/graph.h"

#include <exception>

#include <cuda_runtime.h>

#include "solvent/core/cuda/allocator.h"
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
  give_back_memory(stream, device);
  (void)cudaStreamDestroy(stream);
}

void synchronize(CUstream_st* stream) { check(cudaStreamSynchronize(stream), "wait for the stream"); }

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

#if SOLVENT_CUDA_EMULATED

RecordedGraph::~RecordedGraph() = default;
void RecordedGraph::replay(Device) const {}
RecordedGraph record_graph(Device, const std::function<void()>& work) {
  work();
  return {};
}

#else

RecordedGraph::~RecordedGraph() {
  if (executable_ != nullptr) (void)cudaGraphExecDestroy(executable_);
}

void RecordedGraph::replay(Device device) const {
  check(cudaGraphLaunch(executable_, current_stream(device)), "replay a graph");
}

RecordedGraph record_graph(Device device, const std::function<void()>& work) {
  const cudaStream_t stream = current_stream(device);
  if (is_recording(stream))
    throw DeviceError(
        "[graph] got a call inside of a function that is being recorded; expected graphs side by side. "
        "Call the inner function itself.");
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
  check(error, "record the function; it may not read values on the host");
  cudaGraphExec_t executable = nullptr;
  const int made = cudaGraphInstantiate(&executable, recorded, 0);
  (void)cudaGraphDestroy(recorded);
  check(made, "make the recorded graph executable");
  return RecordedGraph(executable);
}

#endif

}  // namespace solvent::cuda
