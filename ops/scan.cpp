// First-order recurrences. Two primitives are each other's adjoint, so derivatives of any order stay among them:
//
//   F(A, b, h0):  h_t = A_t h_{t-1} + b_t                      affine_scan
//   R(A, b):      l_t = A_{t+1}^T l_{t+1} + b_t, l_{T+1} = 0   affine_scan_reversed; b -> R(A, b) is the transpose of
//                                                              b -> F(A, b, 0)
//   dF = F(A, dA_t h_{t-1} + db_t, dh0)
//   F's adjoint of g:  l = R(A, g);  b: l,  A_t: l_t h_{t-1}^T,  h0: A_1^T l_1
//   dR = R(A, db_t + dA_{t+1}^T l_{t+1})
//   R's adjoint of g:  m = F(A, g, 0);  b: m,  A_t: l_t m_{t-1}^T with m_0 = 0
//
// The last outer product is l m^T, not m l^T: <m_t, dA_{t+1}^T l_{t+1}> = <dA_{t+1}, l_{t+1} m_t^T>.
//
// `a` never has leading axes of directions: those of b and h0 share it, so that A is walked once for all of them. The
// tangent dA of `a` enters products only, where its directions broadcast against those that b already has.

#include "solvent/ops/scan.h"

#include <utility>

#include <fmt/format.h>

#include "solvent/autodiff/cuda_kernel.h"
#include "solvent/core/error.h"
#include "solvent/ops/cpu/scan_glue.h"
#if SOLVENT_WITH_CUDA
#include "solvent/ops/cuda/running.h"
#include "solvent/ops/cuda/scan.h"
#endif
#include "solvent/ops/elementwise.h"
#include "solvent/ops/families.h"
#include "solvent/ops/linalg.h"
#include "solvent/ops/rule_util.h"
#include "solvent/ops/shape_ops.h"
#include "solvent/ops/shape_primitives.h"

