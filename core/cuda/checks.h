#pragma once
/// Checks of values that only the device knows: indices, pivots. Internal to the library.
///
/// The host does not wait for them. The kernels of a check write what they found to a report, which the host looks at when the
/// device is past it: at the next call of the same thread that waits for the device (copy_to_host, synchronize and what is
/// built on them), at the thread's next check, or where it replays a graph. There the ValueError is thrown, once; findings
/// that fail together are one error with the first one's text. What a thread leaves when it ends is thrown by the next such
/// call of any thread, and what is left when the program ends is printed. With SOLVENT_CUDA_DEBUG=1 a check is waited for at once.
/// So kernels that follow a check must be safe without it.
///
/// Checks that a graph records report to the recording, and each replay copies that to the host in stream order.

#include <cstdint>
#include <functional>
#include <memory>

#include "solvent/core/device.h"
#include "solvent/core/export.h"

namespace solvent::cuda {

/// Throws ValueError for what a check found: a number, and where.
using Raise = std::function<void(std::int64_t value, std::int64_t position)>;

/// Where a check reports. `first` points to three numbers that the device can write: the number of the first check that failed
/// (negative as long as none has), the position and the value. Kernels leave a report that exists as it is.
struct Report {
  std::int64_t* first = nullptr;
  std::int64_t number = 0;
};

/// A check on the current stream of `device`: `launch` gives it the kernels that write to the report. `raise` is kept until
/// the outcome is known, in a graph for its replays, and must not refer to what may be gone by then.
/// @throws ValueError for what an earlier check found; DeviceError if the stream is recorded by others than record_graph
SOLVENT_API void add_check(Device device, Raise raise, const std::function<void(const Report&)>& launch);

/// Throws what this thread's checks and replays, as far as the device has finished them, have found since the last call.
SOLVENT_API void throw_found();

/// What a device will have found when it gets to some point of its work.
class Finding {
 public:
  virtual ~Finding() = default;
  /// True when the device is past that point; wait() returns then.
  /// @{
  [[nodiscard]] virtual bool is_there() const = 0;
  virtual void wait() const noexcept = 0;
  /// @}
  /// Throws ValueError if a check failed, once. Only when it is there.
  virtual void throw_failure() = 0;
};

/// throw_found of this thread will look at it, once, also if it is given again before.
void look_later(std::shared_ptr<Finding> finding);

/// The report of a check in the graph that this thread records (graph.cpp).
Report recorded_check(Raise raise);

}  // namespace solvent::cuda
