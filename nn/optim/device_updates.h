#pragma once
/// What an optimizer's update on a GPU works on. Internal to nn/.

#include <cstdint>
#include <span>

#include "solvent/core/device.h"
#include "solvent/core/dtype.h"

namespace solvent::nn::detail {

/// One parameter: `count` dense elements at each place. States as for Optimizer::update_block.
struct DeviceUpdate {
  void* parameter = nullptr;
  const void* grad = nullptr;
  void* state[3] = {};
  std::int64_t count = 0;
};

/// Parameters of one dtype on one device that take the same step.
struct DeviceUpdates {
  Device device;
  DType dtype = DType::float32;
  std::span<const DeviceUpdate> items;
};

}  // namespace solvent::nn::detail
