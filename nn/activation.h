#pragma once
/// Elementwise functions by name, for layers and configuration files.

#include <cstdint>
#include <string_view>

#include "solvent/core/tensor.h"

namespace solvent::nn {

/// The functions that layers know by name.
enum class Activation : std::uint8_t { identity, relu, leaky_relu, elu, silu, gelu, tanh, sigmoid, softplus };

/// "relu", "tanh", ...
SOLVENT_API std::string_view to_string(Activation activation) noexcept;
/// @throws ValueError listing the names
SOLVENT_API Activation parse_activation(std::string_view name);
/// The function of that name from ops/elementwise.h, with its default constants.
SOLVENT_API Tensor activate(Activation activation, Tensor x);

}  // namespace solvent::nn
