#include "solvent/solvers/root.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/index.h"
#include "solvent/ops/linalg.h"
#include "solvent/ops/reduce.h"
#include "solvent/ops/shape_ops.h"
#include "solvent/solvers/termination.h"

namespace solvent::solvers {

namespace {

using detail::ItemNorms;
using detail::Monitor;
using detail::Tolerance;
using Verdict = Monitor::Verdict;

// y as a matrix: one row per item.
struct Problem {
  const RootFunction& residual;
  const Tensors& theta;
  Shape shape;  // of y
  Batch batch;

  [[nodiscard]] std::int64_t items() const { return batch == Batch::rows ? shape.front() : 1; }
  [[nodiscard]] std::int64_t width() const { return shape.product() / std::max<std::int64_t>(items(), 1); }
  [[nodiscard]] Tensor flat(const Tensor& y) const { return reshape(y, {items(), width()}); }

  [[nodiscard]] Tensor operator()(const Tensor& rows) const {  // (items, width) -> (items, width)
    Tensor r = residual(reshape(rows, shape), theta);
    if (!(r.shape() == shape))
      throw ShapeError(fmt::format("[solve_root] the function maps y of shape {} to {}; expected the same shape.",
                                   solvent::to_string(shape), describe(r)));
    return flat(r);
  }
};

// d residual / d y as (items, width, width).
Tensor jacobian(const Problem& p, const Tensor& rows) {
  const std::int64_t items = p.items(), width = p.width();
  if (items == 1) return reshape(jacfwd([&](const Tensor& y) { return p(y); }, rows), {1, width, width});
  // The items are independent, so one direction per column serves all of them at once.
  const Tensor seeds =
      broadcast_to(reshape(eye(width, {rows.dtype(), rows.device()}), {width, 1, width}), {width, items, width});
  const JvpResult1 r = jvp_batched([&](const Tensor& y) { return p(y); }, rows, seeds);
  return permute(r.tangent, {1, 2, 0});
}

Tensor column(const Tensor& rows) { return unsqueeze(rows, -1); }

Tensor solve_rows(const Tensor& matrices, const Tensor& rhs) { return squeeze(solve(matrices, column(rhs)), -1); }

// Newton direction; a matrix that LU finds singular is regularised in the normal equations (least squares).
Tensor newton_direction(const Tensor& jac, const Tensor& r) {
  try {
    return solve_rows(jac, r);
  } catch (const ValueError&) {
    const Tensor t = mT(jac);
    const Tensor normal = matmul(t, jac);
    const double scale = std::max(max(abs(stop_gradient(normal))).item(), 1e-30);
    const Tensor shift = affine(eye(r.size(1), {r.dtype(), r.device()}), scale * 1e-12 + 1e-30, 0.0);
    return solve_rows(normal + shift, squeeze(matmul(t, column(r)), -1));
  }
}

struct State {
  Tensor y, r;  // (items, width)
};

double largest(const Tensor& t) { return max(abs(stop_gradient(t))).item(); }

class Iteration {
 public:
  Iteration(const Problem& p, const RootMethod& method, Stats& stats) : p_(p), method_(method), stats_(stats) {}

  State begin(Tensor y) { return with_residual(std::move(y)); }

  State next(const State& s) {
    if (const auto* newton = std::get_if<Newton>(&method_)) return newton_step(*newton, s);
    if (const auto* picard = std::get_if<Picard>(&method_))
      return with_residual(sub(s.y, affine(s.r, 1.0 - picard->damping, 0.0)));
    return anderson_step(std::get<Anderson>(method_), s);
  }

 private:
  State with_residual(Tensor y) {
    Tensor r = p_(y);
    ++stats_.f_evals;
    return {std::move(y), std::move(r)};
  }

