// Sorting beyond the table of operations: order of NaN and zeros, stability, long lines, types.

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "solvent/autodiff/transforms.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/support/catch.h"

namespace solvent {
namespace {

const double kNan = std::numeric_limits<double>::quiet_NaN();
const double kInf = std::numeric_limits<double>::infinity();

using Index = std::vector<std::int64_t>;

Index indices(const Tensor& t) { return t.to_vector<std::int64_t>(); }

// Positions in the documented order by std::stable_sort.
template <class T>
Index stable_order(const std::vector<T>& x, bool descending) {
  Index order(x.size());
  std::iota(order.begin(), order.end(), 0);
  const auto less = [](T a, T b) { return (b != b && a == a) || a < b; };
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    const T u = x[static_cast<std::size_t>(a)];
    const T v = x[static_cast<std::size_t>(b)];
    return descending ? less(v, u) : less(u, v);
  });
  return order;
}

}  // namespace

TEST_CASE("sort: NaNs of either sign are the largest elements, zeros of either sign are equal") {
  for (const DType dtype : {float32, float64}) {
    const Tensor x = tensor({1.0, kNan, -kInf, 0.0, -kNan, -0.0, kInf, -2.0}, dtype);
    CHECK(indices(sort(x).index) == Index{2, 7, 3, 5, 0, 6, 1, 4});
    CHECK(indices(sort(x, 0, true).index) == Index{1, 4, 6, 0, 3, 5, 7, 2});
    CHECK(indices(topk(x, 3).index) == Index{1, 4, 6});
    CHECK(indices(topk(x, 2, -1, false).index) == Index{2, 7});
    const Tensor sorted = sort(x).value;
    CHECK(std::isnan(select(sorted, 0, 7).item()));
    CHECK(std::signbit(select(sorted, 0, 3).item()));  // 0 stays before -0, with their signs
  }
}

TEST_CASE("sort: agrees with a stable sort for long and short lines of every type") {
  for (const std::int64_t size : {3, 63, 64, 200, 5000}) {
    for (const bool descending : {false, true}) {
      INFO(size << (descending ? " descending" : ""));
      const Tensor integers = randint(Key(3), {size}, -40, 40);  // many ties
      const std::vector<std::int64_t> values = integers.to_vector<std::int64_t>();
      CHECK(indices(argsort(integers, 0, descending)) == stable_order(values, descending));
      const Tensor wide = randint(Key(4), {size}, std::numeric_limits<std::int64_t>::min(), 0);
      CHECK(indices(argsort(wide, 0, descending)) == stable_order(wide.to_vector<std::int64_t>(), descending));
      const Tensor floats = cast(integers, float32) * 0.37;
      CHECK(indices(argsort(floats, 0, descending)) == stable_order(floats.to_vector<float>(), descending));
      const Tensor doubles = normal(Key(5), {size}, 0.0, 1e3, float64);
      CHECK(indices(argsort(doubles, 0, descending)) == stable_order(doubles.to_vector<double>(), descending));
      for (const std::int64_t k : {std::int64_t{0}, std::int64_t{1}, size / 10, size}) {
        Index first = stable_order(values, descending);
        first.resize(static_cast<std::size_t>(k));
        CHECK(indices(topk(integers, k, 0, descending).index) == first);
      }
    }
  }
}

TEST_CASE("sort: sorts along every axis, and the index gathers the values") {
  const Tensor x = normal(Key(9), {5, 300, 4});
  for (const std::int64_t axis : {0, 1, -1}) {
    const auto [value, index] = sort(x, axis);
    CHECK(value.to_vector<float>() == take_along_axis(x, index, axis).to_vector<float>());
    const std::int64_t size = x.size(axis);
    const Tensor rises = less_equal(slice(value, axis, 0, size - 1), slice(value, axis, 1, size));
    CHECK(all(rises).item() == 1.0);
  }
}

TEST_CASE("sort: ties give their cotangents to the positions that the index names") {
  const Tensor x = tensor({2, 1, 2, 1}, float64);
  const Tensor weights = tensor({1, 10, 100, 1000}, float64);
  const Tensor g = grad([&](const Tensor& t) { return sum(sort(t).value * weights); }, x);
  CHECK(g.to_vector<double>() == std::vector<double>{100, 1, 1000, 10});
}

TEST_CASE("tril: keeps inf and NaN out of the other triangle") {
  const Tensor x = full({2, 2}, kInf);
  CHECK(tril(x).to_vector<float>() == std::vector<float>{float(kInf), 0, float(kInf), float(kInf)});
  CHECK(triu(tensor({{1, 2}, {3, 4}}, int64)).to_vector<std::int64_t>() == std::vector<std::int64_t>{1, 2, 0, 4});
}

TEST_CASE("diag: makes a matrix of a vector and takes the diagonal of a matrix") {
  const Tensor v = tensor({1, 2}, float64);
  CHECK(diag(v, 1).to_vector<double>() == std::vector<double>{0, 1, 0, 0, 0, 2, 0, 0, 0});
  CHECK(diag(diag(v, 1), 1).to_vector<double>() == std::vector<double>{1, 2});
  CHECK(diagonal(v * ones({3, 2}, float64), 5).shape() == Shape{0});
  const Tensor x = reshape(arange(0, 24, 1, float64), {2, 3, 4});
  CHECK(diagonal(x, 1, 0, 2).to_vector<double>() == std::vector<double>{1, 14, 5, 18, 9, 22});
  CHECK(trace(tensor({{1, 2}, {3, 4}}, int64)).item() == 5.0);
}

}  // namespace solvent
