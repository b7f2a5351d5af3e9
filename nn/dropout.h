#pragma once
/// Dropout as a layer.

#include "solvent/core/rng.h"
#include "solvent/nn/module.h"

namespace solvent::nn {

/// What Dropout drops.
enum class DropoutKind : std::uint8_t {
  elements,  ///< single elements
  channels,  ///< whole channels of each sample, x (N, C, ...)
};

/// In training drops with probability p and scales the rest by 1 / (1 - p); in evaluation the identity.
///
/// There is no hidden generator: a call in training takes the Key of its mask. Key = f(seed, step), so that a resumed run and
/// a checkpoint's replay draw the same masks.
class SOLVENT_API Dropout : public Module {
 public:
  /// @throws ValueError unless 0 <= p <= 1
  explicit Dropout(double p = 0.5, DropoutKind kind = DropoutKind::elements);

  /// Same shape. @throws as dropout and channel_dropout (ops/norm.h)
  Tensor operator()(const Tensor& x, Key key) const;
  /// Without a key: in evaluation, or for p = 0. @throws ValueError in training
  Tensor operator()(const Tensor& x) const;

  void visit(Visitor&) override {}

 private:
  double p_;
  DropoutKind kind_;
};

}  // namespace solvent::nn
