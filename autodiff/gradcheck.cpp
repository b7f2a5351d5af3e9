#include "solvent/autodiff/gradcheck.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "solvent/autodiff/basis.h"
#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/core/rng.h"

namespace solvent {

namespace {

Tensor random_like(const Tensor& x, Key key, std::int64_t directions = 0) {
  const Shape shape = directions > 0 ? prepend(directions, x.shape()) : x.shape();
  std::vector<double> values(static_cast<std::size_t>(shape.product()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = 2.0 * key.uniform(i) - 1.0;
  return from_vector(values, shape, x.device());
}

Tensors random_like(const Tensors& xs, Key key, std::int64_t directions = 0) {
  Tensors v;
  for (std::size_t i = 0; i < xs.size(); ++i)
    v.push_back(is_floating(xs[i].dtype()) ? random_like(xs[i], key.fold_in(i), directions) : Tensor());
  return v;
}

double dot(const Tensors& a, const Tensors& b) {
  double total = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!a[i].defined() || !b[i].defined() || !is_floating(a[i].dtype())) continue;
    const std::vector<double> u = a[i].to_vector<double>(), v = b[i].to_vector<double>();
    for (std::size_t j = 0; j < u.size(); ++j) total += u[j] * v[j];
  }
  return total;
}

Tensors moved(const Tensors& xs, const Tensors& direction, double step) {
  Tensors v = xs;
  for (std::size_t i = 0; i < xs.size(); ++i)
    if (direction[i].defined()) v[i] = add(xs[i], affine(direction[i], step, 0.0));
  return v;
}

// The function restricted to its floating inputs; the others stay constants.
struct Problem {
  TensorsFn f;
  Tensors xs;       // floating
  Tensors weights;  // random cotangents of the floating outputs
};

class Checker {
 public:
  Checker(Problem problem, const GradcheckOptions& options) : p_(std::move(problem)), o_(options), key_(options.seed) {}

  GradcheckReport run() {
    const Tensors u = random_like(p_.xs, key_.fold_in(11)), v = random_like(p_.xs, key_.fold_in(12));
    first_order(u);
    if (report_.message.empty()) batched();
    if (report_.message.empty() && o_.second_order) second_order(u, v);
    report_.ok = report_.message.empty();
    return report_;
  }

 private:
  Tensors pullback(const Tensors& xs) const { return vjp(p_.f, xs).pullback(p_.weights); }
  Tensors pushforward(const Tensors& xs, const Tensors& t) const { return jvp(p_.f, xs, t).tangents; }

  void compare(const char* what, double got, double expected, double atol, double rtol) {
    const double scale = std::max(std::abs(got), std::abs(expected));
    const double error = std::abs(got - expected);
    report_.max_error = std::max(report_.max_error, error / std::max(scale, 1e-30) * (error > atol ? 1.0 : 0.0));
    if (error <= atol + rtol * scale) return;  // NaN fails
    char text[256];
    std::snprintf(text, sizeof text, "%s: %.12g, expected %.12g (difference %.3g)", what, got, expected, error);
    if (report_.message.empty()) report_.message = text;
  }
  void modes(const char* what, double got, double expected) { compare(what, got, expected, o_.mode_tol, o_.mode_tol); }

  void first_order(const Tensors& u) {
    const double forward = dot(p_.weights, pushforward(p_.xs, u));
    const double reverse = dot(pullback(p_.xs), u);
    const double plus = dot(p_.weights, p_.f(moved(p_.xs, u, o_.eps)));
    const double minus = dot(p_.weights, p_.f(moved(p_.xs, u, -o_.eps)));
    const double difference = (plus - minus) / (2 * o_.eps);
    compare("forward mode against central differences", forward, difference, o_.atol, o_.rtol);
    modes("reverse mode against forward mode", reverse, forward);
  }

  void batched() {
    const std::int64_t k = o_.directions;
    const Tensors ts = random_like(p_.xs, key_.fold_in(13), k);
    const Tensors all = jvp_batched(p_.f, p_.xs, ts, k).tangents;
    const Linearized linear = linearize(p_.f, p_.xs);
    const Tensors replayed = linear.jvp(ts, k);
    for (std::int64_t d = 0; d < k; ++d) {
      const double one = dot(p_.weights, pushforward(p_.xs, direction(ts, d)));
      modes("K directions in one pass against single directions", dot(p_.weights, direction(all, d)), one);
      modes("linearize(f).jvp against forward mode", dot(p_.weights, direction(replayed, d)), one);
    }
  }

