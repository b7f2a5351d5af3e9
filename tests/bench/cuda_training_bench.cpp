// Whole training steps on a GPU (forward, backward, stochastic gradient descent with momentum) of a perceptron, a small
// convolutional network and five GRU layers: operation by operation, and recorded once with graph() and replayed. The same
// steps in PyTorch are in peers/gpu_torch.py. The update is nn::sgd_step, which can be recorded.
//
// host_share: part of a step's time for which the host is busy. Below 1 the device never waits for the host.

#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "solvent/tests/bench/conv_net.h"
#include "solvent/tests/bench/cuda_compare.h"
#include "solvent/tests/bench/cuda_training_step.h"

namespace solvent::bench {
namespace {

// Three steps from `state`; the loss of the last one.
template <class F>
double third_loss(F& step, Tensors state) {
  double loss = 0;
  for (int i = 0; i < 3; ++i) {
    state = step(state);
    loss = state.back().item();
    state.pop_back();
  }
  return loss;
}

template <class Model>
Row training_row(const Model& model, const Tensor& x, std::int64_t batch, bool recorded, double host_share = 0) {
  std::vector<std::int64_t> values;
  for (std::int64_t i = 0; i < batch; ++i) values.push_back((7 * i + 3) % kClasses);
  const Tensor labels = from_vector(values, {batch});
  const Step on_cpu = step_of(model, x, labels);
  const Step eager = step_of(on_device(model, bench_gpu()), to(x, bench_gpu()), to(labels, bench_gpu()));
  Tensors cpu_state = model.parameter_values();
  for (const Tensor& p : model.parameter_values()) cpu_state.push_back(zeros(p.shape(), p.dtype()));
  auto state = std::make_shared<Tensors>();
  for (const Tensor& t : cpu_state) state->push_back(to(t, bench_gpu()));

  std::function<Tensors(const Tensors&)> step = eager;
  if (recorded) {
    auto replayed = std::make_shared<Graph>(graph(eager, *state));
    step = [replayed](const Tensors& s) { return (*replayed)(s); };
  }
  Row row;
  row.error = [=] {
    double cpu_loss = third_loss(on_cpu, cpu_state), loss = third_loss(step, *state);
    return std::abs(loss - cpu_loss);
  };
  row.tolerance = 1e-4;
  row.run = [step, state] {
    *state = step(*state);
    state->pop_back();  // the loss stays on the device
  };
  row.rounds = 15;
  if (bench_size() != BenchSize::smoke) {
    row.run();  // warm memory and libraries before the host's share is measured
    const double total = device_seconds(row.run, 10), host = enqueue_seconds(row.run, 10);
    row.extra = {{"x:host_share", host / total}};
    if (recorded && host_share > 0) row.extra.emplace_back("max:host_share", host_share);
  }
  row.note = recorded ? "one graph" : "operation by operation";
  return row;
}

Row mlp_row(bool recorded) {
  const std::int64_t width = by_size<std::int64_t>(512, 512, 8), batch = by_size<std::int64_t>(128, 128, 4);
  return training_row(nn::Mlp({784, width, width, kClasses}, Key(1)), random_normal({batch, 784}), batch, recorded);
}

Row cnn_row(bool recorded) {
  const std::int64_t batch = by_size<std::int64_t>(64, 64, 2);
  return training_row(ConvNet(Key(2)), random_normal({batch, 3, 32, 32}), batch, recorded);
}

Row gru_row(bool recorded) {
  const std::int64_t steps = by_size<std::int64_t>(1460, 1460, 7), batch = by_size<std::int64_t>(16, 16, 2);
  return training_row(GruNet(Key(3)), random_normal({steps, batch, 1}), batch, recorded, 0.05);
}

bool add_training(const std::string& name, Row (*make)(bool)) {
  add_cuda_row("training/" + name + "/eager", [make] { return make(false); });
  return add_cuda_row("training/" + name + "/graph", [make] { return make(true); });
}

const bool kRegistered[] = {
    add_training("mlp_784_512_512_10_B128", mlp_row),
    add_training("cnn_3x32x32_B64", cnn_row),
    add_training("gru_5x32_T1460_B16", gru_row),
};

}  // namespace
}  // namespace solvent::bench
