#pragma once
/// Recurrences h_t = f(h_{t-1}, x_t; theta), t = 1..T, evaluated step by step or in parallel over time.
///
///     auto cell = [](const Tensor& h, const Tensor& x, const Tensors& theta) {
///       return tanh(matmul(h, theta[0]) + matmul(x, theta[1]));
///     };
///     Solution s = solve_sequence(cell, h0, xs, {w_h, w_x}, Deer{});
///
/// The unknown is the whole trajectory; its residual is r_t = f(h_{t-1}, x_t) - h_t. Every method stops on that residual,
/// per sequence of the batch: a sequence that has converged leaves the active batch, so its result has the same bits
/// whatever it is batched with (as far as the cell's own operations do). All methods reach the same fixed point; after k
/// Jacobi or Newton steps the first k states are exact, so max_steps = T always suffices in exact arithmetic.
///
/// Gradients (Options::adjoint): `implicit` solves the adjoint recurrence lambda_t = g_t + J_{t+1}^T lambda_{t+1} by one
/// reversed affine scan with the full Jacobians at the final state, also for methods that use other matrices.
/// Derivatives of any order and mode nest.

#include <functional>
#include <string>
#include <utility>
#include <variant>

#include "solvent/autodiff/custom.h"
#include "solvent/nn/recurrent_cell.h"
#include "solvent/solvers/solution.h"

namespace solvent::solvers {

/// A cell's value (N, n) and its Jacobian (N, n, n), or the Jacobian's diagonal (N, n), or its blocks (N, n/k, k, k).
using CellJacobian = nn::StepJacobian;

/// Result of a fused kernel: states, the certificate, counters.
struct FusedResult {
  Tensor value;                  ///< (T, B, n)
  std::vector<double> residual;  ///< per sequence: largest defect |r| of the recurrence, NaN or infinity as they are
  std::vector<double> ratio;     ///< per sequence: largest |r| / (atol + rtol |h|)
  int passes = 0;                ///< passes or Newton steps of the slowest sequence (or window)
  int windows = 1;               ///< pieces of the sequence solved one after the other
  int max_passes = 0;            ///< limit that was in force
  /// What a kernel with the tests of the generic path knows of each sequence; empty: status by `ratio`, `passes` steps.
  /// @{
  std::vector<Status> status;
  std::vector<int> steps;
  /// @}
  std::vector<double> history;  ///< largest ratio after every step, or empty
  int best_step = -1;           ///< step of the returned iterate; < 0: the last one
};

/// What a fused kernel is asked for.
struct FusedOptions {
  double atol = 0;            ///< absolute tolerance
  double rtol = 0;            ///< relative to |h|
  int max_passes = 0;         ///< 0: as many as always suffice
  std::int64_t chunk = 0;     ///< chunk or window; 0: chosen by the kernel from the sizes
  std::int64_t burn_in = -1;  ///< shooting; < 0: the kernel's default
  /// See Termination; for kernels whose iterates may get worse.
  /// @{
  int patience = 0;
  double divergence_factor = 0;
  /// @}
  double damping = 0;  ///< see Deer
  Tensor guess;        ///< finite first iterate (T, B, n); undefined: h0 at every step
};

/// A recurrent cell with whatever closed forms it has; only `step` is required. All functions own what they capture.
struct SequenceCell {
  /// The functions of a cell, see the members that have these types.
  /// @{
  using Step = std::function<Tensor(const Tensor& h, const Tensor& x, const Tensors& theta)>;
  using Jacobian = std::function<CellJacobian(const Tensor& h, const Tensor& x, const Tensors& theta)>;
  using Project = std::function<Tensor(const Tensor& x, const Tensors& theta)>;
  using Sequence = std::function<Tensor(const Tensor& h0, const Tensor& xs, const Tensors& theta)>;
  /// @}
  /// Fused time-parallel kernels on plain tensors of any device. An empty value declines: the generic path is taken.
  using Fused =
      std::function<FusedResult(const Tensor& h0, const Tensor& xs, const Tensors& theta, const FusedOptions& options)>;
  /// l_t = g_t + J_{t+1}^T l_{t+1} from l_{T+1} = 0 for states hs and cotangents g (T, B, n), on plain tensors of any device.
  /// An empty value declines.
  using FusedAdjoint = std::function<Tensor(const Tensor& hs, const Tensor& h0, const Tensor& xs, const Tensors& theta,
                                            const Tensor& g)>;

