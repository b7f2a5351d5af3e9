// Glue between tensors and the loops of norm_kernels.h.

#include "solvent/ops/cpu/norm.h"

#include <cmath>
#include <vector>

#include <fmt/format.h>

#include "solvent/core/engine/view.h"
#include "solvent/ops/cpu/norm_kernels.h"
#include "solvent/ops/cpu/norm_operands.h"
#include "solvent/ops/cpu/reduce.h"
#include "solvent/ops/cpu/vector_kernels.h"

namespace solvent {

std::string DropoutAttrs::describe() const { return fmt::format("p={}, key=({}, {})", p, key.seed, key.stream); }

namespace cpu {
namespace {

/// 1 / sqrt(var + eps) for one channel.
template <class T>
T reciprocal_deviation(T var, double eps) {
  return static_cast<T>(1.0 / std::sqrt(static_cast<double>(var) + eps));
}

}  // namespace

TensorVec batch_moments(std::span<Tensor> inputs, const Attrs*) {
  const Tensor& x = inputs[0];
  return dispatch_float(x.dtype(), "batch_norm", [&](auto tag) -> TensorVec {
    using T = typename decltype(tag)::type;
    const Tensor dense = engine::contiguous(x);
    const ChannelShape s = channels_of(x.shape());
    Tensor mean = engine::empty({1, s.channels, 1}, dtype_of<T>, x.device());
    Tensor var = engine::empty({1, s.channels, 1}, dtype_of<T>, x.device());
    if (s.channels > 0)
      channel_moments(s, engine::ptr<T>(dense), engine::mutable_ptr<T>(mean), engine::mutable_ptr<T>(var));
    return {std::move(mean), std::move(var)};
  });
}

TensorVec batch_normalise(std::span<Tensor> inputs, const Attrs* attrs) {
  const double eps = static_cast<const EpsAttrs*>(attrs)->eps;
  return dispatch_float(inputs[0].dtype(), "batch_norm", [&](auto tag) -> Tensor {
    using T = typename decltype(tag)::type;
    const ChannelShape s = channels_of(inputs[0].shape());
    for (Tensor& t : inputs) t = engine::contiguous(t);
    const T* weight = engine::ptr<T>(inputs[1]);
    const T* var = engine::ptr<T>(inputs[4]);
    std::vector<T> scale(static_cast<std::size_t>(s.channels));
    for (std::size_t c = 0; c < scale.size(); ++c) scale[c] = weight[c] * reciprocal_deviation(var[c], eps);
    const T* src = engine::ptr<T>(inputs[0]);
    Tensor y = engine::take_or_empty(inputs[0], inputs[0].shape(), dtype_of<T>);
    if (y.numel() > 0)
      channel_affine(s, src, engine::ptr<T>(inputs[3]), scale.data(), engine::ptr<T>(inputs[2]),
                     engine::mutable_ptr<T>(y));
    return y;
  });
}

TensorVec batch_normalise_grad(std::span<Tensor> inputs, const Attrs* attrs) {
  const double eps = static_cast<const EpsAttrs*>(attrs)->eps;
  return dispatch_float(inputs[0].dtype(), "batch_norm_grad", [&](auto tag) -> TensorVec {
    using T = typename decltype(tag)::type;
    const Shape shape = inputs[0].shape();
    const ChannelShape s = channels_of(shape);
    NormGrads grads(inputs[0], {-3, -1});
    if (grads.is_empty()) return grads.take();
    const std::int64_t each = s.samples * s.channels * s.size;
    const Shared<T> g(inputs[0], each), x(inputs[1], each);
    const Shared<T> weight(inputs[2], s.channels), mean(inputs[3], s.channels), var(inputs[4], s.channels);
    const T inverse_count = T{1} / static_cast<T>(s.samples * s.size);
    std::vector<T> a(static_cast<std::size_t>(s.channels)), b(a.size()), c(a.size());
    for (std::int64_t lead = 0; lead < shape.product() / each; ++lead) {
      T* sum_gx = engine::mutable_ptr<T>(grads.weight) + lead * s.channels;
      T* sum_g = engine::mutable_ptr<T>(grads.bias) + lead * s.channels;
      channel_sums(s, g.data(lead), x.data(lead), mean.data(lead), sum_g, sum_gx);
      for (std::size_t i = 0; i < a.size(); ++i) {
        const T rstd = reciprocal_deviation(var.data(lead)[i], eps);
        a[i] = weight.data(lead)[i] * rstd;
        b[i] = sum_g[i] * inverse_count;
        c[i] = rstd * rstd * sum_gx[i] * inverse_count;
        sum_gx[i] *= rstd;
      }
      channel_backward(s, g.data(lead), x.data(lead), mean.data(lead), a.data(), b.data(), c.data(),
                       engine::mutable_ptr<T>(grads.x) + lead * each);
    }
    return grads.take();
  });
}

TensorVec channel_affine_map(std::span<Tensor> inputs, const Attrs*) {
  return dispatch_float(inputs[0].dtype(), "batch_norm_eval", [&](auto tag) -> Tensor {
    using T = typename decltype(tag)::type;
    const ChannelShape s = channels_of(inputs[0].shape());
    for (Tensor& t : inputs) t = engine::contiguous(t);
    const T* src = engine::ptr<T>(inputs[0]);
    Tensor y = engine::take_or_empty(inputs[0], inputs[0].shape(), dtype_of<T>);
    if (y.numel() > 0)
      channel_affine(s, src, engine::ptr<T>(inputs[1]), engine::ptr<T>(inputs[2]), engine::ptr<T>(inputs[3]),
                     engine::mutable_ptr<T>(y));
    return y;
  });
}

TensorVec layer_norm_affine_rows(std::span<Tensor> inputs, const Attrs* attrs) {
  const double eps = static_cast<const EpsAttrs*>(attrs)->eps;
  return dispatch_float(inputs[0].dtype(), "layer_norm", [&](auto tag) -> Tensor {
    using T = typename decltype(tag)::type;
    for (Tensor& t : inputs) t = engine::contiguous(t);
    const Shape shape = inputs[0].shape();
    const T* x = engine::ptr<T>(inputs[0]);
    Tensor y = engine::take_or_empty(inputs[0], shape, dtype_of<T>);
    T* none = nullptr;
    if (y.numel() > 0)
      layer_norm(x, engine::ptr<T>(inputs[1]), engine::ptr<T>(inputs[2]), eps, engine::mutable_ptr<T>(y), none, none,
                 shape[0], shape[1]);
    return y;
  });
}

TensorVec layer_norm_affine_rows_grad(std::span<Tensor> inputs, const Attrs* attrs) {
  const double eps = static_cast<const EpsAttrs*>(attrs)->eps;
  return dispatch_float(inputs[0].dtype(), "layer_norm_grad", [&](auto tag) -> TensorVec {
    using T = typename decltype(tag)::type;
    const Shape shape = inputs[0].shape();
    const std::int64_t rows = shape.at(-2);
    const std::int64_t cols = shape.at(-1);
    NormGrads grads(inputs[0], {-2});
    if (grads.is_empty()) return grads.take();
    Tensor statistics = engine::empty({2, rows}, dtype_of<T>, inputs[0].device());
    T* mean = engine::mutable_ptr<T>(statistics);
    T* rstd = mean + rows;
    const Shared<T> g(inputs[0], rows * cols, 2), x(inputs[1], rows * cols, 2), weight(inputs[2], cols, 2);
    const T* none = nullptr;
    for (std::int64_t lead = 0; lead < shape.product() / (rows * cols); ++lead) {
      // The normalised rows that come with mean and deviation go to grads.x, which is overwritten next.
      T* out = engine::mutable_ptr<T>(grads.x) + lead * rows * cols;
      layer_norm(x.data(lead), none, none, eps, out, mean, rstd, rows, cols);
      layer_norm_backward(g.data(lead), x.data(lead), static_cast<const T*>(mean), static_cast<const T*>(rstd),
                          weight.data(lead), out, engine::mutable_ptr<T>(grads.weight) + lead * cols,
                          engine::mutable_ptr<T>(grads.bias) + lead * cols, rows, cols);
    }
    return grads.take();
  });
}

TensorVec dropout_mask(std::span<Tensor> inputs, const Attrs* attrs) {
  const auto& a = *static_cast<const DropoutAttrs*>(attrs);
  return dispatch_float(inputs[0].dtype(), "dropout", [&](auto tag) -> Tensor {
    using T = typename decltype(tag)::type;
    inputs[0] = engine::contiguous(inputs[0]);
    const T* src = engine::ptr<T>(inputs[0]);
    const std::int64_t n = inputs[0].numel();
    Tensor y = engine::take_or_empty(inputs[0], inputs[0].shape(), dtype_of<T>);
    const auto threshold = static_cast<std::uint64_t>(std::ceil(a.p * 0x1p32));
    if (n > 0) dropout(a.key, threshold, 1.0 / (1.0 - a.p), a.inner, a.period, src, n, engine::mutable_ptr<T>(y));
    return y;
  });
}

}  // namespace cpu
}  // namespace solvent
