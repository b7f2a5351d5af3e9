// Elementwise operations on a GPU apart from the functions of floats: integers, truth values, selection, casts.

#include "solvent/ops/cuda/elementwise.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "solvent/core/cuda/elementwise.h"

namespace solvent::cuda {
namespace {

using functor::BinaryFn;
using functor::CompareFn;
using functor::LogicalFn;
using functor::PredicateFn;
using functor::UnaryFn;
using Int = std::int64_t;

// --- integers: arithmetic wraps around, as on the CPU ---------------------------------------------------------------------

__device__ inline Int wrap(std::uint64_t v) { return static_cast<Int>(v); }
__device__ inline std::uint64_t bits(Int v) { return static_cast<std::uint64_t>(v); }

template <UnaryFn kFn>
struct IntUnary {
  Int low, high;  // of clip
  __device__ Int operator()(const Int (&x)[1]) const {
    const Int v = x[0];
    if constexpr (kFn == UnaryFn::neg) return wrap(0 - bits(v));
    if constexpr (kFn == UnaryFn::abs) return v < 0 ? wrap(0 - bits(v)) : v;
    if constexpr (kFn == UnaryFn::sign) return Int{v > 0} - Int{v < 0};
    if constexpr (kFn == UnaryFn::square) return wrap(bits(v) * bits(v));
    if constexpr (kFn == UnaryFn::clip) return v < low ? low : v > high ? high : v;
  }
};

template <BinaryFn kFn>
struct IntBinary {
  __device__ Int operator()(const Int (&x)[2]) const {
    if constexpr (kFn == BinaryFn::sub) return wrap(bits(x[0]) - bits(x[1]));
    if constexpr (kFn == BinaryFn::mul) return wrap(bits(x[0]) * bits(x[1]));
    if constexpr (kFn == BinaryFn::minimum) return x[1] < x[0] ? x[1] : x[0];
    if constexpr (kFn == BinaryFn::maximum) return x[1] > x[0] ? x[1] : x[0];
  }
};

// The nearest int64; +-inf (no bound) and values beyond the range become the extremes.
Int saturate(double v) {
  constexpr double kLimit = 9223372036854775808.0;  // 2^63
  if (v >= kLimit) return INT64_MAX;
  if (v <= -kLimit) return INT64_MIN;
  return static_cast<Int>(v);
}

template <UnaryFn kFn>
Tensor int_unary(Tensor& x, functor::Params params) {
  return elementwise<Int, Int>("unary function", IntUnary<kFn>{saturate(params.a), saturate(params.b)}, {&x});
}

Tensor unary_int(UnaryFn fn, Tensor& x, functor::Params params) {
  switch (fn) {
    case UnaryFn::neg: return int_unary<UnaryFn::neg>(x, params);
    case UnaryFn::abs: return int_unary<UnaryFn::abs>(x, params);
    case UnaryFn::sign: return int_unary<UnaryFn::sign>(x, params);
    case UnaryFn::square: return int_unary<UnaryFn::square>(x, params);
    case UnaryFn::clip: return int_unary<UnaryFn::clip>(x, params);
    default: solvent::detail::throw_not_floating("elementwise", x.dtype());
  }
}

template <BinaryFn kFn>
Tensor int_binary(Tensor& a, Tensor& b) {
  return elementwise<Int, Int>("binary function", IntBinary<kFn>{}, {&a, &b});
}

Tensor binary_int(BinaryFn fn, Tensor& a, Tensor& b) {
  switch (fn) {
    case BinaryFn::sub: return int_binary<BinaryFn::sub>(a, b);
    case BinaryFn::mul: return int_binary<BinaryFn::mul>(a, b);
    case BinaryFn::minimum: return int_binary<BinaryFn::minimum>(a, b);
    case BinaryFn::maximum: return int_binary<BinaryFn::maximum>(a, b);
    default: solvent::detail::throw_not_floating("elementwise", a.dtype());
  }
}

// --- bfloat16: computed in float32, rounded once ---------------------------------------------------------------------------

struct NegBFloat16 {
  __device__ BFloat16 operator()(const BFloat16 (&x)[1]) const { return BFloat16(-static_cast<float>(x[0])); }
};

template <BinaryFn kFn>
struct BFloat16Binary {
  __device__ BFloat16 operator()(const BFloat16 (&x)[2]) const {
    if constexpr (kFn == BinaryFn::sub) return BFloat16(x[0] - x[1]);
    if constexpr (kFn == BinaryFn::mul) return BFloat16(x[0] * x[1]);
  }
};

Tensor unary_bfloat16(UnaryFn fn, Tensor& x) {
  if (fn != UnaryFn::neg) solvent::detail::throw_not_floating("elementwise", x.dtype());
  return elementwise<BFloat16, BFloat16>("neg", NegBFloat16{}, {&x});
}

Tensor binary_bfloat16(BinaryFn fn, Tensor& a, Tensor& b) {
  const auto run = [&](auto f) { return elementwise<BFloat16, BFloat16>("binary function", f, {&a, &b}); };
  switch (fn) {
    case BinaryFn::sub: return run(BFloat16Binary<BinaryFn::sub>{});
    case BinaryFn::mul: return run(BFloat16Binary<BinaryFn::mul>{});
    default: solvent::detail::throw_not_floating("elementwise", a.dtype());
  }
}

// --- truth values -----------------------------------------------------------------------------------------------------------

template <CompareFn kFn, class T>
struct Compare {
  __device__ bool operator()(const T (&x)[2]) const { return functor::compare<kFn>(x[0], x[1]); }
};

template <class T>
Tensor compare_typed(CompareFn fn, Tensor& a, Tensor& b) {
  const auto run = [&](auto f) { return elementwise<T, bool>("comparison", f, {&a, &b}); };
  switch (fn) {
    case CompareFn::equal: return run(Compare<CompareFn::equal, T>{});
    case CompareFn::not_equal: return run(Compare<CompareFn::not_equal, T>{});
    case CompareFn::less: return run(Compare<CompareFn::less, T>{});
    case CompareFn::less_equal: return run(Compare<CompareFn::less_equal, T>{});
    case CompareFn::greater: return run(Compare<CompareFn::greater, T>{});
    default: return run(Compare<CompareFn::greater_equal, T>{});
  }
}

struct Logical {
  LogicalFn fn;
  __device__ bool operator()(const bool (&x)[2]) const {
    if (fn == LogicalFn::logical_and) return x[0] && x[1];
    if (fn == LogicalFn::logical_or) return x[0] || x[1];
    return x[0] != x[1];
  }
};

struct Not {
  __device__ bool operator()(const bool (&x)[1]) const { return !x[0]; }
};

template <class T>
struct Predicate {
  PredicateFn fn;
  T largest;  // finite value
  __device__ bool operator()(const T (&x)[1]) const {
    if (fn == PredicateFn::is_nan) return x[0] != x[0];
    const bool is_infinite = x[0] > largest || x[0] < -largest;
    return fn == PredicateFn::is_inf ? is_infinite : !is_infinite && x[0] == x[0];
  }
};

// --- selection --------------------------------------------------------------------------------------------------------------

template <class T>
__global__ void where_kernel(const bool* c, const T* a, const T* b, StridedIndex<3> index, T* y, std::int64_t n) {
  for (std::int64_t i = global_thread(); i < n; i += grid_threads()) {
    std::int64_t offset[3];
    index.locate(i, offset);
    y[i] = c[offset[0]] ? a[offset[1]] : b[offset[2]];
  }
}

// --- casts ------------------------------------------------------------------------------------------------------------------

// Float to integer truncates; NaN becomes 0 and values out of range the nearest bound, as on the CPU.
template <class In, class Out>
struct Convert {
  __device__ Out operator()(const In (&x)[1]) const {
    using Wide = std::conditional_t<std::is_same_v<In, BFloat16>, float, In>;
    const auto v = static_cast<Wide>(x[0]);
    if constexpr (std::is_same_v<Out, bool>) {
      return v != Wide{0};
    } else if constexpr (std::is_floating_point_v<Wide> && std::is_integral_v<Out>) {
      constexpr bool kByte = std::is_same_v<Out, std::uint8_t>;
      constexpr double kBound = kByte ? 256.0 : 9223372036854775808.0;
      constexpr double kLow = kByte ? 0.0 : -9223372036854775808.0;
      const double wide = static_cast<double>(v);
      if (wide != wide) return Out{0};
      if (wide >= kBound) return static_cast<Out>(kByte ? 255 : INT64_MAX);
      if (wide <= kLow) return static_cast<Out>(kByte ? 0 : INT64_MIN);
      return static_cast<Out>(wide);
    } else {
      return static_cast<Out>(v);
    }
  }
};

template <class T>
struct Fmod {
  __device__ T operator()(const T (&x)[2]) const { return std::fmod(x[0], x[1]); }
};

template <class T>
struct PowScalar {
  T exponent;
  __device__ T operator()(const T (&x)[1]) const { return std::pow(x[0], exponent); }
};

}  // namespace

TensorVec run_unary(UnaryFn fn, std::span<Tensor> inputs, functor::Params params) {
  Tensor& x = inputs[0];
  switch (x.dtype()) {
    case DType::float32: return unary_float<float>(fn, x, params);
    case DType::float64: return unary_float<double>(fn, x, params);
    case DType::bfloat16: return unary_bfloat16(fn, x);
    default: return unary_int(fn, x, params);
  }
}

TensorVec run_binary(BinaryFn fn, std::span<Tensor> inputs, functor::Params params) {
  Tensor& a = inputs[0];
  switch (a.dtype()) {
    case DType::float32: return binary_float<float>(fn, a, inputs[1], params);
    case DType::float64: return binary_float<double>(fn, a, inputs[1], params);
    case DType::bfloat16: return binary_bfloat16(fn, a, inputs[1]);
    default: return binary_int(fn, a, inputs[1]);
  }
}

TensorVec run_compare(CompareFn fn, std::span<Tensor> inputs) {
  return dispatch_all(inputs[0].dtype(), [&](auto tag) -> Tensor {
    return compare_typed<typename decltype(tag)::type>(fn, inputs[0], inputs[1]);
  });
}

TensorVec run_logical(LogicalFn fn, std::span<Tensor> inputs) {
  return elementwise<bool, bool>("logical function", Logical{fn}, {&inputs[0], &inputs[1]});
}

TensorVec logical_not(std::span<Tensor> inputs, const Attrs*) {
  return elementwise<bool, bool>("logical_not", Not{}, {&inputs[0]});
}

TensorVec run_predicate(PredicateFn fn, std::span<Tensor> inputs) {
  return dispatch_float(inputs[0].dtype(), "predicate", [&](auto tag) -> Tensor {
    using T = typename decltype(tag)::type;
    return elementwise<T, bool>("predicate", Predicate<T>{fn, std::numeric_limits<T>::max()}, {&inputs[0]});
  });
}

TensorVec where(std::span<Tensor> inputs, const Attrs*) {
  return dispatch_all(inputs[1].dtype(), [&](auto tag) -> Tensor {
    using T = typename decltype(tag)::type;
    const Tensor c = std::move(inputs[0]);
    const Tensor a = std::move(inputs[1]);
    const Tensor b = std::move(inputs[2]);
    Tensor y = engine::empty(a.shape(), dtype_of<T>, a.device());
    const std::int64_t n = y.numel();
    if (n == 0) return y;
    const Strides* const strides[] = {&c.strides(), &a.strides(), &b.strides()};
    const StridedIndex<3> index(a.shape(), strides);
    launch(over_elements("where", n, a.device()), where_kernel<T>, engine::ptr<bool>(c), engine::ptr<T>(a),
           engine::ptr<T>(b), index, engine::mutable_ptr<T>(y), n);
    return y;
  });
}

TensorVec cast(std::span<Tensor> inputs, const Attrs* attrs) {
  const DType to = static_cast<const CastAttrs*>(attrs)->dtype;
  return dispatch_all(inputs[0].dtype(), [&](auto from_tag) {
    return dispatch_all(to, [&](auto to_tag) -> Tensor {
      using In = typename decltype(from_tag)::type;
      using Out = typename decltype(to_tag)::type;
      return elementwise<In, Out>("cast", Convert<In, Out>{}, {&inputs[0]});
    });
  });
}

TensorVec fmod(std::span<Tensor> inputs, const Attrs*) {
  return dispatch_float(inputs[0].dtype(), "fmod", [&](auto tag) -> Tensor {
    using T = typename decltype(tag)::type;
    return elementwise<T, T>("fmod", Fmod<T>{}, {&inputs[0], &inputs[1]});
  });
}

TensorVec pow_scalar(std::span<Tensor> inputs, const Attrs* attrs) {
  return dispatch_float(inputs[0].dtype(), "pow", [&](auto tag) -> Tensor {
    using T = typename decltype(tag)::type;
    return elementwise<T, T>("pow", PowScalar<T>{static_cast<T>(cpu::params_of(attrs).a)}, {&inputs[0]});
  });
}

}  // namespace solvent::cuda
