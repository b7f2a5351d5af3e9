#include "solvent/experiments/common/device_option.h"

#include "solvent/core/error.h"
#include "solvent/experiments/common/errors.h"

namespace solvent::experiments {

Option& add_device(Options& options, std::string* target) {
  return options.add("device", target, "where tensors live: cpu, cuda or cuda:N").transient();
}

Device open_device(const std::string& text) {
  try {
    const Device device = parse_device(text);
    detail::require_device("--device", device);
    return device;
  } catch (const DeviceError& e) {
    throw UsageError(e.what());
  }
}

}  // namespace solvent::experiments
