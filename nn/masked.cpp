#include "solvent/nn/masked.h"

#include <utility>

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/nn/conv_util.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/linalg.h"
#include "solvent/ops/norm.h"
#include "solvent/ops/reduce.h"
#include "solvent/ops/shape_ops.h"

namespace solvent::nn {

namespace {

// @throws ValueError unless all entries are 0 or 1
Tensor checked_mask(const Tensor& mask, DType dtype) {
  if (mask.rank() != 2 || mask.numel() == 0)
    throw ShapeError(fmt::format("[MaskedLinear] got mask {}; expected (out, in) with at least one of each.",
                                 to_string(mask.shape())));
  const Tensor converted = cast(mask, dtype);
  for (const double entry : cast(mask, float64).to_vector<double>())
    if (entry != 0.0 && entry != 1.0)
      throw ValueError(fmt::format("[MaskedLinear] got a mask with the entry {}; expected 0 and 1 only.", entry));
  return converted;
}

}  // namespace

MaskedLinear::MaskedLinear(const Tensor& mask_entries, Key key, LinearOptions options)
    : mask(checked_mask(mask_entries, options.dtype)) {
  Linear plain(mask_entries.size(1), mask_entries.size(0), key, options);
  weight = std::move(plain.weight);
  bias = std::move(plain.bias);
}

Tensor MaskedLinear::operator()(const Tensor& x) const {
  const std::int64_t inputs = weight.value().size(1);
  if (x.rank() < 1 || x.size(-1) != inputs)
    throw ShapeError(fmt::format("[MaskedLinear] got x {}; expected (..., {}), the inputs of a layer with weight {}.",
                                 describe(x), inputs, to_string(weight.value().shape())));
  Tensor y = matmul(x, mT(weight.value() * mask.value()));
  return bias.defined() ? std::move(y) + bias.value() : y;
}

void MaskedLinear::visit(Visitor& visitor) {
  visitor("weight", weight);
  visitor("bias", bias);
  visitor("mask", mask);
}

Tensor degree_mask(const std::vector<std::int64_t>& in_degrees, const std::vector<std::int64_t>& out_degrees,
                   bool strict) {
  if (in_degrees.empty() || out_degrees.empty())
    throw ValueError(fmt::format("[degree_mask] got {} and {} degrees; expected at least one input and one output.",
                                 in_degrees.size(), out_degrees.size()));
  std::vector<float> entries;
  for (const std::int64_t out : out_degrees)
    for (const std::int64_t in : in_degrees) entries.push_back(in < out || (in == out && !strict) ? 1.0f : 0.0f);
  return from_vector(entries,
                     {static_cast<std::int64_t>(out_degrees.size()), static_cast<std::int64_t>(in_degrees.size())});
}

// --- MaskedConv2d -------------------------------------------------------------------------------------------------------------

namespace {

// Rows above the centre, the centre's row before it, and in the centre the colours that the type allows.
Tensor raster_mask(MaskType type, std::int64_t out, std::int64_t in, Size2d kernel, std::int64_t colours, DType dtype) {
  std::vector<float> entries;
  const std::int64_t row = kernel.height / 2;
  const std::int64_t column = kernel.width / 2;
  for (std::int64_t o = 0; o < out; ++o)
    for (std::int64_t c = 0; c < in; ++c)
      for (std::int64_t i = 0; i < kernel.height; ++i)
        for (std::int64_t j = 0; j < kernel.width; ++j) {
          const std::int64_t from = c * colours / in;
          const std::int64_t to = o * colours / out;
          const bool centre = i == row && j == column && (type == MaskType::a ? from < to : from <= to);
          entries.push_back(i < row || (i == row && j < column) || centre ? 1.0f : 0.0f);
        }
  return cast(from_vector(entries, {out, in, kernel.height, kernel.width}), dtype);
}

}  // namespace

MaskedConv2d::MaskedConv2d(MaskType type, std::int64_t in_channels, std::int64_t out_channels, Size2d kernel, Key key,
                           MaskedConv2dOptions options) {
  detail::check_filter("MaskedConv2d", in_channels, out_channels, {kernel.height, kernel.width}, options.colours);
  if (kernel.height % 2 == 0 || kernel.width % 2 == 0)
    throw ValueError(fmt::format("[MaskedConv2d] got a filter ({}, {}); expected odd extents, which have a centre.",
                                 kernel.height, kernel.width));
  Conv2d plain(in_channels, out_channels, kernel, key, {}, options.layer);
  weight = std::move(plain.weight);
  bias = std::move(plain.bias);
  mask = Buffer(raster_mask(type, out_channels, in_channels, kernel, options.colours, options.layer.dtype));
}

Tensor MaskedConv2d::operator()(const Tensor& x) const {
  const Shape& shape = weight.value().shape();
  detail::check_input("MaskedConv2d", x, 4, shape[1], weight.value());
  const Conv2dOptions centred{.padding = {shape[2] / 2, shape[3] / 2}};
  return detail::add_bias(conv2d(x, weight.value() * mask.value(), centred), bias);
}

void MaskedConv2d::visit(Visitor& visitor) {
  visitor("weight", weight);
  visitor("bias", bias);
  visitor("mask", mask);
}

// --- shifted convolutions -----------------------------------------------------------------------------------------------------

namespace {

void check_map(const char* op, const Tensor& x) {
  if (x.rank() != 4)
    throw ShapeError(fmt::format("[{}] got x {}; expected maps (N, C, H, W).", op, to_string(x.shape())));
}

Size2d kernel_of(const char* layer, Shift shift, Size2d kernel) {
  if (kernel == Size2d(0)) return shift == Shift::down ? Size2d(2, 3) : Size2d(2, 2);
  if (shift == Shift::down && kernel.width % 2 == 0)
    throw ValueError(
        fmt::format("[{}] got a filter ({}, {}); expected an odd width for Shift::down, which looks to both "
                    "sides.",
                    layer, kernel.height, kernel.width));
  return kernel;
}

// A gain of the size of the filters' norms: of an independent draw, as the reference does (specification 2.4.2).
Parameter make_gain(bool weight_norm, const ConvLayerOptions& layer, Key key, const Tensor& filter) {
  if (!weight_norm) return {};
  const Tensor other = detail::make_filter(layer.init, key, filter.shape(), layer.dtype);
  return Parameter(sqrt(sum(square(other), {1, 2, 3})));
}

Tensor effective(const Parameter& weight, const Parameter& gain) {
  return gain.defined() ? weight_norm(weight.value(), gain.value(), 0) : weight.value();
}

}  // namespace

Tensor shift_down(const Tensor& x) {
  check_map("shift_down", x);
  return x.size(2) == 0 ? x : pad(slice(x, 2, 0, x.size(2) - 1), 2, 1, 0);
}

Tensor shift_right(const Tensor& x) {
  check_map("shift_right", x);
  return x.size(3) == 0 ? x : pad(slice(x, 3, 0, x.size(3) - 1), 3, 1, 0);
}

ShiftedConv2d::ShiftedConv2d(Shift shift, std::int64_t in_channels, std::int64_t out_channels, Key key,
                             ShiftedConv2dOptions options)
    : shift_(shift), shift_output_(options.shift_output) {
  const Size2d kernel = kernel_of("ShiftedConv2d", shift, options.kernel);
  detail::check_filter("ShiftedConv2d", in_channels, out_channels, {kernel.height, kernel.width}, 1);
  const std::int64_t side = (kernel.width - 1) / 2;
  conv_ = {.stride = options.stride,
           .padding = shift == Shift::down ? Padding2d(kernel.height - 1, 0, side, side)
                                           : Padding2d(kernel.height - 1, 0, kernel.width - 1, 0)};
  Conv2d plain(in_channels, out_channels, kernel, key, {}, options.layer);
  weight = std::move(plain.weight);
  bias = std::move(plain.bias);
  gain = make_gain(options.weight_norm, options.layer, key.fold_in(2), weight.value());
}

Tensor ShiftedConv2d::operator()(const Tensor& x) const {
  detail::check_input("ShiftedConv2d", x, 4, weight.value().size(1), weight.value());
  Tensor y = detail::add_bias(conv2d(x, effective(weight, gain), conv_), bias);
  if (!shift_output_) return y;
  return shift_ == Shift::down ? shift_down(y) : shift_right(y);
}

void ShiftedConv2d::visit(Visitor& visitor) {
  visitor("weight", weight);
  visitor("gain", gain);
  visitor("bias", bias);
}

ShiftedConvTranspose2d::ShiftedConvTranspose2d(Shift shift, std::int64_t in_channels, std::int64_t out_channels,
                                               Key key, ShiftedConv2dOptions options) {
  constexpr const char* kName = "ShiftedConvTranspose2d";
  const Size2d kernel = kernel_of(kName, shift, options.kernel);
  detail::check_filter(kName, in_channels, out_channels, {kernel.height, kernel.width}, 1);
  if (options.stride != Size2d(1) || options.shift_output)
    throw ValueError(fmt::format(
        "[{}] got a stride ({}, {}){}; its stride is 2 and its result is not shifted: leave both "
        "options alone.",
        kName, options.stride.height, options.stride.width, options.shift_output ? " and shift_output" : ""));
  if (kernel.height < 2 || kernel.width < 2)
    throw ValueError(
        fmt::format("[{}] got a filter ({}, {}); expected at least (2, 2), or positions of the result would "
                    "see nothing.",
                    kName, kernel.height, kernel.width));
  // The transposed convolution has 2 (extent - 1) + kernel + output_padding positions, of which 2 extent are kept.
  const std::int64_t side = shift == Shift::down ? (kernel.width - 1) / 2 : 0;
  conv_ = {.stride = 2, .padding = {0, kernel.height - 1, side, kernel.width - 1 - side}, .output_padding = 1};
  ConvTranspose2d plain(in_channels, out_channels, kernel, key, {}, options.layer);
  weight = std::move(plain.weight);
  bias = std::move(plain.bias);
  gain = make_gain(options.weight_norm, options.layer, key.fold_in(2), weight.value());
}

Tensor ShiftedConvTranspose2d::operator()(const Tensor& x) const {
  detail::check_input("ShiftedConvTranspose2d", x, 4, weight.value().size(0), weight.value());
  return detail::add_bias(conv_transpose2d(x, effective(weight, gain), conv_), bias);
}

void ShiftedConvTranspose2d::visit(Visitor& visitor) {
  visitor("weight", weight);
  visitor("gain", gain);
  visitor("bias", bias);
}

}  // namespace solvent::nn
