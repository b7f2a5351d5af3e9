#pragma once
/// The affine layer y = x W^T + b.

#include "solvent/core/rng.h"
#include "solvent/nn/init.h"
#include "solvent/nn/module.h"

namespace solvent::nn {

struct LinearOptions {
  bool bias = true;
  WeightInit init = WeightInit::fan_in_uniform;
  DType dtype = DType::float32;
};

class SOLVENT_API Linear : public Module {
 public:
  /// @throws ValueError unless both sizes are positive
  Linear(std::int64_t in_features, std::int64_t out_features, Key key, LinearOptions options = {});

  /// x (..., in) -> (..., out). @throws ShapeError, DtypeError
  Tensor operator()(const Tensor& x) const;

  [[nodiscard]] std::int64_t in_features() const { return weight.value().size(1); }
  [[nodiscard]] std::int64_t out_features() const { return weight.value().size(0); }

  void visit(Visitor& visitor) override;

  Parameter weight;  ///< (out, in)
  Parameter bias;    ///< (out), or empty
};

}  // namespace solvent::nn
