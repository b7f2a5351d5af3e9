// Sequential, Residual, DenseBlock and the pooling layers.

#include "solvent/nn/dropout.h"
#include "solvent/nn/functional.h"
#include "solvent/nn/linear.h"
#include "solvent/nn/norm.h"
#include "solvent/nn/pool.h"
#include "solvent/nn/sequential.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/nn/nn_support.h"

namespace solvent::nn {
namespace {

using testing::Golden;
using testing::identical;

std::vector<std::string> names_of(Module& module) {
  std::vector<std::string> names;
  for (const auto& [name, slot] : module.named_parameters()) names.push_back(name);
  return names;
}

Sequential small_net() { return Sequential{Linear(3, 4, Key(1)), relu, Dropout(0.5), Linear(4, 2, Key(2))}; }

TEST_CASE("Sequential: layers follow each other and are named by position", "[nn]") {
  Sequential net = small_net();
  CHECK(names_of(net) == std::vector<std::string>{"0.weight", "0.bias", "3.weight", "3.bias"});
  const Tensor x = normal(Key(3), {5, 3});
  net.set_training(false);
  const Linear& first = *net[0].get_if<Linear>();
  const Linear& last = *net[3].get_if<Linear>();
  CHECK(identical(net(x), last(relu(first(x)))));
  net.set_training(true);
  CHECK(identical(net(x, Key(4)), last(dropout(relu(first(x)), 0.5, Key(4).fold_in(2)))));
  CHECK_ERROR(ValueError, net(x), "[Dropout]", "no Key");
  CHECK(identical(Sequential()(x), x));
}

TEST_CASE("Sequential: set_training, gradients and binding reach the layers inside", "[nn]") {
  Sequential net = small_net();
  net.set_training(false);
  CHECK(!net[2].module()->is_training());
  const Tensor x = normal(Key(3), {5, 3});
  const Tensors grads = nn::value_and_grad(net, [&] { return sum(square(net(x))); }).grads;
  REQUIRE(grads.size() == 4);
  CHECK(max(abs(grads[0])).item() > 0);
  CHECK(identical(nn::bind(net)(net.parameter_values(), {x})[0], net(x)));
}

TEST_CASE("Sequential: a copy has its own slots", "[nn]") {
  Sequential net = small_net();
  Sequential copy = net;
  copy.parameters()[0]->assign(zeros({4, 3}));
  CHECK(max(abs(net.parameter_values()[0])).item() > 0);
  net = copy;
  CHECK(identical(net.parameter_values()[0], zeros({4, 3})));
}

TEST_CASE("Sequential: names, nesting and functions that need a key", "[nn]") {
  Sequential net;
  net.add("conv0", Linear(2, 2, Key(1))).add("relu0", relu).add("block", Sequential{Linear(2, 1, Key(2))});
  CHECK(names_of(net) == std::vector<std::string>{"conv0.weight", "conv0.bias", "block.0.weight", "block.0.bias"});
  CHECK(net.size() == 3);
  CHECK_ERROR(ValueError, net.add("conv0", relu), "[Sequential]", "'conv0'", "not taken");
  CHECK_ERROR(ValueError, net.add("a.b", relu), "[Sequential]", "no dot");
  const Layer noisy = [](const Tensor& x, Key key) { return x + normal(key, x.shape()); };
  CHECK_ERROR(ValueError, noisy(zeros({2})), "[Layer]", "without a Key", "layer(x, key)");
  CHECK(noisy(zeros({2}), Key(1)).shape() == Shape{2});
}

TEST_CASE("Residual: adds the input or the shortcut", "[nn]") {
  Residual block(Linear(3, 3, Key(1)));
  const Tensor x = normal(Key(2), {4, 3});
  CHECK(names_of(block) == std::vector<std::string>{"body.weight", "body.bias"});
  CHECK(identical(block(x), Linear(3, 3, Key(1))(x) + x));
  Residual projected(Sequential{Linear(3, 2, Key(1)), Dropout(0.5)}, Linear(3, 2, Key(3)));
  CHECK(names_of(projected).size() == 4);
  CHECK(identical(projected(x, Key(5)),
                  dropout(Linear(3, 2, Key(1))(x), 0.5, Key(5).fold_in(0).fold_in(1)) + Linear(3, 2, Key(3))(x)));
  CHECK_ERROR(ShapeError, Residual(Linear(3, 1, Key(1)))(x), "[Residual]", "(4, 1)", "(4, 3)", "projects");
}

/// Batch norm, relu and a 1x1 convolution written as a product over channels.
struct PointLayer : Module {
  BatchNorm2d norm;
  Parameter conv;  // (out, in, 1, 1)

