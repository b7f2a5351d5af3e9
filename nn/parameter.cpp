#include "solvent/nn/parameter.h"

#include <fmt/format.h>

#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"

namespace solvent::nn {

Parameter::Parameter(Tensor value) : value_(std::move(value)) {
  if (value_.defined() && is_storage_type(value_.dtype()))
    throw DtypeError(fmt::format(
        "[Parameter] got a {}; expected float32 or float64, because steps of an optimiser are too small for "
        "bfloat16. Keep float32 and use cast(parameter, bfloat16) inside the function that is differentiated.",
        describe(value_)));
  if (value_.defined() && !is_floating(value_.dtype()))
    throw DtypeError(
        fmt::format("[Parameter] got a {}; expected float32 or float64, because parameters are differentiated. Keep "
                    "data of other types "
                    "in a Buffer.",
                    describe(value_)));
}

Parameter& Parameter::operator=(const Parameter& other) {
  require_assignable("Parameter");
  value_ = other.value_;
  return *this;
}

Parameter& Parameter::operator=(Parameter&& other) {
  require_assignable("Parameter");
  value_ = std::move(other.value_);
  return *this;
}

void Parameter::assign(Tensor value) {
  require_assignable("Parameter::assign");
  require_same("Parameter::assign", value_, value);
  value_ = std::move(value);
}

void Parameter::require_assignable(const char* op) const {
  if (swapped_ > 0)
    throw AutodiffError(
        fmt::format("[{}] the slot holds the differentiated value of a running nn::value_and_grad. Return what is to "
                    "be stored from the "
                    "differentiated function (it comes back in aux) and assign it afterwards.",
                    op));
}

void Parameter::require_same(const char* op, const Tensor& layout, const Tensor& next) {
  if (!next.defined()) throw ShapeError(fmt::format("[{}] got an empty handle; expected a tensor.", op));
  if (!layout.defined())
    throw ShapeError(
        fmt::format("[{}] the slot is empty: its module was made without this parameter. Make the module with it "
                    "(bias, affine), or put "
                    "a Parameter into the slot.",
                    op));
  if (layout.shape() != next.shape())
    throw ShapeError(
        fmt::format("[{}] got a {} for a slot of {}; expected the same shape. Use reshape or mT, or make a new "
                    "module.",
                    op, describe(next), describe(layout)));
  if (layout.dtype() != next.dtype())
    throw DtypeError(
        fmt::format("[{}] got a {} for a slot of {}; expected the same dtype. Use cast, or Module::to for the "
                    "whole module.",
                    op, describe(next), describe(layout)));
  if (!(layout.device() == next.device()))
    throw DeviceError(fmt::format("[{}] got a tensor on {} for a slot on {}; move it with to(x, device).", op,
                                  to_string(next.device()), to_string(layout.device())));
}

Tensor Parameter::like(const Tensor& value) { return value.defined() ? engine::meta(value) : Tensor(); }

namespace detail {

SlotSwap::SlotSwap(ParameterList slots, const Tensors& values) : slots_(std::move(slots)) {
  if (slots_.size() != values.size())
    throw ShapeError(
        fmt::format("[nn] got {} values for {} parameters; expected one for each, in the order of "
                    "Module::parameters().",
                    values.size(), slots_.size()));
  saved_.reserve(slots_.size());
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    saved_.push_back(std::exchange(slots_[i]->value_, values[i]));
    ++slots_[i]->swapped_;
  }
}

SlotSwap::~SlotSwap() {
  for (std::size_t i = slots_.size(); i-- > 0;) {
    slots_[i]->value_ = std::move(saved_[i]);
    --slots_[i]->swapped_;
  }
}

}  // namespace detail

}  // namespace solvent::nn
