#include "solvent/autodiff/apply.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <string>

#include "solvent/autodiff/level.h"
#include "solvent/autodiff/tape.h"
#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"

namespace solvent {

Attrs::~Attrs() = default;

// --- Rule -----------------------------------------------------------------------------------------------------------------

const Tensor& Rule::checked(const Tensor* values, int i, bool data, const char* what) const {
  const Tensor& t = values[i];
  if (!t.defined() || (data && t.impl()->storage == nullptr)) [[unlikely]]
    throw AutodiffError("[" + std::string(op_.name) + "] its derivative rule reads " + what + " " + std::to_string(i) +
                        ", which the OpDef does not save. Declare it with Save::" + (data ? "data" : "shape") + ".");
  return t;
}

const Tensor& Rule::input(int i) const { return checked(inputs_, i, true, "input"); }
const Tensor& Rule::output(int i) const { return checked(outputs_, i, true, "output"); }
const Shape& Rule::input_shape(int i) const { return checked(inputs_, i, false, "input").shape(); }
const Shape& Rule::output_shape(int i) const { return checked(outputs_, i, false, "output").shape(); }
DType Rule::input_dtype(int i) const { return checked(inputs_, i, false, "input").dtype(); }
Device Rule::input_device(int i) const { return checked(inputs_, i, false, "input").device(); }

Shape Rule::tangent_shape(int i) const {
  return directions_ > 0 ? prepend(directions_, input_shape(i)) : input_shape(i);
}
Shape Rule::output_tangent_shape(int i) const {
  return directions_ > 0 ? prepend(directions_, output_shape(i)) : output_shape(i);
}

namespace {

using detail::Box;
using detail::box_of;
using detail::Level;
using detail::t_levels;

// Inputs of one call while a level is peeled off: inline up to kInline, else on the heap.
template <class T, int kInline = 6>
class Scratch {
 public:
  explicit Scratch(std::size_t n) : size_(n) {
    if (n > kInline) {
      heap_ = std::make_unique<T[]>(n);
      data_ = heap_.get();
    } else {
      data_ = reinterpret_cast<T*>(inline_);
      std::uninitialized_value_construct_n(data_, n);
    }
  }
  ~Scratch() {
    if (!heap_) std::destroy_n(data_, size_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* data() noexcept { return data_; }
  T& operator[](std::size_t i) noexcept { return data_[i]; }

 private:
  alignas(T) std::byte inline_[kInline * sizeof(T)];  // only n elements are made
  std::unique_ptr<T[]> heap_;
  T* data_;
  std::size_t size_;
};

[[noreturn]] void throw_devices(const OpDef& op, const Tensor& a, const Tensor& b) {
  throw DeviceError("[" + std::string(op.name) + "] tensors live on " + to_string(a.device()) + " and " +
                    to_string(b.device()) + "; expected one device. Move one with to(x, device).");
}

[[noreturn]] void throw_no_kernel(const OpDef& op, Device device) {
  throw DeviceError("[" + std::string(op.name) + "] no kernel for " + to_string(device) +
                    " in this build; use to(x, cpu_device) or configure with -DSOLVENT_CUDA=ON.");
}

TensorVec dispatch(const OpDef& op, std::span<Tensor> inputs, const Attrs* attrs) {
  Device device;
  if (!inputs.empty()) {
    device = inputs[0].impl()->device;
    for (const Tensor& t : inputs.subspan(1))
      if (!(t.impl()->device == device)) [[unlikely]]
        throw_devices(op, inputs[0], t);
  } else if (attrs != nullptr) {
    device = attrs->device();
  }
  const Kernel kernel = device.type == DeviceType::cpu ? op.cpu : op.cuda;
  if (kernel == nullptr) [[unlikely]]
    throw_no_kernel(op, device);
  return kernel(inputs, attrs);
}

// Removes every box of `t`; stale ones are errors even for results that are constants.
Tensor strip(const OpDef& op, Tensor t) {
  while (const Box* box = box_of(t)) {
    if (box->depth > t_levels.size || t_levels.items[box->depth - 1]->serial != box->serial)
      detail::throw_escaped(op.name);
    Tensor primal = box->primal;
    t = std::move(primal);
  }
  return t;
}

// Takes the primal out of a box; steals it when this is the last handle, so that the kernel may reuse its memory.
Tensor take_primal(Tensor& t, Box* box) {
  Tensor primal;
  if (t.impl()->refs.load(std::memory_order_acquire) == 1) {
    primal = std::move(box->primal);
  } else {
    primal = box->primal;
  }
  t.reset();
  return primal;
}

TensorVec apply_boxed(const OpDef& op, std::span<Tensor> inputs, const Attrs* attrs, int top);

TensorVec apply_forward(const OpDef& op, std::span<Tensor> inputs, const Attrs* attrs, const Level& level) {
  const std::size_t n = inputs.size();
  Scratch<Tensor> tangents(n);
  Scratch<Tensor> kept(n);
  for (std::size_t i = 0; i < n; ++i) {
    Box* box = box_of(inputs[i]);
    if (box != nullptr && box->depth == level.depth) {
      if (box->serial != level.serial) detail::throw_escaped(op.name);
      tangents[i] = box->tangent;
      inputs[i] = take_primal(inputs[i], box);
    }
  }
  const std::span<const Tensor> tangent_span(tangents.data(), n);
  if (op.joint_jvp != nullptr) {
    TensorVec both = op.joint_jvp(inputs, tangent_span, attrs, level.directions);
    TensorVec outputs(both.size() / 2);
    for (int i = 0; i < outputs.size(); ++i) {
      Tensor& tangent = both[outputs.size() + i];
      outputs[i] = tangent.defined() ? detail::make_box(level, both[i], std::move(tangent), -1) : std::move(both[i]);
    }
    return outputs;
  }
  if (op.jvp == nullptr) [[unlikely]]
    throw AutodiffError("[" + std::string(op.name) +
                        "] has no forward-mode rule; use reverse mode, or give one with custom_jvp.");
  for (std::size_t i = 0; i < n; ++i) {
    const Save save = op.save_of_input(static_cast<int>(i));
    if (save == Save::data) kept[i] = inputs[i];
    if (save == Save::shape) kept[i] = engine::meta(inputs[i]);
  }
  TensorVec outputs = apply(op, inputs, attrs);
  const Rule rule(op, attrs, kept.data(), static_cast<int>(n), outputs.data(), outputs.size(), level.directions,
                  nullptr);
  TensorVec out_tangents = op.jvp(rule, tangent_span);
  for (int i = 0; i < outputs.size(); ++i)
    if (out_tangents[i].defined() && is_floating(outputs[i].dtype()))
      outputs[i] = detail::make_box(level, outputs[i], std::move(out_tangents[i]), -1);
  return outputs;
}

TensorVec apply_reverse(const OpDef& op, std::span<Tensor> inputs, const Attrs* attrs, const Level& level) {
  const std::size_t n = inputs.size();
  Scratch<std::int32_t> values(n);
  Scratch<Tensor> kept(n);
  for (std::size_t i = 0; i < n; ++i) {
    values[i] = -1;
    Box* box = box_of(inputs[i]);
    if (box != nullptr && box->depth == level.depth) {
      if (box->serial != level.serial) detail::throw_escaped(op.name);
      values[i] = box->value;
      inputs[i] = take_primal(inputs[i], box);
    }
    const Save save = op.save_of_input(static_cast<int>(i));
    if (save == Save::data) kept[i] = inputs[i];
    if (save == Save::shape) kept[i] = engine::meta(inputs[i]);
  }
  TensorVec outputs = apply(op, inputs, attrs);  // throws before anything is recorded
  const std::int32_t first = level.tape->record(op, attrs, {values.data(), n}, {kept.data(), n},
                                                {outputs.data(), static_cast<std::size_t>(outputs.size())});
  for (int i = 0; i < outputs.size(); ++i)
    if (is_floating(outputs[i].dtype())) outputs[i] = detail::make_box(level, outputs[i], Tensor(), first + i);
  return outputs;
}

TensorVec apply_boxed(const OpDef& op, std::span<Tensor> inputs, const Attrs* attrs, int top) {
  if (!op.differentiable) {
    for (Tensor& t : inputs)
      if (box_of(t) != nullptr) t = strip(op, std::move(t));
    return dispatch(op, inputs, attrs);
  }
  if (top > t_levels.size) detail::throw_escaped(op.name);
  const Level& level = *t_levels.items[top - 1];
  if (level.barred > 0) {
    for (const Tensor& t : inputs)  // an escaped tensor is reported as such, not as captured
      if (const Box* box = box_of(t); box != nullptr && box->depth == top && box->serial != level.serial)
        detail::throw_escaped(op.name);
    detail::throw_captured(op.name);
  }
  return level.tape != nullptr ? apply_reverse(op, inputs, attrs, level) : apply_forward(op, inputs, attrs, level);
}

}  // namespace

TensorVec apply(const OpDef& op, std::span<Tensor> inputs, const Attrs* attrs) {
  int top = 0;
  for (const Tensor& t : inputs) {
    if (t.impl() == nullptr) [[unlikely]]
      throw ValueError("[" + std::string(op.name) + "] got an empty tensor handle; expected a tensor.");
    if (const Box* box = box_of(t)) top = std::max(top, box->depth);
  }
  if (top == 0) [[likely]]
    return dispatch(op, inputs, attrs);
  return apply_boxed(op, inputs, attrs, top);
}

Tensor stop_gradient(const Tensor& x) {
  Tensor t = x;
  while (t.defined() && box_of(t) != nullptr) {
    Tensor primal = box_of(t)->primal;
    t = std::move(primal);
  }
  return t;
}

bool is_differentiated(const Tensor& x) noexcept { return x.defined() && box_of(x) != nullptr; }

bool transform_active() noexcept { return t_levels.size > 0; }

}  // namespace solvent