  State newton_step(const Newton& m, const State& s) {
    const Tensor d = newton_direction(jacobian(p_, s.y), s.r);
    ++stats_.jacobian_evals;
    ++stats_.linear_solves;
    double length = 1.0 - m.damping;
    State next = with_residual(sub(s.y, affine(d, length, 0.0)));
    const double before = largest(s.r);
    for (int halving = 0; m.line_search && halving < 8; ++halving) {
      const double now = largest(next.r);
      if (now <= before || !std::isfinite(before)) break;  // NaN is not smaller: the step is halved
      length *= 0.5;
      next = with_residual(sub(s.y, affine(d, length, 0.0)));
    }
    return next;
  }

  // Minimises |sum_j a_j r_j|, sum a_j = 1, per item; y <- sum_j a_j (y_j - mixing r_j).
  State anderson_step(const Anderson& m, const State& s) {
    history_.push_back(s);
    if (static_cast<int>(history_.size()) > m.memory + 1) history_.erase(history_.begin());
    const auto count = static_cast<std::int64_t>(history_.size());
    if (count == 1) return with_residual(sub(s.y, affine(s.r, m.mixing, 0.0)));
    Tensors dr, dy;  // differences to the newest
    for (std::int64_t j = 0; j + 1 < count; ++j) {
      dr.push_back(sub(history_[static_cast<std::size_t>(j)].r, s.r));
      dy.push_back(sub(history_[static_cast<std::size_t>(j)].y, s.y));
    }
    const Tensor delta_r = stack(std::move(dr), 1), delta_y = stack(std::move(dy), 1);  // (items, k, width)
    const Tensor gram = matmul(delta_r, mT(delta_r));
    const Tensor rhs = neg(squeeze(matmul(delta_r, column(s.r)), -1));
    // The shift is relative to each item's own scale, so that items do not influence each other.
    const Tensor identity = unsqueeze(eye(count - 1, {s.y.dtype(), s.y.device()}), 0);
    const Tensor scale = unsqueeze(max(max(abs(stop_gradient(gram)), -1), -1, true), -1);
    const double tiny = s.y.dtype() == DType::float64 ? 1e-300 : 1e-30;
    const double relative = std::max(m.regularisation, epsilon_of(s.y.dtype()));
    const Tensor weights = solve_rows(gram + identity * (scale * relative + tiny), rhs);  // (items, k)
    const auto combined = [&](const Tensor& deltas, const Tensor& newest) {
      return add(newest, squeeze(matmul(unsqueeze(weights, 1), deltas), 1));
    };
    return with_residual(sub(combined(delta_y, s.y), affine(combined(delta_r, s.r), m.mixing, 0.0)));
  }

