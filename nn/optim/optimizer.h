#pragma once
/// What all optimizers share: they take parameter slots and a parallel list of gradients.

#include <cstdint>
#include <string>
#include <vector>

#include "solvent/nn/module.h"

namespace solvent::nn {

/// Base of SGD, Adam and AdamW.
///
/// A step checks everything and allocates what it needs before it writes, so a step that throws leaves parameters and
/// state as they were. Each parameter is updated by one fused pass over memory, in place when no one else holds the old
/// value. The same bits for any number of threads.
class SOLVENT_API Optimizer {
 public:
  virtual ~Optimizer();

  /// Updates the slots. The list must have the same length and order at every step.
  /// @throws ShapeError, DtypeError, DeviceError if a gradient does not fit its parameter; AutodiffError for
  /// differentiated gradients or slots in use by nn::value_and_grad
  void step(const ParameterList& parameters, const Tensors& grads);
  void step(Module& module, const Tensors& grads) { step(module.parameters(), grads); }

  /// Number of steps taken.
  [[nodiscard]] std::int64_t steps() const noexcept { return steps_; }
  [[nodiscard]] double learning_rate() const noexcept { return learning_rate_; }
  /// For schedules: `optimizer.set_learning_rate(schedule(optimizer.steps()))`.
  /// @throws ValueError unless finite and >= 0
  void set_learning_rate(double rate);

  /// Everything that a bit-exact continuation needs besides the options: "step", "learning_rate", and "<name>.<i>" for
  /// parameter i.
  [[nodiscard]] StateDict state_dict() const;
  /// @throws ValueError listing missing, unexpected and mis-typed entries; nothing is changed then
  void load_state_dict(const StateDict& state);

 protected:
  Optimizer(std::string name, double learning_rate, std::vector<std::string> state_names);
  Optimizer(const Optimizer&) = default;
  Optimizer(Optimizer&&) = default;
  Optimizer& operator=(const Optimizer&) = default;
  Optimizer& operator=(Optimizer&&) = default;

  /// The update of `count` elements starting at the pointers; `state` in the order of the state names. Called from
  /// several threads on different blocks. Must not throw.
  virtual void update_block(float* parameter, const float* grad, float* const* state,
                            std::int64_t count) const noexcept = 0;
  virtual void update_block(double* parameter, const double* grad, double* const* state,
                            std::int64_t count) const noexcept = 0;
  /// Called once per step before the updates, with the number of this step (1 for the first).
  virtual void begin_step(std::int64_t step) noexcept = 0;

 private:
  void check(const ParameterList& parameters, const Tensors& grads) const;
  template <class T>
  static void update_all(const Optimizer& optimizer, Tensor& value, const Tensor& grad,
                         std::vector<Tensor>& state) noexcept;

  std::string name_;
  double learning_rate_;
  std::int64_t steps_ = 0;
  std::vector<std::string> state_names_;
  std::vector<std::vector<Tensor>> state_;  // [parameter][state name]
};

}  // namespace solvent::nn
