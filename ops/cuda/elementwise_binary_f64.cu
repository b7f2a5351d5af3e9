#include "solvent/ops/cuda/elementwise_binary-inl.h"

namespace solvent::cuda {
template Tensor binary_float<double>(functor::BinaryFn, Tensor&, Tensor&, functor::Params);
}  // namespace solvent::cuda
