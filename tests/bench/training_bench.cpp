// Whole training steps (forward, backward, optimizer) against the same model in libtorch, from the same weights: a
// perceptron on MNIST-like rows, a small convolutional network on CIFAR-like images, and five GRU layers over 1460 steps.

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "solvent/nn/nn.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/bench/compare.h"
#include "solvent/tests/bench/conv_net.h"
#include "solvent/tests/bench/torch_peers.h"

namespace solvent::bench {
namespace {

constexpr double kRate = 1e-3;
constexpr std::int64_t kClasses = 10;

/// GRU layers over xs (T, B, 1), the mean of the last one's states over time, a linear layer.
class GruNet : public nn::Module {
 public:
  GruNet(std::int64_t hidden, int depth, Key key) : head(hidden, kClasses, key.fold_in(100)) {
    for (int i = 0; i < depth; ++i)
      layers.emplace_back(i == 0 ? 1 : hidden, hidden, key.fold_in(static_cast<std::uint64_t>(i)));
  }

  Tensor operator()(const Tensor& xs) const {
    Tensor h = xs;
    for (const nn::Gru& layer : layers) h = layer(h);
    return head(mean(h, {0}));
  }
  void visit(nn::Visitor& visitor) override {
    for (std::size_t i = 0; i < layers.size(); ++i) visitor("layers." + std::to_string(i), layers[i]);
    visitor("head", head);
  }

  std::vector<nn::Gru> layers;
  nn::Linear head;
};

std::vector<std::vector<float>> values_of(nn::Module& model) {
  std::vector<std::vector<float>> values;
  for (const nn::Parameter* slot : model.parameters()) values.push_back(slot->value().to_vector<float>());
  return values;
}

template <class Model>
Row training_row(std::shared_ptr<Model> model, Tensor x, std::unique_ptr<nn::Optimizer> made,
                 const std::string& optimizer_name, torch_peer::TrainingModel kind, double of_torch, int torch_rounds) {
  const std::int64_t batch = kind == torch_peer::TrainingModel::gru ? x.size(1) : x.size(0);
  std::vector<std::int64_t> label_values;
  for (std::int64_t i = 0; i < batch; ++i) label_values.push_back((7 * i + 3) % kClasses);
  const Tensor labels = from_vector(label_values, {batch});
  const torch_peer::Call torch =
      torch_peer::training({kind, optimizer_name, kRate}, values_of(*model), x.data<float>(),
                           std::vector<std::int64_t>(x.shape().begin(), x.shape().end()), label_values);
  std::shared_ptr<nn::Optimizer> optimizer = std::move(made);
  const auto step = [model, optimizer, x, labels] {
    const ValueAndGrad r = nn::value_and_grad(*model, [&] { return cross_entropy((*model)(x), labels); });
    optimizer->step(*model, r.grads);
    return r.value.item();
  };
  Row row;
  row.run = [step] { benchmark::DoNotOptimize(step()); };
  row.rounds = 15;
  row.min_section =
      40e-3;  // steps follow steps: the first one after another program finds the caches full of its tensors
  row.peers = {{.name = "libtorch", .run = torch.run, .at_least = of_torch, .max_rounds = torch_rounds}};
  if (torch.run) {  // three steps of both: the loss sees the optimizer too
    row.error = [=] {
      double error = 0;
      for (int i = 0; i < 3; ++i) error = std::max(error, std::abs(step() - static_cast<double>(torch.result()[0])));
      return error;
    };
    row.tolerance = 1e-4;
  }
  return row;
}

Row mlp_row() {
  auto model = std::make_shared<nn::Mlp>(std::vector<std::int64_t>{784, 512, 512, kClasses}, Key(1));
  return training_row(model, random_normal({128, 784}),
                      std::make_unique<nn::Sgd>(nn::SgdOptions{.learning_rate = kRate, .momentum = 0.9}), "sgd",
                      torch_peer::TrainingModel::mlp, 1.5, 1000);
}

Row cnn_row() {
  return training_row(std::make_shared<ConvNet>(Key(2)), random_normal({64, 3, 32, 32}),
                      std::make_unique<nn::Adam>(nn::AdamOptions{.learning_rate = kRate}), "adam",
                      torch_peer::TrainingModel::cnn, 1.2, 1000);
}

Row gru_row() {
  return training_row(std::make_shared<GruNet>(32, 5, Key(3)), random_normal({1460, 16, 1}),
                      std::make_unique<nn::Adam>(nn::AdamOptions{.learning_rate = kRate}), "adam",
                      torch_peer::TrainingModel::gru, 10, 3);
}

const bool kRegistered[] = {
    add_row("training/mlp_784_512_512_10_B128", mlp_row),
    add_row("training/cnn_3x32x32_B64", cnn_row),
    add_row("training/gru_5x32_T1460_B16", gru_row),
};

}  // namespace
}  // namespace solvent::bench
