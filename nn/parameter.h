#pragma once
/// Slots: the places of a module that hold tensors.
///
/// Tensors never change, so training a module means putting other tensors into its slots. That is the only mutation of
/// the library, and it rebinds: the old values live on for whoever still holds them (a pullback, a copy of the module,
/// a state dict).

#include <type_traits>
#include <utility>
#include <vector>

#include "solvent/autodiff/apply.h"

namespace solvent::nn {

namespace detail {
class SlotSwap;
struct SlotAccess;
}  // namespace detail

/// A slot for a trainable tensor. Its name is given where the owning module lists it (Module::visit).
///
/// An empty slot means "this module has no such parameter" (a Linear without bias); it is not listed, saved or trained.
class SOLVENT_API Parameter {
 public:
  Parameter() = default;
  /// Stores `value`. @throws DtypeError unless it is float32 or float64.
  explicit Parameter(Tensor value);

  /// A copy is a slot of its own that shares the tensor.
  /// @{
  Parameter(const Parameter& other) : value_(other.value_) {}
  Parameter(Parameter&& other) noexcept : value_(std::move(other.value_)) {}
  /// @}
  /// Puts the other slot's tensor here, of any shape. @throws AutodiffError while nn::value_and_grad uses this slot
  /// @{
  Parameter& operator=(const Parameter& other);
  Parameter& operator=(Parameter&& other);
  /// @}
  ~Parameter() = default;

  /// The tensor; inside nn::value_and_grad the differentiated one. The empty handle if the slot is empty.
  [[nodiscard]] const Tensor& value() const noexcept { return value_; }
  /// A parameter is used like its tensor.
  operator const Tensor&() const noexcept { return value_; }  // NOLINT: a parameter is used like its tensor
  /// False for an empty slot.
  [[nodiscard]] bool defined() const noexcept { return value_.defined(); }

  /// Puts `value` into the slot; the old tensor is not written to. Shape, dtype and device must stay the same.
  /// @throws AutodiffError if the slot holds the value of a running nn::value_and_grad; ShapeError, DtypeError,
  /// DeviceError
  void assign(Tensor value);

  /// Replaces the value by `fn(std::move(value))`, which may reuse the value's memory if no one else holds it.
  ///
  /// `fn` takes `Tensor&&` and must not move from it before it can no longer fail: if it throws, the slot gets back
  /// what is left in the argument. @throws as assign, and what `fn` throws
  template <class F>
  void update(F&& fn) {
    static_assert(std::is_invocable_r_v<Tensor, F&, Tensor&&>, "update(fn): fn maps Tensor&& to Tensor");
    require_assignable("Parameter::update");
    Tensor old = std::move(value_);
    const Tensor layout = like(old);
    try {
      Tensor next = fn(std::move(old));
      require_same("Parameter::update", layout, next);
      value_ = std::move(next);
    } catch (...) {
      value_ = std::move(old);
      throw;
    }
  }

 private:
  friend class detail::SlotSwap;
  friend struct detail::SlotAccess;

  void require_assignable(const char* op) const;
  static void require_same(const char* op, const Tensor& layout, const Tensor& next);
  static Tensor like(const Tensor& value);  // shape, dtype and device without the data

  Tensor value_;
  int swapped_ = 0;  // number of running value_and_grad calls that put their value here
};

/// A slot for a tensor that is saved but not trained (running statistics, fixed tables).
class SOLVENT_API Buffer {
 public:
  Buffer() = default;
  /// Stores `value`, of any dtype.
  explicit Buffer(Tensor value) : value_(std::move(value)) {}

  /// The tensor; the empty handle if the slot is empty.
  [[nodiscard]] const Tensor& value() const noexcept { return value_; }
  /// A buffer is used like its tensor.
  operator const Tensor&() const noexcept { return value_; }  // NOLINT: a buffer is used like its tensor
  /// False for an empty slot.
  [[nodiscard]] bool defined() const noexcept { return value_.defined(); }
  /// Stores `stop_gradient(value)`: a buffer never carries derivatives out of a transform.
  void assign(const Tensor& value) { value_ = stop_gradient(value); }

 private:
  Tensor value_;
};

/// Parameters of a module, in the order in which it lists them. Points into the module.
using ParameterList = std::vector<Parameter*>;

namespace detail {

/// Puts tensors into slots for the lifetime of the object and marks the slots as swapped.
class SOLVENT_API SlotSwap {
 public:
  /// `values` parallel to `slots`. @throws ShapeError if the numbers differ.
  SlotSwap(ParameterList slots, const Tensors& values);
  ~SlotSwap();
  SlotSwap(const SlotSwap&) = delete;
  SlotSwap& operator=(const SlotSwap&) = delete;

 private:
  ParameterList slots_;
  Tensors saved_;
};

/// For modules that change a parameter's dtype, fill a copy, or have checked everything before: sets without checks.
struct SlotAccess {
  static void set(Parameter& slot, Tensor value) noexcept { slot.value_ = std::move(value); }
  static Tensor take(Parameter& slot) noexcept { return std::move(slot.value_); }
  static void require_assignable(const Parameter& slot, const char* op) { slot.require_assignable(op); }
  static void require_same(const char* op, const Tensor& layout, const Tensor& next) {
    Parameter::require_same(op, layout, next);
  }
};

}  // namespace detail

}  // namespace solvent::nn
