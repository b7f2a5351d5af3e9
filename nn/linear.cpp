#include "solvent/nn/linear.h"

#include <cmath>

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/linalg.h"
#include "solvent/ops/shape_ops.h"

namespace solvent::nn {

Linear::Linear(std::int64_t in_features, std::int64_t out_features, Key key, LinearOptions options) {
  if (in_features < 1 || out_features < 1)
    throw ValueError(
        fmt::format("[Linear] got {} inputs and {} outputs; expected at least 1 of each.", in_features, out_features));
  weight = Parameter(make_weight(options.init, key.fold_in(0), {out_features, in_features}, options.dtype));
  if (!options.bias) return;
  if (options.init == WeightInit::fan_in_uniform) {
    const double bound = 1.0 / std::sqrt(static_cast<double>(in_features));
    bias = Parameter(init::uniform(key.fold_in(1), {out_features}, bound, options.dtype));
  } else {
    bias = Parameter(zeros({out_features}, options.dtype));
  }
}

Tensor Linear::operator()(const Tensor& x) const {
  if (x.rank() < 1 || x.size(-1) != in_features())
    throw ShapeError(fmt::format("[Linear] got x {}; expected (..., {}), the inputs of a layer with weight {}.",
                                 describe(x), in_features(), to_string(weight.value().shape())));
  Tensor y = matmul(x, mT(weight.value()));
  return bias.defined() ? std::move(y) + bias.value() : y;
}

void Linear::visit(Visitor& visitor) {
  visitor("weight", weight);
  visitor("bias", bias);
}

}  // namespace solvent::nn