namespace solvent {
namespace {

constexpr std::int64_t kTimeAxis = -3;  // of b, h and the right-hand sides: (..., T, B, n)
constexpr std::int64_t kMaxBlock = 4;

// Rank of `a` without leading axes.
enum Layout : int { diagonal = 3, dense = 4, blocks = 5 };

[[noreturn]] void throw_shapes(const char* op, const Tensor& a, const Tensor& b, const Tensor* h0) {
  throw ShapeError(fmt::format(
      "[{}] got a {}, b {}{}; expected a (T, B, n, n), (T, B, n) or (T, B, n/k, k, k) with k <= {}, b "
      "(..., T, B, n){}, and T >= 1. Use permute to bring time first.",
      op, to_string(a.shape()), to_string(b.shape()), h0 ? fmt::format(" and h0 {}", to_string(h0->shape())) : "",
      kMaxBlock, h0 ? " and h0 (..., B, n)" : ""));
}

bool matrices_fit(const Tensor& a, const Tensor& b) {
  if (b.rank() < 3 || b.size(-3) < 1) return false;
  const std::int64_t n = b.size(-1);
  const Shape& s = a.shape();
  if (s.rank() < 3 || s.rank() > 5 || s[0] != b.size(-3) || s[1] != b.size(-2)) return false;
  if (s.rank() == diagonal) return s[2] == n;
  if (s.rank() == dense) return s[2] == n && s[3] == n;
  return s[3] == s[4] && s[3] >= 1 && s[3] <= kMaxBlock && s[2] * s[3] == n;
}

// --- products with one matrix per step ------------------------------------------------------------------------------------
// `layout` is that of the primal `a`; matrices may have leading axes of directions in front.

// v (..., T, B, n) as vectors that the matrices act on: (..., T, B, n/k, k) for blocks.
Tensor vectors(const Tensor& v, int layout, std::int64_t block) {
  if (layout != blocks) return v;
  Shape shape = v.shape();
  shape[shape.rank() - 1] /= block;
  shape.push_back(block);
  return reshape(v, shape);
}

// A_t v_t or A_t^T v_t.
Tensor act(const Tensor& a, const Tensor& v, int layout, bool transposed) {
  if (layout == diagonal) return mul(a, v);
  Tensor y = matmul(transposed ? mT(a) : a, unsqueeze(vectors(v, layout, a.size(-1)), -1));
  Shape shape = y.shape();
  shape.pop_back();
  if (layout == blocks) {
    shape.pop_back();
    shape[shape.rank() - 1] *= a.size(-1);
  }
  return reshape(std::move(y), shape);
}

// The part of u_t v_t^T that a matrix of this layout has; leading axes are summed.
Tensor outer_like(const Tensor& u, const Tensor& v, const Shape& a_shape) {
  if (a_shape.rank() == diagonal) return sum_to(mul(u, v), a_shape);
  const std::int64_t block = a_shape.back();
  return sum_to(outer(vectors(u, a_shape.rank(), block), vectors(v, a_shape.rank(), block)), a_shape);
}

// v_{t-1}: `first`, then all but the last step.
Tensor shifted_down(const Tensor& v, Tensor first) {
  const std::int64_t steps = v.size(kTimeAxis);
  return concat({unsqueeze(std::move(first), kTimeAxis), detail::slice_exact(v, kTimeAxis, 0, steps - 1, 1)},
                kTimeAxis);
}

// v_{t+1}, 0 after the last step.
Tensor shifted_up(const Tensor& v) {
  const std::int64_t steps = v.size(kTimeAxis);
  return detail::pad_exact(detail::slice_exact(v, kTimeAxis, 1, steps - 1, 1), kTimeAxis, steps, 0, 1, 0.0);
}

// dA (K, T, B, ...) -> (K, 1, ..., T, B, ...): its directions stand left of the leading axes that b has.
Tensor align_directions(const Rule& rule, const Tensor& da, int lead) {
  if (rule.directions() == 0 || lead == 0) return da;
  Shape shape = da.shape();
  for (int i = 0; i < lead; ++i) shape.insert(1, 1);
  return reshape(da, shape);
}

Tensor plus(Tensor sum, Tensor term) { return sum.defined() ? add(std::move(sum), std::move(term)) : term; }

// Zeros like the state before the first step, for right-hand sides (..., T, B, n).
Tensor zero_state(const Tensor& b) {
  Shape shape = b.shape();
  shape.erase(shape.rank() - 3);
  return detail::zeros_view(shape, b.dtype(), b.device());
}

// --- affine_scan ----------------------------------------------------------------------------------------------------------

TensorVec scan_kernel(std::span<Tensor> inputs, const Attrs*) {
  return cpu::scan_forward(inputs[0], std::move(inputs[1]), inputs[2]);
}

TensorVec scan_jvp(const Rule& rule, std::span<const Tensor> tangents) {
  const Tensor& a = rule.input(0);
  const Tensor& h = rule.output();
  Tensor rhs = tangents[1];
  if (tangents[0].defined()) {
    const Tensor da = align_directions(rule, tangents[0], h.rank() - 3);
    rhs = plus(std::move(rhs), act(da, shifted_down(h, rule.input(2)), a.rank(), false));
  }
  const bool starts = tangents[2].defined();
  if (!rhs.defined()) rhs = detail::zeros_view(rule.output_tangent_shape(), h.dtype(), h.device());
  return affine_scan(a, rhs, starts ? tangents[2] : zero_state(rhs));
}

TensorVec scan_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  const Tensor& a = rule.input(0);
  TensorVec grads(3);
  Tensor adjoint = affine_scan_reversed(a, cotangents[0]);
  if (rule.needs(0)) grads[0] = outer_like(adjoint, shifted_down(rule.output(), rule.input(2)), a.shape());
  if (rule.needs(2)) {
    const Tensor first = detail::slice_exact(a, -a.rank(), 0, 1, 1);
    const Tensor g = act(first, detail::slice_exact(adjoint, kTimeAxis, 0, 1, 1), a.rank(), true);
    grads[2] = squeeze(g, kTimeAxis);
  }
  if (rule.needs(1)) grads[1] = std::move(adjoint);
  return grads;
}

constinit const OpDef kAffineScan{.name = "affine_scan",
                                  .cpu = scan_kernel,
                                  .cuda = SOLVENT_CUDA_KERNEL(cuda::affine_scan),
                                  .jvp = scan_jvp,
                                  .vjp = scan_vjp,
                                  .inputs = {Save::data, Save::none, Save::data},
                                  .num_saves = 3,
                                  .outputs = Save::data};

// --- affine_scan_reversed -------------------------------------------------------------------------------------------------

TensorVec reversed_kernel(std::span<Tensor> inputs, const Attrs*) {
  return cpu::scan_reversed(inputs[0], std::move(inputs[1]));
}

TensorVec reversed_jvp(const Rule& rule, std::span<const Tensor> tangents) {
  const Tensor& a = rule.input(0);
  const Tensor& l = rule.output();
  Tensor rhs = tangents[1];
  if (tangents[0].defined()) {
    const Tensor da = align_directions(rule, tangents[0], l.rank() - 3);
    rhs = plus(std::move(rhs), shifted_up(act(da, l, a.rank(), true)));
  }
  return affine_scan_reversed(a, std::move(rhs));
}

TensorVec reversed_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  const Tensor& a = rule.input(0);
  TensorVec grads(2);
  Tensor m = affine_scan(a, cotangents[0], zero_state(cotangents[0]));
  if (rule.needs(0)) grads[0] = outer_like(rule.output(), shifted_down(m, zero_state(m)), a.shape());
  if (rule.needs(1)) grads[1] = std::move(m);
  return grads;
}

