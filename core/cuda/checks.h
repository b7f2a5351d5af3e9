#pragma once
/// Checks of values that only the device knows: indices, pivots. Internal to the library.
///
/// Outside of graphs the host waits for the answer and throws at once. While a graph is being recorded nothing can be waited
/// for, so the recorded kernels write the first failure to the recording's report, and each replay copies that to the host in
/// stream order. It is thrown by the next call of the replaying thread that waits for the device (copy_to_host, synchronize
/// and what is built on them) or replays the graph. So kernels that follow a recorded check must be safe without it.

#include <cstdint>
#include <functional>

#include "solvent/core/device.h"
#include "solvent/core/export.h"

namespace solvent::cuda {

/// Throws ValueError for what a check found: a number, and where.
using Raise = std::function<void(std::int64_t value, std::int64_t position)>;

/// Where a recorded check reports. `first` points to three numbers on the device: the number of the first check that failed
/// (negative as long as none has), the position and the value. Kernels leave a report that exists as it is.
struct Report {
  std::int64_t* first = nullptr;
  std::int64_t number = 0;
};

/// A check in the graph that this thread records on the current stream of `device`; `raise` is kept for its replays. It must
/// not refer to what may be gone by then. @throws DeviceError if the stream is recorded by others than record_graph
SOLVENT_API Report recorded_check(Device device, Raise raise);

/// Throws the oldest failure of this thread's replays that the device has finished, if there is one.
SOLVENT_API void throw_found();

}  // namespace solvent::cuda
