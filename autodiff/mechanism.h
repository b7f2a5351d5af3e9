#pragma once
/// Lists of the operations defined in autodiff/, for ops/all_ops.cpp.

#include <span>

#include "solvent/autodiff/op.h"

namespace solvent::detail {

/// add, affine, broadcast_to, permute, reshape, sum_to.
SOLVENT_API std::span<const OpDef* const> basis_ops();
/// checkpoint, custom_jvp, custom_root, custom_vjp.
SOLVENT_API std::span<const OpDef* const> mechanism_ops();

}  // namespace solvent::detail
