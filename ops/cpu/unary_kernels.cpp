// Elementwise functions of one array.
//
// Decomposition: blocks of kElementwiseGrain elements; inside, one vector per turn and a masked end. Traffic: one read and
// one write per element; large outputs that are not the input are written past the caches, which saves the read of each
// output line. Deterministic: every element is computed from its inputs alone.

#include "solvent/ops/cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "solvent/ops/cpu/unary_kernels.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include <array>
#include <cstddef>
#include <utility>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/cpu/streaming.h"
#include "solvent/ops/cpu/vector_functions-inl.h"
#include "solvent/ops/cpu/vector_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace solvent::cpu::HWY_NAMESPACE {

template <UnaryFn kFn, class T>
void unary_loop(const T* x, T* y, std::int64_t n, KernelParams p) noexcept {
  const hn::ScalableTag<T> d;
  const std::size_t lanes = hn::Lanes(d);
  const std::size_t count = static_cast<std::size_t>(n);
  const auto a = hn::Set(d, static_cast<T>(p.a));
  const auto b = hn::Set(d, static_cast<T>(p.b));
  const bool stream = p.stream;
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto v = HWY_NAMESPACE::unary<kFn>(d, hn::LoadU(d, x + i), a, b);
    if (stream) {
      hn::Stream(v, d, y + i);
    } else {
      hn::StoreU(v, d, y + i);
    }
  }
  if (i < count) store_first(d, HWY_NAMESPACE::unary<kFn>(d, load_first(d, x + i, count - i), a, b), y + i, count - i);
  if (stream) hwy::FlushStream();
}

template <class T, std::size_t... I>
UnaryKernel<T> unary_entry(std::size_t fn, std::index_sequence<I...>) noexcept {
  static constexpr std::array<UnaryKernel<T>, sizeof...(I)> kTable = {&unary_loop<static_cast<UnaryFn>(I), T>...};
  return kTable[fn];
}
UnaryKernel<float> unary_float(UnaryFn fn) {
  return unary_entry<float>(static_cast<std::size_t>(fn), std::make_index_sequence<functor::kUnaryFnCount>{});
}
UnaryKernel<double> unary_double(UnaryFn fn) {
  return unary_entry<double>(static_cast<std::size_t>(fn), std::make_index_sequence<functor::kUnaryFnCount>{});
}

template <PredicateFn kFn, class T>
void predicate_loop(const T* x, std::uint8_t* y, std::int64_t n) noexcept {
  const hn::ScalableTag<T> d;
  const hn::Rebind<std::uint8_t, decltype(d)> d8;
  const std::size_t lanes = hn::Lanes(d);
  const std::size_t count = static_cast<std::size_t>(n);
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    hn::StoreU(mask_to_bytes(d, HWY_NAMESPACE::predicate<kFn>(d, hn::LoadU(d, x + i))), d8, y + i);
  }
  if (i < count) {
    store_first(d8, mask_to_bytes(d, HWY_NAMESPACE::predicate<kFn>(d, load_first(d, x + i, count - i))), y + i,
                count - i);
  }
}

template <class T, std::size_t... I>
PredicateKernel<T> predicate_entry(std::size_t fn, std::index_sequence<I...>) noexcept {
  static constexpr std::array<PredicateKernel<T>, sizeof...(I)> kTable = {
      &predicate_loop<static_cast<PredicateFn>(I), T>...};
  return kTable[fn];
}
PredicateKernel<float> predicate_float(PredicateFn fn) {
  return predicate_entry<float>(static_cast<std::size_t>(fn), std::make_index_sequence<functor::kPredicateFnCount>{});
}
PredicateKernel<double> predicate_double(PredicateFn fn) {
  return predicate_entry<double>(static_cast<std::size_t>(fn), std::make_index_sequence<functor::kPredicateFnCount>{});
}

}  // namespace solvent::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace solvent::cpu {

HWY_EXPORT(unary_float);
HWY_EXPORT(unary_double);
HWY_EXPORT(predicate_float);
HWY_EXPORT(predicate_double);

template <>
UnaryKernel<float> unary_kernel(UnaryFn fn) noexcept {
  return HWY_DYNAMIC_DISPATCH(unary_float)(fn);
}
template <>
UnaryKernel<double> unary_kernel(UnaryFn fn) noexcept {
  return HWY_DYNAMIC_DISPATCH(unary_double)(fn);
}
template <>
PredicateKernel<float> predicate_kernel(PredicateFn fn) noexcept {
  return HWY_DYNAMIC_DISPATCH(predicate_float)(fn);
}
template <>
PredicateKernel<double> predicate_kernel(PredicateFn fn) noexcept {
  return HWY_DYNAMIC_DISPATCH(predicate_double)(fn);
}

template <class T>
void unary(UnaryFn fn, const T* x, T* y, std::int64_t n, functor::Params p) noexcept {
  const UnaryKernel<T> kernel = unary_kernel<T>(fn);
  const KernelParams params{p, x != y && worth_streaming(y, n)};
  parallel_for(n, kElementwiseGrain,
               [=](std::int64_t begin, std::int64_t end) { kernel(x + begin, y + begin, end - begin, params); });
}

template <class T>
void predicate(PredicateFn fn, const T* x, std::uint8_t* y, std::int64_t n) noexcept {
  const PredicateKernel<T> kernel = predicate_kernel<T>(fn);
  parallel_for(n, kElementwiseGrain,
               [=](std::int64_t begin, std::int64_t end) { kernel(x + begin, y + begin, end - begin); });
}

template void unary(UnaryFn, const float*, float*, std::int64_t, functor::Params) noexcept;
template void unary(UnaryFn, const double*, double*, std::int64_t, functor::Params) noexcept;
template void predicate(PredicateFn, const float*, std::uint8_t*, std::int64_t) noexcept;
template void predicate(PredicateFn, const double*, std::uint8_t*, std::int64_t) noexcept;

}  // namespace solvent::cpu
#endif  // HWY_ONCE
