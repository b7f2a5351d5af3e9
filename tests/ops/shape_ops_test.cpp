// shape_ops beyond what the table of operations checks: NumPy's slice rules, views, and the cost of time loops.

#include <chrono>
#include <vector>

#include "solvent/autodiff/gradcheck.h"
#include "solvent/core/error.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/ops/messages.h"
#include "solvent/tests/support/catch.h"

namespace solvent {
namespace {

bool shares_memory(const Tensor& a, const Tensor& b) { return a.impl()->storage == b.impl()->storage; }

Tensor counting(const Shape& shape, DType dtype = float64) {
  return reshape(arange(0, static_cast<double>(shape.product()), 1, dtype), shape);
}

std::vector<double> values(const Tensor& t) { return t.to_vector<double>(); }

// Python's range(size)[start:stop:step], written as its documentation says.
std::vector<double> python_slice(std::int64_t size, std::int64_t start, std::int64_t stop, std::int64_t step) {
  const std::int64_t low = step < 0 ? -1 : 0;
  const std::int64_t high = step < 0 ? size - 1 : size;
  const auto bound = [&](std::int64_t i) {
    if (i < 0) i += size;
    if (i < low) i = low;
    if (i > high) i = high;
    return i;
  };
  std::vector<double> out;
  for (std::int64_t i = bound(start); step > 0 ? i < bound(stop) : i > bound(stop); i += step)
    out.push_back(static_cast<double>(i));
  return out;
}

}  // namespace

TEST_CASE("slice: follows Python's rules for every combination of bounds and steps") {
  for (const std::int64_t size : {0, 1, 5})
    for (std::int64_t start = -7; start <= 7; ++start)
      for (std::int64_t stop = -7; stop <= 7; ++stop)
        for (const std::int64_t step : {-3, -2, -1, 1, 2, 6}) {
          const std::vector<double> expected = python_slice(size, start, stop, step);
          const Tensor y = slice(arange(0, static_cast<double>(size), 1, float64), 0, start, stop, step);
          INFO("size " << size << " [" << start << ":" << stop << ":" << step << "]");
          REQUIRE(values(y) == expected);
        }
}

TEST_CASE("slice, select, flip, unstack, split, mT: are views") {
  const Tensor x = counting({3, 4});
  CHECK(shares_memory(x, slice(x, 1, 1, 3)));
  CHECK(shares_memory(x, flip(x, 0)));
  CHECK(shares_memory(x, select(x, 0, -1)));
  CHECK(shares_memory(x, mT(x)));
  CHECK(shares_memory(x, unstack(x, 1)[2]));
  CHECK(shares_memory(x, split(x, {1, 3}, 1)[1]));
  CHECK(values(flip(x, 0)) == std::vector<double>{8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3});
  CHECK(values(select(x, 0, -1)) == std::vector<double>{8, 9, 10, 11});
  CHECK(values(select(x, -1, 1)) == std::vector<double>{1, 5, 9});
  CHECK(values(mT(x)) == std::vector<double>{0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11});
}

TEST_CASE("slices of slices: flips and strides compose") {
  const Tensor x = counting({10});
  CHECK(values(slice(flip(x, 0), 0, 1, 8, 3)) == std::vector<double>{8, 5, 2});
  CHECK(values(flip(slice(x, 0, 2, 9, 2), 0)) == std::vector<double>{8, 6, 4, 2});
  CHECK(values(flip(flip(x, 0), 0)) == values(x));
  CHECK(values(flip(x, 0) + x) == std::vector<double>(10, 9.0));
}

TEST_CASE("select: differentiates like a slice, errors name the extent") {
  const Tensor x = counting({3, 2});
  const Tensor g = grad([](const Tensor& t) { return sum(square(select(t, 0, 1))); }, x);
  CHECK(values(g) == std::vector<double>{0, 0, 4, 6, 0, 0});
  CHECK_ERROR(ShapeError, select(x, 0, 3),
              "[select] got index 3 for axis 0 of extent 3; expected an index in [-3, 3).");
  CHECK_THROWS_AS(select(x, 0, -4), ShapeError);
}

TEST_CASE("squeeze, unsqueeze, transpose: shapes and errors") {
  const Tensor x = counting({2, 1, 3});
  CHECK(squeeze(x, 1).shape() == Shape{2, 3});
  CHECK(unsqueeze(x, -1).shape() == Shape{2, 1, 3, 1});
  CHECK(unsqueeze(x, 0).shape() == Shape{1, 2, 1, 3});
  CHECK(transpose(x, 0, -1).shape() == Shape{3, 1, 2});
  CHECK(transpose(x, 1, 1).shape() == x.shape());
  CHECK_ERROR(ShapeError, squeeze(x, 0), "[squeeze]", "extent 1", "select");
  CHECK_ERROR(ShapeError, mT(zeros({3})), "[mT]", "at least 2 axes");
  CHECK_THROWS_AS(unsqueeze(x, 5), ShapeError);
}

TEST_CASE("contiguous and clone: copy only when asked") {
  const Tensor x = counting({2, 3});
  CHECK(shares_memory(x, contiguous(x)));
  CHECK_FALSE(shares_memory(x, clone(x)));
  const Tensor y = contiguous(mT(x));
  CHECK(y.is_contiguous());
  CHECK_FALSE(shares_memory(x, y));
  CHECK(values(y) == values(mT(x)));
  CHECK(to(x, cpu_device).impl() == x.impl());
  CHECK_ERROR(DeviceError, to(x, Device{DeviceType::cuda, 0}), "[to]", "cuda:0");
}

TEST_CASE("concat, stack, pad: data types other than floating ones") {
  CHECK(concat({tensor({1, 2}, int64), tensor({3}, int64)}).to_vector<std::int64_t>() ==
        std::vector<std::int64_t>{1, 2, 3});
  CHECK(stack({tensor({1, 0}, boolean), tensor({0, 0}, boolean)}, 1).to_vector<bool>() ==
        std::vector<bool>{true, false, false, false});
  CHECK(pad(tensor({7}, uint8), 0, 1, 1, 3).to_vector<std::uint8_t>() == std::vector<std::uint8_t>{3, 7, 3});
}

TEST_CASE("unstack: one node; missing cotangents are zeros") {
  const Tensor x = counting({5, 2});
  VjpResult1 r = vjp([](const Tensor& t) { return square(unstack(t, 0)[3]); }, x);
  CHECK(r.pullback.num_nodes() == 2);
  CHECK(values(r.pullback(ones({2}, float64))) == std::vector<double>{0, 0, 0, 0, 0, 0, 12, 14, 0, 0});
}

TEST_CASE("stack and concat: parts without a tangent count as zeros, also with K directions") {
  const Tensor x = counting({2});
  const Tensor constant = ones({2}, float64);
  const auto f = [&](const Tensor& t) {
    return concat({stack({constant, t, constant}, -1), unsqueeze(constant, -1)}, -1);
  };
  const JvpResult1 r = jvp_batched(f, x, eye(2, float64));
  CHECK(r.tangent.shape() == Shape{2, 2, 4});
  CHECK(values(r.tangent) == std::vector<double>{0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0});
}

TEST_CASE("time loops: the backward pass of unstack is linear in the number of steps") {
  // h <- tanh(h + x_t): two nodes per step, and one for all slices.
  const auto loop = [](const Tensor& xs) {
    Tensor h = zeros({4}, float64);
    for (const Tensor& x : unstack(xs, 0)) h = tanh(h + x);
    return sum(h);
  };
  const auto nodes_and_seconds = [&](std::int64_t steps) {
    const Tensor xs = full({steps, 4}, 0.01, float64);
    double best = 1e9;
    std::int64_t nodes = 0;
    for (int repeat = 0; repeat < 3; ++repeat) {
      VjpResult1 r = vjp(loop, xs);
      nodes = r.pullback.num_nodes();
      const auto start = std::chrono::steady_clock::now();
      (void)r.pullback(ones({}, float64));
      best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    return std::pair{nodes, best};
  };
  const auto [few, short_time] = nodes_and_seconds(500);
  const auto [many, long_time] = nodes_and_seconds(4000);
  CHECK(few < 2 * 500 + 10);
  CHECK(many - few == 2 * 3500);
  CHECK(long_time < 8 * 4 * short_time);  // quadratic work would be 64 times
}

TEST_CASE("time loops: more steps than a 16-bit count of outputs") {
  const std::int64_t steps = 40000;
  const auto f = [](const Tensor& xs) {
    const Tensors parts = unstack(xs, 0);
    return parts[39999] * parts[12] + sum(stack(parts, -1));
  };
  const Tensor g = grad(f, full({steps}, 2.0, float64));
  CHECK(sum(g).item() == Approx(static_cast<double>(steps) + 4.0));
  CHECK(select(g, 0, 12).item() == 3.0);
  CHECK(select(g, 0, 39999).item() == 3.0);
}

TEST_CASE("shape operations: second derivatives through compositions") {
  const auto f = [](const Tensors& x) {
    const Tensors parts = unstack(flip(x[0], 0), -1);
    const Tensor joined = concat({stack({parts[1], parts[0]}, 0), pad(slice(x[0], 1, 2, -10, -2), 1, 1, 0)}, 0);
    return Tensors{tanh(joined) * sum(square(joined))};
  };
  const GradcheckReport report = gradcheck(f, {counting({2, 2}) * 0.3 - 0.2});
  INFO(report.message);
  CHECK(report.ok);
}

}  // namespace solvent
