// Elementwise functions of two arrays, comparisons, logic and selection.
//
// Decomposition: blocks of kElementwiseGrain elements; inside, one vector per turn and a masked end. An operand with stride
// 0 is read from a vector filled with its value that does not advance, so one loop serves all cases without a branch.
// Traffic: each operand read once, one write; large outputs that are no input are written past the caches.
// Deterministic: every element is computed from its inputs alone.

#include "solvent/ops/cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "solvent/ops/cpu/binary_kernels.cpp"
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

/// An operand as a sequence of vectors: an array, or one value repeated. `repeated` is room for a vector.
template <class T>
struct Operand {
  const T* p;
  std::size_t step;
};
template <class D, class T = hn::TFromD<D>>
HWY_INLINE Operand<T> operand(D d, const T* p, std::int64_t stride, T* repeated) {
  if (stride != 0) return {p, hn::Lanes(d)};
  hn::Store(hn::Set(d, *p), d, repeated);
  return {repeated, 0};
}

template <BinaryFn kFn, class T>
void binary_loop(const T* a, std::int64_t stride_a, const T* b, std::int64_t stride_b, T* y, std::int64_t n,
                 KernelParams p) noexcept {
  const hn::ScalableTag<T> d;
  const std::size_t lanes = hn::Lanes(d);
  const std::size_t count = static_cast<std::size_t>(n);
  const auto pa = hn::Set(d, static_cast<T>(p.a));
  const auto pb = hn::Set(d, static_cast<T>(p.b));
  const bool stream = p.stream;
  if (count == 0) return;  // a repeated operand is read once in any case
  HWY_ALIGN T repeated_a[hn::MaxLanes(d)];
  HWY_ALIGN T repeated_b[hn::MaxLanes(d)];
  auto [at_a, step_a] = operand(d, a, stride_a, repeated_a);
  auto [at_b, step_b] = operand(d, b, stride_b, repeated_b);
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes, at_a += step_a, at_b += step_b) {
    const auto v = HWY_NAMESPACE::binary<kFn>(d, hn::LoadU(d, at_a), hn::LoadU(d, at_b), pa, pb);
    if (stream) {
      hn::Stream(v, d, y + i);
    } else {
      hn::StoreU(v, d, y + i);
    }
  }
  if (i < count) {
    const auto va = load_first(d, at_a, count - i);
    const auto vb = load_first(d, at_b, count - i);
    store_first(d, HWY_NAMESPACE::binary<kFn>(d, va, vb, pa, pb), y + i, count - i);
  }
  if (stream) hwy::FlushStream();
}

template <class T, std::size_t... I>
BinaryKernel<T> binary_entry(std::size_t fn, std::index_sequence<I...>) noexcept {
  static constexpr std::array<BinaryKernel<T>, sizeof...(I)> kTable = {&binary_loop<static_cast<BinaryFn>(I), T>...};
  return kTable[fn];
}
BinaryKernel<float> binary_float(BinaryFn fn) {
  return binary_entry<float>(static_cast<std::size_t>(fn), std::make_index_sequence<functor::kBinaryFnCount>{});
}
BinaryKernel<double> binary_double(BinaryFn fn) {
  return binary_entry<double>(static_cast<std::size_t>(fn), std::make_index_sequence<functor::kBinaryFnCount>{});
}

template <CompareFn kFn, class T>
void compare_loop(const T* a, std::int64_t stride_a, const T* b, std::int64_t stride_b, std::uint8_t* y,
                  std::int64_t n) noexcept {
  const hn::ScalableTag<T> d;
  const hn::Rebind<std::uint8_t, decltype(d)> d8;
  const std::size_t lanes = hn::Lanes(d);
  const std::size_t count = static_cast<std::size_t>(n);
  if (count == 0) return;
  HWY_ALIGN T repeated_a[hn::MaxLanes(d)];
  HWY_ALIGN T repeated_b[hn::MaxLanes(d)];
  auto [at_a, step_a] = operand(d, a, stride_a, repeated_a);
  auto [at_b, step_b] = operand(d, b, stride_b, repeated_b);
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes, at_a += step_a, at_b += step_b) {
    const auto mask = HWY_NAMESPACE::compare<kFn>(hn::LoadU(d, at_a), hn::LoadU(d, at_b));
    hn::StoreU(mask_to_bytes(d, mask), d8, y + i);
  }
  if (i < count) {
    const auto va = load_first(d, at_a, count - i);
    const auto mask = HWY_NAMESPACE::compare<kFn>(va, load_first(d, at_b, count - i));
    store_first(d8, mask_to_bytes(d, mask), y + i, count - i);
  }
}

