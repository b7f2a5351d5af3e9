// Whole training runs on a GPU have the losses of the same runs on the CPU: optimizers, layers, recurrent cells through the
// solvers, and the models of examples/.

#include <cmath>
#include <memory>

#include "solvent/core/rng.h"
#include "solvent/examples/cifar_resnet.h"
#include "solvent/examples/deep_equilibrium.h"
#include "solvent/examples/mnist_cnn.h"
#include "solvent/experiments/common/data/image_loader.h"
#include "solvent/experiments/common/data/patterns.h"
#include "solvent/nn/nn.h"
#include "solvent/ops/ops.h"
#include "solvent/solvers/sequence.h"
#include "solvent/tests/cuda/cuda_device.h"
#include "solvent/tests/cuda/optimizers.h"
#include "solvent/tests/cuda/training_runs.h"
#include "solvent/tests/support/catch.h"

namespace solvent::nn {
namespace {

const Device kGpu = testing::cuda_test_device();
using testing::check_same_losses;
using testing::has_cuda_test_device;
using testing::losses_of;

constexpr std::int64_t kClasses = 3;

// (n) classes in turn.
Tensor labels(std::int64_t n, Device device) {
  std::vector<std::int64_t> values;
  for (std::int64_t i = 0; i < n; ++i) values.push_back(i * i % kClasses);
  return to(from_vector(values, {n}), device);
}

TEST_CASE("cuda training: an MLP has the CPU's losses with every optimizer", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const auto& [name, make] : testing::optimizers())
    for (const DType dtype : {float32, float64}) {
      INFO(name);
      const Tensor x = normal(Key(1), {24, 4}, 0.0, 1.0, dtype);
      const auto train = [&, make = make](Device device) {
        Mlp model({4, 16, 16, kClasses}, Key(3), {.activation = Activation::tanh, .dtype = dtype});
        model.to(device);
        const Tensor inputs = to(x, device), classes = labels(24, device);
        const auto optimizer = make();
        return losses_of(model, *optimizer, 12, [&](int) { return cross_entropy(model(inputs), classes); });
      };
      check_same_losses(train(kGpu), train(cpu_device), dtype, 0.95);
    }
}

struct DropoutNet : Module {
  Linear in, out;
  Dropout dropout{0.3};
  explicit DropoutNet(DType dtype) : in(4, 32, Key(1), {.dtype = dtype}), out(32, kClasses, Key(2), {.dtype = dtype}) {}
  Tensor operator()(const Tensor& x, Key key) const { return out(dropout(relu(in(x)), key)); }
  void visit(Visitor& v) override {
    v("in", in);
    v("dropout", dropout);
    v("out", out);
  }
};

TEST_CASE("cuda training: dropout draws the CPU's masks", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const DType dtype : {float32, float64}) {
    const auto train = [&](Device device) {
      DropoutNet model(dtype);
      model.to(device);
      const Tensor x = to(normal(Key(1), {24, 4}, 0.0, 1.0, dtype), device), classes = labels(24, device);
      Adam adam({.learning_rate = 0.05});
      return losses_of(model, adam, 12, [&](int step) {
        return cross_entropy(model(x, Key(7).fold_in(static_cast<std::uint64_t>(step))), classes);
      });
    };
    check_same_losses(train(kGpu), train(cpu_device), dtype, 0.8);
  }
}

// --- recurrent cells ------------------------------------------------------------------------------------------------------------

// A cell whose states come from `method`, and a layer on the mean of its outputs.
template <class Cell>
struct Classifier : Module {
  Cell cell;
  Linear head;
  solvers::SequenceMethod method;
  solvers::Options options;

  Classifier(Cell c, std::int64_t outputs, solvers::SequenceMethod m, DType dtype)
      : cell(std::move(c)), head(outputs, kClasses, Key(2), {.dtype = dtype}), method(std::move(m)) {
    options.termination.atol = dtype == float32 ? 1e-6 : 1e-13;
    options.termination.rtol = 0;
  }
  Tensor operator()(const Tensor& xs) const {  // (T, B, I) -> (B, classes)
    const RecurrentCell functions = cell.functions();
    const Tensor h0 = zeros({xs.size(1), functions.state_size}, {xs.dtype(), xs.device()});
    const Tensor hs = solvers::solve_sequence(functions, h0, xs, method, options).value;
    return head(mean(slice(hs, 2, 0, head.weight.value().size(1)), {0}));
  }
  void visit(Visitor& v) override {
    v("cell", cell);
    v("head", head);
  }
};

template <class Make>
void check_cell(const char* name, std::int64_t outputs, Make make) {
  using solvers::JacobianKind;
  const std::vector<std::pair<const char*, solvers::SequenceMethod>> methods = {
      {"sequential", solvers::Sequential{}},
      {"deer", solvers::Deer{}},
      {"deer with blocks", solvers::Deer{.jacobian = JacobianKind::blocks}},
      {"shooting", solvers::Shooting{.chunk = 4}}};
  for (const DType dtype : {float32, float64}) {
    const Tensor xs = normal(Key(1), {9, 6, 2}, 0.0, 2.0, dtype);
    for (const auto& [method_name, method] : methods) {
      INFO(name << " by " << method_name);
      const auto train = [&, method = method](Device device) {
        Classifier model(make(dtype), outputs, method, dtype);
        model.to(device);
        const Tensor inputs = to(xs, device), classes = labels(6, device);
        Adam adam({.learning_rate = 0.05});
        return losses_of(model, adam, 5, [&](int) { return cross_entropy(model(inputs), classes); });
      };
      check_same_losses(train(kGpu), train(cpu_device), dtype, 0.98);
    }
  }
}

