// Layers and transitions of DenseNets, inside DenseBlock.

#include "solvent/nn/dense_layer.h"
#include "solvent/autodiff/gradcheck.h"
#include "solvent/nn/functional.h"
#include "solvent/nn/linear.h"
#include "solvent/nn/pool.h"
#include "solvent/nn/sequential.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/nn/nn_support.h"

namespace solvent::nn {
namespace {

using testing::Golden;
using testing::identical;

DenseBlock dense_block(std::int64_t channels, std::int64_t growth, std::int64_t count,
                       const DenseLayerOptions& options) {
  std::vector<Layer> layers;
  for (std::int64_t p = 0; p < count; ++p)
    layers.emplace_back(DenseLayer(channels + growth * p, growth, Key(static_cast<std::uint64_t>(p)), options));
  return DenseBlock(std::move(layers));
}

TEST_CASE("DenseLayer, DenseTransition: values, gradients and statistics equal PyTorch's", "[nn]") {
  const Golden golden("dense_net");
  Sequential net;
  net.add("denseblock1", dense_block(4, 3, 2, {.bottleneck = 2, .dtype = float64}))
      .add("transition1", DenseTransition(10, 5, Key(1), 1e-5, float64));
  const auto names = net.named_parameters();
  REQUIRE(names.size() == 15);
  for (const auto& [name, slot] : names) slot->assign(golden["state." + name]);
  const Tensor& x = golden["x"];
  const ValueAndGrad r = nn::value_and_grad(net, [&] { return sum(net(x) * golden["weights"]); });
  CHECK(r.value.item() == Approx(sum(golden["output"] * golden["weights"]).item()).epsilon(1e-12));
  for (std::size_t i = 0; i < names.size(); ++i) {
    INFO(names[i].first);
    CHECK_CLOSE(r.grads[i], golden["grad." + names[i].first], 1e-11);
  }
  int statistics = 0;
  for (const auto& [name, value] : net.state_dict())
    if (name.find("running") != std::string::npos) {
      INFO(name);
      CHECK_CLOSE(value, golden["running." + name], 1e-12);
      ++statistics;
    }
  CHECK(statistics == 10);
  net.set_training(false);
  CHECK_CLOSE(net(x), golden["evaluated"], 1e-12);
  net.set_training(true);
  CHECK_CLOSE(net(x), golden["output"], 1e-12);
  CHECK_CLOSE(grad([&](const Tensor& input) { return sum(net(input) * golden["weights"]); }, x), golden["grad.x"],
              1e-11);
}

TEST_CASE("DenseLayer: the composition it stands for", "[nn]") {
  DenseLayer layer(5, 3, Key(1));
  CHECK(layer.conv1.weight.value().shape() == Shape{12, 5, 1, 1});
  CHECK(layer.conv2.weight.value().shape() == Shape{3, 12, 3, 3});
  const Tensor x = normal(Key(2), {2, 5, 4, 6});
  layer.set_training(false);
  const Tensor inner = conv2d(relu(layer.norm1(x)), layer.conv1.weight.value());
  const Tensor expected = conv2d(relu(layer.norm2(inner)), layer.conv2.weight.value(), {.padding = 1});
  CHECK(identical(layer(x), expected));
  // Variance 2 / fan_in.
  const DenseLayer wide(64, 32, Key(3));
  CHECK(mean(square(wide.conv1.weight.value())).item() == Approx(2.0 / 64).epsilon(0.05));
  CHECK(mean(square(wide.conv2.weight.value())).item() == Approx(2.0 / (128 * 9)).epsilon(0.05));
}

TEST_CASE("DenseLayer: dropout draws by the key of the call", "[nn]") {
  const DenseLayerOptions options{.dropout = 0.5};
  DenseLayer layer(4, 2, Key(1), options);
  const Tensor x = normal(Key(2), {2, 4, 3, 3});
  CHECK_ERROR(ValueError, layer(x), "[Dropout]", "no Key");
  const Tensor whole = DenseLayer(4, 2, Key(1))(x);
  CHECK(identical(layer(x, Key(3)), dropout(whole, 0.5, Key(3))));
  layer.set_training(false);
  CHECK(identical(layer(x), layer(x, Key(3))));
}

TEST_CASE("DenseLayer: gradcheck in all modes", "[nn]") {
  DenseLayer layer(2, 1, Key(1), {.bottleneck = 2, .dtype = float64});
  Tensors packed = layer.parameter_values();
  packed.push_back(normal(Key(2), {2, 2, 2, 3}, 0, 1, float64));
  const GradcheckReport report = gradcheck(nn::bind(layer), packed);
  INFO(report.message);
  CHECK(report.ok);
}

TEST_CASE("DenseLayer: a DenseNet-121 has as many parameters as torchvision's", "[nn]") {
  std::int64_t count = 0, channels = 64, stage = 0;
  for (const std::int64_t layers : {6, 12, 24, 16}) {
    DenseBlock block = dense_block(channels, 32, layers, {});
    count += block.num_parameters();
    channels += 32 * layers;
    if (++stage == 4) break;
    DenseTransition transition(channels, channels / 2, Key(1));
    count += transition.num_parameters();
    channels /= 2;
  }
  CHECK(channels == 1024);
  count += 64 * 3 * 7 * 7 + 2 * 64;                // stem: convolution and normalisation
  count += 2 * channels + channels * 1000 + 1000;  // normalisation and linear layer
  CHECK(count == 7978856);
}

TEST_CASE("DenseLayer, DenseTransition: wrong sizes are refused", "[nn]") {
  CHECK_ERROR(ValueError, DenseLayer(0, 4, Key(1)), "[DenseLayer]", "0 channels in", "expected positive");
  CHECK_ERROR(ValueError, DenseLayer(4, 4, Key(1), {.bottleneck = 0}), "[DenseLayer]", "bottleneck of 0");
  CHECK_ERROR(ValueError, DenseLayer(4, 4, Key(1), {.dropout = 1.5}), "[Dropout]", "p = 1.5");
  CHECK_ERROR(ValueError, DenseTransition(4, 0, Key(1)), "[DenseTransition]", "0 out");
  CHECK_ERROR(ShapeError, DenseLayer(4, 2, Key(1))(zeros({1, 3, 4, 4})), "[BatchNorm2d]", "4");
  const DenseTransition transition(4, 2, Key(1));
  CHECK(transition(normal(Key(2), {1, 4, 5, 6})).shape() == Shape{1, 2, 2, 3});
}

}  // namespace
}  // namespace solvent::nn
