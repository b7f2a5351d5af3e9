#pragma once
/// Probability distributions as functions of tensors: samples from a Key, log densities, entropies.
///
/// Parameters broadcast against each other and against the values; scales are given as logarithms, probabilities as logits,
/// so that every real number is a valid parameter. Log densities differentiate in values and parameters to any order and
/// are finite, with finite derivatives, for finite arguments whose standardised values fit the type. Samples of continuous
/// distributions are differentiable functions of their parameters (reparameterised); discrete samples are constants.
/// All functions throw ShapeError, DtypeError and DeviceError for operands that do not fit.

#include "solvent/autodiff/basis.h"
#include "solvent/core/rng.h"

namespace solvent {

// --- noise ------------------------------------------------------------------------------------------------------------------
/// Uniform in the open interval (0, 1), at least 2^-24 (float32) or 2^-53 (float64) from its ends. @throws DtypeError
SOLVENT_API Tensor open_uniform(Key key, const Shape& shape, TensorOptions options = {});
/// Standard Gumbel noise -log(-log u).
SOLVENT_API Tensor gumbel_noise(Key key, const Shape& shape, TensorOptions options = {});
/// Standard logistic noise logit(u); |noise| <= 16.7 (float32), 36.8 (float64).
SOLVENT_API Tensor logistic_noise(Key key, const Shape& shape, TensorOptions options = {});

// --- logistic ---------------------------------------------------------------------------------------------------------------
/// mean + e^log_scale logit(u), of the parameters' common shape.
SOLVENT_API Tensor logistic_sample(Key key, Tensor mean, Tensor log_scale);
/// -z - s - 2 softplus(-z) with z = (x - mean) e^-s, s = log_scale.
SOLVENT_API Tensor logistic_log_prob(Tensor x, Tensor mean, Tensor log_scale);

// --- normal -----------------------------------------------------------------------------------------------------------------
/// mean + e^log_stddev n, n standard normal, of the parameters' common shape.
SOLVENT_API Tensor normal_sample(Key key, Tensor mean, Tensor log_stddev);
/// -z^2 / 2 - log_stddev - log(2 pi) / 2 with z = (x - mean) e^-log_stddev.
SOLVENT_API Tensor normal_log_prob(Tensor x, Tensor mean, Tensor log_stddev);

// --- categorical --------------------------------------------------------------------------------------------------------------
/// Class numbers (int64) with probabilities softmax(logits) over the last axis: (..., C) -> (...). By the Gumbel-max trick
/// (Gumbel 1954): argmax of logits + Gumbel noise. A logit of -inf excludes its class.
SOLVENT_API Tensor categorical_sample(Key key, const Tensor& logits);
/// The same with given uniform numbers in (0, 1) of the logits' shape.
SOLVENT_API Tensor categorical_sample(const Tensor& uniforms, const Tensor& logits);
/// log softmax(logits)[index]: index int64 (...), logits (..., C). @throws ValueError for an index outside [0, C)
SOLVENT_API Tensor categorical_log_prob(Tensor index, Tensor logits);
/// -sum p log p over the last axis, in nats; classes of probability 0 contribute 0.
SOLVENT_API Tensor categorical_entropy(Tensor logits);

// --- Bernoulli ------------------------------------------------------------------------------------------------------------------
/// true with probability sigmoid(logits) (bool).
SOLVENT_API Tensor bernoulli_sample(Key key, const Tensor& logits);
/// x log sigmoid(logits) + (1 - x) log sigmoid(-logits); x is bool or, for soft targets, floating in [0, 1].
SOLVENT_API Tensor bernoulli_log_prob(Tensor x, Tensor logits);

}  // namespace solvent
