#pragma once
/// Exponential moving averages of weights, for evaluation (Polyak and Juditsky 1992).

#include <string>
#include <vector>

#include "solvent/nn/module.h"

namespace solvent::nn {

/// Options of Ema.
struct EmaOptions {
  double decay = 0.999;  ///< weight of the old average in an update
  /// false: the first update copies the weights (as PyTorch's AveragedModel with get_ema_multi_avg_fn).
  /// true: averages start at zero and values() are divided by 1 - decay^updates, so that early ones are true weighted means.
  bool bias_correction = false;
};

/// The lifetime of averaged weights in a module.
class SOLVENT_API EmaScope {
 public:
  /// Assigns `values` to the slots and remembers what they held.
  EmaScope(ParameterList slots, const Tensors& values);
  ~EmaScope();
  EmaScope(const EmaScope&) = delete;
  EmaScope& operator=(const EmaScope&) = delete;

 private:
  ParameterList slots_;
  Tensors saved_;
};

/// average <- decay average + (1 - decay) weight, for every parameter of a module.
///
///     nn::Ema ema(model, {.decay = 0.9995});
///     ...
///     optimizer.step(model, grads);
///     ema.update(model);
///     ...
///     { const nn::EmaScope averaged = ema.applied_to(model);  evaluate(model); }   // then the weights are back
///
/// A module itself, with the averages as buffers and no parameters: it is saved, loaded and converted like any other.
/// Buffers of the model (running statistics) are not averaged.
class SOLVENT_API Ema : public Module {
 public:
  /// The averages are the module's weights until the first update. @throws ValueError unless 0 <= decay < 1
  explicit Ema(Module& module, EmaOptions options = {});

  /// To be called after every step of the optimizer.
  /// @throws ShapeError, DtypeError if `module` has other parameters than the one the averages were made for
  void update(Module& module);

  /// The averages, parallel to module.parameters().
  [[nodiscard]] Tensors values() const;
  /// How many updates there were.
  [[nodiscard]] std::int64_t updates() const;

  /// Puts the averages into the module's slots until the returned object is destroyed, which puts back what was there
  /// before; what was assigned in between is lost. @throws as update; AutodiffError for slots in use by nn::value_and_grad
  [[nodiscard]] EmaScope applied_to(Module& module) const;
  /// Puts the averages into the module's slots for good. @throws as applied_to
  void copy_to(Module& module) const;

  void visit(Visitor& visitor) override;

 private:
  void check(const char* op, const ParameterList& parameters) const;

  EmaOptions options_;
  std::vector<std::string> names_;
  std::vector<Buffer> averages_;
  Buffer updates_;  // int64()
};

}  // namespace solvent::nn
