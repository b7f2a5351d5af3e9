#pragma once
/// The list of every operation, for tests and `solvent-info ops`.

#include <span>

#include "solvent/autodiff/op.h"

namespace solvent {

/// Every OpDef of the library, the basis ops of autodiff included, sorted by name.
SOLVENT_API std::span<const OpDef* const> all_ops();

}  // namespace solvent
