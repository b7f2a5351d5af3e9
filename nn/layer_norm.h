#pragma once
/// Layer normalisation (Ba et al. 2016, arXiv:1607.06450).

#include "solvent/nn/module.h"

namespace solvent::nn {

/// Options of LayerNorm.
struct LayerNormOptions {
  double eps = 1e-5;             ///< added to the variance (PyTorch's default)
  bool affine = true;            ///< with scale and shift
  DType dtype = DType::float32;  ///< of the parameters
};

/// (x - mean) / sqrt(var + eps) over the last axis, then scale and shift.
class SOLVENT_API LayerNorm : public Module {
 public:
  /// Scale 1, shift 0. @throws ValueError unless `features` is positive
  explicit LayerNorm(std::int64_t features, LayerNormOptions options = {});

  /// x (..., features) -> same shape. @throws ShapeError, DtypeError
  Tensor operator()(const Tensor& x) const;

  void visit(Visitor& visitor) override;

  Parameter weight;  ///< (features), or empty
  Parameter bias;    ///< (features), or empty

 private:
  std::int64_t features_;
  double eps_;
};

}  // namespace solvent::nn