  const Problem& p_;
  const RootMethod& method_;
  Stats& stats_;
  std::vector<State> history_;
};

// Keeps finished items fixed: new values only where `active`.
Tensor masked(const Tensor& active, const Tensor& now, const Tensor& before) { return where(active, now, before); }

Tensor mask_tensor(const std::vector<Verdict>& verdicts, Device device) {
  Tensor mask = engine::empty({static_cast<std::int64_t>(verdicts.size()), 1}, DType::boolean);
  bool* p = engine::mutable_ptr<bool>(mask);
  for (std::size_t i = 0; i < verdicts.size(); ++i) p[i] = verdicts[i] == Verdict::running;
  return engine::copy_to(mask, device);
}

void check_method(const RootMethod& method) {
  const auto in_unit = [](double d) { return d >= 0.0 && d < 1.0; };
  double damping = 0;
  if (const auto* n = std::get_if<Newton>(&method)) damping = n->damping;
  if (const auto* p = std::get_if<Picard>(&method)) damping = p->damping;
  if (!in_unit(damping))
    throw ValueError(fmt::format("[solve_root] got damping {}; expected a value in [0, 1).", damping));
  if (const auto* a = std::get_if<Anderson>(&method); a && (a->memory < 1 || !(a->mixing > 0)))
    throw ValueError(fmt::format("[solve_root] got memory {} and mixing {}; expected memory >= 1 and mixing > 0.",
                                 a->memory, a->mixing));
}

std::string method_name(const RootMethod& method) {
  return std::holds_alternative<Newton>(method)   ? "newton"
         : std::holds_alternative<Picard>(method) ? "picard"
                                                  : "anderson";
}

// A residual y - g(y) has the units of y and is measured relative to it; a general residual has its own.
enum class Scale : std::uint8_t { absolute, relative_to_y };

Solution run(const RootFunction& residual, const Tensor& y0, const Tensors& theta, const RootMethod& method,
             const Options& options, Batch batch, Scale scale) {
  const auto start = std::chrono::steady_clock::now();
  const Problem problem{residual, theta, y0.shape(), batch};
  const auto items = static_cast<std::size_t>(problem.items());
  Solution s;
  s.method = method_name(method);
  s.max_steps = options.termination.max_steps >= 0 ? options.termination.max_steps : 100;
  const Tolerance step_tol = detail::resolve(options.termination, y0.dtype());
  const Tolerance tol = {step_tol.atol, scale == Scale::absolute ? 0.0 : step_tol.rtol};
  Monitor monitor(options.termination, s.max_steps, static_cast<int>(items));
  Iteration iteration(problem, method, s.stats);
  std::vector<int> all(items);
  std::iota(all.begin(), all.end(), 0);
  std::vector<Verdict> verdicts(items, Verdict::running);
  std::vector<double> residuals(items, 0.0);
  s.stats.steps_per_item.assign(items, 0);

  const Tensor guess = options.initial_guess.defined() ? options.initial_guess : y0;
  State state = iteration.begin(problem.flat(stop_gradient(guess)));
  Tensor best = state.y, previous;
  for (int k = 0;; ++k) {
    const ItemNorms norms = detail::item_norms(stop_gradient(state.r), stop_gradient(state.y), 0, tol);
    std::vector<bool> accept(items, options.termination.on == Criterion::residual);
    if (options.termination.on == Criterion::step && previous.defined()) {
      const ItemNorms moved =
          detail::item_norms(sub(stop_gradient(state.y), previous), stop_gradient(state.y), 0, step_tol);
      for (std::size_t i = 0; i < items; ++i) accept[i] = moved.ratio[i] <= 1.0;
    }
    const std::vector<Verdict> now = monitor.check(k, norms, all, accept);
    std::vector<Verdict> take(items, Verdict::converged);  // marks items whose best value this iterate is
    for (std::size_t i = 0; i < items; ++i) {
      if (verdicts[i] != Verdict::running) continue;
      if (monitor.is_best(static_cast<int>(i)) || now[i] == Verdict::converged) {
        take[i] = Verdict::running;
        residuals[i] = norms.residual[i];
        s.stats.best_step = std::max(s.stats.best_step, k);
      }
      verdicts[i] = now[i];
      s.stats.steps_per_item[i] = k;
    }
    best = masked(mask_tensor(take, y0.device()), state.y, best);
    s.stats.steps = k;
    s.stats.history.push_back(*std::max_element(norms.ratio.begin(), norms.ratio.end()));
    const auto running = std::count(verdicts.begin(), verdicts.end(), Verdict::running);
    if (options.each_step)
      options.each_step({k, *std::max_element(norms.residual.begin(), norms.residual.end()), static_cast<int>(running),
                         reshape(stop_gradient(state.y), y0.shape())});
    if (running == 0) break;
    previous = stop_gradient(state.y);
    State next = iteration.next(state);
    const Tensor mask = mask_tensor(verdicts, y0.device());
    state = {masked(mask, next.y, state.y), masked(mask, next.r, state.r)};
  }
  s.value = reshape(best, y0.shape());
  s.status = detail::combine(verdicts);
  for (const double r : residuals) s.stats.residual = std::max(s.stats.residual, std::isfinite(r) ? r : INFINITY);
  s.stats.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return s;
}

// --- implicit differentiation -------------------------------------------------------------------------------------------------

struct Residual {
  RootFunction f;
  Tensors operator()(const Tensors& y, const Tensors& theta) const {
    Tensors r;
    r.push_back(f(y[0], theta));
    return r;
  }
};

struct TangentSolve {
  RootFunction f;
  Batch batch;
  Tensors operator()(const Tensors& y, const Tensors& theta, const Tensors& rhs, bool transposed) const {
    const Problem p{f, theta, y[0].shape(), batch};
    const Tensor jac = jacobian(p, p.flat(y[0]));  // (items, width, width)
    // Leading directions of rhs join as leading axes; `solve` factors each matrix once.
    const int lead = rhs[0].rank() - y[0].rank();
    Shape shape;
    for (int i = 0; i < lead; ++i) shape.push_back(rhs[0].shape()[i]);
    shape.push_back(p.items());
    shape.push_back(p.width());
    Tensors x;
    x.push_back(reshape(solve_rows(transposed ? mT(jac) : jac, reshape(rhs[0], shape)), rhs[0].shape()));
    return x;
  }
};

struct Solve {
  RootFunction f;
  Tensor y0;
  RootMethod method;
  Options options;
  Batch batch;
  Scale scale;
  std::shared_ptr<Solution> out;
  Tensors operator()(const Tensors& theta) const {
    *out = run(f, y0, theta, method, options, batch, scale);
    if (!out->ok())
      throw SolverError(out->message() +
                        (options.on_failure == OnFailure::return_best
                             ? " An implicit gradient needs a converged solution; use Adjoint::unrolled or none."
                             : ""));
    Tensors y;
    y.push_back(out->value);
    return y;
  }
};

bool any_differentiated(const Tensors& theta) {
  return std::any_of(theta.begin(), theta.end(), [](const Tensor& t) { return is_differentiated(t); });
}

}  // namespace

namespace {

Solution solve_scaled(const RootFunction& residual, const Tensor& y0, const Tensors& theta, const RootMethod& method,
                      const Options& options, Batch batch, Scale scale) {
  check_method(method);
  if (is_storage_type(y0.dtype())) solvent::detail::check_floating("solve_root", y0);
  if (!is_floating(y0.dtype()))
    throw DtypeError(
        fmt::format("[solve_root] got y0 {}; expected float32 or float64. Use cast(x, dtype).", describe(y0)));
  if (y0.numel() == 0 || (batch == Batch::rows && y0.rank() < 1))
    throw ShapeError(fmt::format("[solve_root] got y0 {}; expected at least one element.", describe(y0)));
  if (options.initial_guess.defined() && !(options.initial_guess.shape() == y0.shape()))
    throw ShapeError(fmt::format("[solve_root] got initial_guess {}; expected shape {}.",
                                 describe(options.initial_guess), solvent::to_string(y0.shape())));
  Tensors arguments = theta;
  if (options.adjoint == Adjoint::none)
    for (Tensor& t : arguments) t = stop_gradient(t);
  const bool implicit = options.adjoint == Adjoint::implicit && transform_active() &&
                        (any_differentiated(theta) || options.on_failure == OnFailure::throw_error);
  if (!implicit) {
    Solution s = run(residual, y0, arguments, method, options, batch, scale);
    if (!s.ok() && options.on_failure == OnFailure::throw_error) throw SolverError(s.message());
    return s;
  }
  const auto out = std::make_shared<Solution>();
  const Tensors y =
      custom_root(Residual{residual}, theta, Solve{residual, stop_gradient(y0), method, options, batch, scale, out},
                  TangentSolve{residual, batch});
  Solution s = *out;
  s.value = y[0];
  return s;
}

}  // namespace

Solution solve_root_of(const RootFunction& residual, const Tensor& y0, const Tensors& theta, const RootMethod& method,
                       const Options& options, Batch batch) {
  return solve_scaled(residual, y0, theta, method, options, batch, Scale::absolute);
}

Solution solve_fixed_point_of(const RootFunction& map, const Tensor& y0, const Tensors& theta, const RootMethod& method,
                              const Options& options, Batch batch) {
  const RootFunction residual = [map](const Tensor& y, const Tensors& t) { return sub(y, map(y, t)); };
  return solve_scaled(residual, y0, theta, method, options, batch, Scale::relative_to_y);
}

}  // namespace solvent::solvers
