// Linear systems and determinants on the CPU: LU of each matrix (factor_core.cpp), then forward and back substitution on
// all its right-hand sides together.
//
// Work 2/3 n^3 + 2 n^2 k per matrix. Small matrices run one per task, large ones one after the other, each with GEMMs on all
// threads. Either way each matrix is factored by the same sequence of operations, so bits do not depend on threads.

#include "solvent/ops/cpu/linalg_kernels.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "solvent/core/engine/view.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/cpu/factor_kernels.h"
#include "solvent/ops/cpu/system_plan.h"
#include "solvent/ops/matrix_errors.h"

namespace solvent::cpu {
namespace {

// Up to this size a batch is split over the threads, one matrix per task; larger ones use all threads inside.
constexpr std::int64_t kBatchedSize = 256;

template <class T>
void run(const char* op, SystemPlan& plan, std::int64_t n) {
  Tensor pivots = engine::empty({plan.count, n}, DType::int64);
  Tensor failures = engine::empty({plan.count}, DType::int64);
  T* a = engine::mutable_ptr<T>(plan.matrices);
  T* x = engine::mutable_ptr<T>(plan.rhs);
  auto* pivot = engine::mutable_ptr<std::int64_t>(pivots);
  auto* failed = engine::mutable_ptr<std::int64_t>(failures);
  const FactorKernels<T>& kernels = factor_kernels(T{});
  const auto solve_range = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      failed[i] = kernels.lu(a + i * n * n, n, pivot + i * n);
      if (failed[i] < 0) kernels.lu_solve(a + i * n * n, n, pivot + i * n, x + i * n * plan.columns, plan.columns);
    }
  };
  if (plan.count > 1 && n <= kBatchedSize) {
    const std::int64_t flops = n * n * n + 2 * n * n * plan.columns;
    parallel_for(plan.count, std::max<std::int64_t>(1, (1 << 16) / std::max<std::int64_t>(flops, 1)), solve_range);
  } else {
    solve_range(0, plan.count);
  }
  for (std::int64_t i = 0; i < plan.count; ++i)
    if (failed[i] >= 0) detail::throw_singular(op, i, plan.count, failed[i]);
}

// Products of the pivots of `count` matrices (destroyed): either as such, or sign and logarithm.
template <class T>
void determinants(T* a, std::int64_t n, std::int64_t count, T* det, T* sign, T* log_abs) {
  Tensor pivots = engine::empty({count, n}, DType::int64);
  auto* pivot = engine::mutable_ptr<std::int64_t>(pivots);
  const FactorKernels<T>& kernels = factor_kernels(T{});
  const auto range = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      T* lu = a + i * n * n;
      std::int64_t* p = pivot + i * n;
      const bool singular = kernels.lu(lu, n, p) >= 0;
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
  if (count > 1 && n <= kBatchedSize) {
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
