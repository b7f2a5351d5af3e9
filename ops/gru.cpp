// The gated recurrent unit over a sequence. Values and first-order gradients come from fused kernels; everything else is
// written with public operations on all time steps at once, so it differentiates to any order:
//
//   gru_sequence        fused forward    jvp: affine_scan of the closed-form Jacobian (composed)
//                                        vjp: gru_sequence_grad (fused)
//   gru_sequence_grad   fused backward   jvp and vjp: those of `composed_gradients`, the same function written with
//                                        operations
//
// gru_sequence_grad also takes the states (and gates) that the forward pass computed. Its rules treat the states as an
// argument of their own, whose derivative flows back through gru_sequence; gates are a cache of values the composed form
// computes again, so they carry no derivative.

#include "solvent/ops/gru.h"

#include <array>
#include <utility>

#include <fmt/format.h>

#include "solvent/autodiff/cuda_kernel.h"
#include "solvent/autodiff/transforms.h"
#include "solvent/core/error.h"
#include "solvent/ops/cpu/gru_glue.h"
#if SOLVENT_WITH_CUDA
#include "solvent/ops/cuda/gru.h"
#endif
#include "solvent/ops/elementwise.h"
#include "solvent/ops/families.h"
#include "solvent/ops/linalg.h"
#include "solvent/ops/reduce.h"
#include "solvent/ops/rule_util.h"
#include "solvent/ops/scan.h"
#include "solvent/ops/shape_ops.h"
#include "solvent/ops/shape_primitives.h"

