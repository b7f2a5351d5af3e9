#include "solvent/nn/init.h"

#include <cmath>

#include "solvent/nn/activation.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/nn/nn_support.h"

namespace solvent::nn {
namespace {

using testing::identical;
using testing::values_of;

struct Moments {
  double mean, variance, largest;
};
Moments moments_of(const Tensor& t) {
  const std::vector<double> v = values_of(t);
  double sum = 0, squares = 0, largest = 0;
  for (const double x : v) {
    sum += x;
    squares += x * x;
    largest = std::max(largest, std::fabs(x));
  }
  const auto n = static_cast<double>(v.size());
  return {sum / n, squares / n - sum / n * sum / n, largest};
}

TEST_CASE("init: variances and bounds follow the fans", "[nn]") {
  const Shape shape{200, 300};  // out, in
  const auto check = [&](const Tensor& t, double variance, double bound) {
    const Moments m = moments_of(t);
    CHECK(m.mean == Approx(0).margin(0.01 * std::sqrt(variance) * 2));
    CHECK(m.variance == Approx(variance).epsilon(0.03));
    if (bound > 0) {
      CHECK(m.largest <= bound);
      CHECK(m.largest > 0.99 * bound);
    }
  };
  const Key key(11);
  check(init::uniform(key, shape, 0.5), 0.25 / 3, 0.5);
  check(init::normal(key, shape, 0.5), 0.25, 0);
  check(init::fan_in_uniform(key, shape), 1.0 / 300 / 3, 1 / std::sqrt(300.0));
  check(init::lecun_normal(key, shape), 1.0 / 300, 2 / std::sqrt(300.0) / 0.87962566103423978);
  check(init::he_uniform(key, shape), 2.0 / 300, std::sqrt(6.0 / 300));
  check(init::he_normal(key, shape), 2.0 / 300, 0);
  check(init::xavier_uniform(key, shape), 2.0 / 500, std::sqrt(6.0 / 500));
  check(init::xavier_normal(key, shape), 2.0 / 500, 0);
}

TEST_CASE("init: values are functions of the key, in float32 and float64", "[nn]") {
  CHECK(identical(init::he_normal(Key(1), {3, 4}), init::he_normal(Key(1), {3, 4})));
  CHECK_FALSE(identical(init::he_normal(Key(1), {3, 4}), init::he_normal(Key(2), {3, 4})));
  CHECK(init::orthogonal(Key(1), {3, 3}, 1.0, float64).dtype() == float64);
  CHECK_CLOSE(cast(init::orthogonal(Key(1), {3, 3}), float64), init::orthogonal(Key(1), {3, 3}, 1.0, float64), 1e-7);
}

TEST_CASE("init: fans", "[nn]") {
  CHECK(init::fans_of({5, 7}).in == 7);
  CHECK(init::fans_of({5, 7}).out == 5);
  CHECK(init::fans_of({3, 5, 7}).in == 21);
  CHECK(init::fans_of({6}).in == 6);
  CHECK_ERROR(ShapeError, init::fans_of({}), "[init]", "()");
}

TEST_CASE("init::orthogonal: rows or columns are orthonormal to rounding", "[nn]") {
  for (const Shape& shape : {Shape{40, 40}, Shape{7, 30}, Shape{30, 7}, Shape{1, 1}, Shape{1, 5}}) {
    const Tensor q = init::orthogonal(Key(3), shape, 2.0, float64);
    const Tensor gram = shape[0] <= shape[1] ? matmul(q, mT(q)) : matmul(mT(q), q);
    CHECK_CLOSE(gram, eye(gram.size(0), float64) * 4.0, 1e-14);
  }
  CHECK_ERROR(ShapeError, init::orthogonal(Key(1), {2, 3, 4}), "[orthogonal]", "(2, 3, 4)");
}

TEST_CASE("init::orthogonal: is Q of the normal matrix with a positive diagonal of R", "[nn]") {
  const Key key(5);
  const Tensor q = init::orthogonal(key, {6, 6}, 1.0, float64);
  const Tensor r = matmul(mT(q), normal(key, {6, 6}, 0, 1, float64));
  const std::vector<double> v = r.to_vector<double>();
  for (std::size_t i = 0; i < 6; ++i) {
    CHECK(v[i * 6 + i] > 0);
    for (std::size_t j = 0; j < i; ++j) CHECK(std::fabs(v[i * 6 + j]) < 1e-14);
  }
}

TEST_CASE("init::orthogonal: the distribution has no preferred direction", "[nn]") {
  // Without the signs, entries on the diagonal would be biased: E[q_00] = -0.5 or so for 2 x 2.
  double sum = 0;
  double trace_squared = 0;
  constexpr int kSamples = 4000;
  for (std::uint64_t i = 0; i < kSamples; ++i) {
    const std::vector<double> q = init::orthogonal(Key(7).fold_in(i), {2, 2}, 1.0, float64).to_vector<double>();
    sum += q[0];
    trace_squared += (q[0] + q[3]) * (q[0] + q[3]);
  }
  CHECK(sum / kSamples == Approx(0).margin(4 * std::sqrt(0.5 / kSamples)));
  CHECK(trace_squared / kSamples == Approx(1).epsilon(0.1));  // Haar measure on O(n): E[tr^2] = 1
}

TEST_CASE("names of initialisers and activations round trip and errors list them", "[nn]") {
  for (const WeightInit w :
       {WeightInit::fan_in_uniform, WeightInit::lecun_normal, WeightInit::he_uniform, WeightInit::he_normal,
        WeightInit::xavier_uniform, WeightInit::xavier_normal, WeightInit::orthogonal, WeightInit::zeros}) {
    CHECK(parse_weight_init(to_string(w)) == w);
    const Tensor t = make_weight(w, Key(1), {4, 3}, float64);
    CHECK(t.shape() == Shape{4, 3});
    CHECK((moments_of(t).largest > 0) == (w != WeightInit::zeros));
  }
  CHECK_ERROR(ValueError, parse_weight_init("glorot"), "\"glorot\"", "xavier_uniform", "orthogonal");
  CHECK(parse_recurrent_init("flax") == RecurrentInit::flax);
  CHECK(parse_recurrent_init(to_string(RecurrentInit::equinox)) == RecurrentInit::equinox);
  CHECK_ERROR(ValueError, parse_recurrent_init("keras"), "\"keras\"", "equinox, flax");
  for (int i = 0; i <= static_cast<int>(Activation::softplus); ++i) {
    const auto a = static_cast<Activation>(i);
    CHECK(parse_activation(to_string(a)) == a);
  }
  CHECK_ERROR(ValueError, parse_activation("mish"), "\"mish\"", "softplus");
}

TEST_CASE("activate: is the function of that name", "[nn]") {
  const Tensor x = normal(Key(3), {20}, 0, 2, float64);
  const auto same = [&](const char* name, const Tensor& y) {
    return identical(activate(parse_activation(name), x), y);
  };
  CHECK(same("identity", x));
  CHECK(same("relu", relu(x)));
  CHECK(same("leaky_relu", leaky_relu(x)));
  CHECK(same("elu", elu(x)));
  CHECK(same("silu", silu(x)));
  CHECK(same("gelu", gelu(x)));
  CHECK(same("tanh", tanh(x)));
  CHECK(same("sigmoid", sigmoid(x)));
  CHECK(same("softplus", softplus(x)));
}

}  // namespace
}  // namespace solvent::nn
