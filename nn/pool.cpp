#include "solvent/nn/pool.h"

#include "solvent/core/error.h"

namespace solvent::nn {

Tensor Flatten::operator()(const Tensor& x) const {
  if (x.rank() < 1) throw ShapeError("[Flatten] got a 0-d tensor; expected (N, ...). Use reshape.");
  std::int64_t rest = 1;
  for (int i = 1; i < x.rank(); ++i) rest *= x.size(i);
  return reshape(x, {x.size(0), rest});
}

}  // namespace solvent::nn
