// matmul and solve beyond the table of operations: how products are arranged, and larger systems.

#include <cmath>
#include <functional>
#include <string>
#include <utility>

#include "solvent/autodiff/debug.h"
#include "solvent/autodiff/gradcheck.h"
#include "solvent/core/error.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/ops/messages.h"
#include "solvent/tests/support/catch.h"

namespace solvent {
namespace {

double max_difference(const Tensor& a, const Tensor& b) { return max(abs(a - b)).item(); }

Tensor sample(std::uint64_t n, const Shape& shape) { return normal(Key(11).fold_in(n), shape, 0, 1, float64); }

}  // namespace

TEST_CASE("matmul: transposed, sliced, broadcast and reversed operands equal their copies") {
  const Tensor a = sample(0, {6, 8});
  const Tensor b = sample(1, {8, 10});
  const auto check = [](const Tensor& x, const Tensor& y) {
    CHECK(max_difference(matmul(x, y), matmul(clone(x), clone(y))) < 1e-13);
  };
  check(mT(clone(mT(a))), b);
  check(a, mT(clone(mT(b))));
  check(slice(a, 0, 1, 5, 2), slice(b, 1, 2, 9));
  check(slice(a, 1, 0, 8, 2), slice(b, 0, 0, 8, 2));
  check(flip(a, 0), flip(b, 1));
  check(flip(a, 1), b);
  check(broadcast_to(sample(2, {1, 8}), {6, 8}), b);
  check(broadcast_to(sample(3, {6, 1}), {6, 8}), broadcast_to(sample(4, {1, 10}), {8, 10}));
  const Tensor batch = sample(5, {3, 4, 5});
  check(permute(batch, {0, 2, 1}), permute(sample(6, {3, 6, 4}), {0, 2, 1}));
  check(permute(batch, {1, 0, 2}), broadcast_to(sample(7, {5, 2}), {4, 5, 2}));
  check(broadcast_to(batch, {2, 3, 4, 5}), sample(8, {2, 3, 5, 2}));
  check(permute(batch, {2, 1, 0}), sample(9, {5, 3, 2}));
  check(broadcast_to(permute(batch, {2, 1, 0}), {2, 5, 4, 3}), sample(10, {2, 5, 3, 2}));
  check(sample(11, {7, 1, 5}), broadcast_to(sample(12, {5, 3}), {7, 5, 3}));
}

TEST_CASE("matmul: a rank-2 right operand makes one product of its gradient") {
  const Tensor x = sample(0, {4, 3, 5});
  const Tensor w = sample(1, {5, 2});
  VjpResult1 r = vjp([&](const Tensor& v) { return matmul(x, v); }, w);
  CHECK(r.pullback.num_nodes() == 2);  // matmul and the reshape of its result; x is a constant
  CHECK(debug::node_counts(r.pullback).at("matmul") == 1);
  const Tensor g = sample(2, {4, 3, 2});
  CHECK(max_difference(r.pullback(g), matmul(mT(reshape(x, {12, 5})), reshape(g, {12, 2}))) < 1e-13);
}

TEST_CASE("matmul: gradients lie in memory as their operands do") {
  const Tensor x = sample(90, {5, 7});
  const Tensor w = sample(91, {3, 7});
  const auto loss = [](const Tensors& t) { return sum(square(matmul(t[0], mT(t[1])))); };
  for (const Tensor& left : {x, mT(clone(mT(x)))}) {
    const Tensors g = grad(loss, Tensors{left, w});
    CHECK(g[0].strides() == left.strides());
    CHECK(g[1].strides() == w.strides());  // (out, in): an optimizer updates it without a copy
    const Tensor error = matmul(left, mT(w)) * 2.0;
    CHECK(max_difference(g[0], matmul(error, w)) < 1e-12);
    CHECK(max_difference(g[1], matmul(mT(error), left)) < 1e-12);
  }
}

TEST_CASE("matmul: constant left operands with equal rows are multiplied once") {
  const Tensor seeds = broadcast_to(reshape(eye(3, float64), {3, 1, 3}), {3, 100, 3});
  const Tensor w = sample(0, {3, 4});
  const Tensor y = matmul(seeds, w);
  CHECK(y.shape() == Shape{3, 100, 4});
  CHECK(y.strides()[1] == 0);
  CHECK(max_difference(y, matmul(clone(seeds), w)) == 0.0);
}

TEST_CASE("matmul: differentiated left operands with equal rows keep a tangent for each row") {
  // The value of x has stride-0 rows, its tangent has not: multiplying one row only would be silently wrong.
  const Tensor x = broadcast_to(sample(0, {1, 3}), {4, 3});
  const Tensor w = sample(1, {3, 2});
  const Tensor t = sample(2, {4, 3});
  const JvpResult1 r = jvp([&](const Tensor& v) { return matmul(v, w); }, x, t);
  CHECK(max_difference(r.tangent, matmul(t, w)) == 0.0);
  const Tensor g = grad([&](const Tensor& v) { return sum(matmul(v, w) * sample(3, {4, 2})); }, x);
  CHECK(max_difference(g, matmul(sample(3, {4, 2}), mT(w))) < 1e-14);
}

TEST_CASE("dot and outer: values, derivatives and errors") {
  const Tensor a = sample(0, {2, 3});
  const Tensor b = sample(1, {2, 3});
  CHECK(max_difference(dot(a, b), sum(a * b, {1})) == 0.0);
  CHECK(outer(a, b).shape() == Shape{2, 3, 3});
  CHECK(max_difference(outer(a, b), matmul(unsqueeze(a, -1), unsqueeze(b, -2))) < 1e-15);
  CHECK_ERROR(ShapeError, dot(zeros({2}), zeros({3})), "[dot] got a (2,) and b (3,)");
  CHECK_ERROR(ShapeError, outer(zeros({}), zeros({3})), "[outer]", "a * b");
  const GradcheckReport report = gradcheck(
      [](const Tensors& x) {
        return Tensors{dot(x[0], x[1]), outer(x[0], x[1])};
      },
      {a, b});
  INFO(report.message);
  CHECK(report.ok);
}

TEST_CASE("matmul: all derivative modes with broadcast leading axes on either side") {
  const auto f = [](const Tensors& x) { return Tensors{tanh(matmul(x[0], x[1]))}; };
  for (const auto& [s0, s1] : std::vector<std::pair<Shape, Shape>>{
           {{2, 3}, {4, 3, 2}}, {{2, 1, 2, 2}, {3, 2, 2}}, {{2, 2, 2}, {2, 3}}, {{3}, {2, 3, 2}}, {{2, 2, 3}, {3}}}) {
    const GradcheckReport report = gradcheck(f, {sample(0, s0), sample(1, s1)});
    INFO(report.message);
    CHECK(report.ok);
  }
}

TEST_CASE("solve: blocked factorisation of larger systems, bits independent of threads") {
  for (const std::int64_t n : {1, 47, 48, 49, 130, 200}) {
    const Tensor a = sample(static_cast<std::uint64_t>(n), {n, n});
    const Tensor x = sample(1000 + static_cast<std::uint64_t>(n), {n, 3});
    const NumThreadsGuard guard(1);
    const Tensor one = solve(a, matmul(a, x));
    set_num_threads(2);
    const Tensor two = solve(a, matmul(a, x));
    INFO("n = " << n);
    CHECK(max_difference(one, x) < 1e-9);  // condition numbers up to about 1e4
    CHECK(one.to_vector<double>() == two.to_vector<double>());
    // Backward stable: the residual is small whatever the condition.
    CHECK(max_difference(matmul(a, one), matmul(a, x)) < 1e-12 * static_cast<double>(n));
  }
}

TEST_CASE("solve: shares one factorisation among directions and returns their layout") {
  const Tensor a = sample(0, {4, 4});
  const Tensor b = sample(1, {3, 4, 2});
  const Tensor x = solve(broadcast_to(a, {3, 4, 4}), b);
  CHECK(max_difference(matmul(a, x), b) < 1e-12);
  const Tensor batch = sample(2, {2, 4, 4});
  const Tensor rhs = sample(3, {3, 2, 4, 1});
  CHECK(max_difference(matmul(batch, solve(batch, rhs)), rhs) < 1e-11);
}

TEST_CASE("solve: operands of any strides") {
  const Tensor a = sample(0, {2, 4, 4}) + eye(4, float64) * 3.0;
  const Tensor b = sample(1, {2, 4, 3});
  const Tensor x = solve(a, b);
  CHECK(max_difference(solve(mT(clone(mT(a))), mT(clone(mT(b)))), x) == 0.0);
  CHECK(max_difference(solve(flip(clone(flip(a, -1)), -1), flip(clone(flip(b, 0)), 0)), x) == 0.0);
  const Tensor wide = pad(a, -1, 0, 5);
  CHECK(max_difference(solve(slice(wide, -1, 0, 4), b), x) == 0.0);
  const Tensor column = broadcast_to(slice(b, -1, 0, 1), {2, 4, 3});
  CHECK(max_difference(solve(a, column), broadcast_to(slice(x, -1, 0, 1), {2, 4, 3})) < 1e-15);
  const Tensor outer_first = permute(clone(permute(a, {1, 0, 2})), {1, 0, 2});
  CHECK(max_difference(solve(outer_first, b), x) == 0.0);
}

TEST_CASE("solve: NaN stays NaN") {
  Tensor a = tensor({{1, NAN}, {2, 1}}, float64);
  const auto x = solve(a, ones({2, 1}, float64)).to_vector<double>();
  CHECK(std::isnan(x[0]));
  CHECK(std::isnan(x[1]));
}

TEST_CASE("solve: derivative of the inverse is -a^-1 da a^-1") {
  const Tensor a = sample(0, {3, 3}) + eye(3, float64) * 3.0;
  const Tensor da = sample(1, {3, 3});
  const auto inverse = [](const Tensor& m) { return solve(m, eye(3, float64)); };
  const JvpResult1 r = jvp(inverse, a, da);
  CHECK(max_difference(r.tangent, -matmul(r.value, matmul(da, r.value))) < 1e-13);
}

// How often the tape of the gradient of a gradient names this precision, and how often the operation.
std::pair<int, int> recorded_precisions(const std::function<Tensor(const Tensor&)>& f, const Tensor& x,
                                        const std::string& operation) {
  const auto gradient = [&](const Tensor& at) { return grad([&](const Tensor& v) { return sum(square(f(v))); }, at); };
  VjpResult1 r = vjp(gradient, x);
  const std::string text = debug::dump_text(r.pullback);
  const auto count = [&](const std::string& word) {
    int found = 0;
    for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++found;
    return found;
  };
  return {count("precision=tf32"), count("= " + operation)};
}

TEST_CASE("matmul and convolutions: derivatives keep the precision of the call") {
  const Tensor a = sample(0, {3, 3});
  const Tensor w = sample(1, {2, 1, 2, 2});
  const Tensor maps = sample(2, {1, 1, 4, 4});
  const auto product = [&](const Tensor& x) { return matmul(x, a, MatmulPrecision::tf32); };
  const auto convolution = [&](const Tensor& x) { return conv2d(x, w, {.precision = MatmulPrecision::tf32}); };
  const auto [products, all_products] = recorded_precisions(product, a, "matmul");
  CHECK(products == all_products);
  CHECK(products == 2);
  const auto [convolutions, all_convolutions] = recorded_precisions(convolution, maps, "conv");
  CHECK(convolutions == all_convolutions);
  CHECK(convolutions == 2);
  CHECK(max_difference(product(a), matmul(a, a)) == 0.0);  // a CPU multiplies exactly
  set_matmul_precision(MatmulPrecision::tf32);             // what calls without a precision take
  const auto by_setting = recorded_precisions([&](const Tensor& x) { return matmul(x, a); }, a, "matmul");
  const auto conv_by_setting = recorded_precisions([&](const Tensor& x) { return conv2d(x, w); }, maps, "conv");
  const auto own =
      recorded_precisions([&](const Tensor& x) { return matmul(x, a, MatmulPrecision::highest); }, a, "matmul");
  set_matmul_precision(MatmulPrecision::highest);
  CHECK(by_setting == std::pair(2, 2));
  CHECK(conv_by_setting == std::pair(2, 2));
  CHECK(own == std::pair(0, 2));
}

}  // namespace solvent
