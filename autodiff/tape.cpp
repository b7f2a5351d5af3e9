#include "solvent/autodiff/tape.h"

#include <algorithm>
#include <string>

#include "solvent/autodiff/basis.h"
#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"

namespace solvent::detail {

void Node::release() noexcept {
  attrs.reset();
  for (Tensor& t : saved_input) t.reset();
  saved_output.reset();
  if (more) {
    more->saved_input.clear();
    more->saved_output.clear();
  }
}

namespace {

Tensor saved(Save save, const Tensor& t) {
  if (save == Save::data) return t;
  if (save == Save::shape) return engine::meta(t);
  return {};
}

}  // namespace

std::int32_t Tape::record(const OpDef& op, const Attrs* attrs, std::span<const std::int32_t> values,
                          std::span<Tensor> saved_inputs, std::span<const Tensor> outputs) {
  if (static_cast<std::size_t>(num_nodes_ / kChunk) == chunks_.size())
    chunks_.push_back(std::make_unique_for_overwrite<Chunk>());
  Node& node = *std::construct_at(address(num_nodes_));
  ++num_nodes_;
  node.op = &op;
  if (attrs != nullptr) node.attrs = attrs->clone();
  node.num_inputs = static_cast<std::int32_t>(values.size());
  node.num_outputs = static_cast<std::int32_t>(outputs.size());
  node.first_output = num_values_;
  num_values_ += node.num_outputs;
  if (values.size() <= 3 && outputs.size() == 1) [[likely]] {
    for (std::size_t i = 0; i < values.size(); ++i) {
      node.input_value[i] = values[i];
      node.saved_input[i] = std::move(saved_inputs[i]);
    }
    node.saved_output = saved(op.outputs, outputs[0]);
  } else {
    node.more = std::make_unique<Node::More>();
    node.more->input_value.assign(values.begin(), values.end());
    node.more->saved_input.assign(std::make_move_iterator(saved_inputs.begin()),
                                  std::make_move_iterator(saved_inputs.end()));
    for (const Tensor& t : outputs) node.more->saved_output.push_back(saved(op.outputs, t));
  }
  return node.first_output;
}

namespace {

// Adds a cotangent to a value's slot; `add` donates the old sum's memory when it is the only owner.
void accumulate(Tensor& slot, Tensor g) { slot = slot.defined() ? add(std::move(slot), std::move(g)) : std::move(g); }

}  // namespace

Tensors Tape::sweep(std::span<const std::int32_t> seed_ids, std::span<const Tensor> seeds,
                    std::span<const std::int32_t> wanted, bool retain) {
  if (consumed_)
    throw AutodiffError(
        "[pullback] was called before and has released its saved tensors; expected one call. Pass retain = true "
        "to the earlier calls to use it again.");
  consumed_ = !retain;
  Tensors slots(static_cast<std::size_t>(num_values_));
  for (std::size_t i = 0; i < seed_ids.size(); ++i)
    if (seed_ids[i] >= 0 && seeds[i].defined()) accumulate(slots[static_cast<std::size_t>(seed_ids[i])], seeds[i]);
  Tensors result(wanted.size());
  // Inputs come first on the tape and are never outputs of nodes, so their slots survive the sweep.
  std::unique_ptr<bool[]> needs_heap;
  bool needs_inline[8];
  for (std::int64_t k = num_nodes_ - 1; k >= 0; --k) {
    Node& node = this->node(k);
    Tensor* cotangents = slots.data() + node.first_output;
    const bool active =
        std::any_of(cotangents, cotangents + node.num_outputs, [](const Tensor& t) { return t.defined(); });
    if (active) {
      if (node.op->vjp == nullptr)
        throw AutodiffError("[" + std::string(node.op->name) +
                            "] has no reverse-mode rule; use forward mode, or give one with custom_vjp.");
      bool* needs = needs_inline;
      if (node.num_inputs > 8) {
        needs_heap = std::make_unique<bool[]>(static_cast<std::size_t>(node.num_inputs));
        needs = needs_heap.get();
      }
      const std::int32_t* values = node.values();
      for (int i = 0; i < node.num_inputs; ++i) needs[i] = values[i] >= 0;
      const Rule rule(*node.op, node.attrs.get(), node.inputs(), node.num_inputs, node.outputs(), node.num_outputs, 0,
                      needs);
      TensorVec grads = node.op->vjp(rule, {cotangents, static_cast<std::size_t>(node.num_outputs)});
      if (!retain) node.release();
      for (int i = 0; i < node.num_outputs; ++i) cotangents[i].reset();
      for (int i = 0; i < node.num_inputs; ++i)
        if (values[i] >= 0 && i < grads.size() && grads[i].defined())
          accumulate(slots[static_cast<std::size_t>(values[i])], std::move(grads[i]));
    } else if (!retain) {
      node.release();
    }
  }
  for (std::size_t i = 0; i < wanted.size(); ++i)
    if (wanted[i] >= 0) result[i] = slots[static_cast<std::size_t>(wanted[i])];
  return result;
}

Tensors Tape::replay(std::span<const std::int32_t> seed_ids, std::span<const Tensor> seeds,
                     std::span<const std::int32_t> wanted, std::int64_t directions) const {
  Tensors slots(static_cast<std::size_t>(num_values_));
  for (std::size_t i = 0; i < seed_ids.size(); ++i) slots[static_cast<std::size_t>(seed_ids[i])] = seeds[i];
  std::vector<Tensor> tangents;
  for (std::int64_t k = 0; k < num_nodes_; ++k) {
    const Node& node = this->node(k);
    const std::int32_t* values = node.values();
    tangents.assign(static_cast<std::size_t>(node.num_inputs), Tensor());
    bool active = false;
    for (int i = 0; i < node.num_inputs; ++i) {
      if (values[i] < 0) continue;
      tangents[static_cast<std::size_t>(i)] = slots[static_cast<std::size_t>(values[i])];
      active = active || tangents[static_cast<std::size_t>(i)].defined();
    }
    if (!active) continue;
    if (node.op->jvp == nullptr)
      throw AutodiffError("[" + std::string(node.op->name) + "] has no forward-mode rule; Linearized::jvp needs one.");
    const Rule rule(*node.op, node.attrs.get(), node.inputs(), node.num_inputs, node.outputs(), node.num_outputs,
                    directions, nullptr);
    TensorVec out = node.op->jvp(rule, tangents);
    for (int i = 0; i < node.num_outputs; ++i)
      slots[static_cast<std::size_t>(node.first_output + i)] = std::move(out[i]);
  }
  Tensors result(wanted.size());
  for (std::size_t i = 0; i < wanted.size(); ++i)
    if (wanted[i] >= 0) result[i] = slots[static_cast<std::size_t>(wanted[i])];
  return result;
}

}  // namespace solvent::detail
