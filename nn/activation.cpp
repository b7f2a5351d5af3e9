#include "solvent/nn/activation.h"

#include <array>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "solvent/core/error.h"
#include "solvent/ops/elementwise.h"

namespace solvent::nn {

namespace {
constexpr std::array<std::string_view, 9> kNames = {"identity", "relu", "leaky_relu", "elu",     "silu",
                                                    "gelu",     "tanh", "sigmoid",    "softplus"};
static_assert(kNames.size() == static_cast<std::size_t>(Activation::softplus) + 1);
}  // namespace

std::string_view to_string(Activation activation) noexcept { return kNames[static_cast<std::size_t>(activation)]; }

Activation parse_activation(std::string_view name) {
  for (std::size_t i = 0; i < kNames.size(); ++i)
    if (kNames[i] == name) return static_cast<Activation>(i);
  throw ValueError(fmt::format("[parse_activation] got \"{}\"; expected one of: {}.", name, fmt::join(kNames, ", ")));
}

Tensor activate(Activation activation, Tensor x) {
  switch (activation) {
    case Activation::identity: break;
    case Activation::relu: return relu(std::move(x));
    case Activation::leaky_relu: return leaky_relu(std::move(x));
    case Activation::elu: return elu(std::move(x));
    case Activation::silu: return silu(std::move(x));
    case Activation::gelu: return gelu(std::move(x));
    case Activation::tanh: return tanh(std::move(x));
    case Activation::sigmoid: return sigmoid(std::move(x));
    case Activation::softplus: return softplus(std::move(x));
  }
  return x;
}

}  // namespace solvent::nn
