#include "solvent/autodiff/custom.h"

#include <algorithm>
#include <string>

#include "solvent/autodiff/basis.h"
#include "solvent/autodiff/level.h"
#include "solvent/autodiff/mechanism.h"
#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"

namespace solvent::detail {

namespace {

Tensors to_tensors(std::span<const Tensor> ts) { return {ts.begin(), ts.end()}; }

Tensors rule_inputs(const Rule& rule) {
  Tensors v;
  for (int i = 0; i < rule.num_inputs(); ++i) v.push_back(rule.input(i));
  return v;
}

Tensors rule_outputs(const Rule& rule) {
  Tensors v;
  for (int i = 0; i < rule.num_outputs(); ++i) v.push_back(rule.output(i));
  return v;
}

Tensor negated(Tensor x) { return affine(std::move(x), -1.0, 0.0); }

// Cotangents of the outputs with the missing ones as explicit zeros, for rules written by users.
Tensors materialised(const Rule& rule, std::span<const Tensor> cotangents) {
  Tensors g = to_tensors(cotangents);
  for (int i = 0; i < rule.num_outputs(); ++i) {
    Tensor& c = g[static_cast<std::size_t>(i)];
    if (!c.defined()) c = zeros_like(stop_gradient(rule.output(i)));
  }
  return g;
}

void check_shapes(const char* op, const char* what, const Tensors& got, const Tensors& expected) {
  if (got.size() != expected.size())
    throw ShapeError(std::string("[") + op + "] " + what + " returned " + std::to_string(got.size()) +
                     " tensors; expected " + std::to_string(expected.size()) + ".");
  for (std::size_t i = 0; i < got.size(); ++i)
    if (!(got[i].shape() == expected[i].shape()))
      throw ShapeError(std::string("[") + op + "] " + what + " returned tensor " + std::to_string(i) + " of shape " +
                       to_string(got[i].shape()) + "; expected " + to_string(expected[i].shape()) + ".");
}

// Cotangents of the inputs that are wanted, from the pullback of `f` restricted to them; the others stay constants.
TensorVec wanted_cotangents(const Rule& rule, const std::function<Tensors(const Tensors&)>& f, const Tensors& at,
                            const Tensors& cotangents) {
  std::vector<std::size_t> wanted;
  Tensors active;
  for (std::size_t i = 0; i < at.size(); ++i) {
    if (!rule.needs(static_cast<int>(i))) continue;
    wanted.push_back(i);
    active.push_back(at[i]);
  }
  VjpResult r = vjp(
      [&](const Tensors& xs) {
        Tensors full = at;
        for (std::size_t k = 0; k < wanted.size(); ++k) full[wanted[k]] = xs[k];
        return f(full);
      },
      active);
  Tensors grads = r.pullback(cotangents);
  TensorVec out(rule.num_inputs());
  for (std::size_t k = 0; k < wanted.size(); ++k) out[static_cast<int>(wanted[k])] = std::move(grads[k]);
  return out;
}

// --- custom_root ------------------------------------------------------------------------------------------------------------

struct RootFns {
  ResidualFn residual;
  SolveFn solve;
  TangentSolveFn tangent_solve;
};
struct RootAttrs : AttrsBase<RootAttrs> {
  std::shared_ptr<const RootFns> fns;
};

TensorVec root_kernel(std::span<Tensor> inputs, const Attrs* attrs) {
  const RootFns& fns = *static_cast<const RootAttrs*>(attrs)->fns;
  const Tensors theta = to_tensors(inputs);
  // theta is fully peeled here, so any differentiated tensor met in solve or residual is a capture. The residual is
  // evaluated for that check: a capture in the residual alone would otherwise give a silent zero gradient.
  const BarScope bar("custom_root");
  Tensors y = fns.solve(theta);
  check_shapes("custom_root", "residual(y, theta)", fns.residual(y, theta), y);
  return TensorVec(std::move(y));
}

TensorVec root_jvp(const Rule& rule, std::span<const Tensor> tangents) {
  const RootFns& fns = *rule.attrs<RootAttrs>().fns;
  const Tensors theta = rule_inputs(rule);
  const Tensors y = rule_outputs(rule);
  const JvpResult r =
      jvp_batched([&](const Tensors& t) { return fns.residual(y, t); }, theta, to_tensors(tangents), rule.directions());
  Tensors x = fns.tangent_solve(y, theta, r.tangents, false);
  check_shapes("custom_root", "tangent_solve", x, r.tangents);
  for (Tensor& t : x) t = negated(std::move(t));
  return TensorVec(std::move(x));
}

TensorVec root_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  const RootFns& fns = *rule.attrs<RootAttrs>().fns;
  const Tensors theta = rule_inputs(rule);
  const Tensors y = rule_outputs(rule);
  const Tensors g = materialised(rule, cotangents);
  Tensors lambda = fns.tangent_solve(y, theta, g, true);
  check_shapes("custom_root", "tangent_solve (transposed)", lambda, g);
  for (Tensor& t : lambda) t = negated(std::move(t));
  return wanted_cotangents(
      rule, [&](const Tensors& t) { return fns.residual(y, t); }, theta, lambda);
}

constinit const OpDef kCustomRoot = {.name = "custom_root",
                                     .cpu = root_kernel,
                                     .cuda = root_kernel,
                                     .jvp = root_jvp,
                                     .vjp = root_vjp,
                                     .inputs = {Save::data},
                                     .outputs = Save::data};

// --- custom_vjp -------------------------------------------------------------------------------------------------------------

struct CustomVjpAttrs : AttrsBase<CustomVjpAttrs> {
  std::shared_ptr<const std::pair<TensorsFn, CustomVjpFn>> fns;
};

TensorVec custom_vjp_kernel(std::span<Tensor> inputs, const Attrs* attrs) {
  const BarScope bar("custom_vjp");
  return TensorVec(static_cast<const CustomVjpAttrs*>(attrs)->fns->first(to_tensors(inputs)));
}

TensorVec custom_vjp_rule(const Rule& rule, std::span<const Tensor> cotangents) {
  const Tensors xs = rule_inputs(rule);
  Tensors grads = rule.attrs<CustomVjpAttrs>().fns->second(xs, rule_outputs(rule), materialised(rule, cotangents));
  if (grads.size() != xs.size())
    throw ShapeError("[custom_vjp] the rule returned " + std::to_string(grads.size()) + " cotangents; expected " +
                     std::to_string(xs.size()) + ", one per input (an empty Tensor() for none).");
  for (std::size_t i = 0; i < xs.size(); ++i)
    if (grads[i].defined() && !(grads[i].shape() == xs[i].shape()))
      throw ShapeError("[custom_vjp] the rule returned cotangent " + std::to_string(i) + " of shape " +
                       to_string(grads[i].shape()) + "; expected " + to_string(xs[i].shape()) + ".");
  return TensorVec(std::move(grads));
}

constinit const OpDef kCustomVjp = {.name = "custom_vjp",
                                    .cpu = custom_vjp_kernel,
                                    .cuda = custom_vjp_kernel,
                                    .vjp = custom_vjp_rule,
                                    .inputs = {Save::data},
                                    .outputs = Save::data};

// --- custom_jvp -------------------------------------------------------------------------------------------------------------

struct CustomJvpAttrs : AttrsBase<CustomJvpAttrs> {
  std::shared_ptr<const std::pair<TensorsFn, CustomJvpFn>> fns;
};

TensorVec custom_jvp_kernel(std::span<Tensor> inputs, const Attrs* attrs) {
  const BarScope bar("custom_jvp");
  return TensorVec(static_cast<const CustomJvpAttrs*>(attrs)->fns->first(to_tensors(inputs)));
}

Tensor zero_tangent(const Rule& rule, int i) {
  return zeros(rule.tangent_shape(i), {rule.input_dtype(i), rule.input_device(i)});
}

TensorVec custom_jvp_rule(const Rule& rule, std::span<const Tensor> tangents) {
  Tensors ts = to_tensors(tangents);
  for (int i = 0; i < rule.num_inputs(); ++i) {
    Tensor& t = ts[static_cast<std::size_t>(i)];
    if (!t.defined()) t = zero_tangent(rule, i);
  }
  return TensorVec(rule.attrs<CustomJvpAttrs>().fns->second(rule_inputs(rule), ts));
}

// The rule is linear in the tangents, so its pullback (at any point: zero) is its transpose.
TensorVec custom_jvp_transposed(const Rule& rule, std::span<const Tensor> cotangents) {
  const Tensors xs = rule_inputs(rule);
  Tensors ts;
  for (int i = 0; i < rule.num_inputs(); ++i) ts.push_back(zero_tangent(rule, i));
  const CustomJvpFn& f = rule.attrs<CustomJvpAttrs>().fns->second;
  return wanted_cotangents(
      rule, [&](const Tensors& t) { return f(xs, t); }, ts, materialised(rule, cotangents));
}

constinit const OpDef kCustomJvp = {.name = "custom_jvp",
                                    .cpu = custom_jvp_kernel,
                                    .cuda = custom_jvp_kernel,
                                    .jvp = custom_jvp_rule,
                                    .vjp = custom_jvp_transposed,
                                    .inputs = {Save::data},
                                    .outputs = Save::data};

// --- checkpoint -------------------------------------------------------------------------------------------------------------

struct CheckpointAttrs : AttrsBase<CheckpointAttrs> {
  std::shared_ptr<const TensorsFn> f;
};

TensorVec checkpoint_kernel(std::span<Tensor> inputs, const Attrs* attrs) {
  const BarScope bar("checkpoint");
  return TensorVec((*static_cast<const CheckpointAttrs*>(attrs)->f)(to_tensors(inputs)));
}

// Packs xs and the defined entries of `extra` into one list for a checkpoint of a derived function; `mask` remembers which.
Tensors packed(const Tensors& xs, const Tensors& extra, std::vector<bool>& mask) {
  Tensors all = xs;
  for (const Tensor& t : extra) {
    mask.push_back(t.defined());
    if (t.defined()) all.push_back(t);
  }
  return all;
}

std::pair<Tensors, Tensors> unpacked(const Tensors& all, const std::vector<bool>& mask, std::size_t num_xs) {
  Tensors xs(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(num_xs));
  Tensors extra(mask.size());
  std::size_t next = num_xs;
  for (std::size_t i = 0; i < mask.size(); ++i)
    if (mask[i]) extra[i] = all[next++];
  return {std::move(xs), std::move(extra)};
}

// Forward level: checkpoints (x, t) -> (f(x), jvp). Running f directly would record it on every outer reverse level.
TensorVec checkpoint_joint_jvp(std::span<Tensor> inputs, std::span<const Tensor> tangents, const Attrs* attrs,
                               std::int64_t directions) {
  const auto f = static_cast<const CheckpointAttrs*>(attrs)->f;
  std::vector<bool> mask;
  const Tensors all = packed(to_tensors(inputs), to_tensors(tangents), mask);
  const std::size_t n = inputs.size();
  return TensorVec(checkpoint_impl(
      [f, mask, n, directions](const Tensors& values) {
        const auto [xs, ts] = unpacked(values, mask, n);
        JvpResult r = jvp_batched(*f, xs, ts, directions);
        Tensors both = std::move(r.values);
        both.insert(both.end(), r.tangents.begin(), r.tangents.end());
        return both;
      },
      all));
}

TensorVec checkpoint_jvp(const Rule& rule, std::span<const Tensor> tangents) {
  return TensorVec(
      jvp_batched(*rule.attrs<CheckpointAttrs>().f, rule_inputs(rule), to_tensors(tangents), rule.directions())
          .tangents);
}

// Reverse level: the pullback is a checkpoint again, otherwise reverse over reverse saves nothing.
TensorVec checkpoint_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  const auto f = rule.attrs<CheckpointAttrs>().f;
  const Tensors xs = rule_inputs(rule);
  std::vector<bool> mask;
  const Tensors all = packed(xs, to_tensors(cotangents), mask);
  const std::size_t n = xs.size();
  std::vector<std::size_t> wanted;
  for (std::size_t i = 0; i < n; ++i)
    if (rule.needs(static_cast<int>(i))) wanted.push_back(i);
  Tensors grads = checkpoint_impl(
      [f, mask, n, wanted](const Tensors& values) {
        const auto [points, gs] = unpacked(values, mask, n);
        Tensors active;
        for (const std::size_t i : wanted) active.push_back(points[i]);
        VjpResult r = vjp(
            [&, &full_points = points](const Tensors& ws) {
              Tensors full = full_points;  // Clang 14 captures no structured binding by reference
              for (std::size_t k = 0; k < wanted.size(); ++k) full[wanted[k]] = ws[k];
              return (*f)(full);
            },
            active);
        return r.pullback(gs);
      },
      all);
  TensorVec out(rule.num_inputs());
  for (std::size_t k = 0; k < wanted.size(); ++k) out[static_cast<int>(wanted[k])] = std::move(grads[k]);
  return out;
}