template <class T, std::size_t... I>
CompareKernel<T> compare_entry(std::size_t fn, std::index_sequence<I...>) noexcept {
  static constexpr std::array<CompareKernel<T>, sizeof...(I)> kTable = {&compare_loop<static_cast<CompareFn>(I), T>...};
  return kTable[fn];
}
CompareKernel<float> compare_float(CompareFn fn) {
  return compare_entry<float>(static_cast<std::size_t>(fn), std::make_index_sequence<functor::kCompareFnCount>{});
}
CompareKernel<double> compare_double(CompareFn fn) {
  return compare_entry<double>(static_cast<std::size_t>(fn), std::make_index_sequence<functor::kCompareFnCount>{});
}

/// A byte vector that holds one truth value per lane of D, as a mask of D.
template <class D, class V8>
HWY_INLINE hn::Mask<D> mask_from_bytes(D d, V8 bytes) {
  const hn::Rebind<std::uint32_t, D> d32;
  const auto wide = hn::PromoteTo(d32, bytes);
  if constexpr (sizeof(hn::TFromD<D>) == 4) {
    return hn::RebindMask(d, hn::Ne(wide, hn::Zero(d32)));
  } else {
    const hn::Rebind<std::uint64_t, D> d64;
    return hn::RebindMask(d, hn::Ne(hn::PromoteTo(d64, wide), hn::Zero(d64)));
  }
}

template <class T>
void select_loop(const std::uint8_t* condition, std::int64_t stride_c, const T* a, std::int64_t stride_a, const T* b,
                 std::int64_t stride_b, T* y, std::int64_t n) noexcept {
  const hn::ScalableTag<T> d;
  const hn::Rebind<std::uint8_t, decltype(d)> d8;
  const std::size_t lanes = hn::Lanes(d);
  const std::size_t count = static_cast<std::size_t>(n);
  if (count == 0) return;
  HWY_ALIGN std::uint8_t repeated_c[hn::MaxLanes(d)];
  auto [at_c, step_c] = operand(d8, condition, stride_c, repeated_c);
  HWY_ALIGN T repeated_a[hn::MaxLanes(d)];
  HWY_ALIGN T repeated_b[hn::MaxLanes(d)];
  auto [at_a, step_a] = operand(d, a, stride_a, repeated_a);
  auto [at_b, step_b] = operand(d, b, stride_b, repeated_b);
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes, at_c += step_c, at_a += step_a, at_b += step_b) {
    const auto mask = mask_from_bytes(d, hn::LoadU(d8, at_c));
    hn::StoreU(hn::IfThenElse(mask, hn::LoadU(d, at_a), hn::LoadU(d, at_b)), d, y + i);
  }
  if (i < count) {
    const auto mask = mask_from_bytes(d, load_first(d8, at_c, count - i));
    const auto va = load_first(d, at_a, count - i);
    store_first(d, hn::IfThenElse(mask, va, load_first(d, at_b, count - i)), y + i, count - i);
  }
}
SelectKernel<float> select_float() { return &select_loop<float>; }
SelectKernel<double> select_double() { return &select_loop<double>; }

template <LogicalFn kFn>
void logical_loop(const std::uint8_t* a, std::int64_t stride_a, const std::uint8_t* b, std::int64_t stride_b,
                  std::uint8_t* y, std::int64_t n) noexcept {
  const hn::ScalableTag<std::uint8_t> d;
  const std::size_t lanes = hn::Lanes(d);
  const std::size_t count = static_cast<std::size_t>(n);
  if (count == 0) return;
  const auto apply = [](auto va, auto vb) HWY_ATTR {
    if constexpr (kFn == LogicalFn::logical_and) return hn::And(va, vb);
    if constexpr (kFn == LogicalFn::logical_or) return hn::Or(va, vb);
    if constexpr (kFn == LogicalFn::logical_xor) return hn::Xor(va, vb);
  };
  HWY_ALIGN std::uint8_t repeated_a[hn::MaxLanes(d)];
  HWY_ALIGN std::uint8_t repeated_b[hn::MaxLanes(d)];
  auto [at_a, step_a] = operand(d, a, stride_a, repeated_a);
  auto [at_b, step_b] = operand(d, b, stride_b, repeated_b);
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes, at_a += step_a, at_b += step_b) {
    hn::StoreU(apply(hn::LoadU(d, at_a), hn::LoadU(d, at_b)), d, y + i);
  }
  if (i < count) {
    const auto va = load_first(d, at_a, count - i);
    store_first(d, apply(va, load_first(d, at_b, count - i)), y + i, count - i);
  }
}
template <std::size_t... I>
LogicalKernel logical_entry(std::size_t fn, std::index_sequence<I...>) noexcept {
  static constexpr std::array<LogicalKernel, sizeof...(I)> kTable = {&logical_loop<static_cast<LogicalFn>(I)>...};
  return kTable[fn];
}
LogicalKernel logical_bytes(LogicalFn fn) {
  return logical_entry(static_cast<std::size_t>(fn), std::make_index_sequence<functor::kLogicalFnCount>{});
}

}  // namespace solvent::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace solvent::cpu {