  static Tensors direction(const Tensors& ts, std::int64_t d) {
    Tensors v;
    for (const Tensor& t : ts) {
      if (!t.defined()) {
        v.emplace_back();
        continue;
      }
      Shape shape = t.shape();
      shape.erase(0);
      Strides strides = t.strides();
      strides.erase(0);
      v.push_back(engine::contiguous(engine::view(t, shape, strides, t.impl()->offset + d * t.strides()[0])));
    }
    return v;
  }

  void second_order(const Tensors& u, const Tensors& v) {
    const auto forward = [&](const Tensors& xs) { return pushforward(xs, u); };
    const auto reverse = [&](const Tensors& xs) { return pullback(xs); };
    const double ff = dot(p_.weights, jvp(forward, p_.xs, v).tangents);
    const double fr = dot(u, jvp(reverse, p_.xs, v).tangents);
    const double rf = dot(v, vjp(forward, p_.xs).pullback(p_.weights));
    const double rr = dot(v, vjp(reverse, p_.xs).pullback(u));
    const double plus = dot(u, pullback(moved(p_.xs, v, o_.eps)));
    const double minus = dot(u, pullback(moved(p_.xs, v, -o_.eps)));
    compare("forward over forward against central differences", ff, (plus - minus) / (2 * o_.eps), o_.atol, o_.rtol);
    modes("forward over reverse against forward over forward", fr, ff);
    modes("reverse over forward against forward over forward", rf, ff);
    modes("reverse over reverse against forward over forward", rr, ff);
    // K directions over K directions, and over reverse: every rule with two leading axes.
    const std::int64_t k = o_.directions;
    const Tensors us = random_like(p_.xs, key_.fold_in(14), k), vs = random_like(p_.xs, key_.fold_in(15), k);
    const auto batch = [&](const Tensors& xs) { return jvp_batched(p_.f, xs, us, k).tangents; };
    const Tensors kk = jvp_batched(batch, p_.xs, vs, k).tangents;
    const double expected = dot(
        p_.weights,
        jvp([&](const Tensors& xs) { return pushforward(xs, direction(us, 1)); }, p_.xs, direction(vs, 0)).tangents);
    modes("K over K directions against single ones", dot(p_.weights, direction(direction(kk, 0), 1)), expected);
  }

  Problem p_;
  GradcheckOptions o_;
  Key key_;
  GradcheckReport report_;
};

}  // namespace

GradcheckReport gradcheck(const TensorsFn& f, const Tensors& xs, const GradcheckOptions& options) {
  Problem p;
  std::vector<std::size_t> active;
  for (std::size_t i = 0; i < xs.size(); ++i) {
    if (is_floating(xs[i].dtype()) && xs[i].dtype() != DType::float64)
      throw DtypeError("[gradcheck] got input " + std::to_string(i) + " of type " +
                       std::string(to_string(xs[i].dtype())) + "; expected float64, differences in " +
                       std::string(to_string(xs[i].dtype())) + " carry no digits. Use cast(x, float64).");
    if (is_floating(xs[i].dtype())) {
      active.push_back(i);
      p.xs.push_back(xs[i]);
    }
  }
  const Tensors outputs = f(xs);
  std::vector<std::size_t> floating;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i].dtype() != DType::float64) continue;
    floating.push_back(i);
    p.weights.push_back(random_like(outputs[i], Key(options.seed).fold_in(100 + i)));
  }
  p.f = [&f, &xs, active, floating](const Tensors& ys) {
    Tensors full = xs;
    for (std::size_t k = 0; k < active.size(); ++k) full[active[k]] = ys[k];
    const Tensors all = f(full);
    Tensors out;
    for (const std::size_t i : floating) out.push_back(all[i]);
    return out;
  };
  return Checker(std::move(p), options).run();
}

}  // namespace solvent
