#pragma once
/// Operands that tangents share. Internal to ops/cpu.

#include "solvent/core/engine/view.h"

namespace solvent::cpu {

/// A tensor whose leading axes are broadcast (stride 0), as values that K directions share: the distinct part, dense, and
/// its number of elements. Element i of the whole is element i % count of the part.
struct Repeated {
  Tensor part;
  std::int64_t count = 0;
};

/// `kept` axes on the right stay as they are.
inline Repeated distinct_part(const Tensor& t, int kept) {
  Shape shape = t.shape();
  Strides strides = t.strides();
  while (shape.rank() > kept && t.numel() > 0 && (strides[0] == 0 || shape[0] == 1)) {
    shape.erase(0);
    strides.erase(0);
  }
  Tensor part = engine::contiguous(shape.rank() == t.rank() ? t : engine::view(t, shape, strides, t.impl()->offset));
  return {part, part.numel()};
}

}  // namespace solvent::cpu
