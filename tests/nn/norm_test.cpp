// BatchNorm, WeightNorm and Dropout: against PyTorch (tests/golden/make_pool_norm.py), running statistics, initial values.

#include <cmath>
#include <cstdio>

#include "solvent/autodiff/gradcheck.h"
#include "solvent/nn/dropout.h"
#include "solvent/nn/functional.h"
#include "solvent/nn/norm.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/nn/nn_support.h"

namespace solvent::nn {
namespace {

using testing::Golden;
using testing::identical;

constexpr double kGoldenTolerance = 1e-13;

template <class M>
void check_batch_norm(const std::string& name) {
  INFO(name);
  const Golden golden("pool_norm");
  M layer(3, {.eps = 1e-3, .dtype = float64});
  layer.weight.assign(golden[name + ".weight"]);
  layer.bias.assign(golden[name + ".bias"]);
  const Tensor& x = golden[name + ".x"];
  const auto loss = [&](const Tensor& input) { return sum(layer(input) * golden[name + ".weights"]); };
  const ValueAndGrad result = nn::value_and_grad(layer, [&] { return loss(x); });  // one call in training
  CHECK_CLOSE(result.grads[0], golden[name + ".grad.weight"], kGoldenTolerance);
  CHECK_CLOSE(result.grads[1], golden[name + ".grad.bias"], kGoldenTolerance);
  (void)layer(x * 2.0 + 1.0);  // and another
  CHECK_CLOSE(layer.running_mean.value(), golden[name + ".running_mean"], kGoldenTolerance);
  CHECK_CLOSE(layer.running_var.value(), golden[name + ".running_var"], kGoldenTolerance);
  CHECK(layer.num_batches_tracked.value().item() == 2);
  CHECK(!is_differentiated(layer.running_mean.value()));
  layer.set_training(false);
  CHECK_CLOSE(layer(x), golden[name + ".eval"], kGoldenTolerance);
  CHECK(layer.num_batches_tracked.value().item() == 2);
}

TEST_CASE("BatchNorm: values, gradients and running statistics equal PyTorch's", "[nn]") {
  check_batch_norm<BatchNorm2d>("batch_norm");
  check_batch_norm<BatchNorm1d>("batch_norm_flat");
}

TEST_CASE("BatchNorm: running statistics are saved, not trained", "[nn]") {
  BatchNorm2d layer(4);
  CHECK(layer.parameters().size() == 2);
  const StateDict state = layer.state_dict();
  std::vector<std::string> names;
  for (const auto& [name, value] : state) names.push_back(name);
  CHECK(names == std::vector<std::string>{"weight", "bias", "running_mean", "running_var", "num_batches_tracked"});
  (void)layer(normal(Key(1), {2, 4, 3, 3}, 5.0));
  const std::string path = "/tmp/solvent_batch_norm_test.safetensors";
  layer.save(path);
  BatchNorm2d other(4);
  CHECK(other.load(path).ok());
  std::remove(path.c_str());
  CHECK(identical(other.running_mean.value(), layer.running_mean.value()));
  CHECK(identical(other.running_var.value(), layer.running_var.value()));
  CHECK(other.num_batches_tracked.value().item() == 1);
  layer.to(float64);
  CHECK(layer.running_var.value().dtype() == float64);
  CHECK(layer.num_batches_tracked.value().dtype() == int64);
}

TEST_CASE("BatchNorm: copies and bound modules have statistics of their own", "[nn]") {
  const BatchNorm2d layer(2, {.dtype = float64});
  const BatchNorm2d copy = layer;
  const Tensor x = normal(Key(2), {3, 2, 2, 2}, 1.0, 2.0, float64);
  (void)copy(x);
  CHECK(layer.num_batches_tracked.value().item() == 0);
  CHECK(copy.num_batches_tracked.value().item() == 1);
  Tensors packed = layer.parameter_values();
  packed.push_back(x);
  const GradcheckReport report = gradcheck(nn::bind(layer), packed, {.mode_tol = 1e-9});
  INFO(report.message);
  CHECK(report.ok);
  CHECK(layer.num_batches_tracked.value().item() == 0);
}

TEST_CASE("BatchNorm: n updates at once equal n calls", "[nn]") {
  const Tensor x = normal(Key(3), {6, 3}, 2.0, 3.0, float64);
  for (const std::optional<double> momentum : {std::optional<double>(0.1), std::optional<double>()}) {
    const BatchNorm1d one(3, {.momentum = momentum, .dtype = float64});
    const BatchNorm1d many = one;
    const Tensor first = normal(Key(4), {6, 3}, 0.0, 1.0, float64);
    (void)one(first);
    (void)many(first);
    for (int i = 0; i < 27; ++i) (void)many(x);
    const BatchNormResult r = one.normalise(x);
    one.update_running(r.mean, r.var, 6, 27);
    CHECK_CLOSE(one.running_mean.value(), many.running_mean.value(), 1e-13);
    CHECK_CLOSE(one.running_var.value(), many.running_var.value(), 1e-13);
    CHECK(one.num_batches_tracked.value().item() == 28);
    if (!momentum) CHECK_CLOSE(one.running_mean.value(), (mean(first, {0}) + mean(x, {0}) * 27.0) / 28.0, 1e-13);
  }
}

TEST_CASE("BatchNorm: without running statistics evaluation uses the batch", "[nn]") {
  BatchNorm1d layer(2, {.affine = false, .track = false});
  CHECK(layer.parameters().empty());
  CHECK(layer.state_dict().empty());
  const Tensor x = normal(Key(5), {4, 2});
  const Tensor y = layer(x);
  layer.set_training(false);
  CHECK(identical(layer(x), y));
}

TEST_CASE("BatchNorm: misuse is refused with advice", "[nn]") {
  CHECK_ERROR(ValueError, BatchNorm(0), "[BatchNorm]", "0 channels");
  CHECK_ERROR(ValueError, BatchNorm(2, {.eps = 0}), "[BatchNorm]", "eps = 0");
  CHECK_ERROR(ValueError, BatchNorm(2, {.momentum = 1.5}), "[BatchNorm]", "momentum 1.5");
  CHECK_ERROR(ShapeError, BatchNorm2d(3)(zeros({2, 3})), "[BatchNorm2d]", "float32(2, 3)", "(N, C, H, W)", "C = 3");
  CHECK_ERROR(ShapeError, BatchNorm1d(3)(zeros({2, 4})), "[BatchNorm1d]", "(N, C) or (N, C, L)");
  CHECK_ERROR(ValueError, BatchNorm1d(3)(zeros({1, 3})), "[BatchNorm]", "more than one element", "set_training(false)");
  const BatchNorm1d untracked(3, {.track = false});
  CHECK_ERROR(ValueError, untracked.update_running(zeros({3}), zeros({3}), 4), "[BatchNorm]", "track = true");
  CHECK_ERROR(ValueError, BatchNorm1d(3).update_running(zeros({3}), zeros({3}), 1), "1 elements", "at least 2");
}

TEST_CASE("WeightNorm: starts at the weight it was made of", "[nn]") {
  const Tensor w = normal(Key(6), {4, 3, 2}, 0, 1, float64);
  for (const std::int64_t axis : {0, 1}) {
    WeightNorm norm = WeightNorm::of(w, axis);
    CHECK_CLOSE(norm(), w, 1e-15);
    CHECK(norm.gain.value().shape() == Shape{w.size(axis)});
    const StateDict state = norm.state_dict();
    CHECK(state[0].first == "weight_v");
    CHECK(state[1].first == "weight_g");
  }
  const WeightNorm drawn = WeightNorm::independent({50, 80}, 0.5, Key(7));
  CHECK(max(abs(drawn.v.value())).item() <= 0.5);
  CHECK(!identical(drawn.gain.value(), WeightNorm::of(drawn.v.value()).gain.value()));
  // The norm of 80 uniform values within 0.5 is about sqrt(80 / 12).
  CHECK(mean(drawn.gain.value()).item() == Approx(std::sqrt(80.0 / 12.0) / 1.0).epsilon(0.02));
  CHECK_ERROR(ShapeError, WeightNorm(w, zeros({3}, float64)), "[weight_norm]", "axis 0");
}

TEST_CASE("WeightNormLinear: data-dependent initial values normalise every output", "[nn]") {
  WeightNormLinear layer(5, 3, Key(8), float64);
  const Tensor x = normal(Key(9), {200, 5}, 1.0, 2.0, float64);
  layer.initialise(x, 0.7);
  const Tensor y = layer(x);
  CHECK_CLOSE(mean(y, {0}), zeros({3}, float64), 1e-13);
  CHECK_CLOSE(sqrt(var(y, {0})), full({3}, 0.7, float64), 1e-13);
  // The formula of the paper, from the direction alone: g = 1 / sigma[t], b = -mu[t] / sigma[t] with t = v x / |v|.
  const Tensor t = matmul(x, mT(WeightNorm(layer.weight.v.value(), ones({3}, float64))()));
  CHECK_CLOSE(layer.weight.gain.value(), 0.7 / sqrt(var(t, {0})), 1e-13);
  CHECK_CLOSE(layer.bias.value(), mean(t, {0}) * -0.7 / sqrt(var(t, {0})), 1e-13);
}

TEST_CASE("WeightNormLinear: gradients, and images as data", "[nn]") {
  const WeightNormLinear layer(3, 2, Key(10), float64);
  Tensors packed = layer.parameter_values();
  REQUIRE(packed.size() == 3);
  packed.push_back(normal(Key(11), {4, 3}, 0, 1, float64));
  const GradcheckReport report = gradcheck(nn::bind(layer), packed);
  INFO(report.message);
  CHECK(report.ok);
  // Maps (N, C, H, W) of a layer with two channels.
  WeightNorm weight = WeightNorm::of(normal(Key(12), {2, 3}, 0, 1, float64));
  Parameter bias(zeros({2}, float64));
  const Tensor maps = normal(Key(13), {4, 3, 5, 5}, 0.5, 2.0, float64);
  const auto apply_layer = [&] {
    const Tensor rows = matmul(permute(maps, {0, 2, 3, 1}), mT(weight())) + bias.value();
    return permute(rows, {0, 3, 1, 2});
  };
  initialise_from_data(weight, bias, apply_layer());
  CHECK_CLOSE(mean(apply_layer(), {0, 2, 3}), zeros({2}, float64), 1e-13);
  CHECK_CLOSE(var(apply_layer(), {0, 2, 3}), ones({2}, float64), 1e-13);
  CHECK_ERROR(ShapeError, initialise_from_data(weight, bias, maps), "(4, 3, 5, 5)", "3 channels", "input channel");
  CHECK_ERROR(ValueError, initialise_from_data(weight, bias, zeros({3, 2}, float64)), "deviation 0", "larger");
}

TEST_CASE("Dropout: a key in training, the identity in evaluation", "[nn]") {
  Dropout layer(0.5);
  const Tensor x = normal(Key(14), {6, 4, 3});
  CHECK(identical(layer(x, Key(1)), dropout(x, 0.5, Key(1))));
  CHECK(identical(Dropout(0.5, DropoutKind::channels)(x, Key(1)), channel_dropout(x, 0.5, Key(1))));
  CHECK_ERROR(ValueError, layer(x), "[Dropout]", "no Key", "p = 0.5", "set_training(false)");
  CHECK(identical(Dropout(0.0)(x), x));
  layer.set_training(false);
  CHECK(identical(layer(x), x));
  CHECK(identical(layer(x, Key(1)), x));
  CHECK_ERROR(ValueError, Dropout(2.0), "[Dropout]", "p = 2", "0 <= p <= 1");
}

}  // namespace
}  // namespace solvent::nn