  Step step;                   ///< (N, n), (N, ...), theta -> (N, n); rows are independent
  Jacobian jacobian;           ///< closed form; empty: forward mode with n directions in one pass (jacfwd_rows)
  Jacobian jacobian_diagonal;  ///< closed form of the diagonal; empty: taken from `jacobian`
  Jacobian jacobian_blocks;    ///< closed form of the blocks; empty: taken from `jacobian`
  /// Components k of a channel (1 to 4): the state is component 0 of all channels, then component 1, ...
  std::int64_t components = 1;
  /// No channel reads another channel's state, so the Jacobian consists of its k x k blocks. Then `Deer{}` and implicit
  /// gradients use those, at O(n) instead of O(n^3) per step, and where a closed form is missing, k directions suffice.
  bool channelwise = false;
  Project project;       ///< part of the step that depends on x only, done once; then `step` gets its result
  Step fused_step;       ///< the step on x itself, in place of `step` where implicit gradients differentiate it
  Sequence sequence;     ///< fused step-by-step evaluation over (T, B, ...)
  Fused fused_shooting;  ///< in place of Shooting
  /// In place of Deer with dense Jacobians; declines damping or a guess if it does not have them.
  Fused fused_newton;
  /// In place of the reversed scan over Jacobians in implicit gradients of first order.
  FusedAdjoint fused_adjoint;
  std::string name = "cell";  ///< for messages
};

/// A cell of nn/ with all its closed forms and fused kernels. The parameters are passed separately (`cell.theta`).
SOLVENT_API SequenceCell sequence_cell(const nn::RecurrentCell& cell);

// --- methods ------------------------------------------------------------------------------------------------------------

/// Step by step; the reference for all others. `fused` uses the cell's whole-sequence kernel if it has one.
struct Sequential {
  bool fused = true;  ///< use the cell's kernel
};

/// h <- f(shift(h), x) for all t at once (A = 0): exact prefix grows by at least one per step.
/// `window` > 0 solves that many steps at a time (Gauss-Seidel over windows, Jacobi inside: the GS-Jacobi hybrid).
/// Source: Song et al. 2021, "Accelerating Feedforward Computation via Parallel Nonlinear Equation Solving", alg. 1 and 3.
struct Jacobi {
  std::int64_t window = 0;  ///< 0: the whole sequence
};

/// Jacobi over blocks of `block` steps, sequential inside each (the Jacobi-GS hybrid): ceil(T / block) sweeps suffice, and
/// block = T is the sequential method. Source: Song et al. 2021, alg. 3.
struct GaussSeidel {
  std::int64_t block = 32;  ///< steps per block
};

/// What Deer takes of J: all of it, its diagonal, or its blocks, the k x k Jacobians of each channel's components in
/// themselves; the same as the diagonal for k = 1.
enum class JacobianKind : std::uint8_t { dense, diagonal, blocks };

/// Newton's method on the trajectory (DEER, Lim et al. 2024, arXiv:2309.12252) in delta form: r = f(shift(h)) - h,
/// d_t = A_t d_{t-1} + r_t, h += d, with A = (1 - damping) J. `diagonal` keeps J's diagonal (quasi-DEER, Gonzalez et al.
/// 2024, arXiv:2407.19115): linear instead of quadratic convergence, O(n) memory per step. `blocks` keeps the blocks of
/// (h, c) pairs and the like, at the same order of cost. For channelwise cells, `dense` is computed as `blocks`.
struct Deer {
  JacobianKind jacobian = JacobianKind::dense;  ///< dense: Newton; else quasi-Newton
  double damping = 0.0;                         ///< 0 = Newton, 1 = Jacobi
  std::int64_t window = 0;  ///< > 0: that many steps at a time, the last state handed over; memory O(window n^2)
  bool fused = true;        ///< use the cell's fused kernels where it has them: Newton, adjoint
};

/// Multiple shooting: chunks of `chunk` steps are rolled out in parallel from start states that are the previous chunks'
/// ends, until start and end agree at every border; the mismatch is the certificate. For contracting cells one or two
/// passes suffice; ceil(T / chunk) always do. The first pass starts `burn_in` steps early from h0.
struct Shooting {
  std::int64_t chunk = 0;     ///< 0: chosen from T and the batch
  std::int64_t burn_in = -1;  ///< < 0: 64 steps (128 in fused kernels), at most a chunk
  bool fused = true;          ///< use the cell's fused kernels where it has them: shooting, adjoint
};

/// A method of solve_sequence.
using SequenceMethod = std::variant<Sequential, Jacobi, GaussSeidel, Deer, Shooting>;

/// "sequential", "jacobi", "gauss_seidel", "deer", "quasi_deer", "block_deer", "shooting".
SOLVENT_API std::string name_of(const SequenceMethod& method);

/// Evaluates the recurrence.
///
/// @param cell   SequenceCell, or a callable step(h (N, n), x (N, ...), theta) -> (N, n) acting on rows independently. It is
///               kept for derivatives: capture by value only (by_value), pass differentiable tensors in theta.
/// @param h0     (B, n) state before step 1.
/// @param xs     (T, B, ...) inputs.
/// @param theta  parameters.
/// @param method Sequential, Jacobi, GaussSeidel, Deer or Shooting.
/// @param options when to stop, how to differentiate, where to start, what to do on failure.
/// @return       value (T, B, n); row t is the state after step t.
/// @throws ShapeError for T == 0 or shapes that disagree; SolverError as asked by options; AutodiffError for captures.
SOLVENT_API Solution solve_sequence(const SequenceCell& cell, const Tensor& h0, const Tensor& xs, const Tensors& theta,
                                    const SequenceMethod& method = Deer{}, const Options& options = {});

/// The same for a cell of nn/: `solve_sequence(gru.functions(), h0, xs)` with the parameters it carries.
SOLVENT_API Solution solve_sequence(const nn::RecurrentCell& cell, const Tensor& h0, const Tensor& xs,
                                    const SequenceMethod& method = Deer{}, const Options& options = {});

/// The same for a step function without closed forms.
template <OwningCallable F>
requires std::is_invocable_r_v<Tensor, F&, const Tensor&, const Tensor&, const Tensors&> Solution
solve_sequence(F step, const Tensor& h0, const Tensor& xs, const Tensors& theta, const SequenceMethod& method = Deer{},
               const Options& options = {}) {
  SequenceCell cell;
  cell.step = std::move(step);
  return solve_sequence(cell, h0, xs, theta, method, options);
}

/// Residual f(h_{t-1}, x_t) - h_t of a trajectory hs (T, B, n): an independent check of any solution.
SOLVENT_API Tensor sequence_residual(const SequenceCell& cell, const Tensor& hs, const Tensor& h0, const Tensor& xs,
                                     const Tensors& theta);

// --- one step at a time (to draw iterates, or to build a method of one's own) ---------------------------------------------

/// A sequence problem with its inputs flattened to rows once.
class SOLVENT_API SequenceProblem {
 public:
  /// The arguments of solve_sequence. @throws ShapeError as solve_sequence
  SequenceProblem(const SequenceCell& cell, Tensor h0, const Tensor& xs, Tensors theta);