namespace solvent {
namespace {

// Inputs of gru_sequence; gru_sequence_grad appends the states, their cotangent and, if they were kept, the gates.
enum Input : int { kXs, kH0, kWIh, kWHh, kB, kBHn, kNumArguments, kHs = kNumArguments, kG, kGates };

// Gates (T, B, 4, H) are kept for the backward pass up to this size. Beyond it, computing them again costs less than the page
// faults of a fresh buffer (and saves the memory); not so for wide layers, whose arithmetic grows with H^2 per row.
constexpr std::int64_t max_gate_bytes(std::int64_t hidden) { return std::int64_t{hidden < 128 ? 64 : 256} << 20; }

// The Jacobians of a jvp are made for at most this many bytes of time steps at once.
constexpr std::int64_t kMaxJacobianBytes = std::int64_t{64} << 20;

struct ForwardAttrs : AttrsBase<ForwardAttrs> {
  bool keep_gates = false;
  [[nodiscard]] std::string describe() const override { return keep_gates ? "keep_gates" : ""; }
};

struct GradAttrs : AttrsBase<GradAttrs> {
  std::array<bool, kNumArguments> wanted{};
};

// --- the cell on all steps, with public operations --------------------------------------------------------------------------

// Everything about one evaluation of the cell at states h (T, B, H) and inputs (T, B, I).
struct Cell {
  Tensor h;           // previous states
  Tensor r, z, q, c;  // gates; q = W_hn h + b_hn, c = candidate
};

// Third `gate` (r, z, n) of an axis, counted from the right.
Tensor gate_part(const Tensor& x, std::int64_t axis, int gate) {
  const std::int64_t hidden = x.size(axis) / 3;
  return detail::slice_exact(x, axis, gate * hidden, hidden, 1);
}

Tensor previous_states(const Tensor& h0, const Tensor& hs) {
  return concat({unsqueeze(h0, 0), detail::slice_exact(hs, -3, 0, hs.size(0) - 1, 1)}, 0);
}

Cell evaluate(const Tensor& xs, Tensor h, const Tensor& w_ih, const Tensor& w_hh, const Tensor& b, const Tensor& b_hn) {
  const Tensor x_part = matmul(xs, mT(w_ih)) + b;
  const Tensor h_part = matmul(h, mT(w_hh));
  Cell cell;
  cell.r = sigmoid(gate_part(x_part, -1, 0) + gate_part(h_part, -1, 0));
  cell.z = sigmoid(gate_part(x_part, -1, 1) + gate_part(h_part, -1, 1));
  cell.q = gate_part(h_part, -1, 2) + b_hn;
  cell.c = tanh(gate_part(x_part, -1, 2) + cell.r * cell.q);
  cell.h = std::move(h);
  return cell;
}

// Derivatives of h' = (1 - z) c + z h with respect to what enters the gates.
struct Slopes {
  Tensor z;  // d h' / d (pre-activation of z) = (h - c) z (1 - z)
  Tensor n;  // d h' / d (pre-activation of the candidate) = (1 - z) (1 - c^2)
  Tensor r;  // d h' / d (pre-activation of r) = n q r (1 - r)
  Tensor q;  // d h' / d q = n r
};

Slopes slopes(const Cell& cell) {
  Slopes s;
  s.z = (cell.h - cell.c) * cell.z * (1.0 - cell.z);
  s.n = (1.0 - cell.z) * (1.0 - square(cell.c));
  s.r = s.n * cell.q * cell.r * (1.0 - cell.r);
  s.q = s.n * cell.r;
  return s;
}

// J = diag(z) + diag(s_z) W_hz + diag(s_r) W_hr + diag(s_q) W_hn   (T, B, H, H)
Tensor jacobian(const Cell& cell, const Slopes& s, const Tensor& w_hh) {
  const std::int64_t hidden = w_hh.size(1);
  const auto rows = [](const Tensor& slope) { return unsqueeze(slope, -1); };
  const Tensor unit = eye(hidden, {w_hh.dtype(), w_hh.device()});
  return rows(s.r) * gate_part(w_hh, -2, 0) + rows(s.z) * gate_part(w_hh, -2, 1) + rows(s.q) * gate_part(w_hh, -2, 2) +
         rows(cell.z) * unit;
}

// The function of gru_sequence_grad: cotangents of the six arguments from that of the states, by one reversed scan.
//   l_t = g_t + J_{t+1}^T l_{t+1};  every argument's cotangent is the transposed partial derivative applied to l.
Tensors composed_gradients(const Tensors& in) {
  const Tensor& w_ih = in[kWIh];
  const Tensor& w_hh = in[kWHh];
  const Cell cell = evaluate(in[kXs], previous_states(in[kH0], in[kHs]), w_ih, w_hh, in[kB], in[kBHn]);
  const Slopes s = slopes(cell);
  const Tensor jac = jacobian(cell, s, w_hh);
  const Tensor l = affine_scan_reversed(jac, in[kG]);
  const Tensor lr = l * s.r;
  const Tensor lz = l * s.z;
  const Tensor ln = l * s.n;
  const Tensor lq = l * s.q;
  const auto as_rows = [](const Tensor& x) { return reshape(x, {x.size(0) * x.size(1), x.size(2)}); };
  const Tensor into_x = as_rows(concat({lr, lz, ln}, -1));  // (T B, 3H): cotangent of W_ih x + b
  const Tensor into_h = as_rows(concat({lr, lz, lq}, -1));  // (T B, 3H): cotangent of W_hh h (+ b_hn)
  Tensors grads(kNumArguments);
  grads[kXs] = reshape(matmul(into_x, w_ih), in[kXs].shape());
  const Tensor first_l = detail::slice_exact(l, -3, 0, 1, 1);    // (1, B, H)
  const Tensor first_j = detail::slice_exact(jac, -4, 0, 1, 1);  // (1, B, H, H)
  grads[kH0] = reshape(matmul(unsqueeze(first_l, -2), first_j), in[kH0].shape());
  grads[kWIh] = matmul(mT(into_x), as_rows(in[kXs]));
  grads[kWHh] = matmul(mT(into_h), as_rows(cell.h));
  grads[kB] = sum(into_x, {-2});
  grads[kBHn] = sum(as_rows(lq), {-2});
  return grads;
}

// --- gru_sequence_grad ------------------------------------------------------------------------------------------------------

TensorVec grad_kernel(std::span<Tensor> inputs, const Attrs* attrs) {
  return cpu::gru_gradients(inputs, static_cast<const GradAttrs&>(*attrs).wanted);
}

#if SOLVENT_WITH_CUDA
TensorVec grad_cuda_kernel(std::span<Tensor> inputs, const Attrs* attrs) {
  return cuda::gru_gradients(inputs, static_cast<const GradAttrs&>(*attrs).wanted);
}
#endif

// The arguments of the composed form: all but the gates.
Tensors composed_inputs(const Rule& rule) {
  Tensors in;
  for (int i = 0; i <= kG; ++i) in.push_back(rule.input(i));
  return in;
}

TensorVec grad_jvp(const Rule& rule, std::span<const Tensor> tangents) {
  const Tensors directions(tangents.begin(), tangents.begin() + kG + 1);
  return TensorVec(jvp_batched(composed_gradients, composed_inputs(rule), directions, rule.directions()).tangents);
}

TensorVec grad_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  VjpResult composed = vjp(composed_gradients, composed_inputs(rule));
  return TensorVec(composed.pullback(Tensors(cotangents.begin(), cotangents.end())));
}

constinit const OpDef kGruSequenceGrad{
    .name = "gru_sequence_grad",
    .cpu = grad_kernel,
    .cuda = SOLVENT_CUDA_KERNEL(grad_cuda_kernel),
    .jvp = grad_jvp,
    .vjp = grad_vjp,
    .inputs = {Save::data, Save::data, Save::data, Save::data, Save::data, Save::data, Save::data, Save::data},
    .num_saves = 8};

// --- gru_sequence -----------------------------------------------------------------------------------------------------------

TensorVec forward_kernel(std::span<Tensor> inputs, const Attrs* attrs) {
  return cpu::gru_forward_pass(inputs, static_cast<const ForwardAttrs&>(*attrs).keep_gates);
}

#if SOLVENT_WITH_CUDA
TensorVec forward_cuda_kernel(std::span<Tensor> inputs, const Attrs* attrs) {
  return cuda::gru_forward_pass(inputs, static_cast<const ForwardAttrs&>(*attrs).keep_gates);
}
#endif

// A vector per hidden unit, or K of them, against (T, B, H) or (K, T, B, H).
Tensor per_row(const Rule& rule, const Tensor& vector) {
  const std::int64_t k = rule.directions();
  return k > 0 ? reshape(vector, {k, 1, 1, vector.size(-1)}) : vector;
}

// x (T, B, n) times the transpose of a weight tangent (m, n), or of K of them: (T, B, m) or (K, T, B, m).
Tensor times_weight_tangent(const Tensor& x, const Tensor& dw) {
  Shape shape = dw.shape();
  shape.pop_back();
  const std::int64_t m = shape.back();
  shape.pop_back();
  shape.push_back(x.size(0));
  shape.push_back(x.size(1));
  shape.push_back(m);
  return reshape(matmul(reshape(x, {x.size(0) * x.size(1), x.size(2)}), mT(dw)), shape);
}

Tensor plus(Tensor sum, Tensor term) { return sum.defined() ? add(std::move(sum), std::move(term)) : term; }

// Direct influence of tangents of everything but the state on one block of steps; empty if there is none.
Tensor direct_tangent(const Rule& rule, std::span<const Tensor> tangents, const Tensor& dxs, const Tensor& xs,
                      const Cell& cell, const Slopes& s) {
  Tensor x_part;  // tangent of W_ih x + b  (T, B, 3H)
  Tensor h_part;  // tangent of W_hh at fixed h
  if (dxs.defined()) x_part = matmul(dxs, mT(rule.input(kWIh)));
  if (tangents[kWIh].defined()) x_part = plus(std::move(x_part), times_weight_tangent(xs, tangents[kWIh]));
  if (tangents[kB].defined()) x_part = plus(std::move(x_part), per_row(rule, tangents[kB]));
  if (tangents[kWHh].defined()) h_part = times_weight_tangent(cell.h, tangents[kWHh]);
  Tensor result;
  const auto weighted = [&](const Tensor& part, int gate, const Tensor& slope) {
    if (part.defined()) result = plus(std::move(result), gate_part(part, -1, gate) * slope);
  };
  weighted(x_part, 0, s.r);
  weighted(x_part, 1, s.z);
  weighted(x_part, 2, s.n);
  weighted(h_part, 0, s.r);
  weighted(h_part, 1, s.z);
  weighted(h_part, 2, s.q);
  if (tangents[kBHn].defined()) result = plus(std::move(result), per_row(rule, tangents[kBHn]) * s.q);
  return result;
}

// dh_t = J_t dh_{t-1} + (direct influence at step t), in blocks of time so that the Jacobians stay small. K directions
// share the Jacobians.
TensorVec forward_jvp(const Rule& rule, std::span<const Tensor> tangents) {
  const Tensor& hs = rule.output(0);
  const std::int64_t steps = hs.size(0);
  const std::int64_t hidden = hs.size(2);
  const Tensor previous = previous_states(rule.input(kH0), hs);
  Shape state_shape = rule.tangent_shape(kH0);
  Tensor state = tangents[kH0].defined() ? tangents[kH0] : detail::zeros_view(state_shape, hs.dtype(), hs.device());
  const std::int64_t step_bytes =
      std::max<std::int64_t>(1, hs.size(1) * hidden * hidden * static_cast<std::int64_t>(size_of(hs.dtype())));
  const std::int64_t block = std::max<std::int64_t>(1, kMaxJacobianBytes / step_bytes);
  std::vector<std::int64_t> sizes;
  for (std::int64_t at = 0; at < steps; at += block) sizes.push_back(std::min(block, steps - at));
  const auto blocks_of = [&](const Tensor& x) { return x.defined() ? split(x, sizes, -3) : Tensors(sizes.size()); };
  const Tensors xs = blocks_of(rule.input(kXs));
  const Tensors dxs = blocks_of(tangents[kXs]);
  const Tensors h = blocks_of(previous);
  Tensors parts;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    const Cell cell = evaluate(xs[i], h[i], rule.input(kWIh), rule.input(kWHh), rule.input(kB), rule.input(kBHn));
    const Slopes s = slopes(cell);
    Tensor direct = direct_tangent(rule, tangents, dxs[i], xs[i], cell, s);
    Shape shape = state.shape();
    shape.insert(shape.rank() - 2, sizes[i]);
    if (!direct.defined()) direct = detail::zeros_view(shape, hs.dtype(), hs.device());
    parts.push_back(affine_scan(jacobian(cell, s, rule.input(kWHh)), direct, state));
    state = select(parts.back(), -3, -1);
  }
  TensorVec out(rule.num_outputs());
  out[0] = concat(std::move(parts), -3);
  return out;
}

