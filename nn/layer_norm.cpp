#include "solvent/nn/layer_norm.h"

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/ops/norm.h"
#include "solvent/ops/reduce.h"

namespace solvent::nn {

LayerNorm::LayerNorm(std::int64_t features, LayerNormOptions options) : features_(features), eps_(options.eps) {
  if (features < 1) throw ValueError(fmt::format("[LayerNorm] got {} features; expected at least 1.", features));
  if (!(options.eps > 0)) throw ValueError(fmt::format("[LayerNorm] got eps = {}; expected eps > 0.", options.eps));
  if (!options.affine) return;
  weight = Parameter(ones({features}, options.dtype));
  bias = Parameter(zeros({features}, options.dtype));
}

Tensor LayerNorm::operator()(const Tensor& x) const {
  if (x.rank() < 1 || x.size(-1) != features_)
    throw ShapeError(fmt::format("[LayerNorm] got x {}; expected (..., {}).", describe(x), features_));
  return weight.defined() ? layer_norm(x, weight.value(), bias.value(), eps_) : layer_norm(x, eps_);
}

void LayerNorm::visit(Visitor& visitor) {
  visitor("weight", weight);
  visitor("bias", bias);
}

}  // namespace solvent::nn
