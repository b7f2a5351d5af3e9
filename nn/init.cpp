#include "solvent/nn/init.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "solvent/core/error.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/matrix_parts.h"
#include "solvent/ops/random.h"
#include "solvent/ops/shape_ops.h"

namespace solvent::nn {

namespace init {

namespace {

/// Q of the QR decomposition of `a` (rows x cols, row-major, rows >= cols), overwriting `a`, by Householder
/// reflections: orthonormal to rounding even when columns are nearly dependent, which Gram-Schmidt is not. Columns are
/// multiplied by the sign of R's diagonal: without it the distribution of Q would not be uniform (Mezzadri 2007,
/// arXiv:math-ph/0609050).
void orthonormalise_columns(std::vector<double>& a, std::size_t rows, std::size_t cols) {
  const auto at = [&a, cols](std::size_t i, std::size_t j) -> double& { return a[i * cols + j]; };
  std::vector<double> diagonal(cols), scale(cols);
  // Reflection k maps column k onto its first entry; its vector stays in the lower part of the column.
  for (std::size_t k = 0; k < cols; ++k) {
    double norm = 0;
    for (std::size_t i = k; i < rows; ++i) norm = std::hypot(norm, at(i, k));
    const double head = at(k, k);
    diagonal[k] = head > 0 ? -norm : norm;  // the sign that avoids cancellation in head - diagonal
    const double pivot = head - diagonal[k];
    scale[k] = norm == 0 ? 0 : -pivot / diagonal[k];  // 2 / |v|^2 for v scaled to v_k = 1
    for (std::size_t i = k + 1; i < rows; ++i) at(i, k) = norm == 0 ? 0 : at(i, k) / pivot;
    for (std::size_t j = k + 1; j < cols; ++j) {
      double dot = at(k, j);
      for (std::size_t i = k + 1; i < rows; ++i) dot += at(i, k) * at(i, j);
      dot *= scale[k];
      at(k, j) -= dot;
      for (std::size_t i = k + 1; i < rows; ++i) at(i, j) -= dot * at(i, k);
    }
  }
  // Q = H_0 H_1 ... applied to the unit columns, from the last reflection to the first, in place.
  for (std::size_t k = cols; k-- > 0;) {
    for (std::size_t j = k + 1; j < cols; ++j) {
      double dot = 0;
      for (std::size_t i = k + 1; i < rows; ++i) dot += at(i, k) * at(i, j);
      dot *= scale[k];
      at(k, j) = -dot;
      for (std::size_t i = k + 1; i < rows; ++i) at(i, j) -= dot * at(i, k);
    }
    for (std::size_t i = k + 1; i < rows; ++i) at(i, k) *= -scale[k];
    at(k, k) = 1 - scale[k];
  }
  for (std::size_t j = 0; j < cols; ++j)
    if (diagonal[j] < 0)
      for (std::size_t i = 0; i < rows; ++i) at(i, j) = -at(i, j);
}

/// Mirrors the part below the diagonal of the slices (..., k, k) of `x` and scales their diagonal.
Tensor symmetric(const Tensor& x, double diagonal_factor) {
  const Tensor below = tril(x, -1);
  return below + mT(below) + diag_embed(diagonal(x)) * diagonal_factor;
}

void check_slices(const char* op, const Shape& shape, double variance) {
  if (shape.rank() < 2 || shape[shape.rank() - 1] != shape[shape.rank() - 2])
    throw ShapeError(fmt::format("[{}] got shape {}; expected square slices (..., k, k).", op, to_string(shape)));
  if (!(variance >= 0)) throw ValueError(fmt::format("[{}] got variance {}; expected a number >= 0.", op, variance));
}

double root_over(double numerator, std::int64_t denominator) {
  return std::sqrt(numerator / static_cast<double>(std::max<std::int64_t>(denominator, 1)));
}

}  // namespace

Fans fans_of(const Shape& shape) {
  const int rank = shape.rank();
  if (rank == 0)
    throw ShapeError("[init] got shape (); expected at least one axis. Use scalar or full for single numbers.");
  if (rank == 1) return {shape[0], shape[0]};
  std::int64_t leading = 1;
  for (int i = 0; i < rank - 2; ++i) leading *= shape[i];
  return {shape[rank - 1] * leading, shape[rank - 2] * leading};
}

Tensor uniform(Key key, const Shape& shape, double bound, TensorOptions options) {
  return solvent::uniform(key, shape, -bound, bound, options);
}

Tensor normal(Key key, const Shape& shape, double stddev, TensorOptions options) {
  return solvent::normal(key, shape, 0.0, stddev, options);
}

Tensor fan_in_uniform(Key key, const Shape& shape, TensorOptions options) {
  return uniform(key, shape, root_over(1, fans_of(shape).in), options);
}

Tensor lecun_normal(Key key, const Shape& shape, TensorOptions options) {
  // Standard deviation of a unit normal cut off at +-2: sqrt(1 - 4 phi(2) / (2 Phi(2) - 1)).
  constexpr double kTruncatedDeviation = 0.87962566103423978;
  return solvent::truncated_normal(key, shape, 2.0, root_over(1, fans_of(shape).in) / kTruncatedDeviation, options);
}

Tensor lecun_uniform(Key key, const Shape& shape, TensorOptions options) {
  return uniform(key, shape, root_over(3, fans_of(shape).in), options);
}

Tensor bounded_lecun_normal(Key key, const Shape& shape, double bound, TensorOptions options) {
  if (!(bound > 0)) throw ValueError(fmt::format("[bounded_lecun_normal] got bound {}; expected a number > 0.", bound));
  const double deviation = root_over(1, fans_of(shape).in);
  return solvent::truncated_normal(key, shape, bound / deviation, deviation, options);
}

Tensor xlstm_normal(Key key, const Shape& shape, TensorOptions options) {
  return normal(key, shape, root_over(4.0 / 5.0, fans_of(shape).in), options);
}

Tensor negative_exponential(Key key, const Shape& shape, double low, double high, TensorOptions options) {
  if (!(low < high))
    throw ValueError(fmt::format("[negative_exponential] got low {} and high {}; expected low < high.", low, high));
  return exp(-solvent::uniform(key, shape, low, high, options));
}

Tensor he_uniform(Key key, const Shape& shape, TensorOptions options) {
  return uniform(key, shape, root_over(6, fans_of(shape).in), options);
}

Tensor he_normal(Key key, const Shape& shape, TensorOptions options) {
  return normal(key, shape, root_over(2, fans_of(shape).in), options);
}

Tensor xavier_uniform(Key key, const Shape& shape, TensorOptions options) {
  const Fans fans = fans_of(shape);
  return uniform(key, shape, root_over(6, fans.in + fans.out), options);
}

Tensor xavier_normal(Key key, const Shape& shape, TensorOptions options) {
  const Fans fans = fans_of(shape);
  return normal(key, shape, root_over(2, fans.in + fans.out), options);
}

Tensor orthogonal(Key key, const Shape& shape, double gain, TensorOptions options) {
  if (shape.rank() != 2)
    throw ShapeError(fmt::format("[orthogonal] got shape {}; expected a matrix (rows, columns).", to_string(shape)));
  const bool wide = shape[0] < shape[1];
  const auto rows = static_cast<std::size_t>(wide ? shape[1] : shape[0]);
  const auto cols = static_cast<std::size_t>(wide ? shape[0] : shape[1]);
  std::vector<double> tall =
      solvent::normal(key, {static_cast<std::int64_t>(rows), static_cast<std::int64_t>(cols)}, 0, 1, float64)
          .to_vector<double>();
  orthonormalise_columns(tall, rows, cols);
  std::vector<double> values(tall.size());
  for (std::size_t i = 0; i < rows; ++i)
    for (std::size_t j = 0; j < cols; ++j) values[wide ? j * rows + i : i * cols + j] = gain * tall[i * cols + j];
  return cast(from_vector(values, shape, options.device), options.dtype);
}

Fans kernel_fans_of(const Shape& shape) {
  if (shape.rank() < 2)
    throw ShapeError(fmt::format("[init] got shape {}; expected a kernel (out, in, extents...).", to_string(shape)));
  std::int64_t extents = 1;
  for (int i = 2; i < shape.rank(); ++i) extents *= shape[i];
  return {shape[1] * extents, shape[0] * extents};
}

Tensor standard_kaiming(Key key, const Shape& shape, TensorOptions options) {
  return uniform(key, shape, root_over(6, kernel_fans_of(shape).in), options);
}

Tensor kaiming_normal_fan_out(Key key, const Shape& shape, TensorOptions options) {
  return normal(key, shape, root_over(2, kernel_fans_of(shape).out), options);
}

Tensor weighted_kaiming(Key key, const Shape& shape, double alpha, TensorOptions options) {
  return uniform(key, shape, alpha * root_over(1, kernel_fans_of(shape).in), options);
}

Tensor orthogonal_kernel(Key key, const Shape& shape, double gain, TensorOptions options) {
  return reshape(orthogonal(key, {shape[0], kernel_fans_of(shape).in}, gain, options), shape);
}

Tensor goe(Key key, const Shape& shape, double variance, TensorOptions options) {
  check_slices("goe", shape, variance);
  // The code's lower triangle plus its transpose, whose diagonal (twice the entry) is multiplied by sqrt(2) once more.
  const Tensor entries = normal(key, shape, root_over(variance, shape[shape.rank() - 1]), options);
  return symmetric(entries, 2.0 * std::sqrt(2.0));
}

Tensor goe_state(Key key, const Shape& shape, double variance, TensorOptions options) {
  check_slices("goe_state", shape, variance);
  const std::int64_t k = shape[shape.rank() - 1];
  return symmetric(normal(key, shape, root_over(2.0 * variance, k * k), options), 1.0);
}

}  // namespace init

namespace {

constexpr std::array kWeightInits = {WeightInit::fan_in_uniform, WeightInit::lecun_normal,   WeightInit::he_uniform,
                                     WeightInit::he_normal,      WeightInit::xavier_uniform, WeightInit::xavier_normal,
                                     WeightInit::orthogonal,     WeightInit::zeros};
constexpr std::array kRecurrentInits = {RecurrentInit::equinox, RecurrentInit::flax};

template <class E, std::size_t N>
E parse(const char* what, const std::array<E, N>& all, std::string_view name) {
  std::vector<std::string_view> names;
  for (const E e : all) {
    if (to_string(e) == name) return e;
    names.push_back(to_string(e));
  }
  throw ValueError(fmt::format("[{}] got \"{}\"; expected one of: {}.", what, name, fmt::join(names, ", ")));
}

}  // namespace

std::string_view to_string(WeightInit init) noexcept {
  switch (init) {
    case WeightInit::fan_in_uniform: return "fan_in_uniform";
    case WeightInit::lecun_normal: return "lecun_normal";
    case WeightInit::he_uniform: return "he_uniform";
    case WeightInit::he_normal: return "he_normal";
    case WeightInit::xavier_uniform: return "xavier_uniform";
    case WeightInit::xavier_normal: return "xavier_normal";
    case WeightInit::orthogonal: return "orthogonal";
    case WeightInit::zeros: break;
  }
  return "zeros";
}

WeightInit parse_weight_init(std::string_view name) { return parse("parse_weight_init", kWeightInits, name); }

Tensor make_weight(WeightInit init, Key key, const Shape& shape, TensorOptions options) {
  switch (init) {
    case WeightInit::fan_in_uniform: return init::fan_in_uniform(key, shape, options);
    case WeightInit::lecun_normal: return init::lecun_normal(key, shape, options);
    case WeightInit::he_uniform: return init::he_uniform(key, shape, options);
    case WeightInit::he_normal: return init::he_normal(key, shape, options);
    case WeightInit::xavier_uniform: return init::xavier_uniform(key, shape, options);
    case WeightInit::xavier_normal: return init::xavier_normal(key, shape, options);
    case WeightInit::orthogonal: return init::orthogonal(key, shape, 1.0, options);
    case WeightInit::zeros: break;
  }
  return zeros(shape, options);
}

std::string_view to_string(RecurrentInit init) noexcept { return init == RecurrentInit::equinox ? "equinox" : "flax"; }

RecurrentInit parse_recurrent_init(std::string_view name) {
  return parse("parse_recurrent_init", kRecurrentInits, name);
}

}  // namespace solvent::nn
