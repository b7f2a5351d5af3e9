#include "solvent/ops/widen.h"

#include <algorithm>
#include <utility>

#include "solvent/core/engine/view.h"
#include "solvent/ops/cpu/elementwise.h"

#if SOLVENT_WITH_CUDA
#include "solvent/ops/cuda/elementwise.h"
#endif

namespace solvent::detail {
namespace {

Tensor converted(Tensor x, DType dtype) {
  const CastAttrs attrs(dtype);
  Tensor inputs[] = {std::move(x)};
#if SOLVENT_WITH_CUDA
  if (!(inputs[0].device() == cpu_device)) return std::move(cuda::cast(inputs, &attrs)[0]);
#endif
  return std::move(cpu::cast(inputs, &attrs)[0]);
}

}  // namespace

Tensor widened(const Tensor& x) {
  const int rank = x.rank();
  int order[kMaxRank];  // of axes, the largest stride first
  for (int i = 0; i < rank; ++i) {
    int at = i;
    for (; at > 0 && x.strides()[order[at - 1]] < x.strides()[i]; --at) order[at] = order[at - 1];
    order[at] = i;
  }
  Shape shape = x.shape();  // sorted, each element once
  Strides strides = x.strides();
  for (int i = 0; i < rank; ++i) {
    strides[i] = x.strides()[order[i]];
    shape[i] = strides[i] == 0 && x.numel() > 0 ? 1 : x.shape()[order[i]];
  }
  const Tensor wide = converted(engine::view(x, shape, strides, x.impl()->offset), float32);
  Strides of_axis = x.strides();
  for (int i = 0; i < rank; ++i) of_axis[order[i]] = strides[i] == 0 ? 0 : wide.strides()[i];
  return engine::view(wide, x.shape(), of_axis, wide.impl()->offset);
}

Tensor narrowed(Tensor x) { return converted(std::move(x), bfloat16); }

}  // namespace solvent::detail
