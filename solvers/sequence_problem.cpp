#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/index.h"
#include "solvent/ops/matrix_parts.h"
#include "solvent/ops/scan.h"
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
  if (is_storage_type(h0_.dtype())) solvent::detail::check_floating("solve_sequence", h0_);
  if (!is_floating(h0_.dtype()))
    throw DtypeError(
        fmt::format("[solve_sequence] got h0 {}; expected float32 or float64. Use cast(x, dtype).", describe(h0_)));
  t_ = xs_.size(0);
  b_ = h0_.size(0);
  n_ = h0_.size(1);
  if (cell_.components < 1 || cell_.components > 4 || n_ % cell_.components != 0)
    throw ShapeError(
        fmt::format("[solve_sequence] got h0 {} and a cell with {} components per channel; expected 1 to 4 "
                    "components that divide n.",
                    describe(h0_), cell_.components));
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

CellJacobian SequenceProblem::dense(const Tensor& h, const Tensor& x) const {
  if (cell_.jacobian) return cell_.jacobian(h, x, theta_);
  const RowsJacobian r = jacfwd_rows(
      [&](const Tensor& block, std::int64_t first) { return step(block, slice(x, 0, first, first + block.size(0))); },
      h);
  return {r.value, r.jacobian};
}

// (N, C, k, k), C channels of k components.
CellJacobian SequenceProblem::blocks(const Tensor& h, const Tensor& x) const {
  if (cell_.jacobian_blocks) return cell_.jacobian_blocks(h, x, theta_);
  const std::int64_t k = cell_.components, channels = n_ / k;
  if (cell_.channelwise) {
    // One direction per component moves all channels at once: they do not see each other.
    CellJacobian cj;
    Tensors columns;
    for (std::int64_t b = 0; b < k; ++b) {
      const Tensor ones_of_b =
          pad(ones({h.size(0), channels}, {h.dtype(), h.device()}), 1, b * channels, (k - 1 - b) * channels);
      JvpResult1 r = jvp([&](const Tensor& s) { return step(s, x); }, h, ones_of_b);
      cj.value = std::move(r.value);
      columns.push_back(reshape(std::move(r.tangent), {h.size(0), k, channels}));
    }
    cj.jacobian = permute(stack(std::move(columns), -1), {0, 2, 1, 3});  // (N, k, C, k) -> (N, C, k, k)
    return cj;
  }
  CellJacobian cj = dense(h, x);
  // Entry (a C + i, b C + i) of the matrix: the diagonal over the two channel axes, (N, k, C, k, C) -> (N, k, k, C).
  const Tensor split_axes = reshape(std::move(cj.jacobian), {h.size(0), k, channels, k, channels});
  cj.jacobian = permute(diagonal(split_axes, 0, 2, 4), {0, 3, 1, 2});
  return cj;
}

CellJacobian SequenceProblem::linearize(const Tensor& hs, JacobianKind kind) const {
  const Tensor h = rows(shifted(hs)), x = rows(xs_);
  const std::int64_t k = cell_.components;
  if (kind == JacobianKind::blocks && k == 1) kind = JacobianKind::diagonal;
  CellJacobian cj;
  if (kind == JacobianKind::dense) {
    cj = dense(h, x);
  } else if (kind == JacobianKind::blocks) {
    cj = blocks(h, x);
  } else if (cell_.jacobian_diagonal) {
    cj = cell_.jacobian_diagonal(h, x, theta_);
  } else if (cell_.channelwise) {
    cj = blocks(h, x);  // (N, C, k, k): entry (a, a) of every block, component by component
    cj.jacobian = reshape(transpose(diagonal(std::move(cj.jacobian)), 1, 2), {t_ * b_, n_});
  } else {
    cj = dense(h, x);
    cj.jacobian = diagonal(std::move(cj.jacobian));
  }
  return {unflatten(std::move(cj.value), t_, b_), unflatten(std::move(cj.jacobian), t_, b_)};
}

JacobianKind SequenceProblem::exact_kind() const {
  return cell_.channelwise ? JacobianKind::blocks : JacobianKind::dense;
}

namespace {

// Swaps the order of states (..., n) between component by component and channel by channel.
Tensor reorder(const Tensor& r, std::int64_t outer) {
  Shape split_shape = r.shape();
  const std::int64_t n = r.size(-1);
  split_shape[split_shape.rank() - 1] = outer;
  split_shape.push_back(n / outer);
  return reshape(transpose(reshape(r, split_shape), -1, -2), r.shape());
}

}  // namespace

Tensor SequenceProblem::scan(const Tensor& a, const Tensor& r) const {
  Shape start = r.shape();
  start.erase(start.rank() - 3);
  const Tensor zero = zeros(start, {r.dtype(), r.device()});
  if (a.rank() < 5) return affine_scan(a, r, zero);
  return reorder(affine_scan(a, reorder(r, cell_.components), zero), n_ / cell_.components);
}

Tensor SequenceProblem::scan_reversed(const Tensor& a, const Tensor& r) const {
  if (a.rank() < 5) return affine_scan_reversed(a, r);
  return reorder(affine_scan_reversed(a, reorder(r, cell_.components)), n_ / cell_.components);
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
  const Tensor index = to(index_tensor(items), h0_.device());
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
