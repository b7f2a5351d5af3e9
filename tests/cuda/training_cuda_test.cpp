// Whole training runs on a GPU have the losses of the same runs on the CPU.

#include <cmath>
#include <functional>

#include "solvent/core/rng.h"
#include "solvent/nn/nn.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/cuda/cuda_device.h"
#include "solvent/tests/support/catch.h"

namespace solvent::nn {
namespace {

const Device kGpu = testing::cuda_test_device();
using testing::has_cuda_test_device;

constexpr int kSteps = 20;
constexpr std::int64_t kClasses = 3;

// (N, classes) with a one per row.
Tensor targets(std::int64_t rows, DType dtype) {
  std::vector<double> values(static_cast<std::size_t>(rows * kClasses), 0.0);
  for (std::int64_t i = 0; i < rows; ++i) values[static_cast<std::size_t>(i * kClasses + i * i % kClasses)] = 1.0;
  return cast(from_vector(values, {rows, kClasses}), dtype);
}

// Mean of -log softmax(logits)[class], written with elementwise operations and sums.
Tensor loss_of(const Tensor& logits, const Tensor& one_hot) {
  const double rows = static_cast<double>(logits.size(0));
  return (sum(log(sum(exp(logits), {-1}))) - sum(logits * one_hot)) / rows;
}

std::vector<double> losses(Module& model, const std::function<Tensor()>& loss) {
  Adam optimizer({.learning_rate = 0.02});
  std::vector<double> list;
  for (int step = 0; step < kSteps; ++step) {
    auto [value, grads, aux] = value_and_grad(model, [&] { return loss(); });
    list.push_back(value.item());
    ClippedGrads clipped = clip_by_global_norm(std::move(grads), 1.0);
    optimizer.step(model, clipped.grads);
  }
  return list;
}

void check_equal(const std::vector<double>& got, const std::vector<double>& expected, DType dtype) {
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double error = std::abs(got[i] - expected[i]);
    worst = error <= worst ? worst : error;
  }
  INFO("largest difference " << worst);
  CHECK(worst <= (dtype == float32 ? 1e-4 : 1e-10));
  CHECK(expected.back() < 0.8 * expected.front());  // it does train
}

TEST_CASE("cuda training: an MLP has the CPU's losses", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const DType dtype : {float32, float64}) {
    const Mlp initial({4, 16, 16, kClasses}, Key(3), {.activation = Activation::tanh, .dtype = dtype});
    const Tensor x = normal(Key(1), {24, 4}, 0.0, 1.0, dtype), y = targets(24, dtype);
    const auto train = [&](Device device) {
      Mlp model = initial;
      model.to(device);
      const Tensor inputs = to(x, device), classes = to(y, device);
      return losses(model, [&] { return loss_of(model(inputs), classes); });
    };
    check_equal(train(kGpu), train(cpu_device), dtype);
  }
}

struct Classifier : Module {
  Gru gru;
  Linear head;
  explicit Classifier(DType dtype)
      : gru{GruCell(2, 8, Key(1), {.dtype = dtype})}, head(8, kClasses, Key(2), {.dtype = dtype}) {}
  Tensor operator()(const Tensor& xs) const {  // (T, B, 2) -> (B, classes), from the mean of the states
    return head(sum(gru(xs), {0}) / static_cast<double>(xs.size(0)));
  }
  void visit(Visitor& v) override {
    v("gru", gru);
    v("head", head);
  }
};

TEST_CASE("cuda training: a GRU classifier has the CPU's losses", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const DType dtype : {float32, float64}) {
    const Tensor xs = normal(Key(1), {15, 6, 2}, 0.0, 2.0, dtype), y = targets(6, dtype);
    const auto train = [&](Device device) {
      Classifier model(dtype);
      model.to(device);
      const Tensor inputs = to(xs, device), classes = to(y, device);
      return losses(model, [&] { return loss_of(model(inputs), classes); });
    };
    check_equal(train(kGpu), train(cpu_device), dtype);
  }
}

}  // namespace
}  // namespace solvent::nn
