#include "solvent/autodiff/debug.h"

#include "solvent/autodiff/tape.h"

namespace solvent::debug {

namespace {

std::string value_name(std::int32_t id) { return id < 0 ? "const" : "%" + std::to_string(id); }

std::string label(const detail::Node& node) {
  std::string text(node.op->name);
  const std::string attrs = node.attrs ? node.attrs->describe() : "";
  return attrs.empty() ? text : text + "{" + attrs + "}";
}

std::string saved_text(const detail::Node& node) {
  std::string text;
  const auto append = [&](const Tensor& t) {
    if (t.defined() && t.impl()->storage != nullptr) text += (text.empty() ? "" : ", ") + describe(t);
  };
  for (int i = 0; i < node.num_inputs; ++i) append(node.inputs()[i]);
  for (int i = 0; i < node.num_outputs; ++i) append(node.outputs()[i]);
  return text;
}

template <class F>
void for_each_node(const Pullback& pullback, F&& f) {
  const detail::Tape* tape = pullback.tape();
  if (tape == nullptr || tape->consumed()) return;
  for (std::int64_t i = 0; i < tape->num_nodes(); ++i) f(tape->node(i));
}

}  // namespace

std::string dump_text(const Pullback& pullback) {
  std::string out;
  for_each_node(pullback, [&](const detail::Node& node) {
    for (int i = 0; i < node.num_outputs; ++i) out += (i ? ", " : "") + value_name(node.first_output + i);
    out += " = " + label(node) + "(";
    for (int i = 0; i < node.num_inputs; ++i) out += (i ? ", " : "") + value_name(node.values()[i]);
    out += ")";
    const std::string kept = saved_text(node);
    if (!kept.empty()) out += "  saves " + kept;
    out += "\n";
  });
  return out;
}

std::string dump_dot(const Pullback& pullback) {
  std::string out = "digraph tape {\n  rankdir=LR;\n  node [shape=box];\n";
  std::map<std::int32_t, std::string> producer;
  std::int64_t index = 0;
  for_each_node(pullback, [&](const detail::Node& node) {
    const std::string name = "n" + std::to_string(index++);
    out += "  " + name + " [label=\"" + label(node) + "\"];\n";
    for (int i = 0; i < node.num_inputs; ++i) {
      const std::int32_t value = node.values()[i];
      if (value < 0) continue;
      auto [it, is_input] = producer.try_emplace(value, "x" + std::to_string(value));
      if (is_input) out += "  " + it->second + " [shape=ellipse];\n";
      out += "  " + it->second + " -> " + name + ";\n";
    }
    for (int i = 0; i < node.num_outputs; ++i) producer[node.first_output + i] = name;
  });
  return out + "}\n";
}

std::map<std::string, std::int64_t> node_counts(const Pullback& pullback) {
  std::map<std::string, std::int64_t> counts;
  for_each_node(pullback, [&](const detail::Node& node) { ++counts[std::string(node.op->name)]; });
  return counts;
}

}  // namespace solvent::debug
