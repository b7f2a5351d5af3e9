// Elementwise operations on tensors. Decomposition: blocks of the (row-major) output, kGrain elements per parallel block;
// contiguous and one-value operands go straight to the vector loops, others are read through BlockReader. Outputs are
// always new, or reuse a dying input: position i is written after position i of every input was read, and a reused input
// is dense, so each block reads exactly what it overwrites. Deterministic: no operation across elements.

#include "solvent/ops/cpu/elementwise.h"

#include <cmath>
#include <cstring>
#include <type_traits>

#include <fmt/format.h>

#include "solvent/core/engine/bfloat16.h"
#include "solvent/core/engine/view.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/cpu/block_reader.h"
#include "solvent/ops/cpu/vector_kernels.h"

namespace solvent {

std::string ParamAttrs::describe() const { return fmt::format("{}, {}", params.a, params.b); }
std::string CastAttrs::describe() const { return std::string(to_string(dtype)); }

namespace cpu {
namespace {

// Calls `block(first, count)` for blocks of at most kBlock elements covering [0, n), in parallel.
template <class F>
void for_blocks(std::int64_t n, F&& block) {
  parallel_for(n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; i += kBlock) block(i, std::min(kBlock, end - i));
  });
}

// True if every element is the same one in memory.
bool is_one_value(const Tensor& t) noexcept {
  const Shape& shape = t.impl()->shape;
  const Strides& strides = t.impl()->strides;
  for (int i = 0; i < shape.rank(); ++i)
    if (shape[i] != 1 && strides[i] != 0) return false;
  return true;
}

// How a vector loop can read an operand without packing: stride 1, stride 0, or not at all (-1).
std::int64_t flat_stride(const Tensor& t) noexcept { return t.is_contiguous() ? 1 : is_one_value(t) ? 0 : -1; }

// The memory of a dying input if one fits, else new memory.
Tensor take_any(Tensor& a, Tensor& b, const Shape& shape, DType dtype) {
  return engine::can_donate(a) ? engine::take_or_empty(a, shape, dtype) : engine::take_or_empty(b, shape, dtype);
}

// --- one operand ------------------------------------------------------------------------------------------------------------

template <class T>
Tensor unary_float(UnaryFn fn, Tensor& x, functor::Params params) {
  const T* src = engine::ptr<T>(x);
  const Shape shape = x.shape();
  const std::int64_t n = shape.product();
  if (x.is_contiguous()) {
    Tensor y = engine::take_or_empty(x, shape, dtype_of<T>);
    unary<T>(fn, src, engine::mutable_ptr<T>(y), n, params);
    return y;
  }
  Tensor y = engine::empty(shape, dtype_of<T>, x.device());
  T* dst = engine::mutable_ptr<T>(y);
  const BlockReader reader(x);
  const UnaryKernel<T> kernel = unary_kernel<T>(fn);
  for_blocks(n, [&](std::int64_t first, std::int64_t count) {
    T buffer[kBlock];
    kernel(reader.read(src, first, count, buffer), dst + first, count, KernelParams{params});
  });
  return y;
}

// y[i] = f(x[i]) for types without vector loops.
template <class In, class Out, class F>
Tensor unary_scalar(Tensor& x, F f) {
  const In* src = engine::ptr<In>(x);
  const Shape shape = x.shape();
  const BlockReader reader(x);
  Tensor y = engine::take_or_empty(x, shape, dtype_of<Out>);
  Out* dst = engine::mutable_ptr<Out>(y);
  for_blocks(shape.product(), [&](std::int64_t first, std::int64_t count) {
    In buffer[kBlock];
    const In* in = reader.read(src, first, count, buffer);
    for (std::int64_t i = 0; i < count; ++i) dst[first + i] = f(in[i]);
  });
  return y;
}

// --- two operands -------------------------------------------------------------------------------------------------------------

template <class T>
Tensor binary_float(BinaryFn fn, Tensor& a, Tensor& b, functor::Params params) {
  const T* pa = engine::ptr<T>(a);
  const T* pb = engine::ptr<T>(b);
  const Shape shape = a.shape();
  const std::int64_t n = shape.product();
  const std::int64_t sa = flat_stride(a);
  const std::int64_t sb = flat_stride(b);
  if (sa >= 0 && sb >= 0) {
    Tensor y = take_any(a, b, shape, dtype_of<T>);
    binary<T>(fn, pa, sa, pb, sb, engine::mutable_ptr<T>(y), n, params);
    return y;
  }
  const BlockReader read_a(a);
  const BlockReader read_b(b);
  Tensor y = take_any(a, b, shape, dtype_of<T>);
  T* dst = engine::mutable_ptr<T>(y);
  const BinaryKernel<T> kernel = binary_kernel<T>(fn);
  for_blocks(n, [&](std::int64_t first, std::int64_t count) {
    T buffer_a[kBlock];
    T buffer_b[kBlock];
    const T* xa = sa == 0 ? pa : read_a.read(pa, first, count, buffer_a);
    const T* xb = sb == 0 ? pb : read_b.read(pb, first, count, buffer_b);
    kernel(xa, sa == 0 ? 0 : 1, xb, sb == 0 ? 0 : 1, dst + first, count, KernelParams{params});
  });
  return y;
}

template <class In, class Out, class F>
Tensor binary_scalar(Tensor& a, Tensor& b, F f) {
  const In* pa = engine::ptr<In>(a);
  const In* pb = engine::ptr<In>(b);
  const Shape shape = a.shape();
  const BlockReader read_a(a);
  const BlockReader read_b(b);
  Tensor y = take_any(a, b, shape, dtype_of<Out>);
  Out* dst = engine::mutable_ptr<Out>(y);
  for_blocks(shape.product(), [&](std::int64_t first, std::int64_t count) {
    In buffer_a[kBlock];
    In buffer_b[kBlock];
    const In* xa = read_a.read(pa, first, count, buffer_a);
    const In* xb = read_b.read(pb, first, count, buffer_b);
    for (std::int64_t i = 0; i < count; ++i) dst[first + i] = f(xa[i], xb[i]);
  });
  return y;
}

// Integer arithmetic wraps around, as two's complement hardware does; in C++ only unsigned types may.
constexpr std::int64_t wrap(std::uint64_t v) noexcept { return static_cast<std::int64_t>(v); }
constexpr std::uint64_t bits(std::int64_t v) noexcept { return static_cast<std::uint64_t>(v); }

// The nearest int64; +-inf (no bound) and values beyond the range become the extremes.
std::int64_t saturate(double v) noexcept {
  constexpr double kLimit = 9223372036854775808.0;  // 2^63
  if (v >= kLimit) return INT64_MAX;
  if (v <= -kLimit) return INT64_MIN;
  return static_cast<std::int64_t>(v);
}

Tensor unary_int(UnaryFn fn, Tensor& x, functor::Params params) {
  using I = std::int64_t;
  switch (fn) {
    case UnaryFn::neg: return unary_scalar<I, I>(x, [](I v) { return wrap(0 - bits(v)); });
    case UnaryFn::abs: return unary_scalar<I, I>(x, [](I v) { return v < 0 ? wrap(0 - bits(v)) : v; });
    case UnaryFn::sign: return unary_scalar<I, I>(x, [](I v) { return I{v > 0} - I{v < 0}; });
    case UnaryFn::square: return unary_scalar<I, I>(x, [](I v) { return wrap(bits(v) * bits(v)); });
    case UnaryFn::clip: {
      const I low = saturate(params.a);
      const I high = saturate(params.b);
      return unary_scalar<I, I>(x, [=](I v) { return v < low ? low : v > high ? high : v; });
    }
    default: detail::throw_not_floating("elementwise", x.dtype());
  }
}

Tensor binary_int(BinaryFn fn, Tensor& a, Tensor& b) {
  using I = std::int64_t;
  switch (fn) {
    case BinaryFn::sub: return binary_scalar<I, I>(a, b, [](I x, I y) { return wrap(bits(x) - bits(y)); });
    case BinaryFn::mul: return binary_scalar<I, I>(a, b, [](I x, I y) { return wrap(bits(x) * bits(y)); });
    case BinaryFn::minimum: return binary_scalar<I, I>(a, b, [](I x, I y) { return y < x ? y : x; });
    case BinaryFn::maximum: return binary_scalar<I, I>(a, b, [](I x, I y) { return y > x ? y : x; });
    default: detail::throw_not_floating("elementwise", a.dtype());
  }
}

// bfloat16 is computed in float32 and rounded once.
Tensor unary_bfloat16(UnaryFn fn, Tensor& x) {
  using B = BFloat16;
  if (fn != UnaryFn::neg) detail::throw_not_floating("elementwise", x.dtype());
  return unary_scalar<B, B>(x, [](B v) { return B(-static_cast<float>(v)); });
}

Tensor binary_bfloat16(BinaryFn fn, Tensor& a, Tensor& b) {
  using B = BFloat16;
  switch (fn) {
    case BinaryFn::sub: return binary_scalar<B, B>(a, b, [](B x, B y) { return B(x - y); });
    case BinaryFn::mul: return binary_scalar<B, B>(a, b, [](B x, B y) { return B(x * y); });
    default: detail::throw_not_floating("elementwise", a.dtype());
  }
}

// --- truth values: bool tensors are bytes 0 or 1 ----------------------------------------------------------------------------------

const std::uint8_t* bytes(const Tensor& t) noexcept {
  return reinterpret_cast<const std::uint8_t*>(engine::ptr<bool>(t));
}
std::uint8_t* mutable_bytes(Tensor& t) noexcept {
  return reinterpret_cast<std::uint8_t*>(engine::mutable_ptr<bool>(t));
}

// y (bool) = kernel(a, b) with a vector loop over elements of type T.
template <class T, class K>
Tensor compare_blocks(const T* pa, const T* pb, const Tensor& a, const Tensor& b, K kernel) {
  Tensor y = engine::empty(a.shape(), boolean, a.device());
  std::uint8_t* dst = mutable_bytes(y);
  const BlockReader read_a(a);
  const BlockReader read_b(b);
  for_blocks(a.numel(), [&](std::int64_t first, std::int64_t count) {
    T buffer_a[kBlock];
    T buffer_b[kBlock];
    kernel(read_a.read(pa, first, count, buffer_a), std::int64_t{1}, read_b.read(pb, first, count, buffer_b),
           std::int64_t{1}, dst + first, count);
  });
  return y;
}

template <class T>
Tensor compare_scalar(CompareFn fn, Tensor& a, Tensor& b) {
  switch (fn) {
    case CompareFn::equal: return binary_scalar<T, bool>(a, b, [](T x, T y) { return x == y; });
    case CompareFn::not_equal: return binary_scalar<T, bool>(a, b, [](T x, T y) { return x != y; });
    case CompareFn::less: return binary_scalar<T, bool>(a, b, [](T x, T y) { return x < y; });
    case CompareFn::less_equal: return binary_scalar<T, bool>(a, b, [](T x, T y) { return x <= y; });
    case CompareFn::greater: return binary_scalar<T, bool>(a, b, [](T x, T y) { return x > y; });
    default: return binary_scalar<T, bool>(a, b, [](T x, T y) { return x >= y; });
  }
}

// --- selection ------------------------------------------------------------------------------------------------------------------------

template <class T>
Tensor where_float(Tensor& c, Tensor& a, Tensor& b) {
  const std::uint8_t* pc = bytes(c);
  const T* pa = engine::ptr<T>(a);
  const T* pb = engine::ptr<T>(b);
  const Shape shape = a.shape();
  const std::int64_t n = shape.product();
  const std::int64_t sc = flat_stride(c);
  const std::int64_t sa = flat_stride(a);
  const std::int64_t sb = flat_stride(b);
  const BlockReader read_c(c);
  const BlockReader read_a(a);
  const BlockReader read_b(b);
  Tensor y = take_any(a, b, shape, dtype_of<T>);
  T* dst = engine::mutable_ptr<T>(y);
  if (sc >= 0 && sa >= 0 && sb >= 0) {
    select<T>(pc, sc, pa, sa, pb, sb, dst, n);
    return y;
  }
  const SelectKernel<T> kernel = select_kernel<T>();
  for_blocks(n, [&](std::int64_t first, std::int64_t count) {
    std::uint8_t buffer_c[kBlock];
    T buffer_a[kBlock];
    T buffer_b[kBlock];
    kernel(read_c.read(pc, first, count, buffer_c), 1, read_a.read(pa, first, count, buffer_a), 1,
           read_b.read(pb, first, count, buffer_b), 1, dst + first, count);
  });
  return y;
}

template <class T>
Tensor where_scalar(Tensor& c, Tensor& a, Tensor& b) {
  const bool* pc = engine::ptr<bool>(c);
  const T* pa = engine::ptr<T>(a);
  const T* pb = engine::ptr<T>(b);
  const Shape shape = a.shape();
  const BlockReader read_c(c);
  const BlockReader read_a(a);
  const BlockReader read_b(b);
  Tensor y = take_any(a, b, shape, dtype_of<T>);
  T* dst = engine::mutable_ptr<T>(y);
  for_blocks(shape.product(), [&](std::int64_t first, std::int64_t count) {
    bool buffer_c[kBlock];
    T buffer_a[kBlock];
    T buffer_b[kBlock];
    const bool* xc = read_c.read(pc, first, count, buffer_c);
    const T* xa = read_a.read(pa, first, count, buffer_a);
    const T* xb = read_b.read(pb, first, count, buffer_b);
    for (std::int64_t i = 0; i < count; ++i) dst[first + i] = xc[i] ? xa[i] : xb[i];
  });
  return y;
}

// --- casts --------------------------------------------------------------------------------------------------------------------------------

// Float to integer truncates; NaN becomes 0 and values out of range the nearest bound (in plain C++ both are undefined).
template <class Out, class In>
Out convert(In v) noexcept {
  if constexpr (std::is_same_v<Out, bool>) {
    return v != In{0};
  } else if constexpr (std::is_same_v<In, BFloat16>) {
    return convert<Out>(static_cast<float>(v));
  } else if constexpr (std::is_floating_point_v<In> && std::is_integral_v<Out>) {
    if (v != v) return Out{0};
    constexpr double kBound = std::is_same_v<Out, std::uint8_t> ? 256.0 : 9223372036854775808.0;
    const double wide = static_cast<double>(v);
    if (wide >= kBound) return std::numeric_limits<Out>::max();
    if (wide <= static_cast<double>(std::numeric_limits<Out>::min())) return std::numeric_limits<Out>::min();
    return static_cast<Out>(wide);
  } else {
    return static_cast<Out>(v);
  }
}

template <class In, class Out>
Tensor cast_typed(Tensor& x) {
  constexpr bool kRounds = std::is_same_v<In, float> && std::is_same_v<Out, BFloat16>;
  constexpr bool kWidens = std::is_same_v<In, BFloat16> && std::is_same_v<Out, float>;
  if constexpr (kRounds || kWidens) {
    const In* src = engine::ptr<In>(x);
    const BlockReader reader(x);
    Tensor y = engine::empty(x.shape(), dtype_of<Out>, x.device());
    Out* dst = engine::mutable_ptr<Out>(y);
    for_blocks(y.numel(), [&](std::int64_t first, std::int64_t count) {
      In buffer[kBlock];
      engine::convert(reader.read(src, first, count, buffer), dst + first, count);
    });
    return y;
  } else {
    return unary_scalar<In, Out>(x, [](In v) { return convert<Out>(v); });
  }
}

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
  Tensor& b = inputs[1];
  switch (a.dtype()) {
    case DType::float32: return binary_float<float>(fn, a, b, params);
    case DType::float64: return binary_float<double>(fn, a, b, params);
    case DType::bfloat16: return binary_bfloat16(fn, a, b);
    default: return binary_int(fn, a, b);
  }
}

