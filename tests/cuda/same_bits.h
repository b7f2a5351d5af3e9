#pragma once
/// Comparing a result on the GPU with the CPU's, bit by bit.

#include <cstring>

#include "solvent/core/tensor.h"
#include "solvent/ops/shape_ops.h"

namespace solvent::testing {

/// True if both have one dtype, one shape and the same bits, wherever they live.
inline bool same_bits(const Tensor& a, const Tensor& b) {
  if (a.dtype() != b.dtype() || !(a.shape() == b.shape())) return false;
  const Tensor x = contiguous(to(a, cpu_device));
  const Tensor y = contiguous(to(b, cpu_device));
  bool same = true;
  dispatch_all(x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    same =
        x.numel() == 0 || std::memcmp(x.data<T>(), y.data<T>(), static_cast<std::size_t>(x.numel()) * sizeof(T)) == 0;
  });
  return same;
}

}  // namespace solvent::testing
