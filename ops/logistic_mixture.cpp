// Mixtures of logistics by composition. Shapes in comments: C channels, M components.

#include "solvent/ops/logistic_mixture.h"

#include <cmath>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/ops/distributions.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/index.h"
#include "solvent/ops/random.h"
#include "solvent/ops/reduce.h"
#include "solvent/ops/shape_ops.h"

namespace solvent {
namespace {

constexpr double kLeastLogScale = -7.0;
constexpr double kMargin = 1e-5;    // of the uniform numbers
constexpr double kFarthest = 1e30;  // distances from a mean are cut here, so that products stay finite in float32
constexpr double kNarrowBin = 0.1;  // standardised widths below use a series

void check_channels(const char* op, std::int64_t channels) {
  if (channels != 1 && channels != 3)
    throw ValueError(fmt::format("[{}] got {} channels; expected 1 or 3.", op, channels));
}

std::int64_t channels_of(const char* op, const Tensor& x) {
  if (x.rank() == 0 || (x.shape().back() != 1 && x.shape().back() != 3))
    throw ShapeError(
        fmt::format("[{}] got values of shape {}; expected (..., 1) or (..., 3): channels on the last axis.", op,
                    to_string(x.shape())));
  return x.shape().back();
}

LogisticMixture checked_mixture(const char* op, Tensor parameters, std::int64_t channels) {
  detail::check_floating(op, parameters);
  const std::int64_t per_component = channels == 1 ? 3 : 10;
  if (parameters.rank() == 0 || parameters.shape().back() % per_component != 0 || parameters.shape().back() == 0)
    throw ShapeError(
        fmt::format("[{}] got parameters of shape {} for {} channel{}; expected {} numbers per component on "
                    "the last axis.",
                    op, to_string(parameters.shape()), channels, channels == 1 ? "" : "s", per_component));
  const std::int64_t m = parameters.shape().back() / per_component;
  Shape shape = parameters.shape();
  shape[shape.rank() - 1] = channels;
  shape.push_back((channels == 1 ? 2 : 3) * m);
  const Tensors parts = split(std::move(parameters), {m, (per_component - 1) * m}, -1);
  Tensors rows = split(reshape(parts[1], shape), channels == 1 ? std::vector{m, m} : std::vector{m, m, m}, -1);
  LogisticMixture mixture;
  mixture.logits = parts[0];
  mixture.means = std::move(rows[0]);
  mixture.log_scales = clip(std::move(rows[1]), kLeastLogScale, std::numeric_limits<double>::infinity());
  if (channels == 3) mixture.coefficients = tanh(std::move(rows[2]));
  return mixture;
}

Tensor channel(const Tensor& x, std::int64_t index) { return select(x, -2, index); }  // (..., C, M) -> (..., M)

// Means given the channels before: x (..., 3) -> (..., 3, M).
Tensor chained_means(const LogisticMixture& mixture, const Tensor& x) {
  if (!mixture.coefficients.defined()) return mixture.means;
  const auto value = [&x](std::int64_t i) { return slice(x, -1, i, i + 1); };  // (..., 1), for all components
  const auto linked = [&](std::int64_t stored, std::int64_t before) {
    return mul(channel(mixture.coefficients, stored), value(before));
  };
  Tensor green = add(channel(mixture.means, 1), linked(0, 0));
  Tensor blue = add(add(channel(mixture.means, 2), linked(1, 0)), linked(2, 1));
  Tensor red = broadcast_to(channel(mixture.means, 0), green.shape());  // x may have more leading axes
  return stack({std::move(red), std::move(green), std::move(blue)}, -2);
}

Tensor within_reach(Tensor distance) { return clip(std::move(distance), -kFarthest, kFarthest); }

// x (..., C) and its standardised distances from the means.
struct Standardised {
  Tensor distance;  // (..., C, M)
  Tensor inverse_scale;
};

Standardised standardise(const LogisticMixture& mixture, const Tensor& x) {
  Standardised s;
  s.distance = within_reach(sub(unsqueeze(x, -1), chained_means(mixture, x)));
  s.inverse_scale = exp(neg(mixture.log_scales));
  return s;
}

// Sums over channels and mixes the components: (..., C, M) -> (...).
Tensor mixed(const LogisticMixture& mixture, Tensor log_prob) {
  return logsumexp(add(sum(std::move(log_prob), {-2}), log_softmax(mixture.logits)), -1);
}

// log(1 - e^-d), d = width e^-s, from s: log(width) - s + log((1 - e^-d) / d). So wide components, whose d underflows, keep
// both value and derivative; the last term is a series where d is small, -d/2 + d^2/24 - d^4/2880 + d^6/181440.
Tensor log_bin_mass(const Tensor& log_scales, const Tensor& inverse_scale, double width) {
  const TensorOptions options{log_scales.dtype(), log_scales.device()};
  const Tensor d = affine(inverse_scale, width, 0.0);
  const Tensor narrow = less(d, full({}, kNarrowBin, options));
  const Tensor small = where(narrow, d, zeros({}, options));
  const Tensor large = where(narrow, ones({}, options), d);
  const Tensor d2 = square(small);
  const Tensor even = mul(d2, affine(mul(d2, affine(d2, 1.0 / 181440, -1.0 / 2880)), 1.0, 1.0 / 24));
  const Tensor series = add(affine(small, -0.5, 0.0), even);
  const Tensor direct = sub(log(neg(expm1(neg(large)))), log(large));
  return add(affine(log_scales, -1.0, std::log(width)), where(narrow, series, direct));
}

// Log probabilities of the bins around x, for each channel and component: (..., C, M).
Tensor log_bins(const Tensor& x, const LogisticMixture& mixture, std::int64_t levels) {
  const double half = 1.0 / static_cast<double>(levels - 1);
  const double edge = 1.0 - 0.255 * half;  // 0.999 for 256 levels
  const TensorOptions options{x.dtype(), x.device()};
  const Tensor zero = zeros({}, options);
  const Tensor values = unsqueeze(x, -1);
  const Tensor lowest = less(values, full({}, -edge, options));
  const Tensor highest = greater(values, full({}, edge, options));
  const Standardised s = standardise(mixture, x);
  const Tensor upper = mul(affine(s.distance, 1.0, half), s.inverse_scale);   // p
  const Tensor lower = mul(affine(s.distance, 1.0, -half), s.inverse_scale);  // q
  const Tensor below = where(highest, zero, log_sigmoid(upper));              // what lies below the upper edge
  const Tensor above = where(lowest, zero, log_sigmoid(neg(lower)));          // what lies above the lower edge
  const Tensor mass = log_bin_mass(mixture.log_scales, s.inverse_scale, 2.0 * half);
  return add(add(below, above), where(logical_or(lowest, highest), zero, mass));
}

// logit of the distribution function of one channel: x (..., 1), means and inverse scales (..., M). Both tails are summed
// in logarithms, neither as the other's complement.
Tensor logit_cdf(const Tensor& x, const Tensor& log_weights, const Tensor& means, const Tensor& inverse_scale) {
  const Tensor z = mul(within_reach(sub(x, means)), inverse_scale);
  const Tensor below = logsumexp(add(log_weights, log_sigmoid(z)), -1, true);
  const Tensor above = logsumexp(add(log_weights, log_sigmoid(neg(z))), -1, true);
  return sub(below, above);
}

// Walks through the channels: `next` makes channel i from its conditional mixture, which then informs the following ones.
template <class F>
Tensor chain(const LogisticMixture& mixture, std::int64_t channels, F next) {
  const Tensor inverse_scale = exp(neg(mixture.log_scales));
  Tensor log_weights = log_softmax(mixture.logits);
  Tensors values;
  for (std::int64_t i = 0; i < channels; ++i) {
    Tensor means = channel(mixture.means, i);
    if (i == 1) means = add(means, mul(channel(mixture.coefficients, 0), values[0]));
    if (i == 2)
      means = add(add(means, mul(channel(mixture.coefficients, 1), values[0])),
                  mul(channel(mixture.coefficients, 2), values[1]));
    const Tensor scales = channel(inverse_scale, i);
    values.push_back(next(i, log_weights, means, scales));
    if (i + 1 == channels) break;
    // Posterior of the components; its normalisation cancels in logit_cdf.
    const Tensor z = mul(within_reach(sub(values.back(), means)), scales);
    const Tensor density = sub(add(log_sigmoid(z), log_sigmoid(neg(z))), channel(mixture.log_scales, i));
    log_weights = log_softmax(add(log_weights, density));
  }
  return concat(std::move(values), -1);
}

}  // namespace

LogisticMixture split_logistic_mixture(Tensor parameters, std::int64_t channels) {
  check_channels("split_logistic_mixture", channels);
  return checked_mixture("split_logistic_mixture", std::move(parameters), channels);
}

// --- likelihood -----------------------------------------------------------------------------------------------------------------

Tensor discretised_mixture_log_prob(Tensor x, Tensor parameters, std::int64_t levels) {
  const char* op = "discretised_mixture_log_prob";
  if (levels < 2) throw ValueError(fmt::format("[{}] got {} levels; expected at least 2.", op, levels));
  const std::int64_t channels = channels_of(op, x);
  detail::check_same_dtype(op, x, parameters);
  const LogisticMixture mixture = checked_mixture(op, std::move(parameters), channels);
  return mixed(mixture, log_bins(x, mixture, levels));
}

Tensor mixture_log_prob(Tensor x, Tensor parameters) {
  const char* op = "mixture_log_prob";
  const std::int64_t channels = channels_of(op, x);
  detail::check_same_dtype(op, x, parameters);
  const LogisticMixture mixture = checked_mixture(op, std::move(parameters), channels);
  const Standardised s = standardise(mixture, x);
  const Tensor z = mul(s.distance, s.inverse_scale);
  return mixed(mixture, sub(add(log_sigmoid(z), log_sigmoid(neg(z))), mixture.log_scales));
}

// --- sampling -------------------------------------------------------------------------------------------------------------------

Tensor mixture_noise(Key key, std::int64_t batch, std::int64_t height, std::int64_t width, std::int64_t components,
                     std::int64_t channels, TensorOptions options) {
  return uniform(key, {batch, height * width * (components + channels)}, kMargin, 1.0 - kMargin, options);
}

MixtureNoise split_mixture_noise(Tensor noise, std::int64_t height, std::int64_t width, std::int64_t components,
                                 std::int64_t channels) {
  const std::int64_t pixels = height * width;
  if (noise.rank() != 2 || noise.shape()[1] != pixels * (components + channels))
    throw ShapeError(fmt::format(
        "[split_mixture_noise] got noise of shape {}; expected (B, {}) for {} x {} pixels, {} components and "
        "{} channels.",
        to_string(noise.shape()), pixels * (components + channels), height, width, components, channels));
  const std::int64_t batch = noise.shape()[0];
  const Tensors parts = split(std::move(noise), {pixels * components, pixels * channels}, 1);
  return {reshape(parts[0], {batch, height, width, components}), reshape(parts[1], {batch, height, width, channels})};
}

Tensor mixture_sample(Tensor parameters, const MixtureNoise& noise, const MixtureSampling& options) {
  const char* op = "mixture_sample";
  if (!(options.temperature > 0.0))
    throw ValueError(fmt::format("[{}] got temperature {}; expected a number > 0.", op, options.temperature));
  const std::int64_t channels = channels_of(op, noise.value);
  detail::check_same_dtype(op, noise.component, parameters);
  detail::check_same_dtype(op, noise.value, parameters);
  const LogisticMixture mixture = checked_mixture(op, std::move(parameters), channels);
  const Tensor chosen = unsqueeze(
      unsqueeze(categorical_sample(noise.component, affine(mixture.logits, 1.0 / options.temperature, 0.0)), -1), -1);
  const auto of_chosen = [&](const Tensor& x) {
    return squeeze(gather(x, chosen, -1), -1);
  };  // (..., C, M) -> (..., C)
  const Tensor scales = exp(affine(of_chosen(mixture.log_scales), 1.0, std::log(options.temperature)));
  const Tensor free = add(of_chosen(mixture.means), mul(scales, logit(noise.value)));
  const auto clamped = [&](Tensor x) { return options.clamp ? clip(std::move(x), -1.0, 1.0) : x; };
  if (channels == 1) return clamped(free);
  const Tensors x = unstack(free, -1);
  const Tensors c = unstack(of_chosen(mixture.coefficients), -1);
  const Tensor red = clamped(x[0]);
  const Tensor green = clamped(add(x[1], mul(c[0], red)));
  const Tensor blue = clamped(add(add(x[2], mul(c[1], red)), mul(c[2], green)));
  return stack({red, green, blue}, -1);
}

Tensor mixture_sample(Key key, Tensor parameters, std::int64_t channels, const MixtureSampling& options) {
  check_channels("mixture_sample", channels);
  Shape shape = split_logistic_mixture(stop_gradient(parameters), channels).logits.shape();
  const TensorOptions tensor{parameters.dtype(), parameters.device()};
  MixtureNoise noise;
  noise.component = uniform(key.fold_in(0), shape, kMargin, 1.0 - kMargin, tensor);
  shape[shape.rank() - 1] = channels;
  noise.value = uniform(key.fold_in(1), shape, kMargin, 1.0 - kMargin, tensor);
  return mixture_sample(std::move(parameters), noise, options);
}

// --- distribution function --------------------------------------------------------------------------------------------------------

Tensor mixture_logit_cdf(Tensor x, Tensor parameters) {
  const char* op = "mixture_logit_cdf";
  const std::int64_t channels = channels_of(op, x);
  detail::check_same_dtype(op, x, parameters);
  const LogisticMixture mixture = checked_mixture(op, std::move(parameters), channels);
  Tensors noise;
  (void)chain(mixture, channels, [&](std::int64_t i, const Tensor& weights, const Tensor& means, const Tensor& scales) {
    Tensor value = slice(x, -1, i, i + 1);
    noise.push_back(logit_cdf(value, weights, means, scales));
    return value;
  });
  return concat(std::move(noise), -1);
}

Tensor mixture_quantile(const Tensor& noise, const Tensor& parameters, const MixtureInversion& options) {
  const char* op = "mixture_quantile";
  if (options.steps < 1)
    throw ValueError(fmt::format("[{}] got {} steps of bisection; expected at least 1.", op, options.steps));
  const std::int64_t channels = channels_of(op, noise);
  detail::check_same_dtype(op, noise, parameters);
  const LogisticMixture mixture = checked_mixture(op, stop_gradient(parameters), channels);
  const Tensor target = stop_gradient(noise);
  const double bound = options.clamp ? 1.0 : channels == 3 ? 20.0 : 30.0;
  return chain(
      mixture, channels, [&](std::int64_t i, const Tensor& weights, const Tensor& means, const Tensor& scales) {
        const Tensor z = slice(target, -1, i, i + 1);
        Tensor middle = zeros(broadcast_shapes(op, z.shape(), slice(means, -1, 0, 1).shape()), {z.dtype(), z.device()});
        double step = bound;
        for (int k = 0; k < options.steps; ++k) {
          step *= 0.5;
          const Tensor below = cast(less(logit_cdf(middle, weights, means, scales), z), z.dtype());
          middle = add(middle, affine(below, 2.0 * step, -step));  // the half interval that holds the solution
        }
        return middle;
      });
}

}  // namespace solvent
