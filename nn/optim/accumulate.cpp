#include "solvent/nn/optim/accumulate.h"

#include <cmath>

#include <fmt/format.h>

#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/ops/elementwise.h"

namespace solvent::nn {

GradientAccumulator::GradientAccumulator(Module& module) {
  for (const auto& [name, slot] : module.named_parameters()) {
    names_.push_back(name);
    sums_.emplace_back(zeros_like(slot->value()));
  }
  count_ = Buffer(from_vector<std::int64_t>({0}, {}));
  weight_ = Buffer(scalar(0.0, float64));
}

std::int64_t GradientAccumulator::count() const { return count_.value().to_vector<std::int64_t>()[0]; }

void GradientAccumulator::add(const Tensors& grads, double weight) {
  if (!(weight > 0) || !std::isfinite(weight))
    throw ValueError(fmt::format("[GradientAccumulator] got weight {}; expected a finite number > 0.", weight));
  if (grads.size() != sums_.size())
    throw ShapeError(fmt::format("[GradientAccumulator] got {} gradients; expected {}, one per parameter.",
                                 grads.size(), sums_.size()));
  for (std::size_t i = 0; i < grads.size(); ++i) {
    const Tensor& sum = sums_[i].value();
    if (!grads[i].defined() || grads[i].shape() != sum.shape())
      throw ShapeError(fmt::format("[GradientAccumulator] gradient {} of {} is {}; expected {}.", i, names_[i],
                                   grads[i].defined() ? describe(grads[i]) : "an empty handle", describe(sum)));
    if (grads[i].dtype() != sum.dtype())
      throw DtypeError(fmt::format("[GradientAccumulator] gradient {} of {} is {}; expected {}. Use cast.", i,
                                   names_[i], describe(grads[i]), describe(sum)));
    if (engine::is_boxed(grads[i]))
      throw AutodiffError(
          fmt::format("[GradientAccumulator] gradient {} is being differentiated; add outside the transform.", i));
  }
  const bool first = count() == 0;
  Tensors next;
  for (std::size_t i = 0; i < grads.size(); ++i) {
    Tensor weighted = weight == 1.0 ? grads[i] : grads[i] * weight;
    next.push_back(first ? std::move(weighted) : sums_[i].value() + std::move(weighted));
  }
  Tensor total = scalar(weight_.value().item() + weight, float64);
  Tensor count_after = from_vector<std::int64_t>({count() + 1}, {});
  for (std::size_t i = 0; i < next.size(); ++i) sums_[i].assign(next[i]);
  weight_.assign(total);
  count_.assign(count_after);
}

Tensors GradientAccumulator::take_sum() {
  if (count() == 0) throw ValueError("[GradientAccumulator] nothing to take; call add first.");
  Tensors result;
  for (const Buffer& sum : sums_) result.push_back(sum.value());
  Tensors fresh;
  for (const Tensor& sum : result) fresh.push_back(zeros_like(sum));
  for (std::size_t i = 0; i < fresh.size(); ++i) sums_[i].assign(fresh[i]);
  weight_.assign(scalar(0.0, float64));
  count_.assign(from_vector<std::int64_t>({0}, {}));
  return result;
}

Tensors GradientAccumulator::take_mean() {
  const double total = weight_.value().item();
  Tensors result = take_sum();
  for (Tensor& g : result) g = std::move(g) / total;
  return result;
}

void GradientAccumulator::visit(Visitor& visitor) {
  visitor("count", count_);
  visitor("weight", weight_);
  for (std::size_t i = 0; i < sums_.size(); ++i) visitor("sum." + names_[i], sums_[i]);
}

}  // namespace solvent::nn
