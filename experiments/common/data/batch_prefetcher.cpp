#include "solvent/experiments/common/data/batch_prefetcher.h"

#include "solvent/ops/shape_ops.h"

namespace solvent::experiments {

Uploader::Uploader(Device device) : device_(device) {
  if (device != cpu_device) stream_ = std::make_unique<Stream>(device);
}

std::shared_ptr<const Event> Uploader::start(const std::vector<Tensor*>& tensors) {
  if (!stream_) return nullptr;
  // Memory on the device belongs to this stream: the allocator orders its reuse behind the streams on which batches are freed.
  const StreamGuard guard(*stream_);
  for (Tensor* const t : tensors) *t = to(pin_memory(*t), device_);
  auto arrived = std::make_shared<Event>(device_);
  arrived->record();
  return arrived;
}

}  // namespace solvent::experiments
