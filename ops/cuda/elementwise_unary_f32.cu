#include "solvent/ops/cuda/elementwise_unary-inl.h"

namespace solvent::cuda {
template Tensor unary_float<float>(functor::UnaryFn, Tensor&, functor::Params);
}  // namespace solvent::cuda
