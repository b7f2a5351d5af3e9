#pragma once
/// The choke point: every operation of the library is a call of `apply`.
///
/// With no transform active its cost is one null test per input. Otherwise it peels the innermost active level off the
/// inputs, applies the operation to what is below, and lets that level's rule act (Siskind & Pearlmutter's tagging, as
/// in JAX's autodidax): perturbations of different transforms cannot be confused.

#include <utility>

#include "solvent/autodiff/op.h"

namespace solvent {

/// Calls `op`. `inputs` may be moved from. @throws DeviceError if inputs live on different devices or the build has no
/// kernel there; AutodiffError for tensors that escaped their transform or were captured by an implicit function.
SOLVENT_API TensorVec apply(const OpDef& op, std::span<Tensor> inputs, const Attrs* attrs = nullptr);

/// One-output convenience: `return apply1(kAdd, nullptr, std::move(a), std::move(b));`
template <class... T>
Tensor apply1(const OpDef& op, const Attrs* attrs, T... inputs) {
  Tensor in[] = {std::move(inputs)...};
  return std::move(apply(op, in, attrs)[0]);
}

/// `x` without derivative information: a constant for every active transform. Use it for diagnostics and convergence
/// tests inside differentiated functions; there is no gradient mode to switch off.
SOLVENT_API Tensor stop_gradient(const Tensor& x);

/// True if some active transform is differentiating `x`.
SOLVENT_API bool is_differentiated(const Tensor& x) noexcept;

/// True while any transform is active on this thread (so that a function might capture a differentiated tensor).
SOLVENT_API bool transform_active() noexcept;

}  // namespace solvent
