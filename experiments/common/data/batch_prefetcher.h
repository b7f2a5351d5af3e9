#pragma once
/// Batches computed ahead in the background and, for a GPU, uploaded beside the training step.

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "solvent/core/stream.h"
#include "solvent/core/tensor.h"
#include "solvent/experiments/common/data/prefetcher.h"

namespace solvent::experiments {

/// Copies tensors to a GPU from any thread, on a stream of its own; for the CPU it does nothing.
class Uploader {
 public:
  /// @throws DeviceError if this build or machine does not have the device
  explicit Uploader(Device device);

  /// Puts copies on the device in place of `tensors` on the CPU. The copies are made in stream order from pinned memory, which
  /// is kept until they have ended. They may be used on a stream that has waited for the event returned; it is null for
  /// the CPU. One thread at a time. @throws OutOfMemoryError
  std::shared_ptr<const Event> start(const std::vector<Tensor*>& tensors);

 private:
  Device device_;
  std::unique_ptr<Stream> stream_;  // null for the CPU
};

/// Delivers make(first), make(first + 1), ... as Prefetcher does, on a device. The background thread also stages its batches in
/// pinned memory and starts their copies on a stream beside the training step's; next() makes the current stream wait for the
/// copies, not the host. A batch's memory on the device may be let go of as soon as its last use has been given to the
/// stream that was current at next(). `make` runs without a device and returns tensors on the CPU; `std::vector<Tensor*>
/// tensors_of(Batch&)`, found by its argument, names them. The same bits as on the CPU.
template <class Batch>
class BatchPrefetcher {
 public:
  /// @throws DeviceError if this build or machine does not have the device
  BatchPrefetcher(std::function<Batch(std::int64_t)> make, std::int64_t first, std::int64_t depth, Device device)
      : uploader_(device),
        prefetcher_(
            [this, make = std::move(make)](std::int64_t step) {
              OnItsWay next;
              next.batch = make(step);
              next.arrived = uploader_.start(tensors_of(next.batch));
              return next;
            },
            first, depth) {}

  /// The step whose batch next() returns.
  [[nodiscard]] std::int64_t step() const { return prefetcher_.step(); }
  /// The batch of step(), which then moves on; also when `make` threw.
  Batch next() {
    OnItsWay next = prefetcher_.next();
    if (next.arrived) next.arrived->wait();
    return std::move(next.batch);
  }
  /// Forgets what was computed ahead and goes on from `step`.
  void seek(std::int64_t step) { prefetcher_.seek(step); }

 private:
  struct OnItsWay {
    Batch batch;
    std::shared_ptr<const Event> arrived;
  };

  Uploader uploader_;
  Prefetcher<OnItsWay> prefetcher_;  // last: its thread ends first
};

}  // namespace solvent::experiments
