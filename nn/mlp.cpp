#include "solvent/nn/mlp.h"

#include <fmt/format.h>

#include "solvent/core/error.h"

namespace solvent::nn {

Mlp::Mlp(const std::vector<std::int64_t>& sizes, Key key, MlpOptions options)
    : activation_(options.activation), output_activation_(options.output_activation) {
  if (sizes.size() < 2)
    throw ValueError(fmt::format(
        "[Mlp] got {} sizes; expected at least the input's and the output's, as in {{6, 32, 5}}.", sizes.size()));
  layers.reserve(sizes.size() - 1);
  for (std::size_t i = 0; i + 1 < sizes.size(); ++i)
    layers.emplace_back(sizes[i], sizes[i + 1], key.fold_in(i),
                        LinearOptions{.bias = options.bias, .init = options.init, .dtype = options.dtype});
}

Tensor Mlp::operator()(const Tensor& x) const {
  Tensor y = x;
  for (std::size_t i = 0; i < layers.size(); ++i)
    y = activate(i + 1 < layers.size() ? activation_ : output_activation_, layers[i](y));
  return y;
}

void Mlp::visit(Visitor& visitor) { visitor("layers", layers); }

}  // namespace solvent::nn