  PointLayer(std::int64_t in, Tensor weight) : norm(in, {.dtype = float64}), conv(std::move(weight)) {}
  Tensor operator()(const Tensor& x) const {
    const Tensor w = reshape(conv.value(), {conv.value().size(0), conv.value().size(1)});
    return permute(matmul(permute(relu(norm(x)), {0, 2, 3, 1}), mT(w)), {0, 3, 1, 2});
  }
  void visit(Visitor& v) override {
    v("norm", norm);
    v("conv", conv);
  }
};

DenseBlock golden_block(const Golden& golden) {
  std::vector<Layer> layers;
  for (int i = 1; i <= 3; ++i) {
    const std::string prefix = "dense.denselayer" + std::to_string(i);
    PointLayer layer(2 + 2 * i, golden[prefix + ".conv"]);
    layer.norm.weight.assign(golden[prefix + ".norm.weight"]);
    layer.norm.bias.assign(golden[prefix + ".norm.bias"]);
    layers.emplace_back(std::move(layer));
  }
  return DenseBlock(std::move(layers));
}

TEST_CASE("DenseBlock: values and gradients equal PyTorch's", "[nn]") {
  const Golden golden("pool_norm");
  DenseBlock block = golden_block(golden);
  const Tensor& x = golden["dense.x"];
  CHECK_CLOSE(block(x), golden["dense.output"], 1e-12);
  const auto loss = [&](const Tensor& input) { return sum(block(input) * golden["dense.weights"]); };
  const Tensors grads = nn::value_and_grad(block, [&] { return loss(x); }).grads;
  const auto names = block.named_parameters();
  REQUIRE(names.size() == 9);
  for (std::size_t i = 0; i < names.size(); ++i) {
    INFO(names[i].first);
    CHECK_CLOSE(grads[i], golden["dense.grad." + names[i].first], 1e-11);
  }
  CHECK_CLOSE(grad(loss, x), golden["dense.grad.x"], 1e-11);
}

TEST_CASE("DenseBlock: layers evaluated one by one on the features so far give the block", "[nn]") {
  const Golden golden("pool_norm");
  DenseBlock block = golden_block(golden);
  block.set_training(false);
  Tensors features = {golden["dense.x"]};
  for (std::size_t p = 0; p < block.size(); ++p) features.push_back(block.evaluate(p, features));
  CHECK(identical(concat(features, 1), block(golden["dense.x"])));
  CHECK_ERROR(ValueError, block.evaluate(1, {golden["dense.x"]}), "[DenseBlock]", "layer 1 and 1 features");
}

TEST_CASE("pooling layers: the operations with options", "[nn]") {
  const Tensor x = normal(Key(1), {2, 3, 7, 6});
  const MaxPoolOptions stem = {.window = 3, .stride = 2, .padding = 1};
  Sequential net{MaxPool2d(stem), AvgPool2d({.window = 2}), Flatten()};
  CHECK(identical(net(x), reshape(avg_pool2d(max_pool2d(x, stem)), {2, 3 * 2})));
  CHECK(identical(GlobalAvgPool2d()(x), mean(x, {2, 3})));
  CHECK(net.parameters().empty());
  CHECK_ERROR(ShapeError, Flatten()(zeros({})), "[Flatten]", "(N, ...)");
}

}  // namespace
}  // namespace solvent::nn
