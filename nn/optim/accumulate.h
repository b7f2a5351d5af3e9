#pragma once
/// Gradients of several batches as one: large batches in little memory.

#include <string>
#include <vector>

#include "solvent/nn/module.h"

namespace solvent::nn {

/// Weighted mean (or sum) of gradients.
///
///     nn::GradientAccumulator accumulated(model);
///     for (const Batch& batch : batches) {
///       accumulated.add(nn::value_and_grad(model, loss_of(batch)).grads);
///       if (accumulated.count() == 4) optimizer.step(model, accumulated.take_mean());
///     }
///
/// Equal to the gradient of the mean over all batches if each is weighted by its number of samples. A module itself, with
/// the sums as buffers and no parameters, so that a run can be saved between two batches.
class SOLVENT_API GradientAccumulator : public Module {
 public:
  /// Sums start at zero, one per parameter of `module`.
  explicit GradientAccumulator(Module& module);

  /// Adds weight * grads. @throws ShapeError, DtypeError if a gradient does not fit its parameter; AutodiffError for
  /// differentiated ones; ValueError unless weight > 0
  void add(const Tensors& grads, double weight = 1.0);
  /// Number of gradients added since the last take.
  [[nodiscard]] std::int64_t count() const;
  /// Sum of weight * grads, or that divided by the sum of weights; and starts again from zero.
  /// @throws ValueError if nothing was added
  /// @{
  [[nodiscard]] Tensors take_sum();
  [[nodiscard]] Tensors take_mean();
  /// @}

  void visit(Visitor& visitor) override;

 private:
  std::vector<std::string> names_;
  std::vector<Buffer> sums_;
  Buffer count_;   // int64()
  Buffer weight_;  // float64(), sum of the weights
};

}  // namespace solvent::nn
