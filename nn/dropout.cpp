#include "solvent/nn/dropout.h"

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/ops/norm.h"

namespace solvent::nn {

Dropout::Dropout(double p, DropoutKind kind) : p_(p), kind_(kind) {
  if (!(p >= 0 && p <= 1))
    throw ValueError(fmt::format("[Dropout] got p = {}; expected the probability of dropping, 0 <= p <= 1.", p));
}

Tensor Dropout::operator()(const Tensor& x, Key key) const {
  if (!is_training() || p_ == 0) return x;
  return kind_ == DropoutKind::elements ? dropout(x, p_, key) : channel_dropout(x, p_, key);
}

Tensor Dropout::operator()(const Tensor& x) const {
  if (is_training() && p_ > 0)
    throw ValueError(
        fmt::format("[Dropout] got no Key in training with p = {}; expected one for the mask. Call layer(x, "
                    "key.fold_in(step)), or set_training(false) for evaluation.",
                    p_));
  return x;
}

}  // namespace solvent::nn
