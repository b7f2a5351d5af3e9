#pragma once
/// Mixtures of logistic distributions over the channels of a pixel (Salimans et al. 2017, "PixelCNN++", arXiv:1701.05517):
/// the output head of autoregressive image models, with values in [-1, 1].
///
/// A pixel has C = 1 or 3 channels and M components. Its parameters lie on the last axis of a tensor, in the order of the
/// original:
///     M logits, then for each channel M means and M log scales and, if C = 3, M coefficients:  M (1 + 3 C) or 3 M numbers.
/// Log scales below -7 count as -7 (derivative 0 there); coefficients pass through tanh. Given a component, the channels are
/// chained: mean_G depends on x_R with the coefficient stored with R, mean_B on x_R and x_G with those stored with G and B.
/// So `parameters` is (..., 10 M) for x (..., 3) and (..., 3 M) for x (..., 1); leading axes broadcast.
///
/// All functions throw ShapeError or DtypeError for operands that do not fit and differentiate to any order unless said
/// otherwise. Log densities are finite with finite derivatives for all finite parameters, in either type.

#include "solvent/autodiff/basis.h"
#include "solvent/core/rng.h"

namespace solvent {

/// The parameters of a mixture, ready for use.
struct LogisticMixture {
  Tensor logits;        ///< (..., M)
  Tensor means;         ///< (..., C, M)
  Tensor log_scales;    ///< (..., C, M), at least -7
  Tensor coefficients;  ///< (..., 3, M) after tanh; undefined for C = 1
};
/// Takes `parameters` apart. @throws ValueError unless channels is 1 or 3; ShapeError if the last extent does not fit
SOLVENT_API LogisticMixture split_logistic_mixture(Tensor parameters, std::int64_t channels);

/// Log probability of quantised pixels: x (..., C) on the grid -1 + 2 j / (levels - 1) -> (...), summed over channels.
///
/// A value stands for the bin around it, the first and the last for everything beyond: probabilities over the grid add up
/// to 1 for any parameters. The probability of an inner bin is log((1 - e^-d) sigmoid(p) sigmoid(-q)), p and q the
/// standardised edges and d = p - q, which is exact in both tails; the original switches to the density there.
/// @throws ValueError for levels < 2
SOLVENT_API Tensor discretised_mixture_log_prob(Tensor x, Tensor parameters, std::int64_t levels = 256);
/// Log density without bins: x (..., C) -> (...).
SOLVENT_API Tensor mixture_log_prob(Tensor x, Tensor parameters);

/// Uniform numbers from which pixels are sampled: in [1e-5, 1 - 1e-5], so that logistic noise stays within 11.52.
struct MixtureNoise {
  Tensor component;  ///< (..., M), choose the component
  Tensor value;      ///< (..., C), one per channel
};
/// Noise for B images in one row each, (B, H W (M + C)): first H W M numbers for components as (H, W, M), then H W C for
/// values as (H, W, C). One row holds all randomness of an image: a sampler is then a function of its noise.
SOLVENT_API Tensor mixture_noise(Key key, std::int64_t batch, std::int64_t height, std::int64_t width,
                                 std::int64_t components, std::int64_t channels, TensorOptions options = {});
/// Views (B, H, W, M) and (B, H, W, C) of such rows. @throws ShapeError
SOLVENT_API MixtureNoise split_mixture_noise(Tensor noise, std::int64_t height, std::int64_t width,
                                             std::int64_t components, std::int64_t channels);

/// How mixture_sample draws pixels.
struct MixtureSampling {
  bool clamp = true;         ///< each channel to [-1, 1], before the next one depends on it
  double temperature = 1.0;  ///< logits / temperature, log scales + log temperature
};
/// Pixels (..., C): the component by the Gumbel-max trick, then each channel by the inverse distribution function of the
/// logistic. No rounding to levels. The choice of the component is a constant for differentiation.
/// @throws ValueError unless temperature > 0
SOLVENT_API Tensor mixture_sample(Tensor parameters, const MixtureNoise& noise, const MixtureSampling& options = {});
/// With fresh noise. @throws ValueError unless channels is 1 or 3
SOLVENT_API Tensor mixture_sample(Key key, Tensor parameters, std::int64_t channels,
                                  const MixtureSampling& options = {});

/// Noise of pixels: logit of the distribution function of each channel given those before it, x (..., C) -> (..., C).
/// Standard logistic for pixels from the mixture. The inverse of mixture_quantile.
SOLVENT_API Tensor mixture_logit_cdf(Tensor x, Tensor parameters);

/// How mixture_quantile searches.
struct MixtureInversion {
  int steps = 15;     ///< bisections: the error is at most the interval's length / 2^(steps + 1)
  bool clamp = true;  ///< search in [-1, 1]; else in [-20, 20] for 3 channels and [-30, 30] for 1
};
/// Pixels whose noise is `noise` (..., C), channel after channel by bisection: a continuous function of the noise, where
/// mixture_sample jumps between components. A constant for differentiation. @throws ValueError for steps < 1
SOLVENT_API Tensor mixture_quantile(const Tensor& noise, const Tensor& parameters,
                                    const MixtureInversion& options = {});

}  // namespace solvent
