#pragma once
/// Transforms of functions. A function is any callable from Tensor to Tensor or from Tensors to Tensors; transforms nest
/// in any order and to any depth, and there is no gradient mode, no `requires_grad` and no state to reset.
///
///     Tensor y  = ...;
///     Tensor g  = grad([](const Tensor& x) { return sum(tanh(x)); }, y);
///     Tensor hv = hvp([](const Tensor& x) { return sum(tanh(x)); }, y, v);
///
/// Inside the function, tensors must come from its arguments or be constants. Results for integer inputs do not exist:
/// differentiating with respect to one is a DtypeError.

#include <concepts>
#include <functional>
#include <memory>
#include <type_traits>
#include <utility>

#include "solvent/autodiff/apply.h"

namespace solvent {

/// The general form of a function: a list of tensors to a list of tensors.
using TensorsFn = std::function<Tensors(const Tensors&)>;

namespace detail {
class Tape;
struct TapeDeleter {
  SOLVENT_API void operator()(Tape* tape) const noexcept;
};
struct TapeOwner;
}  // namespace detail

/// Callable from one tensor to one tensor.
template <class F>
concept TensorFunction = std::is_invocable_r_v<Tensor, F&, const Tensor&>;
/// Callable from a list of tensors to a list.
template <class F>
concept TensorsFunction = std::is_invocable_r_v<Tensors, F&, const Tensors&>;
/// Callable from a list of tensors to one tensor (a loss).
template <class F>
concept ScalarFunction = std::is_invocable_r_v<Tensor, F&, const Tensors&> && !std::is_convertible_v<F, Tensor>;

namespace detail {
template <class F>
TensorsFn lift_unary(F& f) {
  return [&f](const Tensors& xs) -> Tensors {
    Tensors ys;
    ys.push_back(f(xs[0]));
    return ys;
  };
}
template <class F>
TensorsFn lift_scalar(F& f) {
  return [&f](const Tensors& xs) -> Tensors {
    Tensors ys;
    ys.push_back(f(xs));
    return ys;
  };
}
inline Tensors one(Tensor t) {
  Tensors v;
  v.push_back(std::move(t));
  return v;
}
}  // namespace detail

// --- reverse mode -------------------------------------------------------------------------------------------------------

/// The adjoint of a function at a point: cotangents of outputs -> cotangents of inputs.
///
/// Owns the tape. The first call consumes it (saved tensors are freed as the sweep passes); pass `retain = true` to keep
/// it for another call. Calling a consumed pullback throws AutodiffError.
class SOLVENT_API Pullback {
 public:
  Pullback();
  /// Moves only: a pullback owns its tape.
  /// @{
  Pullback(Pullback&&) noexcept;
  Pullback& operator=(Pullback&&) noexcept;
  /// @}
  ~Pullback();

  /// One cotangent per output (an empty handle is a zero); shapes and dtypes of the outputs. @throws ShapeError
  Tensors operator()(const Tensors& cotangents, bool retain = false);
  /// For functions of one tensor with one output.
  Tensor operator()(const Tensor& cotangent, bool retain = false);

  /// Number of recorded operations (diagnostics).
  [[nodiscard]] std::int64_t num_nodes() const noexcept;
  /// For debug.h.
  [[nodiscard]] const detail::Tape* tape() const noexcept;

