#pragma once
/// What an optimizer's update on a GPU works on. Internal to nn/.

#include <cstdint>
#include <span>

#include "solvent/core/device.h"
#include "solvent/core/dtype.h"

namespace solvent::nn::detail {

/// One parameter: `count` dense elements at each place. States as for Optimizer::update_block. What is read is what is
/// written, unless old_* say otherwise; those do not overlap what is written.
struct DeviceUpdate {
  void* parameter = nullptr;
  const void* grad = nullptr;
  void* state[3] = {};
  std::int64_t count = 0;
  const void* old_parameter = nullptr;
  const void* old_state[3] = {};
};

/// Parameters of one dtype on one device that take the same step.
struct DeviceUpdates {
  Device device;
  DType dtype = DType::float32;
  std::span<const DeviceUpdate> items;
};

}  // namespace solvent::nn::detail