TEST_CASE("cuda training: recurrent cells have the CPU's losses by every kind of method", "[cuda]") {
  if (!has_cuda_test_device()) return;
  check_cell("GRU", 4, [](DType dtype) { return GruCell(2, 4, Key(1), {.dtype = dtype}); });
  check_cell("Elman", 4, [](DType dtype) { return ElmanCell(2, 4, Key(1), {.dtype = dtype}); });
  check_cell("LSTM", 3, [](DType dtype) { return LstmCell(2, 3, Key(1), {.dtype = dtype}); });
  check_cell("LEM", 3, [](DType dtype) { return LemCell(2, 3, Key(1), {.dtype = dtype}); });
  check_cell("ParaGRU", 4, [](DType dtype) { return ParaGruCell(2, 4, Key(1), {.dtype = dtype}); });
  check_cell("ParaLSTM", 4, [](DType dtype) { return ParaLstmCell(2, 4, Key(1), {.dtype = dtype}); });
}

// --- examples ---------------------------------------------------------------------------------------------------------------------

TEST_CASE("cuda training: linear regression has the CPU's losses", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const DType dtype : {float32, float64}) {
    const auto train = [&](Device device) {  // as in examples/linear_regression.cpp
      const Tensor x = to(normal(Key(1), {500, 3}, 0.0, 1.0, dtype), device);
      const Tensor truth = to(tensor({2.0, -3.0, 0.5}, dtype), device);
      const Tensor y = matmul(x, truth) + 1.0 + to(normal(Key(2), {500}, 0.0, 0.1, dtype), device);
      const auto loss = [&](const Tensors& p) { return mean(square(matmul(x, p[0]) + p[1] - y)); };
      Tensors parameters = {zeros({3}, {dtype, device}), zeros({}, {dtype, device})};
      std::vector<double> losses;
      for (int step = 0; step < 20; ++step) {
        auto [value, grads, aux] = value_and_grad(loss, parameters);
        losses.push_back(value.item());
        for (std::size_t i = 0; i < parameters.size(); ++i) parameters[i] = parameters[i] - 0.2 * grads[i];
      }
      return losses;
    };
    check_same_losses(train(kGpu), train(cpu_device), dtype, 0.1);
  }
}

TEST_CASE("cuda training: a deep equilibrium layer has the CPU's losses", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const DType dtype : {float32, float64}) {
    const auto train = [&](Device device) {
      examples::Equilibrium model(2, 8, kClasses, Key(3));
      model.to(dtype);
      model.to(device);
      model.termination = {.atol = dtype == float32 ? 1e-6 : 1e-13, .rtol = 0.0};
      const Tensor x = to(normal(Key(1), {12, 2}, 0.0, 1.0, dtype), device), classes = labels(12, device);
      Adam adam({.learning_rate = 0.05});
      return losses_of(model, adam, 8, [&](int) { return cross_entropy(model(x), classes); });
    };
    check_same_losses(train(kGpu), train(cpu_device), dtype, 0.98);
  }
}

// Losses on generated images, flipped and shifted by the loader.
template <class Model>
std::vector<double> losses_on_patterns(Model& model, Optimizer& optimizer, const experiments::PatternSettings& patterns,
                                       int steps, DType dtype, Device device) {
  using namespace experiments;
  model.to(dtype);
  model.to(device);
  ImageLoader loader(
      std::make_shared<ImageSet>(make_patterns(patterns).train),
      {.batch_size = patterns.num_train, .augmentation = {.flip = true, .crop_padding = 1}, .device = device});
  return losses_of(model, optimizer, steps, [&](int) {
    const ImageBatch batch = loader.next();
    return cross_entropy(model(cast(batch.images, dtype)), batch.labels);
  });
}

TEST_CASE("cuda training: the network of mnist_cnn has the CPU's losses", "[cuda][conv]") {
  if (!has_cuda_test_device()) return;
  for (const DType dtype : {float32, float64}) {
    const auto train = [&](Device device) {
      examples::Cnn model;
      Adam adam({.learning_rate = 2e-3});
      return losses_on_patterns(model, adam, {.num_train = 3, .channels = 1, .size = 28}, 4, dtype, device);
    };
    check_same_losses(train(kGpu), train(cpu_device), dtype, 0.8);
  }
}

TEST_CASE("cuda training: the network of cifar_resnet has the CPU's losses", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const DType dtype : {float32, float64}) {
    const auto train = [&](Device device) {
      Sequential model = examples::resnet(3, 3, 10, Key(1));
      Sgd sgd({.learning_rate = 0.2, .momentum = 0.9, .weight_decay = 5e-4, .nesterov = true});
      return losses_on_patterns(model, sgd, {.num_train = 8}, 5, dtype, device);
    };
    check_same_losses(train(kGpu), train(cpu_device), dtype, 0.95);
  }
}

}  // namespace
}  // namespace solvent::nn
