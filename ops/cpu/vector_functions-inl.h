// Vector twins of ops/functors.h, one line per function, and the loads and stores of ragged ends. Included once per
// Highway target (no #pragma once). Adding an elementwise function: an enumerator and a line in ops/functors.h, a line here.

#if defined(SOLVENT_OPS_CPU_VECTOR_FUNCTIONS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SOLVENT_OPS_CPU_VECTOR_FUNCTIONS_INL_H_
#undef SOLVENT_OPS_CPU_VECTOR_FUNCTIONS_INL_H_
#else
#define SOLVENT_OPS_CPU_VECTOR_FUNCTIONS_INL_H_
#endif

#include "hwy/highway.h"
#include "solvent/ops/cpu/vector_math-inl.h"
#include "solvent/ops/functors.h"

HWY_BEFORE_NAMESPACE();
namespace solvent::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using functor::BinaryFn;
using functor::CompareFn;
using functor::PredicateFn;
using functor::UnaryFn;

// --- ragged ends ----------------------------------------------------------------------------------------------------------

/// Whether masked loads and stores are single instructions that do not touch memory outside the mask.
#if (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2) || HWY_TARGET == HWY_RVV
inline constexpr bool kNativeMasks = true;
#else
inline constexpr bool kNativeMasks = false;
#endif

/// The first `count` < Lanes(d) elements at p; zeros above.
template <class D, class T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> load_first(D d, const T* p, std::size_t count) {
  if constexpr (kNativeMasks && sizeof(T) >= 4) {
    return hn::MaskedLoad(hn::FirstN(d, count), d, p);
  } else {
    HWY_ALIGN T lanes[hn::MaxLanes(d)] = {};
    for (std::size_t i = 0; i < count; ++i) lanes[i] = p[i];
    return hn::Load(d, lanes);
  }
}

template <class D, class T = hn::TFromD<D>>
HWY_INLINE void store_first(D d, hn::Vec<D> v, T* p, std::size_t count) {
  if constexpr (kNativeMasks && sizeof(T) >= 4) {
    hn::BlendedStore(v, hn::FirstN(d, count), d, p);
  } else {
    HWY_ALIGN T lanes[hn::MaxLanes(d)];
    hn::Store(v, d, lanes);
    for (std::size_t i = 0; i < count; ++i) p[i] = lanes[i];
  }
}

/// A mask as bytes 0 or 1, one per lane.
template <class D, class M>
HWY_INLINE auto mask_to_bytes(D d, M mask) {
  const hn::RebindToUnsigned<D> du;
  const hn::Rebind<std::uint8_t, D> d8;
  const auto ones = hn::And(hn::BitCast(du, hn::VecFromMask(d, mask)), hn::Set(du, 1));
  return hn::TruncateTo(d8, ones);
}

// --- unary ------------------------------------------------------------------------------------------------------------------

