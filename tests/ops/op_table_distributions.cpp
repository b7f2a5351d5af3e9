// Entries of the table of operations: distributions and mixtures of logistics, against their defining formulas. Tails and
// extreme parameters, where those formulas fail, are in distributions_test.cpp.

#include <algorithm>
#include <cmath>
#include <utility>

#include "solvent/ops/distributions.h"
#include "solvent/ops/logistic_mixture.h"
#include "solvent/tests/ops/op_table.h"

namespace solvent::testing {
namespace {

using Lists = std::vector<Tensors>;

double sigma(double z) { return 1.0 / (1.0 + std::exp(-z)); }

OpCase density_case(const char* name, const char* recorded, Tensor (*f)(Tensor, Tensor, Tensor),
                    double (*reference)(double, double, double)) {
  OpCase c;
  c.name = std::string(recorded) + "/" + name;
  c.covers = {recorded};
  c.function = [f](Tensors x) { return detail::one(f(std::move(x[0]), std::move(x[1]), std::move(x[2]))); };
  c.reference = [reference](const Arrays& x) {
    const Shape shape = broadcast_shapes("density", broadcast_shapes("density", x[0].shape, x[1].shape), x[2].shape);
    Array out(shape);
    const Array v = broadcast(x[0], shape);
    const Array mean = broadcast(x[1], shape);
    const Array scale = broadcast(x[2], shape);
    for (std::int64_t i = 0; i < out.numel(); ++i) out[i] = reference(v[i], mean[i], scale[i]);
    return Arrays{out};
  };
  c.samples = [](Key key, DType dtype) {
    Lists lists;
    std::uint64_t n = 0;
    for (const auto& shapes : std::vector<std::vector<Shape>>{
             {{2, 3}, {2, 3}, {2, 3}}, {{4, 3}, {3}, {}}, {{3}, {2, 3}, {2, 1}}, {{1}, {1}, {1}}, {{0}, {0}, {1}}}) {
      lists.push_back({normal_sample(key, n, shapes[0], dtype), normal_sample(key, n + 1, shapes[1], dtype),
                       uniform_sample(key, n + 2, shapes[2], dtype, -1.0, 1.0)});
      n += 3;
    }
    return lists;
  };
  c.tolerance_f32 = 1e-5;
  const std::string tag = std::string("[") + name + "]";
  c.errors = {{"dtypes",
               [f] { (void)f(zeros({2}), zeros({2}, float64), zeros({2})); },
               "DtypeError",
               {tag, "float64(2,)", "cast"}},
              {"integers",
               [f] { (void)f(zeros({2}, int64), zeros({2}, int64), zeros({2}, int64)); },
               "DtypeError",
               {tag, "int64(2,)"}}};
  return c;
}

std::vector<OpCase> categorical_cases() {
  std::vector<OpCase> cases;
  OpCase c;
  c.name = "log_softmax/categorical_log_prob";
  c.covers = {"log_softmax", "gather"};
  c.function = [](Tensors x) { return detail::one(categorical_log_prob(std::move(x[1]), std::move(x[0]))); };
  c.reference = [](const Arrays& x) {
    Array out(x[1].shape);
    const std::int64_t classes = x[0].shape.back();
    for (std::int64_t r = 0; r < out.numel(); ++r) {
      double total = 0.0;
      for (std::int64_t k = 0; k < classes; ++k) total += std::exp(x[0][r * classes + k]);
      out[r] = x[0][r * classes + static_cast<std::int64_t>(x[1][r])] - std::log(total);
    }
    return Arrays{out};
  };
  c.samples = [](Key key, DType dtype) {
    Lists lists;
    for (const Shape& shape : {Shape{3, 4}, Shape{2, 2, 5}, Shape{6}, Shape{1, 1}, Shape{0, 3}}) {
      Shape rows = shape;
      rows.pop_back();
      lists.push_back({normal_sample(key, 2 * lists.size(), shape, dtype),
                       integer_sample(key, 2 * lists.size() + 1, rows, 0, shape.back())});
    }
    return lists;
  };
  c.errors = {{"index",
               [] {
                 (void)categorical_log_prob(tensor({3}, int64), zeros({1, 3}));
               },
               "ValueError",
               {"index 3", "[0, 3)"}},
              {"0-d",
               [] { (void)categorical_log_prob(zeros({}, int64), zeros({})); },
               "ShapeError",
               {"[categorical_log_prob]", "0-d logits"}}};
  cases.push_back(c);

  c = OpCase();
  c.name = "log_softmax/categorical_entropy";
  c.covers = {"log_softmax"};
  c.function = [](Tensors x) { return detail::one(categorical_entropy(std::move(x[0]))); };
  c.reference = [](const Arrays& x) {
    Shape rows = x[0].shape;
    const std::int64_t classes = rows.back();
    rows.pop_back();
    Array out(rows);
    for (std::int64_t r = 0; r < out.numel(); ++r) {
      double total = 0.0;
      for (std::int64_t k = 0; k < classes; ++k) total += std::exp(x[0][r * classes + k]);
      for (std::int64_t k = 0; k < classes; ++k) {
        const double p = std::exp(x[0][r * classes + k]) / total;
        out[r] -= p * std::log(p);
      }
    }
    return Arrays{out};
  };
  c.samples = [](Key key, DType dtype) {
    Lists lists;
    for (const Shape& shape : {Shape{3, 4}, Shape{2, 2, 5}, Shape{6}, Shape{1, 1}, Shape{0, 3}})
      lists.push_back({normal_sample(key, lists.size(), shape, dtype)});
    return lists;
  };
  c.errors = {{"dtype",
               [] { (void)categorical_entropy(zeros({2}, int64)); },
               "DtypeError",
               {"[categorical_entropy]", "int64(2,)"}}};
  cases.push_back(c);
  return cases;
}

OpCase bernoulli_case() {
  OpCase c;
  c.name = "log_sigmoid/bernoulli_log_prob";
  c.covers = {"log_sigmoid"};
  c.function = [](Tensors x) { return detail::one(bernoulli_log_prob(std::move(x[0]), std::move(x[1]))); };
  c.reference = [](const Arrays& x) {
    return Arrays{map(
        x[0], x[1], [](double v, double l) { return v * std::log(sigma(l)) + (1.0 - v) * std::log(1.0 - sigma(l)); })};
  };
  c.samples = [](Key key, DType dtype) {
    Lists lists;
    for (const Shape& shape : {Shape{2, 3}, Shape{7}, Shape{1}, Shape{0, 2}})
      lists.push_back({uniform_sample(key, 2 * lists.size(), shape, dtype, 0.0, 1.0),
                       normal_sample(key, 2 * lists.size() + 1, shape, dtype)});
    lists.push_back({boolean_sample(key, 98, {2, 3}), normal_sample(key, 99, {3}, dtype)});
    return lists;
  };
  c.errors = {{"dtype",
               [] { (void)bernoulli_log_prob(zeros({2}, int64), zeros({2})); },
               "DtypeError",
               {"[bernoulli_log_prob]", "int64(2,)"}}};
  return c;
}

// --- mixtures ---------------------------------------------------------------------------------------------------------------------

// The parameters of one pixel by their definition.
struct Pixel {
  std::int64_t channels;
  std::int64_t components;
  const double* l;

