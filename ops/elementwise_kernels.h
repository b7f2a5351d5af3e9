#pragma once
/// The kernels of elementwise operations on every kind of device, by function. Internal to ops/.

#include "solvent/autodiff/cuda_kernel.h"
#include "solvent/ops/cpu/elementwise.h"
#include "solvent/ops/rules.h"

#if SOLVENT_WITH_CUDA
#include "solvent/ops/cuda/elementwise.h"
#endif

namespace solvent::detail {

template <functor::UnaryFn kFn>
inline constexpr Kernels unary_kernels{cpu::unary<kFn>, SOLVENT_CUDA_KERNEL(cuda::unary<kFn>)};
template <functor::BinaryFn kFn>
inline constexpr Kernels binary_kernels{cpu::binary<kFn>, SOLVENT_CUDA_KERNEL(cuda::binary<kFn>)};
template <functor::CompareFn kFn>
inline constexpr Kernels compare_kernels{cpu::compare<kFn>, SOLVENT_CUDA_KERNEL(cuda::compare<kFn>)};
template <functor::LogicalFn kFn>
inline constexpr Kernels logical_kernels{cpu::logical<kFn>, SOLVENT_CUDA_KERNEL(cuda::logical<kFn>)};
template <functor::PredicateFn kFn>
inline constexpr Kernels predicate_kernels{cpu::predicate<kFn>, SOLVENT_CUDA_KERNEL(cuda::predicate<kFn>)};

}  // namespace solvent::detail
