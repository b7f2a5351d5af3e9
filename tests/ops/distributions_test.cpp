// Distributions beyond the table of operations: normalisation, tails against 60 digits, extreme parameters, samples.

#include "solvent/ops/distributions.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "solvent/autodiff/transforms.h"
#include "solvent/core/error.h"
#include "solvent/core/io/safetensors.h"
#include "solvent/ops/logistic_mixture.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/ops/messages.h"
#include "solvent/tests/support/catch.h"

namespace solvent {
namespace {

std::vector<double> values(const Tensor& t) { return cast(t, float64).to_vector<double>(); }

Tensor golden(const std::string& name) {
  static const SafetensorsFile file = load_safetensors("golden/distributions.safetensors");
  for (const auto& [key, value] : file.tensors)
    if (key == name) return value;
  throw ValueError("no golden tensor " + name);
}

// Largest |got - want| / max(1, |want|); infinite if a number is not finite.
double error_of(const Tensor& got, const Tensor& want) {
  if (!(got.shape() == want.shape())) return INFINITY;
  const std::vector<double> g = values(got);
  const std::vector<double> w = values(want);
  double worst = 0.0;
  for (std::size_t i = 0; i < g.size(); ++i) {
    const double e = std::abs(g[i] - w[i]) / std::max(1.0, std::abs(w[i]));
    if (!(e <= worst)) worst = std::isnan(e) ? INFINITY : e;
  }
  return worst;
}

bool all_finite(const Tensor& t) { return all(isfinite(t)).item() == 1.0; }

// -1 + 2 j / 255 as (256, 1).
Tensor grid(DType dtype) { return reshape(affine(arange(0, 256, 1, dtype), 2.0 / 255.0, -1.0), {256, 1}); }

// |sum over the grid - 1| for each row of parameters, the sum in double.
double normalisation_error(const Tensor& parameters) {
  const Tensor rows = reshape(parameters, {parameters.shape()[0], 1, parameters.shape()[1]});
  const Tensor log_prob = discretised_mixture_log_prob(grid(parameters.dtype()), rows);  // (rows, 256)
  return max(abs(sum(exp(cast(log_prob, float64)), {1}) - 1.0)).item();
}

// Parameters (rows, 3 M) of one channel with log scales in [low, high].
Tensor one_channel(Key key, std::int64_t rows, std::int64_t m, double low, double high, DType dtype) {
  return concat({normal(key.fold_in(0), {rows, m}, 0.0, 1.0, dtype), normal(key.fold_in(1), {rows, m}, 0.0, 0.7, dtype),
                 uniform(key.fold_in(2), {rows, m}, low, high, dtype)},
                1);
}

// Kolmogorov's distance between samples' uniform transforms and the uniform distribution, times sqrt(n): above 1.95 with
// probability 0.001.
double kolmogorov(std::vector<double> u) {
  std::sort(u.begin(), u.end());
  const double n = static_cast<double>(u.size());
  double d = 0.0;
  for (std::size_t i = 0; i < u.size(); ++i)
    d = std::max({d, u[i] - static_cast<double>(i) / n, static_cast<double>(i + 1) / n - u[i]});
  return d * std::sqrt(n);
}

constexpr double kKolmogorovLimit = 1.95;

}  // namespace

// --- simple distributions -----------------------------------------------------------------------------------------------------

TEST_CASE("distributions: tails agree with 60 digits") {
  for (const DType dtype : {float32, float64}) {
    const double tolerance = dtype == float32 ? 3e-7 : 1e-15;
    const Tensor z = cast(golden("tails.z"), dtype);
    const Tensor zero = zeros({}, dtype);
    CHECK(error_of(logistic_log_prob(z, zero, zero), golden("tails.logistic")) < tolerance);
    CHECK(error_of(bernoulli_log_prob(ones({10}, boolean), z), golden("tails.bernoulli")) < tolerance);
    CHECK(error_of(bernoulli_log_prob(zeros({10}, dtype), neg(z)), golden("tails.bernoulli")) < tolerance);
    // Relative accuracy of probabilities that nearly are 1.
    CHECK(bernoulli_log_prob(ones({}, boolean), scalar(40.0, dtype)).item() ==
          Approx(-std::exp(-40.0)).epsilon(1e-6).margin(0.0));
    CHECK(error_of(categorical_entropy(cast(golden("entropy.logits"), dtype)), golden("entropy.value")) < tolerance);
  }
}

TEST_CASE("distributions: entropy and its gradient are finite where classes have no probability") {
  const Tensor logits = tensor({0.0, -INFINITY, 0.0}, float64);
  CHECK(categorical_entropy(logits).item() == Approx(std::log(2.0)));
  const Tensor far = tensor({0.0, -1e4, 0.0}, float64);
  CHECK(all_finite(grad([](const Tensor& l) { return categorical_entropy(l); }, far)));
  CHECK(values(categorical_sample(Key(1), broadcast_to(tensor({-INFINITY, 3.0, -INFINITY}), {50, 3}))) ==
        std::vector<double>(50, 1.0));
}

TEST_CASE("distributions: samples follow their distribution") {
  constexpr std::int64_t kSamples = 40'000;
  for (const DType dtype : {float32, float64}) {
    const Tensor location = scalar(0.7, dtype);
    const Tensor log_scale = scalar(-0.4, dtype);
    const Tensor shape = zeros({kSamples}, dtype);
    const auto standard = [&](const Tensor& x) { return (x - location) * std::exp(0.4); };
    CHECK(kolmogorov(values(sigmoid(standard(logistic_sample(Key(5), location + shape, log_scale))))) <
          kKolmogorovLimit);
    const Tensor n = standard(normal_sample(Key(6), location + shape, log_scale));
    CHECK(kolmogorov(values(affine(erf(n * std::sqrt(0.5)), 0.5, 0.5))) < kKolmogorovLimit);
    CHECK(kolmogorov(values(exp(neg(exp(neg(gumbel_noise(Key(7), {kSamples}, dtype))))))) < kKolmogorovLimit);

    const Tensor logits = tensor({0.3, -1.0, 2.0, 0.0}, dtype);
    const Tensor draws = categorical_sample(Key(8), broadcast_to(logits, {kSamples, 4}));
    const std::vector<double> frequency = values(mean(one_hot(draws, 4, float64), {0}));
    const std::vector<double> p = values(softmax(logits));
    double chi2 = 0.0;
    for (std::size_t i = 0; i < p.size(); ++i) chi2 += kSamples * (frequency[i] - p[i]) * (frequency[i] - p[i]) / p[i];
    CHECK(chi2 < 16.3);  // 3 degrees of freedom, probability 0.001

    const Tensor heads = cast(bernoulli_sample(Key(9), full({kSamples}, 0.8, dtype)), float64);
    CHECK(std::abs(sum(heads).item() / kSamples - 1.0 / (1.0 + std::exp(-0.8))) < 3.3 * 0.5 / std::sqrt(kSamples));
  }
  CHECK(values(bernoulli_sample(Key(1), tensor({-1e4, 1e4}))) == std::vector<double>{0, 1});
}

TEST_CASE("distributions: samples are differentiable functions of location and scale") {
  const Tensor zero = zeros({3}, float64);
  const Tensor noise = logistic_noise(Key(4), {3}, float64);
  const auto f = [&](const Tensor& s) { return sum(logistic_sample(Key(4), zero, s)); };
  CHECK(values(grad(f, zero)) == values(noise));
}

// --- mixtures: likelihood --------------------------------------------------------------------------------------------------------

TEST_CASE("discretised mixture: probabilities over the grid add up to 1") {
  CHECK(normalisation_error(one_channel(Key(1), 200, 3, -9.0, 4.0, float64)) < 1e-12);
  CHECK(normalisation_error(one_channel(Key(2), 50, 10, -7.0, 12.0, float64)) < 1e-12);
  CHECK(normalisation_error(one_channel(Key(3), 200, 3, -1.5, 4.0, float32)) < 1e-6);
  // Narrow components: edges of neighbouring bins are rounded apart by 6e-8, times the density of up to 1100 / 4.
  CHECK(normalisation_error(one_channel(Key(4), 200, 3, -7.0, -1.5, float32)) < 2e-5);
}

TEST_CASE("discretised mixture: the last channel adds up to the probability of the others") {
  const Tensor l = normal(Key(5), {20}, 0.0, 0.6, float64);
  const double red = -1.0 + 2.0 * 37 / 255;
  for (const double green : {-1.0, -1.0 + 2.0 * 190 / 255, 1.0}) {
    const Tensor first = broadcast_to(tensor({red, green}, float64), {256, 2});
    const double total = sum(exp(discretised_mixture_log_prob(concat({first, grid(float64)}, 1), l))).item();
    // Two channels of the mixture by the defining formula.
    const std::vector<double> p = values(l);
    const auto sigma = [](double z) { return 1.0 / (1.0 + std::exp(-z)); };
    double expected = 0.0;
    for (std::size_t j = 0; j < 2; ++j) {
      const double weight = std::exp(p[j]) / (std::exp(p[0]) + std::exp(p[1]));
      const auto bin = [&](double d, double s, double x) {
        const double i = std::exp(-s);
        return (x > 0.999 ? 1.0 : sigma(i * (d + 1.0 / 255))) - (x < -0.999 ? 0.0 : sigma(i * (d - 1.0 / 255)));
      };
      const double shift = std::tanh(p[6 + j]) * red;
      expected += weight * bin(red - p[2 + j], p[4 + j], red) * bin(green - p[8 + j] - shift, p[10 + j], green);
    }
    CHECK(total == Approx(expected).epsilon(1e-12));
  }
}

TEST_CASE("mixture: values and gradients agree with 60 digits, in the tails too") {
  for (const std::int64_t channels : {1, 3}) {
    const std::string prefix = "mixture" + std::to_string(channels) + ".";
    for (const DType dtype : {float32, float64}) {
      INFO(prefix << to_string(dtype));
      // float32: means and pixels are rounded to 6e-8, and divided by scales down to e^-7.
      const double tolerance = dtype == float32 ? 2e-4 : 1e-12;
      const Tensor x = cast(golden(prefix + "x"), dtype);
      const Tensor l = cast(golden(prefix + "parameters"), dtype);
      CHECK(error_of(discretised_mixture_log_prob(x, l), golden(prefix + "log_prob")) < tolerance);
      CHECK(error_of(mixture_log_prob(x, l), golden(prefix + "density")) < tolerance);
      CHECK(error_of(mixture_logit_cdf(x, l), golden(prefix + "logit_cdf")) < tolerance);
      const auto total = [](const Tensors& t) { return Tensors{sum(discretised_mixture_log_prob(t[0], t[1]))}; };
      const Tensors g = vjp(total, {x, l}).pullback(Tensors{ones({}, dtype)});
      const double gradient_tolerance = dtype == float32 ? 2e-4 : 1e-11;
      CHECK(error_of(g[0], golden(prefix + "grad_x")) < gradient_tolerance);
      CHECK(error_of(g[1], golden(prefix + "grad_parameters")) < gradient_tolerance);
    }
  }
}

TEST_CASE("mixture: values and derivatives are finite for extreme parameters") {
  for (const std::int64_t channels : {1, 3})
    for (const DType dtype : {float32, float64}) {
      const double largest = dtype == float32 ? 3e38 : 1e300;
      const std::int64_t width = channels == 1 ? 3 * 2 : 10 * 2;
      const std::vector<double> extremes = {0.0, 1.0, -1.0, 90.0, -90.0, 1e4, -1e4, 1e30, -1e30, largest, -largest};
      const Tensor choice = randint(Key(11), {400, width}, 0, static_cast<std::int64_t>(extremes.size()));
      const Tensor l = gather(broadcast_to(cast(from_vector(extremes, {11}), dtype), {400, 11}), choice, 1);
      const Tensor x = clip(normal(Key(12), {400, channels}, 0.0, 1.0, dtype), -1.0, 1.0);
      for (const bool bins : {true, false}) {
        INFO(channels << " channels, " << to_string(dtype) << (bins ? ", bins" : ", density"));
        const auto f = [bins](const Tensors& t) {
          return Tensors{bins ? discretised_mixture_log_prob(t[0], t[1]) : mixture_log_prob(t[0], t[1])};
        };
        VjpResult result = vjp(f, {x, l});
        CHECK(all_finite(result.values[0]));
        const Tensors g = result.pullback(Tensors{ones({400}, dtype)});
        CHECK(all_finite(g[0]));
        CHECK(all_finite(g[1]));
      }
    }
}

TEST_CASE("mixture: the published numbers of PixelCNN++ are reproduced") {
  const Tensor l = sin(arange(1, 21, 1, float64));
  const auto log_prob = [&](double r, double g, double b) {
    return discretised_mixture_log_prob(tensor({r, g, b}, float64), l).item();
  };
  CHECK(log_prob(0.2, -0.3, 0.5) == Approx(-17.389403948).epsilon(1e-9));
  CHECK(log_prob(-1, 1, 0) == Approx(-10.851092697).epsilon(1e-9));
  CHECK(log_prob(1, 1, 1) == Approx(-3.894030423).epsilon(1e-9));
  const MixtureNoise noise{tensor({0.2, 0.9}, float64), tensor({0.3, 0.6, 0.45}, float64)};
  CHECK(error_of(mixture_sample(l, noise, {.clamp = false}),
                 tensor({-1.397550851, -1.364995616, -2.427681900}, float64)) < 1e-9);
  CHECK(values(mixture_sample(l, noise)) == std::vector<double>{-1, -1, -1});
  const Tensor one = slice(l, 0, 0, 6);
  CHECK(mixture_sample(one, {tensor({0.2, 0.9}, float64), tensor({0.3}, float64)}, {.clamp = false}).item() ==
        Approx(-1.397550851).epsilon(1e-9));
  const Tensor z = tensor({0.3, -0.4, 0.1}, float64);
  CHECK(error_of(mixture_quantile(z, l), tensor({-0.002532959, 0.022003174, 0.545989990}, float64)) < 1e-9);
  CHECK(error_of(mixture_quantile(z, l, {.steps = 50}), tensor({-0.002541798, 0.021998120, 0.545968566}, float64)) <
        1e-9);
}

// --- mixtures: sampling ----------------------------------------------------------------------------------------------------------

TEST_CASE("mixture: samples become logistic noise under the mixture's distribution function") {
  constexpr std::int64_t kSamples = 20'000;
  for (const std::int64_t channels : {1, 3}) {
    const Tensor l = normal(Key(21), {channels == 1 ? 9 : 30}, 0.0, 0.8, float64);
    const Tensor rows = broadcast_to(l, {kSamples, l.shape()[0]});
    const Tensor x = mixture_sample(Key(22), rows, channels, {.clamp = false});
    CHECK(x.shape() == Shape{kSamples, channels});
    const Tensors u = unstack(sigmoid(mixture_logit_cdf(x, rows)), 1);
    for (const Tensor& c : u) CHECK(kolmogorov(values(c)) < kKolmogorovLimit);
    CHECK(max(abs(mixture_sample(Key(22), rows, channels))).item() <= 1.0);
  }
}

TEST_CASE("mixture: the quantile inverts the distribution function") {
  for (const std::int64_t channels : {1, 3}) {
    const Tensor l = normal(Key(31), {40, channels == 1 ? 9 : 20}, 0.0, 0.7, float64);
    const Tensor z = normal(Key(32), {40, channels}, 0.0, 2.0, float64);
    const Tensor x = mixture_quantile(z, l, {.steps = 60, .clamp = false});
    CHECK(error_of(mixture_logit_cdf(x, l), z) < 1e-12);
    // Within the interval, 15 bisections are 2^-15 of its half length away.
    const Tensor inside = cast(less(abs(x), full({}, 1.0, float64)), float64);
    const Tensor found = mixture_quantile(z, l);
    CHECK(max(abs(slice(found - x, 1, 0, 1)) * slice(inside, 1, 0, 1)).item() <= std::ldexp(1.0, -15));
    CHECK_FALSE(is_differentiated(found));
  }
}

TEST_CASE("mixture: noise rows hold components before values") {
  const std::int64_t h = 2, w = 3, m = 4, c = 3;
  const Tensor rows = mixture_noise(Key(1), 5, h, w, m, c, float64);
  CHECK(rows.shape() == Shape{5, h * w * (m + c)});
  CHECK(min(rows).item() >= 1e-5);
  CHECK(max(rows).item() <= 1.0 - 1e-5);
  const MixtureNoise noise = split_mixture_noise(rows, h, w, m, c);
  CHECK(noise.component.shape() == Shape{5, h, w, m});
  CHECK(noise.value.shape() == Shape{5, h, w, c});
  const auto flat = [&](std::int64_t i) { return select(select(rows, 0, 1), 0, i).item(); };
  const auto at = [](const Tensor& t, std::int64_t r, std::int64_t col, std::int64_t k) {
    return select(select(select(select(t, 0, 1), 0, r), 0, col), 0, k).item();
  };
  CHECK(at(noise.component, 1, 2, 3) == flat((1 * w + 2) * m + 3));
  CHECK(at(noise.value, 1, 0, 2) == flat(h * w * m + (1 * w + 0) * c + 2));
  CHECK_ERROR(ShapeError, split_mixture_noise(rows, h, w, m, 1), "[split_mixture_noise]", "(5, 42)", "(B, 30)");
  CHECK_ERROR(ValueError, split_logistic_mixture(zeros({20}), 2), "[split_logistic_mixture]", "2 channels");
  CHECK_ERROR(ValueError, mixture_quantile(zeros({1}), zeros({3}), {.steps = 0}), "[mixture_quantile]", "0 steps");
}

TEST_CASE("mixture: a low temperature gives the mean of the likeliest component") {
  const Tensor l = tensor({0.1, 0.9, -0.3, 0.4, 0.0, 0.0}, float64);
  CHECK(mixture_sample(Key(3), l, 1, {.temperature = 1e-6}).item() == Approx(0.4).margin(1e-4));
}

}  // namespace solvent