  double weight(std::int64_t j) const {
    double total = 0.0;
    for (std::int64_t k = 0; k < components; ++k) total += std::exp(l[k]);
    return std::exp(l[j]) / total;
  }
  const double* row(std::int64_t c) const { return l + components + c * (channels == 1 ? 2 : 3) * components; }
  double scale(std::int64_t c, std::int64_t j) const { return std::exp(std::max(row(c)[components + j], -7.0)); }
  double coefficient(std::int64_t c, std::int64_t j) const { return std::tanh(row(c)[2 * components + j]); }
  double mean(std::int64_t c, std::int64_t j, const double* x) const {
    if (c == 0) return row(0)[j];
    if (c == 1) return row(1)[j] + coefficient(0, j) * x[0];
    return row(2)[j] + coefficient(1, j) * x[0] + coefficient(2, j) * x[1];
  }
};

// One value per pixel or, with `per_channel`, per channel.
template <class F>
Array for_pixels(const Array& x, const Array& parameters, bool per_channel, F f) {
  const std::int64_t channels = x.shape.back();
  const std::int64_t width = parameters.shape.back();
  Shape shape = x.shape;
  if (!per_channel) shape.pop_back();
  Array out(shape);
  const std::int64_t pixels = x.numel() / channels;
  for (std::int64_t i = 0; i < pixels; ++i) {
    const Pixel pixel{channels, width / (channels == 1 ? 3 : 10), parameters.values.data() + i * width};
    f(pixel, x.values.data() + i * channels, &out[per_channel ? i * channels : i]);
  }
  return out;
}

double bin(double d, double scale, double x) {
  const double upper = x > 0.999 ? 1.0 : sigma((d + 1.0 / 255) / scale);
  const double lower = x < -0.999 ? 0.0 : sigma((d - 1.0 / 255) / scale);
  return upper - lower;
}

double slope(double z) { return sigma(z) * sigma(-z); }

template <class F>
double log_mixed(const Pixel& p, const double* x, F density) {
  double total = 0.0;
  for (std::int64_t j = 0; j < p.components; ++j) {
    double product = p.weight(j);
    for (std::int64_t c = 0; c < p.channels; ++c) product *= density(x[c] - p.mean(c, j, x), p.scale(c, j), x[c]);
    total += product;
  }
  return std::log(total);
}

struct MixtureShape {
  Shape pixels;
  std::int64_t components;
};

// Pixels on the grid (both ends among them) and parameters that do not lie at the bound of the scales.
Samples mixture_samples(std::int64_t channels, std::vector<MixtureShape> shapes) {
  return [channels, shapes = std::move(shapes)](Key key, DType dtype) {
    Lists lists;
    for (const MixtureShape& s : shapes) {
      Shape values = s.pixels;
      values.push_back(channels);
      Shape parameters = s.pixels;
      parameters.push_back(s.components * (channels == 1 ? 3 : 10));
      Array x(integer_sample(key, 2 * lists.size(), values, 0, 256));
      if (x.numel() > 1) x[0] = 0.0;
      if (x.numel() > 2) x[x.numel() - 1] = 255.0;
      const Array grid = map(x, [](double level) { return -1.0 + 2.0 * level / 255.0; });
      lists.push_back({dtype == float64
                           ? from_vector(grid.values, values)
                           : from_vector(std::vector<float>(grid.values.begin(), grid.values.end()), values),
                       uniform_sample(key, 2 * lists.size() + 1, parameters, dtype, -1.2, 0.8)});
    }
    return lists;
  };
}

OpCase mixture_case(const char* name, std::int64_t channels, std::function<Tensor(Tensor, Tensor)> f,
                    std::function<Array(const Array&, const Array&)> reference) {
  OpCase c;
  c.name = name;
  c.covers = {"logsumexp"};
  c.function = [f](Tensors x) { return detail::one(f(std::move(x[0]), std::move(x[1]))); };
  c.reference = [reference](const Arrays& x) { return Arrays{reference(x[0], x[1])}; };
  c.samples = channels == 1 ? mixture_samples(1, {{{2}, 3}, {{3, 2}, 1}, {{}, 2}, {{0}, 2}})
                            : mixture_samples(3, {{{2}, 2}, {{2, 2}, 1}, {{}, 3}, {{0}, 1}});
  c.no_single = "a component has several parameters";
  c.large = channels == 1 ? [](Key key, DType dtype) { return mixture_samples(1, {{{60, 50}, 10}})(key, dtype)[0]; }
                          : [](Key key, DType dtype) {
                              return mixture_samples(3, {{{30, 40}, 10}})(key, dtype)[0];
                            };
  c.tolerance_f64 = 1e-12;  // the twin subtracts two distribution functions
  c.tolerance_f32 = 2e-5;   // distances are rounded like the values, and divided by the scale
  c.no_errors = "see the entries of one channel";
  return c;
}

std::vector<ErrorCase> mixture_errors(const char* name, std::function<Tensor(Tensor, Tensor)> f) {
  const std::string tag = std::string("[") + name + "]";
  return {{"channels",
           [f] {
             (void)f(zeros({4, 2}), zeros({4, 6}));
           },
           "ShapeError",
           {tag, "(4, 2)", "(..., 1) or (..., 3)"}},
          {"parameters",
           [f] {
             (void)f(zeros({4, 3}), zeros({4, 12}));
           },
           "ShapeError",
           {tag, "(4, 12)", "3 channels", "10 numbers per component"}},
          {"dtypes", [f] { (void)f(zeros({1}), zeros({3}, float64)); }, "DtypeError", {tag, "float64(3,)", "cast"}}};
}

std::vector<OpCase> mixture_cases() {
  std::vector<OpCase> cases;
  for (const std::int64_t channels : {1, 3}) {
    const char* suffix = channels == 1 ? "_1" : "_3";
    const auto bins = [](Tensor x, Tensor l) { return discretised_mixture_log_prob(std::move(x), std::move(l)); };
    cases.push_back(mixture_case((std::string("logsumexp/discretised_mixture_log_prob") + suffix).c_str(), channels,
                                 bins, [](const Array& x, const Array& l) {
                                   return for_pixels(x, l, false, [](const Pixel& p, const double* v, double* out) {
                                     *out = log_mixed(p, v, bin);
                                   });
                                 }));
    if (channels == 1) {
      cases.back().no_errors.clear();
      cases.back().errors = mixture_errors("discretised_mixture_log_prob", bins);
      cases.back().errors.push_back({"levels",
                                     [] {
                                       (void)discretised_mixture_log_prob(zeros({2, 1}), zeros({2, 3}), 1);
                                     },
                                     "ValueError",
                                     {"1 levels", "at least 2"}});
    }
    cases.push_back(mixture_case((std::string("logsumexp/mixture_log_prob") + suffix).c_str(), channels,
                                 mixture_log_prob, [](const Array& x, const Array& l) {
                                   return for_pixels(x, l, false, [](const Pixel& p, const double* v, double* out) {
                                     *out =
                                         log_mixed(p, v, [](double d, double s, double) { return slope(d / s) / s; });
                                   });
                                 }));
    if (channels == 1) {
      cases.back().no_errors.clear();
      cases.back().errors = mixture_errors("mixture_log_prob", mixture_log_prob);
    }
    cases.push_back(mixture_case((std::string("logsumexp/mixture_logit_cdf") + suffix).c_str(), channels,
                                 mixture_logit_cdf, [](const Array& x, const Array& l) {
                                   return for_pixels(x, l, true, [](const Pixel& p, const double* v, double* out) {
                                     for (std::int64_t c = 0; c < p.channels; ++c) {
                                       double below = 0.0;
                                       double total = 0.0;
                                       for (std::int64_t j = 0; j < p.components; ++j) {
                                         double weight = p.weight(j);  // times the densities of the channels before
                                         for (std::int64_t k = 0; k < c; ++k)
                                           weight *= slope((v[k] - p.mean(k, j, v)) / p.scale(k, j)) / p.scale(k, j);
                                         below += weight * sigma((v[c] - p.mean(c, j, v)) / p.scale(c, j));
                                         total += weight;
                                       }
                                       out[c] = std::log(below / (total - below));
                                     }
                                   });
                                 }));
    if (channels == 1) {
      cases.back().no_errors.clear();
      cases.back().errors = mixture_errors("mixture_logit_cdf", mixture_logit_cdf);
    }
  }
  return cases;
}

// Parameters, uniforms for components, uniforms for values.
OpCase sample_case(std::int64_t channels, bool clamp, double temperature) {
  OpCase c;
  c.name = "gather/mixture_sample_" + std::to_string(channels) + (clamp ? "_clamped" : "");
  c.covers = {"gather", "exp"};
  c.function = [=](Tensors x) {
    return detail::one(mixture_sample(std::move(x[0]), {std::move(x[1]), std::move(x[2])},
                                      {.clamp = clamp, .temperature = temperature}));
  };
  c.reference = [=](const Arrays& x) {
    const std::int64_t m = x[1].shape.back();
    Array out(x[2].shape);
    for (std::int64_t i = 0; i < out.numel() / channels; ++i) {
      const Pixel p{channels, m, x[0].values.data() + i * x[0].shape.back()};
      const double* v = x[1].values.data() + i * m;
      std::int64_t best = 0;
      const auto score = [&](std::int64_t j) { return p.l[j] / temperature - std::log(-std::log(v[j])); };
      for (std::int64_t j = 1; j < m; ++j)
        if (score(j) > score(best)) best = j;
      double* pixel = &out[i * channels];
      for (std::int64_t k = 0; k < channels; ++k) {
        const double u = x[2][i * channels + k];
        pixel[k] = p.mean(k, best, pixel) + temperature * p.scale(k, best) * std::log(u / (1.0 - u));
        if (clamp) pixel[k] = std::clamp(pixel[k], -1.0, 1.0);
      }
    }
    return Arrays{out};
  };
  c.samples = [=](Key key, DType dtype) {
    Lists lists;
    for (const auto& [pixels, m] : std::vector<MixtureShape>{{{3}, 2}, {{2, 2}, 1}, {{}, 4}, {{0}, 2}}) {
      Shape parameters = pixels;
      Shape components = pixels;
      Shape values = pixels;
      parameters.push_back(m * (channels == 1 ? 3 : 10));
      components.push_back(m);
      values.push_back(channels);
      const std::uint64_t n = 3 * lists.size();
      lists.push_back({normal_sample(key, n, parameters, dtype),
                       uniform_sample(key, n + 1, components, dtype, 0.1, 0.9),
                       uniform_sample(key, n + 2, values, dtype, 0.1, 0.9)});
    }
    return lists;
  };
  c.tolerance_f32 = 2e-5;
  c.no_single = "a component has several parameters";
  c.errors = {
      {"temperature",
       [] {
         (void)mixture_sample(zeros({2, 3}), {full({2, 1}, 0.5), full({2, 1}, 0.5)}, {.temperature = 0.0});
       },
       "ValueError",
       {"[mixture_sample]", "temperature 0", "> 0"}},
      {"channels", [] { (void)mixture_sample(Key(1), zeros({20}), 2); }, "ValueError", {"2 channels", "1 or 3"}}};
  return c;
}

}  // namespace

std::vector<OpCase> distribution_cases() {
  std::vector<OpCase> cases;
  cases.push_back(density_case("logistic_log_prob", "log_sigmoid", logistic_log_prob, [](double x, double m, double s) {
    return std::log(slope((x - m) * std::exp(-s)) * std::exp(-s));
  }));
  cases.push_back(density_case("normal_log_prob", "square", normal_log_prob, [](double x, double m, double s) {
    const double z = (x - m) * std::exp(-s);
    return -0.5 * z * z - s - 0.5 * std::log(2.0 * 3.14159265358979323846);
  }));
  cases.push_back(bernoulli_case());
  for (auto& family : {categorical_cases(), mixture_cases()}) cases.insert(cases.end(), family.begin(), family.end());
  cases.push_back(sample_case(1, false, 1.5));
  cases.push_back(sample_case(3, false, 0.7));
  cases.push_back(sample_case(3, true, 1.0));
  return cases;
}

}  // namespace solvent::testing
