#pragma once
/// Recording of a stream's work and the raw handles behind stream.h. Internal to core.

#include <cstddef>
#include <functional>
#include <memory>
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

class Checks;

/// What record_graph returns; owns the executable graph.
class RecordedGraph {
 public:
  RecordedGraph() noexcept = default;
  RecordedGraph(CUgraphExec_st* executable, std::shared_ptr<Checks> checks) noexcept
      : executable_(executable), checks_(std::move(checks)) {}
  RecordedGraph(RecordedGraph&& o) noexcept
      : executable_(std::exchange(o.executable_, nullptr)), checks_(std::move(o.checks_)) {}
  RecordedGraph& operator=(RecordedGraph&& o) noexcept {
    std::swap(executable_, o.executable_);
    std::swap(checks_, o.checks_);
    return *this;
  }
  ~RecordedGraph();

  /// Launches it on the current stream. @throws ValueError for what a check of an earlier replay found (checks.h)
  void replay(Device device) const;

 private:
  CUgraphExec_st* executable_ = nullptr;
  std::shared_ptr<Checks> checks_;  // null if it has none
};

/// A copy of the host's bytes in device memory that lives as long as the graph that this thread records.
const void* keep_constant(const void* host, std::size_t bytes, Device device);

/// Records what `work` gives to the current stream, which is not the device's default one; nothing runs. The stream's memory
/// is kept for the graph from then on.
/// @throws DeviceError if it cannot be recorded.
RecordedGraph record_graph(Device device, const std::function<void()>& work);

}  // namespace solvent::cuda
