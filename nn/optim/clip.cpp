#include "solvent/nn/optim/clip.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <fmt/format.h>

#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/core/parallel.h"
#include "solvent/nn/cpu/optim_kernels.h"
#if SOLVENT_WITH_CUDA
#include "solvent/nn/cuda/optim_kernels.h"
#endif
#include "solvent/ops/elementwise.h"

namespace solvent::nn {

namespace {

/// Blocks of kOptimGrain elements, added in order: the same bits for any number of threads.
template <class T>
double sum_of_squares(const Tensor& t) {
  const std::int64_t n = t.numel();
  const T* x = engine::ptr<T>(t);
  std::vector<double> partial(static_cast<std::size_t>((n + cpu::kOptimGrain - 1) / cpu::kOptimGrain));
  parallel_for(n, cpu::kOptimGrain, [&](std::int64_t begin, std::int64_t end) noexcept {
    partial[static_cast<std::size_t>(begin / cpu::kOptimGrain)] = cpu::sum_of_squares(x + begin, end - begin);
  });
  double sum = 0;
  for (const double p : partial) sum += p;
  return sum;
}

/// Of tensors on one GPU: one wait for all of them.
double sum_on_device(const Tensors& tensors) {
#if SOLVENT_WITH_CUDA
  return cuda::sum_of_squares(tensors);
#else
  static_cast<void>(tensors);
  return 0;  // there are no GPUs
#endif
}

}  // namespace

double global_norm(const Tensors& grads) {
  double sum = 0;
  std::vector<Tensors> elsewhere;  // per GPU
  for (std::size_t i = 0; i < grads.size(); ++i) {
    const Tensor& g = grads[i];
    if (!g.defined() || !is_floating(g.dtype()) || is_storage_type(g.dtype()))
      throw DtypeError(fmt::format("[global_norm] gradient {} is {}; expected float32 or float64.", i,
                                   g.defined() ? describe(g) : "an empty handle"));
    if (engine::is_boxed(g))
      throw AutodiffError(
          fmt::format("[global_norm] gradient {} is being differentiated; clip outside the transform, or write "
                      "the norm with sum(square(g)).",
                      i));
    const Tensor dense = engine::contiguous(g);
    if (!(g.device() == cpu_device)) {
      const auto same = [&](const Tensors& list) { return list[0].device() == g.device(); };
      const auto found = std::find_if(elsewhere.begin(), elsewhere.end(), same);
      (found == elsewhere.end() ? elsewhere.emplace_back() : *found).push_back(dense);
      continue;
    }
    sum += g.dtype() == float32 ? sum_of_squares<float>(dense) : sum_of_squares<double>(dense);
  }
  for (const Tensors& list : elsewhere) sum += sum_on_device(list);
  return std::sqrt(sum);
}

namespace {

void check_limit(const char* op, double max_norm, double eps) {
  if (!(max_norm > 0)) throw ValueError(fmt::format("[{}] got max_norm {}; expected a number > 0.", op, max_norm));
  if (!(eps >= 0)) throw ValueError(fmt::format("[{}] got eps {}; expected a number >= 0.", op, eps));
}

/// A factor below 1 scales; NaN reaches the gradients.
bool shortens(double factor) { return factor < 1.0 || std::isnan(factor); }

}  // namespace

ClippedGrads clip_by_global_norm(Tensors grads, double max_norm, double eps) {
  check_limit("clip_by_global_norm", max_norm, eps);
  ClippedGrads result{std::move(grads), 0};
  result.norm = global_norm(result.grads);
  const double factor = max_norm / (result.norm + eps);
  if (shortens(factor))
    for (Tensor& g : result.grads) g = std::move(g) * factor;
  return result;
}

SeparatelyClippedGrads clip_each_by_norm(Tensors grads, double max_norm, double eps) {
  check_limit("clip_each_by_norm", max_norm, eps);
  SeparatelyClippedGrads result{std::move(grads), {}};
  for (Tensor& g : result.grads) {
    const double norm = global_norm({g});
    const double factor = max_norm / (norm + eps);
    if (shortens(factor)) g = std::move(g) * factor;
    result.norms.push_back(norm);
  }
  return result;
}

Tensors clip_by_value(Tensors grads, double limit) {
  if (!(limit > 0)) throw ValueError(fmt::format("[clip_by_value] got limit {}; expected a number > 0.", limit));
  for (Tensor& g : grads) g = clip(std::move(g), -limit, limit);
  return grads;
}

}  // namespace solvent::nn
