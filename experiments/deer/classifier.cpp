#include "solvent/experiments/deer/classifier.h"

#include <algorithm>

#include "solvent/core/error.h"
#include "solvent/ops/ops.h"

namespace solvent::experiments {

namespace {

nn::MlpOptions relu_mlp() { return {.activation = nn::Activation::relu, .init = nn::WeightInit::he_uniform}; }

}  // namespace

Tensor RecurrenceSolver::operator()(const nn::GruCell& cell, const Tensor& xs) const {
  const Tensor h0 = zeros({xs.size(1), cell.state_size()}, {xs.dtype(), xs.device()});
  if (std::holds_alternative<solvers::Sequential>(method)) {
    const Tensors t = cell.theta();
    return gru_sequence(xs, h0, t[0], t[1], t[2], t[3]);
  }
  const solvers::Solution s = solve_sequence(cell.functions(), h0, xs, method, options);
  max_steps = std::max(max_steps, s.stats.steps);
  max_residual = std::max(max_residual, s.stats.residual);
  return s.value;
}

solvers::SequenceMethod parse_method(const std::string& name, std::int64_t window_or_chunk) {
  if (name == "sequential") return solvers::Sequential{};
  if (name == "deer") return solvers::Deer{.window = window_or_chunk};
  if (name == "quasi-deer")
    return solvers::Deer{.jacobian = solvers::JacobianKind::diagonal, .window = window_or_chunk};
  if (name == "shooting") return solvers::Shooting{.chunk = window_or_chunk};
  throw ValueError("[method] got \"" + name + "\"; expected sequential, deer, quasi-deer or shooting.");
}

RecurrentBlock::RecurrentBlock(std::int64_t hidden, Key key)
    : gru(hidden, hidden, key.fold_in(0), {.init = nn::RecurrentInit::flax}),
      mlp({hidden, hidden, hidden}, key.fold_in(1), relu_mlp()) {}

Tensor RecurrentBlock::operator()(const Tensor& x, const RecurrenceSolver& solve) const {
  const Tensor u = layer_norm(x);
  const Tensor v = layer_norm(solve(gru, u) + u);
  return mlp(v) + v;
}

void RecurrentBlock::visit(nn::Visitor& visitor) {
  visitor("gru", gru);
  visitor("mlp", mlp);
}

SequenceClassifier::SequenceClassifier(const ClassifierSizes& sizes, Key key)
    : encoder({sizes.channels, sizes.hidden, sizes.hidden}, key.fold_in(0), relu_mlp()),
      head({sizes.hidden, sizes.hidden, sizes.classes}, key.fold_in(1), relu_mlp()) {
  for (std::int64_t i = 0; i < sizes.layers; ++i)
    blocks.emplace_back(sizes.hidden, key.fold_in(static_cast<std::uint64_t>(2 + i)));
}

Tensor SequenceClassifier::operator()(const Tensor& xs, const Tensor& time_weights,
                                      const RecurrenceSolver& solve) const {
  Tensor x = encoder(xs);
  for (const RecurrentBlock& block : blocks) x = block(x, solve);
  return sum(head(x) * time_weights, {0});
}

void SequenceClassifier::visit(nn::Visitor& visitor) {
  visitor("encoder", encoder);
  visitor("blocks", blocks);
  visitor("head", head);
}

}  // namespace solvent::experiments
