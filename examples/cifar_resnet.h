#pragma once
/// The network of cifar_resnet.cpp.

#include <utility>

#include "solvent/solvent.h"

namespace solvent::examples {

inline nn::Conv2d resnet_conv(std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t stride, Key key) {
  return {in, out, kernel, key, {.stride = stride, .padding = nn::same_padding(kernel)}, {.bias = false}};
}

/// Two convolutions beside a shortcut, which is the identity or a 1 x 1 convolution (He et al. 2016, arXiv:1512.03385).
inline nn::Residual resnet_block(std::int64_t in, std::int64_t out, std::int64_t stride, Key key) {
  nn::Sequential body{resnet_conv(in, out, 3, stride, key.fold_in(0)), nn::BatchNorm2d(out), relu,
                      resnet_conv(out, out, 3, 1, key.fold_in(1)), nn::BatchNorm2d(out)};
  if (in == out && stride == 1) return nn::Residual(std::move(body));
  return nn::Residual(std::move(body),
                      nn::Sequential{resnet_conv(in, out, 1, stride, key.fold_in(2)), nn::BatchNorm2d(out)});
}

/// Four stages, each after the first with half the map and twice the channels: images (N, C, H, W) -> logits (N, classes).
inline nn::Sequential resnet(std::int64_t channels, std::int64_t width, std::int64_t classes, Key key) {
  nn::Sequential net{resnet_conv(channels, width, 3, 1, key.fold_in(0)), nn::BatchNorm2d(width), relu};
  std::int64_t in = width;
  for (std::uint64_t stage = 0; stage < 4; ++stage) {
    const std::int64_t out = width << stage;
    net.add(resnet_block(in, out, stage == 0 ? 1 : 2, key.fold_in(1 + stage))).add(relu);
    in = out;
  }
  net.add([](const Tensor& x) { return global_avg_pool2d(x); });
  net.add(nn::Linear(in, classes, key.fold_in(9)));
  return net;
}

}  // namespace solvent::examples
