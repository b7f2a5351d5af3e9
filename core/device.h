#pragma once
/// Where a tensor lives.

#include <cstdint>
#include <string>

#include "solvent/core/export.h"

namespace solvent {

/// Kinds of devices.
enum class DeviceType : std::uint8_t { cpu, cuda };

/// A device: the CPU, or one GPU by its index.
struct Device {
  DeviceType type = DeviceType::cpu;  ///< kind of device
  std::int16_t index = 0;             ///< which GPU; 0 for the CPU

  friend constexpr bool operator==(Device, Device) = default;
};

/// The CPU, where tensors live unless told otherwise.
inline constexpr Device cpu_device{};

/// "cpu" or "cuda:0".
SOLVENT_API std::string to_string(Device device);

/// Parses "cpu", "cuda" or "cuda:N". @throws DeviceError with the accepted forms.
SOLVENT_API Device parse_device(const std::string& text);

namespace detail {
/// Returns if this build and machine have the device. @throws DeviceError naming `op` and the remedy.
SOLVENT_API void require_device(const char* op, Device device);
}  // namespace detail

}  // namespace solvent