HWY_EXPORT(binary_float);
HWY_EXPORT(binary_double);
HWY_EXPORT(compare_float);
HWY_EXPORT(compare_double);
HWY_EXPORT(select_float);
HWY_EXPORT(select_double);
HWY_EXPORT(logical_bytes);

template <>
BinaryKernel<float> binary_kernel(BinaryFn fn) noexcept {
  return HWY_DYNAMIC_DISPATCH(binary_float)(fn);
}
template <>
BinaryKernel<double> binary_kernel(BinaryFn fn) noexcept {
  return HWY_DYNAMIC_DISPATCH(binary_double)(fn);
}
template <>
CompareKernel<float> compare_kernel(CompareFn fn) noexcept {
  return HWY_DYNAMIC_DISPATCH(compare_float)(fn);
}
template <>
CompareKernel<double> compare_kernel(CompareFn fn) noexcept {
  return HWY_DYNAMIC_DISPATCH(compare_double)(fn);
}
template <>
SelectKernel<float> select_kernel() noexcept {
  return HWY_DYNAMIC_DISPATCH(select_float)();
}
template <>
SelectKernel<double> select_kernel() noexcept {
  return HWY_DYNAMIC_DISPATCH(select_double)();
}
LogicalKernel logical_kernel(LogicalFn fn) noexcept { return HWY_DYNAMIC_DISPATCH(logical_bytes)(fn); }

template <class T>
void binary(BinaryFn fn, const T* a, std::int64_t stride_a, const T* b, std::int64_t stride_b, T* y, std::int64_t n,
            functor::Params p) noexcept {
  const BinaryKernel<T> kernel = binary_kernel<T>(fn);
  const KernelParams params{p, a != y && b != y && worth_streaming(y, n)};
  parallel_for(n, kElementwiseGrain, [=](std::int64_t begin, std::int64_t end) {
    kernel(a + stride_a * begin, stride_a, b + stride_b * begin, stride_b, y + begin, end - begin, params);
  });
}

template <class T>
void compare(CompareFn fn, const T* a, std::int64_t stride_a, const T* b, std::int64_t stride_b, std::uint8_t* y,
             std::int64_t n) noexcept {
  const CompareKernel<T> kernel = compare_kernel<T>(fn);
  parallel_for(n, kElementwiseGrain, [=](std::int64_t begin, std::int64_t end) {
    kernel(a + stride_a * begin, stride_a, b + stride_b * begin, stride_b, y + begin, end - begin);
  });
}

template <class T>
void select(const std::uint8_t* condition, std::int64_t stride_c, const T* a, std::int64_t stride_a, const T* b,
            std::int64_t stride_b, T* y, std::int64_t n) noexcept {
  const SelectKernel<T> kernel = select_kernel<T>();
  parallel_for(n, kElementwiseGrain, [=](std::int64_t begin, std::int64_t end) {
    kernel(condition + stride_c * begin, stride_c, a + stride_a * begin, stride_a, b + stride_b * begin, stride_b,
           y + begin, end - begin);
  });
}

void logical(LogicalFn fn, const std::uint8_t* a, std::int64_t stride_a, const std::uint8_t* b, std::int64_t stride_b,
             std::uint8_t* y, std::int64_t n) noexcept {
  const LogicalKernel kernel = logical_kernel(fn);
  parallel_for(n, 4 * kElementwiseGrain, [=](std::int64_t begin, std::int64_t end) {
    kernel(a + stride_a * begin, stride_a, b + stride_b * begin, stride_b, y + begin, end - begin);
  });
}

void logical_not(const std::uint8_t* x, std::uint8_t* y, std::int64_t n) noexcept {
  const std::uint8_t one = 1;
  logical(LogicalFn::logical_xor, x, 1, &one, 0, y, n);
}

template void binary(BinaryFn, const float*, std::int64_t, const float*, std::int64_t, float*, std::int64_t,
                     functor::Params) noexcept;
template void binary(BinaryFn, const double*, std::int64_t, const double*, std::int64_t, double*, std::int64_t,
                     functor::Params) noexcept;
template void compare(CompareFn, const float*, std::int64_t, const float*, std::int64_t, std::uint8_t*,
                      std::int64_t) noexcept;
template void compare(CompareFn, const double*, std::int64_t, const double*, std::int64_t, std::uint8_t*,
                      std::int64_t) noexcept;
template void select(const std::uint8_t*, std::int64_t, const float*, std::int64_t, const float*, std::int64_t, float*,
                     std::int64_t) noexcept;
template void select(const std::uint8_t*, std::int64_t, const double*, std::int64_t, const double*, std::int64_t,
                     double*, std::int64_t) noexcept;

}  // namespace solvent::cpu
#endif  // HWY_ONCE