 private:
  friend SOLVENT_API struct VjpResult vjp(const TensorsFn& f, const Tensors& xs);
  std::unique_ptr<detail::TapeOwner> owner_;
};

/// Values of a function and its pullback.
struct VjpResult {
  Tensors values;     ///< f(xs)
  Pullback pullback;  ///< cotangents of f(xs) -> cotangents of xs
};
/// The same for a function of one tensor.
struct VjpResult1 {
  Tensor value;       ///< f(x)
  Pullback pullback;  ///< cotangent of f(x) -> cotangent of x
};

/// f(xs) and its pullback. Integer inputs pass as constants; their cotangents are zeros.
/// @{
SOLVENT_API VjpResult vjp(const TensorsFn& f, const Tensors& xs);
template <TensorFunction F>
VjpResult1 vjp(F f, const Tensor& x) {
  VjpResult r = vjp(detail::lift_unary(f), detail::one(x));
  return {std::move(r.values[0]), std::move(r.pullback)};
}
/// @}

/// Value, gradients and further outputs of a loss.
struct ValueAndGrad {
  Tensor value;   ///< one element
  Tensors grads;  ///< one per input, zeros where the value does not depend on it
  Tensors aux;    ///< what `f` returned after the value (not differentiated)
};

/// Value and gradients of a function whose first output is a one-element tensor; further outputs are returned as `aux`.
/// @throws ShapeError if the value has more than one element.
SOLVENT_API ValueAndGrad value_and_grad_aux(const TensorsFn& f, const Tensors& xs);
/// Value and gradients of a scalar function of several tensors. @throws ShapeError if the value has more than one
/// element; DtypeError if it or an input is not floating.
template <ScalarFunction F>
ValueAndGrad value_and_grad(F f, const Tensors& xs) {
  return value_and_grad_aux(detail::lift_scalar(f), xs);
}
/// Value and gradient of a function of one tensor.
struct ValueAndGrad1 {
  Tensor value;  ///< one element
  Tensor grad;   ///< like the input
};
/// The same for a function of one tensor.
template <TensorFunction F>
ValueAndGrad1 value_and_grad(F f, const Tensor& x) {
  ValueAndGrad r = value_and_grad_aux(detail::lift_unary(f), detail::one(x));
  return {std::move(r.value), std::move(r.grads[0])};
}

/// Gradient of a scalar function. @throws ShapeError, DtypeError as value_and_grad.
/// @{
template <TensorFunction F>
Tensor grad(F f, const Tensor& x) {
  return value_and_grad(std::move(f), x).grad;
}
template <ScalarFunction F>
Tensors grad(F f, const Tensors& xs) {
  return value_and_grad(std::move(f), xs).grads;
}
/// @}

// --- forward mode -------------------------------------------------------------------------------------------------------

/// Values and their derivatives along given directions.
struct JvpResult {
  Tensors values;    ///< f(xs)
  Tensors tangents;  ///< like `values`, with K in front for K directions
};
/// The same for a function of one tensor.
struct JvpResult1 {
  Tensor value;    ///< f(x)
  Tensor tangent;  ///< like `value`, with K in front for K directions
};

/// f(xs) and its derivative along `tangents` (same shapes as xs; an empty handle is a zero). @throws ShapeError,
/// DtypeError if a tangent does not fit its input.
SOLVENT_API JvpResult jvp(const TensorsFn& f, const Tensors& xs, const Tensors& tangents);
/// K directions in one pass: tangents (K, *x.shape) -> (K, *y.shape). @throws ShapeError
SOLVENT_API JvpResult jvp_batched(const TensorsFn& f, const Tensors& xs, const Tensors& tangents,
                                  std::int64_t directions);
/// The same for a function of one tensor.
template <TensorFunction F>
JvpResult1 jvp(F f, const Tensor& x, const Tensor& tangent) {
  JvpResult r = jvp(detail::lift_unary(f), detail::one(x), detail::one(tangent));
  return {std::move(r.values[0]), std::move(r.tangents[0])};
}
/// K directions for a function of one tensor, tangents (K, *x.shape). @throws ShapeError
template <TensorFunction F>
JvpResult1 jvp_batched(F f, const Tensor& x, const Tensor& tangents) {
  JvpResult r = jvp_batched(detail::lift_unary(f), detail::one(x), detail::one(tangents), tangents.size(0));
  return {std::move(r.values[0]), std::move(r.tangents[0])};
}

// --- Jacobians ----------------------------------------------------------------------------------------------------------

/// Jacobian (*y.shape, *x.shape) by forward mode, all directions in one pass (at most `chunk` directions at a time;
/// 0 = all). Cost: x.numel() tangents. @throws DtypeError if x is not floating; ShapeError if f has several outputs.
/// @{
SOLVENT_API Tensor jacfwd_of(const TensorsFn& f, const Tensor& x, std::int64_t chunk);
template <TensorFunction F>
Tensor jacfwd(F f, const Tensor& x, std::int64_t chunk = 0) {
  return jacfwd_of(detail::lift_unary(f), x, chunk);
}
/// @}
/// Jacobian (*y.shape, *x.shape) by reverse mode: one forward pass over the (linear) pullback with y.numel() directions.
/// @throws DtypeError if x is not floating; ShapeError if f has several outputs.
/// @{
SOLVENT_API Tensor jacrev_of(const TensorsFn& f, const Tensor& x);
template <TensorFunction F>
Tensor jacrev(F f, const Tensor& x) {
  return jacrev_of(detail::lift_unary(f), x);
}
/// @}

/// Values and Jacobians of a function of rows.
struct RowsJacobian {
  Tensor value;     ///< (N, m)
  Tensor jacobian;  ///< (N, m, n)
};
/// Jacobians of a function that acts on rows independently, x (N, n) -> y (N, m), in one pass with n directions: cost of
/// about n evaluations, not N*n. Rows are processed in blocks so that temporaries stay in cache; blocks run in parallel.
/// `f(rows, first)` gets rows [first, first + rows.size(0)) of x, so that it can slice row-wise constants.
SOLVENT_API RowsJacobian jacfwd_rows(const std::function<Tensor(const Tensor& rows, std::int64_t first)>& f,
                                     const Tensor& x);

/// Hessian-vector product of a scalar function, forward over reverse.
template <TensorFunction F>
Tensor hvp(F f, const Tensor& x, const Tensor& v) {
  return jvp([&f](const Tensor& y) { return grad(std::ref(f), y); }, x, v).tangent;
}
/// Hessian (*x.shape, *x.shape) of a scalar function, forward over reverse.
template <TensorFunction F>
Tensor hessian(F f, const Tensor& x) {
  return jacfwd([&f](const Tensor& y) { return grad(std::ref(f), y); }, x);
}

// --- linearization ------------------------------------------------------------------------------------------------------

/// The derivative of f at xs as a linear map that can be applied many times, forward (jvp) and transposed (vjp), without
/// evaluating f again. Serves Krylov methods on J and its transpose.
class SOLVENT_API Linearized {
 public:
  /// Moves only: it owns its tape.
  /// @{
  Linearized(Linearized&&) noexcept;
  Linearized& operator=(Linearized&&) noexcept;
  /// @}
  ~Linearized();
  /// f(xs).
  [[nodiscard]] const Tensors& values() const noexcept;
  /// Tangents of the outputs; `directions` K > 0 for tangents with a leading axis of K.
  [[nodiscard]] Tensors jvp(const Tensors& tangents, std::int64_t directions = 0) const;
  /// Cotangents of the inputs.
  [[nodiscard]] Tensors vjp(const Tensors& cotangents) const;

 private:
  friend SOLVENT_API Linearized linearize(const TensorsFn& f, const Tensors& xs);
  Linearized();
  std::unique_ptr<detail::TapeOwner> owner_;
};
/// Evaluates f once at xs and keeps what its derivative needs. @throws DtypeError if an input is not floating.
SOLVENT_API Linearized linearize(const TensorsFn& f, const Tensors& xs);

}  // namespace solvent
