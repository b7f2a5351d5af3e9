#include "solvent/nn/dense_layer.h"

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/pool.h"

namespace solvent::nn {

namespace {

Conv2d plain_conv(std::int64_t in, std::int64_t out, std::int64_t kernel, Key key, DType dtype) {
  return {in,
          out,
          kernel,
          key,
          {.padding = same_padding(kernel)},
          {.bias = false, .init = WeightInit::he_normal, .dtype = dtype}};
}

// Before members are made, so that errors name the layer.
std::int64_t checked(const char* layer, std::int64_t in, std::int64_t out, std::int64_t bottleneck = 1) {
  if (in < 1 || out < 1 || bottleneck < 1)
    throw ValueError(fmt::format("[{}] got {} channels in, {} out and a bottleneck of {}; expected positive numbers.",
                                 layer, in, out, bottleneck));
  return in;
}

}  // namespace

DenseLayer::DenseLayer(std::int64_t in_channels, std::int64_t growth, Key key, const DenseLayerOptions& options)
    : norm1(checked("DenseLayer", in_channels, growth, options.bottleneck),
            {.eps = options.eps, .dtype = options.dtype}),
      conv1(plain_conv(in_channels, options.bottleneck * growth, 1, key.fold_in(0), options.dtype)),
      norm2(options.bottleneck * growth, {.eps = options.eps, .dtype = options.dtype}),
      conv2(plain_conv(options.bottleneck * growth, growth, 3, key.fold_in(1), options.dtype)),
      dropout_(options.dropout) {}

Tensor DenseLayer::features(const Tensor& x) const { return conv2(relu(norm2(conv1(relu(norm1(x)))))); }

Tensor DenseLayer::operator()(const Tensor& x) const { return dropout_(features(x)); }
Tensor DenseLayer::operator()(const Tensor& x, Key key) const { return dropout_(features(x), key); }

void DenseLayer::visit(Visitor& visitor) {
  visitor("norm1", norm1);
  visitor("conv1", conv1);
  visitor("norm2", norm2);
  visitor("conv2", conv2);
  visitor("dropout", dropout_);
}

DenseTransition::DenseTransition(std::int64_t in_channels, std::int64_t out_channels, Key key, double eps, DType dtype)
    : norm(checked("DenseTransition", in_channels, out_channels), {.eps = eps, .dtype = dtype}),
      conv(plain_conv(in_channels, out_channels, 1, key, dtype)) {}

Tensor DenseTransition::operator()(const Tensor& x) const { return avg_pool2d(conv(relu(norm(x)))); }

void DenseTransition::visit(Visitor& visitor) {
  visitor("norm", norm);
  visitor("conv", conv);
}

}  // namespace solvent::nn
