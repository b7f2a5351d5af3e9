#pragma once
/// Initial values of parameters: pure functions of a Key.
///
/// Weights are (..., out, in) as in Linear: for rank >= 2, fan_in is the last extent and fan_out the one before it,
/// each times the product of the leading extents; for rank 1 both are its length.

#include <cstdint>
#include <string>
#include <string_view>

#include "solvent/core/rng.h"
#include "solvent/core/tensor.h"

namespace solvent::nn {

namespace init {

/// Number of inputs and outputs of one unit.
struct Fans {
  std::int64_t in = 0;   ///< fan_in
  std::int64_t out = 0;  ///< fan_out
};
/// Fans of a weight of this shape.
/// @throws ShapeError for rank 0
SOLVENT_API Fans fans_of(const Shape& shape);

/// Uniform in [-bound, bound).
SOLVENT_API Tensor uniform(Key key, const Shape& shape, double bound, TensorOptions options = {});
/// Normal with mean 0.
SOLVENT_API Tensor normal(Key key, const Shape& shape, double stddev, TensorOptions options = {});
/// Uniform with bound 1 / sqrt(fan_in): the default of PyTorch's Linear.
SOLVENT_API Tensor fan_in_uniform(Key key, const Shape& shape, TensorOptions options = {});
/// Normal cut off at two standard deviations and rescaled so that its variance is 1 / fan_in, as in Flax (LeCun et al.
/// 1998, "Efficient BackProp").
SOLVENT_API Tensor lecun_normal(Key key, const Shape& shape, TensorOptions options = {});
/// Uniform with bound sqrt(6 / fan_in), for relu (He et al. 2015, arXiv:1502.01852).
SOLVENT_API Tensor he_uniform(Key key, const Shape& shape, TensorOptions options = {});
/// Normal with variance 2 / fan_in.
SOLVENT_API Tensor he_normal(Key key, const Shape& shape, TensorOptions options = {});
/// Uniform with bound sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010).
SOLVENT_API Tensor xavier_uniform(Key key, const Shape& shape, TensorOptions options = {});
/// Normal with variance 2 / (fan_in + fan_out).
SOLVENT_API Tensor xavier_normal(Key key, const Shape& shape, TensorOptions options = {});
/// A random matrix (rows, columns) with orthonormal rows (rows <= columns) or columns, uniformly distributed over all
/// such matrices (Saxe et al. 2014, arXiv:1312.6120): QR of a normal matrix by Householder reflections in float64, with
/// the signs that make the diagonal of R positive. @throws ShapeError unless the rank is 2
SOLVENT_API Tensor orthogonal(Key key, const Shape& shape, double gain = 1.0, TensorOptions options = {});

}  // namespace init

/// How Linear and Mlp fill their weights. Biases are zero, except for `fan_in_uniform` (as PyTorch does).
enum class WeightInit : std::uint8_t {
  fan_in_uniform,
  lecun_normal,
  he_uniform,
  he_normal,
  xavier_uniform,
  xavier_normal,
  orthogonal,
  zeros
};
/// "he_uniform", ...
SOLVENT_API std::string_view to_string(WeightInit init) noexcept;
/// @throws ValueError listing the names
SOLVENT_API WeightInit parse_weight_init(std::string_view name);
/// The function of that name above; `zeros` is what it says. @throws as that function
SOLVENT_API Tensor make_weight(WeightInit init, Key key, const Shape& shape, TensorOptions options = {});

/// How recurrent cells are filled (the two settings of DEER's experiments).
enum class RecurrentInit : std::uint8_t {
  equinox,  ///< uniform with bound 1 / sqrt(n) for all weights and biases, n the state size
  flax      ///< lecun_normal input weights, orthogonal recurrent weights (per gate), zero biases
};
/// "equinox" or "flax".
SOLVENT_API std::string_view to_string(RecurrentInit init) noexcept;
/// @throws ValueError listing the names
SOLVENT_API RecurrentInit parse_recurrent_init(std::string_view name);

}  // namespace solvent::nn
