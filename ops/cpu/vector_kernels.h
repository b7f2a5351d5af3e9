#pragma once
/// CPU kernels on raw memory: elementwise functions, reductions and row-wise operations, for float and double.
///
/// Everything here trusts its arguments, knows nothing about tensors or derivatives and never throws (but for memory, where
/// noted). Arrays are contiguous, of any length and alignment; elementwise outputs may be one of the inputs (same start,
/// stride 1) but must not overlap them otherwise. Functions are compiled for several instruction sets and chosen at run time.
///
/// The plain functions (`unary`, `binary`, `reduce`, ...) run in parallel from kElementwiseGrain elements on; the partition
/// depends on sizes only, so results are the same bits for any number of threads. The `*_kernel` look-ups return the serial
/// loops, for callers that iterate over strided outer dimensions or sit in a parallel region. Machines with other vector
/// widths may differ in the last bits of sums.

#include <cstdint>

#include "solvent/core/export.h"
#include "solvent/ops/functors.h"

namespace solvent::cpu {

using functor::BinaryFn;
using functor::CompareFn;
using functor::LogicalFn;
using functor::PredicateFn;
using functor::UnaryFn;

/// Elements per parallel block of elementwise loops; below it no thread is touched.
inline constexpr std::int64_t kElementwiseGrain = 32768;
/// Outputs of at least so many bytes that do not overwrite an input are written past the caches: they would not fit, and a
/// normal store reads each line before writing it.
inline constexpr std::int64_t kStreamBytes = std::int64_t{8} << 20;

/// Scalar attributes of a function and how to store results.
struct KernelParams : functor::Params {
  bool stream = false;  ///< write past the caches; needs an output aligned to 64 bytes
};

/// y[i] = f(x[i])
template <class T>
using UnaryKernel = void (*)(const T* x, T* y, std::int64_t n, KernelParams p) noexcept;
/// y[i] = f(a[i * stride_a], b[i * stride_b]); strides are 0 (one value for all) or 1.
template <class T>
using BinaryKernel = void (*)(const T* a, std::int64_t stride_a, const T* b, std::int64_t stride_b, T* y,
                              std::int64_t n, KernelParams p) noexcept;
/// The same with truth values 0 or 1 as result.
template <class T>
using CompareKernel = void (*)(const T* a, std::int64_t stride_a, const T* b, std::int64_t stride_b, std::uint8_t* y,
                               std::int64_t n) noexcept;
template <class T>
using PredicateKernel = void (*)(const T* x, std::uint8_t* y, std::int64_t n) noexcept;
using LogicalKernel = CompareKernel<std::uint8_t>;
/// y[i] = condition[i * stride_c] ? a[i * stride_a] : b[i * stride_b]; any non-zero byte is true.
template <class T>
using SelectKernel = void (*)(const std::uint8_t* condition, std::int64_t stride_c, const T* a, std::int64_t stride_a,
                              const T* b, std::int64_t stride_b, T* y, std::int64_t n) noexcept;

template <class T>
SOLVENT_API UnaryKernel<T> unary_kernel(UnaryFn fn) noexcept;
template <class T>
SOLVENT_API BinaryKernel<T> binary_kernel(BinaryFn fn) noexcept;
template <class T>
SOLVENT_API CompareKernel<T> compare_kernel(CompareFn fn) noexcept;
template <class T>
SOLVENT_API PredicateKernel<T> predicate_kernel(PredicateFn fn) noexcept;
template <class T>
SOLVENT_API SelectKernel<T> select_kernel() noexcept;
/// Truth values as bytes 0 or 1.
SOLVENT_API LogicalKernel logical_kernel(LogicalFn fn) noexcept;

/// y = f(x), in parallel.
template <class T>
SOLVENT_API void unary(UnaryFn fn, const T* x, T* y, std::int64_t n, functor::Params p = {}) noexcept;
/// y = f(a, b), in parallel; strides 0 or 1.
template <class T>
SOLVENT_API void binary(BinaryFn fn, const T* a, std::int64_t stride_a, const T* b, std::int64_t stride_b, T* y,
                        std::int64_t n, functor::Params p = {}) noexcept;
template <class T>
SOLVENT_API void compare(CompareFn fn, const T* a, std::int64_t stride_a, const T* b, std::int64_t stride_b,
                         std::uint8_t* y, std::int64_t n) noexcept;
template <class T>
SOLVENT_API void predicate(PredicateFn fn, const T* x, std::uint8_t* y, std::int64_t n) noexcept;
template <class T>
SOLVENT_API void select(const std::uint8_t* condition, std::int64_t stride_c, const T* a, std::int64_t stride_a,
                        const T* b, std::int64_t stride_b, T* y, std::int64_t n) noexcept;
SOLVENT_API void logical(LogicalFn fn, const std::uint8_t* a, std::int64_t stride_a, const std::uint8_t* b,
                         std::int64_t stride_b, std::uint8_t* y, std::int64_t n) noexcept;
/// y = 1 - x for truth values.
SOLVENT_API void logical_not(const std::uint8_t* x, std::uint8_t* y, std::int64_t n) noexcept;

// --- reductions -----------------------------------------------------------------------------------------------------------

enum class ReduceFn : std::uint8_t {
  sum,          ///< blocked: error <= about 70 ulp of sum |x| for any length (typically below 2); empty: 0
  sum_squares,  ///< sum of x^2; empty: 0
  prod,         ///< empty: 1
  max,          ///< NaN if any is NaN; empty: -inf
  min,          ///< NaN if any is NaN; empty: +inf
  max_abs,      ///< max |x|, NaN if any is NaN; empty: 0
};
inline constexpr int kReduceFnCount = static_cast<int>(ReduceFn::max_abs) + 1;

/// y[o, i] = reduction over r of x[o, r, i]; x is (outer, n, inner) and y (outer, inner), both contiguous.
/// @throws std::bad_alloc (partial results of large reductions over the outer axis)
template <class T>
SOLVENT_API void reduce(ReduceFn fn, const T* x, std::int64_t outer, std::int64_t n, std::int64_t inner, T* y);

/// Largest (`fn` = max) or smallest (min) element over r of x[o, r, i] and the index of its first occurrence. A NaN wins and
/// its first index is reported. n >= 1. `value` may be null.
template <class T>
SOLVENT_API void reduce_with_index(ReduceFn fn, const T* x, std::int64_t outer, std::int64_t n, std::int64_t inner,
                                   T* value, std::int64_t* index) noexcept;

/// sum of a[i] * b[i], blocked like sum.
template <class T>
SOLVENT_API T dot(const T* a, const T* b, std::int64_t n) noexcept;

// --- rows -------------------------------------------------------------------------------------------------------------------
// x and y are (rows, cols), contiguous; y may be x. A row holding NaN or +inf gives NaN (logsumexp of +inf: +inf).

/// e^x / sum e^x per row; a row of -inf gives NaN.
template <class T>
SOLVENT_API void softmax(const T* x, T* y, std::int64_t rows, std::int64_t cols) noexcept;
/// x - logsumexp(x) per row; a row of -inf gives NaN.
template <class T>
SOLVENT_API void log_softmax(const T* x, T* y, std::int64_t rows, std::int64_t cols) noexcept;
/// log(sum e^x) per row, without overflow; a row of -inf gives -inf. `y` has `rows` elements.
template <class T>
SOLVENT_API void logsumexp(const T* x, T* y, std::int64_t rows, std::int64_t cols) noexcept;
/// Cotangent of softmax from its result: y (g - sum(g y)).
template <class T>
SOLVENT_API void softmax_backward(const T* g, const T* y, T* gx, std::int64_t rows, std::int64_t cols) noexcept;
/// Cotangent of log_softmax from its result: g - e^y sum(g).
template <class T>
SOLVENT_API void log_softmax_backward(const T* g, const T* y, T* gx, std::int64_t rows, std::int64_t cols) noexcept;

// The same along the middle axis of (outer, n, inner), n >= 1; y may be x. Worth more than a transposed copy when `inner` is
// several vectors long.

template <class T>
SOLVENT_API void softmax_along(const T* x, T* y, std::int64_t outer, std::int64_t n, std::int64_t inner) noexcept;
template <class T>
SOLVENT_API void log_softmax_along(const T* x, T* y, std::int64_t outer, std::int64_t n, std::int64_t inner) noexcept;
/// Cotangent of softmax from its result: y (g - sum(g y)).
template <class T>
SOLVENT_API void softmax_backward_along(const T* g, const T* y, T* gx, std::int64_t outer, std::int64_t n,
                                        std::int64_t inner) noexcept;

/// Cross entropy per row: loss[r] = lse[r] - x[r, label[r]] with lse = logsumexp(x[r]). `lse` may be null.
template <class T>
SOLVENT_API void cross_entropy(const T* x, const std::int64_t* label, std::int64_t rows, std::int64_t cols, T* loss,
                               T* lse) noexcept;
/// gx[r, c] = g[r * stride_g] (e^(x[r, c] - lse[r]) - [c == label[r]]).
template <class T>
SOLVENT_API void cross_entropy_backward(const T* g, std::int64_t stride_g, const T* x, const std::int64_t* label,
                                        const T* lse, T* gx, std::int64_t rows, std::int64_t cols) noexcept;

/// Layer normalisation (Ba et al. 2016): y = (x - mean) rstd [* scale + shift] with rstd = 1 / sqrt(var + eps), variance by a
/// second pass. `scale` and `shift` (cols) may be null (both or one), so may the outputs `mean` and `rstd` (rows).
template <class T>
SOLVENT_API void layer_norm(const T* x, const T* scale, const T* shift, double eps, T* y, T* mean, T* rstd,
                            std::int64_t rows, std::int64_t cols) noexcept;
/// Cotangents of layer_norm; `scale`, `gx`, `g_scale` and `g_shift` may be null. gx may be g.
/// @throws std::bad_alloc (partial sums of g_scale and g_shift)
template <class T>
SOLVENT_API void layer_norm_backward(const T* g, const T* x, const T* mean, const T* rstd, const T* scale, T* gx,
                                     T* g_scale, T* g_shift, std::int64_t rows, std::int64_t cols);

}  // namespace solvent::cpu
