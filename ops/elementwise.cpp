#include "solvent/ops/elementwise.h"

#include <cmath>
#include <limits>
#include <memory>
#include <numbers>
#include <string>

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/ops/derivatives.h"
#include "solvent/ops/elementwise_kernels.h"
#include "solvent/ops/families.h"
#include "solvent/ops/rules.h"

namespace solvent {
namespace {

using detail::binary_op;
using detail::constant_op;
using detail::kZero;
using detail::unary_op;
using functor::BinaryFn;
using functor::CompareFn;
using functor::LogicalFn;
using functor::UnaryFn;

// --- checks -----------------------------------------------------------------------------------------------------------

void check_arithmetic(const char* op, const Tensor& x) {
  const DType dtype = x.dtype();
  if (is_storage_type(dtype)) [[unlikely]]
    detail::check_floating(op, x);
  if (!is_floating(dtype) && dtype != int64) [[unlikely]]
    throw DtypeError(
        fmt::format("[{}] got {}; expected float32, float64 or int64. Use cast(x, dtype).", op, describe(x)));
}

// For neg, sub and mul, which exist for bfloat16 too.
void check_number(const char* op, const Tensor& x) {
  if (!is_storage_type(x.dtype())) check_arithmetic(op, x);
}

void check_boolean(const char* op, const Tensor& x) {
  if (x.dtype() != boolean) [[unlikely]]
    throw DtypeError(
        fmt::format("[{}] got {}; expected bool. Compare it (not_equal(x, zeros_like(x))) or use cast(x, boolean).", op,
                    describe(x)));
}

Tensor apply_unary(const OpDef& op, Tensor x) {
  detail::check_floating(op.name.data(), x);
  return apply1(op, nullptr, std::move(x));
}

// Functions that exist for int64 too.
Tensor apply_unary_arithmetic(const OpDef& op, Tensor x) {
  check_arithmetic(op.name.data(), x);
  return apply1(op, nullptr, std::move(x));
}

Tensor apply_binary(const OpDef& op, Tensor a, Tensor b) {
  detail::align(op.name.data(), a, b);
  check_arithmetic(op.name.data(), a);
  return apply1(op, nullptr, std::move(a), std::move(b));
}

Tensor apply_binary_number(const OpDef& op, Tensor a, Tensor b) {
  detail::align(op.name.data(), a, b);
  check_number(op.name.data(), a);
  return apply1(op, nullptr, std::move(a), std::move(b));
}

Tensor apply_binary_floating(const OpDef& op, Tensor a, Tensor b) {
  detail::align(op.name.data(), a, b);
  detail::check_floating(op.name.data(), a);
  return apply1(op, nullptr, std::move(a), std::move(b));
}

// --- arithmetic: definitions ----------------------------------------------------------------------------------------------

constinit const OpDef kNeg =
    unary_op<[](const Rule&, const Tensor& t) { return neg(t); }>("neg", detail::unary_kernels<UnaryFn::neg>, {});

constinit const OpDef kSub =
    binary_op<[](const Rule&, const Tensor& t) { return t; }, [](const Rule&, const Tensor& t) { return neg(t); }>(
        "sub", detail::binary_kernels<BinaryFn::sub>, {});

constinit const OpDef kMul = binary_op<[](const Rule& r, const Tensor& t) { return mul(t, r.input(1)); },
                                       [](const Rule& r, const Tensor& t) { return mul(t, r.input(0)); }>(
    "mul", detail::binary_kernels<BinaryFn::mul>, {.x = Save::data, .y = Save::data});

constinit const OpDef kDiv =
    binary_op<[](const Rule& r, const Tensor& t) { return div(t, r.input(1)); },
              [](const Rule& r, const Tensor& t) { return neg(mul(t, div(r.output(), r.input(1)))); }>(
        "div", detail::binary_kernels<BinaryFn::div>, {.y = Save::data, .output = Save::data});

// Zeros of a in the exponent's derivative and 0^0 are taken out, where the textbook formulas give 0 * inf.
Tensor pow_base_factor(const Rule& r) {
  const Tensor& a = r.input(0);
  const Tensor& b = r.input(1);
  const Tensor zero = zeros({}, {a.dtype(), a.device()});
  const Tensor both_zero = logical_and(equal(a, zero), equal(b, zero));
  const Tensor base = where(both_zero, ones({}, {a.dtype(), a.device()}), a);
  return mul(b, pow(base, affine(b, 1.0, -1.0)));
}

Tensor pow_exponent_factor(const Rule& r) {
  const Tensor& a = r.input(0);
  const Tensor is_zero = equal(a, zeros({}, {a.dtype(), a.device()}));
  return mul(r.output(), log(where(is_zero, ones({}, {a.dtype(), a.device()}), a)));
}

constinit const OpDef kPow = binary_op<[](const Rule& r, const Tensor& t) { return mul(t, pow_base_factor(r)); },
                                       [](const Rule& r, const Tensor& t) { return mul(t, pow_exponent_factor(r)); }>(
    "pow", detail::binary_kernels<BinaryFn::pow>, {.x = Save::data, .y = Save::data, .output = Save::data});

Tensor pow_scalar_derivative(const Rule& r, const Tensor& t) {
  const double p = r.attrs<ParamAttrs>().params.a;
  if (p == 0.0) return {};
  return mul(t, affine(pow(r.input(0), p - 1.0), p, 0.0));
}

constinit const OpDef kPowScalar = unary_op<pow_scalar_derivative>(
    "pow_scalar", detail::Kernels(cpu::pow_scalar, SOLVENT_CUDA_KERNEL(cuda::pow_scalar)), {.x = Save::data});

// 1 where the first operand of maximum wins, 1/2 at ties, else 0: constant for differentiation.
Tensor share_of_larger(const Tensor& a, const Tensor& b) {
  const Tensor wins = cast(greater(a, b), a.dtype());
  return add(wins, affine(cast(equal(a, b), a.dtype()), 0.5, 0.0));
}

constinit const OpDef kMaximum =
    binary_op<[](const Rule& r, const Tensor& t) { return mul(t, share_of_larger(r.input(0), r.input(1))); },
              [](const Rule& r, const Tensor& t) { return mul(t, share_of_larger(r.input(1), r.input(0))); }>(
        "maximum", detail::binary_kernels<BinaryFn::maximum>, {.x = Save::data, .y = Save::data});

constinit const OpDef kMinimum =
    binary_op<[](const Rule& r, const Tensor& t) { return mul(t, share_of_larger(r.input(1), r.input(0))); },
              [](const Rule& r, const Tensor& t) { return mul(t, share_of_larger(r.input(0), r.input(1))); }>(
        "minimum", detail::binary_kernels<BinaryFn::minimum>, {.x = Save::data, .y = Save::data});

constinit const OpDef kAbs = unary_op<[](const Rule& r, const Tensor& t) { return detail::abs_grad(t, r.input(0)); }>(
    "abs", detail::unary_kernels<UnaryFn::abs>, {.x = Save::data});
constinit const OpDef kReciprocal =
    unary_op<[](const Rule& r, const Tensor& t) { return detail::reciprocal_grad(t, r.output()); }>(
        "reciprocal", detail::unary_kernels<UnaryFn::reciprocal>, {.output = Save::data});
constinit const OpDef kSquare =
    unary_op<[](const Rule& r, const Tensor& t) { return detail::square_grad(t, r.input(0)); }>(
        "square", detail::unary_kernels<UnaryFn::square>, {.x = Save::data});
constinit const OpDef kSqrt = unary_op<[](const Rule& r, const Tensor& t) { return detail::sqrt_grad(t, r.output()); }>(
    "sqrt", detail::unary_kernels<UnaryFn::sqrt>, {.output = Save::data});
constinit const OpDef kRsqrt =
    unary_op<[](const Rule& r, const Tensor& t) { return detail::rsqrt_grad(t, r.output()); }>(
        "rsqrt", detail::unary_kernels<UnaryFn::rsqrt>, {.output = Save::data});

struct ClipAttrs : ParamAttrs {
  SlopeAtBounds slope;

