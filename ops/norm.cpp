// Batch normalisation, weight normalisation and dropout.
//
// Normalising is the gradient of n sqrt(var(x) + eps), over whatever set of elements mean and variance are taken. So its
// Jacobian J is symmetric, and so is the trilinear form of second derivatives (as for layer_norm, reduce.cpp).
//
// `batch_norm` and `batch_norm_grad` take the batch's mean and variance as inputs, to save a pass over x, but they are
// functions of x all the same: the rules differentiate with respect to x as if the statistics were formed inside. The hints
// carry no derivative information and are handed on to these two operations only; every rule that needs the mean otherwise
// forms it from x.

#include "solvent/ops/norm.h"

#include <cmath>

#include <fmt/format.h>

#include "solvent/autodiff/cuda_kernel.h"
#include "solvent/core/error.h"
#include "solvent/ops/cpu/norm.h"
#include "solvent/ops/cpu/reduce.h"
#include "solvent/ops/derivatives.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/families.h"
#include "solvent/ops/reduce.h"
#include "solvent/ops/rules.h"

#if SOLVENT_WITH_CUDA
#include "solvent/ops/cuda/norm.h"
#endif

namespace solvent {
namespace {

using detail::add_defined;
using detail::jvp_of_one;
using detail::vjp_of_one;

// Tensors are (..., N, C, S) and (..., 1, C, 1) throughout.
const Axes kBatchAxes = {-3, -1};

Tensor batch_sum(Tensor x) { return sum(std::move(x), kBatchAxes, true); }
Tensor batch_mean(Tensor x) { return mean(std::move(x), kBatchAxes, true); }
Tensor centre(const Tensor& x, const Axes& axes = kBatchAxes) { return sub(x, mean(x, axes, true)); }

// The derivative of J g along t, a symmetric trilinear form: with d = x - mean(x), r = 1 / sqrt(var + eps), <.> the mean and
// centred g, t:  -r^3 (d <t g> + t <g d> + g <t d>) + 3 r^5 d <t d> <g d>.
Tensor second_derivative(const Tensor& x, double eps, const Tensor& first, const Tensor& direction, const Axes& axes) {
  const auto average = [&axes](Tensor v) { return mean(std::move(v), axes, true); };
  const Tensor g = centre(first, axes);
  const Tensor d = centre(x, axes);
  const Tensor t = centre(direction, axes);
  const Tensor r = rsqrt(affine(average(square(d)), 1.0, eps));
  const Tensor r2 = square(r);
  const Tensor gd = average(mul(g, d));
  const Tensor td = average(mul(t, d));
  const Tensor along_d = sub(mul(mul(td, gd), affine(r2, 3.0, 0.0)), average(mul(t, g)));
  const Tensor rest = add(mul(t, gd), mul(g, td));
  return mul(sub(mul(along_d, d), rest), mul(r2, r));
}

// --- statistics -------------------------------------------------------------------------------------------------------------------

TensorVec moments_jvp(const Rule& r, std::span<const Tensor> t) {
  if (!t[0].defined()) return TensorVec(2);
  const Tensor product = mul(t[0], centre(r.input(0)));
  return {batch_mean(t[0]), affine(batch_mean(product), 2.0, 0.0)};
}

TensorVec moments_vjp(const Rule& r, std::span<const Tensor> g) {
  const Shape& shape = r.input_shape(0);
  const double share = 1.0 / static_cast<double>(shape.at(-3) * shape.at(-1));
  Tensor out;
  if (g[0].defined()) out = broadcast_to(affine(g[0], share, 0.0), shape);
  if (g[1].defined()) out = add_defined(std::move(out), mul(affine(g[1], 2.0 * share, 0.0), centre(r.input(0))));
  return out;
}

constinit const OpDef kBatchMoments = {.name = "batch_moments",
                                       .cpu = cpu::batch_moments,
                                       .cuda = SOLVENT_CUDA_KERNEL(cuda::batch_moments),
                                       .jvp = moments_jvp,
                                       .vjp = moments_vjp,
                                       .inputs = {Save::data}};

// --- batch_norm -------------------------------------------------------------------------------------------------------------------

// What the two operations share: x and its statistics as hints.
struct Normalised {
  const Tensor& x;
  const Tensor& mean;
  const Tensor& var;
  double eps;
};

extern const OpDef kBatchNorm;
extern const OpDef kBatchNormGrad;

Tensor ones_for(const Normalised& n) { return ones(n.mean.shape(), {n.mean.dtype(), n.mean.device()}); }

// (x - mean) / sqrt(var + eps)
Tensor value_of(const Normalised& n) {
  const EpsAttrs attrs(n.eps);
  const Tensor zero = zeros(n.mean.shape(), {n.mean.dtype(), n.mean.device()});
  return apply1(kBatchNorm, &attrs, n.x, ones_for(n), zero, n.mean, n.var);
}

// `t` with the leading axes of `lead`, keeping its last ones.
Tensor with_lead(const Tensor& t, Shape lead, int kept = 3) {
  for (int i = 1; i <= kept; ++i) lead[lead.rank() - i] = t.shape().at(-i);
  return lead == t.shape() ? t : broadcast_to(t, lead);
}

// Cotangents of x, weight and bias: weight J g, sum of g times the normalised x, sum of g. g may have leading axes of
// directions, as may the others.
TensorVec cotangents_of(const Tensor& g, const Normalised& n, const Tensor& weight) {
  const Shape lead =
      broadcast_shapes("batch_norm_grad", broadcast_shapes("batch_norm_grad", g.shape(), n.x.shape()), weight.shape());
  const EpsAttrs attrs(n.eps);
  Tensor in[] = {with_lead(g, lead), with_lead(n.x, lead), with_lead(weight, lead), with_lead(n.mean, lead),
                 with_lead(n.var, lead)};
  return apply(kBatchNormGrad, in, &attrs);
}

// J g, symmetric in its action: <c, J g> = <J c, g>.
Tensor jacobian_times(const Tensor& g, const Normalised& n) { return std::move(cotangents_of(g, n, ones_for(n))[0]); }

TensorVec batch_norm_jvp(const Rule& r, std::span<const Tensor> t) {
  const Normalised n = {r.input(0), r.input(3), r.input(4), r.attrs<EpsAttrs>().eps};
  Tensor out;
  if (t[0].defined()) out = std::move(cotangents_of(t[0], n, r.input(1))[0]);
  if (t[1].defined()) out = add_defined(std::move(out), mul(t[1], value_of(n)));
  if (t[2].defined()) out = add_defined(std::move(out), broadcast_to(t[2], r.tangent_shape(0)));
  return out;
}

TensorVec batch_norm_vjp(const Rule& r, std::span<const Tensor> g) {
  TensorVec out(5);
  if (!g[0].defined()) return out;
  if (!r.needs(0) && !r.needs(1)) {
    out[2] = batch_sum(g[0]);
    return out;
  }
  TensorVec all = cotangents_of(g[0], {r.input(0), r.input(3), r.input(4), r.attrs<EpsAttrs>().eps}, r.input(1));
  for (int i = 0; i < 3; ++i) out[i] = std::move(all[i]);
  return out;
}

constinit const OpDef kBatchNorm = {.name = "batch_norm",
                                    .cpu = cpu::batch_normalise,
                                    .cuda = SOLVENT_CUDA_KERNEL(cuda::batch_normalise),
                                    .jvp = batch_norm_jvp,
                                    .vjp = batch_norm_vjp,
                                    .inputs = {Save::data, Save::data, Save::none, Save::data, Save::data},
                                    .num_saves = 5};

TensorVec batch_norm_grad_jvp(const Rule& r, std::span<const Tensor> t) {
  const Tensor& g = r.input(0);
  const Tensor& weight = r.input(2);
  const Normalised n = {r.input(1), r.input(3), r.input(4), r.attrs<EpsAttrs>().eps};
  TensorVec out(3);
  if (t[0].defined()) out = cotangents_of(t[0], n, weight);
  if (t[1].defined()) {
    out[0] = add_defined(std::move(out[0]), second_derivative(n.x, n.eps, mul(g, weight), t[1], kBatchAxes));
    out[1] = add_defined(std::move(out[1]), batch_sum(mul(g, jacobian_times(t[1], n))));
  }
  if (t[2].defined()) out[0] = add_defined(std::move(out[0]), jacobian_times(mul(g, t[2]), n));
  return out;
}

TensorVec batch_norm_grad_vjp(const Rule& r, std::span<const Tensor> c) {
  const Tensor& g = r.input(0);
  const Tensor& weight = r.input(2);
  const Normalised n = {r.input(1), r.input(3), r.input(4), r.attrs<EpsAttrs>().eps};
  TensorVec out(5);
  if (r.needs(0)) {
    if (c[0].defined()) out[0] = std::move(cotangents_of(c[0], n, weight)[0]);
    if (c[1].defined()) out[0] = add_defined(std::move(out[0]), mul(c[1], value_of(n)));
    if (c[2].defined()) out[0] = add_defined(std::move(out[0]), broadcast_to(c[2], g.shape()));
  }
  if (r.needs(1)) {
    if (c[0].defined()) out[1] = second_derivative(n.x, n.eps, mul(g, weight), c[0], kBatchAxes);
    if (c[1].defined()) out[1] = add_defined(std::move(out[1]), jacobian_times(mul(g, c[1]), n));
  }
  if (r.needs(2) && c[0].defined()) out[2] = batch_sum(mul(g, jacobian_times(c[0], n)));
  return out;
}

constinit const OpDef kBatchNormGrad = {.name = "batch_norm_grad",
                                        .cpu = cpu::batch_normalise_grad,
                                        .cuda = SOLVENT_CUDA_KERNEL(cuda::batch_normalise_grad),
                                        .jvp = batch_norm_grad_jvp,
                                        .vjp = batch_norm_grad_vjp,
                                        .inputs = {Save::data},
                                        .num_saves = 1};

// --- layer_norm with weight and bias ------------------------------------------------------------------------------------------------
// Tensors are (..., R, C) and (..., 1, C). The parts without weight and bias are layer_norm's own operations (reduce.cpp).

extern const OpDef kLayerNormAffineGrad;

const Axes kRowAxis = {-1};

Tensor row_sum(Tensor x) { return sum(std::move(x), {-2}, true); }

TensorVec row_cotangents(const Tensor& g, const Tensor& x, const Tensor& weight, double eps) {
  const char* op = "layer_norm_affine_grad";
  const Shape lead = broadcast_shapes(op, broadcast_shapes(op, g.shape(), x.shape()), weight.shape());
  const EpsAttrs attrs(eps);
  Tensor in[] = {with_lead(g, lead, 2), with_lead(x, lead, 2), with_lead(weight, lead, 2)};
  return apply(kLayerNormAffineGrad, in, &attrs);
}

TensorVec layer_norm_affine_jvp(const Rule& r, std::span<const Tensor> t) {
  const double eps = r.attrs<EpsAttrs>().eps;
  Tensor out;
  if (t[0].defined()) out = mul(detail::layer_norm_grad(t[0], r.input(0), eps), r.input(1));
  if (t[1].defined()) out = add_defined(std::move(out), mul(t[1], layer_norm(r.input(0), eps)));
  if (t[2].defined()) out = add_defined(std::move(out), broadcast_to(t[2], r.tangent_shape(0)));
  return out;
}

TensorVec layer_norm_affine_vjp(const Rule& r, std::span<const Tensor> g) {
  return g[0].defined() ? row_cotangents(g[0], r.input(0), r.input(1), r.attrs<EpsAttrs>().eps) : TensorVec(3);
}

constinit const OpDef kLayerNormAffine = {.name = "layer_norm_affine",
                                          .cpu = cpu::layer_norm_affine_rows,
                                          .cuda = SOLVENT_CUDA_KERNEL(cuda::layer_norm_affine_rows),
                                          .jvp = layer_norm_affine_jvp,
                                          .vjp = layer_norm_affine_vjp,
                                          .inputs = {Save::data, Save::data, Save::none},
                                          .num_saves = 3};

TensorVec layer_norm_affine_grad_jvp(const Rule& r, std::span<const Tensor> t) {
  const Tensor& g = r.input(0);
  const Tensor& x = r.input(1);
  const Tensor& weight = r.input(2);
  const double eps = r.attrs<EpsAttrs>().eps;
  TensorVec out(3);
  if (t[0].defined()) out = row_cotangents(t[0], x, weight, eps);
  if (t[1].defined()) {
    out[0] = add_defined(std::move(out[0]), second_derivative(x, eps, mul(g, weight), t[1], kRowAxis));
    out[1] = add_defined(std::move(out[1]), row_sum(mul(g, detail::layer_norm_grad(t[1], x, eps))));
  }
  if (t[2].defined()) out[0] = add_defined(std::move(out[0]), detail::layer_norm_grad(mul(g, t[2]), x, eps));
  return out;
}

TensorVec layer_norm_affine_grad_vjp(const Rule& r, std::span<const Tensor> c) {
  const Tensor& g = r.input(0);
  const Tensor& x = r.input(1);
  const Tensor& weight = r.input(2);
  const double eps = r.attrs<EpsAttrs>().eps;
  TensorVec out(3);
  Tensor jacobian_c;
  if (c[0].defined()) jacobian_c = detail::layer_norm_grad(c[0], x, eps);
  if (r.needs(0)) {
    if (c[0].defined()) out[0] = mul(jacobian_c, weight);
    if (c[1].defined()) out[0] = add_defined(std::move(out[0]), mul(c[1], layer_norm(x, eps)));
    if (c[2].defined()) out[0] = add_defined(std::move(out[0]), broadcast_to(c[2], g.shape()));
  }
  if (r.needs(1)) {
    if (c[0].defined()) out[1] = second_derivative(x, eps, mul(g, weight), c[0], kRowAxis);
    if (c[1].defined()) out[1] = add_defined(std::move(out[1]), detail::layer_norm_grad(mul(g, c[1]), x, eps));
  }
  if (r.needs(2) && c[0].defined()) out[2] = row_sum(mul(g, jacobian_c));
  return out;
}

constinit const OpDef kLayerNormAffineGrad = {.name = "layer_norm_affine_grad",
                                              .cpu = cpu::layer_norm_affine_rows_grad,
                                              .cuda = SOLVENT_CUDA_KERNEL(cuda::layer_norm_affine_rows_grad),
                                              .jvp = layer_norm_affine_grad_jvp,
                                              .vjp = layer_norm_affine_grad_vjp,
                                              .inputs = {Save::data},
                                              .num_saves = 1};

// --- given statistics ---------------------------------------------------------------------------------------------------------------
// (x - mean) scale + shift

TensorVec channel_affine_jvp(const Rule& r, std::span<const Tensor> t) {
  const Tensor& scale = r.input(2);
  const auto whole = [&r](Tensor v) { return broadcast_to(std::move(v), r.tangent_shape(0)); };
  Tensor out;
  if (t[0].defined()) out = mul(t[0], scale);
  if (t[1].defined()) out = add_defined(std::move(out), whole(neg(mul(t[1], scale))));
  if (t[2].defined()) out = add_defined(std::move(out), mul(t[2], sub(r.input(0), r.input(1))));
  if (t[3].defined()) out = add_defined(std::move(out), whole(t[3]));
  return out;
}

TensorVec channel_affine_vjp(const Rule& r, std::span<const Tensor> g) {
  TensorVec out(4);
  if (!g[0].defined()) return out;
  const Tensor& scale = r.input(2);
  if (r.needs(0)) out[0] = mul(g[0], scale);
  if (r.needs(1)) out[1] = neg(mul(batch_sum(g[0]), scale));
  if (r.needs(2)) out[2] = batch_sum(mul(g[0], sub(r.input(0), r.input(1))));
  if (r.needs(3)) out[3] = batch_sum(g[0]);
  return out;
}

constinit const OpDef kChannelAffine = {.name = "channel_affine",
                                        .cpu = cpu::channel_affine_map,
                                        .cuda = SOLVENT_CUDA_KERNEL(cuda::channel_affine_map),
                                        .jvp = channel_affine_jvp,
                                        .vjp = channel_affine_vjp,
                                        .inputs = {Save::data, Save::data, Save::data, Save::none},
                                        .num_saves = 4};

// --- dropout ------------------------------------------------------------------------------------------------------------------------

Tensor masked(Tensor x, const DropoutAttrs& attrs);

// A diagonal matrix: its own adjoint. Directions share the mask.
constexpr auto kMasked = [](const Rule& r, const Tensor& t) { return masked(t, r.attrs<DropoutAttrs>()); };

constinit const OpDef kDropout = {.name = "dropout",
                                  .cpu = cpu::dropout_mask,
                                  .cuda = SOLVENT_CUDA_KERNEL(cuda::dropout_mask),
                                  .jvp = jvp_of_one<kMasked>,
                                  .vjp = vjp_of_one<kMasked>};

Tensor masked(Tensor x, const DropoutAttrs& attrs) { return apply1(kDropout, &attrs, std::move(x)); }

void check_probability(const char* op, const Tensor& x, double p) {
  detail::check_floating(op, x);
  if (!(p >= 0.0 && p <= 1.0))
    throw ValueError(fmt::format("[{}] got p = {}; expected the probability of dropping, 0 <= p <= 1.", op, p));
}

constinit const OpDef* const kOps[] = {&kBatchMoments,    &kBatchNorm,           &kBatchNormGrad, &kChannelAffine,
                                       &kLayerNormAffine, &kLayerNormAffineGrad, &kDropout};

// --- front ends ---------------------------------------------------------------------------------------------------------------------

// (C) as (1, C, 1); an empty handle as `value` everywhere.
Tensor per_channel(const char* op, const char* name, const Tensor& x, Tensor t, double value) {
  const std::int64_t channels = x.shape()[1];
  if (!t.defined()) return full({1, channels, 1}, value, {x.dtype(), x.device()});
  detail::check_same_dtype(op, x, t);
  if (!(t.shape() == Shape{channels}))
    throw ShapeError(fmt::format("[{}] got x {} and {} {}; expected one element per channel, shape ({},).", op,
                                 describe(x), name, describe(t), channels));
  return reshape(std::move(t), {1, channels, 1});
}

void check_batch(const char* op, const Tensor& x, double eps) {
  detail::check_floating(op, x);
  if (x.rank() < 2)
    throw ShapeError(fmt::format("[{}] got x {}; expected (N, C, ...): samples, channels, positions. Use reshape.", op,
                                 describe(x)));
  if (!(eps >= 0.0)) throw ValueError(fmt::format("[{}] got eps {}; expected a number >= 0, such as 1e-5.", op, eps));
}

// (N, C, ...) -> (N, C, S)
Shape flat_shape(const Shape& shape) {
  std::int64_t positions = 1;
  for (int i = 2; i < shape.rank(); ++i) positions *= shape[i];
  return {shape[0], shape[1], positions};
}

}  // namespace

namespace detail {
OpList norm_ops() { return kOps; }
}  // namespace detail

BatchNormResult batch_norm(Tensor x, Tensor weight, Tensor bias, double eps) {
  check_batch("batch_norm", x, eps);
  const Shape shape = x.shape();
  const Shape flat = flat_shape(shape);
  if (flat[0] * flat[2] == 0)
    throw ShapeError(
        fmt::format("[batch_norm] got x {}, which has no element per channel; expected a batch. For an "
                    "empty one use batch_norm_eval.",
                    describe(x)));
  weight = per_channel("batch_norm", "weight", x, std::move(weight), 1.0);
  bias = per_channel("batch_norm", "bias", x, std::move(bias), 0.0);
  x = reshape(std::move(x), flat);
  Tensor in[] = {x};
  TensorVec moments = apply(kBatchMoments, in);
  const EpsAttrs attrs(eps);
  Tensor y = apply1(kBatchNorm, &attrs, std::move(x), std::move(weight), std::move(bias), stop_gradient(moments[0]),
                    stop_gradient(moments[1]));
  return {reshape(std::move(y), shape), reshape(std::move(moments[0]), {shape[1]}),
          reshape(std::move(moments[1]), {shape[1]})};
}

Tensor batch_norm_eval(Tensor x, Tensor mean, Tensor var, Tensor weight, Tensor bias, double eps) {
  check_batch("batch_norm_eval", x, eps);
  const Shape shape = x.shape();
  mean = per_channel("batch_norm_eval", "mean", x, std::move(mean), 0.0);
  var = per_channel("batch_norm_eval", "var", x, std::move(var), 1.0);
  Tensor scale = rsqrt(affine(std::move(var), 1.0, eps));
  if (weight.defined()) scale = mul(std::move(scale), per_channel("batch_norm_eval", "weight", x, weight, 1.0));
  bias = per_channel("batch_norm_eval", "bias", x, std::move(bias), 0.0);
  Tensor y = apply1(kChannelAffine, nullptr, reshape(std::move(x), flat_shape(shape)), std::move(mean),
                    std::move(scale), std::move(bias));
  return reshape(std::move(y), shape);
}

Tensor layer_norm(Tensor x, Tensor weight, Tensor bias, double eps) {
  detail::check_floating("layer_norm", x);
  const Shape shape = x.shape();
  if (!(eps >= 0.0))
    throw ValueError(fmt::format("[layer_norm] got eps {}; expected a number >= 0, such as 1e-5.", eps));
  for (const Tensor* t : {&weight, &bias}) {
    detail::check_same_dtype("layer_norm", x, *t);
    if (shape.empty() || !(t->shape() == Shape{shape.back()}))
      throw ShapeError(
          fmt::format("[layer_norm] got x {} and weight {}, bias {}; expected weight and bias with the "
                      "extent of x's last axis.",
                      describe(x), describe(weight), describe(bias)));
  }
  const std::int64_t cols = shape.back();
  Shape leading = shape;
  leading.pop_back();
  const EpsAttrs attrs(eps);
  Tensor y = apply1(kLayerNormAffine, &attrs, reshape(std::move(x), {leading.product(), cols}),
                    reshape(std::move(weight), {1, cols}), reshape(std::move(bias), {1, cols}));
  return reshape(std::move(y), shape);
}

Tensor weight_norm(Tensor v, Tensor gain, std::int64_t axis) {
  detail::check_floating("weight_norm", v);
  detail::check_same_dtype("weight_norm", v, gain);
  const int at = normalise_axis("weight_norm", axis, v.rank());
  if (v.rank() < 2 || !(gain.shape() == Shape{v.shape()[at]}))
    throw ShapeError(
        fmt::format("[weight_norm] got v {} and gain {} for axis {}; expected at least two axes and one "
                    "gain per index of that axis.",
                    describe(v), describe(gain), axis));
  Axes others;
  Shape shape = Shape::filled(v.rank(), 1);
  shape[at] = v.shape()[at];
  for (int i = 0; i < v.rank(); ++i)
    if (i != at) others.push_back(i);
  Tensor factor = mul(reshape(std::move(gain), shape), rsqrt(sum(square(v), others, true)));
  return mul(std::move(v), std::move(factor));
}

Tensor dropout(Tensor x, double p, Key key) {
  check_probability("dropout", x, p);
  DropoutAttrs attrs;
  attrs.key = key;
  attrs.p = p;
  attrs.period = x.numel();
  return masked(std::move(x), attrs);
}

Tensor channel_dropout(Tensor x, double p, Key key) {
  check_probability("channel_dropout", x, p);
  if (x.rank() < 2)
    throw ShapeError(
        fmt::format("[channel_dropout] got x {}; expected (N, C, ...). For single elements use dropout.", describe(x)));
  DropoutAttrs attrs;
  attrs.key = key;
  attrs.p = p;
  attrs.period = x.shape()[0] * x.shape()[1];
  attrs.inner = flat_shape(x.shape())[2];
  return masked(std::move(x), attrs);
}

}  // namespace solvent
