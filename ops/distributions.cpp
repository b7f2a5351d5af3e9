// Compositions of other operations, which bring their derivatives. What needs care is numerical and said where it happens.

#include "solvent/ops/distributions.h"

#include <cmath>
#include <numbers>
#include <utility>

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/index.h"
#include "solvent/ops/random.h"
#include "solvent/ops/reduce.h"
#include "solvent/ops/shape_ops.h"

namespace solvent {
namespace {

TensorOptions options_of(const Tensor& t) { return {t.dtype(), t.device()}; }

// (x - mean) e^-log_scale
Tensor standardised(const char* op, Tensor x, Tensor mean, const Tensor& log_scale) {
  detail::check_same_dtype(op, x, mean);
  detail::check_same_dtype(op, x, log_scale);
  detail::check_floating(op, x);
  return mul(sub(std::move(x), std::move(mean)), exp(neg(log_scale)));
}

// mean + e^log_scale noise, noise drawn in the parameters' common shape.
Tensor located(const char* op, Key key, Tensor mean, Tensor log_scale,
               Tensor (*noise)(Key, const Shape&, TensorOptions)) {
  detail::check_same_dtype(op, mean, log_scale);
  detail::check_floating(op, mean);
  const Shape shape = broadcast_shapes(op, mean.shape(), log_scale.shape());
  const TensorOptions options = options_of(mean);
  return add(std::move(mean), mul(exp(std::move(log_scale)), noise(key, shape, options)));
}

void check_classes(const char* op, const Tensor& logits) {
  detail::check_floating(op, logits);
  if (logits.rank() == 0)
    throw ShapeError(fmt::format("[{}] got 0-d logits; expected (..., C): one logit per class on the last axis.", op));
}

}  // namespace

// --- noise ------------------------------------------------------------------------------------------------------------------

Tensor open_uniform(Key key, const Shape& shape, TensorOptions options) {
  const double margin = std::ldexp(1.0, options.dtype == float32 ? -24 : -53);
  return uniform(key, shape, margin, 1.0 - margin, options);
}

Tensor gumbel_noise(Key key, const Shape& shape, TensorOptions options) {
  return neg(log(neg(log(open_uniform(key, shape, options)))));
}

Tensor logistic_noise(Key key, const Shape& shape, TensorOptions options) {
  return logit(open_uniform(key, shape, options));
}

// --- logistic ---------------------------------------------------------------------------------------------------------------

Tensor logistic_sample(Key key, Tensor mean, Tensor log_scale) {
  return located("logistic_sample", key, std::move(mean), std::move(log_scale), logistic_noise);
}

Tensor logistic_log_prob(Tensor x, Tensor mean, Tensor log_scale) {
  const Tensor z = standardised("logistic_log_prob", std::move(x), std::move(mean), log_scale);
  // The density is sigmoid(z) sigmoid(-z) / scale; both factors keep their digits in both tails.
  return sub(add(log_sigmoid(z), log_sigmoid(neg(z))), std::move(log_scale));
}

// --- normal -----------------------------------------------------------------------------------------------------------------

Tensor normal_sample(Key key, Tensor mean, Tensor log_stddev) {
  return located("normal_sample", key, std::move(mean), std::move(log_stddev),
                 [](Key k, const Shape& shape, TensorOptions options) { return normal(k, shape, 0.0, 1.0, options); });
}

Tensor normal_log_prob(Tensor x, Tensor mean, Tensor log_stddev) {
  const double constant = -0.5 * std::log(2.0 * std::numbers::pi);
  const Tensor z = standardised("normal_log_prob", std::move(x), std::move(mean), log_stddev);
  return sub(affine(square(z), -0.5, constant), std::move(log_stddev));
}

// --- categorical --------------------------------------------------------------------------------------------------------------

Tensor categorical_sample(const Tensor& uniforms, const Tensor& logits) {
  check_classes("categorical_sample", logits);
  detail::check_same_dtype("categorical_sample", uniforms, logits);
  const Tensor gumbel = neg(log(neg(log(stop_gradient(uniforms)))));
  return argmax(add(stop_gradient(logits), gumbel), -1);
}

Tensor categorical_sample(Key key, const Tensor& logits) {
  check_classes("categorical_sample", logits);
  return categorical_sample(open_uniform(key, logits.shape(), options_of(logits)), logits);
}

Tensor categorical_log_prob(Tensor index, Tensor logits) {
  check_classes("categorical_log_prob", logits);
  index = unsqueeze(std::move(index), -1);
  return squeeze(gather(log_softmax(std::move(logits)), std::move(index), -1), -1);
}

Tensor categorical_entropy(Tensor logits) {
  check_classes("categorical_entropy", logits);
  const Tensor log_p = log_softmax(std::move(logits));
  const Tensor p = exp(log_p);
  const Tensor zero = zeros({}, options_of(p));
  return neg(sum(mul(p, where(equal(p, zero), zero, log_p)), {-1}));  // 0 log 0 = 0, where the product is NaN
}

// --- Bernoulli ------------------------------------------------------------------------------------------------------------------

Tensor bernoulli_sample(Key key, const Tensor& logits) {
  detail::check_floating("bernoulli_sample", logits);
  const Tensor u = uniform(key, logits.shape(), 0.0, 1.0, options_of(logits));
  return less(u, sigmoid(stop_gradient(logits)));
}

Tensor bernoulli_log_prob(Tensor x, Tensor logits) {
  detail::check_floating("bernoulli_log_prob", logits);
  if (x.dtype() == boolean) x = cast(std::move(x), logits.dtype());
  detail::check_same_dtype("bernoulli_log_prob", x, logits);
  const Tensor failure = affine(x, -1.0, 1.0);
  return add(mul(x, log_sigmoid(logits)), mul(failure, log_sigmoid(neg(logits))));
}

}  // namespace solvent
