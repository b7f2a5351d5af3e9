// Layer normalisation of rows, float32; see layer_norm-inl.h.

#include "solvent/ops/cuda/layer_norm-inl.h"

namespace solvent::cuda {

template void layer_norm(const Rows&, const float*, const float*, const float*, double, float*);
template void layer_norm_backward(const Rows&, const float*, const float*, const float*, double, float*, float*);
template void layer_norm_parameter_sums(const Rows&, const float*, const float*, const float*, float*, float*);

}  // namespace solvent::cuda
