#include "solvent/nn/elman.h"

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
  if (!ranks || n < 1 || theta[kWHh].size(0) != n || theta[kWIh].size(0) != n || theta[kB].shape() != Shape{n})
    throw ShapeError(
        fmt::format("[{}] got theta = {}; expected w_ih (H, I), w_hh (H, H), b (H), as from "
                    "ElmanCell::theta().",
                    op, detail::describe_list(theta)));
  return n;
}

}  // namespace

ElmanCell::ElmanCell(std::int64_t inputs, std::int64_t n, Key key, ElmanOptions options) {
  if (inputs < 1 || n < 1)
    throw ValueError(
        fmt::format("[ElmanCell] got {} inputs and {} hidden units; expected at least 1 of each.", inputs, n));
  const TensorOptions like = options.dtype;
  if (options.init == RecurrentInit::equinox) {
    const double bound = 1.0 / std::sqrt(static_cast<double>(n));
    w_ih = Parameter(init::uniform(key.fold_in(kWIh), {n, inputs}, bound, like));
    w_hh = Parameter(init::uniform(key.fold_in(kWHh), {n, n}, bound, like));
    b = Parameter(init::uniform(key.fold_in(kB), {n}, bound, like));
  } else {
    w_ih = Parameter(init::lecun_normal(key.fold_in(kWIh), {n, inputs}, like));
    w_hh = Parameter(init::orthogonal(key.fold_in(kWHh), {n, n}, 1.0, like));
    b = Parameter(zeros({n}, like));
  }
}

RecurrentCell ElmanCell::functions() const {
  return {.kind = CellKind::elman,
          .state_size = state_size(),
          .input_size = input_size(),
          .theta = theta(),
          .step = &ElmanCell::step,
          .jacobian = &ElmanCell::jacobian,
          .jacobian_diagonal = &ElmanCell::jacobian_diagonal,
          .project = &ElmanCell::project,
          .step_projected = &ElmanCell::step_projected,
          .jacobian_projected = &ElmanCell::jacobian_projected,
          .jacobian_diagonal_projected = &ElmanCell::jacobian_diagonal_projected};
}

Tensor ElmanCell::project(const Tensor& x, const Tensors& theta) {
  check_theta("ElmanCell::project", theta);
  detail::check_cell_input("ElmanCell::project", x, theta[kWIh].size(1));
  return matmul(x, mT(theta[kWIh])) + theta[kB];
}

Tensor ElmanCell::step(const Tensor& h, const Tensor& x, const Tensors& theta) {
  const std::int64_t n = check_theta("ElmanCell::step", theta);
  detail::check_cell_rows("ElmanCell::step", h, n, x, theta[kWIh].size(1));
  return step_projected(h, project(x, theta), theta);
}

Tensor ElmanCell::step_projected(const Tensor& h, const Tensor& xw, const Tensors& theta) {
  const std::int64_t n = check_theta("ElmanCell::step", theta);
  detail::check_cell_rows("ElmanCell::step", h, n, xw, n);
  return tanh(xw + matmul(h, mT(theta[kWHh])));
}

StepJacobian ElmanCell::jacobian(const Tensor& h, const Tensor& x, const Tensors& theta) {
  return jacobian_projected(h, project(x, theta), theta);
}

StepJacobian ElmanCell::jacobian_projected(const Tensor& h, const Tensor& xw, const Tensors& theta) {
  Tensor next = step_projected(h, xw, theta);
  Tensor jacobian = unsqueeze(1.0 - square(next), -1) * theta[kWHh];  // (N, H, 1) (H, H) -> (N, H, H)
  return {std::move(next), std::move(jacobian)};
}

StepJacobian ElmanCell::jacobian_diagonal(const Tensor& h, const Tensor& x, const Tensors& theta) {
  return jacobian_diagonal_projected(h, project(x, theta), theta);
}

StepJacobian ElmanCell::jacobian_diagonal_projected(const Tensor& h, const Tensor& xw, const Tensors& theta) {
  Tensor next = step_projected(h, xw, theta);
  Tensor slopes = 1.0 - square(next);
  return {std::move(next), std::move(slopes) * diagonal(theta[kWHh])};
}

void ElmanCell::visit(Visitor& visitor) {
  visitor("w_ih", w_ih);
  visitor("w_hh", w_hh);
  visitor("b", b);
}

}  // namespace solvent::nn