TensorVec forward_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  if (!cotangents[0].defined()) return TensorVec(kNumArguments);
  GradAttrs attrs;
  Tensors in;
  for (int i = 0; i < kNumArguments; ++i) {
    attrs.wanted[static_cast<std::size_t>(i)] = rule.needs(i);
    in.push_back(rule.input(i));
  }
  in.push_back(rule.output(0));
  in.push_back(cotangents[0]);
  if (rule.num_outputs() > 1) in.push_back(rule.output(1));
  TensorVec grads = apply(kGruSequenceGrad, in, &attrs);
  for (int i = 0; i < kNumArguments; ++i)
    if (!rule.needs(i)) grads[i].reset();
  return grads;
}

constinit const OpDef kGruSequence{.name = "gru_sequence",
                                   .cpu = forward_kernel,
                                   .cuda = SOLVENT_CUDA_KERNEL(forward_cuda_kernel),
                                   .jvp = forward_jvp,
                                   .vjp = forward_vjp,
                                   .inputs = {Save::data},
                                   .outputs = Save::data};

constinit const OpDef* const kGruFamily[] = {&kGruSequence, &kGruSequenceGrad};

[[noreturn]] void throw_shapes(const Tensor& xs, const Tensor& h0, const Tensor& w_ih, const Tensor& w_hh,
                               const Tensor& b, const Tensor& b_hn) {
  throw ShapeError(fmt::format(
      "[gru_sequence] got xs {}, h0 {}, w_ih {}, w_hh {}, b {}, b_hn {}; expected xs (T, B, I) with T >= 1, h0 (B, "
      "H) with H >= 1, w_ih (3H, I), w_hh (3H, H), b (3H), b_hn (H). Weights are (out, in); pass mT(w) otherwise.",
      to_string(xs.shape()), to_string(h0.shape()), to_string(w_ih.shape()), to_string(w_hh.shape()),
      to_string(b.shape()), to_string(b_hn.shape())));
}

}  // namespace

