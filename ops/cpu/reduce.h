#pragma once
/// CPU kernels of reductions, row-wise normalisations and losses. Rows are the last axis; an operand that is not dense is
/// copied first (one pass, small beside the exponentials), unless its rows are columns of dense matrices: those softmax,
/// log_softmax and softmax_grad read in place, and their result lies in memory as the operand does.

#include <span>
#include <string>

#include "solvent/autodiff/op.h"

namespace solvent {

/// The axis of a reduction, from the right.
struct AxisAttrs : AttrsBase<AxisAttrs> {
  int axis = -1;

  explicit AxisAttrs(int a) : axis(a) {}
  [[nodiscard]] std::string describe() const override;
};

struct EpsAttrs : AttrsBase<EpsAttrs> {
  double eps = 0.0;

  explicit EpsAttrs(double e) : eps(e) {}
  [[nodiscard]] std::string describe() const override;
};

namespace cpu {

/// (value, index) along AxisAttrs::axis, which keeps extent 1. Floating types and int64.
TensorVec max_with_index(std::span<Tensor> inputs, const Attrs* attrs);
TensorVec min_with_index(std::span<Tensor> inputs, const Attrs* attrs);
/// Of all elements of a bool tensor: 0-d bool.
TensorVec all(std::span<Tensor> inputs, const Attrs*);
TensorVec any(std::span<Tensor> inputs, const Attrs*);

/// (..., n) -> (..., 1)
TensorVec logsumexp_rows(std::span<Tensor> inputs, const Attrs*);
TensorVec softmax_rows(std::span<Tensor> inputs, const Attrs*);
TensorVec log_softmax_rows(std::span<Tensor> inputs, const Attrs*);
/// g, y -> y (g - sum(g y))
TensorVec softmax_grad_rows(std::span<Tensor> inputs, const Attrs*);
/// EpsAttrs
TensorVec layer_norm_rows(std::span<Tensor> inputs, const Attrs* attrs);
/// g, x
TensorVec layer_norm_grad_rows(std::span<Tensor> inputs, const Attrs* attrs);

/// logits (N, C), labels (N) -> 0-d mean
TensorVec cross_entropy_mean(std::span<Tensor> inputs, const Attrs*);
/// logits (N, C), labels (N) -> (softmax - one_hot) / N
TensorVec cross_entropy_mean_grad(std::span<Tensor> inputs, const Attrs*);

}  // namespace cpu
}  // namespace solvent
