#include "solvent/nn/lem.h"

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

enum Theta : std::size_t { kWIh, kWHh, kWZ, kB, kThetaSize };

std::int64_t check_theta(const char* op, const Tensors& theta) {
  const bool ranks = theta.size() == kThetaSize && theta[kWIh].rank() == 2 && theta[kWZ].rank() == 2;
  const std::int64_t n = ranks ? theta[kWZ].size(1) : 0;
  if (!ranks || n < 1 || theta[kWZ].size(0) != n || theta[kWHh].shape() != Shape{3 * n, n} ||
      theta[kWIh].size(0) != 4 * n || theta[kB].shape() != Shape{4 * n})
    throw ShapeError(
        fmt::format("[{}] got theta = {}; expected w_ih (4H, I), w_hh (3H, H), w_z (H, H), b (4H), as from "
                    "LemCell::theta().",
                    op, detail::describe_list(theta)));
  return n;
}

/// Everything of one evaluation on rows, each (N, H).
struct Parts {
  Tensor y, z;            // before the step
  Tensor s1, s2;          // gates
  Tensor d1, d2;          // time steps
  Tensor q, p;            // candidates of z and y
  Tensor z_next, y_next;  // after the step
  [[nodiscard]] Tensor next() const { return concat({y_next, z_next}, -1); }
};

Parts parts_of(const char* op, const Tensor& s, const Tensor& xw, const Tensors& theta, double dt) {
  const std::int64_t n = check_theta(op, theta);
  detail::check_cell_rows(op, s, 2 * n, xw, 4 * n);
  const Tensors state = split(s, {n, n}, -1);
  const Tensors from_x = split(xw, {n, n, n, n}, -1);
  const Tensors from_y = split(matmul(state[0], mT(theta[kWHh])), {n, n, n}, -1);
  Parts r;
  r.y = state[0];
  r.z = state[1];
  r.s1 = sigmoid(from_x[0] + from_y[0]);
  r.s2 = sigmoid(from_x[1] + from_y[1]);
  r.d1 = r.s1 * dt;
  r.d2 = r.s2 * dt;
  r.q = tanh(from_x[2] + from_y[2]);
  r.z_next = r.z + r.d2 * (r.q - r.z);
  r.p = tanh(from_x[3] + matmul(r.z_next, mT(theta[kWZ])));
  r.y_next = r.y + r.d1 * (r.p - r.y);
  return r;
}

/// Factors of the rows of V_1, V_2, V_z and V_y in the Jacobian.
struct Slopes {
  Tensor v1, v2, vz, vy;
};

Slopes slopes_of(const Parts& r) {
  return {(r.p - r.y) * r.d1 * (1.0 - r.s1), (r.q - r.z) * r.d2 * (1.0 - r.s2), r.d2 * (1.0 - square(r.q)),
          r.d1 * (1.0 - square(r.p))};
}

/// Diagonals of the four blocks, each (N, H).
struct Diagonals {
  Tensor yy, yz, zy, zz;
};

Diagonals diagonals_of(const Parts& r, const Tensors& theta) {
  const std::int64_t n = r.y.size(1);
  const Tensors v = split(theta[kWHh], {n, n, n}, 0);
  const Tensor& v_y = theta[kWZ];
  const Slopes s = slopes_of(r);
  Diagonals d;
  d.zz = 1.0 - r.d2;
  d.zy = s.v2 * diagonal(v[1]) + s.vz * diagonal(v[2]);
  d.yz = s.vy * diagonal(v_y) * d.zz;
  // Entry i of the diagonal of V_y diag(a) V is sum_j a_j V_y[i, j] V[j, i].
  const auto product = [&](const Tensor& a, const Tensor& w) { return matmul(a, mT(v_y * mT(w))); };
  d.yy = (1.0 - r.d1) + s.v1 * diagonal(v[0]) + s.vy * (product(s.v2, v[1]) + product(s.vz, v[2]));
  return d;
}

}  // namespace

