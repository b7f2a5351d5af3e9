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
/// Uniform with bound sqrt(3 / fan_in): variance 1 / fan_in.
SOLVENT_API Tensor lecun_uniform(Key key, const Shape& shape, TensorOptions options = {});
/// Normal with deviation 1 / sqrt(fan_in), conditioned on |x| <= bound (ParaRNN's "xavier_gaussian").
/// @throws ValueError unless bound > 0
SOLVENT_API Tensor bounded_lecun_normal(Key key, const Shape& shape, double bound = 0.9, TensorOptions options = {});
/// Normal with deviation 2 / sqrt(5 fan_in) (ParaRNN's "xlstm").
SOLVENT_API Tensor xlstm_normal(Key key, const Shape& shape, TensorOptions options = {});
/// exp(-u), u uniform in [low, high): decays of very different lengths (ParaRNN's "negative_exponential"; 1, 16 is its
/// "mamba" variant). @throws ValueError unless low < high
SOLVENT_API Tensor negative_exponential(Key key, const Shape& shape, double low = 0.0, double high = 8.0,
                                        TensorOptions options = {});
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

// --- kernels (out, in, k, ...) of the equilibrium propagation experiments ----------------------------------------------

/// Fans of a kernel (out, in, extents...): in and out times the product of the extents. @throws ShapeError below rank 2
SOLVENT_API Fans kernel_fans_of(const Shape& shape);
/// Uniform with bound sqrt(6 / fan_in) of kernel_fans_of.
SOLVENT_API Tensor standard_kaiming(Key key, const Shape& shape, TensorOptions options = {});
/// Normal with deviation sqrt(2 / fan_out) of kernel_fans_of, for residual networks.
SOLVENT_API Tensor kaiming_normal_fan_out(Key key, const Shape& shape, TensorOptions options = {});
/// Uniform with bound alpha / sqrt(fan_in) of kernel_fans_of.
SOLVENT_API Tensor weighted_kaiming(Key key, const Shape& shape, double alpha, TensorOptions options = {});
/// orthogonal() of the matrix (out, in * extents).
SOLVENT_API Tensor orthogonal_kernel(Key key, const Shape& shape, double gain = 1.0, TensorOptions options = {});
/// Independent symmetric slices (..., k, k) with off-diagonal variance `variance` / k and diagonal variance
/// 8 `variance` / k, as the experiments' code has it (a textbook GOE has twice the off-diagonal variance on the diagonal).
/// @throws ShapeError unless the last two extents agree; ValueError for a negative variance
SOLVENT_API Tensor goe(Key key, const Shape& shape, double variance, TensorOptions options = {});
/// Symmetric matrices (..., k, k) for states, all entries with variance 2 `variance` / k^2. @throws as goe
SOLVENT_API Tensor goe_state(Key key, const Shape& shape, double variance, TensorOptions options = {});

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
