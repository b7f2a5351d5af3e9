// Driver of the sequence methods: windows, per-sequence convergence, best iterates, status, adjoints.

#include "solvent/solvers/sequence.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include <fmt/format.h>

#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/index.h"
#include "solvent/ops/shape_ops.h"
#include "solvent/solvers/sequence_detail.h"
#include "solvent/solvers/termination.h"

namespace solvent::solvers {

namespace {

using detail::ItemNorms;
using detail::Monitor;
using detail::Tolerance;
using Verdict = Monitor::Verdict;

constexpr int kBatchAxis = 1;  // of (T, B, n)

// --- one window: iterate until every sequence is settled ------------------------------------------------------------------

struct WindowResult {
  Tensor value;
  std::vector<Verdict> verdicts;
  std::vector<double> residual;  // of the returned iterate, per item
};

class WindowSolve {
 public:
  WindowSolve(const SequenceMethod& method, const Options& options, const SequenceProblem& problem, int max_steps,
              Stats& stats)
      : method_(method),
        options_(options),
        stats_(stats),
        tolerance_(detail::resolve(options.termination, problem.h0().dtype())),
        monitor_(options.termination, max_steps, static_cast<int>(problem.batch())),
        problem_(problem) {
    const auto items = static_cast<std::size_t>(problem.batch());
    result_.verdicts.assign(items, Verdict::running);
    result_.residual.assign(items, 0.0);
    best_.resize(items);
    for (std::size_t i = 0; i < items; ++i) active_.push_back(static_cast<int>(i));
    if (stats_.steps_per_item.size() < items) stats_.steps_per_item.resize(items, 0);
  }

  WindowResult run(SequenceState state) {
    Tensor previous;
    for (int k = 0;; ++k) {
      settle(k, state, previous);
      if (active_.empty()) break;
      previous = state.h;
      state = step(method_, problem_, state, stats_);
    }
    result_.value = assemble();
    return std::move(result_);
  }

 private:
  // A column of an iterate: kept as a handle, copied only if it is needed.
  struct Best {
    Tensor h;
    int column = 0;
    int step = 0;
    double residual = 0;
  };

  void settle(int k, SequenceState& state, const Tensor& previous) {
    const ItemNorms norms =
        detail::item_norms(stop_gradient(state.residual), stop_gradient(state.reference), kBatchAxis, tolerance_);
    const std::vector<Verdict> verdicts = monitor_.check(k, norms, active_, accepted(state, previous));
    report(k, state, norms);
    std::vector<int> keep_columns, keep_items;
    for (std::size_t c = 0; c < active_.size(); ++c) {
      const auto item = static_cast<std::size_t>(active_[c]);
      if (monitor_.is_best(active_[c]) || verdicts[c] == Verdict::converged)
        best_[item] = {state.h, static_cast<int>(c), k, norms.residual[c]};
      stats_.steps_per_item[item] = std::max(stats_.steps_per_item[item], k);
      if (verdicts[c] == Verdict::running) {
        keep_columns.push_back(static_cast<int>(c));
        keep_items.push_back(active_[c]);
      } else {
        result_.verdicts[item] = verdicts[c];
        result_.residual[item] = verdicts[c] == Verdict::converged ? norms.residual[c] : best_[item].residual;
      }
    }
    stats_.steps = std::max(stats_.steps, k);
    if (!keep_items.empty() && keep_items.size() < active_.size()) shrink(state, keep_columns);
    active_ = std::move(keep_items);
  }

  // Criterion::step: the last step of an item was within tolerance.
  std::vector<bool> accepted(const SequenceState& state, const Tensor& previous) const {
    std::vector<bool> accept(active_.size(), options_.termination.on == Criterion::residual);
    if (options_.termination.on == Criterion::residual || !previous.defined()) return accept;
    const Tensor now = stop_gradient(state.h);
    const Tensor before = stop_gradient(previous);  // has the columns of `state`: both follow the last shrink
    const ItemNorms norms = detail::item_norms(sub(now, before), now, kBatchAxis, tolerance_);
    for (std::size_t c = 0; c < accept.size(); ++c) accept[c] = norms.ratio[c] <= 1.0;
    return accept;
  }

  void report(int k, const SequenceState& state, const ItemNorms& norms) {
    const double ratio = *std::max_element(norms.ratio.begin(), norms.ratio.end());
    stats_.history.push_back(ratio);
    if (options_.each_step)
      options_.each_step({k, *std::max_element(norms.residual.begin(), norms.residual.end()),
                          static_cast<int>(active_.size()), stop_gradient(state.h)});
  }

