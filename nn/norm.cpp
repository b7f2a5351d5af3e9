#include "solvent/nn/norm.h"

#include <cmath>

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/linalg.h"
#include "solvent/ops/random.h"
#include "solvent/ops/reduce.h"
#include "solvent/ops/shape_ops.h"

namespace solvent::nn {

// --- BatchNorm -------------------------------------------------------------------------------------------------------

BatchNorm::BatchNorm(std::int64_t channels, BatchNormOptions options) : channels_(channels), options_(options) {
  if (channels < 1) throw ValueError(fmt::format("[BatchNorm] got {} channels; expected at least 1.", channels));
  if (!(options.eps > 0)) throw ValueError(fmt::format("[BatchNorm] got eps = {}; expected eps > 0.", options.eps));
  if (options.momentum && !(*options.momentum >= 0 && *options.momentum <= 1))
    throw ValueError(fmt::format(
        "[BatchNorm] got momentum {}; expected 0 <= momentum <= 1, the weight of the new batch, or none for "
        "the mean over all batches.",
        *options.momentum));
  if (options.affine) {
    weight = Parameter(ones({channels}, options.dtype));
    bias = Parameter(zeros({channels}, options.dtype));
  }
  if (options.track) {
    running_mean.assign(zeros({channels}, options.dtype));
    running_var.assign(ones({channels}, options.dtype));
    num_batches_tracked.assign(zeros({}, int64));
  }
}

void BatchNorm::check_input(const char* layer, const char* expected, const Tensor& x, int low, int high) const {
  if (x.rank() < low || x.rank() > high || x.size(1) != channels_)
    throw ShapeError(
        fmt::format("[{}] got x {}; expected {} with C = {} channels.", layer, describe(x), expected, channels_));
}

BatchNormResult BatchNorm::normalise(const Tensor& x) const {
  check_input("BatchNorm", "(N, C, ...)", x, 2, kMaxRank);
  return batch_norm(x, weight.value(), bias.value(), options_.eps);
}

Tensor BatchNorm::operator()(const Tensor& x) const {
  check_input("BatchNorm", "(N, C, ...)", x, 2, kMaxRank);
  if (!is_training() && options_.track)
    return batch_norm_eval(x, running_mean, running_var, weight.value(), bias.value(), options_.eps);
  const std::int64_t count = x.numel() / channels_;
  if (is_training() && count == 1)
    throw ValueError(
        fmt::format("[BatchNorm] got x {} in training; expected more than one element per channel, or every result is "
                    "the bias. Use a larger batch or set_training(false).",
                    describe(x)));
  BatchNormResult result = normalise(x);
  if (is_training() && options_.track) update_running(result.mean, result.var, count);
  return std::move(result.value);
}

void BatchNorm::update_running(const Tensor& mean, const Tensor& var, std::int64_t count, std::int64_t repeats) const {
  if (!running_mean.defined())
    throw ValueError("[BatchNorm] there are no running statistics to update; make the layer with track = true.");
  if (count < 2 || repeats < 0)
    throw ValueError(fmt::format(
        "[BatchNorm] got {} elements per channel and {} repeats; expected at least 2 elements and at least 0 "
        "repeats.",
        count, repeats));
  const auto batches = static_cast<std::int64_t>(num_batches_tracked.value().item());
  // The weight of the new batch after n equal updates: 1 - (1 - m)^n, or n of all batches.
  const auto n = static_cast<double>(repeats);
  const double fraction = options_.momentum ? 1.0 - std::pow(1.0 - *options_.momentum, n)
                                            : n / std::max(1.0, static_cast<double>(batches + repeats));
  const double unbiased = static_cast<double>(count) / static_cast<double>(count - 1);
  running_mean.assign(running_mean.value() * (1.0 - fraction) + stop_gradient(mean) * fraction);
  running_var.assign(running_var.value() * (1.0 - fraction) + stop_gradient(var) * (fraction * unbiased));
  num_batches_tracked.assign(num_batches_tracked.value() + static_cast<double>(repeats));
}

void BatchNorm::visit(Visitor& visitor) {
  visitor("weight", weight);
  visitor("bias", bias);
  visitor("running_mean", running_mean);
  visitor("running_var", running_var);
  visitor("num_batches_tracked", num_batches_tracked);
}

Tensor BatchNorm1d::operator()(const Tensor& x) const {
  check_input("BatchNorm1d", "(N, C) or (N, C, L)", x, 2, 3);
  return BatchNorm::operator()(x);
}

Tensor BatchNorm2d::operator()(const Tensor& x) const {
  check_input("BatchNorm2d", "(N, C, H, W)", x, 4, 4);
  return BatchNorm::operator()(x);
}

// --- WeightNorm ------------------------------------------------------------------------------------------------------

namespace {

// Axes other than `axis`.
Axes others(int rank, std::int64_t axis) {
  Axes axes;
  for (int i = 0; i < rank; ++i)
    if (i != normalise_axis("WeightNorm", axis, rank)) axes.push_back(i);
  return axes;
}

Tensor norms(const Tensor& v, std::int64_t axis) { return sqrt(sum(square(v), others(v.rank(), axis))); }

}  // namespace

WeightNorm::WeightNorm(Tensor direction, Tensor length, std::int64_t axis) : axis_(axis) {
  (void)weight_norm(direction, length, axis);  // checks
  v = Parameter(std::move(direction));
  gain = Parameter(std::move(length));
}

WeightNorm WeightNorm::of(Tensor weight, std::int64_t axis) {
  Tensor length = norms(weight, axis);
  return {std::move(weight), std::move(length), axis};
}

WeightNorm WeightNorm::independent(const Shape& shape, double bound, Key key, std::int64_t axis, DType dtype) {
  if (!(bound > 0)) throw ValueError(fmt::format("[WeightNorm] got bound {}; expected a number > 0.", bound));
  return {uniform(key.fold_in(0), shape, -bound, bound, dtype),
          norms(uniform(key.fold_in(1), shape, -bound, bound, dtype), axis), axis};
}

Tensor WeightNorm::operator()() const { return weight_norm(v, gain, axis_); }

void WeightNorm::visit(Visitor& visitor) {
  visitor("weight_v", v);
  visitor("weight_g", gain);
}

void initialise_from_data(WeightNorm& weight, Parameter& bias, const Tensor& output, std::int64_t channel_axis,
                          double scale) {
  const int axis = normalise_axis("initialise_from_data", channel_axis, output.rank());
  const Shape channels = {output.size(axis)};
  if (output.rank() < 2 || weight.gain.value().shape() != channels || bias.value().shape() != channels)
    throw ShapeError(fmt::format(
        "[initialise_from_data] got gains {}, a bias {} and output {}; expected one gain and one bias for each "
        "of the {} channels on axis {}. Gains per input channel cannot be initialised so.",
        describe(weight.gain.value()), describe(bias.value()), describe(output), channels[0], channel_axis));
  if (!(scale > 0)) throw ValueError(fmt::format("[initialise_from_data] got scale {}; expected a number > 0.", scale));
  const Axes axes = others(output.rank(), axis);
  const Tensor centre = mean(output, axes);
  const Tensor deviation = sqrt(var(output, axes));
  if (!(min(deviation).item() > 0) || !std::isfinite(max(deviation).item()))
    throw ValueError(
        fmt::format("[initialise_from_data] a channel of the output {} has deviation {}; expected variation in every "
                    "channel. Use a larger or more varied batch.",
                    describe(output), min(deviation).item()));
  const Tensor factor = scale / deviation;
  weight.gain.assign(weight.gain.value() * factor);
  bias.assign((bias.value() - centre) * factor);
}

WeightNormLinear::WeightNormLinear(std::int64_t in_features, std::int64_t out_features, Key key, DType dtype)
    : weight([&] {
        if (in_features < 1 || out_features < 1)
          throw ValueError(fmt::format("[WeightNormLinear] got {} inputs and {} outputs; expected at least 1 of each.",
                                       in_features, out_features));
        return WeightNorm::independent({out_features, in_features}, 1.0 / std::sqrt(static_cast<double>(in_features)),
                                       key.fold_in(0), 0, dtype);
      }()),
      bias(uniform(key.fold_in(1), {out_features}, -1.0 / std::sqrt(static_cast<double>(in_features)),
                   1.0 / std::sqrt(static_cast<double>(in_features)), dtype)) {}

Tensor WeightNormLinear::operator()(const Tensor& x) const {
  if (x.rank() < 1 || x.size(-1) != weight.v.value().size(1))
    throw ShapeError(
        fmt::format("[WeightNormLinear] got x {}; expected (..., {}), the inputs of a layer with weight {}.",
                    describe(x), weight.v.value().size(1), to_string(weight.v.value().shape())));
  return matmul(x, mT(weight())) + bias.value();
}

void WeightNormLinear::initialise(const Tensor& x, double scale) {
  const Tensor y = (*this)(x);
  initialise_from_data(weight, bias, y, y.rank() - 1, scale);
}

void WeightNormLinear::visit(Visitor& visitor) {
  weight.visit(visitor);
  visitor("bias", bias);
}

}  // namespace solvent::nn
