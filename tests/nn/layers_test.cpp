// Linear, Mlp and LayerNorm against PyTorch (tests/golden/make_layers.py) and by gradcheck.

#include <cmath>

#include "solvent/autodiff/gradcheck.h"
#include "solvent/nn/functional.h"
#include "solvent/nn/layer_norm.h"
#include "solvent/nn/mlp.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/nn/nn_support.h"

namespace solvent::nn {
namespace {

using testing::Golden;
using testing::identical;

constexpr double kGoldenTolerance = 1e-12;  // float64, different order of sums

TEST_CASE("Linear: y = x W^T + b for any number of leading axes", "[nn]") {
  Linear layer(3, 2, Key(1), {.dtype = float64});
  layer.weight.assign(tensor({{1, 2, 3}, {4, 5, 6}}, float64));
  layer.bias.assign(tensor({0.5, -0.5}, float64));
  CHECK(identical(layer(tensor({1, 0, -1}, float64)), tensor({-1.5, -2.5}, float64)));
  CHECK(layer(zeros({4, 5, 3}, float64)).shape() == Shape{4, 5, 2});
  CHECK(layer.in_features() == 3);
  CHECK(layer.out_features() == 2);

  Linear no_bias(3, 2, Key(1), {.bias = false});
  CHECK(no_bias.parameters().size() == 1);
  CHECK(identical(no_bias(zeros({1, 3})), zeros({1, 2})));
}

TEST_CASE("Linear: default initial values are bounded by 1/sqrt(in), other schemes have zero bias", "[nn]") {
  const Linear layer(100, 50, Key(2));
  CHECK(max(abs(layer.weight.value())).item() <= 0.1);
  CHECK(max(abs(layer.bias.value())).item() <= 0.1);
  CHECK(max(abs(layer.bias.value())).item() > 0.05);
  CHECK(max(abs(Linear(100, 50, Key(2), {.init = WeightInit::he_uniform}).bias.value())).item() == 0);
}

TEST_CASE("layers: wrong sizes are refused with advice", "[nn]") {
  CHECK_ERROR(ValueError, Linear(0, 2, Key(1)), "[Linear]", "0 inputs");
  CHECK_ERROR(ShapeError, Linear(3, 2, Key(1))(zeros({4, 2})), "[Linear]", "float32(4, 2)", "(..., 3)", "(2, 3)");
  CHECK_THROWS_AS(Linear(3, 2, Key(1))(zeros({4, 3}, float64)), DtypeError);
  CHECK_ERROR(ValueError, Mlp({4}, Key(1)), "[Mlp]", "1 sizes");
  CHECK_ERROR(ValueError, LayerNorm(0), "[LayerNorm]", "0 features");
  CHECK_ERROR(ValueError, LayerNorm(2, {.eps = 0}), "[LayerNorm]", "eps");
  CHECK_ERROR(ShapeError, LayerNorm(3)(zeros({2, 4})), "[LayerNorm]", "float32(2, 4)", "(..., 3)");
}

TEST_CASE("Mlp: values and gradients equal PyTorch's", "[nn]") {
  const Golden golden("layers");
  Mlp mlp({3, 8, 4, 2}, Key(1),
          {.activation = Activation::gelu, .output_activation = Activation::softplus, .dtype = float64});
  for (std::size_t i = 0; i < 3; ++i) {
    const std::string name = "mlp." + std::to_string(2 * i);
    mlp.layers[i].weight.assign(golden[name + ".weight"]);
    mlp.layers[i].bias.assign(golden[name + ".bias"]);
  }
  const Tensor& x = golden["mlp.x"];
  CHECK_CLOSE(mlp(x), golden["mlp.output"], kGoldenTolerance);
  const auto loss = [&](const Tensor& input) { return sum(mlp(input) * golden["mlp.weights"]); };
  const Tensors grads = nn::value_and_grad(mlp, [&] { return loss(x); }).grads;
  for (std::size_t i = 0; i < 3; ++i) {
    const std::string name = "mlp.grad." + std::to_string(2 * i);
    CHECK_CLOSE(grads[2 * i], golden[name + ".weight"], kGoldenTolerance);
    CHECK_CLOSE(grads[2 * i + 1], golden[name + ".bias"], kGoldenTolerance);
  }
  CHECK_CLOSE(grad(loss, x), golden["mlp.grad.x"], kGoldenTolerance);
}

TEST_CASE("LayerNorm: values and gradients equal PyTorch's", "[nn]") {
  const Golden golden("layers");
  LayerNorm norm(5, {.eps = 1e-4, .dtype = float64});
  norm.weight.assign(golden["layer_norm.weight"]);
  norm.bias.assign(golden["layer_norm.bias"]);
  const Tensor& x = golden["layer_norm.x"];
  CHECK_CLOSE(norm(x), golden["layer_norm.output"], kGoldenTolerance);
  const auto loss = [&](const Tensor& input) { return sum(norm(input) * golden["layer_norm.weights"]); };
  const Tensors grads = nn::value_and_grad(norm, [&] { return loss(x); }).grads;
  CHECK_CLOSE(grads[0], golden["layer_norm.grad.weight"], kGoldenTolerance);
  CHECK_CLOSE(grads[1], golden["layer_norm.grad.bias"], kGoldenTolerance);
  CHECK_CLOSE(grad(loss, x), golden["layer_norm.grad.x"], kGoldenTolerance);
}

TEST_CASE("LayerNorm: without affine parameters it only normalises", "[nn]") {
  LayerNorm norm(4, {.affine = false});
  CHECK(norm.parameters().empty());
  const Tensor x = normal(Key(1), {3, 4});
  CHECK(identical(norm(x), layer_norm(x)));
}

TEST_CASE("layers: gradcheck of parameters and input in all modes", "[nn]") {
  const Mlp mlp({3, 4, 2}, Key(1), {.activation = Activation::tanh, .dtype = float64});
  LayerNorm norm(3, {.dtype = float64});
  norm.weight.assign(normal(Key(3), {3}, 1, 0.3, float64));
  const Tensor x = normal(Key(2), {4, 3}, 0, 1, float64);
  Tensors packed = mlp.parameter_values();
  packed.push_back(x);
  const GradcheckReport mlp_report = gradcheck(nn::bind(mlp), packed);
  INFO(mlp_report.message);
  CHECK(mlp_report.ok);
  Tensors norm_inputs = norm.parameter_values();
  norm_inputs.push_back(x);
  const GradcheckReport norm_report = gradcheck(nn::bind(norm), norm_inputs);
  INFO(norm_report.message);
  CHECK(norm_report.ok);
}

}  // namespace
}  // namespace solvent::nn
