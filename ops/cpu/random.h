#pragma once
/// CPU kernels of random tensors. No tensor inputs: everything is in the attributes.

#include <span>
#include <string>

#include "solvent/autodiff/op.h"
#include "solvent/core/rng.h"

namespace solvent {

/// Stream, result and two parameters whose meaning belongs to the distribution.
struct RandomAttrs : AttrsBase<RandomAttrs> {
  Key key;
  Shape shape;
  DType dtype = DType::float32;
  Device on;
  double a = 0.0;
  double b = 0.0;
  std::int64_t low = 0;
  std::int64_t high = 0;

  [[nodiscard]] std::string describe() const override;
  [[nodiscard]] Device device() const override { return on; }
};

namespace cpu {

/// [a, b)
TensorVec uniform(std::span<Tensor>, const Attrs* attrs);
/// mean a, standard deviation b
TensorVec normal(std::span<Tensor>, const Attrs* attrs);
/// |z| <= a, scaled by b
TensorVec truncated_normal(std::span<Tensor>, const Attrs* attrs);
/// true with probability a
TensorVec bernoulli(std::span<Tensor>, const Attrs* attrs);
/// [low, high)
TensorVec randint(std::span<Tensor>, const Attrs* attrs);
/// 0..high-1 in random order
TensorVec permutation(std::span<Tensor>, const Attrs* attrs);

}  // namespace cpu
}  // namespace solvent
