// Softmax, log_softmax, logsumexp and cross entropy of rows, float32; see softmax-inl.h.

#include "solvent/ops/cuda/softmax-inl.h"

namespace solvent::cuda {

template void softmax(const Rows&, const float*, float*);
template void log_softmax(const Rows&, const float*, float*);
template void logsumexp(const Rows&, const float*, float*);
template void softmax_backward(const Rows&, const float*, const float*, float*);
template void cross_entropy(const Rows&, const float*, const std::int64_t*, float*);
template void cross_entropy_backward(const Rows&, float, const float*, const std::int64_t*, float*);

}  // namespace solvent::cuda
