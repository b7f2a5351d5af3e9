#pragma once
/// What every solver returns, and how it is told when to stop. Problem, method, termination, adjoint and result are five
/// separate values; a solve that did not converge never passes for a converged one.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "solvent/core/tensor.h"

namespace solvent::solvers {

/// How a solve ended.
enum class Status : std::uint8_t {
  converged,   ///< every item's residual is within tolerance
  max_steps,   ///< the allowed steps were used up
  stalled,     ///< no 1 % improvement in `patience` checks
  diverged,    ///< the residual exceeds `divergence_factor` times the best one
  non_finite,  ///< a NaN or infinity appeared in an iterate or residual
};

/// "converged", "max_steps", ...
/// "converged", "max_steps", ...
SOLVENT_API std::string_view to_string(Status status) noexcept;
/// One sentence on what to try.
SOLVENT_API std::string_view advice(Status status) noexcept;

/// What is compared with the tolerance. `step` additionally requires the residual to be within tolerance.
enum class Criterion : std::uint8_t { residual, step };

/// When to stop. An item (a sequence of a batch) has converged when |r| <= atol + rtol |y| holds for all its entries.
struct Termination {
  Criterion on = Criterion::residual;  ///< what decides
  double atol = -1;                    ///< < 0: 1e-8 (float64), 1e-5 (float32)
  double rtol = -1;                    ///< < 0: 1e-6 (float64), 1e-4 (float32)
  int max_steps = -1;                  ///< < 0: the method's default (T for causal sequences, else 100)
  int patience = 0;                    ///< checks without 1 % improvement before `stalled`; 0 = never
  double divergence_factor = 1e6;      ///< residual / best residual that counts as `diverged`; 0 = never
};

/// How a solution is differentiated.
enum class Adjoint : std::uint8_t {
  implicit,  ///< implicit function theorem at the solution: one linear solve, no iteration is recorded
  unrolled,  ///< through all steps of the method
  none,      ///< the solution is a constant
};

/// What a solve that did not converge does.
enum class OnFailure : std::uint8_t {
  throw_error,  ///< SolverError with status, residual and advice
  return_best,  ///< the best iterate, marked by its status
};

/// Counters of one solve.
struct Stats {
  int steps = 0;                    ///< iterations of the slowest item (of the slowest window)
  std::int64_t f_evals = 0;         ///< evaluations of the residual on the whole problem
  std::int64_t jacobian_evals = 0;  ///< evaluations of Jacobians on the whole problem
  std::int64_t linear_solves = 0;   ///< linear systems or affine scans
  double residual = 0;              ///< largest |r| of the returned value
  int best_step = 0;                ///< step of the returned iterate
  int windows = 1;                  ///< pieces of the sequence solved one after the other
  int replaced_guesses = 0;         ///< items whose warm start was not finite and was replaced by the default
  std::vector<int> steps_per_item;  ///< one entry per batch item
  std::vector<double> history;      ///< largest |r| / tolerance after every step
  double seconds = 0;               ///< wall time of the solve
};

/// Progress of a running solve, given to `Options::each_step`.
struct StepInfo {
  int step = 0;          ///< steps taken
  double residual = 0;   ///< largest |r|
  int active_items = 0;  ///< items not yet converged
  Tensor iterate;        ///< current iterate of the active items
};

/// Everything about a solve that is not the problem or the method.
struct Options {
  Termination termination = {};                   ///< when to stop
  Adjoint adjoint = Adjoint::implicit;            ///< how it is differentiated
  OnFailure on_failure = OnFailure::throw_error;  ///< what happens if it does not converge
  Tensor initial_guess = {};  ///< warm start with the solution's shape; empty = the method's default
  std::function<void(const StepInfo&)> each_step = {};  ///< called after every step, e.g. to draw iterates
};

/// Result of a solve.
struct Solution {
  Tensor value;                       ///< the solution, or the best iterate
  Status status = Status::max_steps;  ///< how the solve ended
  Stats stats;                        ///< what it took

  /// Whether it converged.
  [[nodiscard]] bool ok() const noexcept { return status == Status::converged; }
  /// The value. @throws SolverError with message() unless converged.
  [[nodiscard]] SOLVENT_API const Tensor& value_or_throw() const;
  /// "[deer] stopped after 50 of 50 steps: residual 3.1e-02 > ... Try ..."
  [[nodiscard]] SOLVENT_API std::string message() const;

  std::string method;  ///< name used in messages
  int max_steps = 0;   ///< limit that was in force
};

}  // namespace solvent::solvers
