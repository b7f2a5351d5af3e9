// Cholesky, triangular systems and QR of batches: memory, strides, threads and errors around the kernels of
// factor_core.cpp. One matrix per task (its GEMMs then run on that thread); a lone matrix uses all threads inside.

#include <algorithm>
#include <utility>

#include "solvent/core/engine/view.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/cpu/factor_kernels.h"
#include "solvent/ops/cpu/matrix_batch.h"
#include "solvent/ops/cpu/system_plan.h"
#include "solvent/ops/matrix_errors.h"

namespace solvent::cpu {
namespace {

// Calls one(i) -> failing pivot or -1 for every matrix, and refuse(matrix, pivot) for the first that failed.
template <class One, class Refuse>
void for_matrices(std::int64_t count, std::int64_t flops, const One& one, const Refuse& refuse) {
  Tensor failures = engine::empty({count}, DType::int64);
  auto* failed = engine::mutable_ptr<std::int64_t>(failures);
  parallel_for(count, grain_for(flops), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) failed[i] = one(i);
  });
  for (std::int64_t i = 0; i < count; ++i)
    if (failed[i] >= 0) refuse(i, failed[i]);
}

// a <- (a + a^T) / 2, lower triangle, in tiles: the other triangle is read down its columns.
template <class T>
void average_lower(T* a, std::int64_t n) noexcept {
  constexpr std::int64_t kTile = 32;
  parallel_for(n, kTile, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t left = 0; left < end; left += kTile)
      for (std::int64_t i = begin; i < end; ++i)
        for (std::int64_t j = left; j < std::min(i, left + kTile); ++j)
          a[i * n + j] = (a[i * n + j] + a[j * n + i]) * T(0.5);
  });
}

}  // namespace

namespace {

// Up to this size matrices go side by side into lanes (tests/bench/factor_bench.cpp).
constexpr std::int64_t kLaneMatrix = 32;

// `count` matrices in dense memory; failed[i]: the pivot that is not positive, or -1.
template <class T>
void cholesky_batch(T* data, std::int64_t n, std::int64_t count, std::int64_t* failed) {
  const FactorKernels<T>& kernels = factor_kernels(T{});
  if (n > kLaneMatrix) {
    parallel_for(count, grain_for(n * n * n / 3), [=, &kernels](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        average_lower(data + i * n * n, n);
        failed[i] = kernels.cholesky(data + i * n * n, n);
      }
    });
    return;
  }
  const std::int64_t lanes = kernels.lanes;
  const Tasks tasks((count + lanes - 1) / lanes, n * n * (n + 8) / 3 * 4);
  Tensor work = engine::empty({tasks.number, n * n * lanes}, dtype_of<T>);
  T* memory = engine::mutable_ptr<T>(work);
  tasks.run([=, &kernels](std::int64_t task, std::int64_t group) {
    const std::int64_t first = group * lanes;
    kernels.cholesky_lanes(data + first * n * n, n, std::min(lanes, count - first), failed + first,
                           memory + task * n * n * lanes);
  });
}

}  // namespace

Tensor cholesky(const Tensor& a) {
  Tensor factor = dense_copy(a);
  if (a.numel() == 0) return factor;
  const std::int64_t count = matrix_count(a);
  Tensor failures = engine::empty({count}, DType::int64);
  auto* failed = engine::mutable_ptr<std::int64_t>(failures);
  dispatch_float(a.dtype(), "cholesky", [&](auto tag) {
    using T = typename decltype(tag)::type;
    cholesky_batch(engine::mutable_ptr<T>(factor), a.size(-1), count, failed);
  });
  for (std::int64_t i = 0; i < count; ++i)
    if (failed[i] >= 0) detail::throw_not_positive(i, count, failed[i]);
  return factor;
}

Tensor triangular_solve(const Tensor& a, const Tensor& b, bool upper, bool unit) {
  if (b.numel() == 0) return engine::empty(b.shape(), b.dtype(), b.device());
  SystemPlan plan = plan_systems(a, b);
  const std::int64_t n = a.size(-1);
  dispatch_float(a.dtype(), "triangular_solve", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* matrices = engine::ptr<T>(plan.matrices);
    T* x = engine::mutable_ptr<T>(plan.rhs);
    const FactorKernels<T>& kernels = factor_kernels(T{});
    for_matrices(
        plan.count, n * n * plan.columns,
        [=, &kernels, k = plan.columns](std::int64_t i) {
          return kernels.triangular_solve(matrices + i * n * n, n, upper, unit, x + i * n * k, k);
        },
        [count = plan.count](std::int64_t matrix, std::int64_t pivot) {
          detail::throw_zero_diagonal(matrix, count, pivot);
        });
  });
  return engine::view(plan.rhs, b.shape(), plan.result, 0);
}

TensorVec qr(const Tensor& a) {
  const std::int64_t m = a.size(-2);
  const std::int64_t n = a.size(-1);
  Shape square = a.shape();
  square[a.rank() - 2] = n;
  Tensor q = engine::empty(a.shape(), a.dtype(), a.device());
  Tensor r = engine::empty(square, a.dtype(), a.device());
  if (a.numel() == 0) return {std::move(q), std::move(r)};
  Tensor copy = dense_copy(a);
  const std::int64_t count = matrix_count(a);
  const Tasks tasks(count, 4 * m * n * n);
  dispatch_float(a.dtype(), "qr", [&](auto tag) {
    using T = typename decltype(tag)::type;
    Tensor work = engine::empty({tasks.number, qr_work(m, n)}, a.dtype(), a.device());
    T* in = engine::mutable_ptr<T>(copy);
    T* to_q = engine::mutable_ptr<T>(q);
    T* to_r = engine::mutable_ptr<T>(r);
    T* scratch = engine::mutable_ptr<T>(work);
    const FactorKernels<T>& kernels = factor_kernels(T{});
    tasks.run([=, &kernels](std::int64_t task, std::int64_t i) {
      kernels.qr(in + i * m * n, m, n, to_q + i * m * n, to_r + i * n * n, scratch + task * qr_work(m, n));
    });
  });
  return {std::move(q), std::move(r)};
}

}  // namespace solvent::cpu
