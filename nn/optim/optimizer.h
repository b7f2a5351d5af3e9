#pragma once
/// What all optimizers share: they take parameter slots and a parallel list of gradients.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "solvent/nn/module.h"

namespace solvent::nn {

namespace detail {
struct DeviceUpdate;
struct DeviceUpdates;
}  // namespace detail

/// Chooses parameters by their name in a module ("encoder.layers.0.weight") and by what they hold.
using ParameterSelector = std::function<bool(const std::string& name, const Parameter& parameter)>;

/// Names that begin with `prefix`, e.g. "encoder.".
SOLVENT_API ParameterSelector name_starts_with(std::string prefix);
/// Names that end with `suffix`, e.g. "bias".
SOLVENT_API ParameterSelector name_ends_with(std::string suffix);
/// Tensors of at most that rank: 1 chooses biases and scales.
SOLVENT_API ParameterSelector rank_at_most(int rank);

/// Parameters that are trained differently from the rest. What is not set is as in the optimizer's options.
struct ParameterGroup {
  std::string name;                          ///< for learning_rate, set_learning_rate and set_frozen
  ParameterSelector selects = {};            ///< which parameters belong to it
  double rate_multiplier = 1.0;              ///< times the optimizer's learning rate
  std::optional<double> learning_rate = {};  ///< instead of the optimizer's; the multiplier does not apply to it
  std::optional<double> weight_decay = {};   ///< instead of the optimizer's
  bool frozen = false;                       ///< not updated; its gradients are not looked at and may be empty handles
};

/// Base of Sgd, Adam, AdamW and Adamax.
///
/// A step checks everything and allocates what it needs before it writes, so a step that throws leaves parameters and
/// state as they were. Each parameter is updated by one fused pass over memory, in place when no one else holds the old
/// value. The same bits for any number of threads. Parameters on a GPU that take the same step share a kernel launch; their
/// states live beside them.
class SOLVENT_API Optimizer {
 public:
  virtual ~Optimizer();

  /// Updates the slots. The list must have the same length and order at every step.
  /// @throws ShapeError, DtypeError, DeviceError if a gradient does not fit its parameter; AutodiffError for
  /// differentiated gradients or slots in use by nn::value_and_grad
  void step(const ParameterList& parameters, const Tensors& grads);
  /// The same for all parameters of a module.
  void step(Module& module, const Tensors& grads) { step(module.parameters(), grads); }

  /// Number of steps taken.
  [[nodiscard]] std::int64_t steps() const noexcept { return steps_; }
  /// Rate of the parameters without a group.
  [[nodiscard]] double learning_rate() const noexcept { return learning_rate_; }
  /// For schedules: `optimizer.set_learning_rate(schedule(optimizer.steps()))`. Groups with a rate of their own keep it.
  /// @throws ValueError unless finite and >= 0
  void set_learning_rate(double rate);

  /// Divides the parameters of `module` into groups; each belongs to the first group that selects it, or to none. Groups
  /// are remembered by position in `module.parameters()`, so pass that list, or one like it, to `step`. May be called
  /// again at any time. Like the other options, groups are not part of the state; their own learning rates are.
  ///
  ///     optimizer.set_groups(model, {{.name = "encoder", .selects = nn::name_starts_with("encoder."), .frozen = true},
  ///                                  {.name = "no decay", .selects = nn::rank_at_most(1), .weight_decay = 0.0}});
  ///
  /// @throws ValueError for a group that is empty or has no name of its own, and for numbers that are negative or not finite
  void set_groups(Module& module, std::vector<ParameterGroup> groups);
  /// Rate of a group. @throws ValueError for unknown names, listing the known ones
  [[nodiscard]] double learning_rate(const std::string& group) const;
  /// Gives a group a rate of its own. @throws ValueError for unknown names; unless finite and >= 0
  void set_learning_rate(const std::string& group, double rate);
  /// Freezes or thaws a group. Its moments and step counts rest meanwhile. @throws ValueError for unknown names
  void set_frozen(const std::string& group, bool frozen);

