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

}  // namespace solvent::nn