  void shrink(SequenceState& state, const std::vector<int>& columns) {
    const Tensor index = from_vector(std::vector<std::int64_t>(columns.begin(), columns.end()),
                                     {static_cast<std::int64_t>(columns.size())}, state.h.device());
    state.h = index_select(state.h, index, kBatchAxis);
    state.residual = index_select(state.residual, index, kBatchAxis);
    state.reference = index_select(state.reference, index, kBatchAxis);
    problem_ = problem_.subset(columns);
  }

  Tensor assemble() {
    const auto same = [&](const Best& b) { return b.h.impl() == best_[0].h.impl(); };
    if (std::all_of(best_.begin(), best_.end(), same) &&
        best_[0].h.size(kBatchAxis) == static_cast<std::int64_t>(best_.size()))
      return finish(best_[0].h);
    Tensors columns;
    for (const Best& b : best_) columns.push_back(select(b.h, kBatchAxis, b.column));
    return finish(stack(std::move(columns), kBatchAxis));
  }
  Tensor finish(Tensor value) {
    for (const Best& b : best_) stats_.best_step = std::max(stats_.best_step, b.step);
    return value;
  }

  const SequenceMethod& method_;
  const Options& options_;
  Stats& stats_;
  Tolerance tolerance_;
  Monitor monitor_;
  SequenceProblem problem_;
  std::vector<int> active_;
  std::vector<Best> best_;
  WindowResult result_;
};

// --- the whole solve --------------------------------------------------------------------------------------------------------

std::int64_t window_of(const SequenceMethod& method) {
  if (const auto* deer = std::get_if<Deer>(&method)) return deer->window;
  if (const auto* jacobi = std::get_if<Jacobi>(&method)) return jacobi->window;
  return 0;
}

void check_method(const SequenceMethod& method) {
  const auto fail = [](const std::string& text) { throw ValueError("[solve_sequence] " + text); };
  if (const auto* deer = std::get_if<Deer>(&method)) {
    if (!(deer->damping >= 0.0 && deer->damping <= 1.0))
      fail(fmt::format("got damping {}; expected a value in [0, 1].", deer->damping));
    if (deer->window < 0)
      fail(fmt::format("got window {}; expected at least 0 (0 = the whole sequence).", deer->window));
  }
  if (const auto* jacobi = std::get_if<Jacobi>(&method); jacobi && jacobi->window < 0)
    fail(fmt::format("got window {}; expected at least 0 (0 = the whole sequence).", jacobi->window));
  if (const auto* gs = std::get_if<GaussSeidel>(&method); gs && gs->block < 1)
    fail(fmt::format("got block {}; expected at least 1.", gs->block));
  if (const auto* shooting = std::get_if<Shooting>(&method); shooting && shooting->chunk < 0)
    fail(fmt::format("got chunk {}; expected at least 0 (0 = chosen from the sizes).", shooting->chunk));
}

// Warm starts must be finite: one NaN would spread over all later times. Offending sequences get the default guess.
Tensor checked_guess(const SequenceProblem& problem, const Tensor& guess, Stats& stats) {
  const Tensor fallback = problem.default_guess();
  if (!(guess.shape() == fallback.shape()))
    throw ShapeError(fmt::format("[solve_sequence] got initial_guess {}; expected {}.", describe(guess),
                                 to_string(fallback.shape())));
  if (guess.dtype() != fallback.dtype())
    throw DtypeError(fmt::format("[solve_sequence] got initial_guess {}; expected {}. Use cast(x, dtype).",
                                 describe(guess), to_string(fallback.dtype())));
  if (!(guess.device() == fallback.device()))
    throw DeviceError(fmt::format("[solve_sequence] got initial_guess on {}; expected it on {}. Use to(x, device).",
                                  to_string(guess.device()), to_string(fallback.device())));
  // The derivative with respect to the guess is zero: the solution does not depend on it.
  const Tensor plain = stop_gradient(guess);
  const std::vector<bool> finite = detail::finite_items(plain, kBatchAxis);
  if (std::all_of(finite.begin(), finite.end(), [](bool f) { return f; })) return plain;
  Tensors columns;
  for (std::size_t i = 0; i < finite.size(); ++i) {
    if (!finite[i]) ++stats.replaced_guesses;
    columns.push_back(select(finite[i] ? plain : fallback, kBatchAxis, static_cast<std::int64_t>(i)));
  }
  return stack(std::move(columns), kBatchAxis);
}

SequenceState first_state(const SequenceMethod& method, const SequenceProblem& problem, const Options& options,
                          Stats& stats, const Tensor& guess) {
  if (const auto* shooting = std::get_if<Shooting>(&method); shooting && !options.initial_guess.defined()) {
    const std::int64_t chunk = detail::chunk_length(*shooting, problem.length(), problem.batch());
    const std::int64_t burn_in = shooting->burn_in < 0 ? std::min<std::int64_t>(64, chunk) : shooting->burn_in;
    Tensor hs = detail::roll_out(problem, detail::burn_in_starts(problem, chunk, burn_in), chunk);
    stats.f_evals += 1;
    return detail::chunk_state(problem, std::move(hs), chunk, stats);
  }
  ++stats.f_evals;
  return begin(problem, guess);
}

void finish(Solution& s, const std::vector<Verdict>& verdicts, const std::vector<double>& residual) {
  s.status = detail::combine(verdicts);
  for (const double r : residual) s.stats.residual = std::max(s.stats.residual, std::isfinite(r) ? r : INFINITY);
}

// `guess`: undefined, or what checked_guess returned.
Solution run_iterative(const SequenceProblem& problem, const SequenceMethod& method, const Options& options,
                       const Tensor& guess) {
  Solution s;
  const std::int64_t steps = problem.length();
  const std::int64_t window = window_of(method) > 0 ? std::min(window_of(method), steps) : steps;
  s.max_steps = options.termination.max_steps >= 0 ? options.termination.max_steps
                                                   : static_cast<int>(std::min<std::int64_t>(window + 1, 1 << 20));
  if (window == steps) {
    const SequenceState first =
        first_state(method, problem, options, s.stats, guess.defined() ? guess : problem.default_guess());
    WindowResult r = WindowSolve(method, options, problem, s.max_steps, s.stats).run(first);
    s.value = std::move(r.value);
    finish(s, r.verdicts, r.residual);
    return s;
  }
  Tensors pieces;
  Tensor h0 = problem.h0();
  std::vector<Verdict> verdicts(static_cast<std::size_t>(problem.batch()), Verdict::converged);
  std::vector<double> residual(verdicts.size(), 0.0);
  s.stats.windows = 0;
  for (std::int64_t first = 0; first < steps; first += window) {
    const std::int64_t count = std::min(window, steps - first);
    const SequenceProblem part = problem.window(first, count, h0);
    const Tensor part_guess = guess.defined() ? slice(guess, 0, first, first + count) : part.default_guess();
    WindowResult r = WindowSolve(method, options, part, s.max_steps, s.stats)
                         .run(first_state(method, part, options, s.stats, part_guess));
    ++s.stats.windows;
    h0 = select(r.value, 0, count - 1);
    pieces.push_back(std::move(r.value));
    for (std::size_t i = 0; i < verdicts.size(); ++i) {
      if (verdicts[i] == Verdict::converged) verdicts[i] = r.verdicts[i];  // the first failure is the cause
      residual[i] = std::max(residual[i], r.residual[i]);
    }
  }
  s.value = concat(std::move(pieces), 0);
  finish(s, verdicts, residual);
  return s;
}

Solution run_sequential(const SequenceCell& cell, const SequenceProblem& problem, const Sequential& method,
                        const Tensor& h0, const Tensor& xs, const Tensors& theta) {
  Solution s;
  s.max_steps = 1;
  s.value = method.fused && cell.sequence ? cell.sequence(h0, xs, theta) : detail::step_by_step(problem);
  // Every state is the cell's value at the one before: the residual is zero by construction.
  s.stats.steps = 1;
  s.stats.f_evals = 1;
  s.stats.steps_per_item.assign(static_cast<std::size_t>(problem.batch()), 1);
  const std::vector<bool> finite = detail::finite_items(stop_gradient(s.value), kBatchAxis);
  const bool ok = std::all_of(finite.begin(), finite.end(), [](bool f) { return f; });
  s.status = ok ? Status::converged : Status::non_finite;
  s.stats.residual = ok ? 0.0 : INFINITY;
  return s;
}

Verdict verdict_of(Status status) {
  switch (status) {
    case Status::converged: return Verdict::converged;
    case Status::stalled: return Verdict::stalled;
    case Status::diverged: return Verdict::diverged;
    case Status::non_finite: return Verdict::non_finite;
    case Status::max_steps: break;
  }
  return Verdict::max_steps;
}

Solution from_fused(FusedResult f, const Termination& termination) {
  Solution s;
  s.max_steps = termination.max_steps >= 0 ? termination.max_steps : f.max_passes;
  s.value = std::move(f.value);
  s.stats.steps = f.passes;
  s.stats.best_step = f.best_step >= 0 ? f.best_step : f.passes;
  s.stats.windows = f.windows;
  s.stats.f_evals = f.passes;
  s.stats.history = std::move(f.history);
  s.stats.steps_per_item = std::move(f.steps);
  if (s.stats.steps_per_item.empty()) s.stats.steps_per_item.assign(f.residual.size(), f.passes);
  std::vector<Verdict> verdicts;
  for (const Status status : f.status) verdicts.push_back(verdict_of(status));
  if (f.status.empty()) {
    for (const double q : f.ratio)
      verdicts.push_back(!std::isfinite(q) ? Verdict::non_finite : q <= 1.0 ? Verdict::converged : Verdict::max_steps);
  }
  finish(s, verdicts, f.residual);
  return s;
}

// The fused kernel of a method, if the cell has one and nothing needs the generic path.
const SequenceCell::Fused* fused_kernel(const SequenceCell& cell, const SequenceMethod& method,
                                        const Options& options) {
  if (options.each_step || options.termination.max_steps == 0 || options.termination.on != Criterion::residual)
    return nullptr;
  if (const auto* shooting = std::get_if<Shooting>(&method);
      shooting && shooting->fused && cell.fused_shooting && !options.initial_guess.defined())
    return &cell.fused_shooting;
  if (const auto* deer = std::get_if<Deer>(&method);
      deer && deer->fused && deer->jacobian == JacobianKind::dense && cell.fused_newton)
    return &cell.fused_newton;
  return nullptr;
}

FusedOptions fused_options(const SequenceMethod& method, Tolerance tol, const Termination& termination,
                           const Tensor& guess) {
  FusedOptions o{.atol = tol.atol,
                 .rtol = tol.rtol,
                 .max_passes = std::max(termination.max_steps, 0),
                 .chunk = window_of(method),
                 .patience = termination.patience,
                 .divergence_factor = termination.divergence_factor,
                 .guess = guess};
  if (const auto* shooting = std::get_if<Shooting>(&method)) {
    o.chunk = shooting->chunk;
    o.burn_in = shooting->burn_in;
  }
  if (const auto* deer = std::get_if<Deer>(&method)) o.damping = deer->damping;
  return o;
}

// Runs a method on tensors that may be differentiated (then through all its steps).
Solution run(const SequenceCell& cell, const Tensor& h0, const Tensor& xs, const Tensors& theta,
             const SequenceMethod& method, const Options& options) {
  const auto start = std::chrono::steady_clock::now();
  check_method(method);
  const bool plain = !is_differentiated(h0) && !is_differentiated(xs) &&
                     std::none_of(theta.begin(), theta.end(), [](const Tensor& t) { return is_differentiated(t); });
  Solution s;
  Tensor guess;
  Stats of_guess;
  const SequenceCell::Fused* fused = plain ? fused_kernel(cell, method, options) : nullptr;
  if (fused != nullptr) {
    SequenceCell shapes_only;  // checks shapes without projecting the inputs
    shapes_only.step = cell.step;
    const SequenceProblem shapes(shapes_only, h0, xs, theta);
    if (options.initial_guess.defined()) guess = checked_guess(shapes, options.initial_guess, of_guess);
    const Tolerance tol = detail::resolve(options.termination, h0.dtype());
    FusedResult f = (*fused)(h0, xs, theta, fused_options(method, tol, options.termination, guess));
    if (f.value.defined())
      s = from_fused(std::move(f), options.termination);
    else
      fused = nullptr;  // the kernel declined what it was asked for
  }
  if (fused == nullptr) {
    const auto* sequential = std::get_if<Sequential>(&method);
    const bool whole = sequential && sequential->fused && cell.sequence;
    SequenceCell reduced = cell;
    if (whole) reduced.project = nullptr;
    const SequenceProblem problem(reduced, h0, xs, theta);
    if (!sequential && options.initial_guess.defined() && !guess.defined())
      guess = checked_guess(problem, options.initial_guess, of_guess);
    s = sequential ? run_sequential(cell, problem, *sequential, h0, xs, theta)
                   : run_iterative(problem, method, options, guess);
  }
  s.stats.replaced_guesses = of_guess.replaced_guesses;
  s.method = name_of(method);
  s.stats.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return s;
}

void raise_if_asked(const Solution& s, const Options& options) {
  if (!s.ok() && options.on_failure == OnFailure::throw_error) throw SolverError(s.message());
}

// --- implicit differentiation -------------------------------------------------------------------------------------------------

// theta of custom_root: h0, xs, then the cell's parameters.
struct Packed {
  Tensor h0, xs;
  Tensors theta;
};

Packed unpack(const Tensors& all) { return {all[0], all[1], Tensors(all.begin() + 2, all.end())}; }

struct Residual {  // y - f(shift(y)), with Jacobian I - J S
  SequenceCell cell;
  Tensors operator()(const Tensors& y, const Tensors& all) const {
    const Packed p = unpack(all);
    SequenceCell differentiated = cell;
    if (cell.fused_step) {
      differentiated.step = cell.fused_step;
      differentiated.project = nullptr;
    }
    const SequenceProblem problem(differentiated, p.h0, p.xs, p.theta);
    Tensors r;
    r.push_back(sub(y[0], problem.evaluate(y[0])));
    return r;
  }
};

bool any_differentiated(const Tensors& all) {
  return std::any_of(all.begin(), all.end(), [](const Tensor& t) { return is_differentiated(t); });
}

bool is_fused(const SequenceMethod& method) {
  if (const auto* deer = std::get_if<Deer>(&method)) return deer->fused;
  const auto* shooting = std::get_if<Shooting>(&method);
  return shooting == nullptr || shooting->fused;
}

struct TangentSolve {
  SequenceCell cell;
  bool fused;
  Tensors operator()(const Tensors& y, const Tensors& all, const Tensors& rhs, bool transposed) const {
    const Packed p = unpack(all);
    if (fused && transposed && cell.fused_adjoint && !any_differentiated(y) && !any_differentiated(all) &&
        !any_differentiated(rhs)) {
      Tensors x;
      x.push_back(cell.fused_adjoint(y[0], p.h0, p.xs, p.theta, rhs[0]));
      if (x[0].defined()) return x;
    }
    const SequenceProblem problem(cell, p.h0, p.xs, p.theta);
    const Tensor jacobian = problem.linearize(y[0], problem.exact_kind()).jacobian;
    Tensors x;
    x.push_back(transposed ? problem.scan_reversed(jacobian, rhs[0]) : problem.scan(jacobian, rhs[0]));
    return x;
  }
};

struct Solve {
  SequenceCell cell;
  SequenceMethod method;
  Options options;
  std::shared_ptr<Solution> out;  // statistics leave through here
  Tensors operator()(const Tensors& all) const {
    const Packed p = unpack(all);
    *out = run(cell, p.h0, p.xs, p.theta, method, options);
    if (!out->ok() && options.on_failure == OnFailure::return_best)
      throw SolverError(out->message() +
                        " An implicit gradient needs a converged solution; use Adjoint::unrolled or none.");
    raise_if_asked(*out, options);
    Tensors y;
    y.push_back(out->value);
    return y;
  }
};

}  // namespace

namespace detail {

std::int64_t chunk_length(const Shooting& method, std::int64_t length, std::int64_t batch) {
  if (method.chunk > 0) return std::min(method.chunk, length);
  // About 4096 rows per step amortise the cost of operations; chunks of at least 64 steps keep the passes few.
  const std::int64_t chunks = std::max<std::int64_t>(1, 4096 / std::max<std::int64_t>(batch, 1));
  return std::min(length, std::max<std::int64_t>(64, (length + chunks - 1) / chunks));
}

}  // namespace detail

Solution solve_sequence(const SequenceCell& cell, const Tensor& h0, const Tensor& xs, const Tensors& theta,
                        const SequenceMethod& method, const Options& options) {
  if (options.adjoint == Adjoint::none) {
    Tensors plain;
    for (const Tensor& t : theta) plain.push_back(stop_gradient(t));
    Solution s = run(cell, stop_gradient(h0), stop_gradient(xs), plain, method, options);
    raise_if_asked(s, options);
    return s;
  }
  const bool sequential = std::holds_alternative<Sequential>(method);  // its steps are its derivative
  if (options.adjoint == Adjoint::unrolled || sequential || !transform_active()) {
    Solution s = run(cell, h0, xs, theta, method, options);
    raise_if_asked(s, options);
    return s;
  }
  // Also for plain arguments: with a transform active the cell may capture a differentiated tensor, which is detected.
  Tensors all;
  all.push_back(h0);
  all.push_back(xs);
  all.insert(all.end(), theta.begin(), theta.end());
  if (!any_differentiated(all) && options.on_failure == OnFailure::return_best)
    return run(cell, h0, xs, theta, method, options);
  const auto out = std::make_shared<Solution>();
  const Tensors y =
      custom_root(Residual{cell}, all, Solve{cell, method, options, out}, TangentSolve{cell, is_fused(method)});
  Solution s = *out;
  s.value = y[0];
  return s;
}

}  // namespace solvent::solvers
