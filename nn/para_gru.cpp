#include "solvent/nn/para_gru.h"

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/nn/cell_util.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/matrix_parts.h"
#include "solvent/ops/shape_ops.h"

namespace solvent::nn {

namespace {

enum Theta : std::size_t { kWIn, kA, kB, kThetaSize };

std::int64_t check_theta(const char* op, const Tensors& theta) {
  const bool ranks = theta.size() == kThetaSize && theta[kWIn].rank() == 3 && theta[kA].rank() == 2;
  const std::int64_t n = ranks ? theta[kA].size(1) : 0;
  if (!ranks || n < 1 || theta[kA].size(0) != 3 || theta[kB].shape() != Shape{3, n} ||
      theta[kWIn].size(0) * theta[kWIn].size(1) != 3 * n)
    throw ShapeError(
        fmt::format("[{}] got theta = {}; expected w_in (heads, 3 n/heads, I/heads), a (3, n), b (3, n), as from "
                    "ParaGruCell::theta().",
                    op, detail::describe_list(theta)));
  return n;
}

/// Everything of one evaluation on rows, each (N, n); the rows of `a` are (n).
struct Gates {
  Tensors a;  // z, r, c
  Tensor z, r, c;
};

Gates gates_of(const char* op, const Tensor& h, const Tensor& u, const Tensors& theta) {
  const std::int64_t n = check_theta(op, theta);
  detail::check_cell_rows(op, h, n, u, 3 * n);
  const Tensors x = split(u, {n, n, n}, -1);
  Gates g;
  g.a = unstack(theta[kA]);
  g.z = sigmoid(g.a[0] * h + x[0]);
  g.r = sigmoid(g.a[1] * h + x[1]);
  g.c = tanh(g.a[2] * h * g.r + x[2]);
  return g;
}

Tensor next_state(const Gates& g, const Tensor& h) { return h + g.z * (g.c - h); }

}  // namespace

ParaGruCell::ParaGruCell(std::int64_t inputs, std::int64_t n, Key key, ParaOptions options) {
  detail::ParaTheta theta = detail::para_theta("ParaGruCell", inputs, n, key, options);
  w_in = Parameter(std::move(theta.w_in));
  a = Parameter(std::move(theta.a));
  b = Parameter(std::move(theta.b));
}

RecurrentCell ParaGruCell::functions() const {
  RecurrentCell cell = detail::cell_of(*this, {.project = &ParaGruCell::project,
                                               .step = &ParaGruCell::step_projected,
                                               .jacobian = &ParaGruCell::jacobian_projected,
                                               .jacobian_diagonal = &ParaGruCell::jacobian_diagonal_projected});
  cell.channelwise = true;
  return cell;
}

Tensor ParaGruCell::project(const Tensor& x, const Tensors& theta) {
  check_theta("ParaGruCell::project", theta);
  return detail::project_heads("ParaGruCell::project", x, theta[kWIn], theta[kB]);
}

Tensor ParaGruCell::step(const Tensor& h, const Tensor& x, const Tensors& theta) {
  const std::int64_t n = check_theta("ParaGruCell::step", theta);
  detail::check_cell_rows("ParaGruCell::step", h, n, x, theta[kWIn].size(0) * theta[kWIn].size(2));
  return step_projected(h, project(x, theta), theta);
}

Tensor ParaGruCell::step_projected(const Tensor& h, const Tensor& u, const Tensors& theta) {
  return next_state(gates_of("ParaGruCell::step", h, u, theta), h);
}

StepJacobian ParaGruCell::jacobian_diagonal_projected(const Tensor& h, const Tensor& u, const Tensors& theta) {
  const Gates g = gates_of("ParaGruCell::jacobian_diagonal", h, u, theta);
  const Tensor through_z = (g.c - h) * g.a[0] * g.z * (1.0 - g.z);
  const Tensor through_c = g.z * g.a[2] * (1.0 - square(g.c)) * (g.r + h * g.a[1] * g.r * (1.0 - g.r));
  return {next_state(g, h), (1.0 - g.z) + through_z + through_c};
}

StepJacobian ParaGruCell::jacobian_projected(const Tensor& h, const Tensor& u, const Tensors& theta) {
  StepJacobian j = jacobian_diagonal_projected(h, u, theta);
  return {std::move(j.value), diag_embed(j.jacobian)};
}

void ParaGruCell::visit(Visitor& visitor) {
  visitor("w_in", w_in);
  visitor("a", a);
  visitor("b", b);
}

}  // namespace solvent::nn
