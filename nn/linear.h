#pragma once
/// The affine layer y = x W^T + b.

#include "solvent/core/rng.h"
#include "solvent/nn/init.h"
#include "solvent/nn/module.h"

namespace solvent::nn {

/// Options of Linear.
struct LinearOptions {
  bool bias = true;                              ///< with a bias
  WeightInit init = WeightInit::fan_in_uniform;  ///< initial weights, and what becomes of the biases
  DType dtype = DType::float32;                  ///< of the parameters
};

/// y = x W^T + b on the last axis.
class SOLVENT_API Linear : public Module {
 public:
  /// @throws ValueError unless both sizes are positive
  Linear(std::int64_t in_features, std::int64_t out_features, Key key, LinearOptions options = {});

  /// x (..., in) -> (..., out). @throws ShapeError, DtypeError
  Tensor operator()(const Tensor& x) const;

  /// Extents of the last axis of x and of y.
  /// @{
  [[nodiscard]] std::int64_t in_features() const { return weight.value().size(1); }
  [[nodiscard]] std::int64_t out_features() const { return weight.value().size(0); }
  /// @}

  void visit(Visitor& visitor) override;

  Parameter weight;  ///< (out, in)
  Parameter bias;    ///< (out), or empty
};

}  // namespace solvent::nn
