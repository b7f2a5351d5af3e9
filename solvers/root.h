#pragma once
/// Roots and fixed points of functions of tensors, with gradients by the implicit function theorem.
///
///     auto layer = [](const Tensor& y, const Tensors& theta) { return tanh(matmul(y, theta[0]) + theta[1]); };
///     Solution s = solve_fixed_point(layer, zeros({batch, n}), {w, x}, Anderson{});

#include <functional>
#include <variant>

#include "solvent/autodiff/custom.h"
#include "solvent/solvers/solution.h"

namespace solvent::solvers {

/// A residual or a map: y and theta to a tensor of y's shape.
using RootFunction = std::function<Tensor(const Tensor& y, const Tensors& theta)>;

/// Newton's method with a dense Jacobian (forward mode, all directions in one pass) and LU. With `damping` > 0 only the part
/// (1 - damping) of each step is taken; with `line_search` a step that does not reduce the residual is halved.
struct Newton {
  double damping = 0.0;     ///< 0 <= damping < 1
  bool line_search = true;  ///< halve steps that do not reduce the residual
};

/// y <- (1 - damping) g(y) + damping y.
struct Picard {
  double damping = 0.0;  ///< 0 <= damping < 1
};

/// Anderson acceleration (Walker & Ni 2011, type II) of y <- g(y): combines the last `memory` iterates by regularised least
/// squares, each item of the batch on its own; `mixing` weighs g's part.
struct Anderson {
  int memory = 5;                 ///< iterates that are combined, at least 1
  double mixing = 1.0;            ///< weight of g's part
  double regularisation = 1e-10;  ///< relative to the largest diagonal entry of the normal matrix
};

/// A method of solve_root and solve_fixed_point.
using RootMethod = std::variant<Newton, Picard, Anderson>;

/// What the leading axis of y means.
enum class Batch : std::uint8_t {
  whole,  ///< y is one item
  rows,   ///< y (N, ...): N independent items; the function must act on each on its own
};

/// Solves residual(y, theta) = 0.
///
/// @param residual  maps y to a tensor of y's shape; kept for derivatives (capture by value only, see by_value).
/// @param y0        start; its gradient is zero.
/// @param theta     what the solution depends on; differentiable.
/// @param method    Newton, Picard or Anderson.
/// @param options   when to stop, how to differentiate, what to do on failure.
/// @param batch     whether the rows of y are problems of their own.
/// @return          value of y0's shape with status and statistics. Converged means |r| <= atol for every entry: the units
///                  of r are the caller's, so rtol does not apply (it does to fixed points: |y - g(y)| <= atol + rtol |y|).
/// @throws ShapeError, DtypeError, SolverError as asked by options; AutodiffError for captured differentiable tensors.
///
/// Picard and Anderson iterate g(y) = y - residual(y). A singular Jacobian is solved in the least-squares sense with a small
/// regularisation; the residual test decides about success.
SOLVENT_API Solution solve_root_of(const RootFunction& residual, const Tensor& y0, const Tensors& theta,
                                   const RootMethod& method, const Options& options, Batch batch);

/// Solves y = map(y, theta).
SOLVENT_API Solution solve_fixed_point_of(const RootFunction& map, const Tensor& y0, const Tensors& theta,
                                          const RootMethod& method, const Options& options, Batch batch);

/// solve_root_of for a callable that owns what it captures.
template <OwningCallable F>
Solution solve_root(F residual, const Tensor& y0, const Tensors& theta, const RootMethod& method = Newton{},
                    const Options& options = {}, Batch batch = Batch::whole) {
  return solve_root_of(std::move(residual), y0, theta, method, options, batch);
}

/// solve_fixed_point_of for a callable that owns what it captures.
template <OwningCallable F>
Solution solve_fixed_point(F map, const Tensor& y0, const Tensors& theta, const RootMethod& method = Anderson{},
                           const Options& options = {}, Batch batch = Batch::whole) {
  return solve_fixed_point_of(std::move(map), y0, theta, method, options, batch);
}

}  // namespace solvent::solvers
