// Linear systems on the CPU: blocked right-looking LU with partial pivoting on row-major matrices, then forward and back
// substitution on all right-hand sides of a matrix together.
//
// Work 2/3 n^3 + 2 n^2 k per matrix; for n > kBlock almost all of it in GEMM. Batches of matrices up to kBlock run one
// matrix per task; larger matrices run one after the other, each with a threaded GEMM (never a GEMM inside a parallel
// region). Either way each matrix is factored by the same sequence of operations, so bits do not depend on threads.
// Own code instead of LAPACK: the systems of the solvers are many and small, right-hand sides are row-major, and the build
// without BLAS needs it anyway.

#include "solvent/ops/cpu/linalg_kernels.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "solvent/core/engine/gemm.h"
#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/cpu/lu.h"
#include "solvent/ops/cpu/system_plan.h"

namespace solvent::cpu {
namespace {

constexpr std::int64_t kBlock = 48;

// Factors rows [j0, n) of columns [j0, j1), swapping whole rows. Returns the column of a zero pivot or -1.
template <class T>
std::int64_t factor_panel(T* a, std::int64_t n, std::int64_t j0, std::int64_t j1, std::int64_t* pivots) noexcept {
  for (std::int64_t j = j0; j < j1; ++j) {
    std::int64_t p = j;
    for (std::int64_t i = j + 1; i < n; ++i)
      if (std::abs(a[i * n + j]) > std::abs(a[p * n + j])) p = i;
    pivots[j] = p;
    if (p != j) std::swap_ranges(a + j * n, a + (j + 1) * n, a + p * n);
    const T pivot = a[j * n + j];
    if (pivot == T(0)) return j;
    for (std::int64_t i = j + 1; i < n; ++i) {
      T* row = a + i * n;
      const T factor = row[j] /= pivot;
      const T* top = a + j * n;
      for (std::int64_t c = j + 1; c < j1; ++c) row[c] -= factor * top[c];
    }
  }
  return -1;
}

}  // namespace

template <class T>
std::int64_t lu_factor(T* a, std::int64_t n, std::int64_t* pivots) noexcept {
  for (std::int64_t j0 = 0; j0 < n; j0 += kBlock) {
    const std::int64_t j1 = std::min(j0 + kBlock, n);
    if (const std::int64_t zero = factor_panel(a, n, j0, j1, pivots); zero >= 0) return zero;
    if (j1 == n) break;
    // U12 = L11^-1 A12, then A22 -= L21 U12.
    for (std::int64_t i = j0 + 1; i < j1; ++i)
      for (std::int64_t j = j0; j < i; ++j) {
        const T factor_ij = a[i * n + j];
        for (std::int64_t c = j1; c < n; ++c) a[i * n + c] -= factor_ij * a[j * n + c];
      }
    engine::gemm<T>(false, false, n - j1, n - j1, j1 - j0, T(-1), a + j1 * n + j0, n, a + j0 * n + j1, n, T(1),
                    a + j1 * n + j1, n);
  }
  return -1;
}

template <class T>
void lu_substitute(const T* lu, std::int64_t n, const std::int64_t* pivots, T* x, std::int64_t k) noexcept {
  for (std::int64_t i = 0; i < n; ++i)
    if (pivots[i] != i) std::swap_ranges(x + i * k, x + (i + 1) * k, x + pivots[i] * k);
  const auto subtract = [&](std::int64_t i, std::int64_t j) {  // row i -= lu[i, j] * row j
    const T f = lu[i * n + j];
    for (std::int64_t c = 0; c < k; ++c) x[i * k + c] -= f * x[j * k + c];
  };
  for (std::int64_t i0 = 0; i0 < n; i0 += kBlock) {
    const std::int64_t i1 = std::min(i0 + kBlock, n);
    if (i0 > 0) engine::gemm<T>(false, false, i1 - i0, k, i0, T(-1), lu + i0 * n, n, x, k, T(1), x + i0 * k, k);
    for (std::int64_t i = i0 + 1; i < i1; ++i)
      for (std::int64_t j = i0; j < i; ++j) subtract(i, j);
  }
  for (std::int64_t i1 = n; i1 > 0;) {
    const std::int64_t i0 = (i1 - 1) / kBlock * kBlock;
    if (i1 < n)
      engine::gemm<T>(false, false, i1 - i0, k, n - i1, T(-1), lu + i0 * n + i1, n, x + i1 * k, k, T(1), x + i0 * k, k);
    for (std::int64_t i = i1 - 1; i >= i0; --i) {
      for (std::int64_t j = i + 1; j < i1; ++j) subtract(i, j);
      const T pivot = lu[i * n + i];
      for (std::int64_t c = 0; c < k; ++c) x[i * k + c] /= pivot;
    }
    i1 = i0;
  }
}

template std::int64_t lu_factor(float*, std::int64_t, std::int64_t*) noexcept;
template std::int64_t lu_factor(double*, std::int64_t, std::int64_t*) noexcept;
template void lu_substitute(const float*, std::int64_t, const std::int64_t*, float*, std::int64_t) noexcept;
template void lu_substitute(const double*, std::int64_t, const std::int64_t*, double*, std::int64_t) noexcept;

namespace {

[[noreturn]] void throw_singular(const char* op, std::int64_t matrix, std::int64_t count, std::int64_t pivot) {
  throw ValueError(
      fmt::format("[{}] matrix {} of {} is singular: pivot {} is exactly 0; expected an invertible matrix. "
                  "Check it for equal or zero rows, or add a multiple of the identity.",
                  op, matrix, count, pivot));
}

template <class T>
void run(const char* op, SystemPlan& plan, std::int64_t n) {
  Tensor pivots = engine::empty({plan.count, n}, DType::int64);
  Tensor failures = engine::empty({plan.count}, DType::int64);
  T* a = engine::mutable_ptr<T>(plan.matrices);
  T* x = engine::mutable_ptr<T>(plan.rhs);
  auto* pivot = engine::mutable_ptr<std::int64_t>(pivots);
  auto* failed = engine::mutable_ptr<std::int64_t>(failures);
  const auto solve_range = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      failed[i] = lu_factor(a + i * n * n, n, pivot + i * n);
      if (failed[i] < 0) lu_substitute(a + i * n * n, n, pivot + i * n, x + i * n * plan.columns, plan.columns);
    }
  };
  if (n <= kBlock) {
    const std::int64_t flops = n * n * n + 2 * n * n * plan.columns;
    parallel_for(plan.count, std::max<std::int64_t>(1, (1 << 16) / std::max<std::int64_t>(flops, 1)), solve_range);
  } else {
    solve_range(0, plan.count);
  }
  for (std::int64_t i = 0; i < plan.count; ++i)
    if (failed[i] >= 0) throw_singular(op, i, plan.count, failed[i]);
}

