#pragma once
/// The network of mnist_cnn.cpp.

#include "solvent/solvent.h"

namespace solvent::examples {

// [model]
struct Cnn : nn::Module {
  nn::Conv2d first{1, 16, 5, Key(1), {.padding = 2}};
  nn::Conv2d second{16, 32, 5, Key(2), {.padding = 2}};
  nn::Linear head{32 * 7 * 7, 10, Key(3)};

  // x (N, 1, 28, 28) -> logits (N, 10)
  Tensor operator()(const Tensor& x) const {
    Tensor h = max_pool2d(relu(first(x)));  // (N, 16, 14, 14)
    h = max_pool2d(relu(second(h)));        // (N, 32, 7, 7)
    return head(reshape(h, {x.size(0), -1}));
  }
  void visit(nn::Visitor& v) override {
    v("first", first);
    v("second", second);
    v("head", head);
  }
};
// [model]

}  // namespace solvent::examples
