// Layer normalisation of rows, float64; see layer_norm-inl.h.

#include "solvent/ops/cuda/layer_norm-inl.h"

namespace solvent::cuda {

template void layer_norm(const Rows&, const double*, const double*, const double*, double, double*);
template void layer_norm_backward(const Rows&, const double*, const double*, const double*, double, double*, double*);
template void layer_norm_parameter_sums(const Rows&, const double*, const double*, const double*, double*, double*);

}  // namespace solvent::cuda
