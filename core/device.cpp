#include "solvent/core/device.h"

#include <charconv>

#include <fmt/format.h>

#include "solvent/core/error.h"

#if SOLVENT_WITH_CUDA
#include "solvent/core/cuda/runtime.h"
#endif

namespace solvent {

std::string to_string(Device device) {
  return device.type == DeviceType::cpu ? "cpu" : fmt::format("cuda:{}", device.index);
}

Device parse_device(const std::string& text) {
  if (text == "cpu") return cpu_device;
  if (text == "cuda") return {DeviceType::cuda, 0};
  if (text.starts_with("cuda:")) {
    std::int16_t index = -1;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data() + 5, end, index);
    if (error == std::errc{} && stop == end && index >= 0) return {DeviceType::cuda, index};
  }
  throw DeviceError(fmt::format("[parse_device] got '{}'; expected 'cpu', 'cuda' or 'cuda:N' with N >= 0.", text));
}

namespace detail {

void require_device(const char* op, Device device) {
  if (device.type == DeviceType::cpu) {
    if (device.index != 0)
      throw DeviceError(
          fmt::format("[{}] got cpu with index {}; expected 0: there is one CPU device.", op, device.index));
    return;
  }
#if SOLVENT_WITH_CUDA
  const int count = cuda::device_count();
  if (device.index >= 0 && device.index < count) return;
  if (count == 0)
    throw DeviceError(
        fmt::format("[{}] got device {}, but there is no CUDA device: {}. Check the driver (nvidia-smi), or "
                    "use cpu.",
                    op, to_string(device), cuda::unavailable_reason()));
  throw DeviceError(fmt::format("[{}] got device {}; expected an index below {}, the number of CUDA devices.", op,
                                to_string(device), count));
#else
  throw DeviceError(
      fmt::format("[{}] got device {}, but there is no CUDA support in this build; configure with "
                  "-DSOLVENT_CUDA=ON, or use cpu.",
                  op, to_string(device)));
#endif
}

}  // namespace detail
}  // namespace solvent
