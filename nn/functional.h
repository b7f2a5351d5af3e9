#pragma once
/// Transforms of functions that use modules.
///
///     auto [loss, grads, aux] = nn::value_and_grad(model, [&] { return cross_entropy(model(x), labels); });
///     optimizer.step(model, grads);

#include <algorithm>
#include <functional>
#include <memory>
#include <type_traits>

#include "solvent/autodiff/custom.h"
#include "solvent/nn/module.h"

namespace solvent::nn {

namespace detail {

SOLVENT_API ValueAndGrad value_and_grad_impl(ParameterList parameters, const std::function<Tensors()>& fn);

/// A Tensor or Tensors result as Tensors.
inline Tensors as_list(Tensor t) {
  Tensors list;
  list.push_back(std::move(t));
  return list;
}
inline Tensors as_list(Tensors t) { return t; }

/// Throws ShapeError unless there are as many values as slots, and fills the slots.
SOLVENT_API void fill_slots(const char* op, Module& module, const Tensors& values, std::size_t count);
/// Replaces values by their shapes: a bound module must not hold tensors of a transform, nor keep memory alive.
SOLVENT_API void drop_values(Module& module);

}  // namespace detail

/// Value of `fn()` and its gradients with respect to the parameters of `module`.
///
/// While `fn` runs, the slots hold differentiated tensors; they are restored afterwards, also if `fn` throws, and
/// cannot be assigned meanwhile. `fn` returns the one-element value, or a list of the value and further tensors, which
/// come back in `aux` without derivative information. Gradients are parallel to `module.parameters()`, zeros where the
/// value does not depend on a parameter. Calls nest: an inner call differentiates what it finds in the slots.
/// @throws ShapeError if the value has more than one element
template <class F>
ValueAndGrad value_and_grad(Module& module, F&& fn) {
  return detail::value_and_grad_impl(module.parameters(), [&fn] { return detail::as_list(fn()); });
}
/// The same for an explicit list of slots, e.g. of several modules (parameters_of) or a part of one.
template <class F>
ValueAndGrad value_and_grad(const ParameterList& parameters, F&& fn) {
  return detail::value_and_grad_impl(parameters, [&fn] { return detail::as_list(fn()); });
}

/// A module as a function of its parameters: see bind.
template <class M, class F>
class Bound {
 public:
  /// See bind.
  Bound(const M& module, F fn) : fn_(std::move(fn)) {
    auto copy = std::make_shared<M>(module);
    count_ = copy->parameters().size();
    detail::drop_values(*copy);
    module_ = std::move(copy);
  }

  /// `parameters` parallel to module.parameters(). @throws ShapeError if their number is wrong
  Tensors operator()(const Tensors& parameters, const Tensors& inputs) const {
    M module = *module_;
    detail::fill_slots("bind", module, parameters, count_);
    return detail::as_list(fn_(static_cast<const M&>(module), inputs));
  }
  /// Parameters followed by inputs in one list, as `vjp`, `checkpoint` and the solvers take them.
  Tensors operator()(const Tensors& packed) const {
    const auto cut = packed.begin() + static_cast<std::ptrdiff_t>(std::min(count_, packed.size()));
    return (*this)(Tensors(packed.begin(), cut), Tensors(cut, packed.end()));
  }
  /// How many tensors of a packed list are parameters.
  [[nodiscard]] std::size_t num_parameters() const noexcept { return count_; }

 private:
  std::shared_ptr<const M> module_;
  F fn_;
  std::size_t count_ = 0;
};

/// The function `(parameters, inputs) -> fn(module with these parameters, inputs)`, a value without references to
/// `module`: what custom_root, checkpoint and other threads need, since those may not meet differentiated
/// tensors in slots.
///
/// `fn(const M&, const Tensors& inputs)` returns a Tensor or Tensors. The function copies the module's structure, not
/// its tensors. Buffers assigned during a call are lost with the call's copy.
template <std::derived_from<Module> M, OwningCallable F>
Bound<M, std::decay_t<F>> bind(const M& module, F fn) {
  return {module, std::move(fn)};
}

namespace detail {
struct CallOnFirst {
  template <class M>
  Tensor operator()(const M& module, const Tensors& inputs) const {
    return module(inputs[0]);
  }
};
}  // namespace detail

/// For modules with `operator()(const Tensor&) const`.
template <std::derived_from<Module> M>
Bound<M, detail::CallOnFirst> bind(const M& module) {
  return {module, {}};
}

/// `fn(module, xs)` without keeping intermediate values: they are computed again when cotangents arrive. The module's
/// parameters become explicit inputs, so gradients reach them.
template <std::derived_from<Module> M, OwningCallable F>
Tensors checkpoint(const M& module, F fn, const Tensors& xs) {
  Tensors packed = module.parameter_values();
  packed.insert(packed.end(), xs.begin(), xs.end());
  return solvent::checkpoint(bind(module, std::move(fn)), packed);
}
/// `module(x)` without keeping intermediate values.
template <std::derived_from<Module> M>
Tensor checkpoint(const M& module, const Tensor& x) {
  return std::move(checkpoint(module, detail::CallOnFirst{}, Tensors{x})[0]);
}

}  // namespace solvent::nn
