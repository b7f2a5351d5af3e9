#pragma once
/// Every entry of the table of operations with bfloat16 in place of its floating inputs.

#include <set>
#include <string>

#include "solvent/core/device.h"

namespace solvent::testing {

/// Calls every entry on `device` with bfloat16 inputs. It must either compute what the CPU computes from the same values in
/// float32, up to a few roundings, values and derivatives, with results and derivatives of type bfloat16; or refuse them with
/// a DtypeError that names bfloat16. Returns the names of those that compute.
std::set<std::string> sweep_bfloat16(Device device);

}  // namespace solvent::testing