TensorVec run_compare(CompareFn fn, std::span<Tensor> inputs) {
  Tensor& a = inputs[0];
  Tensor& b = inputs[1];
  return dispatch_all(a.dtype(), [&](auto tag) -> Tensor {
    using T = typename decltype(tag)::type;
    if constexpr (std::is_floating_point_v<T>) {
      return compare_blocks(engine::ptr<T>(a), engine::ptr<T>(b), a, b, compare_kernel<T>(fn));
    } else {
      return compare_scalar<T>(fn, a, b);
    }
  });
}

TensorVec run_logical(LogicalFn fn, std::span<Tensor> inputs) {
  Tensor& a = inputs[0];
  Tensor& b = inputs[1];
  return compare_blocks(bytes(a), bytes(b), a, b, logical_kernel(fn));
}

TensorVec logical_not(std::span<Tensor> inputs, const Attrs*) {
  return unary_scalar<bool, bool>(inputs[0], [](bool v) { return !v; });
}

TensorVec run_predicate(PredicateFn fn, std::span<Tensor> inputs) {
  Tensor& x = inputs[0];
  return dispatch_float(x.dtype(), "predicate", [&](auto tag) -> Tensor {
    using T = typename decltype(tag)::type;
    Tensor y = engine::empty(x.shape(), boolean, x.device());
    std::uint8_t* dst = mutable_bytes(y);
    const T* src = engine::ptr<T>(x);
    const BlockReader reader(x);
    const PredicateKernel<T> kernel = predicate_kernel<T>(fn);
    for_blocks(x.numel(), [&](std::int64_t first, std::int64_t count) {
      T buffer[kBlock];
      kernel(reader.read(src, first, count, buffer), dst + first, count);
    });
    return y;
  });
}

