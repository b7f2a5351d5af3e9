#pragma once
/// Recording of a stream's work and the raw handles behind stream.h. Internal to core.

#include <cstddef>
#include <functional>
#include <memory>

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
  RecordedGraph() noexcept;
  RecordedGraph(CUgraphExec_st* executable, std::shared_ptr<Checks> checks);
  RecordedGraph(RecordedGraph&&) noexcept;
  RecordedGraph& operator=(RecordedGraph&&) noexcept;
  /// Waits for the last use.
  ~RecordedGraph();

  /// A use of the graph's memory on the stream that is current meanwhile: writes of inputs, a replay, reads of results. Waits for
  /// the last use if that was on another stream; the host goes on.
  class Use {
   public:
    Use(const RecordedGraph& graph, Device device);
    ~Use();
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

    /// Launches the graph. @throws ValueError for what a check of an earlier replay found (checks.h)
    void replay() const;

   private:
    const RecordedGraph& graph_;
    CUstream_st* stream_;
  };

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

/// A copy of the host's bytes in device memory that lives as long as the graph that this thread records.
const void* keep_constant(const void* host, std::size_t bytes, Device device);

/// Records what `work` gives to the current stream, which is not the device's default one; nothing runs. The stream's memory
/// is kept for the graph from then on.
/// @throws DeviceError if it cannot be recorded.
RecordedGraph record_graph(Device device, const std::function<void()>& work);

}  // namespace solvent::cuda