// Products of the pivots of `count` matrices (destroyed): either as such, or sign and logarithm.
template <class T>
void determinants(T* a, std::int64_t n, std::int64_t count, T* det, T* sign, T* log_abs) {
  Tensor pivots = engine::empty({count, n}, DType::int64);
  auto* pivot = engine::mutable_ptr<std::int64_t>(pivots);
  const auto range = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      T* lu = a + i * n * n;
      std::int64_t* p = pivot + i * n;
      const bool singular = lu_factor(lu, n, p) >= 0;
      T product = singular ? T(0) : T(1);
      T s = product;
      T sum = singular ? -std::numeric_limits<T>::infinity() : T(0);
      for (std::int64_t j = 0; !singular && j < n; ++j) {
        const T u = p[j] != j ? -lu[j * n + j] : lu[j * n + j];
        product *= u;
        if (u < T(0)) s = -s;
        sum += std::log(std::abs(u));
      }
      if (det != nullptr) det[i] = product;
      if (sign != nullptr) sign[i] = std::isnan(sum) ? sum : s;
      if (log_abs != nullptr) log_abs[i] = sum;
    }
  };
  if (n <= kBlock) {
    parallel_for(count, std::max<std::int64_t>(1, (1 << 16) / std::max<std::int64_t>(n * n * n, 1)), range);
  } else {
    range(0, count);
  }
}

// `logarithm`: {sign, log|det|}; else {det}.
TensorVec determinant_of(const Tensor& a, bool logarithm) {
  Shape lead = a.shape();
  lead.pop_back();
  lead.pop_back();
  Tensor first = engine::empty(lead, a.dtype(), a.device());
  Tensor second = logarithm ? engine::empty(lead, a.dtype(), a.device()) : Tensor();
  Tensor copy = engine::empty(a.shape(), a.dtype(), a.device());
  engine::copy_into(a, copy);
  dispatch_float(a.dtype(), "det", [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* one = engine::mutable_ptr<T>(first);
    T* two = logarithm ? engine::mutable_ptr<T>(second) : nullptr;
    determinants<T>(engine::mutable_ptr<T>(copy), a.shape().back(), lead.product(), logarithm ? nullptr : one,
                    logarithm ? one : nullptr, two);
  });
  if (!logarithm) return first;
  return {std::move(first), std::move(second)};
}

}  // namespace

TensorVec slogdet(const Tensor& a) { return determinant_of(a, true); }
Tensor det(const Tensor& a) { return std::move(determinant_of(a, false)[0]); }

Tensor solve(const Tensor& a, const Tensor& b, const char* op) {
  if (b.numel() == 0) return engine::empty(b.shape(), b.dtype(), b.device());
  SystemPlan plan = plan_systems(a, b);
  dispatch_float(a.dtype(), op, [&](auto tag) { run<typename decltype(tag)::type>(op, plan, a.shape().back()); });
  return engine::view(plan.rhs, b.shape(), plan.result, 0);
}

}  // namespace solvent::cpu
