// The matrix exponential and phi1 beyond the table of operations: closed forms, identities, extreme norms, matrices far
// from normal, the two kernels against each other, and SciPy's results.

#include <cmath>

#include "solvent/autodiff/gradcheck.h"
#include "solvent/core/io/safetensors.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/support/catch.h"

namespace solvent {
namespace {

double max_difference(const Tensor& a, const Tensor& b) { return a.numel() == 0 ? 0.0 : max(abs(a - b)).item(); }

Tensor sample(std::uint64_t n, const Shape& shape) { return normal(Key(13).fold_in(n), shape, 0, 1, float64); }

Tensor identity(std::int64_t n) { return eye(n, float64); }

// The top left n x n of the same computation with larger matrices, which the other kernel does.
template <class F>
Tensor by_larger(const F& f, const Tensor& a) {
  const std::int64_t n = a.size(-1);
  const Tensor wide = pad(pad(a, -1, 0, 30), -2, 0, 30);
  return slice(slice(f(wide), -1, 0, n), -2, 0, n);
}

// Largest elementwise error relative to the largest element of each matrix.
double relative_error(const Tensor& got, const Tensor& expected) {
  return max_difference(got, expected) / max(abs(expected)).item();
}

}  // namespace

TEST_CASE("expm: closed forms of rotations, nilpotent, diagonal and symmetric matrices") {
  for (const double angle : {0.0, 1e-9, 0.3, 2.0, 40.0}) {
    const Tensor j = tensor({{0, -angle}, {angle, 0}}, float64);
    const Tensor expected = tensor({{std::cos(angle), -std::sin(angle)}, {std::sin(angle), std::cos(angle)}}, float64);
    CHECK(max_difference(expm(j), expected) < 2e-14);
  }
  for (const std::int64_t n : {4, 30}) {
    INFO("n = " << n);
    // Ones beside the diagonal: the powers are the other diagonals, e^a has 1 / k! on the k-th.
    const Tensor index = arange(0, static_cast<double>(n));
    const Tensor shift = cast(equal(index, unsqueeze(index, -1) + 1.0), float64);
    Tensor expected = identity(n);
    Tensor expected_phi = identity(n);
    Tensor term = identity(n);
    for (int k = 1; k < n; ++k) {
      term = matmul(term, shift) / static_cast<double>(k);
      expected = expected + term;
      expected_phi = expected_phi + term / static_cast<double>(k + 1);
    }
    CHECK(max_difference(expm(shift), expected) < 1e-15);
    CHECK(max_difference(phi1(shift), expected_phi) < 1e-15);
    CHECK(max_difference(expm(zeros({n, n}, float64)), identity(n)) == 0.0);
    CHECK(max_difference(phi1(zeros({n, n}, float64)), identity(n)) == 0.0);
    CHECK(max_difference(phi1(shift * 1e-12), identity(n) + shift * 0.5e-12) < 1e-23 + 1e-16);
    const Tensor noise = sample(1, {n, n});
    for (const double scale : {0.01, 1.0, 20.0}) {
      const Tensor s = (noise + mT(noise)) * (scale / std::sqrt(static_cast<double>(n)));
      const EighResult e = eigh(s);
      CHECK(relative_error(expm(s), matmul(e.vectors * exp(e.values), mT(e.vectors))) < 1e-12);
      CHECK(relative_error(phi1(s), matmul(e.vectors * (expm1(e.values) / e.values), mT(e.vectors))) < 1e-12);
    }
  }
}

TEST_CASE("expm and phi1: identities") {
  for (const std::int64_t n : {1, 2, 5, 8, 13, 40})
    for (const double scale : {1e-3, 0.3, 3.0}) {
      INFO("n = " << n << ", scale " << scale);
      const Tensor a = sample(static_cast<std::uint64_t>(n), {3, n, n}) * (scale / std::sqrt(static_cast<double>(n)));
      const Tensor e = expm(a);
      const double size = max(abs(e)).item();
      CHECK(max_difference(matmul(e, expm(-a)), broadcast_to(identity(n), {3, n, n})) <
            1e-14 * size * max(abs(expm(-a))).item() * static_cast<double>(n));
      CHECK(relative_error(matmul(a, phi1(a)) + identity(n), e) < 1e-13);
      CHECK(relative_error(expm(mT(a)), mT(e)) < 1e-13);
      CHECK(relative_error(det(e), exp(sum(a * identity(n), {-2, -1}))) < 1e-11);
      // d/dt e^(ta) = a e^(ta), and d/dt (t phi1(ta)) = e^(ta)
      const JvpResult1 r = jvp([&](const Tensor& t) { return expm(a * t); }, ones({}, float64), ones({}, float64));
      CHECK(relative_error(r.tangent, matmul(a, e)) < 1e-13);
      const JvpResult1 p = jvp([&](const Tensor& t) { return phi1(a * t) * t; }, ones({}, float64), ones({}, float64));
      CHECK(relative_error(p.tangent, e) < 1e-13);
    }
}

TEST_CASE("phi1: singular and stiff matrices") {
  // phi1 of a projector p is 1 + (e - 2) p, whatever the rank.
  const Tensor v = reshape(tensor({0.6, 0.8, 0.0}, float64), {3, 1});
  const Tensor p = matmul(v, mT(v));
  CHECK(max_difference(phi1(p), identity(3) + p * (std::exp(1.0) - 2.0)) < 1e-15);
  // Eigenvalues from 0 to -1e8: phi1 is (e^x - 1) / x of each.
  const Tensor q = qr(sample(2, {4, 4})).q;
  const Tensor x = tensor({0, -1e-3, -30, -1e8}, float64);
  const Tensor expected = tensor({1, -std::expm1(-1e-3) / 1e-3, -std::expm1(-30.0) / 30, 1e-8}, float64);
  const Tensor stiff = matmul(q * x, mT(q));
  // The matrix itself is known to 1e8 eps only; the errors of the eigenvalues near 0 are those of the data.
  CHECK(max_difference(phi1(stiff), matmul(q * expected, mT(q))) < 1e-7);
  CHECK(max_difference(phi1(identity(2) * -1e8), identity(2) * 1e-8) < 1e-22);
  CHECK(max_difference(phi1(tensor({{-1e8, 1}, {0, 0}}, float64)), tensor({{1e-8, 1e-8}, {0, 1}}, float64)) < 1e-14);
}

TEST_CASE("expm: matrices far from normal are not scaled more than they need") {
  // Scaling [[1, 1e6], [0, -1]] by its norm would halve it 21 times and lose as many bits; the exact result is
  // [[e, 1e6 sinh 1], [0, 1 / e]].
  for (const std::int64_t n : {2, 30}) {
    Tensor a = pad(pad(tensor({{1, 1e6}, {0, -1}}, float64), -1, 0, n - 2), -2, 0, n - 2);
    const Tensor e = expm(a);
    const auto values = slice(slice(e, 0, 0, 2), 1, 0, 2).to_vector<double>();
    CHECK(values[0] == Approx(std::exp(1.0)).epsilon(1e-14));
    CHECK(values[1] == Approx(1e6 * std::sinh(1.0)).epsilon(1e-14));
    CHECK(values[2] == 0.0);
    CHECK(values[3] == Approx(std::exp(-1.0)).epsilon(1e-14));
  }
  const Tensor huge = tensor({{0, 1e200}, {0, 0}}, float64);
  CHECK(relative_error(expm(huge), identity(2) + huge) < 1e-15);
}

TEST_CASE("expm and phi1: both kernels agree, alone and in batches, on any number of threads") {
  for (const std::int64_t n : {1, 2, 3, 4, 7, 8, 12, 16, 24}) {
    const Tensor scales = exp(linspace(-6.0, 3.0, 37, float64));
    // Spectral radius up to about 60: relative errors are eps times that, whichever the kernel.
    const Tensor a = sample(static_cast<std::uint64_t>(100 + n), {37, n, n}) *
                     reshape(scales * (3.0 / std::sqrt(static_cast<double>(n))), {37, 1, 1});
    const Tensor e = sample(static_cast<std::uint64_t>(200 + n), {37, n, n});
    const auto f = [](const Tensor& x) { return expm(x); };
    const auto g = [](const Tensor& x) { return phi1(x); };
    for (std::int64_t i = 0; i < 37; ++i) {
      INFO("n = " << n << ", matrix " << i);
      const Tensor one = select(a, 0, i);
      CHECK(relative_error(expm(one), by_larger(f, one)) < 2e-13);
      CHECK(relative_error(phi1(one), by_larger(g, one)) < 2e-13);
      const auto derivative = [&](const Tensor& x) {
        return jvp([](const Tensor& y) { return phi1(y); }, x,
                   x.size(0) == n ? select(e, 0, i) : pad(pad(select(e, 0, i), -1, 0, 30), -2, 0, 30))
            .tangent;
      };
      CHECK(relative_error(derivative(one), by_larger(derivative, one)) < 1e-12);
    }
    const NumThreadsGuard guard(1);
    const auto alone = phi1(select(a, 0, 5)).to_vector<double>();
    const auto serial = phi1(a).to_vector<double>();
    CHECK(alone == select(phi1(a), 0, 5).to_vector<double>());
    set_num_threads(2);
    CHECK(serial == phi1(a).to_vector<double>());
  }
}

TEST_CASE("expm: NaN, infinity and overflow") {
  CHECK(std::isnan(sum(expm(tensor({{NAN, 0}, {0, 1}}, float64))).item()));
  CHECK(std::isnan(sum(expm(tensor({{INFINITY, 0}, {0, 1}}, float64))).item()));
  CHECK(std::isinf(expm(reshape(tensor({1000}, float64), {1, 1})).item()));
  CHECK(expm(reshape(tensor({-1e300}, float64), {1, 1})).item() == 0.0);
  const Tensor mixed = stack({tensor({{NAN, 0}, {0, 1}}, float64), identity(2)});
  CHECK(max_difference(select(expm(mixed), 0, 1), identity(2) * std::exp(1.0)) < 1e-14);
}

TEST_CASE("expm and phi1: SciPy's results, also for ill-conditioned matrices") {
  const SafetensorsFile file = load_safetensors("golden/linalg.safetensors");
  const auto get = [&](const std::string& name) {
    for (const auto& [key, value] : file.tensors)
      if (key == name) return value;
    throw std::runtime_error("golden file has no tensor " + name);
  };
  for (const char* name : {"gallery", "triangular", "stiff", "random", "jordan"}) {
    INFO(name);
    const Tensor a = get(std::string(name) + ".a");
    const double tolerance = get(std::string(name) + ".tolerance").item();
    CHECK(relative_error(expm(a), get(std::string(name) + ".expm")) < tolerance);
    CHECK(relative_error(phi1(a), get(std::string(name) + ".phi1")) < tolerance);
    const JvpResult1 r = jvp([](const Tensor& x) { return expm(x); }, a, get(std::string(name) + ".e"));
    CHECK(relative_error(r.tangent, get(std::string(name) + ".frechet")) < 10 * tolerance);
  }
}

TEST_CASE("expm: K directions share the value's work") {
  const Tensor a = sample(20, {5, 5});
  const Tensor t = sample(21, {11, 5, 5});  // more than one kernel call carries
  const Tensors all = jvp_batched([](const Tensors& x) { return Tensors{expm(x[0])}; }, {a}, {t}, 11).tangents;
  for (std::int64_t i = 0; i < 11; ++i)
    CHECK(max_difference(select(all[0], 0, i),
                         jvp([](const Tensor& x) { return expm(x); }, a, select(t, 0, i)).tangent) == 0.0);
}

}  // namespace solvent
