#include "solvent/ops/loss.h"

#include <fmt/format.h>

#include "solvent/autodiff/cuda_kernel.h"
#include "solvent/core/error.h"
#include "solvent/ops/cpu/reduce.h"
#include "solvent/ops/derivatives.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/families.h"
#include "solvent/ops/index_check.h"
#include "solvent/ops/reduce.h"
#include "solvent/ops/rules.h"

#if SOLVENT_WITH_CUDA
#include "solvent/ops/cuda/reduce.h"
#endif

namespace solvent {
namespace {

TensorVec cross_entropy_jvp(const Rule& r, std::span<const Tensor> t) {
  return t[0].defined() ? sum(mul(t[0], detail::cross_entropy_grad(r.input(0), r.input(1))), {-2, -1}) : Tensor();
}

TensorVec cross_entropy_vjp(const Rule& r, std::span<const Tensor> g) {
  TensorVec out(2);
  if (g[0].defined()) out[0] = mul(g[0], detail::cross_entropy_grad(r.input(0), r.input(1)));
  return out;
}

constinit const OpDef kCrossEntropy = {.name = "cross_entropy",
                                       .cpu = cpu::cross_entropy_mean,
                                       .cuda = SOLVENT_CUDA_KERNEL(cuda::cross_entropy_mean),
                                       .jvp = cross_entropy_jvp,
                                       .vjp = cross_entropy_vjp,
                                       .inputs = {Save::data, Save::data},
                                       .num_saves = 2};

// The Hessian of the loss: the Jacobian of softmax, row by row, over N. Labels do not enter.
Tensor hessian_product(const Rule& r, const Tensor& t) {
  const Tensor& logits = r.input(0);
  return affine(detail::softmax_grad(t, softmax(logits)), 1.0 / static_cast<double>(logits.size(0)), 0.0);
}

TensorVec cross_entropy_grad_jvp(const Rule& r, std::span<const Tensor> t) {
  return t[0].defined() ? hessian_product(r, t[0]) : Tensor();
}

TensorVec cross_entropy_grad_vjp(const Rule& r, std::span<const Tensor> g) {
  TensorVec out(2);
  if (g[0].defined()) out[0] = hessian_product(r, g[0]);
  return out;
}

constinit const OpDef kCrossEntropyGrad = {.name = "cross_entropy_grad",
                                           .cpu = cpu::cross_entropy_mean_grad,
                                           .cuda = SOLVENT_CUDA_KERNEL(cuda::cross_entropy_mean_grad),
                                           .jvp = cross_entropy_grad_jvp,
                                           .vjp = cross_entropy_grad_vjp,
                                           .inputs = {Save::data, Save::none},
                                           .num_saves = 2};

constinit const OpDef* const kOps[] = {&kCrossEntropy, &kCrossEntropyGrad};

void check_labels(const Tensor& labels, std::int64_t classes) {
  detail::check_index(labels, classes, [classes](std::int64_t label, std::int64_t position) {
    throw ValueError(
        fmt::format("[cross_entropy] got label {} at position {}; expected 0 <= label < {}, the last extent of "
                    "the logits.",
                    label, position, classes));
  });
}

}  // namespace

namespace detail {
OpList loss_ops() { return kOps; }

Tensor cross_entropy_grad(Tensor logits, Tensor labels) {
  return apply1(kCrossEntropyGrad, nullptr, std::move(logits), std::move(labels));
}
}  // namespace detail

Tensor cross_entropy(Tensor logits, Tensor labels) {
  detail::check_floating("cross_entropy", logits);
  if (labels.dtype() != int64)
    throw DtypeError(fmt::format(
        "[cross_entropy] got labels {}; expected int64 class numbers. Use cast(labels, int64).", describe(labels)));
  Shape rows = logits.shape();
  if (rows.empty())
    throw ShapeError("[cross_entropy] got 0-d logits; expected (..., C): one score per class on the last axis.");
  const std::int64_t classes = rows.back();
  rows.pop_back();
  if (!(labels.shape() == rows))
    throw ShapeError(
        fmt::format("[cross_entropy] got logits {} and labels {}; expected labels of shape {}, one per row of the "
                    "logits.",
                    to_string(logits.shape()), to_string(labels.shape()), to_string(rows)));
  check_labels(labels, classes);
  const std::int64_t n = rows.product();
  return apply1(kCrossEntropy, nullptr, reshape(std::move(logits), {n, classes}), reshape(std::move(labels), {n}));
}

Tensor mse_loss(Tensor prediction, Tensor target) {
  detail::check_floating("mse_loss", prediction);
  if (!(prediction.shape() == target.shape()))  // (N) against (N, 1) would broadcast to (N, N) and train on nonsense
    throw ShapeError(
        fmt::format("[mse_loss] got shapes {} and {}; expected the same shape. Use reshape or broadcast_to.",
                    to_string(prediction.shape()), to_string(target.shape())));
  return mean(square(sub(std::move(prediction), std::move(target))));
}

}  // namespace solvent
