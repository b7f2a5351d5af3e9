#pragma once
/// CPU kernels of batch normalisation and dropout: tensors to the loops of norm_kernels.h. An operand that is not dense is
/// copied first; values that K directions share are not.

#include <span>
#include <string>

#include "solvent/autodiff/op.h"
#include "solvent/core/rng.h"

namespace solvent {

/// Which elements are dropped. The mask belongs to the last `period` * `inner` elements; leading axes of directions share it.
struct DropoutAttrs : AttrsBase<DropoutAttrs> {
  Key key;
  double p = 0.5;
  std::int64_t inner = 1;   ///< elements per decision
  std::int64_t period = 1;  ///< number of decisions
  [[nodiscard]] std::string describe() const override;
};

namespace cpu {

/// x (N, C, S) -> mean, var (1, C, 1)
TensorVec batch_moments(std::span<Tensor> inputs, const Attrs*);
/// x (N, C, S), weight, bias, mean, var (1, C, 1) -> (x - mean) / sqrt(var + eps) weight + bias. EpsAttrs
TensorVec batch_normalise(std::span<Tensor> inputs, const Attrs* attrs);
/// g, x (..., N, C, S), weight, mean, var (..., 1, C, 1) -> cotangents of x, weight, bias. EpsAttrs
TensorVec batch_normalise_grad(std::span<Tensor> inputs, const Attrs* attrs);
/// x (N, C, S), mean, scale, shift (1, C, 1) -> (x - mean) scale + shift
TensorVec channel_affine_map(std::span<Tensor> inputs, const Attrs*);
/// x (R, C), weight, bias (1, C) -> layer_norm of each row times weight plus bias. EpsAttrs
TensorVec layer_norm_affine_rows(std::span<Tensor> inputs, const Attrs* attrs);
/// g, x (..., R, C), weight (..., 1, C) -> cotangents of x, weight, bias. EpsAttrs
TensorVec layer_norm_affine_rows_grad(std::span<Tensor> inputs, const Attrs* attrs);
/// DropoutAttrs
TensorVec dropout_mask(std::span<Tensor> inputs, const Attrs* attrs);

}  // namespace cpu
}  // namespace solvent
