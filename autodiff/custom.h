#pragma once
/// Functions with their own derivative rules, implicit differentiation, and checkpointing.
///
/// The closures given here sit on tapes and run after the enclosing function has returned, so they must own what they
/// use: captureless lambdas and value structs are accepted, capturing lambdas are rejected at compile time unless
/// wrapped in `by_value(...)` (capture by value only!). Differentiable tensors must be passed as arguments, never
/// captured; a captured one is detected and throws AutodiffError.

#include <functional>
#include <memory>
#include <type_traits>
#include <utility>

#include "solvent/autodiff/transforms.h"

namespace solvent {

/// Opt-in for a lambda with captures: promises that it captures by value only.
template <class F>
struct ByValue {
  std::shared_ptr<const F> f;  ///< the callable; shared, so that copies stay cheap
  /// Calls it.
  template <class... A>
  decltype(auto) operator()(A&&... a) const {
    return (*f)(std::forward<A>(a)...);
  }
};
/// Wraps a lambda with captures for custom_root, checkpoint and their kind. Capture by value only.
template <class F>
ByValue<std::decay_t<F>> by_value(F&& f) {
  return {std::make_shared<const std::decay_t<F>>(std::forward<F>(f))};
}

/// Copy-assignable callables: captureless lambdas, value structs, function pointers, ByValue. A lambda with captures is
/// not assignable in C++20, nor is a struct that holds a reference.
template <class F>
concept OwningCallable = std::is_copy_assignable_v<std::decay_t<F>> && std::is_copy_constructible_v<std::decay_t<F>>;

namespace detail {
using ResidualFn = std::function<Tensors(const Tensors& y, const Tensors& theta)>;
using SolveFn = std::function<Tensors(const Tensors& theta)>;
using TangentSolveFn =
    std::function<Tensors(const Tensors& y, const Tensors& theta, const Tensors& rhs, bool transposed)>;
using CustomVjpFn = std::function<Tensors(const Tensors& xs, const Tensors& ys, const Tensors& cotangents)>;
using CustomJvpFn = std::function<Tensors(const Tensors& xs, const Tensors& tangents)>;

SOLVENT_API Tensors custom_root_impl(ResidualFn residual, const Tensors& theta, SolveFn solve, TangentSolveFn tangent);
SOLVENT_API Tensors custom_vjp_impl(TensorsFn f, CustomVjpFn rule, const Tensors& xs);
SOLVENT_API Tensors custom_jvp_impl(TensorsFn f, CustomJvpFn rule, const Tensors& xs);
SOLVENT_API Tensors checkpoint_impl(TensorsFn f, const Tensors& xs);
SOLVENT_API Tensor minus(Tensor a, const Tensor& b);
}  // namespace detail

/// The solution y of residual(y, theta) = 0, differentiable in theta by the implicit function theorem.
///
/// - `residual(y, theta) -> r`, written with ops; r has the shapes of y.
/// - `solve(theta) -> y` runs below all transforms (it sees plain tensors and may do anything).
/// - `tangent_solve(y, theta, rhs, transposed) -> x` solves J x = rhs or J^T x = rhs with J = d residual / d y at (y, theta).
///   rhs may carry leading axes of directions; written with ops, it needs no special care.
///
/// Tangent: -J^{-1} (d residual / d theta) theta_dot; cotangent: -(d residual / d theta)^T J^{-T} g. Both are written with
/// public ops and differentiate again. @throws AutodiffError if solve or residual capture a differentiated tensor.
template <OwningCallable R, OwningCallable S, OwningCallable L>
Tensors custom_root(R residual, const Tensors& theta, S solve, L tangent_solve) {
  return detail::custom_root_impl(std::move(residual), theta, std::move(solve), std::move(tangent_solve));
}

/// x with matvec(theta, x) = b, differentiable in theta and b.
///
/// - `matvec(theta, x) -> A(theta) x`, linear in x, written with ops;
/// - `solve(theta, rhs, transposed) -> x`; rhs may carry leading axes of directions.
template <OwningCallable M, OwningCallable S>
Tensors custom_linear_solve(M matvec, const Tensors& theta, const Tensors& b, S solve);

/// f(xs) whose reverse rule is `rule(xs, ys, cotangents) -> cotangents of xs`. Reverse of reverse differentiates the rule.
/// Forward mode through it, forward over reverse included, is an AutodiffError: what f's tangent should be is not known.
/// Give custom_jvp instead, which serves every mode.
template <OwningCallable F, OwningCallable R>
Tensors custom_vjp(F f, R rule, const Tensors& xs) {
  return detail::custom_vjp_impl(std::move(f), std::move(rule), xs);
}

/// f(xs) whose forward rule is `rule(xs, tangents) -> tangents of ys`, linear in the tangents. Tangents may carry a leading
/// axis of directions (ops broadcast them). Reverse mode transposes the rule.
template <OwningCallable F, OwningCallable R>
Tensors custom_jvp(F f, R rule, const Tensors& xs) {
  return detail::custom_jvp_impl(std::move(f), std::move(rule), xs);
}

/// f(xs) without keeping intermediate values: they are computed again when the cotangents arrive. Saves memory at every
/// order. Parameters must be among xs (nn::checkpoint does that for modules).
template <OwningCallable F>
Tensors checkpoint(F f, const Tensors& xs) {
  return detail::checkpoint_impl(std::move(f), xs);
}

template <OwningCallable M, OwningCallable S>
Tensors custom_linear_solve(M matvec, const Tensors& theta, const Tensors& b, S solve) {
  const std::size_t num_theta = theta.size();
  Tensors all = theta;
  all.insert(all.end(), b.begin(), b.end());
  auto split = [num_theta](const Tensors& packed) {
    const auto cut = packed.begin() + static_cast<std::ptrdiff_t>(num_theta);
    return std::pair<Tensors, Tensors>{Tensors(packed.begin(), cut), Tensors(cut, packed.end())};
  };
  detail::ResidualFn residual = [matvec, split](const Tensors& x, const Tensors& packed) {
    auto [parameters, rhs] = split(packed);
    Tensors r = matvec(parameters, x);
    for (std::size_t i = 0; i < r.size(); ++i) r[i] = detail::minus(std::move(r[i]), rhs[i]);
    return r;
  };
  detail::SolveFn primal = [solve, split](const Tensors& packed) {
    auto [parameters, rhs] = split(packed);
    return solve(parameters, rhs, false);
  };
  detail::TangentSolveFn tangent = [solve, split](const Tensors&, const Tensors& packed, const Tensors& rhs,
                                                  bool transposed) {
    return solve(split(packed).first, rhs, transposed);
  };
  return detail::custom_root_impl(std::move(residual), all, std::move(primal), std::move(tangent));
}

}  // namespace solvent
