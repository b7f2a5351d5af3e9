// Factorisations beyond the table of operations: sizes that reach the blocked code, identities, strides, scales, and
// matrices that are singular or have repeated values.

#include <cmath>
#include <limits>
#include <string>

#include "solvent/autodiff/gradcheck.h"
#include "solvent/core/error.h"
#include "solvent/core/io/safetensors.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/ops/messages.h"
#include "solvent/tests/support/catch.h"

namespace solvent {
namespace {

// Around the blocks of 32, 48 and 128.
const std::int64_t kSizes[] = {1, 2, 5, 31, 33, 47, 49, 100, 130, 200};

double max_difference(const Tensor& a, const Tensor& b) { return a.numel() == 0 ? 0.0 : max(abs(a - b)).item(); }

Tensor sample(std::uint64_t n, const Shape& shape) { return normal(Key(12).fold_in(n), shape, 0, 1, float64); }

Tensor identity(std::int64_t n) { return eye(n, float64); }

// With condition number about `condition`: eigenvalues spread evenly in the logarithm.
Tensor positive(std::int64_t n, double condition) {
  const Tensor q = qr(sample(static_cast<std::uint64_t>(n), {n, n})).q;
  const Tensor values = exp(linspace(0.0, -std::log(condition), n, float64));
  return matmul(q * values, mT(q));
}

// Runs `f` on one and two threads: the results must be the same bits.
template <class F>
auto on_any_threads(const F& f) {
  const NumThreadsGuard guard(1);
  auto one = f();
  set_num_threads(2);
  auto two = f();
  REQUIRE(one.size() == two.size());
  for (std::size_t i = 0; i < one.size(); ++i)
    CHECK(one[i].template to_vector<double>() == two[i].template to_vector<double>());
  return one;
}

void check_gradients(const TensorsFn& f, const Tensors& xs) {
  const GradcheckReport report = gradcheck(f, xs);
  INFO(report.message);
  CHECK(report.ok);
}

bool is_nan(const Tensor& x) { return std::isnan(sum(x).item()); }

}  // namespace

TEST_CASE("cholesky: L L^T = A for all block sizes, on any number of threads") {
  for (const std::int64_t n : kSizes) {
    INFO("n = " << n);
    const Tensor a = positive(n, 100.0);
    const Tensor l = on_any_threads([&] { return Tensors{cholesky(a)}; })[0];
    CHECK(max_difference(matmul(l, mT(l)), a) < 1e-14 * static_cast<double>(n + 10));
    CHECK(max_difference(
              where(greater(arange(0, static_cast<double>(n)), unsqueeze(arange(0, static_cast<double>(n)), -1)), l,
                    zeros({1, 1}, float64)),
              zeros({n, n}, float64)) == 0.0);
  }
}

TEST_CASE("cholesky: batches in lanes give what the blocked kernel and single matrices give") {
  for (const std::int64_t n : {1, 2, 3, 8, 15, 32}) {
    INFO("n = " << n);
    const Tensor noise = sample(static_cast<std::uint64_t>(300 + n), {13, n, n});
    const Tensor a = matmul(noise, mT(noise)) + identity(n);
    const Tensor l = cholesky(a);
    for (std::int64_t i = 0; i < 13; ++i) {
      CHECK(max_difference(select(l, 0, i), cholesky(select(a, 0, i))) == 0.0);
      const Tensor wide = pad(pad(select(a, 0, i), -1, 0, 40), -2, 0, 40) +
                          pad(pad(identity(40), -1, n, 0), -2, n, 0);  // the blocked kernel's size
      CHECK(max_difference(select(l, 0, i), slice(slice(cholesky(wide), 0, 0, n), 1, 0, n)) < 1e-13);
    }
    const Tensor bad = a * reshape(1.0 - 2.0 * one_hot(from_vector<std::int64_t>({9}, {1}), 13, float64), {13, 1, 1});
    CHECK_ERROR(ValueError, cholesky(bad), "matrix 9 of 13", "pivot 0");
  }
}

TEST_CASE("cholesky: an ill-conditioned matrix has a small residual, an indefinite one names its pivot") {
  const Tensor a = positive(60, 1e13);
  const Tensor l = cholesky(a);
  CHECK(max_difference(matmul(l, mT(l)), a) < 1e-15 * 60);
  const Tensor indefinite =
      identity(100) - 2.0 * unsqueeze(one_hot(from_vector<std::int64_t>({70}, {1}), 100, float64), 0) *
                          reshape(one_hot(from_vector<std::int64_t>({70}, {1}), 100, float64), {100, 1});
  CHECK_ERROR(ValueError, cholesky(reshape(indefinite, {100, 100})), "matrix 0 of 1", "pivot 70");
  CHECK(is_nan(cholesky(tensor({{1, NAN}, {NAN, 2}}, float64))));
}

TEST_CASE("cholesky: only the symmetric part counts, and the gradient is symmetric") {
  const Tensor a = positive(4, 10.0);
  const Tensor skew = sample(1, {4, 4});
  CHECK(max_difference(cholesky(a + skew - mT(skew)), cholesky(a)) < 1e-14);
  const Tensor g = grad([](const Tensor& x) { return sum(square(cholesky(x)) * sample(2, {4, 4})); }, a);
  CHECK(max_difference(g, mT(g)) == 0.0);
}

TEST_CASE("triangular_solve: all sixteen variants at sizes that reach the blocks") {
  for (const std::int64_t n : {1, 5, 47, 49, 130})
    for (int bits = 0; bits < 16; ++bits) {
      const TriangularOptions o{(bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0, (bits & 8) != 0};
      INFO("n = " << n << ", variant " << bits);
      // Off-diagonal elements small enough that the unit triangle is well-conditioned too.
      const Tensor a =
          sample(static_cast<std::uint64_t>(n), {n, n}) * (1.0 / static_cast<double>(n)) + identity(n) * 2.0;
      const Tensor index = arange(0, static_cast<double>(n));
      const Tensor rows = unsqueeze(index, -1);
      Tensor t = where(o.upper ? less_equal(rows, index) : greater_equal(rows, index), a, zeros({1, 1}, float64));
      if (o.unit_diagonal) t = where(equal(rows, index), ones({1, 1}, float64), t);
      if (o.transposed) t = mT(t);
      for (const std::int64_t k : {1, 7}) {
        const Tensor b = o.right ? sample(50, {k, n}) : sample(50, {n, k});
        const Tensor x = on_any_threads([&] { return Tensors{triangular_solve(a, b, o)}; })[0];
        CHECK(max_difference(o.right ? matmul(x, t) : matmul(t, x), b) < 1e-12);
      }
    }
}

TEST_CASE("triangular_solve: garbage in the other triangle is not read, not even by derivatives") {
  const Tensor clean = tensor({{2, 0}, {1, 3}}, float64);
  const Tensor dirty = tensor({{2, NAN}, {1, 3}}, float64);
  const Tensor b = reshape(tensor({1, 2}, float64), {2, 1});
  CHECK(max_difference(triangular_solve(clean, b), triangular_solve(dirty, b)) == 0.0);
  const auto loss = [&](const Tensor& a) { return sum(square(triangular_solve(a, b))); };
  CHECK(max_difference(grad(loss, dirty), grad(loss, clean)) == 0.0);
  CHECK(grad(loss, clean).to_vector<double>()[1] == 0.0);
}

TEST_CASE("factorisations of operands of any strides are those of their copies") {
  const Tensor a = positive(4, 10.0) + sample(3, {3, 4, 4}) * 0.01;
  const Tensor b = sample(4, {3, 4, 2});
  const auto all = [](const Tensor& x, const Tensor& y) {
    return Tensors{cholesky(x), triangular_solve(x, y), inverse(x), lstsq(x, y)};
  };
  const Tensors expected = all(a, b);
  const auto check = [&](const Tensor& x, const Tensor& y) {
    const Tensors got = all(x, y);
    for (std::size_t i = 0; i < got.size(); ++i) CHECK(max_difference(got[i], expected[i]) < 1e-14);
  };
  check(mT(clone(mT(a))), mT(clone(mT(b))));
  check(flip(clone(flip(a, -1)), -1), flip(clone(flip(b, 0)), 0));
  check(slice(pad(a, -1, 0, 5), -1, 0, 4), slice(pad(b, -2, 0, 1), -2, 0, 4));
  check(permute(clone(permute(a, {1, 0, 2})), {1, 0, 2}), permute(clone(permute(b, {2, 1, 0})), {2, 1, 0}));
  const Tensor one = slice(a, 0, 0, 1);
  const Tensors shared = all(broadcast_to(one, {3, 4, 4}), b);
  const Tensors copied = all(clone(broadcast_to(one, {3, 4, 4})), b);
  for (std::size_t i = 0; i < shared.size(); ++i) CHECK(max_difference(shared[i], copied[i]) < 1e-14);
}

TEST_CASE("inverse and determinants of larger matrices") {
  for (const std::int64_t n : kSizes) {
    INFO("n = " << n);
    const Tensor a = sample(static_cast<std::uint64_t>(n), {n, n});
    const Tensors r = on_any_threads([&] {
      const SignAndLog s = slogdet(a);
      return Tensors{inverse(a), s.sign, s.log_abs, det(a)};
    });
    CHECK(max_difference(matmul(a, r[0]), identity(n)) < 1e-9);
    const QrFactors f = qr(a);  // |det a| = prod diag(r)
    CHECK(r[2].item() == Approx(sum(log(sum(f.r * identity(n), {-1}))).item()).epsilon(1e-11).margin(1e-11));
    if (n <= 100) CHECK(r[3].item() == Approx(r[1].item() * std::exp(r[2].item())).epsilon(1e-11));
    CHECK(slogdet(flip(a, 0)).sign.item() == r[1].item() * ((n / 2) % 2 == 0 ? 1.0 : -1.0));  // n / 2 swaps
  }
  CHECK(det(tensor({{1, 2}, {2, 4}}, float64)).item() == 0.0);
  CHECK(slogdet(tensor({{1, 2}, {2, 4}}, float64)).sign.item() == 0.0);
  CHECK(slogdet(tensor({{1, 2}, {2, 4}}, float64)).log_abs.item() == -INFINITY);
  CHECK(det(identity(0)).item() == 1.0);
  CHECK(slogdet(identity(300) * 1e-10).log_abs.item() == Approx(-3000 * std::log(10.0)));
  CHECK(is_nan(slogdet(tensor({{NAN, 1}, {1, 1}}, float64)).sign));
}

TEST_CASE("linear systems beyond the size whose panels are copied: pivots, zero columns, NaN") {
  for (const std::int64_t n : {95, 96, 111, 145, 260}) {
    INFO("n = " << n);
    // Rows out of order, so that every column exchanges rows; the determinant by another factorisation.
    const Tensor a = flip(positive(n, 1e3), 0);
    const Tensor b = sample(static_cast<std::uint64_t>(n) + 1, {n, 3});
    const Tensors r = on_any_threads([&] {
      const SignAndLog s = slogdet(a);
      return Tensors{solve(a, b), s.sign, s.log_abs, cast(solve(cast(a, float32), cast(b, float32)), float64)};
    });
    CHECK(max_difference(matmul(a, r[0]), b) < 1e-11);
    CHECK(max_difference(r[3], r[0]) < 1e-3 * max(abs(r[0])).item());
    CHECK(r[1].item() == ((n / 2) % 2 == 0 ? 1.0 : -1.0));
    CHECK(r[2].item() == Approx(2 * sum(log(diagonal(cholesky(flip(a, 0))))).item()).epsilon(1e-10));
    for (const std::int64_t zero : {std::int64_t{0}, std::int64_t{17}, std::int64_t{60}, n - 1}) {
      const Tensor column = 1.0 - reshape(one_hot(from_vector<std::int64_t>({zero}, {1}), n, float64), {n});
      CHECK_ERROR(ValueError, solve(a * column, b), "matrix 0 of 1 is singular", "pivot " + std::to_string(zero));
      CHECK(slogdet(a * column).log_abs.item() == -INFINITY);
    }
    const Tensor broken = a + pad(pad(full({1, 1}, NAN, float64), 0, n / 2, n - 1 - n / 2), 1, 20, n - 21);
    CHECK(is_nan(slogdet(broken).sign));
    CHECK(is_nan(solve(broken, b)));
  }
}

TEST_CASE("qr: a = q r, q orthonormal, r upper with a positive diagonal, for all block sizes and shapes") {
  for (const std::int64_t n : kSizes)
    for (const std::int64_t m : {n, n + 3, 2 * n, std::max<std::int64_t>(n - 2, 1)}) {
      INFO("m = " << m << ", n = " << n);
      const Tensor a = sample(static_cast<std::uint64_t>(n), {m, n});
      const Tensors f = on_any_threads([&] {
        const QrFactors x = qr(a);
        return Tensors{x.q, x.r};
      });
      const std::int64_t k = std::min(m, n);
      CHECK(max_difference(matmul(f[0], f[1]), a) < 1e-14 * static_cast<double>(n + 10));
      CHECK(max_difference(matmul(mT(f[0]), f[0]), identity(k)) < 1e-14 * static_cast<double>(n + 10));
      const Tensor index = arange(0, static_cast<double>(k));
      const Tensor square = slice(f[1], 1, 0, k);
      CHECK(max(where(less(index, unsqueeze(index, -1)), abs(square), zeros({1, 1}, float64))).item() == 0.0);
      CHECK(min(sum(square * identity(k), {-1})).item() > 0.0);
    }
}

TEST_CASE("qr: dependent columns, zeros and extreme scales still give orthonormal columns") {
  const Tensor a = sample(5, {6, 3});
  for (const Tensor& x : {concat({a, a}, 1), zeros({5, 3}, float64), a * 1e300, a * 1e-300}) {
    const QrFactors f = qr(x);
    CHECK(max_difference(matmul(mT(f.q), f.q), identity(f.q.size(-1))) < 1e-14);
    CHECK(max_difference(matmul(f.q, f.r), x) <= 1e-14 * max(abs(x)).item());
  }
}

TEST_CASE("lstsq: residuals are orthogonal to columns, wide systems give the smallest solution") {
  const Tensor a = sample(6, {30, 7});
  const Tensor b = sample(7, {30, 2});
  const Tensor x = lstsq(a, b);
  CHECK(max_difference(matmul(mT(a), matmul(a, x) - b), zeros({7, 2}, float64)) < 1e-13);
  const Tensor wide = mT(a);
  const Tensor c = sample(8, {7, 2});
  const Tensor y = lstsq(wide, c);
  CHECK(max_difference(matmul(wide, y), c) < 1e-13);
  // A solution is the smallest one iff it lies in the span of the rows.
  CHECK(max_difference(matmul(a, lstsq(a, y)), y) < 1e-13);
}

TEST_CASE("lstsq: shares one factorisation among right-hand sides") {
  const Tensor a = sample(9, {5, 3});
  const Tensor b = sample(10, {4, 5, 1});
  const Tensor x = lstsq(a, b);
  for (std::int64_t i = 0; i < 4; ++i) CHECK(max_difference(select(x, 0, i), lstsq(a, select(b, 0, i))) < 1e-14);
}

TEST_CASE("eigh: A V = V W with orthonormal V and ascending W, for all sizes") {
  for (const std::int64_t n : kSizes) {
    INFO("n = " << n);
    const Tensor noise = sample(static_cast<std::uint64_t>(n), {n, n});
    const Tensor a = (noise + mT(noise)) * 0.5;
    const Tensors r = on_any_threads([&] {
      const EighResult x = eigh(a);
      return Tensors{x.values, x.vectors};
    });
    const double tolerance = 2e-15 * static_cast<double>(n + 10);
    CHECK(max_difference(matmul(mT(r[1]), r[1]), identity(n)) < tolerance);
    CHECK(max_difference(matmul(a, r[1]), r[1] * r[0]) < tolerance * 4);
    const auto w = r[0].to_vector<double>();
    CHECK(std::is_sorted(w.begin(), w.end()));
  }
}

TEST_CASE("eigh: closed forms, repeated values, extreme scales, NaN") {
  // The second difference matrix has eigenvalues 2 - 2 cos(k pi / (n + 1)).
  const std::int64_t n = 40;
  const Tensor index = arange(0, static_cast<double>(n));
  const Tensor neighbours = cast(equal(index, unsqueeze(index, -1) + 1.0), float64);
  const Tensor a = identity(n) * 2.0 - neighbours - mT(neighbours);
  const Tensor exact =
      2.0 - 2.0 * cos(linspace(1, static_cast<double>(n), n, float64) * (M_PI / static_cast<double>(n + 1)));
  CHECK(max_difference(eigh(a).values, exact) < 1e-14);
  CHECK(max_difference(eigh(a * 1e307).values, exact * 1e307) < 1e-14 * 4e307);
  CHECK(max_difference(eigh(a * 1e-300).values, exact * 1e-300) < 1e-14 * 4e-300);
  for (const Tensor& x : {identity(5), zeros({5, 5}, float64), ones({5, 5}, float64)}) {
    const EighResult r = eigh(x);
    CHECK(max_difference(matmul(r.vectors * r.values, mT(r.vectors)), x) < 1e-14);
    CHECK(max_difference(matmul(mT(r.vectors), r.vectors), identity(5)) < 1e-14);
  }
  // What the reflectors of a matrix of rank 1 leave shrinks from step to step, beyond the smallest normal numbers.
  for (const DType dtype : {float32, float64}) {
    const EighResult r = eigh(ones({60, 60}, dtype));
    CHECK(max_difference(matmul(mT(r.vectors), r.vectors), eye(60, dtype)) < (dtype == float32 ? 1e-5 : 1e-13));
  }
  CHECK(is_nan(eigh(tensor({{1, NAN}, {1, 2}}, float64)).values));
  CHECK(is_nan(eigh(tensor({{INFINITY, 0}, {0, 2}}, float64)).vectors));
}

TEST_CASE("eigh: at repeated eigenvalues values keep their derivative, vectors do not pretend to have one") {
  const Tensor a = identity(3) * 2.0;
  // The sum of f(w) is a smooth function of a: its gradient is f'(a) = 2 a for f = w^2.
  const Tensor g = grad([](const Tensor& x) { return sum(square(eigh(x).values)); }, a);
  CHECK(max_difference(g, a * 2.0) < 1e-14);
  const Tensor v = grad([](const Tensor& x) { return sum(eigh(x).vectors * sample(11, {3, 3})); }, a);
  CHECK(!all(isfinite(v)).to_vector<bool>()[0]);
}

TEST_CASE("eigh: derivatives of functions that do not depend on signs of vectors") {
  const Tensor noise = sample(12, {2, 4, 4});
  // The matrix exponential of the symmetric part, and the projector on the two smallest eigenvalues.
  check_gradients(
      [](const Tensors& x) {
        const EighResult r = eigh(x[0]);
        const Tensor low = slice(r.vectors, -1, 0, 2);
        return Tensors{matmul(r.vectors * unsqueeze(exp(r.values), -2), mT(r.vectors)), matmul(low, mT(low))};
      },
      {noise});
}

TEST_CASE("svd: a = u s vt with orthonormal factors and descending values, for all sizes and shapes") {
  for (const std::int64_t n : {1, 2, 5, 31, 33, 60})
    for (const std::int64_t m : {n, n + 3, 2 * n, std::max<std::int64_t>(n - 2, 1)}) {
      INFO("m = " << m << ", n = " << n);
      const Tensor a = sample(static_cast<std::uint64_t>(n), {m, n});
      const Tensors r = on_any_threads([&] {
        const SvdResult x = svd(a);
        return Tensors{x.u, x.s, x.vt};
      });
      const std::int64_t k = std::min(m, n);
      const double tolerance = 2e-15 * static_cast<double>(n + 20);
      CHECK(max_difference(matmul(r[0] * r[1], r[2]), a) < tolerance * 4);
      CHECK(max_difference(matmul(mT(r[0]), r[0]), identity(k)) < tolerance);
      CHECK(max_difference(matmul(r[2], mT(r[2])), identity(k)) < tolerance);
      const auto s = r[1].to_vector<double>();
      CHECK(std::is_sorted(s.rbegin(), s.rend()));
      CHECK(s.back() >= 0.0);
    }
}

TEST_CASE("svd: rank-deficient, zero, repeated and badly scaled matrices") {
  const Tensor a = sample(13, {6, 2});
  for (const Tensor& x : {matmul(a, mT(a)), zeros({4, 3}, float64), identity(4), concat({a, zeros({6, 2}, float64)}, 1),
                          a * 1e300, a * 1e-300}) {
    const SvdResult r = svd(x);
    CHECK(max_difference(matmul(mT(r.u), r.u), identity(r.s.size(-1))) < 1e-14);
    CHECK(max_difference(matmul(r.vt, mT(r.vt)), identity(r.s.size(-1))) < 1e-14);
    CHECK(max_difference(matmul(r.u * r.s, r.vt), x) <= 2e-14 * max(abs(x)).item());
  }
  CHECK(svd(matmul(a, mT(a))).s.to_vector<double>()[2] < 1e-14);
  CHECK(is_nan(svd(tensor({{1, NAN}, {1, 2}}, float64)).s));
}

TEST_CASE("svd: small singular values of a graded matrix keep their digits") {
  // Columns of very different length: one-sided Jacobi is accurate relative to each of them.
  const Tensor q = qr(sample(14, {5, 5})).q;
  const Tensor scales = tensor({1, 1e-5, 1e-10, 1e-15, 1e-20}, float64);
  const auto s = svd(q * scales).s.to_vector<double>();
  const auto expected = scales.to_vector<double>();
  for (std::size_t i = 0; i < s.size(); ++i) CHECK(s[i] == Approx(expected[i]).epsilon(1e-13));
}

TEST_CASE("svd: derivatives of functions that do not depend on signs") {
  for (const Shape& shape : {Shape{4, 3}, Shape{2, 2, 3}, Shape{3, 3}})
    check_gradients(
        [](const Tensors& x) {  // the orthogonal factor of the polar decomposition, and the nuclear norm
          const SvdResult r = svd(x[0]);
          return Tensors{matmul(r.u, r.vt), sum(r.s)};
        },
        {sample(15, shape)});
}

TEST_CASE("factorisations: SciPy's results, also for ill-conditioned matrices") {
  const SafetensorsFile file = load_safetensors("golden/linalg.safetensors");
  const auto get = [&](const std::string& name) {
    for (const auto& [key, value] : file.tensors)
      if (key == name) return value;
    throw std::runtime_error("golden file has no tensor " + name);
  };
  // hilbert has condition 1e10, ill 1e12: factors are exact to eps times that, eigenvalues and log|det| to eps times the
  // norm and eps times the condition.
  const std::pair<const char*, double> conditions[] = {
      {"hilbert", 1.5e10}, {"ill", 1e12}, {"moler", 300}, {"large", 50}};
  for (const auto& [name, condition] : conditions) {
    INFO(name);
    const std::string prefix = name;
    const Tensor a = get(prefix + ".a");
    CHECK(max_difference(cholesky(a), get(prefix + ".cholesky")) < 1e-16 * condition + 1e-13);
    const Tensor values = get(prefix + ".eigenvalues");
    CHECK(max_difference(eigh(a).values, values) < 1e-15 * static_cast<double>(a.size(0)) * max(values).item());
    CHECK(max_difference(slogdet(a).log_abs, get(prefix + ".logdet")) < 1e-15 * condition + 1e-12);
    CHECK(max_difference(svd(a).s, flip(values, 0)) < 1e-14 * max(values).item());
  }
  for (const char* name : {"tall", "wide", "square"}) {
    INFO(name);
    const std::string prefix = name;
    const Tensor a = get(prefix + ".a");
    const QrFactors f = qr(a);
    const SvdResult d = svd(a);
    CHECK(max_difference(f.q, get(prefix + ".q")) < 1e-13);
    CHECK(max_difference(f.r, get(prefix + ".r")) < 1e-13);
    CHECK(max_difference(d.s, get(prefix + ".s")) < 1e-13);
    CHECK(max_difference(d.u, get(prefix + ".u")) < 1e-12);
    CHECK(max_difference(d.vt, get(prefix + ".vt")) < 1e-12);
    CHECK(max_difference(lstsq(a, get(prefix + ".b")), get(prefix + ".lstsq")) < 1e-12);
  }
  const Tensor square = get("square.a");
  const EighResult e = eigh(square);
  CHECK(max_difference(e.values, get("square.eigh.values")) < 1e-13);
  CHECK(max_difference(e.vectors, get("square.eigh.vectors")) < 1e-12);
  CHECK(det(square).item() == Approx(get("square.det").item()).epsilon(1e-12));
  CHECK(max_difference(inverse(square), get("square.inverse")) < 1e-12);
}

TEST_CASE("identities of compositions: log det by three ways has one gradient") {
  const Tensor a = positive(6, 30.0);
  const Tensor expected = inverse(a);
  const auto by_cholesky = [](const Tensor& x) { return 2.0 * sum(log(sum(cholesky(x) * identity(6), {-1}))); };
  const auto by_eigh = [](const Tensor& x) { return sum(log(eigh(x).values)); };
  const auto by_lu = [](const Tensor& x) { return slogdet(x).log_abs; };
  CHECK(max_difference(grad(by_cholesky, a), expected) < 1e-12);
  CHECK(max_difference(grad(by_eigh, a), expected) < 1e-12);
  CHECK(max_difference(grad(by_lu, a), expected) < 1e-12);
}

}  // namespace solvent