constinit const OpDef kCheckpoint = {.name = "checkpoint",
                                     .cpu = checkpoint_kernel,
                                     .cuda = checkpoint_kernel,
                                     .jvp = checkpoint_jvp,
                                     .vjp = checkpoint_vjp,
                                     .inputs = {Save::data},
                                     .outputs = Save::shape,
                                     .joint_jvp = checkpoint_joint_jvp};

constexpr const OpDef* kMechanismOps[] = {&kCheckpoint, &kCustomJvp, &kCustomRoot, &kCustomVjp};

Tensors call(const OpDef& op, const Tensors& xs, const Attrs& attrs) {
  Tensors inputs = xs;
  return apply(op, inputs, &attrs).take();
}

}  // namespace

std::span<const OpDef* const> mechanism_ops() { return kMechanismOps; }

Tensor minus(Tensor a, const Tensor& b) { return add(std::move(a), negated(b)); }

Tensors custom_root_impl(ResidualFn residual, const Tensors& theta, SolveFn solve, TangentSolveFn tangent) {
  RootAttrs attrs;
  attrs.fns = std::make_shared<const RootFns>(RootFns{std::move(residual), std::move(solve), std::move(tangent)});
  return call(kCustomRoot, theta, attrs);
}

Tensors custom_vjp_impl(TensorsFn f, CustomVjpFn rule, const Tensors& xs) {
  CustomVjpAttrs attrs;
  attrs.fns = std::make_shared<const std::pair<TensorsFn, CustomVjpFn>>(std::move(f), std::move(rule));
  return call(kCustomVjp, xs, attrs);
}

Tensors custom_jvp_impl(TensorsFn f, CustomJvpFn rule, const Tensors& xs) {
  CustomJvpAttrs attrs;
  attrs.fns = std::make_shared<const std::pair<TensorsFn, CustomJvpFn>>(std::move(f), std::move(rule));
  return call(kCustomJvp, xs, attrs);
}

Tensors checkpoint_impl(TensorsFn f, const Tensors& xs) {
  CheckpointAttrs attrs;
  attrs.f = std::make_shared<const TensorsFn>(std::move(f));
  return call(kCheckpoint, xs, attrs);
}

}  // namespace solvent::detail
