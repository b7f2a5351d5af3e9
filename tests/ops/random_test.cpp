// Random tensors: distributions, ranges, independence of shape, accuracy of the normal quantile.

#include "solvent/ops/random.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "solvent/ops/normal_quantile.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/support/catch.h"

namespace solvent {
namespace {

constexpr std::int64_t kMany = 200'000;

TEST_CASE("random: element i depends on the key and i only") {
  const Key key(11, 3);
  for (const DType dtype : {float32, float64}) {
    const std::vector<double> flat = cast(normal(key, {1000}, 0.0, 1.0, dtype), float64).to_vector<double>();
    const std::vector<double> cube = cast(normal(key, {10, 5, 20}, 0.0, 1.0, dtype), float64).to_vector<double>();
    const std::vector<double> head = cast(normal(key, {7}, 0.0, 1.0, dtype), float64).to_vector<double>();
    CHECK(flat == cube);
    CHECK(std::equal(head.begin(), head.end(), flat.begin()));
  }
  CHECK(uniform(key, {3}).to_vector<float>() != uniform(key.fold_in(1), {3}).to_vector<float>());
}

TEST_CASE("uniform: moments and half-open range") {
  const Tensor u = uniform(Key(1), {kMany}, -2.0, 3.0, float64);
  CHECK(mean(u).item() == Approx(0.5).margin(5 * 1.4434 / std::sqrt(double(kMany))));
  CHECK(var(u).item() == Approx(25.0 / 12.0).epsilon(0.02));
  CHECK(min(u).item() >= -2.0);
  CHECK(max(u).item() < 3.0);
  // 1 + (1 - 2^-24) rounds to 2 in float32: must stay below.
  CHECK(max(uniform(Key(2), {1 << 22}, 1.0, 2.0)).item() < 2.0);
  CHECK(max(uniform(Key(2), {1000}, 1e8, 1e8 + 8)).item() < 1e8 + 8);
}

TEST_CASE("normal: moments, tails and symmetry") {
  for (const DType dtype : {float32, float64}) {
    const Tensor z = cast(normal(Key(3), {kMany}, 0.0, 1.0, dtype), float64);
    const double error = 5 / std::sqrt(double(kMany));
    CHECK(mean(z).item() == Approx(0.0).margin(error));
    CHECK(var(z).item() == Approx(1.0).margin(error * std::sqrt(2.0)));
    CHECK(mean(z * z * z).item() == Approx(0.0).margin(error * std::sqrt(15.0)));
    CHECK(mean(square(square(z))).item() == Approx(3.0).margin(error * std::sqrt(96.0)));
    CHECK(mean(cast(greater(z, full({}, 2.0, float64)), float64)).item() == Approx(0.02275).epsilon(0.08));
  }
  CHECK(max(abs(normal(Key(3), {100}, 5.0, 0.0) - 5.0)).item() == 0.0);
}

TEST_CASE("normal quantile: inverse of the distribution function, odd, monotone") {
  for (double p = 1e-15; p < 0.5; p *= 1.37) {
    const double z = detail::normal_quantile(p);
    // Relative error of p = density / p times the error of z.
    const double density = std::exp(-0.5 * z * z) / std::sqrt(2.0 * 3.14159265358979323846);
    CHECK(std::abs(0.5 * std::erfc(-z / std::sqrt(2.0)) - p) / density < 4e-15 * std::max(1.0, std::abs(z)));
    CHECK(detail::normal_quantile(0.5 * p) < z);
  }
  CHECK(detail::normal_quantile(0.5) == 0.0);
  CHECK(detail::normal_quantile(0.25) == -detail::normal_quantile(0.75));
  // Published values (Wichura 1988, section 4).
  CHECK(detail::normal_quantile(0.25) == Approx(-0.6744897501960817).epsilon(1e-15));
  CHECK(detail::normal_quantile(0.001) == Approx(-3.090232306167814).epsilon(1e-15));
  CHECK(detail::normal_quantile(1e-20) == Approx(-9.262340089798408).epsilon(1e-15));
}

TEST_CASE("portable log: within a few units of the library's") {
  for (double x = 1e-300; x < 1e300; x *= 1.77)
    CHECK(std::abs(detail::portable_log(x) - std::log(x)) <= 4e-16 * std::abs(std::log(x)));
  for (double d = 1e-12; d < 0.3; d *= 3.1) {
    CHECK(detail::portable_log(1.0 + d) == Approx(std::log(1.0 + d)).epsilon(1e-15));
    CHECK(detail::portable_log(1.0 - d) == Approx(std::log(1.0 - d)).epsilon(1e-15));
  }
}

TEST_CASE("truncated_normal: bounded, with the right spread") {
  const Tensor z = truncated_normal(Key(4), {kMany}, 2.0, 1.0, float64);
  CHECK(max(abs(z)).item() <= 2.0);
  CHECK(mean(z).item() == Approx(0.0).margin(0.01));
  CHECK(var(z).item() == Approx(0.7737).epsilon(0.01));  // 1 - 4 phi(2) / (2 Phi(2) - 1)
}

TEST_CASE("bernoulli: frequency and the ends") {
  CHECK(mean(cast(bernoulli(Key(5), {kMany}, 0.3), float64)).item() ==
        Approx(0.3).margin(5 * 0.46 / std::sqrt(double(kMany))));
  CHECK(all(bernoulli(Key(5), {1000}, 1.0)).item() == 1.0);
  CHECK(any(bernoulli(Key(5), {1000}, 0.0)).item() == 0.0);
}

TEST_CASE("randint: every value equally often, full range allowed") {
  const std::vector<std::int64_t> v = randint(Key(6), {70'000}, -3, 4).to_vector<std::int64_t>();
  std::vector<int> count(7);
  for (const std::int64_t x : v) ++count.at(static_cast<std::size_t>(x + 3));
  for (const int c : count) CHECK(std::abs(c - 10'000) < 500);
  const auto wide = randint(Key(6), {1000}, INT64_MIN, INT64_MAX).to_vector<std::int64_t>();
  CHECK(*std::min_element(wide.begin(), wide.end()) < INT64_MIN / 2);
  CHECK(*std::max_element(wide.begin(), wide.end()) > INT64_MAX / 2);
}

TEST_CASE("permutation: every index once, all orders equally often") {
  std::vector<std::int64_t> p = permutation(Key(7), 1000).to_vector<std::int64_t>();
  CHECK(!std::is_sorted(p.begin(), p.end()));
  std::sort(p.begin(), p.end());
  std::vector<std::int64_t> identity(1000);
  std::iota(identity.begin(), identity.end(), 0);
  CHECK(p == identity);
  std::vector<int> count(6);
  for (std::uint64_t i = 0; i < 6000; ++i) {
    const auto q = permutation(Key(8).fold_in(i), 3).to_vector<std::int64_t>();
    ++count.at(static_cast<std::size_t>(2 * q[0] + (q[1] > q[2])));
  }
  for (const int c : count) CHECK(std::abs(c - 1000) < 150);
  CHECK(permutation(Key(7), 0).numel() == 0);
}

}  // namespace
}  // namespace solvent
