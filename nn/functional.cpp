#include "solvent/nn/functional.h"

#include <fmt/format.h>

#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/ops/elementwise.h"

namespace solvent::nn {

namespace detail {

ValueAndGrad value_and_grad_impl(ParameterList parameters, const std::function<Tensors()>& fn) {
  Tensors values;
  values.reserve(parameters.size());
  for (const Parameter* slot : parameters) {
    if (slot == nullptr || !slot->defined())
      throw ShapeError("[nn::value_and_grad] a slot of the list is empty; take the list from Module::parameters().");
    values.push_back(slot->value());
  }
  return solvent::value_and_grad_aux(
      [&](const Tensors& differentiated) {
        const SlotSwap swap(parameters, differentiated);
        return fn();
      },
      values);
}

void fill_slots(const char* op, Module& module, const Tensors& values, std::size_t count) {
  const ParameterList slots = module.parameters();
  if (values.size() != count)
    throw ShapeError(fmt::format("[{}] got {} parameters; expected {}, in the order of Module::parameters().", op,
                                 values.size(), count));
  for (std::size_t i = 0; i < slots.size(); ++i) {
    SlotAccess::require_same(op, slots[i]->value(), values[i]);
    SlotAccess::set(*slots[i], values[i]);
  }
}

void drop_values(Module& module) {
  for (Parameter* slot : module.parameters()) SlotAccess::set(*slot, engine::meta(slot->value()));
}

}  // namespace detail

void GradAccumulator::add(Tensors grads, double weight) {
  if (count_ > 0 && grads.size() != sum_.size())
    throw ShapeError(
        fmt::format("[GradAccumulator] got {} gradients after {}; expected the same parameters every time.",
                    grads.size(), sum_.size()));
  if (weight != 1.0)
    for (Tensor& g : grads) g = std::move(g) * weight;
  if (count_ == 0) {
    sum_ = std::move(grads);
  } else {
    for (std::size_t i = 0; i < grads.size(); ++i)
      if (grads[i].shape() != sum_[i].shape())
        throw ShapeError(
            fmt::format("[GradAccumulator] gradient {} is a {} after a {}; expected the same parameters every "
                        "time.",
                        i, describe(grads[i]), describe(sum_[i])));
    for (std::size_t i = 0; i < grads.size(); ++i) sum_[i] = std::move(sum_[i]) + std::move(grads[i]);
  }
  weight_ += weight;
  ++count_;
}

Tensors GradAccumulator::take_mean() {
  const double weight = weight_;
  Tensors sum = take_sum();
  for (Tensor& g : sum) g = std::move(g) / weight;
  return sum;
}

Tensors GradAccumulator::take_sum() {
  if (count_ == 0) throw ValueError("[GradAccumulator] nothing was added since the last take; call add first.");
  count_ = 0;
  weight_ = 0;
  return std::exchange(sum_, {});
}

}  // namespace solvent::nn
