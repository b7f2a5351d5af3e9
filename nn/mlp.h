#pragma once
/// The multi-layer perceptron.

#include <vector>

#include "solvent/nn/activation.h"
#include "solvent/nn/linear.h"

namespace solvent::nn {

/// Options of Mlp.
struct MlpOptions {
  Activation activation = Activation::relu;             ///< between the layers
  Activation output_activation = Activation::identity;  ///< after the last one
  bool bias = true;                                     ///< of every layer
  WeightInit init = WeightInit::fan_in_uniform;         ///< initial weights
  DType dtype = DType::float32;                         ///< of the parameters
};

/// Linear layers with an activation between them.
class SOLVENT_API Mlp : public Module {
 public:
  /// `sizes` are the widths from input to output: {6, 32, 5} makes two layers. @throws ValueError for fewer than two
  Mlp(const std::vector<std::int64_t>& sizes, Key key, MlpOptions options = {});

  /// x (..., sizes.front()) -> (..., sizes.back()). @throws ShapeError, DtypeError
  Tensor operator()(const Tensor& x) const;

  void visit(Visitor& visitor) override;

  std::vector<Linear> layers;  ///< from input to output

 private:
  Activation activation_;
  Activation output_activation_;
};

}  // namespace solvent::nn
