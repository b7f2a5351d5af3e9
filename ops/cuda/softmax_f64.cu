// Softmax, log_softmax, logsumexp and cross entropy of rows, float64; see softmax-inl.h.

#include "solvent/ops/cuda/softmax-inl.h"

namespace solvent::cuda {

template void softmax(const Rows&, const double*, double*);
template void log_softmax(const Rows&, const double*, double*);
template void logsumexp(const Rows&, const double*, double*);
template void softmax_backward(const Rows&, const double*, const double*, double*);
template void cross_entropy(const Rows&, const double*, const std::int64_t*, double*);
template void cross_entropy_backward(const Rows&, double, const double*, const std::int64_t*, double*);

}  // namespace solvent::cuda
