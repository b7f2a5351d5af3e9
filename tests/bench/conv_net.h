#pragma once
/// The small convolutional network of the training benchmarks.

#include "solvent/nn/nn.h"
#include "solvent/ops/ops.h"

namespace solvent::bench {

/// Three convolutions 3 x 3 with pooling, then a linear layer: images (N, 3, 32, 32) -> logits (N, 10).
class ConvNet : public nn::Module {
 public:
  explicit ConvNet(Key key)
      : conv1(3, 32, 3, key.fold_in(0), {.padding = 1}),
        conv2(32, 64, 3, key.fold_in(1), {.padding = 1}),
        conv3(64, 128, 3, key.fold_in(2), {.padding = 1}),
        head(128 * 4 * 4, 10, key.fold_in(3)) {}

  Tensor operator()(const Tensor& x) const {
    Tensor h = max_pool2d(relu(conv1(x)));
    h = max_pool2d(relu(conv2(h)));
    h = max_pool2d(relu(conv3(h)));
    return head(reshape(h, {h.size(0), -1}));
  }
  void visit(nn::Visitor& visitor) override {
    visitor("conv1", conv1);
    visitor("conv2", conv2);
    visitor("conv3", conv3);
    visitor("head", head);
  }

  nn::Conv2d conv1, conv2, conv3;
  nn::Linear head;
};

}  // namespace solvent::bench
