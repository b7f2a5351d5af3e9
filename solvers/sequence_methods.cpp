// One step of every sequence method, written with public operations, so that it can be differentiated (unrolled).

#include <algorithm>

#include "solvent/core/error.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/shape_ops.h"
#include "solvent/solvers/sequence.h"
#include "solvent/solvers/sequence_detail.h"

namespace solvent::solvers {

namespace {

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;

SequenceState with_residual(const SequenceProblem& problem, Tensor h, Stats& stats) {
  Tensor f = problem.evaluate(h);
  ++stats.f_evals;
  return {h, sub(std::move(f), h), h};
}

Tensor rows_of(const Tensor& t) {  // (C, B, ...) -> (C * B, ...)
  Shape shape{t.size(0) * t.size(1)};
  for (int i = 2; i < t.rank(); ++i) shape.push_back(t.shape()[i]);
  return reshape(t, shape);
}

Tensor step_rows(const SequenceProblem& problem, const Tensor& h, const Tensor& x) {  // on (C, B, n)
  return reshape(problem.step(rows_of(h), rows_of(x)), h.shape());
}

}  // namespace

namespace detail {

Tensor chunk_starts(const SequenceProblem& problem, const Tensor& hs, std::int64_t chunk) {
  const std::int64_t steps = problem.length();
  Tensors parts;
  parts.push_back(unsqueeze(problem.h0(), 0));
  if (chunk < steps) parts.push_back(slice(hs, 0, chunk - 1, steps - 1, chunk));
  return concat(std::move(parts), 0);
}

Tensor step_by_step(const SequenceProblem& problem) {
  Tensors states;
  Tensor h = problem.h0();
  for (const Tensor& x : unstack(problem.inputs(), 0)) {
    h = problem.step(h, x);
    states.push_back(h);
  }
  return stack(std::move(states), 0);
}

Tensor roll_out(const SequenceProblem& problem, const Tensor& starts, std::int64_t chunk) {
  const std::int64_t steps = problem.length(), batch = problem.batch(), n = problem.state_size();
  const std::int64_t chunks = (steps + chunk - 1) / chunk;
  Tensor h = starts;  // (C, B, n)
  Tensors states;
  for (std::int64_t j = 0; j < std::min(chunk, steps); ++j) {
    const Tensor x = slice(problem.inputs(), 0, j, steps, chunk);  // times j, j + chunk, ...: (C or C - 1, B, ...)
    if (x.size(0) < h.size(0)) h = slice(h, 0, 0, x.size(0));
    h = step_rows(problem, h, x);
    states.push_back(h.size(0) < chunks ? pad(h, 0, 0, chunks - h.size(0)) : h);
  }
  if (chunks == 1) return reshape(stack(std::move(states), 0), {steps, batch, n});
  Tensor all = stack(std::move(states), 1);  // (C, L, B, n)
  return slice(reshape(std::move(all), {chunks * chunk, batch, n}), 0, 0, steps);
}

Tensor burn_in_starts(const SequenceProblem& problem, std::int64_t chunk, std::int64_t burn_in) {
  const std::int64_t steps = problem.length(), batch = problem.batch(), n = problem.state_size();
  const std::int64_t chunks = (steps + chunk - 1) / chunk;
  burn_in = std::min(burn_in, chunk);
  Tensor h = broadcast_to(unsqueeze(problem.h0(), 0), {chunks, batch, n});
  if (chunks == 1 || burn_in == 0) return h;
  Tensor later = slice(h, 0, 1, chunks);
  for (std::int64_t j = 0; j < burn_in; ++j)
    later = step_rows(problem, later, slice(problem.inputs(), 0, chunk - burn_in + j, steps - burn_in + j, chunk));
  Tensors parts;
  parts.push_back(slice(h, 0, 0, 1));
  parts.push_back(std::move(later));
  return concat(std::move(parts), 0);
}

SequenceState chunk_state(const SequenceProblem& problem, Tensor hs, std::int64_t chunk, Stats& stats) {
  const Tensor previous = chunk_starts(problem, hs, chunk);
  const Tensor reference = slice(hs, 0, 0, problem.length(), chunk);
  Tensor f = step_rows(problem, previous, slice(problem.inputs(), 0, 0, problem.length(), chunk));
  ++stats.f_evals;
  return {std::move(hs), sub(std::move(f), reference), reference};
}

}  // namespace detail

namespace {

SequenceState deer_step(const Deer& method, const SequenceProblem& problem, const SequenceState& state, Stats& stats) {
  const bool full = method.jacobian == JacobianKind::dense;
  CellJacobian cj = problem.linearize(state.h, full ? problem.exact_kind() : method.jacobian);
  ++stats.jacobian_evals;
  Tensor a = method.damping == 0.0 ? std::move(cj.jacobian) : affine(std::move(cj.jacobian), 1.0 - method.damping, 0.0);
  // Delta form: algebraically the same as solving for h with b = f - A h_prev, but A only steers the correction, so the
  // fixed point keeps all its digits (specs of DEER, 1.2 and 7.1).
  Tensor d = problem.scan(a, state.residual);
  ++stats.linear_solves;
  return with_residual(problem, add(state.h, std::move(d)), stats);
}

SequenceState sweep(const SequenceProblem& problem, const SequenceState& state, std::int64_t chunk, Stats& stats) {
  Tensor hs = detail::roll_out(problem, detail::chunk_starts(problem, state.h, chunk), chunk);
  ++stats.f_evals;
  return detail::chunk_state(problem, std::move(hs), chunk, stats);
}

}  // namespace

std::string name_of(const SequenceMethod& method) {
  return std::visit(Overloaded{[](const Sequential&) { return "sequential"; }, [](const Jacobi&) { return "jacobi"; },
                               [](const GaussSeidel&) { return "gauss_seidel"; },
                               [](const Deer& d) {
                                 return d.jacobian == JacobianKind::dense      ? "deer"
                                        : d.jacobian == JacobianKind::diagonal ? "quasi_deer"
                                                                               : "block_deer";
                               },
                               [](const Shooting&) { return "shooting"; }},
                    method);
}

SequenceState begin(const SequenceProblem& problem, Tensor guess) {
  Stats unused;
  return with_residual(problem, std::move(guess), unused);
}

SequenceState step(const SequenceMethod& method, const SequenceProblem& problem, const SequenceState& state,
                   Stats& stats) {
  return std::visit(
      Overloaded{
          [&](const Sequential&) {
            Tensor hs = detail::step_by_step(problem);
            return with_residual(problem, std::move(hs), stats);
          },
          [&](const Jacobi&) {
            if (state.residual.shape() == state.h.shape())
              return with_residual(problem, add(state.h, state.residual), stats);
            return with_residual(problem, problem.evaluate(state.h), stats);
          },
          [&](const GaussSeidel& m) { return sweep(problem, state, std::min(m.block, problem.length()), stats); },
          [&](const Deer& m) {
            if (state.residual.shape() == state.h.shape()) return deer_step(m, problem, state, stats);
            return deer_step(m, problem, with_residual(problem, state.h, stats), stats);
          },
          [&](const Shooting& m) {
            return sweep(problem, state, detail::chunk_length(m, problem.length(), problem.batch()), stats);
          }},
      method);
}

}  // namespace solvent::solvers
