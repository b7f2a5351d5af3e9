#pragma once
/// Pooling as layers without parameters, for containers.

#include "solvent/nn/module.h"
#include "solvent/ops/pool.h"

namespace solvent::nn {

/// max_pool2d of ops/pool.h.
class SOLVENT_API MaxPool2d : public Module {
 public:
  /// Windows are checked when the layer is called.
  explicit MaxPool2d(MaxPoolOptions options = {}) : options_(options) {}
  /// x (..., H, W). @throws as max_pool2d
  Tensor operator()(const Tensor& x) const { return max_pool2d(x, options_); }
  void visit(Visitor&) override {}

 private:
  MaxPoolOptions options_;
};

/// avg_pool2d of ops/pool.h.
class SOLVENT_API AvgPool2d : public Module {
 public:
  /// Windows are checked when the layer is called.
  explicit AvgPool2d(AvgPoolOptions options = {}) : options_(options) {}
  /// x (..., H, W). @throws as avg_pool2d
  Tensor operator()(const Tensor& x) const { return avg_pool2d(x, options_); }
  void visit(Visitor&) override {}

 private:
  AvgPoolOptions options_;
};

/// global_avg_pool2d of ops/pool.h: (..., H, W) -> (...).
class SOLVENT_API GlobalAvgPool2d : public Module {
 public:
  /// @throws as global_avg_pool2d
  Tensor operator()(const Tensor& x) const { return global_avg_pool2d(x); }
  void visit(Visitor&) override {}
};

/// (N, ...) -> (N, product of the rest).
class SOLVENT_API Flatten : public Module {
 public:
  /// @throws ShapeError for a 0-d tensor
  Tensor operator()(const Tensor& x) const;
  void visit(Visitor&) override {}
};

}  // namespace solvent::nn
