#pragma once
/// Builders of OpDefs and derivative rules. Internal to ops/.
///
/// A formula is a captureless lambda `(const Rule& rule, const Tensor& t) -> Tensor`, linear in t, written with public
/// operations; t is a tangent or a cotangent and may carry leading axes of directions that the rule's values do not have.
/// Most derivatives need only one formula: the Jacobian of an elementwise function is diagonal, and those of softmax,
/// layer_norm and their kind are symmetric, so the same formula serves tangents and cotangents.

#include <span>

#include "solvent/autodiff/basis.h"

namespace solvent::detail {

/// a + b where an empty handle is a zero.
inline Tensor add_defined(Tensor a, Tensor b) {
  if (!a.defined()) return b;
  if (!b.defined()) return a;
  return add(std::move(a), std::move(b));
}

/// The formula of a derivative that vanishes everywhere (piecewise linear functions).
inline constexpr auto kZero = [](const Rule&, const Tensor&) { return Tensor(); };

template <auto kFormula>
TensorVec jvp_of_one(const Rule& rule, std::span<const Tensor> t) {
  return t[0].defined() ? kFormula(rule, t[0]) : Tensor();
}

template <auto kFormula>
TensorVec vjp_of_one(const Rule& rule, std::span<const Tensor> g) {
  return g[0].defined() ? kFormula(rule, g[0]) : Tensor();
}

template <auto kFirst, auto kSecond>
TensorVec jvp_of_two(const Rule& rule, std::span<const Tensor> t) {
  return add_defined(t[0].defined() ? kFirst(rule, t[0]) : Tensor(), t[1].defined() ? kSecond(rule, t[1]) : Tensor());
}

template <auto kFirst, auto kSecond>
TensorVec vjp_of_two(const Rule& rule, std::span<const Tensor> g) {
  if (!g[0].defined()) return TensorVec(2);
  return {rule.needs(0) ? kFirst(rule, g[0]) : Tensor(), rule.needs(1) ? kSecond(rule, g[0]) : Tensor()};
}

/// What the rules of a definition read.
struct Saves {
  Save x = Save::none;
  Save y = Save::none;  // second input
  Save output = Save::none;
};

/// The kernels of one operation on each kind of device.
struct Kernels {
  Kernel cpu;
  Kernel cuda;
  constexpr Kernels(Kernel c, Kernel g = nullptr) : cpu(c), cuda(g) {}  // NOLINT: implicit, one kernel is the CPU's
};

/// One input; kFormula is the Jacobian times t and, since it is symmetric, its transpose times t.
template <auto kFormula>
constexpr OpDef unary_op(std::string_view name, Kernels kernels, Saves saves) {
  return {.name = name,
          .cpu = kernels.cpu,
          .cuda = kernels.cuda,
          .jvp = jvp_of_one<kFormula>,
          .vjp = vjp_of_one<kFormula>,
          .inputs = {saves.x},
          .num_saves = 1,
          .outputs = saves.output};
}

/// Two inputs of one shape; the Jacobian in each of them is symmetric.
template <auto kFirst, auto kSecond>
constexpr OpDef binary_op(std::string_view name, Kernels kernels, Saves saves) {
  return {.name = name,
          .cpu = kernels.cpu,
          .cuda = kernels.cuda,
          .jvp = jvp_of_two<kFirst, kSecond>,
          .vjp = vjp_of_two<kFirst, kSecond>,
          .inputs = {saves.x, saves.y},
          .num_saves = 2,
          .outputs = saves.output};
}

/// Results are constants for differentiation.
constexpr OpDef constant_op(std::string_view name, Kernels kernels) {
  return {.name = name, .cpu = kernels.cpu, .cuda = kernels.cuda, .differentiable = false};
}

}  // namespace solvent::detail
