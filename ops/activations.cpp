// Activations: functions of one argument whose derivative is one fused operation.

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/ops/derivatives.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/elementwise_kernels.h"
#include "solvent/ops/families.h"
#include "solvent/ops/rules.h"
#include "solvent/ops/shape_ops.h"

namespace solvent {
namespace {

using detail::binary_op;
using detail::kZero;
using detail::unary_op;
using functor::BinaryFn;
using functor::UnaryFn;

double param(const Rule& r) { return r.attrs<ParamAttrs>().params.a; }

// s = sigmoid(x) -> s (1 - s)
Tensor logistic_slope(const Tensor& s) { return mul(s, affine(s, -1.0, 1.0)); }

// --- second derivatives, times g, at the primal's rank ------------------------------------------------------------------------

// d/dx sigmoid'(x) g with s = sigmoid(x)
Tensor softplus_second(const Rule& r) { return detail::sigmoid_grad(r.input(0), sigmoid(r.input(1))); }

// silu'' = s (1 - s) (2 + x (1 - 2 s))
Tensor silu_second(const Rule& r) {
  const Tensor& x = r.input(1);
  const Tensor s = sigmoid(x);
  const Tensor bend = affine(mul(x, affine(s, -2.0, 1.0)), 1.0, 2.0);
  return mul(r.input(0), detail::sigmoid_grad(bend, s));
}

// gelu'' = phi(x) (2 - x^2) with phi the normal density
Tensor gelu_second(const Rule& r) {
  const Tensor square_x = square(r.input(1));
  const Tensor density = affine(exp(affine(square_x, -0.5, 0.0)), functor::kOneOverSqrtTwoPi, 0.0);
  return mul(mul(r.input(0), density), affine(square_x, -1.0, 2.0));
}

// f = x s(u), u = c (x + a x^3), c = 2 sqrt(2/pi): f'' = s'(u) (2 u' + x u'') + x s''(u) u'^2, s'' = s' (1 - 2 s)
Tensor gelu_tanh_second(const Rule& r) {
  constexpr double c = 2.0 * functor::kSqrtTwoOverPi;
  constexpr double a = functor::kGeluCubic;
  const Tensor& x = r.input(1);
  const Tensor xx = square(x);
  const Tensor s = sigmoid(mul(x, affine(xx, c * a, c)));
  const Tensor du = affine(xx, 3.0 * c * a, c);
  const Tensor slope = logistic_slope(s);
  const Tensor linear = add(affine(du, 2.0, 0.0), affine(xx, 6.0 * c * a, 0.0));  // 2 u' + x u''
  const Tensor curved = mul(mul(x, affine(s, -2.0, 1.0)), square(du));            // x (1 - 2 s) u'^2
  return mul(r.input(0), mul(slope, add(linear, curved)));
}

// elu'' = alpha e^x left of 0, where elu' = alpha e^x itself; the exponential may not overflow on the other side.
Tensor elu_second(const Rule& r) {
  const Tensor& x = r.input(1);
  const Tensor zero = zeros({}, {x.dtype(), x.device()});
  const Tensor curve = affine(exp(minimum(x, zero)), param(r), 0.0);
  return mul(r.input(0), where(greater(x, zero), zero, curve));
}

// --- definitions --------------------------------------------------------------------------------------------------------------

constinit const OpDef kTanh = unary_op<[](const Rule& r, const Tensor& t) { return detail::tanh_grad(t, r.output()); }>(
    "tanh", detail::unary_kernels<UnaryFn::tanh>, {.output = Save::data});
constinit const OpDef kTanhGrad =
    binary_op<[](const Rule& r, const Tensor& t) { return detail::tanh_grad(t, r.input(1)); },
              [](const Rule& r, const Tensor& t) { return mul(t, affine(mul(r.input(0), r.input(1)), -2.0, 0.0)); }>(
        "tanh_grad", detail::binary_kernels<BinaryFn::tanh_grad>, {.x = Save::data, .y = Save::data});

constinit const OpDef kSigmoid =
    unary_op<[](const Rule& r, const Tensor& t) { return detail::sigmoid_grad(t, r.output()); }>(
        "sigmoid", detail::unary_kernels<UnaryFn::sigmoid>, {.output = Save::data});
constinit const OpDef kSigmoidGrad =
    binary_op<[](const Rule& r, const Tensor& t) { return detail::sigmoid_grad(t, r.input(1)); },
              [](const Rule& r, const Tensor& t) { return mul(t, mul(r.input(0), affine(r.input(1), -2.0, 1.0))); }>(
        "sigmoid_grad", detail::binary_kernels<BinaryFn::sigmoid_grad>, {.x = Save::data, .y = Save::data});

// d log sigmoid(x) = sigmoid(-x)
constinit const OpDef kLogSigmoid =
    unary_op<[](const Rule& r, const Tensor& t) { return detail::softplus_grad(t, neg(r.input(0))); }>(
        "log_sigmoid", detail::unary_kernels<UnaryFn::log_sigmoid>, {.x = Save::data});

constinit const OpDef kSoftplus =
    unary_op<[](const Rule& r, const Tensor& t) { return detail::softplus_grad(t, r.input(0)); }>(
        "softplus", detail::unary_kernels<UnaryFn::softplus>, {.x = Save::data});
constinit const OpDef kSoftplusGrad =
    binary_op<[](const Rule& r, const Tensor& t) { return detail::softplus_grad(t, r.input(1)); },
              [](const Rule& r, const Tensor& t) { return mul(t, softplus_second(r)); }>(
        "softplus_grad", detail::binary_kernels<BinaryFn::softplus_grad>, {.x = Save::data, .y = Save::data});

// From the output: relu(x) > 0 exactly where x > 0, and the output is kept by whatever uses it anyway.
constinit const OpDef kRelu = unary_op<[](const Rule& r, const Tensor& t) { return detail::relu_grad(t, r.output()); }>(
    "relu", detail::unary_kernels<UnaryFn::relu>, {.output = Save::data});
constinit const OpDef kReluGrad =
    binary_op<[](const Rule& r, const Tensor& t) { return detail::relu_grad(t, r.input(1)); }, kZero>(
        "relu_grad", detail::binary_kernels<BinaryFn::relu_grad>, {.y = Save::data});

constinit const OpDef kLeakyRelu =
    unary_op<[](const Rule& r, const Tensor& t) { return detail::leaky_relu_grad(t, r.input(0), param(r)); }>(
        "leaky_relu", detail::unary_kernels<UnaryFn::leaky_relu>, {.x = Save::data});
constinit const OpDef kLeakyReluGrad =
    binary_op<[](const Rule& r, const Tensor& t) { return detail::leaky_relu_grad(t, r.input(1), param(r)); }, kZero>(
        "leaky_relu_grad", detail::binary_kernels<BinaryFn::leaky_relu_grad>, {.y = Save::data});

constinit const OpDef kElu =
    unary_op<[](const Rule& r, const Tensor& t) { return detail::elu_grad(t, r.input(0), param(r)); }>(
        "elu", detail::unary_kernels<UnaryFn::elu>, {.x = Save::data});
constinit const OpDef kEluGrad =
    binary_op<[](const Rule& r, const Tensor& t) { return detail::elu_grad(t, r.input(1), param(r)); },
              [](const Rule& r, const Tensor& t) { return mul(t, elu_second(r)); }>(
        "elu_grad", detail::binary_kernels<BinaryFn::elu_grad>, {.x = Save::data, .y = Save::data});

constinit const OpDef kSilu = unary_op<[](const Rule& r, const Tensor& t) { return detail::silu_grad(t, r.input(0)); }>(
    "silu", detail::unary_kernels<UnaryFn::silu>, {.x = Save::data});
constinit const OpDef kSiluGrad =
    binary_op<[](const Rule& r, const Tensor& t) { return detail::silu_grad(t, r.input(1)); },
              [](const Rule& r, const Tensor& t) { return mul(t, silu_second(r)); }>(
        "silu_grad", detail::binary_kernels<BinaryFn::silu_grad>, {.x = Save::data, .y = Save::data});

constinit const OpDef kGelu = unary_op<[](const Rule& r, const Tensor& t) { return detail::gelu_grad(t, r.input(0)); }>(
    "gelu", detail::unary_kernels<UnaryFn::gelu>, {.x = Save::data});
constinit const OpDef kGeluGrad =
    binary_op<[](const Rule& r, const Tensor& t) { return detail::gelu_grad(t, r.input(1)); },
              [](const Rule& r, const Tensor& t) { return mul(t, gelu_second(r)); }>(
        "gelu_grad", detail::binary_kernels<BinaryFn::gelu_grad>, {.x = Save::data, .y = Save::data});

constinit const OpDef kGeluTanh =
    unary_op<[](const Rule& r, const Tensor& t) { return detail::gelu_tanh_grad(t, r.input(0)); }>(
        "gelu_tanh", detail::unary_kernels<UnaryFn::gelu_tanh>, {.x = Save::data});
constinit const OpDef kGeluTanhGrad =
    binary_op<[](const Rule& r, const Tensor& t) { return detail::gelu_tanh_grad(t, r.input(1)); },
              [](const Rule& r, const Tensor& t) { return mul(t, gelu_tanh_second(r)); }>(
        "gelu_tanh_grad", detail::binary_kernels<BinaryFn::gelu_tanh_grad>, {.x = Save::data, .y = Save::data});

constinit const OpDef* const kOps[] = {&kTanh,          &kTanhGrad,     &kSigmoid,  &kSigmoidGrad, &kLogSigmoid,
                                       &kSoftplus,      &kSoftplusGrad, &kRelu,     &kReluGrad,    &kLeakyRelu,
                                       &kLeakyReluGrad, &kElu,          &kEluGrad,  &kSilu,        &kSiluGrad,
                                       &kGelu,          &kGeluGrad,     &kGeluTanh, &kGeluTanhGrad};

Tensor activate(const OpDef& op, Tensor x) {
  detail::check_floating(op.name.data(), x);
  return apply1(op, nullptr, std::move(x));
}

Tensor activate(const OpDef& op, Tensor x, double parameter) {
  detail::check_floating(op.name.data(), x);
  const ParamAttrs attrs(parameter);
  return apply1(op, &attrs, std::move(x));
}

Tensor slope_of(const OpDef& op, Tensor g, Tensor s) {
  detail::align(op.name.data(), g, s);
  detail::check_floating(op.name.data(), g);
  return apply1(op, nullptr, std::move(g), std::move(s));
}

Tensor slope_of(const OpDef& op, Tensor g, Tensor s, double parameter) {
  detail::align(op.name.data(), g, s);
  detail::check_floating(op.name.data(), g);
  const ParamAttrs attrs(parameter);
  return apply1(op, &attrs, std::move(g), std::move(s));
}

}  // namespace

namespace detail {
OpList activation_ops() { return kOps; }

Tensor tanh_grad(Tensor g, Tensor y) { return slope_of(kTanhGrad, std::move(g), std::move(y)); }
Tensor sigmoid_grad(Tensor g, Tensor y) { return slope_of(kSigmoidGrad, std::move(g), std::move(y)); }
Tensor softplus_grad(Tensor g, Tensor x) { return slope_of(kSoftplusGrad, std::move(g), std::move(x)); }
Tensor relu_grad(Tensor g, Tensor y) { return slope_of(kReluGrad, std::move(g), std::move(y)); }
Tensor leaky_relu_grad(Tensor g, Tensor x, double slope) {
  return slope_of(kLeakyReluGrad, std::move(g), std::move(x), slope);
}
Tensor elu_grad(Tensor g, Tensor x, double alpha) { return slope_of(kEluGrad, std::move(g), std::move(x), alpha); }
Tensor silu_grad(Tensor g, Tensor x) { return slope_of(kSiluGrad, std::move(g), std::move(x)); }
Tensor gelu_grad(Tensor g, Tensor x) { return slope_of(kGeluGrad, std::move(g), std::move(x)); }
Tensor gelu_tanh_grad(Tensor g, Tensor x) { return slope_of(kGeluTanhGrad, std::move(g), std::move(x)); }
}  // namespace detail

Tensor tanh(Tensor x) { return activate(kTanh, std::move(x)); }
Tensor sigmoid(Tensor x) { return activate(kSigmoid, std::move(x)); }
Tensor log_sigmoid(Tensor x) { return activate(kLogSigmoid, std::move(x)); }
Tensor softplus(Tensor x) { return activate(kSoftplus, std::move(x)); }
Tensor relu(Tensor x) { return activate(kRelu, std::move(x)); }
Tensor leaky_relu(Tensor x, double slope) { return activate(kLeakyRelu, std::move(x), slope); }
Tensor elu(Tensor x, double alpha) { return activate(kElu, std::move(x), alpha); }
Tensor silu(Tensor x) { return activate(kSilu, std::move(x)); }
Tensor gelu(Tensor x) { return activate(kGelu, std::move(x)); }
Tensor gelu_tanh(Tensor x) { return activate(kGeluTanh, std::move(x)); }

Tensor concat_elu(Tensor x, std::int64_t axis) {
  detail::check_floating("concat_elu", x);
  const int at = normalise_axis("concat_elu", axis, x.rank());
  Tensor both = neg(x);
  return elu(concat({std::move(x), std::move(both)}, at));
}

Tensor glu(Tensor x, std::int64_t axis) {
  detail::check_floating("glu", x);
  const int at = normalise_axis("glu", axis, x.rank());
  const std::int64_t size = x.shape()[at];
  if (size % 2 != 0)
    throw ShapeError(
        fmt::format("[glu] got shape {} with an odd extent of axis {}; expected an even one: the first half is "
                    "multiplied by the sigmoid of the second.",
                    to_string(x.shape()), axis));
  const Tensors halves = split(std::move(x), {size / 2, size / 2}, at);
  return mul(halves[0], sigmoid(halves[1]));
}

}  // namespace solvent
