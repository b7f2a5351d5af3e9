#include "solvent/ops/reduce.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "solvent/autodiff/cuda_kernel.h"
#include "solvent/core/error.h"
#include "solvent/ops/cpu/reduce.h"
#include "solvent/ops/derivatives.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/families.h"
#include "solvent/ops/index.h"
#include "solvent/ops/rules.h"

#if SOLVENT_WITH_CUDA
#include "solvent/ops/cuda/reduce.h"
#endif

namespace solvent {
namespace {

using detail::constant_op;
using detail::unary_op;

void check_summable(const char* op, const Tensor& x) {
  if (!is_floating(x.dtype()) && x.dtype() != int64) [[unlikely]]
    throw DtypeError(
        fmt::format("[{}] got {}; expected float32, float64 or int64. Use cast(x, dtype).", op, describe(x)));
}

// --- axes -------------------------------------------------------------------------------------------------------------------

// Shapes of a reduction's result with and without the reduced axes, and the number of elements reduced into one.
struct Reduced {
  Shape kept;
  Shape squeezed;
  std::int64_t count = 1;
};

Reduced reduced_shape(const char* op, const Shape& shape, const Axes& axes) {
  bool reduce[kMaxRank] = {};
  if (axes.empty()) std::fill_n(reduce, shape.rank(), true);
  for (const std::int64_t a : axes) {
    const int axis = normalise_axis(op, a, shape.rank());
    if (reduce[axis])
      throw ShapeError(fmt::format("[{}] got axes {} for shape {}, which name axis {} twice; name each axis once.", op,
                                   to_string(axes), to_string(shape), axis));
    reduce[axis] = true;
  }
  Reduced r;
  for (int i = 0; i < shape.rank(); ++i) {
    r.kept.push_back(reduce[i] ? 1 : shape[i]);
    if (reduce[i]) {
      r.count *= shape[i];
    } else {
      r.squeezed.push_back(shape[i]);
    }
  }
  return r;
}

Shape without_axis(Shape shape, int axis) {
  shape.erase(axis);
  return shape;
}

// Order that swaps `axis` with the last one; it is its own inverse.
Axes swap_with_last(int axis, int rank) {
  Axes order;
  for (int i = 0; i < rank; ++i) order.push_back(i);
  std::swap(order[axis], order[rank - 1]);
  return order;
}

// Applies a row-wise operation along any axis.
Tensor along(const OpDef& op, const Attrs* attrs, Tensor x, std::int64_t axis) {
  const int a = normalise_axis(op.name.data(), axis, x.rank());
  detail::check_floating(op.name.data(), x);
  if (a == x.rank() - 1) return apply1(op, attrs, std::move(x));
  const Axes order = swap_with_last(a, x.rank());
  return permute(apply1(op, attrs, permute(std::move(x), order)), order);
}

// --- max and min --------------------------------------------------------------------------------------------------------------

TensorVec extreme_jvp(const Rule& r, std::span<const Tensor> t) {
  TensorVec out(2);
  if (!t[0].defined()) return out;
  Tensor index = r.output(1);
  if (r.directions() > 0) index = reshape(index, prepend(1, index.shape()));  // one index for all directions
  out[0] = gather(t[0], index, r.attrs<AxisAttrs>().axis);
  return out;
}

TensorVec extreme_vjp(const Rule& r, std::span<const Tensor> g) {
  if (!g[0].defined()) return Tensor();
  const int axis = r.attrs<AxisAttrs>().axis;
  return scatter_add(g[0], r.output(1), axis, r.input_shape(0).at(axis));
}

constinit const OpDef kMaxWithArg = {.name = "max_with_arg",
                                     .cpu = cpu::max_with_index,
                                     .cuda = SOLVENT_CUDA_KERNEL(cuda::max_with_index),
                                     .jvp = extreme_jvp,
                                     .vjp = extreme_vjp,
                                     .inputs = {Save::shape},
                                     .outputs = Save::data};
constinit const OpDef kMinWithArg = {.name = "min_with_arg",
                                     .cpu = cpu::min_with_index,
                                     .cuda = SOLVENT_CUDA_KERNEL(cuda::min_with_index),
                                     .jvp = extreme_jvp,
                                     .vjp = extreme_vjp,
                                     .inputs = {Save::shape},
                                     .outputs = Save::data};

constinit const OpDef kAll = constant_op("all", {cpu::all, SOLVENT_CUDA_KERNEL(cuda::all)});
constinit const OpDef kAny = constant_op("any", {cpu::any, SOLVENT_CUDA_KERNEL(cuda::any)});

// --- rows -----------------------------------------------------------------------------------------------------------------------

TensorVec logsumexp_jvp(const Rule& r, std::span<const Tensor> t) {
  return t[0].defined() ? sum(mul(t[0], softmax(r.input(0))), {-1}, true) : Tensor();
}
TensorVec logsumexp_vjp(const Rule& r, std::span<const Tensor> g) {
  return g[0].defined() ? mul(g[0], softmax(r.input(0))) : Tensor();
}

constinit const OpDef kLogsumexp = {.name = "logsumexp",
                                    .cpu = cpu::logsumexp_rows,
                                    .cuda = SOLVENT_CUDA_KERNEL(cuda::logsumexp_rows),
                                    .jvp = logsumexp_jvp,
                                    .vjp = logsumexp_vjp,
                                    .inputs = {Save::data}};

constinit const OpDef kSoftmax =
    unary_op<[](const Rule& r, const Tensor& t) { return detail::softmax_grad(t, r.output()); }>(
        "softmax", {cpu::softmax_rows, SOLVENT_CUDA_KERNEL(cuda::softmax_rows)}, {.output = Save::data});

// y (g - <g, y>): in g the operation itself. In y along t: t (g - <g, y>) - y <g, t>, whose transpose is
// c (g - <g, y>) - g <c, y>.
Tensor centred(const Rule& r) {
  const Tensor& g = r.input(0);
  return sub(g, sum(mul(g, r.input(1)), {-1}, true));
}

TensorVec softmax_grad_jvp(const Rule& r, std::span<const Tensor> t) {
  const Tensor& y = r.input(1);
  Tensor out;
  if (t[0].defined()) out = detail::softmax_grad(t[0], y);
  if (!t[1].defined()) return out;
  const Tensor inner = sum(mul(t[1], r.input(0)), {-1}, true);
  return detail::add_defined(std::move(out), sub(mul(t[1], centred(r)), mul(inner, y)));
}

TensorVec softmax_grad_vjp(const Rule& r, std::span<const Tensor> c) {
  TensorVec out(2);
  if (!c[0].defined()) return out;
  const Tensor& y = r.input(1);
  if (r.needs(0)) out[0] = detail::softmax_grad(c[0], y);
  if (r.needs(1)) {
    const Tensor inner = sum(mul(c[0], y), {-1}, true);
    out[1] = sub(mul(c[0], centred(r)), mul(inner, r.input(0)));
  }
  return out;
}

constinit const OpDef kSoftmaxGrad = {.name = "softmax_grad",
                                      .cpu = cpu::softmax_grad_rows,
                                      .cuda = SOLVENT_CUDA_KERNEL(cuda::softmax_grad_rows),
                                      .jvp = softmax_grad_jvp,
                                      .vjp = softmax_grad_vjp,
                                      .inputs = {Save::data, Save::data},
                                      .num_saves = 2};

TensorVec log_softmax_jvp(const Rule& r, std::span<const Tensor> t) {
  return t[0].defined() ? sub(t[0], sum(mul(t[0], exp(r.output())), {-1}, true)) : Tensor();
}
TensorVec log_softmax_vjp(const Rule& r, std::span<const Tensor> g) {
  return g[0].defined() ? sub(g[0], mul(exp(r.output()), sum(g[0], {-1}, true))) : Tensor();
}

constinit const OpDef kLogSoftmax = {.name = "log_softmax",
                                     .cpu = cpu::log_softmax_rows,
                                     .cuda = SOLVENT_CUDA_KERNEL(cuda::log_softmax_rows),
                                     .jvp = log_softmax_jvp,
                                     .vjp = log_softmax_vjp,
                                     .outputs = Save::data};

// --- layer_norm -------------------------------------------------------------------------------------------------------------------
// layer_norm is the gradient of n sqrt(var(x) + eps). So its Jacobian is symmetric (one formula for both modes), and so is
// the trilinear form of second derivatives. With d = x - mean(x), r = 1 / sqrt(var + eps), <.> the mean over the row and
// centred g, t: J g = r (g - r^2 d <g d>), and the derivative of J g along t is
//   -r^3 (d <t g> + t <g d> + g <t d>) + 3 r^5 d <t d> <g d>.

Tensor row_mean(Tensor x) { return mean(std::move(x), {-1}, true); }
Tensor centre(const Tensor& x) { return sub(x, row_mean(x)); }

Tensor layer_norm_second(const Rule& rule, const Tensor& direction) {
  const Tensor g = centre(rule.input(0));
  const Tensor d = centre(rule.input(1));
  const Tensor t = centre(direction);
  const Tensor r = rsqrt(affine(row_mean(square(d)), 1.0, rule.attrs<EpsAttrs>().eps));
  const Tensor r2 = square(r);
  const Tensor gd = row_mean(mul(g, d));
  const Tensor td = row_mean(mul(t, d));
  const Tensor tg = row_mean(mul(t, g));
  const Tensor along_d = sub(mul(mul(td, gd), affine(r2, 3.0, 0.0)), tg);
  const Tensor rest = add(mul(t, gd), mul(g, td));
  return mul(sub(mul(along_d, d), rest), mul(r2, r));
}

constinit const OpDef kLayerNorm = unary_op<[](const Rule& r, const Tensor& t) {
  return detail::layer_norm_grad(t, r.input(0), r.attrs<EpsAttrs>().eps);
}>("layer_norm", {cpu::layer_norm_rows, SOLVENT_CUDA_KERNEL(cuda::layer_norm_rows)}, {.x = Save::data});

constinit const OpDef kLayerNormGrad = detail::binary_op<[](const Rule& r, const Tensor& t) {
  return detail::layer_norm_grad(t, r.input(1), r.attrs<EpsAttrs>().eps);
},
                                                         layer_norm_second>(
    "layer_norm_grad", {cpu::layer_norm_grad_rows, SOLVENT_CUDA_KERNEL(cuda::layer_norm_grad_rows)},
    {.x = Save::data, .y = Save::data});

constinit const OpDef* const kOps[] = {&kMaxWithArg, &kMinWithArg,  &kAll,        &kAny,       &kLogsumexp,
                                       &kSoftmax,    &kSoftmaxGrad, &kLogSoftmax, &kLayerNorm, &kLayerNormGrad};

ValueAndIndex extreme(const OpDef& op, const char* name, Tensor x, std::int64_t axis, bool keepdims) {
  check_summable(name, x);
  if (is_storage_type(x.dtype())) detail::check_floating(name, x);
  const int a = normalise_axis(name, axis, x.rank());
  const Shape shape = x.shape();
  if (shape[a] == 0)
    throw ShapeError(
        fmt::format("[{}] got shape {} and axis {}, which is empty and has no extreme value; expected at least "
                    "one element there.",
                    name, to_string(shape), axis));
  const AxisAttrs attrs(a - shape.rank());
  Tensor in[] = {std::move(x)};
  TensorVec out = apply(op, in, &attrs);
  if (keepdims) return {std::move(out[0]), std::move(out[1])};
  const Shape squeezed = without_axis(shape, a);
  return {reshape(std::move(out[0]), squeezed), reshape(std::move(out[1]), squeezed)};
}

Tensor flattened(Tensor x) {
  const std::int64_t n = x.numel();
  return reshape(std::move(x), {n});
}

Tensor truth_of(const OpDef& op, const Tensor& x) {
  if (x.dtype() != boolean)
    throw DtypeError(
        fmt::format("[{}] got {}; expected bool. Compare it first, or use cast(x, boolean).", op.name, describe(x)));
  return apply1(op, nullptr, x);
}

}  // namespace

namespace detail {
OpList reduce_ops() { return kOps; }

Tensor softmax_grad(Tensor g, Tensor y) {
  align("softmax_grad", g, y);
  check_floating("softmax_grad", g);
  return apply1(kSoftmaxGrad, nullptr, std::move(g), std::move(y));
}

Tensor layer_norm_grad(Tensor g, Tensor x, double eps) {
  align("layer_norm_grad", g, x);
  check_floating("layer_norm_grad", g);
  const EpsAttrs attrs(eps);
  return apply1(kLayerNormGrad, &attrs, std::move(g), std::move(x));
}
}  // namespace detail

// --- sums ---------------------------------------------------------------------------------------------------------------------------

Tensor sum(Tensor x, const Axes& axes, bool keepdims) {
  check_summable("sum", x);
  const Reduced r = reduced_shape("sum", x.shape(), axes);
  Tensor y = sum_to(std::move(x), r.kept);
  return keepdims ? y : reshape(std::move(y), r.squeezed);
}

Tensor mean(Tensor x, const Axes& axes, bool keepdims) {
  detail::check_floating("mean", x);
  const Reduced r = reduced_shape("mean", x.shape(), axes);
  Tensor y = affine(sum_to(std::move(x), r.kept), 1.0 / static_cast<double>(r.count), 0.0);
  return keepdims ? y : reshape(std::move(y), r.squeezed);
}

Tensor var(Tensor x, const Axes& axes, bool keepdims, double correction) {
  detail::check_floating("var", x);
  const Reduced r = reduced_shape("var", x.shape(), axes);
  const Tensor deviation = sub(x, mean(x, axes, true));
  // No degrees of freedom left: 0 / 0, not a negative variance.
  const double freedom = std::max(static_cast<double>(r.count) - correction, 0.0);
  Tensor y = affine(sum_to(square(deviation), r.kept), 1.0 / freedom, 0.0);
  return keepdims ? y : reshape(std::move(y), r.squeezed);
}

namespace {

// f(x) where x > 0 and 0, with derivatives of 0, where x is 0.
template <class F>
Tensor off_zero(const Tensor& x, F f) {
  const Tensor zero = zeros({}, {x.dtype(), x.device()});
  const Tensor is_zero = equal(x, zero);
  return where(is_zero, zero, f(where(is_zero, ones({}, {x.dtype(), x.device()}), x)));
}

// The axes after each other, each kept with extent 1.
Tensor max_over(Tensor x, const Axes& axes) {
  const int rank = x.rank();
  for (int i = 0; i < rank; ++i) {
    bool reduce = axes.empty();
    for (const std::int64_t a : axes) reduce = reduce || normalise_axis("norm", a, rank) == i;
    if (reduce) x = max(std::move(x), i, true);
  }
  return x;
}

}  // namespace

Tensor norm(Tensor x, double p, const Axes& axes, bool keepdims) {
  detail::check_floating("norm", x);
  if (!(p >= 1.0))
    throw ValueError(fmt::format("[norm] got p = {}; expected a number >= 1, or infinity for the largest |x|.", p));
  const Reduced r = reduced_shape("norm", x.shape(), axes);
  Tensor y;
  if (std::isinf(p)) {
    y = max_over(abs(std::move(x)), axes);
  } else if (p == 1.0) {
    y = sum_to(abs(std::move(x)), r.kept);
  } else if (p == 2.0) {
    y = off_zero(sum_to(square(std::move(x)), r.kept), [](Tensor s) { return sqrt(std::move(s)); });
  } else {
    y = off_zero(sum_to(pow(abs(std::move(x)), p), r.kept), [p](Tensor s) { return pow(std::move(s), 1.0 / p); });
  }
  return keepdims ? y : reshape(std::move(y), r.squeezed);
}

// --- max and min ----------------------------------------------------------------------------------------------------------------------

ValueAndIndex max_with_arg(Tensor x, std::int64_t axis, bool keepdims) {
  return extreme(kMaxWithArg, "max_with_arg", std::move(x), axis, keepdims);
}
ValueAndIndex min_with_arg(Tensor x, std::int64_t axis, bool keepdims) {
  return extreme(kMinWithArg, "min_with_arg", std::move(x), axis, keepdims);
}
Tensor max(Tensor x, std::int64_t axis, bool keepdims) {
  return extreme(kMaxWithArg, "max", std::move(x), axis, keepdims).value;
}
Tensor min(Tensor x, std::int64_t axis, bool keepdims) {
  return extreme(kMinWithArg, "min", std::move(x), axis, keepdims).value;
}
Tensor max(Tensor x) { return extreme(kMaxWithArg, "max", flattened(std::move(x)), -1, false).value; }
Tensor min(Tensor x) { return extreme(kMinWithArg, "min", flattened(std::move(x)), -1, false).value; }
Tensor argmax(const Tensor& x, std::int64_t axis, bool keepdims) {
  return extreme(kMaxWithArg, "argmax", stop_gradient(x), axis, keepdims).index;
}
Tensor argmin(const Tensor& x, std::int64_t axis, bool keepdims) {
  return extreme(kMinWithArg, "argmin", stop_gradient(x), axis, keepdims).index;
}

Tensor all(const Tensor& x) { return truth_of(kAll, x); }
Tensor any(const Tensor& x) { return truth_of(kAny, x); }

// --- rows -------------------------------------------------------------------------------------------------------------------------------

Tensor logsumexp(Tensor x, std::int64_t axis, bool keepdims) {
  const Shape shape = x.shape();
  Tensor y = along(kLogsumexp, nullptr, std::move(x), axis);
  if (keepdims) return y;
  return reshape(std::move(y), without_axis(shape, normalise_axis("logsumexp", axis, shape.rank())));
}

Tensor softmax(Tensor x, std::int64_t axis) { return along(kSoftmax, nullptr, std::move(x), axis); }
Tensor log_softmax(Tensor x, std::int64_t axis) { return along(kLogSoftmax, nullptr, std::move(x), axis); }

Tensor layer_norm(Tensor x, double eps) {
  if (!(eps >= 0.0))
    throw ValueError(fmt::format("[layer_norm] got eps {}; expected a number >= 0, such as 1e-5.", eps));
  const EpsAttrs attrs(eps);
  return along(kLayerNorm, &attrs, std::move(x), -1);
}

}  // namespace solvent
