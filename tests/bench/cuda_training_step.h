#pragma once
/// The training steps of the GPU's benchmarks.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <utility>
#include <vector>

#include "solvent/autodiff/transforms.h"
#include "solvent/nn/nn.h"
#include "solvent/ops/ops.h"

namespace solvent::bench {

inline constexpr double kRate = 1e-3, kMomentum = 0.9;
inline constexpr std::int64_t kClasses = 10;

/// Five GRU layers over xs (T, B, 1), the mean of the last one's states over time, a linear layer.
class GruNet : public nn::Module {
 public:
  explicit GruNet(Key key) : head(32, kClasses, key.fold_in(100)) {
    for (std::uint64_t i = 0; i < 5; ++i) layers.emplace_back(i == 0 ? 1 : 32, 32, key.fold_in(i));
  }

  Tensor operator()(const Tensor& xs) const {
    Tensor h = xs;
    for (const nn::Gru& layer : layers) h = layer(h);
    return head(mean(h, {0}));
  }
  void visit(nn::Visitor& visitor) override {
    visitor("layers", layers);
    visitor("head", head);
  }

  std::vector<nn::Gru> layers;
  nn::Linear head;
};

using LossFn = std::function<Tensor(const Tensors& parameters)>;

/// The step as a function of (parameters, velocities): the new ones, and the loss at the end.
struct Step {
  LossFn loss;
  std::size_t count = 0;

  Tensors operator()(const Tensors& state) const {
    const Tensors parameters(state.begin(), state.begin() + static_cast<std::ptrdiff_t>(count));
    const ValueAndGrad r = value_and_grad(loss, parameters);
    Tensors velocities(state.begin() + static_cast<std::ptrdiff_t>(count), state.end());
    nn::SgdStep step =
        nn::sgd_step(parameters, std::move(velocities), r.grads, {.learning_rate = kRate, .momentum = kMomentum});
    Tensors next = std::move(step.parameters);
    std::move(step.velocities.begin(), step.velocities.end(), std::back_inserter(next));
    next.push_back(r.value);
    return next;
  }
};

/// The step of cross entropy of model(x).
template <class Model>
Step step_of(const Model& model, const Tensor& x, const Tensor& labels) {
  const auto bound = nn::bind(model);
  return {[=](const Tensors& p) { return cross_entropy(bound(p, {x})[0], labels); }, model.parameter_values().size()};
}

/// A copy whose parameters live on `device`.
template <class Model>
Model on_device(Model model, Device device) {
  for (nn::Parameter* slot : model.parameters()) *slot = nn::Parameter(to(slot->value(), device));
  return model;
}

}  // namespace solvent::bench
