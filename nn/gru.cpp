#include "solvent/nn/gru.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/nn/cell_util.h"
#include "solvent/ops/cpu/gru_kernels.h"
#if SOLVENT_WITH_CUDA
#include "solvent/ops/cuda/gru.h"
#endif
#include "solvent/ops/elementwise.h"
#include "solvent/ops/gru.h"
#include "solvent/ops/linalg.h"
#include "solvent/ops/matrix_parts.h"
#include "solvent/ops/reduce.h"
#include "solvent/ops/shape_ops.h"

namespace solvent::nn {

namespace {

enum Theta : std::size_t { kWIh, kWHh, kB, kBHn, kThetaSize };

std::int64_t check_theta(const char* op, const Tensors& theta) {
  const bool count = theta.size() == kThetaSize;
  const bool ranks = count && theta[kWIh].rank() == 2 && theta[kWHh].rank() == 2;
  const std::int64_t n = ranks ? theta[kWHh].size(1) : 0;
  if (!ranks || n < 1 || theta[kWHh].size(0) != 3 * n || theta[kWIh].size(0) != 3 * n ||
      theta[kB].shape() != Shape{3 * n} || theta[kBHn].shape() != Shape{n})
    throw ShapeError(
        fmt::format("[{}] got theta = {}; expected w_ih (3H, I), w_hh (3H, H), b (3H), b_hn (H). "
                    "GruCell::theta() has this form; from_pytorch and from_flax convert others.",
                    op, detail::describe_list(theta)));
  return n;
}

std::int64_t check_rows(const char* op, const Tensor& h, const Tensor& x, std::int64_t width, const Tensors& theta) {
  const std::int64_t n = theta[kWHh].size(1);
  detail::check_cell_rows(op, h, n, x, width);
  return n;
}

/// The gates of one evaluation on rows, each (N, H).
struct Gates {
  Tensor r, z, q, c;
};

Gates gates_of(const Tensor& h, const Tensor& xw, const Tensors& theta, std::int64_t n) {
  const Tensors from_x = split(xw, {n, n, n}, -1);
  const Tensors from_h = split(matmul(h, mT(theta[kWHh])), {n, n, n}, -1);
  Gates g;
  g.r = sigmoid(from_x[0] + from_h[0]);
  g.z = sigmoid(from_x[1] + from_h[1]);
  g.q = from_h[2] + theta[kBHn];
  g.c = tanh(from_x[2] + g.r * g.q);
  return g;
}

/// (1 - z) c + z h with one product less.
Tensor next_state(const Gates& g, const Tensor& h) { return g.c + g.z * (h - g.c); }

/// Factors of the rows of W_hz, W_hr and W_hn in the Jacobian.
struct Slopes {
  Tensor z, r, n;
};

Slopes slopes_of(const Gates& g, const Tensor& h) {
  Slopes s;
  s.z = (h - g.c) * g.z * (1.0 - g.z);
  const Tensor candidate = (1.0 - g.z) * (1.0 - square(g.c));
  s.n = candidate * g.r;
  s.r = s.n * g.q * (1.0 - g.r);
  return s;
}

enum class Part : std::uint8_t { value, jacobian, diagonal };

/// One kernel for the value and, if asked for, the Jacobian.
template <class T>
StepJacobian fused_step(const Tensor& h, const Tensor& xw, const Tensors& theta, Part part) {
  const std::int64_t rows = h.size(0);
  const std::int64_t n = h.size(1);
#if SOLVENT_WITH_CUDA
  if (!(h.device() == cpu_device)) {
    Tensor jacobian;
    if (part != Part::value)
      jacobian = engine::empty(part == Part::diagonal ? Shape{rows, n} : Shape{rows, n, n}, h.dtype(), h.device());
    Tensor value = cuda::gru_cell(h, xw, theta[kWHh], theta[kBHn], jacobian.defined() ? &jacobian : nullptr);
    return {std::move(value), std::move(jacobian)};
  }
#endif
  const Tensor w_hh = engine::contiguous(theta[kWHh]);
  const Tensor b_hn = engine::contiguous(theta[kBHn]);
  const Tensor dense_h = engine::contiguous(h);
  const Tensor dense_xw = engine::contiguous(xw);
  StepJacobian out{engine::empty({rows, n}, h.dtype()), Tensor()};
  if (part != Part::value)
    out.jacobian = engine::empty(part == Part::diagonal ? Shape{rows, n} : Shape{rows, n, n}, h.dtype());
  if (rows == 0) return out;
  const cpu::GruWeights<T> weights{.w_hh = engine::ptr<T>(w_hh), .b_hn = engine::ptr<T>(b_hn)};
  cpu::gru_cell_jacobian<T>(
      rows, n, weights, engine::ptr<T>(dense_xw), engine::ptr<T>(dense_h), engine::mutable_ptr<T>(out.value),
      part == Part::value ? nullptr : engine::mutable_ptr<T>(out.jacobian),
      part == Part::diagonal ? cpu::GruJacobianLayout::diagonal : cpu::GruJacobianLayout::row_major);
  return out;
}

StepJacobian fused_step(const char* op, const Tensor& h, const Tensor& xw, const Tensors& theta, Part part) {
  for (const Tensor* t : {&xw, &theta[kWHh], &theta[kBHn]})
    if (t->dtype() != h.dtype())
      throw DtypeError(
          fmt::format("[{}] got h {} and {}; expected one dtype. Use cast.", op, describe(h), describe(*t)));
  return dispatch_float(h.dtype(), op,
                        [&](auto tag) { return fused_step<typename decltype(tag)::type>(h, xw, theta, part); });
}

bool plain(const Tensor& h, const Tensor& xw, const Tensors& theta) {
  const auto fits = [&](const Tensor& t) { return !engine::is_boxed(t) && t.device() == h.device(); };
  return fits(h) && fits(xw) && fits(theta[kWHh]) && fits(theta[kBHn]);
}

Tensors initial_theta(std::int64_t inputs, std::int64_t n, Key key, GruOptions options) {
  if (inputs < 1 || n < 1)
    throw ValueError(
        fmt::format("[GruCell] got {} inputs and {} hidden units; expected at least 1 of each.", inputs, n));
  const TensorOptions like = options.dtype;
  if (options.init == RecurrentInit::equinox) {
    const double bound = 1.0 / std::sqrt(static_cast<double>(n));
    return {init::uniform(key.fold_in(kWIh), {3 * n, inputs}, bound, like),
            init::uniform(key.fold_in(kWHh), {3 * n, n}, bound, like),
            init::uniform(key.fold_in(kB), {3 * n}, bound, like), init::uniform(key.fold_in(kBHn), {n}, bound, like)};
  }
  Tensors recurrent;  // Flax has one dense layer, thus one orthogonal matrix, per gate
  for (const Key& gate : key.fold_in(kWHh).split(3)) recurrent.push_back(init::orthogonal(gate, {n, n}, 1.0, like));
  return {init::lecun_normal(key.fold_in(kWIh), {3 * n, inputs}, like), concat(std::move(recurrent), 0),
          zeros({3 * n}, like), zeros({n}, like)};
}

Tensor stack_gates(const Tensor& r, const Tensor& z, const Tensor& n) { return contiguous(concat({r, z, n}, 0)); }

}  // namespace

GruCell::GruCell(std::int64_t input_size, std::int64_t hidden_size, Key key, GruOptions options)
    : GruCell(from_theta(initial_theta(input_size, hidden_size, key, options))) {}

GruCell GruCell::from_theta(Tensors theta) {
  check_theta("GruCell", theta);
  GruCell cell;
  cell.w_ih = Parameter(std::move(theta[kWIh]));
  cell.w_hh = Parameter(std::move(theta[kWHh]));
  cell.b = Parameter(std::move(theta[kB]));
  cell.b_hn = Parameter(std::move(theta[kBHn]));
  return cell;
}

GruCell GruCell::from_pytorch(const PyTorchGru& p) {
  const std::int64_t n = p.weight_hh.size(-1);
  if (p.bias_hh.shape() != Shape{3 * n} || p.bias_ih.shape() != Shape{3 * n})
    throw ShapeError(
        fmt::format("[GruCell::from_pytorch] got bias_ih {}, bias_hh {} for weight_hh {}; expected (3H) each.",
                    describe(p.bias_ih), describe(p.bias_hh), describe(p.weight_hh)));
  const Tensor gates = slice(p.bias_hh, 0, 0, 2 * n);
  return from_theta(
      {p.weight_ih, p.weight_hh, p.bias_ih + pad(gates, 0, 0, n), contiguous(slice(p.bias_hh, 0, 2 * n, 3 * n))});
}

GruCell GruCell::from_equinox(const EquinoxGru& p) { return from_theta({p.weight_ih, p.weight_hh, p.bias, p.bias_n}); }

GruCell GruCell::from_flax(const FlaxGru& p) {
  return from_theta({stack_gates(mT(p.ir_kernel), mT(p.iz_kernel), mT(p.in_kernel)),
                     stack_gates(mT(p.hr_kernel), mT(p.hz_kernel), mT(p.hn_kernel)),
                     stack_gates(p.ir_bias, p.iz_bias, p.in_bias), p.hn_bias});
}

PyTorchGru GruCell::to_pytorch() const {
  return {w_ih.value(), w_hh.value(), b.value(), pad(b_hn.value(), 0, 2 * state_size(), 0)};
}

EquinoxGru GruCell::to_equinox() const { return {w_ih.value(), w_hh.value(), b.value(), b_hn.value()}; }

FlaxGru GruCell::to_flax() const {
  const std::int64_t n = state_size();
  const auto kernels = [n](const Tensor& w) {
    Tensors gates = split(w, {n, n, n}, 0);
    for (Tensor& g : gates) g = contiguous(mT(g));
    return gates;
  };
  const Tensors from_x = kernels(w_ih);
  const Tensors from_h = kernels(w_hh);
  const Tensors bias = split(b.value(), {n, n, n}, 0);
  return {from_x[0], from_x[1],           from_x[2],           from_h[0],           from_h[1],
          from_h[2], contiguous(bias[0]), contiguous(bias[1]), contiguous(bias[2]), b_hn.value()};
}

RecurrentCell GruCell::functions() const {
  return {.kind = CellKind::gru,
          .state_size = state_size(),
          .input_size = input_size(),
          .theta = theta(),
          .step = &GruCell::step,
          .jacobian = &GruCell::jacobian,
          .jacobian_diagonal = &GruCell::jacobian_diagonal,
          .project = &GruCell::project,
          .step_projected = &GruCell::step_projected,
          .jacobian_projected = &GruCell::jacobian_projected,
          .jacobian_diagonal_projected = &GruCell::jacobian_diagonal_projected};
}

Tensor GruCell::project(const Tensor& x, const Tensors& theta) {
  check_theta("GruCell::project", theta);
  detail::check_cell_input("GruCell::project", x, theta[kWIh].size(1));
  return matmul(x, mT(theta[kWIh])) + theta[kB];
}

Tensor GruCell::step(const Tensor& h, const Tensor& x, const Tensors& theta) {
  check_theta("GruCell::step", theta);
  check_rows("GruCell::step", h, x, theta[kWIh].size(1), theta);
  return step_projected(h, project(x, theta), theta);
}

Tensor GruCell::step_projected(const Tensor& h, const Tensor& xw, const Tensors& theta) {
  const std::int64_t n = check_theta("GruCell::step", theta);
  check_rows("GruCell::step", h, xw, 3 * n, theta);
  if (plain(h, xw, theta)) return fused_step("GruCell::step", h, xw, theta, Part::value).value;
  return next_state(gates_of(h, xw, theta, n), h);
}

StepJacobian GruCell::jacobian(const Tensor& h, const Tensor& x, const Tensors& theta) {
  return jacobian_projected(h, project(x, theta), theta);
}

StepJacobian GruCell::jacobian_projected(const Tensor& h, const Tensor& xw, const Tensors& theta) {
  const std::int64_t n = check_theta("GruCell::jacobian", theta);
  check_rows("GruCell::jacobian", h, xw, 3 * n, theta);
  if (plain(h, xw, theta)) return fused_step("GruCell::jacobian", h, xw, theta, Part::jacobian);
  const Gates g = gates_of(h, xw, theta, n);
  const Slopes s = slopes_of(g, h);
  const Tensors w = split(theta[kWHh], {n, n, n}, 0);
  const Tensor unit = eye(n, {h.dtype(), h.device()});
  const auto column = [](const Tensor& rows) { return unsqueeze(rows, -1); };  // (N, H) -> (N, H, 1)
  return {next_state(g, h), column(g.z) * unit + column(s.z) * w[1] + column(s.n) * w[2] + column(s.r) * w[0]};
}

StepJacobian GruCell::jacobian_diagonal(const Tensor& h, const Tensor& x, const Tensors& theta) {
  return jacobian_diagonal_projected(h, project(x, theta), theta);
}

StepJacobian GruCell::jacobian_diagonal_projected(const Tensor& h, const Tensor& xw, const Tensors& theta) {
  const std::int64_t n = check_theta("GruCell::jacobian_diagonal", theta);
  check_rows("GruCell::jacobian_diagonal", h, xw, 3 * n, theta);
  if (plain(h, xw, theta)) return fused_step("GruCell::jacobian_diagonal", h, xw, theta, Part::diagonal);
  const Gates g = gates_of(h, xw, theta, n);
  const Slopes s = slopes_of(g, h);
  const Tensors w = split(theta[kWHh], {n, n, n}, 0);
  return {next_state(g, h), g.z + s.z * diagonal(w[1]) + s.n * diagonal(w[2]) + s.r * diagonal(w[0])};
}

void GruCell::visit(Visitor& visitor) {
  visitor("w_ih", w_ih);
  visitor("w_hh", w_hh);
  visitor("b", b);
  visitor("b_hn", b_hn);
}

Tensor Gru::operator()(const Tensor& xs, const Tensor& h0) const {
  return gru_sequence(xs, h0, cell.w_ih, cell.w_hh, cell.b, cell.b_hn);
}

Tensor Gru::operator()(const Tensor& xs) const {
  if (xs.rank() != 3) throw ShapeError(fmt::format("[Gru] got xs {}; expected (T, B, I).", describe(xs)));
  return (*this)(xs, zeros({xs.size(1), cell.state_size()}, {xs.dtype(), xs.device()}));
}

}  // namespace solvent::nn