namespace detail {
OpList gru_ops() { return kGruFamily; }
}  // namespace detail

Tensor gru_sequence(Tensor xs, Tensor h0, Tensor w_ih, Tensor w_hh, Tensor b, Tensor b_hn) {
  detail::check_floating("gru_sequence", xs);
  for (const Tensor* t : {&h0, &w_ih, &w_hh, &b, &b_hn}) detail::check_same_dtype("gru_sequence", xs, *t);
  const bool ranks = xs.rank() == 3 && h0.rank() == 2;
  if (!ranks) throw_shapes(xs, h0, w_ih, w_hh, b, b_hn);
  const std::int64_t steps = xs.size(0);
  const std::int64_t batch = xs.size(1);
  const std::int64_t input = xs.size(2);
  const std::int64_t hidden = h0.size(1);
  if (steps < 1 || hidden < 1 || h0.size(0) != batch || !(w_ih.shape() == Shape{3 * hidden, input}) ||
      !(w_hh.shape() == Shape{3 * hidden, hidden}) || !(b.shape() == Shape{3 * hidden}) ||
      !(b_hn.shape() == Shape{hidden}))
    throw_shapes(xs, h0, w_ih, w_hh, b, b_hn);
  ForwardAttrs attrs;
  const auto gate_bytes = steps * batch * 4 * hidden * static_cast<std::int64_t>(size_of(xs.dtype()));
  Tensor in[] = {std::move(xs), std::move(h0), std::move(w_ih), std::move(w_hh), std::move(b), std::move(b_hn)};
  const bool differentiated =
      std::any_of(std::begin(in), std::end(in), [](const Tensor& t) { return is_differentiated(t); });
  attrs.keep_gates = differentiated && gate_bytes <= max_gate_bytes(hidden);
  return std::move(apply(kGruSequence, in, &attrs)[0]);
}

}  // namespace solvent
