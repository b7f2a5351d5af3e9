#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/index.h"
#include "solvent/ops/shape_ops.h"
#include "solvent/solvers/sequence.h"

namespace solvent::solvers {

namespace {

Tensor index_tensor(const std::vector<int>& items) {
  return from_vector(std::vector<std::int64_t>(items.begin(), items.end()), {static_cast<std::int64_t>(items.size())});
}

// (T * B, ...) -> (T, B, ...)
Tensor unflatten(Tensor t, std::int64_t steps, std::int64_t batch) {
  Shape shape{steps, batch};
  for (int i = 1; i < t.rank(); ++i) shape.push_back(t.shape()[i]);
  return reshape(std::move(t), shape);
}

}  // namespace

SequenceProblem::SequenceProblem(const SequenceCell& cell, Tensor h0, const Tensor& xs, Tensors theta)
    : cell_(cell), h0_(std::move(h0)), xs_(xs), theta_(std::move(theta)) {
  if (!cell_.step) throw ValueError("[solve_sequence] the cell has no step function; set SequenceCell::step.");
  if (h0_.rank() != 2)
    throw ShapeError(fmt::format("[solve_sequence] got h0 {}; expected (B, n). For one sequence use unsqueeze(h0, 0).",
                                 describe(h0_)));
  if (xs_.rank() < 2 || xs_.size(1) != h0_.size(0))
    throw ShapeError(fmt::format("[solve_sequence] got xs {} and h0 {}; expected xs (T, B, ...) with B = h0.shape[0].",
                                 describe(xs_), describe(h0_)));
  if (xs_.size(0) == 0) throw ShapeError("[solve_sequence] got xs with T = 0 steps; expected at least one.");
  if (h0_.size(0) == 0 || h0_.size(1) == 0)
    throw ShapeError(fmt::format("[solve_sequence] got an empty h0 {}; expected B >= 1 and n >= 1.", describe(h0_)));
  if (!is_floating(h0_.dtype()))
    throw DtypeError(
        fmt::format("[solve_sequence] got h0 {}; expected float32 or float64. Use cast(x, dtype).", describe(h0_)));
  t_ = xs_.size(0);
  b_ = h0_.size(0);
  n_ = h0_.size(1);
  if (cell_.project) xs_ = unflatten(cell_.project(rows(xs_), theta_), t_, b_);
}

Tensor SequenceProblem::rows(const Tensor& t) const {
  Shape shape{t.size(0) * t.size(1)};
  for (int i = 2; i < t.rank(); ++i) shape.push_back(t.shape()[i]);
  return reshape(t, shape);
}

Tensor SequenceProblem::step(const Tensor& h, const Tensor& x) const {
  Tensor next = cell_.step(h, x, theta_);
  if (!(next.shape() == h.shape()))
    throw ShapeError(fmt::format("[solve_sequence] the cell maps h {} to {}; expected the same shape (N, n).",
                                 describe(h), describe(next)));
  return next;
}

Tensor SequenceProblem::shifted(const Tensor& hs) const {
  Tensors parts;
  parts.push_back(unsqueeze(h0_, 0));
  if (hs.size(0) > 1) parts.push_back(slice(hs, 0, 0, hs.size(0) - 1));
  return concat(std::move(parts), 0);
}

Tensor SequenceProblem::evaluate(const Tensor& hs) const {
  return unflatten(step(rows(shifted(hs)), rows(xs_)), t_, b_);
}

CellJacobian SequenceProblem::linearize(const Tensor& hs, JacobianKind kind) const {
  const Tensor h = rows(shifted(hs)), x = rows(xs_);
  CellJacobian cj;
  bool diagonal = false;
  if (kind == JacobianKind::diagonal && cell_.jacobian_diagonal) {
    cj = cell_.jacobian_diagonal(h, x, theta_);
    diagonal = true;
  } else if (cell_.jacobian) {
    cj = cell_.jacobian(h, x, theta_);
  } else {
    const RowsJacobian r = jacfwd_rows(
        [&](const Tensor& block, std::int64_t first) { return step(block, slice(x, 0, first, first + block.size(0))); },
        h);
    cj = {r.value, r.jacobian};
  }
  if (kind == JacobianKind::diagonal && !diagonal) {  // row i, column i: every (n + 1)-th entry
    cj.jacobian = slice(reshape(cj.jacobian, {t_ * b_, n_ * n_}), 1, 0, n_ * n_, n_ + 1);
  }
  return {unflatten(std::move(cj.value), t_, b_), unflatten(std::move(cj.jacobian), t_, b_)};
}

SequenceProblem SequenceProblem::window(std::int64_t first, std::int64_t count, Tensor h0) const {
  SequenceProblem p;
  p.cell_ = cell_;
  p.cell_.project = nullptr;  // inputs are projected already
  p.theta_ = theta_;
  p.h0_ = std::move(h0);
  p.xs_ = slice(xs_, 0, first, first + count);
  p.t_ = count;
  p.b_ = b_;
  p.n_ = n_;
  return p;
}

SequenceProblem SequenceProblem::subset(const std::vector<int>& items) const {
  SequenceProblem p = window(0, t_, h0_);
  const Tensor index = index_tensor(items);
  p.h0_ = index_select(h0_, index, 0);
  p.xs_ = index_select(xs_, index, 1);
  p.b_ = static_cast<std::int64_t>(items.size());
  return p;
}

Tensor SequenceProblem::default_guess() const { return broadcast_to(unsqueeze(h0_, 0), {t_, b_, n_}); }

Tensor sequence_residual(const SequenceCell& cell, const Tensor& hs, const Tensor& h0, const Tensor& xs,
                         const Tensors& theta) {
  const SequenceProblem problem(cell, h0, xs, theta);
  return sub(problem.evaluate(hs), hs);
}

}  // namespace solvent::solvers