template <UnaryFn kFn, class D, class V = hn::Vec<D>>
HWY_INLINE V unary(D d, V x, [[maybe_unused]] V a, [[maybe_unused]] V b) {
  const V zero = hn::Zero(d);
  const V one = constant(d, 1.0);
  if constexpr (kFn == UnaryFn::identity) return x;
  if constexpr (kFn == UnaryFn::affine) return hn::MulAdd(a, x, b);
  if constexpr (kFn == UnaryFn::neg) return hn::Neg(x);
  if constexpr (kFn == UnaryFn::abs) return hn::Abs(x);
  if constexpr (kFn == UnaryFn::sign) {
    return hn::IfThenElse(hn::Gt(x, zero), one, hn::IfThenElse(hn::Lt(x, zero), hn::Neg(one), hn::Add(x, zero)));
  }
  if constexpr (kFn == UnaryFn::reciprocal) return hn::Div(one, x);
  if constexpr (kFn == UnaryFn::square) return hn::Mul(x, x);
  if constexpr (kFn == UnaryFn::sqrt) return hn::Sqrt(x);
  if constexpr (kFn == UnaryFn::rsqrt) return hn::Div(one, hn::Sqrt(x));
  if constexpr (kFn == UnaryFn::clip) return hn::IfThenElse(hn::Lt(x, a), a, hn::IfThenElse(hn::Gt(x, b), b, x));
  if constexpr (kFn == UnaryFn::floor) return hn::Floor(x);
  if constexpr (kFn == UnaryFn::ceil) return hn::Ceil(x);
  if constexpr (kFn == UnaryFn::round) return hn::Round(x);
  if constexpr (kFn == UnaryFn::trunc) return hn::Trunc(x);
  if constexpr (kFn == UnaryFn::exp) return HWY_NAMESPACE::exp(d, x);
  if constexpr (kFn == UnaryFn::expm1) return HWY_NAMESPACE::expm1(d, x);
  if constexpr (kFn == UnaryFn::log) return HWY_NAMESPACE::log(d, x);
  if constexpr (kFn == UnaryFn::log1p) return HWY_NAMESPACE::log1p(d, x);
  if constexpr (kFn == UnaryFn::sin) return HWY_NAMESPACE::sin(d, x);
  if constexpr (kFn == UnaryFn::cos) return HWY_NAMESPACE::cos(d, x);
  if constexpr (kFn == UnaryFn::tanh) return HWY_NAMESPACE::tanh(d, x);
  if constexpr (kFn == UnaryFn::erf) return HWY_NAMESPACE::erf(d, x);
  if constexpr (kFn == UnaryFn::sigmoid) return sigmoid(d, x);
  if constexpr (kFn == UnaryFn::log_sigmoid) return hn::Neg(softplus(d, hn::Neg(x)));
  if constexpr (kFn == UnaryFn::softplus) return softplus(d, x);
  if constexpr (kFn == UnaryFn::relu) return hn::IfThenZeroElse(hn::Le(x, zero), x);
  if constexpr (kFn == UnaryFn::leaky_relu) return hn::IfThenElse(hn::Gt(x, zero), x, hn::Mul(a, x));
  if constexpr (kFn == UnaryFn::elu) {
    return hn::IfThenElse(hn::Gt(x, zero), x, hn::Mul(a, HWY_NAMESPACE::expm1(d, x)));
  }
  if constexpr (kFn == UnaryFn::silu) return silu(d, x);
  if constexpr (kFn == UnaryFn::gelu) return gelu(d, x);
  if constexpr (kFn == UnaryFn::gelu_tanh) return gelu_tanh(d, x);
  if constexpr (kFn == UnaryFn::step) {
    return hn::IfThenElse(hn::Gt(x, zero), one, hn::IfThenZeroElse(hn::Le(x, zero), x));
  }
  if constexpr (kFn == UnaryFn::leaky_relu_derivative) {
    return hn::IfThenElse(hn::Gt(x, zero), one, hn::IfThenElse(hn::Le(x, zero), a, x));
  }
  if constexpr (kFn == UnaryFn::elu_derivative) {
    return hn::IfThenElse(hn::Gt(x, zero), one, hn::Mul(a, HWY_NAMESPACE::exp(d, x)));
  }
  if constexpr (kFn == UnaryFn::clip_derivative) {
    const V inside = hn::IfThenElseZero(hn::And(hn::Ge(x, a), hn::Le(x, b)), one);
    return hn::IfThenElse(hn::Eq(x, x), inside, x);
  }
  if constexpr (kFn == UnaryFn::silu_derivative) return silu_derivative(d, x);
  if constexpr (kFn == UnaryFn::gelu_derivative) return gelu_derivative(d, x);
  if constexpr (kFn == UnaryFn::gelu_tanh_derivative) return gelu_tanh_derivative(d, x);
  if constexpr (kFn == UnaryFn::erf_derivative) return erf_derivative(d, x);
}

// --- binary -----------------------------------------------------------------------------------------------------------------

