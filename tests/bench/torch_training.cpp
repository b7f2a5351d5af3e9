// Training steps in libtorch: the peers of training_bench.cpp.
#include "solvent/tests/bench/torch_peers.h"

#if SOLVENT_BENCH_TORCH

#include <memory>

#include <torch/torch.h>

namespace solvent::bench::torch_peer {
namespace {

using Parameters = std::vector<torch::Tensor>;

// Weights as layers of PyTorch have them, in the order of our modules.
torch::Tensor mlp(const Parameters& p, const torch::Tensor& x) {
  torch::Tensor h = torch::relu(torch::linear(x, p[0], p[1]));
  h = torch::relu(torch::linear(h, p[2], p[3]));
  return torch::linear(h, p[4], p[5]);
}

torch::Tensor cnn(const Parameters& p, const torch::Tensor& x) {
  torch::Tensor h = x;
  for (int i = 0; i < 3; ++i) h = torch::max_pool2d(torch::relu(torch::conv2d(h, p[2 * i], p[2 * i + 1], 1, 1)), 2);
  return torch::linear(h.flatten(1), p[6], p[7]);
}

// (3H) and (H) biases of ours as the two (3H) biases of PyTorch; one layer each, so that the states of every layer stay.
torch::Tensor gru(const Parameters& p, const torch::Tensor& x) {
  const auto layers = static_cast<int>(p.size() / 4);
  torch::Tensor h = x;
  for (int i = 0; i < layers; ++i) {
    const torch::Tensor &w_ih = p[4 * i], &w_hh = p[4 * i + 1], &b = p[4 * i + 2], &b_hn = p[4 * i + 3];
    const std::int64_t hidden = w_hh.size(1);
    const torch::Tensor b_hh = torch::cat({torch::zeros({2 * hidden}), b_hn});
    const torch::Tensor h0 = torch::zeros({1, x.size(1), hidden});
    h = std::get<0>(torch::gru(h, h0, {w_ih, w_hh, b, b_hh}, true, 1, 0.0, true, false, false));
  }
  return torch::linear(h.mean(0), p[p.size() - 2], p[p.size() - 1]);
}

std::vector<std::vector<std::int64_t>> shapes_of(TrainingModel kind, std::size_t count) {
  if (kind == TrainingModel::mlp) return {{512, 784}, {512}, {512, 512}, {512}, {10, 512}, {10}};
  if (kind == TrainingModel::cnn)
    return {{32, 3, 3, 3}, {32}, {64, 32, 3, 3}, {64}, {128, 64, 3, 3}, {128}, {10, 2048}, {10}};
  std::vector<std::vector<std::int64_t>> shapes;
  for (std::size_t i = 0; i + 2 < count; i += 4)
    shapes.insert(shapes.end(), {{96, i == 0 ? 1 : 32}, {96, 32}, {96}, {32}});
  shapes.insert(shapes.end(), {{10, 32}, {10}});
  return shapes;
}

}  // namespace

Call training(const TrainingOptions& options, const std::vector<std::vector<float>>& parameters, const float* x_data,
              const std::vector<std::int64_t>& x_shape, const std::vector<std::int64_t>& labels) {
  Parameters p;
  const auto shapes = shapes_of(options.model, parameters.size());
  for (std::size_t i = 0; i < parameters.size(); ++i)
    p.push_back(torch::from_blob(const_cast<float*>(parameters[i].data()), shapes[i]).clone().set_requires_grad(true));
  const torch::Tensor x = torch::from_blob(const_cast<float*>(x_data), x_shape).clone();
  const torch::Tensor target = torch::tensor(labels, torch::kInt64);
  std::shared_ptr<torch::optim::Optimizer> optimizer;
  if (options.optimizer == "sgd") {
    optimizer = std::make_shared<torch::optim::SGD>(p, torch::optim::SGDOptions(options.rate).momentum(0.9));
  } else {
    optimizer = std::make_shared<torch::optim::Adam>(p, torch::optim::AdamOptions(options.rate));
  }
  const TrainingModel kind = options.model;
  auto step = [=] {
    optimizer->zero_grad();
    const torch::Tensor logits = kind == TrainingModel::mlp   ? mlp(p, x)
                                 : kind == TrainingModel::cnn ? cnn(p, x)
                                                              : gru(p, x);
    const torch::Tensor loss = torch::cross_entropy_loss(logits, target);
    loss.backward();
    optimizer->step();
    return loss.item<float>();
  };
  return {[=] { step(); }, [=] { return std::vector<float>{step()}; }};
}

}  // namespace solvent::bench::torch_peer

#else

namespace solvent::bench::torch_peer {

Call training(const TrainingOptions&, const std::vector<std::vector<float>>&, const float*,
              const std::vector<std::int64_t>&, const std::vector<std::int64_t>&) {
  return {};
}

}  // namespace solvent::bench::torch_peer

#endif
