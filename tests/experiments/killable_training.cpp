// A small training run that may be killed at any moment: everything a real one carries from step to step (parameters,
// Adam's moments, a schedule, noise keys, the place in the data order, a solver's warm starts per example, metrics) and
// checkpoints every few steps. It goes on from whatever its folder holds.
//
// usage: killable_training FOLDER STEPS      writes FOLDER/result.safetensors at the end

#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "solvent/core/error.h"
#include "solvent/core/io/safetensors.h"
#include "solvent/experiments/common/data/sampler.h"
#include "solvent/experiments/common/run_dir.h"
#include "solvent/nn/nn.h"
#include "solvent/ops/ops.h"
#include "solvent/solvers/sequence.h"

namespace solvent::experiments {
namespace {

constexpr std::int64_t kExamples = 24, kBatch = 4, kLength = 12, kChannels = 2, kHidden = 4;

struct Model : nn::Module {
  nn::GruCell gru{kChannels, kHidden, Key(1)};
  nn::Linear head{kHidden, 1, Key(2)};
  void visit(nn::Visitor& v) override {
    v("gru", gru);
    v("head", head);
  }
};

class Training {
 public:
  explicit Training(const std::string& folder)
      : store_(folder + "/checkpoint"),
        warm_(zeros({kExamples, kLength, kHidden})),
        xs_(normal(Key(3), {kLength, kExamples, kChannels})) {
    if (const auto found = store_.load(parts())) {
      noise_ = found->state.key("noise");
      position_ = found->state.integer("loader position");
      total_loss_ = found->state.number("total loss");
      warm_ = guesses_.at(0).second;
      for (const std::string& warning : found->warnings) std::cerr << warning << '\n';
    }
  }

  [[nodiscard]] std::int64_t steps() const { return adam_.steps(); }

  double step() {
    const std::vector<std::int64_t> batch = sampler_.batch(position_);
    const Tensor index = from_vector<std::int64_t>(batch, {static_cast<std::int64_t>(batch.size())});
    const Tensor xs = index_select(xs_, index, 1) + 0.1 * normal(noise_, {kLength, kBatch, kChannels});
    // Newton starts from the states found when these examples were last seen; with a loose tolerance the result keeps a
    // trace of that start.
    solvers::Options options;
    options.initial_guess = permute(index_select(warm_, index, 0), {1, 0, 2});
    options.termination.atol = 1e-3;
    options.termination.rtol = 0;
    const solvers::Deer method{.fused = false};
    Tensor states;
    const ValueAndGrad r = nn::value_and_grad(model_, [&] {
      const Tensor hs = solve_sequence(model_.gru.functions(), zeros({kBatch, kHidden}), xs, method, options).value;
      states = stop_gradient(hs);
      return mean(square(model_.head(hs) - sum(xs, {-1}, true)));
    });
    warm_ = scatter_rows(batch, permute(states, {1, 0, 2}));
    adam_.set_learning_rate(schedule_(adam_.steps()));
    adam_.step(model_, nn::clip_by_global_norm(r.grads, 1.0).grads);
    noise_ = noise_.fold_in(1);
    ++position_;
    total_loss_ += r.value.item();
    return r.value.item();
  }

  void save() {
    guesses_ = {{"states", warm_}};
    nn::StateValues state;
    state.set("noise", noise_);
    state.set("loader position", position_);
    state.set("total loss", total_loss_);
    store_.save(adam_.steps(), parts(), state);
  }

  void write_result(const std::string& path) {
    nn::StateDict all = model_.state_dict();
    for (const auto& [name, value] : adam_.state_dict()) all.emplace_back("adam." + name, value);
    all.emplace_back("warm", warm_);
    all.emplace_back("total loss", scalar(total_loss_, float64));
    save_safetensors(path, all, {{"noise", std::to_string(noise_.seed) + "," + std::to_string(noise_.stream)}});
  }

 private:
  nn::CheckpointParts parts() {
    return {.modules = {{"model", &model_}}, .optimizers = {{"adam", &adam_}}, .tensors = {{"guesses", &guesses_}}};
  }

  [[nodiscard]] Tensor scatter_rows(const std::vector<std::int64_t>& rows, const Tensor& values) const {
    Tensors all = unstack(warm_, 0);
    const Tensors fresh = unstack(values, 0);
    for (std::size_t i = 0; i < rows.size(); ++i) all[static_cast<std::size_t>(rows[i])] = fresh[i];
    return stack(std::move(all), 0);
  }

  nn::CheckpointStore store_;
  Model model_;
  nn::Adam adam_;
  nn::WarmupCosine schedule_{.peak = 0.02, .warmup_steps = 5, .total_steps = 1000};
  EpochSampler sampler_{{.num_examples = kExamples, .batch_size = kBatch, .seed = 4}};
  Key noise_{5};
  std::int64_t position_ = 0;
  double total_loss_ = 0;
  nn::StateDict guesses_;
  Tensor warm_;  // (example, time, unit)
  Tensor xs_;
};

int run(const std::string& folder, std::int64_t steps) {
  Training training(folder);
  MetricsWriter metrics(folder + "/metrics.csv", {{"loss", ""}}, training.steps());
  while (training.steps() < steps) {
    const double loss = training.step();
    metrics.append(training.steps(), std::vector<double>{loss});
    if (training.steps() % 3 == 0) {
      metrics.sync();
      training.save();
    }
  }
  training.write_result(folder + "/result.safetensors");
  return 0;
}

}  // namespace
}  // namespace solvent::experiments

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: killable_training FOLDER STEPS\n";
    return 2;
  }
  try {
    return solvent::experiments::run(argv[1], std::atol(argv[2]));
  } catch (const std::exception& e) {
    std::cerr << e.what() << '\n';
    return 1;
  }
}
