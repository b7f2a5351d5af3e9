#include "solvent/nn/lstm.h"

#include <cmath>

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/nn/cell_util.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/linalg.h"
#include "solvent/ops/matrix_parts.h"
#include "solvent/ops/shape_ops.h"

namespace solvent::nn {

namespace {

enum Theta : std::size_t { kWIh, kWHh, kB, kThetaSize };

std::int64_t check_theta(const char* op, const Tensors& theta) {
  const bool ranks = theta.size() == kThetaSize && theta[kWIh].rank() == 2 && theta[kWHh].rank() == 2;
  const std::int64_t n = ranks ? theta[kWHh].size(1) : 0;
  if (!ranks || n < 1 || theta[kWHh].size(0) != 4 * n || theta[kWIh].size(0) != 4 * n ||
      theta[kB].shape() != Shape{4 * n})
    throw ShapeError(
        fmt::format("[{}] got theta = {}; expected w_ih (4H, I), w_hh (4H, H), b (4H). LstmCell::theta() has this "
                    "form; from_pytorch converts.",
                    op, detail::describe_list(theta)));
  return n;
}

/// Everything of one evaluation on rows, each (N, H).
struct Gates {
  Tensor i, f, g, o;
  Tensor c;         // before the step
  Tensor c_next;    // after it
  Tensor squashed;  // tanh(c_next)
  [[nodiscard]] Tensor next() const { return concat({o * squashed, c_next}, -1); }
};

Gates gates_of(const char* op, const Tensor& s, const Tensor& xw, const Tensors& theta) {
  const std::int64_t n = check_theta(op, theta);
  detail::check_cell_rows(op, s, 2 * n, xw, 4 * n);
  const Tensors state = split(s, {n, n}, -1);
  const Tensors a = split(xw + matmul(state[0], mT(theta[kWHh])), {n, n, n, n}, -1);
  Gates g{sigmoid(a[0]), sigmoid(a[1]), tanh(a[2]), sigmoid(a[3]), state[1], Tensor(), Tensor()};
  g.c_next = g.f * g.c + g.i * g.g;
  g.squashed = tanh(g.c_next);
  return g;
}

/// Partial derivatives of (h', c') in (h, c). Those in c are diagonal, (N, H); those in h are (N, H, H), or the diagonals.
struct Partials {
  Tensor hh, hc, ch, cc;
};

Partials partials_of(const Gates& g, const Tensors& theta, detail::Part part) {
  const std::int64_t n = g.i.size(1);
  Tensors u = split(theta[kWHh], {n, n, n, n}, 0);
  if (part == detail::Part::diagonals)
    for (Tensor& w : u) w = diagonal(w);
  const auto rows = [part](const Tensor& v, const Tensor& w) { return detail::scale_rows(v, w, part); };
  Partials p;
  p.cc = g.f;
  p.ch =
      rows(g.c * g.f * (1.0 - g.f), u[1]) + rows(g.g * g.i * (1.0 - g.i), u[0]) + rows(g.i * (1.0 - square(g.g)), u[2]);
  const Tensor w = g.o * (1.0 - square(g.squashed));
  p.hc = w * g.f;
  p.hh = rows(g.squashed * g.o * (1.0 - g.o), u[3]) + rows(w, p.ch);
  return p;
}

Tensors initial_theta(std::int64_t inputs, std::int64_t n, Key key, LstmOptions options) {
  if (inputs < 1 || n < 1)
    throw ValueError(
        fmt::format("[LstmCell] got {} inputs and {} hidden units; expected at least 1 of each.", inputs, n));
  const TensorOptions like = options.dtype;
  if (options.init == RecurrentInit::equinox) {
    const double bound = 1.0 / std::sqrt(static_cast<double>(n));
    return {init::uniform(key.fold_in(kWIh), {4 * n, inputs}, bound, like),
            init::uniform(key.fold_in(kWHh), {4 * n, n}, bound, like),
            init::uniform(key.fold_in(kB), {4 * n}, bound, like)};
  }
  Tensors recurrent;  // one orthogonal matrix per gate
  for (const Key& gate : key.fold_in(kWHh).split(4)) recurrent.push_back(init::orthogonal(gate, {n, n}, 1.0, like));
  return {init::lecun_normal(key.fold_in(kWIh), {4 * n, inputs}, like), concat(std::move(recurrent), 0),
          zeros({4 * n}, like)};
}

}  // namespace

LstmCell::LstmCell(std::int64_t input_size, std::int64_t hidden_size, Key key, LstmOptions options)
    : LstmCell(from_theta(initial_theta(input_size, hidden_size, key, options))) {}

LstmCell LstmCell::from_theta(Tensors theta) {
  check_theta("LstmCell", theta);
  LstmCell cell;
  cell.w_ih = Parameter(std::move(theta[kWIh]));
  cell.w_hh = Parameter(std::move(theta[kWHh]));
  cell.b = Parameter(std::move(theta[kB]));
  return cell;
}

LstmCell LstmCell::from_pytorch(const PyTorchLstm& p) {
  return from_theta({p.weight_ih, p.weight_hh, p.bias_ih + p.bias_hh});
}

PyTorchLstm LstmCell::to_pytorch() const { return {w_ih, w_hh, b, zeros_like(b.value())}; }

RecurrentCell LstmCell::functions() const {
  return detail::cell_of(*this, {.project = &LstmCell::project,
                                 .step = &LstmCell::step_projected,
                                 .jacobian = &LstmCell::jacobian_projected,
                                 .jacobian_diagonal = &LstmCell::jacobian_diagonal_projected,
                                 .jacobian_blocks = &LstmCell::jacobian_blocks_projected});
}

Tensor LstmCell::project(const Tensor& x, const Tensors& theta) {
  check_theta("LstmCell::project", theta);
  detail::check_cell_input("LstmCell::project", x, theta[kWIh].size(1));
  return matmul(x, mT(theta[kWIh])) + theta[kB];
}

Tensor LstmCell::step(const Tensor& s, const Tensor& x, const Tensors& theta) {
  const std::int64_t n = check_theta("LstmCell::step", theta);
  detail::check_cell_rows("LstmCell::step", s, 2 * n, x, theta[kWIh].size(1));
  return step_projected(s, project(x, theta), theta);
}

Tensor LstmCell::step_projected(const Tensor& s, const Tensor& xw, const Tensors& theta) {
  return gates_of("LstmCell::step", s, xw, theta).next();
}

StepJacobian LstmCell::jacobian_projected(const Tensor& s, const Tensor& xw, const Tensors& theta) {
  const Gates g = gates_of("LstmCell::jacobian", s, xw, theta);
  const Partials p = partials_of(g, theta, detail::Part::matrices);
  return {g.next(), concat({concat({p.hh, diag_embed(p.hc)}, -1), concat({p.ch, diag_embed(p.cc)}, -1)}, -2)};
}

StepJacobian LstmCell::jacobian_diagonal_projected(const Tensor& s, const Tensor& xw, const Tensors& theta) {
  const Gates g = gates_of("LstmCell::jacobian_diagonal", s, xw, theta);
  const Partials p = partials_of(g, theta, detail::Part::diagonals);
  return {g.next(), concat({p.hh, p.cc}, -1)};
}

StepJacobian LstmCell::jacobian_blocks_projected(const Tensor& s, const Tensor& xw, const Tensors& theta) {
  const Gates g = gates_of("LstmCell::jacobian_blocks", s, xw, theta);
  const Partials p = partials_of(g, theta, detail::Part::diagonals);
  return {g.next(), detail::join_blocks({p.hh, p.hc, p.ch, p.cc}, 2)};
}

void LstmCell::visit(Visitor& visitor) {
  visitor("w_ih", w_ih);
  visitor("w_hh", w_hh);
  visitor("b", b);
}

}  // namespace solvent::nn