template <BinaryFn kFn, class D, class V = hn::Vec<D>>
HWY_INLINE V binary(D d, V x, V y, [[maybe_unused]] V a, [[maybe_unused]] V b) {
  const V zero = hn::Zero(d);
  const V one = constant(d, 1.0);
  const V half = constant(d, 0.5);
  if constexpr (kFn == BinaryFn::add) return hn::Add(x, y);
  if constexpr (kFn == BinaryFn::sub) return hn::Sub(x, y);
  if constexpr (kFn == BinaryFn::mul) return hn::Mul(x, y);
  if constexpr (kFn == BinaryFn::div) return hn::Div(x, y);
  if constexpr (kFn == BinaryFn::pow) return HWY_NAMESPACE::pow(d, x, y);
  if constexpr (kFn == BinaryFn::minimum) {
    return hn::IfThenElse(hn::Or(hn::Le(x, y), hn::IsNaN(x)), x, y);  // x if smaller or NaN; y if smaller or NaN
  }
  if constexpr (kFn == BinaryFn::maximum) return hn::IfThenElse(hn::Or(hn::Ge(x, y), hn::IsNaN(x)), x, y);
  if constexpr (kFn == BinaryFn::add_scaled) return hn::MulAdd(a, y, x);
  if constexpr (kFn == BinaryFn::squared_difference) {
    const V difference = hn::Sub(x, y);
    return hn::Mul(difference, difference);
  }
  if constexpr (kFn == BinaryFn::abs_grad) return hn::Mul(x, unary<UnaryFn::sign>(d, y, a, b));
  if constexpr (kFn == BinaryFn::square_grad) return hn::Mul(hn::Add(x, x), y);
  if constexpr (kFn == BinaryFn::reciprocal_grad) return hn::Neg(hn::Mul(hn::Mul(x, y), y));
  if constexpr (kFn == BinaryFn::sqrt_grad) return hn::Div(hn::Mul(half, x), y);
  if constexpr (kFn == BinaryFn::rsqrt_grad) return hn::Mul(hn::Mul(hn::Neg(hn::Mul(half, x)), y), hn::Mul(y, y));
  if constexpr (kFn == BinaryFn::expm1_grad) return hn::Mul(x, hn::Add(y, one));
  if constexpr (kFn == BinaryFn::log1p_grad) return hn::Div(x, hn::Add(y, one));
  if constexpr (kFn == BinaryFn::sin_grad) return hn::Mul(x, HWY_NAMESPACE::cos(d, y));
  if constexpr (kFn == BinaryFn::cos_grad) return hn::Neg(hn::Mul(x, HWY_NAMESPACE::sin(d, y)));
  if constexpr (kFn == BinaryFn::tanh_grad) return hn::Mul(x, hn::NegMulAdd(y, y, one));
  if constexpr (kFn == BinaryFn::sigmoid_grad) return hn::Mul(x, hn::NegMulAdd(y, y, y));
  if constexpr (kFn == BinaryFn::softplus_grad) return hn::Mul(x, sigmoid(d, y));
  if constexpr (kFn == BinaryFn::relu_grad) {
    return hn::IfThenElse(hn::Gt(y, zero), x, hn::IfThenZeroElse(hn::Le(y, zero), y));
  }
  if constexpr (kFn == BinaryFn::leaky_relu_grad) {
    return hn::Mul(x, unary<UnaryFn::leaky_relu_derivative>(d, y, a, b));
  }
  if constexpr (kFn == BinaryFn::elu_grad) return hn::Mul(x, unary<UnaryFn::elu_derivative>(d, y, a, b));
  if constexpr (kFn == BinaryFn::clip_grad) {
    return hn::IfThenElse(hn::Eq(y, y), hn::IfThenElseZero(hn::And(hn::Ge(y, a), hn::Le(y, b)), x), y);
  }
  if constexpr (kFn == BinaryFn::silu_grad) return hn::Mul(x, silu_derivative(d, y));
  if constexpr (kFn == BinaryFn::gelu_grad) return hn::Mul(x, gelu_derivative(d, y));
  if constexpr (kFn == BinaryFn::gelu_tanh_grad) return hn::Mul(x, gelu_tanh_derivative(d, y));
  if constexpr (kFn == BinaryFn::erf_grad) return hn::Mul(x, erf_derivative(d, y));
}

// --- comparisons --------------------------------------------------------------------------------------------------------------

template <CompareFn kFn, class V>
HWY_INLINE auto compare(V x, V y) {
  if constexpr (kFn == CompareFn::equal) return hn::Eq(x, y);
  if constexpr (kFn == CompareFn::not_equal) return hn::Not(hn::Eq(x, y));  // Ne of Highway 1.0 is false for NaN
  if constexpr (kFn == CompareFn::less) return hn::Lt(x, y);
  if constexpr (kFn == CompareFn::less_equal) return hn::Le(x, y);
  if constexpr (kFn == CompareFn::greater) return hn::Gt(x, y);
  if constexpr (kFn == CompareFn::greater_equal) return hn::Ge(x, y);
}

template <PredicateFn kFn, class D, class V = hn::Vec<D>>
HWY_INLINE auto predicate(D d, V x) {
  const V infinity = hn::Set(d, std::numeric_limits<hn::TFromD<D>>::infinity());
  if constexpr (kFn == PredicateFn::is_finite) return hn::Lt(hn::Abs(x), infinity);
  if constexpr (kFn == PredicateFn::is_nan) return hn::IsNaN(x);
  if constexpr (kFn == PredicateFn::is_inf) return hn::Eq(hn::Abs(x), infinity);
}

}  // namespace solvent::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SOLVENT_OPS_CPU_VECTOR_FUNCTIONS_INL_H_