LemCell::LemCell(std::int64_t inputs, std::int64_t n, Key key, LemOptions options) : dt_(options.dt) {
  if (inputs < 1 || n < 1)
    throw ValueError(
        fmt::format("[LemCell] got {} inputs and {} hidden units; expected at least 1 of each.", inputs, n));
  if (!(options.dt > 0 && options.dt <= 1))
    throw ValueError(fmt::format("[LemCell] got dt {}; expected 0 < dt <= 1.", options.dt));
  const TensorOptions like = options.dtype;
  const bool he = options.init == LemInit::he_normal;
  const double bound = 1.0 / std::sqrt(static_cast<double>(n));
  const auto fill = [&](Theta which, const Shape& shape) {
    const Key own = key.fold_in(which);
    return Parameter(he ? init::he_normal(own, shape, like) : init::uniform(own, shape, bound, like));
  };
  w_ih = fill(kWIh, {4 * n, inputs});
  w_hh = fill(kWHh, {3 * n, n});
  w_z = fill(kWZ, {n, n});
  b = he ? Parameter(zeros({4 * n}, like)) : fill(kB, {4 * n});
}

RecurrentCell LemCell::functions() const {
  const auto with_dt = [dt = dt_](auto function) {
    return [function, dt](const Tensor& s, const Tensor& xw, const Tensors& t) { return function(s, xw, t, dt); };
  };
  return detail::cell_of(*this, {.project = &LemCell::project,
                                 .step = with_dt(&LemCell::step_projected),
                                 .jacobian = with_dt(&LemCell::jacobian_projected),
                                 .jacobian_diagonal = with_dt(&LemCell::jacobian_diagonal_projected),
                                 .jacobian_blocks = with_dt(&LemCell::jacobian_blocks_projected)});
}

Tensor LemCell::project(const Tensor& x, const Tensors& theta) {
  check_theta("LemCell::project", theta);
  detail::check_cell_input("LemCell::project", x, theta[kWIh].size(1));
  return matmul(x, mT(theta[kWIh])) + theta[kB];
}

Tensor LemCell::step(const Tensor& s, const Tensor& x, const Tensors& theta, double dt) {
  const std::int64_t n = check_theta("LemCell::step", theta);
  detail::check_cell_rows("LemCell::step", s, 2 * n, x, theta[kWIh].size(1));
  return step_projected(s, project(x, theta), theta, dt);
}

Tensor LemCell::step_projected(const Tensor& s, const Tensor& xw, const Tensors& theta, double dt) {
  return parts_of("LemCell::step", s, xw, theta, dt).next();
}

StepJacobian LemCell::jacobian_projected(const Tensor& s, const Tensor& xw, const Tensors& theta, double dt) {
  const Parts r = parts_of("LemCell::jacobian", s, xw, theta, dt);
  const std::int64_t n = r.y.size(1);
  const Tensors v = split(theta[kWHh], {n, n, n}, 0);
  const Tensor& v_y = theta[kWZ];
  const Slopes slope = slopes_of(r);
  const auto rows = [](const Tensor& a, const Tensor& w) { return detail::scale_rows(a, w, detail::Part::matrices); };
  const Tensor keep_z = 1.0 - r.d2;
  const Tensor zy = rows(slope.v2, v[1]) + rows(slope.vz, v[2]);
  const Tensor yy = diag_embed(1.0 - r.d1) + rows(slope.v1, v[0]) + rows(slope.vy, matmul(v_y, zy));
  const Tensor yz = rows(slope.vy, v_y * unsqueeze(keep_z, -2));
  return {r.next(), concat({concat({yy, yz}, -1), concat({zy, diag_embed(keep_z)}, -1)}, -2)};
}

StepJacobian LemCell::jacobian_diagonal_projected(const Tensor& s, const Tensor& xw, const Tensors& theta, double dt) {
  const Parts r = parts_of("LemCell::jacobian_diagonal", s, xw, theta, dt);
  const Diagonals d = diagonals_of(r, theta);
  return {r.next(), concat({d.yy, d.zz}, -1)};
}

StepJacobian LemCell::jacobian_blocks_projected(const Tensor& s, const Tensor& xw, const Tensors& theta, double dt) {
  const Parts r = parts_of("LemCell::jacobian_blocks", s, xw, theta, dt);
  const Diagonals d = diagonals_of(r, theta);
  return {r.next(), detail::join_blocks({d.yy, d.yz, d.zy, d.zz}, 2)};
}

void LemCell::visit(Visitor& visitor) {
  visitor("w_ih", w_ih);
  visitor("w_hh", w_hh);
  visitor("w_z", w_z);
  visitor("b", b);
}

}  // namespace solvent::nn
