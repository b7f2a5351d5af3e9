#include "solvent/nn/conv.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/nn/conv_util.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/shape_ops.h"

namespace solvent::nn {

namespace detail {

Tensor make_filter(WeightInit init, Key key, const Shape& shape, DType dtype) {
  const Dims taps(std::span(shape.begin() + 2, shape.size() - 2));
  if (init == WeightInit::orthogonal)
    return reshape(make_weight(init, key, {shape[0], shape[1] * taps.product()}, dtype), shape);
  // The initialisers count leading axes into both fans: taps first.
  Tensor weight = make_weight(init, key, {taps.product(), shape[0], shape[1]}, dtype);
  return reshape(contiguous(permute(std::move(weight), {1, 2, 0})), shape);
}

Parameter make_bias(bool bias, WeightInit init, Key key, std::int64_t channels, const Tensor& filter) {
  if (!bias) return {};
  if (init != WeightInit::fan_in_uniform) return Parameter(zeros({channels}, filter.dtype()));
  const double fan_in = static_cast<double>(filter.numel() / filter.size(0));
  return Parameter(init::uniform(key, {channels}, 1.0 / std::sqrt(fan_in), filter.dtype()));
}

Tensor add_bias(Tensor y, const Parameter& bias) {
  if (!bias.defined()) return y;
  Shape shape = Dims::filled(y.rank() - 1, 1);
  shape[0] = bias.value().size(0);
  return add(std::move(y), reshape(bias.value(), shape));
}

void check_filter(const char* layer, std::int64_t in_channels, std::int64_t out_channels, const Dims& kernel,
                  std::int64_t groups) {
  const bool positive = in_channels > 0 && out_channels > 0 && groups > 0 &&
                        std::all_of(kernel.begin(), kernel.end(), [](auto k) { return k > 0; });
  if (!positive || in_channels % groups != 0 || out_channels % groups != 0)
    throw ValueError(
        fmt::format("[{}] got {} inputs, {} outputs, a filter of {} and {} groups; expected positive numbers "
                    "and channels divisible by groups.",
                    layer, in_channels, out_channels, to_string(kernel), groups));
}

void check_input(const char* layer, const Tensor& x, int rank, std::int64_t channels, const Tensor& filter) {
  if (x.rank() != rank || x.size(1) != channels)
    throw ShapeError(fmt::format("[{}] got x {}; expected (N, {}, {}), the inputs of a layer with weight {}.{}", layer,
                                 describe(x), channels, rank == 4 ? "H, W" : "L", to_string(filter.shape()),
                                 x.rank() == rank - 1 ? " Use unsqueeze(x, 0) for a batch of one." : ""));
}

}  // namespace detail

Padding2d same_padding(Size2d kernel, Size2d dilation) {
  const std::int64_t rows = dilation.height * (kernel.height - 1);
  const std::int64_t columns = dilation.width * (kernel.width - 1);
  return {rows / 2, rows - rows / 2, columns / 2, columns - columns / 2};
}

Conv2d::Conv2d(std::int64_t in_channels, std::int64_t out_channels, Size2d kernel, Key key, Conv2dOptions options,
               ConvLayerOptions layer)
    : options_(options) {
  detail::check_filter("Conv2d", in_channels, out_channels, {kernel.height, kernel.width}, options.groups);
  weight = Parameter(detail::make_filter(layer.init, key.fold_in(0),
                                         {out_channels, in_channels / options.groups, kernel.height, kernel.width},
                                         layer.dtype));
  bias = detail::make_bias(layer.bias, layer.init, key.fold_in(1), out_channels, weight.value());
}

Tensor Conv2d::operator()(const Tensor& x) const {
  detail::check_input("Conv2d", x, 4, in_channels(), weight.value());
  return detail::add_bias(conv2d(x, weight.value(), options_), bias);
}

void Conv2d::visit(Visitor& visitor) {
  visitor("weight", weight);
  visitor("bias", bias);
}

Conv1d::Conv1d(std::int64_t in_channels, std::int64_t out_channels, std::int64_t kernel, Key key, Conv1dOptions options,
               ConvLayerOptions layer)
    : options_(options) {
  detail::check_filter("Conv1d", in_channels, out_channels, {kernel}, options.groups);
  weight = Parameter(detail::make_filter(layer.init, key.fold_in(0),
                                         {out_channels, in_channels / options.groups, kernel}, layer.dtype));
  bias = detail::make_bias(layer.bias, layer.init, key.fold_in(1), out_channels, weight.value());
}

Tensor Conv1d::operator()(const Tensor& x) const {
  detail::check_input("Conv1d", x, 3, in_channels(), weight.value());
  return detail::add_bias(conv1d(x, weight.value(), options_), bias);
}

void Conv1d::visit(Visitor& visitor) {
  visitor("weight", weight);
  visitor("bias", bias);
}

ConvTranspose2d::ConvTranspose2d(std::int64_t in_channels, std::int64_t out_channels, Size2d kernel, Key key,
                                 ConvTranspose2dOptions options, ConvLayerOptions layer)
    : options_(options) {
  detail::check_filter("ConvTranspose2d", in_channels, out_channels, {kernel.height, kernel.width}, options.groups);
  weight = Parameter(detail::make_filter(layer.init, key.fold_in(0),
                                         {in_channels, out_channels / options.groups, kernel.height, kernel.width},
                                         layer.dtype));
  bias = detail::make_bias(layer.bias, layer.init, key.fold_in(1), out_channels, weight.value());
}

Tensor ConvTranspose2d::operator()(const Tensor& x) const {
  detail::check_input("ConvTranspose2d", x, 4, in_channels(), weight.value());
  return detail::add_bias(conv_transpose2d(x, weight.value(), options_), bias);
}

void ConvTranspose2d::visit(Visitor& visitor) {
  visitor("weight", weight);
  visitor("bias", bias);
}

}  // namespace solvent::nn