  ClipAttrs(double low, double high, SlopeAtBounds s) : ParamAttrs(low, high), slope(s) {}
  [[nodiscard]] std::unique_ptr<Attrs> clone() const override { return std::make_unique<ClipAttrs>(*this); }
};

// The next number of x's type towards `target`: (low, high) is the same set of numbers as a closed interval.
double neighbour(double bound, double target, DType dtype) {
  if (!std::isfinite(bound)) return bound;
  if (dtype == float64) return std::nextafter(bound, target);
  return static_cast<double>(std::nextafter(static_cast<float>(bound), static_cast<float>(target)));
}

Tensor clip_derivative(const Rule& r, const Tensor& t) {
  const auto& attrs = r.attrs<ClipAttrs>();
  const Tensor& x = r.input(0);
  const double low = attrs.params.a;
  const double high = attrs.params.b;
  if (attrs.slope == SlopeAtBounds::one) return detail::clip_grad(t, x, low, high);
  const double infinity = std::numeric_limits<double>::infinity();
  const double inside_low = neighbour(low, infinity, x.dtype());
  const double inside_high = neighbour(high, -infinity, x.dtype());
  if (attrs.slope == SlopeAtBounds::zero) return detail::clip_grad(t, x, inside_low, inside_high);
  const Tensor half = affine(t, 0.5, 0.0);
  return add(detail::clip_grad(half, x, low, high), detail::clip_grad(half, x, inside_low, inside_high));
}

constinit const OpDef kClip =
    unary_op<clip_derivative>("clip", detail::unary_kernels<UnaryFn::clip>, {.x = Save::data});

// -(a - fmod(a, b)) / b, an integer: constant for differentiation.
Tensor minus_quotient(const Rule& r) { return round(div(sub(r.output(), r.input(0)), r.input(1))); }

constinit const OpDef kFmod = binary_op<[](const Rule&, const Tensor& t) { return t; },
                                        [](const Rule& r, const Tensor& t) { return mul(t, minus_quotient(r)); }>(
    "fmod", detail::Kernels(cpu::fmod, SOLVENT_CUDA_KERNEL(cuda::fmod)),
    {.x = Save::data, .y = Save::data, .output = Save::data});

constinit const OpDef kSign = constant_op("sign", detail::unary_kernels<UnaryFn::sign>);
constinit const OpDef kFloor = constant_op("floor", detail::unary_kernels<UnaryFn::floor>);
constinit const OpDef kCeil = constant_op("ceil", detail::unary_kernels<UnaryFn::ceil>);
constinit const OpDef kRound = constant_op("round", detail::unary_kernels<UnaryFn::round>);
constinit const OpDef kTrunc = constant_op("trunc", detail::unary_kernels<UnaryFn::trunc>);

// --- exponentials: definitions -------------------------------------------------------------------------------------------

constinit const OpDef kExp = unary_op<[](const Rule& r, const Tensor& t) { return mul(t, r.output()); }>(
    "exp", detail::unary_kernels<UnaryFn::exp>, {.output = Save::data});
constinit const OpDef kExpm1 =
    unary_op<[](const Rule& r, const Tensor& t) { return detail::expm1_grad(t, r.output()); }>(
        "expm1", detail::unary_kernels<UnaryFn::expm1>, {.output = Save::data});
constinit const OpDef kLog = unary_op<[](const Rule& r, const Tensor& t) { return div(t, r.input(0)); }>(
    "log", detail::unary_kernels<UnaryFn::log>, {.x = Save::data});
constinit const OpDef kLog1p =
    unary_op<[](const Rule& r, const Tensor& t) { return detail::log1p_grad(t, r.input(0)); }>(
        "log1p", detail::unary_kernels<UnaryFn::log1p>, {.x = Save::data});
constinit const OpDef kSin = unary_op<[](const Rule& r, const Tensor& t) { return detail::sin_grad(t, r.input(0)); }>(
    "sin", detail::unary_kernels<UnaryFn::sin>, {.x = Save::data});
constinit const OpDef kCos = unary_op<[](const Rule& r, const Tensor& t) { return detail::cos_grad(t, r.input(0)); }>(
    "cos", detail::unary_kernels<UnaryFn::cos>, {.x = Save::data});
constinit const OpDef kErf = unary_op<[](const Rule& r, const Tensor& t) { return detail::erf_grad(t, r.input(0)); }>(
    "erf", detail::unary_kernels<UnaryFn::erf>, {.x = Save::data});

// --- derivatives: definitions ---------------------------------------------------------------------------------------------
// First formula: linear in g, the operation itself. Second: t * d(output)/d(s), the factor at the primal's rank first.

constinit const OpDef kAbsGrad =
    binary_op<[](const Rule& r, const Tensor& t) { return detail::abs_grad(t, r.input(1)); }, kZero>(
        "abs_grad", detail::binary_kernels<BinaryFn::abs_grad>, {.y = Save::data});
constinit const OpDef kSquareGrad =
    binary_op<[](const Rule& r, const Tensor& t) { return detail::square_grad(t, r.input(1)); },
              [](const Rule& r, const Tensor& t) { return detail::square_grad(t, r.input(0)); }>(
        "square_grad", detail::binary_kernels<BinaryFn::square_grad>, {.x = Save::data, .y = Save::data});
constinit const OpDef kReciprocalGrad =
    binary_op<[](const Rule& r, const Tensor& t) { return detail::reciprocal_grad(t, r.input(1)); },
              [](const Rule& r, const Tensor& t) { return mul(t, affine(mul(r.input(0), r.input(1)), -2.0, 0.0)); }>(
        "reciprocal_grad", detail::binary_kernels<BinaryFn::reciprocal_grad>, {.x = Save::data, .y = Save::data});
constinit const OpDef kSqrtGrad =
    binary_op<[](const Rule& r, const Tensor& t) { return detail::sqrt_grad(t, r.input(1)); },
              [](const Rule& r, const Tensor& t) { return neg(mul(t, div(r.output(), r.input(1)))); }>(
        "sqrt_grad", detail::binary_kernels<BinaryFn::sqrt_grad>, {.y = Save::data, .output = Save::data});
constinit const OpDef kRsqrtGrad =
    binary_op<[](const Rule& r, const Tensor& t) { return detail::rsqrt_grad(t, r.input(1)); },
              [](const Rule& r, const Tensor& t) {
                return mul(t, affine(mul(r.input(0), square(r.input(1))), -1.5, 0.0));
              }>("rsqrt_grad", detail::binary_kernels<BinaryFn::rsqrt_grad>, {.x = Save::data, .y = Save::data});
constinit const OpDef kExpm1Grad =
    binary_op<[](const Rule& r, const Tensor& t) { return detail::expm1_grad(t, r.input(1)); },
              [](const Rule& r, const Tensor& t) { return mul(t, r.input(0)); }>(
        "expm1_grad", detail::binary_kernels<BinaryFn::expm1_grad>, {.x = Save::data, .y = Save::data});
constinit const OpDef kLog1pGrad =
    binary_op<[](const Rule& r, const Tensor& t) { return detail::log1p_grad(t, r.input(1)); },
              [](const Rule& r, const Tensor& t) { return neg(mul(t, detail::log1p_grad(r.output(), r.input(1)))); }>(
        "log1p_grad", detail::binary_kernels<BinaryFn::log1p_grad>, {.y = Save::data, .output = Save::data});
constinit const OpDef kSinGrad =
    binary_op<[](const Rule& r, const Tensor& t) { return detail::sin_grad(t, r.input(1)); },
              [](const Rule& r, const Tensor& t) { return mul(t, detail::cos_grad(r.input(0), r.input(1))); }>(
        "sin_grad", detail::binary_kernels<BinaryFn::sin_grad>, {.x = Save::data, .y = Save::data});
constinit const OpDef kCosGrad =
    binary_op<[](const Rule& r, const Tensor& t) { return detail::cos_grad(t, r.input(1)); },
              [](const Rule& r, const Tensor& t) { return neg(mul(t, detail::sin_grad(r.input(0), r.input(1)))); }>(
        "cos_grad", detail::binary_kernels<BinaryFn::cos_grad>, {.x = Save::data, .y = Save::data});
constinit const OpDef kErfGrad =
    binary_op<[](const Rule& r, const Tensor& t) { return detail::erf_grad(t, r.input(1)); },
              [](const Rule& r, const Tensor& t) { return mul(t, affine(mul(r.output(), r.input(1)), -2.0, 0.0)); }>(
        "erf_grad", detail::binary_kernels<BinaryFn::erf_grad>, {.y = Save::data, .output = Save::data});
constinit const OpDef kClipGrad =
    binary_op<[](const Rule& r, const Tensor& t) {
      const functor::Params& bounds = r.attrs<ParamAttrs>().params;
      return detail::clip_grad(t, r.input(1), bounds.a, bounds.b);
    },
              kZero>("clip_grad", detail::binary_kernels<BinaryFn::clip_grad>, {.y = Save::data});

// --- comparison and selection: definitions ----------------------------------------------------------------------------------

constinit const OpDef kEqual = constant_op("equal", detail::compare_kernels<CompareFn::equal>);
constinit const OpDef kNotEqual = constant_op("not_equal", detail::compare_kernels<CompareFn::not_equal>);
constinit const OpDef kLess = constant_op("less", detail::compare_kernels<CompareFn::less>);
constinit const OpDef kLessEqual = constant_op("less_equal", detail::compare_kernels<CompareFn::less_equal>);
constinit const OpDef kGreater = constant_op("greater", detail::compare_kernels<CompareFn::greater>);
constinit const OpDef kGreaterEqual = constant_op("greater_equal", detail::compare_kernels<CompareFn::greater_equal>);
constinit const OpDef kLogicalAnd = constant_op("logical_and", detail::logical_kernels<LogicalFn::logical_and>);
constinit const OpDef kLogicalOr = constant_op("logical_or", detail::logical_kernels<LogicalFn::logical_or>);
constinit const OpDef kLogicalXor = constant_op("logical_xor", detail::logical_kernels<LogicalFn::logical_xor>);
constinit const OpDef kLogicalNot =
    constant_op("logical_not", detail::Kernels(cpu::logical_not, SOLVENT_CUDA_KERNEL(cuda::logical_not)));
constinit const OpDef kIsFinite = constant_op("isfinite", detail::predicate_kernels<functor::PredicateFn::is_finite>);
constinit const OpDef kIsNan = constant_op("isnan", detail::predicate_kernels<functor::PredicateFn::is_nan>);
constinit const OpDef kIsInf = constant_op("isinf", detail::predicate_kernels<functor::PredicateFn::is_inf>);

Tensor zero_like_scalar(const Tensor& t) { return zeros({}, {t.dtype(), t.device()}); }

TensorVec where_jvp(const Rule& r, std::span<const Tensor> t) {
  if (!t[1].defined() && !t[2].defined()) return Tensor();
  if (!t[2].defined()) return where(r.input(0), t[1], zero_like_scalar(t[1]));
  if (!t[1].defined()) return where(r.input(0), zero_like_scalar(t[2]), t[2]);
  return where(r.input(0), t[1], t[2]);
}

// A selection, not a product with the mask: a cotangent of inf or NaN must not reach the branch that was not taken.
TensorVec where_vjp(const Rule& r, std::span<const Tensor> g) {
  TensorVec out(3);
  if (!g[0].defined()) return out;
  const Tensor zero = zero_like_scalar(g[0]);
  if (r.needs(1)) out[1] = where(r.input(0), g[0], zero);
  if (r.needs(2)) out[2] = where(r.input(0), zero, g[0]);
  return out;
}

constinit const OpDef kWhere = {.name = "where",
                                .cpu = cpu::where,
                                .cuda = SOLVENT_CUDA_KERNEL(cuda::where),
                                .jvp = where_jvp,
                                .vjp = where_vjp,
                                .inputs = {Save::data, Save::none, Save::none},
                                .num_saves = 3};

TensorVec cast_jvp(const Rule& r, std::span<const Tensor> t) {
  return t[0].defined() ? cast(t[0], r.attrs<CastAttrs>().dtype) : Tensor();
}
TensorVec cast_vjp(const Rule& r, std::span<const Tensor> g) {
  return g[0].defined() ? cast(g[0], r.input_dtype(0)) : Tensor();
}

constinit const OpDef kCast = {.name = "cast",
                               .cpu = cpu::cast,
                               .cuda = SOLVENT_CUDA_KERNEL(cuda::cast),
                               .jvp = cast_jvp,
                               .vjp = cast_vjp,
                               .inputs = {Save::shape},
                               .num_saves = 1};
constinit const OpDef kCastConstant = constant_op("cast_constant", {cpu::cast, SOLVENT_CUDA_KERNEL(cuda::cast)});

constinit const OpDef* const kOps[] = {
    &kNeg,        &kSub,       &kMul,        &kDiv,       &kPow,       &kPowScalar,  &kMaximum,
    &kMinimum,    &kAbs,       &kReciprocal, &kSquare,    &kSqrt,      &kRsqrt,      &kClip,
    &kSign,       &kFloor,     &kCeil,       &kRound,     &kExp,       &kExpm1,      &kLog,
    &kLog1p,      &kSin,       &kCos,        &kErf,       &kAbsGrad,   &kSquareGrad, &kReciprocalGrad,
    &kSqrtGrad,   &kRsqrtGrad, &kExpm1Grad,  &kLog1pGrad, &kSinGrad,   &kCosGrad,    &kErfGrad,
    &kClipGrad,   &kEqual,     &kNotEqual,   &kLess,      &kLessEqual, &kGreater,    &kGreaterEqual,
    &kLogicalAnd, &kLogicalOr, &kLogicalNot, &kIsFinite,  &kWhere,     &kCast,       &kCastConstant,
    &kFmod,       &kTrunc,     &kLogicalXor, &kIsNan,     &kIsInf};

}  // namespace

namespace detail {
OpList elementwise_ops() { return kOps; }

Tensor abs_grad(Tensor g, Tensor x) { return apply_binary_floating(kAbsGrad, std::move(g), std::move(x)); }
Tensor square_grad(Tensor g, Tensor x) { return apply_binary_floating(kSquareGrad, std::move(g), std::move(x)); }
Tensor reciprocal_grad(Tensor g, Tensor y) {
  return apply_binary_floating(kReciprocalGrad, std::move(g), std::move(y));
}
Tensor sqrt_grad(Tensor g, Tensor y) { return apply_binary_floating(kSqrtGrad, std::move(g), std::move(y)); }
Tensor rsqrt_grad(Tensor g, Tensor y) { return apply_binary_floating(kRsqrtGrad, std::move(g), std::move(y)); }
Tensor expm1_grad(Tensor g, Tensor y) { return apply_binary_floating(kExpm1Grad, std::move(g), std::move(y)); }
Tensor log1p_grad(Tensor g, Tensor x) { return apply_binary_floating(kLog1pGrad, std::move(g), std::move(x)); }
Tensor sin_grad(Tensor g, Tensor x) { return apply_binary_floating(kSinGrad, std::move(g), std::move(x)); }
Tensor cos_grad(Tensor g, Tensor x) { return apply_binary_floating(kCosGrad, std::move(g), std::move(x)); }
Tensor erf_grad(Tensor g, Tensor x) { return apply_binary_floating(kErfGrad, std::move(g), std::move(x)); }
Tensor clip_grad(Tensor g, Tensor x, double low, double high) {
  align("clip_grad", g, x);
  check_floating("clip_grad", g);
  const ParamAttrs attrs(low, high);
  return apply1(kClipGrad, &attrs, std::move(g), std::move(x));
}
}  // namespace detail

// --- arithmetic -----------------------------------------------------------------------------------------------------------

Tensor sub(Tensor a, Tensor b) { return apply_binary_number(kSub, std::move(a), std::move(b)); }
Tensor mul(Tensor a, Tensor b) { return apply_binary_number(kMul, std::move(a), std::move(b)); }
Tensor div(Tensor a, Tensor b) { return apply_binary_floating(kDiv, std::move(a), std::move(b)); }
Tensor pow(Tensor a, Tensor b) { return apply_binary_floating(kPow, std::move(a), std::move(b)); }
Tensor minimum(Tensor a, Tensor b) { return apply_binary(kMinimum, std::move(a), std::move(b)); }
Tensor maximum(Tensor a, Tensor b) { return apply_binary(kMaximum, std::move(a), std::move(b)); }

Tensor pow(Tensor x, double p) {
  detail::check_floating("pow", x);
  if (p == 1.0) return x;
  if (p == 2.0) return square(std::move(x));
  const ParamAttrs attrs(p);
  return apply1(kPowScalar, &attrs, std::move(x));
}

Tensor neg(Tensor x) {
  check_number("neg", x);
  return apply1(kNeg, nullptr, std::move(x));
}
Tensor abs(Tensor x) { return apply_unary_arithmetic(kAbs, std::move(x)); }
Tensor sign(Tensor x) { return apply_unary_arithmetic(kSign, std::move(x)); }
Tensor square(Tensor x) { return apply_unary_arithmetic(kSquare, std::move(x)); }
Tensor reciprocal(Tensor x) { return apply_unary(kReciprocal, std::move(x)); }
Tensor sqrt(Tensor x) { return apply_unary(kSqrt, std::move(x)); }
Tensor rsqrt(Tensor x) { return apply_unary(kRsqrt, std::move(x)); }
Tensor floor(Tensor x) { return apply_unary(kFloor, std::move(x)); }
Tensor ceil(Tensor x) { return apply_unary(kCeil, std::move(x)); }
Tensor round(Tensor x) { return apply_unary(kRound, std::move(x)); }
Tensor trunc(Tensor x) { return apply_unary(kTrunc, std::move(x)); }
Tensor fmod(Tensor a, Tensor b) { return apply_binary_floating(kFmod, std::move(a), std::move(b)); }

Tensor remainder(Tensor a, Tensor b) {
  const Tensor r = fmod(std::move(a), b);
  const Tensor zero = zeros({}, {r.dtype(), r.device()});
  const Tensor other_sign = logical_and(not_equal(r, zero), logical_xor(less(r, zero), less(b, zero)));
  return where(other_sign, add(r, b), r);
}

Tensor clip(Tensor x, double low, double high, SlopeAtBounds slope) {
  check_arithmetic("clip", x);
  if (!(low <= high))
    throw ValueError(fmt::format("[clip] got bounds {} and {}; expected low <= high, neither of them NaN.", low, high));
  if (x.dtype() == int64 &&
      ((std::isfinite(low) && low != std::trunc(low)) || (std::isfinite(high) && high != std::trunc(high))))
    throw DtypeError(fmt::format("[clip] got bounds {} and {} for {}; expected integers. Use cast(x, float64).", low,
                                 high, describe(x)));
  const ClipAttrs attrs(low, high, slope);
  return apply1(kClip, &attrs, std::move(x));
}

// --- exponentials ---------------------------------------------------------------------------------------------------------

Tensor exp(Tensor x) { return apply_unary(kExp, std::move(x)); }
Tensor expm1(Tensor x) { return apply_unary(kExpm1, std::move(x)); }
Tensor log(Tensor x) { return apply_unary(kLog, std::move(x)); }
Tensor log1p(Tensor x) { return apply_unary(kLog1p, std::move(x)); }
Tensor sin(Tensor x) { return apply_unary(kSin, std::move(x)); }
Tensor cos(Tensor x) { return apply_unary(kCos, std::move(x)); }
Tensor erf(Tensor x) { return apply_unary(kErf, std::move(x)); }

Tensor exp2(Tensor x) {
  detail::check_floating("exp2", x);
  const Tensor two = full({}, 2.0, {x.dtype(), x.device()});
  return pow(two, std::move(x));
}

Tensor log2(Tensor x) {
  detail::check_floating("log2", x);
  return affine(log(std::move(x)), std::numbers::log2e, 0.0);
}

Tensor log10(Tensor x) {
  detail::check_floating("log10", x);
  return affine(log(std::move(x)), std::numbers::log10e, 0.0);
}

Tensor logit(Tensor x) {
  detail::check_floating("logit", x);
  return sub(log(x), log1p(neg(x)));
}

Tensor tan(Tensor x) {
  detail::check_floating("tan", x);
  return div(sin(x), cos(x));
}

// From expm1, which keeps the digits of small arguments.
Tensor sinh(Tensor x) {
  detail::check_floating("sinh", x);
  return affine(sub(expm1(x), expm1(neg(x))), 0.5, 0.0);
}

Tensor cosh(Tensor x) {
  detail::check_floating("cosh", x);
  return affine(add(exp(x), exp(neg(x))), 0.5, 0.0);
}

// --- comparison and selection -----------------------------------------------------------------------------------------------

namespace {

Tensor apply_compare(const OpDef& op, Tensor a, Tensor b) {
  detail::align(op.name.data(), a, b);
  return apply1(op, nullptr, std::move(a), std::move(b));
}

Tensor apply_logical(const OpDef& op, Tensor a, Tensor b) {
  check_boolean(op.name.data(), a);
  check_boolean(op.name.data(), b);
  detail::align(op.name.data(), a, b);
  return apply1(op, nullptr, std::move(a), std::move(b));
}

}  // namespace

Tensor equal(Tensor a, Tensor b) { return apply_compare(kEqual, std::move(a), std::move(b)); }
Tensor not_equal(Tensor a, Tensor b) { return apply_compare(kNotEqual, std::move(a), std::move(b)); }
Tensor less(Tensor a, Tensor b) { return apply_compare(kLess, std::move(a), std::move(b)); }
Tensor less_equal(Tensor a, Tensor b) { return apply_compare(kLessEqual, std::move(a), std::move(b)); }
Tensor greater(Tensor a, Tensor b) { return apply_compare(kGreater, std::move(a), std::move(b)); }
Tensor greater_equal(Tensor a, Tensor b) { return apply_compare(kGreaterEqual, std::move(a), std::move(b)); }
Tensor logical_and(Tensor a, Tensor b) { return apply_logical(kLogicalAnd, std::move(a), std::move(b)); }
Tensor logical_or(Tensor a, Tensor b) { return apply_logical(kLogicalOr, std::move(a), std::move(b)); }
Tensor logical_xor(Tensor a, Tensor b) { return apply_logical(kLogicalXor, std::move(a), std::move(b)); }

Tensor logical_not(Tensor x) {
  check_boolean("logical_not", x);
  return apply1(kLogicalNot, nullptr, std::move(x));
}

Tensor isfinite(Tensor x) { return apply_unary(kIsFinite, std::move(x)); }
Tensor isnan(Tensor x) { return apply_unary(kIsNan, std::move(x)); }
Tensor isinf(Tensor x) { return apply_unary(kIsInf, std::move(x)); }

Tensor where(Tensor condition, Tensor a, Tensor b) {
  check_boolean("where", condition);
  detail::align("where", a, b);
  if (!(condition.shape() == a.shape())) {
    const Shape shape = broadcast_shapes("where", condition.shape(), a.shape());
    condition = broadcast_to(std::move(condition), shape);
    a = broadcast_to(std::move(a), shape);
    b = broadcast_to(std::move(b), shape);
  }
  return apply1(kWhere, nullptr, std::move(condition), std::move(a), std::move(b));
}

Tensor cast(Tensor x, DType dtype) {
  if (x.dtype() == dtype) return x;
  const CastAttrs attrs(dtype);
  const OpDef& op = is_floating(x.dtype()) && is_floating(dtype) ? kCast : kCastConstant;
  return apply1(op, &attrs, std::move(x));
}

}  // namespace solvent
