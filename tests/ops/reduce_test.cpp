// Reductions and row-wise normalisations: special values, conventions and laws that the table of operations does not hold.

#include "solvent/ops/reduce.h"

#include <cmath>
#include <limits>

#include "solvent/autodiff/transforms.h"
#include "solvent/core/error.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/support/catch.h"

namespace solvent {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

std::vector<double> values(const Tensor& t) { return cast(t, float64).to_vector<double>(); }

TEST_CASE("sum: axes, keepdims and integers") {
  const Tensor x = reshape(arange(0, 24), {2, 3, 4});
  CHECK(sum(x).item() == 276);
  CHECK(sum(x).shape() == Shape{});
  CHECK(sum(x, {0, -1}).to_vector<std::int64_t>() == std::vector<std::int64_t>{60, 92, 124});
  CHECK(sum(x, {1}, true).shape() == Shape{2, 1, 4});
  CHECK(sum(x, {0, 1, 2}, true).shape() == Shape{1, 1, 1});
  CHECK(sum(zeros({0, 3})).item() == 0.0);
  CHECK(values(sum(zeros({0, 3}), {0})) == std::vector<double>{0, 0, 0});
  CHECK_THROWS_AS(mean(x), DtypeError);
}

TEST_CASE("sum: float32 keeps its digits over a long axis") {
  CHECK(sum(full({1 << 24}, 0.1)).item() == Approx(0.1f * double(1 << 24)).epsilon(1e-6));
  CHECK(mean(full({3, 1 << 20}, 0.1), {1}).to_vector<float>()[0] == Approx(0.1).epsilon(1e-6));
}

TEST_CASE("mean and var: nothing to average is NaN") {
  CHECK(std::isnan(mean(zeros({0})).item()));
  CHECK(std::isnan(var(zeros({0})).item()));
  CHECK(std::isnan(var(ones({1}), {}, false, 1.0).item()));
  CHECK(var(ones({1})).item() == 0.0);
  // Two passes: no cancellation for a small variance about a large mean.
  CHECK(var(tensor({1e6 + 1, 1e6 + 2, 1e6 + 3}, float64)).item() == Approx(2.0 / 3.0).epsilon(1e-9));
}

TEST_CASE("reductions: NaN propagates") {
  const Tensor x = tensor({{1.0, kNan, 3.0}, {1.0, 2.0, 3.0}});
  CHECK(std::isnan(sum(x).item()));
  CHECK(std::isnan(max(x).item()));
  CHECK(std::isnan(min(x).item()));
  CHECK(std::isnan(logsumexp(x).to_vector<float>()[0]));
  const ValueAndIndex r = max_with_arg(x, 1);
  CHECK(std::isnan(r.value.to_vector<float>()[0]));
  CHECK(r.index.to_vector<std::int64_t>() == std::vector<std::int64_t>{1, 2});  // of the first NaN
}

TEST_CASE("max and min: first occurrence, any axis, integers, infinities") {
  const Tensor x = tensor({{3.0, 1.0, 3.0}, {2.0, 5.0, 5.0}});
  CHECK(argmax(x, 1).to_vector<std::int64_t>() == std::vector<std::int64_t>{0, 1});
  CHECK(argmax(x, 0).to_vector<std::int64_t>() == std::vector<std::int64_t>{0, 1, 1});
  CHECK(argmin(x, -1, true).shape() == Shape{2, 1});
  CHECK(values(max(x, 0)) == std::vector<double>{3, 5, 5});
  CHECK(values(min(x, 1, true)) == std::vector<double>{1, 2});
  CHECK(min(x).item() == 1.0);
  CHECK(max(full({3}, -kInf)).item() == -kInf);
  CHECK(argmax(full({3}, -kInf), 0).item() == 0);
  const Tensor i = reshape(from_vector<std::int64_t>({4, -9, 4, 7, 0, 7}, {6}), {2, 3});
  CHECK(max(i, 1).to_vector<std::int64_t>() == std::vector<std::int64_t>{4, 7});
  CHECK(argmin(i, 1).to_vector<std::int64_t>() == std::vector<std::int64_t>{1, 1});
  // At ties the first occurrence gets the whole cotangent.
  CHECK(values(grad([](const Tensor& t) { return max(t); }, tensor({1.0, 2.0, 2.0}))) == std::vector<double>{0, 1, 0});
  CHECK(!is_differentiated(argmax(x, 0)));
}

TEST_CASE("all and any: empty tensors") {
  CHECK(all(zeros({0}, boolean)).item() == 1.0);
  CHECK(any(zeros({0}, boolean)).item() == 0.0);
}

TEST_CASE("logsumexp, softmax: no overflow, rows of infinities") {
  for (const DType dtype : {float32, float64}) {
    const Tensor large = full({2, 3}, 1e4, dtype);
    CHECK(values(logsumexp(large))[0] == Approx(1e4 + std::log(3.0)));
    CHECK(values(softmax(large))[0] == Approx(1.0 / 3.0));
    CHECK(values(log_softmax(large))[0] == Approx(-std::log(3.0)).epsilon(1e-3));
    CHECK(logsumexp(full({3}, -kInf, dtype)).item() == -kInf);
    CHECK(logsumexp(full({3}, kInf, dtype)).item() == kInf);
    CHECK(values(softmax(tensor({-kInf, 0.0, 0.0}, dtype))) == std::vector<double>{0, 0.5, 0.5});
    CHECK(std::isnan(values(softmax(full({3}, -kInf, dtype)))[0]));
  }
  CHECK(values(logsumexp(zeros({2, 0}))) == std::vector<double>{-kInf, -kInf});
  CHECK(softmax(zeros({2, 0})).shape() == Shape{2, 0});
}

TEST_CASE("softmax: shifts cancel, rows add up to one, any axis") {
  const Tensor x = reshape(sin(arange(0, 60, 1, float64)), {3, 4, 5});
  for (const std::int64_t axis : {0, 1, 2, -1, -3}) {
    const Tensor y = softmax(x, axis);
    CHECK(max(abs(sum(y, {axis}) - 1.0)).item() < 1e-14);
    CHECK(max(abs(y - softmax(x + 100.0, axis))).item() < 1e-13);
    CHECK(max(abs(log(y) - log_softmax(x, axis))).item() < 1e-13);
    CHECK(max(abs(logsumexp(x, axis, true) - (x - log_softmax(x, axis)))).item() < 1e-13);
  }
}

TEST_CASE("softmax along columns: equals rows of a copy, also for results written past the caches") {
  for (const Shape& shape : {Shape{3, 5, 4, 6}, Shape{2, 130, 41, 200}, Shape{2, 700, 1600}}) {
    const Tensor x = 3.0 * normal(Key(7), shape);
    const auto as_rows = [](const Tensor& t) {
      return reshape(mT(reshape(t, {t.size(0), t.size(1), -1})), {-1, t.size(1)});
    };
    const auto largest_error = [&](const Tensor& got, const Tensor& want) {
      return max(abs(as_rows(got) - want)).item();
    };
    CHECK(softmax(x, 1).is_contiguous());
    CHECK(largest_error(softmax(x, 1), softmax(as_rows(x))) < 1e-6);
    CHECK(largest_error(log_softmax(x, 1), log_softmax(as_rows(x))) < 1e-5);
    const Tensor g = normal(Key(8), shape);
    const auto grad_of = [](const Tensor& at, const Tensor& weights, std::int64_t axis) {
      return grad([&](const Tensor& t) { return sum(weights * softmax(t, axis)); }, at);
    };
    CHECK(largest_error(grad_of(x, g, 1), grad_of(as_rows(x), as_rows(g), -1)) < 5e-6);
  }
}

TEST_CASE("layer_norm: rows have mean 0 and variance 1; constant rows give zeros") {
  const Tensor x = reshape(sin(arange(0, 60, 1, float64)), {4, 15}) * 3.0 + 7.0;
  const Tensor y = layer_norm(x, 0.0);
  CHECK(max(abs(mean(y, {-1}))).item() < 1e-14);
  CHECK(max(abs(var(y, {-1}) - 1.0)).item() < 1e-13);
  CHECK(max(abs(y - layer_norm(x * 5.0 - 3.0, 0.0))).item() < 1e-12);
  CHECK(values(layer_norm(full({1, 4}, 3.0))) == std::vector<double>{0, 0, 0, 0});
}

}  // namespace
TEST_CASE("norm: derivatives of every order are 0 where the norm is 0") {
  for (const double p : {1.0, 2.0, 3.0, std::numeric_limits<double>::infinity()}) {
    INFO(p);
    const auto f = [p](const Tensor& x) { return norm(x, p); };
    const Tensor zero = zeros({3}, float64);
    CHECK(norm(zero, p).item() == 0.0);
    CHECK(grad(f, zero).to_vector<double>() == std::vector<double>{0, 0, 0});
    CHECK(sum(abs(hessian(f, zero))).item() == 0.0);
  }
  CHECK(norm(tensor({3, -4}, float64)).item() == 5.0);
  CHECK(std::isnan(norm(tensor({3.0, std::nan("")}, float64)).item()));
}

}  // namespace solvent