  /// Everything that a bit-exact continuation needs besides the options: "step", "learning_rate", "parameter_steps" (how
  /// often each parameter was updated), "group_rates" if there are groups (NaN: follows the learning rate), and "<name>.<i>"
  /// for parameter i, if it was ever updated.
  [[nodiscard]] StateDict state_dict() const;
  /// @throws ValueError listing missing, unexpected and mis-typed entries; nothing is changed then
  void load_state_dict(const StateDict& state);

 protected:
  /// What an update of one parameter depends on besides its elements.
  struct StepContext {
    std::int64_t step = 1;     ///< number of this update of this parameter, from 1
    double learning_rate = 0;  ///< of the parameter's group
    double weight_decay = 0;   ///< of the parameter's group
    friend bool operator==(const StepContext&, const StepContext&) = default;
  };
  /// Largest number of state tensors per parameter.
  static constexpr int kMaxStates = 3;

  /// @throws ValueError for a rate or decay that is negative or not finite
  Optimizer(std::string name, double learning_rate, double weight_decay, std::vector<std::string> state_names);
  /// A copy goes on from the same state.
  /// @{
  Optimizer(const Optimizer&) = default;
  Optimizer(Optimizer&&) = default;
  Optimizer& operator=(const Optimizer&) = default;
  Optimizer& operator=(Optimizer&&) = default;
  /// @}

  /// The update of `count` elements starting at the pointers; `state` in the order of the state names, kMaxStates pointers
  /// of which the last ones may be null. Called from several threads on different blocks. Must not throw.
  /// @{
  virtual void update_block(float* parameter, const float* grad, float* const* state, std::int64_t count,
                            const StepContext& context) const noexcept = 0;
  virtual void update_block(double* parameter, const double* grad, double* const* state, std::int64_t count,
                            const StepContext& context) const noexcept = 0;
  /// @}
  /// The update of whole parameters on a GPU. An optimizer without a kernel of its own is updated by way of the host.
  /// @throws DeviceError if the GPU fails
  virtual void update_on_device(const detail::DeviceUpdates& updates, const StepContext& context) const;

 private:
  void check(const ParameterList& parameters, const Tensors& grads) const;
  void check_pair(const Parameter& slot, const Tensor& grad, std::size_t i) const;
  void check_rate(double rate) const;
  void check_decay(double decay) const;
  [[nodiscard]] const ParameterGroup* group_of(std::size_t parameter) const;
  [[nodiscard]] bool is_frozen(std::size_t parameter) const;
  [[nodiscard]] StepContext context_of(std::size_t parameter) const;
  [[nodiscard]] std::size_t find_group(const std::string& name) const;
  struct DeviceBatch;
  [[nodiscard]] Tensor prepared_state(const Tensor& parameter, std::size_t i, std::size_t k) const;
  static void add_to_batch(std::vector<DeviceBatch>& batches, const StepContext& context, Tensor& value,
                           const Tensor& grad, std::vector<Tensor>& state);
  template <class T>
  void update_by_host(const detail::DeviceUpdate& update, Device device, const StepContext& context) const;
  template <class T>
  void update_all(Tensor& value, const Tensor& grad, std::vector<Tensor>& state,
                  const StepContext& context) const noexcept;

  std::string name_;
  double learning_rate_ = 0;
  double weight_decay_ = 0;
  std::int64_t steps_ = 0;
  std::vector<std::string> state_names_;
  std::vector<std::vector<Tensor>> state_;       // [parameter][state name]; empty handles before the first update
  std::vector<std::int64_t> parameter_steps_;    // updates of each parameter; empty before the first step
  std::vector<ParameterGroup> groups_;           // selectors are dropped
  std::vector<std::size_t> group_of_parameter_;  // index into groups_, or groups_.size(); empty without groups
};

}  // namespace solvent::nn
