#pragma once
/// Modules: objects that own parameters.
///
/// A module lists its slots and children in `visit`, by name:
///
///     struct Classifier : nn::Module {
///       nn::Mlp encoder;
///       nn::Linear head;
///       explicit Classifier(Key key) : encoder({6, 32, 32}, key.fold_in(0)), head(32, 5, key.fold_in(1)) {}
///       Tensor operator()(const Tensor& x) const { return head(encoder(x)); }
///       void visit(nn::Visitor& v) override {
///         v("encoder", encoder);
///         v("head", head);
///       }
///     };
///
/// Nothing is registered and no pointer is stored, so modules are ordinary values: a copy has its own slots (which
/// share the tensors until one of them is assigned), moving is free, and both may live in containers.

#include <concepts>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "solvent/nn/parameter.h"

namespace solvent::nn {

class Module;

/// Tensors by name, in the module's order; what save_safetensors takes.
using StateDict = std::vector<std::pair<std::string, Tensor>>;

/// Receives what Module::visit lists; names are joined with dots ("encoder.layers.0.weight").
class SOLVENT_API Visitor {
 public:
  virtual ~Visitor();

  /// One slot, or a child with all it lists. `name` must not be used twice in a module.
  /// @{
  void operator()(std::string_view name, Parameter& parameter);
  void operator()(std::string_view name, Buffer& buffer);
  void operator()(std::string_view name, Module& child);
  /// @}
  /// Children "name.0", "name.1", ...
  template <std::derived_from<Module> M>
  void operator()(std::string_view name, std::vector<M>& children) {
    for (std::size_t i = 0; i < children.size(); ++i) (*this)(std::string(name) + "." + std::to_string(i), children[i]);
  }
  /// Absent children are skipped. Modules held by shared_ptr may appear under several names; their slots are one.
  /// @{
  template <std::derived_from<Module> M>
  void operator()(std::string_view name, std::optional<M>& child) {
    if (child) (*this)(name, static_cast<Module&>(*child));
  }
  template <std::derived_from<Module> M>
  void operator()(std::string_view name, std::unique_ptr<M>& child) {
    if (child) (*this)(name, static_cast<Module&>(*child));
  }
  template <std::derived_from<Module> M>
  void operator()(std::string_view name, std::shared_ptr<M>& child) {
    if (child) (*this)(name, static_cast<Module&>(*child));
  }
  template <class P>
  void operator()(std::string_view name, std::vector<std::unique_ptr<P>>& children) {
    for (std::size_t i = 0; i < children.size(); ++i) (*this)(std::string(name) + "." + std::to_string(i), children[i]);
  }
  /// @}

 protected:
  /// What a visitor does with what it meets; `path` is the full name. A module is announced before what it holds.
  /// @{
  virtual void on_parameter(const std::string& path, Parameter& parameter);
  virtual void on_buffer(const std::string& path, Buffer& buffer);
  virtual void on_module(const std::string& path, Module& module);
  /// @}

 private:
  [[nodiscard]] std::string path_of(std::string_view name) const;
  std::string prefix_;
};

/// What load_state_dict found different; empty lists mean an exact match.
struct SOLVENT_API LoadReport {
  std::vector<std::string> missing;     ///< names of the module that the state dict lacks
  std::vector<std::string> unexpected;  ///< names of the state dict that the module lacks
  std::vector<std::string> mismatched;  ///< "name: got float32(2, 3), expected float32(3, 3)"
  /// Whether there is no difference.
  [[nodiscard]] bool ok() const noexcept { return missing.empty() && unexpected.empty() && mismatched.empty(); }
  /// One line per difference.
  [[nodiscard]] std::string message() const;
};

/// Whether every name must match.
enum class Strict : bool { no, yes };

/// Base of all modules. Not thread-safe: modules are mutable, give each thread its own copy (cheap: handles).
class SOLVENT_API Module {
 public:
  virtual ~Module();

  /// Lists parameters, buffers and children. Called often; must list the same things in the same order every time.
  virtual void visit(Visitor& visitor) = 0;

  /// Slots in the order of `visit`; empty slots are left out and a slot reached twice (shared child) appears once.
  [[nodiscard]] ParameterList parameters();
  /// The same with their names.
  [[nodiscard]] std::vector<std::pair<std::string, Parameter*>> named_parameters();
  /// The tensors in the slots, parallel to parameters().
  [[nodiscard]] Tensors parameter_values() const;
  /// Total number of trainable elements.
  [[nodiscard]] std::int64_t num_parameters() const;

  /// Parameters and buffers by name.
  [[nodiscard]] StateDict state_dict() const;
  /// Assigns tensors by name after checking all of them, so that a failing call changes nothing. With Strict::no, names
  /// that match are assigned and the rest is reported. Tensors are moved to the device of their slot.
  /// @throws ValueError listing all differences (Strict::yes)
  LoadReport load_state_dict(const StateDict& state, Strict strict = Strict::yes);

  /// state_dict as a safetensors file, atomically. @throws IoError
  void save(const std::string& path) const;
  /// load_state_dict of a safetensors file. @throws IoError; ValueError naming the file and all differences
  LoadReport load(const std::string& path, Strict strict = Strict::yes);

  /// Converts all parameters and floating buffers. @throws DtypeError unless `dtype` is floating
  void to(DType dtype);
  /// Moves all parameters and buffers; an optimizer's states follow at its next step.
  /// @throws DeviceError if this build or machine has no such device; then nothing has changed
  void to(Device device);

  /// Sets the flag of this module and all below it; layers such as dropout read it.
  void set_training(bool training);
  /// The flag; true for a new module.
  [[nodiscard]] bool is_training() const noexcept { return training_; }

 protected:
  /// Modules are copied and moved as values; a copy has slots of its own.
  /// @{
  Module() = default;
  Module(const Module&) = default;
  Module(Module&&) = default;
  Module& operator=(const Module&) = default;
  Module& operator=(Module&&) = default;
  /// @}

 private:
  bool training_ = true;
};

/// The parameters of several modules as one list.
[[nodiscard]] SOLVENT_API ParameterList parameters_of(const std::vector<Module*>& modules);

}  // namespace solvent::nn
