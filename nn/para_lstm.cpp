#include "solvent/nn/para_lstm.h"

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/nn/cell_util.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/matrix_parts.h"
#include "solvent/ops/shape_ops.h"

namespace solvent::nn {

namespace {

enum Theta : std::size_t { kWIn, kA, kP, kB, kThetaSize };

std::int64_t check_theta(const char* op, const Tensors& theta) {
  const bool ranks = theta.size() == kThetaSize && theta[kWIn].rank() == 3 && theta[kA].rank() == 2;
  const std::int64_t n = ranks ? theta[kA].size(1) : 0;
  if (!ranks || n < 1 || theta[kA].size(0) != 3 || theta[kP].shape() != Shape{2, n} ||
      theta[kB].shape() != Shape{3, n} || theta[kWIn].size(0) * theta[kWIn].size(1) != 3 * n)
    throw ShapeError(
        fmt::format("[{}] got theta = {}; expected w_in (heads, 3 n/heads, I/heads), a (3, n), p (2, n), b (3, n), "
                    "as from ParaLstmCell::theta().",
                    op, detail::describe_list(theta)));
  return n;
}

/// Everything of one evaluation on rows, each (N, n); the rows of `a` and `p` are (n).
struct Gates {
  Tensors a;  // f, o, g
  Tensors p;  // f, o
  Tensor c;   // before the step
  Tensor f, o, g;
  Tensor c_next;    // after the step
  Tensor squashed;  // tanh(c_next)
  [[nodiscard]] Tensor next() const { return concat({o * squashed, c_next}, -1); }
};

Gates gates_of(const char* op, const Tensor& s, const Tensor& u, const Tensors& theta) {
  const std::int64_t n = check_theta(op, theta);
  detail::check_cell_rows(op, s, 2 * n, u, 3 * n);
  const Tensors state = split(s, {n, n}, -1);
  const Tensors x = split(u, {n, n, n}, -1);
  Gates r;
  r.a = unstack(theta[kA]);
  r.p = unstack(theta[kP]);
  r.c = state[1];
  r.f = sigmoid(r.a[0] * state[0] + r.p[0] * r.c + x[0]);
  r.g = tanh(r.a[2] * state[0] + x[2]);
  r.c_next = r.g + r.f * (r.c - r.g);
  r.o = sigmoid(r.a[1] * state[0] + r.p[1] * r.c_next + x[1]);
  r.squashed = tanh(r.c_next);
  return r;
}

/// hh, hc, ch, cc, each (N, n).
Tensors blocks_of(const Gates& r) {
  const Tensor slope_f = (r.c - r.g) * r.f * (1.0 - r.f);
  const Tensor slope_o = r.squashed * r.o * (1.0 - r.o);
  const Tensor cc = r.f + slope_f * r.p[0];
  const Tensor ch = slope_f * r.a[0] + (1.0 - r.f) * (1.0 - square(r.g)) * r.a[2];
  const Tensor w = slope_o * r.p[1] + r.o * (1.0 - square(r.squashed));
  return {slope_o * r.a[1] + w * ch, w * cc, ch, cc};
}

}  // namespace

ParaLstmCell::ParaLstmCell(std::int64_t inputs, std::int64_t n, Key key, ParaOptions options) {
  detail::ParaTheta theta = detail::para_theta("ParaLstmCell", inputs, n, key, options);
  w_in = Parameter(std::move(theta.w_in));
  a = Parameter(std::move(theta.a));
  p = Parameter(std::move(theta.p));
  b = Parameter(std::move(theta.b));
}

RecurrentCell ParaLstmCell::functions() const {
  RecurrentCell cell = detail::cell_of(*this, {.project = &ParaLstmCell::project,
                                               .step = &ParaLstmCell::step_projected,
                                               .jacobian = &ParaLstmCell::jacobian_projected,
                                               .jacobian_diagonal = &ParaLstmCell::jacobian_diagonal_projected,
                                               .jacobian_blocks = &ParaLstmCell::jacobian_blocks_projected});
  cell.channelwise = true;
  return cell;
}

Tensor ParaLstmCell::project(const Tensor& x, const Tensors& theta) {
  check_theta("ParaLstmCell::project", theta);
  return detail::project_heads("ParaLstmCell::project", x, theta[kWIn], theta[kB]);
}

Tensor ParaLstmCell::step(const Tensor& s, const Tensor& x, const Tensors& theta) {
  const std::int64_t n = check_theta("ParaLstmCell::step", theta);
  detail::check_cell_rows("ParaLstmCell::step", s, 2 * n, x, theta[kWIn].size(0) * theta[kWIn].size(2));
  return step_projected(s, project(x, theta), theta);
}

Tensor ParaLstmCell::step_projected(const Tensor& s, const Tensor& u, const Tensors& theta) {
  return gates_of("ParaLstmCell::step", s, u, theta).next();
}

StepJacobian ParaLstmCell::jacobian_blocks_projected(const Tensor& s, const Tensor& u, const Tensors& theta) {
  const Gates r = gates_of("ParaLstmCell::jacobian_blocks", s, u, theta);
  return {r.next(), detail::join_blocks(blocks_of(r), 2)};
}

StepJacobian ParaLstmCell::jacobian_diagonal_projected(const Tensor& s, const Tensor& u, const Tensors& theta) {
  const Gates r = gates_of("ParaLstmCell::jacobian_diagonal", s, u, theta);
  const Tensors blocks = blocks_of(r);
  return {r.next(), concat({blocks[0], blocks[3]}, -1)};
}

StepJacobian ParaLstmCell::jacobian_projected(const Tensor& s, const Tensor& u, const Tensors& theta) {
  const Gates r = gates_of("ParaLstmCell::jacobian", s, u, theta);
  Tensors m = blocks_of(r);
  for (Tensor& t : m) t = diag_embed(t);
  return {r.next(), concat({concat({m[0], m[1]}, -1), concat({m[2], m[3]}, -1)}, -2)};
}

void ParaLstmCell::visit(Visitor& visitor) {
  visitor("w_in", w_in);
  visitor("a", a);
  visitor("p", p);
  visitor("b", b);
}

}  // namespace solvent::nn