constinit const OpDef kAffineScanReversed{.name = "affine_scan_reversed",
                                          .cpu = reversed_kernel,
                                          .cuda = SOLVENT_CUDA_KERNEL(cuda::affine_scan_reversed),
                                          .jvp = reversed_jvp,
                                          .vjp = reversed_vjp,
                                          .inputs = {Save::data, Save::none},
                                          .num_saves = 2,
                                          .outputs = Save::data};

// --- cumsum ---------------------------------------------------------------------------------------------------------------

struct CumsumAttrs : AttrsBase<CumsumAttrs> {
  std::int64_t axis = -1;
  bool reversed = false;
  [[nodiscard]] std::string describe() const override {
    return fmt::format("axis={}{}", axis, reversed ? " reversed" : "");
  }
};

template <auto kRun>
TensorVec cumsum_kernel(std::span<Tensor> inputs, const Attrs* attrs) {
  const auto& a = static_cast<const CumsumAttrs&>(*attrs);
  return kRun(inputs[0], static_cast<int>(a.axis) + inputs[0].rank(), a.reversed);
}

TensorVec cumsum_jvp(const Rule& rule, std::span<const Tensor> tangents) {
  const auto& a = rule.attrs<CumsumAttrs>();
  return cumsum(tangents[0], a.axis, a.reversed);
}

TensorVec cumsum_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  const auto& a = rule.attrs<CumsumAttrs>();
  return cumsum(cotangents[0], a.axis, !a.reversed);
}

constinit const OpDef kCumsum{.name = "cumsum",
                              .cpu = cumsum_kernel<cpu::cumsum>,
                              .cuda = SOLVENT_CUDA_KERNEL(cumsum_kernel<cuda::cumsum>),
                              .jvp = cumsum_jvp,
                              .vjp = cumsum_vjp};

// --- cumprod --------------------------------------------------------------------------------------------------------------
// y_i = x_i y_{i-1}, so dy_i = x_i dy_{i-1} + y_{i-1} dx_i: a diagonal affine scan, and its adjoint the reversed one. No
// division by x, hence right where x has zeros.

struct CumprodAttrs : AttrsBase<CumprodAttrs> {
  std::int64_t axis = -1;
  [[nodiscard]] std::string describe() const override { return fmt::format("axis={}", axis); }
};

// Moves everything one place along the axis and puts `first` in front.
Tensor shifted(Tensor x, std::int64_t axis, double first) {
  const std::int64_t size = x.shape().at(axis);
  if (size == 0) return x;
  return detail::pad_exact(detail::slice_exact(std::move(x), axis, 0, size - 1, 1), axis, size, 1, 1, first);
}

// h_t = a_t h_{t-1} + b_t from h_{-1} = 0 along `axis` (from the right), or the reversed scan. b has a's shape behind any
// leading axes of directions.
Tensor recurrence(Tensor a, Tensor b, std::int64_t axis, bool reversed) {
  if (b.numel() == 0) return b;
  const int rank = a.rank();
  const int lead = b.rank() - rank;
  const int at = static_cast<int>(axis) + rank;
  const std::int64_t steps = a.shape()[at];
  const std::int64_t width = a.numel() / steps;
  Axes order_a = {at};
  for (int i = 0; i < rank; ++i)
    if (i != at) order_a.push_back(i);
  Axes order_b;
  for (int i = 0; i < lead; ++i) order_b.push_back(i);
  for (const std::int64_t i : order_a) order_b.push_back(lead + i);
  Axes back = order_b;
  for (int i = 0; i < order_b.rank(); ++i) back[static_cast<int>(order_b[i])] = i;

  a = reshape(permute(std::move(a), order_a), {steps, 1, width});
  b = permute(std::move(b), order_b);
  const Shape moved = b.shape();
  Shape folded = Dims(std::span(moved.begin(), static_cast<std::size_t>(lead)));
  for (const std::int64_t extent : {steps, std::int64_t{1}, width}) folded.push_back(extent);
  b = reshape(std::move(b), folded);
  const Tensor start = detail::zeros_view({1, width}, b.dtype(), b.device());
  Tensor h =
      reversed ? affine_scan_reversed(std::move(a), std::move(b)) : affine_scan(std::move(a), std::move(b), start);
  return permute(reshape(std::move(h), moved), back);
}