  /// Number T of steps.
  [[nodiscard]] std::int64_t length() const noexcept { return t_; }
  /// Number B of sequences.
  [[nodiscard]] std::int64_t batch() const noexcept { return b_; }
  /// Number n of states.
  [[nodiscard]] std::int64_t state_size() const noexcept { return n_; }
  /// State before step 1, (B, n).
  [[nodiscard]] const Tensor& h0() const noexcept { return h0_; }

  /// f(h_{t-1}, x_t) for all t: (T, B, n).
  [[nodiscard]] Tensor evaluate(const Tensor& hs) const;
  /// The same with Jacobians (T, B, n, n), or diagonals (T, B, n), or blocks (T, B, n/k, k, k), for k = 1 diagonals.
  [[nodiscard]] CellJacobian linearize(const Tensor& hs, JacobianKind kind) const;
  /// The cheapest kind that holds the whole Jacobian: dense unless the cell is channelwise.
  [[nodiscard]] JacobianKind exact_kind() const;
  /// Solves d_t = A_t d_{t-1} + r_t from d_0 = 0 for matrices of any kind from `linearize`; r (..., T, B, n).
  [[nodiscard]] Tensor scan(const Tensor& a, const Tensor& r) const;
  /// Solves l_t = A_{t+1}^T l_{t+1} + r_t from l_{T+1} = 0.
  [[nodiscard]] Tensor scan_reversed(const Tensor& a, const Tensor& r) const;
  /// f on any rows: states (N, n), rows of inputs numbered by t * B + b given as (N, ...).
  [[nodiscard]] Tensor step(const Tensor& h, const Tensor& x) const;
  /// Inputs as the step takes them: (T, B, ...), projected if the cell projects.
  [[nodiscard]] const Tensor& inputs() const noexcept { return xs_; }
  /// Rows [first, first + count) in time, starting from `h0`.
  [[nodiscard]] SequenceProblem window(std::int64_t first, std::int64_t count, Tensor h0) const;
  /// The sequences with these indices.
  [[nodiscard]] SequenceProblem subset(const std::vector<int>& items) const;
  /// The default initial guess: h0 at every step, (T, B, n).
  [[nodiscard]] Tensor default_guess() const;
  /// (h0, h_1..h_{T-1}) as (T, B, n).
  [[nodiscard]] Tensor shifted(const Tensor& hs) const;

 private:
  SequenceProblem() = default;
  [[nodiscard]] Tensor rows(const Tensor& t) const;
  [[nodiscard]] CellJacobian blocks(const Tensor& h, const Tensor& x) const;
  [[nodiscard]] CellJacobian dense(const Tensor& h, const Tensor& x) const;

  SequenceCell cell_;
  Tensor h0_, xs_;
  Tensors theta_;
  std::int64_t t_ = 0, b_ = 0, n_ = 0;
};

/// Iterate and residual r = f(shift(h)) - h, both (T, B, n). After a sweep of GaussSeidel or Shooting the residual is zero
/// inside the chunks by construction, and only the rows at their borders are kept: (chunks, B, n).
struct SequenceState {
  Tensor h;          ///< (T, B, n)
  Tensor residual;   ///< of h
  Tensor reference;  ///< rows of h that `residual` belongs to
};

/// The state of a guess (T, B, n): its residual costs one evaluation.
SOLVENT_API SequenceState begin(const SequenceProblem& problem, Tensor guess);
/// One step of a method: state -> state with the residual of the new iterate. Sequential converges in one. Counts its
/// work in `stats`.
SOLVENT_API SequenceState step(const SequenceMethod& method, const SequenceProblem& problem, const SequenceState& state,
                               Stats& stats);

}  // namespace solvent::solvers
