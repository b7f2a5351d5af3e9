#pragma once
/// Recording of a stream's work and the raw handles behind stream.h. Internal to core.

#include <functional>
#include <utility>

#include "solvent/core/cuda/runtime.h"

struct CUgraphExec_st;

namespace solvent::cuda {

/// Streams of stream.h. A destroyed stream's memory goes back to the default stream.
/// @{
CUstream_st* make_stream(Device device);
void destroy_stream(CUstream_st* stream, Device device) noexcept;
void synchronize(CUstream_st* stream);
/// @}

/// Events of stream.h; record and wait concern the current stream.
/// @{
void* make_event(Device device);
void destroy_event(void* event) noexcept;
void record_event(void* event, Device device);
void wait_event(void* event, Device device);
void synchronize_event(void* event);
double milliseconds_between(void* start, void* end);
/// @}

/// What record_graph returns; owns the executable graph.
class RecordedGraph {
 public:
  RecordedGraph() noexcept = default;
  explicit RecordedGraph(CUgraphExec_st* executable) noexcept : executable_(executable) {}
  RecordedGraph(RecordedGraph&& o) noexcept : executable_(std::exchange(o.executable_, nullptr)) {}
  RecordedGraph& operator=(RecordedGraph&& o) noexcept {
    std::swap(executable_, o.executable_);
    return *this;
  }
  ~RecordedGraph();

  /// False where graphs do not exist (the emulator).
  [[nodiscard]] bool is_replayable() const noexcept { return executable_ != nullptr; }
  /// Launches it on the current stream.
  void replay(Device device) const;

 private:
  CUgraphExec_st* executable_ = nullptr;
};

/// Records what `work` gives to the current stream; nothing runs. @throws DeviceError if it cannot be recorded.
RecordedGraph record_graph(Device device, const std::function<void()>& work);

/// True while the current stream is being recorded.
bool is_recording(CUstream_st* stream);

}  // namespace solvent::cuda