TensorVec where(std::span<Tensor> inputs, const Attrs*) {
  return dispatch_all(inputs[1].dtype(), [&](auto tag) -> Tensor {
    using T = typename decltype(tag)::type;
    if constexpr (std::is_floating_point_v<T>) {
      return where_float<T>(inputs[0], inputs[1], inputs[2]);
    } else {
      return where_scalar<T>(inputs[0], inputs[1], inputs[2]);
    }
  });
}

TensorVec cast(std::span<Tensor> inputs, const Attrs* attrs) {
  const DType to = static_cast<const CastAttrs*>(attrs)->dtype;
  return dispatch_all(inputs[0].dtype(), [&](auto from_tag) {
    return dispatch_all(to, [&](auto to_tag) -> Tensor {
      using In = typename decltype(from_tag)::type;
      using Out = typename decltype(to_tag)::type;
      return cast_typed<In, Out>(inputs[0]);
    });
  });
}

TensorVec fmod(std::span<Tensor> inputs, const Attrs*) {
  return dispatch_float(inputs[0].dtype(), "fmod", [&](auto tag) -> Tensor {
    using T = typename decltype(tag)::type;
    return binary_scalar<T, T>(inputs[0], inputs[1], [](T x, T y) { return std::fmod(x, y); });
  });
}

TensorVec pow_scalar(std::span<Tensor> inputs, const Attrs* attrs) {
  Tensor& x = inputs[0];
  return dispatch_float(x.dtype(), "pow", [&](auto tag) -> Tensor {
    using T = typename decltype(tag)::type;
    const T exponent = static_cast<T>(params_of(attrs).a);
    const T* src = engine::ptr<T>(x);
    const Shape shape = x.shape();
    const BlockReader reader(x);
    Tensor y = engine::take_or_empty(x, shape, dtype_of<T>);
    T* dst = engine::mutable_ptr<T>(y);
    const BinaryKernel<T> kernel = binary_kernel<T>(BinaryFn::pow);
    for_blocks(shape.product(), [&](std::int64_t first, std::int64_t count) {
      T buffer[kBlock];
      kernel(reader.read(src, first, count, buffer), 1, &exponent, 0, dst + first, count, KernelParams{});
    });
    return y;
  });
}

}  // namespace cpu
}  // namespace solvent
