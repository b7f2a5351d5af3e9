#pragma once
/// What the convolution layers share. Internal to nn/.

#include "solvent/core/rng.h"
#include "solvent/nn/init.h"
#include "solvent/nn/parameter.h"

namespace solvent::nn::detail {

/// Filters (rows, columns, taps...): fan_in is columns times taps, fan_out rows times taps.
Tensor make_filter(WeightInit init, Key key, const Shape& shape, DType dtype);

/// (channels) as the default of the layer whose filters are given, or the empty slot if the layer has none.
Parameter make_bias(bool bias, WeightInit init, Key key, std::int64_t channels, const Tensor& filter);

/// y + bias along the channels, axis 1; y if there is no bias.
Tensor add_bias(Tensor y, const Parameter& bias);

/// @throws ValueError unless channels and extents are positive and divisible by `groups`
void check_filter(const char* layer, std::int64_t in_channels, std::int64_t out_channels, const Dims& kernel,
                  std::int64_t groups);

/// @throws ShapeError unless x has `channels` on axis 1 and the given rank
void check_input(const char* layer, const Tensor& x, int rank, std::int64_t channels, const Tensor& filter);

}  // namespace solvent::nn::detail