template <auto kRun>
TensorVec cumprod_kernel(std::span<Tensor> inputs, const Attrs* attrs) {
  return kRun(inputs[0], static_cast<int>(static_cast<const CumprodAttrs&>(*attrs).axis) + inputs[0].rank());
}

TensorVec cumprod_jvp(const Rule& rule, std::span<const Tensor> tangents) {
  const std::int64_t axis = rule.attrs<CumprodAttrs>().axis;
  return recurrence(rule.input(0), mul(tangents[0], shifted(rule.output(), axis, 1.0)), axis, false);
}

TensorVec cumprod_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  const std::int64_t axis = rule.attrs<CumprodAttrs>().axis;
  return mul(recurrence(rule.input(0), cotangents[0], axis, true), shifted(rule.output(), axis, 1.0));
}

constinit const OpDef kCumprod{.name = "cumprod",
                               .cpu = cumprod_kernel<cpu::cumprod>,
                               .cuda = SOLVENT_CUDA_KERNEL(cumprod_kernel<cuda::cumprod>),
                               .jvp = cumprod_jvp,
                               .vjp = cumprod_vjp,
                               .inputs = {Save::data},
                               .outputs = Save::data};

void check_cumulative(const char* op, const Tensor& x, const char* what) {
  if (is_storage_type(x.dtype())) detail::check_floating(op, x);
  if (x.dtype() == boolean || x.dtype() == uint8)
    throw DtypeError(fmt::format("[{}] got {}; expected float32, float64 or int64, which can be {}. Use cast.", op,
                                 to_string(x.dtype()), what));
}

constinit const OpDef* const kScanFamily[] = {&kAffineScan, &kAffineScanReversed, &kCumsum, &kCumprod};

}  // namespace

namespace detail {
OpList scan_ops() { return kScanFamily; }
}  // namespace detail

Tensor affine_scan(Tensor a, Tensor b, Tensor h0) {
  detail::check_same_dtype("affine_scan", a, b);
  detail::check_same_dtype("affine_scan", b, h0);
  detail::check_floating("affine_scan", a);
  if (!matrices_fit(a, b) || h0.rank() < 2 || h0.size(-2) != b.size(-2) || h0.size(-1) != b.size(-1))
    throw_shapes("affine_scan", a, b, &h0);
  Shape b_shape = b.shape();  // leading axes of b and h0 broadcast
  const std::int64_t steps = b_shape[b_shape.rank() - 3];
  b_shape.erase(b_shape.rank() - 3);
  if (!(b_shape == h0.shape())) {
    const Shape common = broadcast_shapes("affine_scan", b_shape, h0.shape());
    if (!(h0.shape() == common)) h0 = broadcast_to(std::move(h0), common);
    if (!(b_shape == common)) {
      Shape target = common;
      target.insert(target.rank() - 2, steps);
      b = broadcast_to(std::move(b), target);
    }
  }
  return apply1(kAffineScan, nullptr, std::move(a), std::move(b), std::move(h0));
}

Tensor affine_scan_reversed(Tensor a, Tensor b) {
  detail::check_same_dtype("affine_scan_reversed", a, b);
  detail::check_floating("affine_scan_reversed", a);
  if (!matrices_fit(a, b)) throw_shapes("affine_scan_reversed", a, b, nullptr);
  return apply1(kAffineScanReversed, nullptr, std::move(a), std::move(b));
}

Tensor cumsum(Tensor x, std::int64_t axis, bool reversed, bool exclusive) {
  const int at = normalise_axis("cumsum", axis, x.rank());
  check_cumulative("cumsum", x, "added");
  CumsumAttrs attrs;
  attrs.axis = detail::from_right(at, x.rank());
  attrs.reversed = reversed;
  Tensor y = apply1(kCumsum, &attrs, std::move(x));
  if (!exclusive) return y;
  return reversed ? flip(shifted(flip(std::move(y), at), attrs.axis, 0.0), at) : shifted(std::move(y), attrs.axis, 0.0);
}

Tensor cumprod(Tensor x, std::int64_t axis, bool reversed, bool exclusive) {
  const int at = normalise_axis("cumprod", axis, x.rank());
  check_cumulative("cumprod", x, "multiplied");
  if (reversed) return flip(cumprod(flip(std::move(x), at), at, false, exclusive), at);
  CumprodAttrs attrs;
  attrs.axis = detail::from_right(at, x.rank());
  Tensor y = apply1(kCumprod, &attrs, std::move(x));
  return exclusive ? shifted(std::move(y), attrs.axis, 1.0) : y;
}

}  // namespace solvent
