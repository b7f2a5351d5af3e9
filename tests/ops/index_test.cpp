// gather and scatter_add beyond the table of operations.

#include <vector>

#include "solvent/autodiff/gradcheck.h"
#include "solvent/core/error.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/ops/messages.h"
#include "solvent/tests/support/catch.h"

namespace solvent {
namespace {

std::vector<double> values(const Tensor& t) { return t.to_vector<double>(); }

}  // namespace

TEST_CASE("gather: the gradient adds up where indices repeat") {
  const Tensor x = tensor({1, 2, 3}, float64);
  const Tensor index = tensor({2, 0, 2, 2}, int64);
  const Tensor g = grad(
      [&](const Tensor& t) {
        return sum(gather(t, index, 0) * tensor({1, 10, 100, 1000}, float64));
      },
      x);
  CHECK(values(g) == std::vector<double>{10, 0, 1101});
}

TEST_CASE("gather: integers, bytes and truth values") {
  const Tensor index = tensor({1, 1, 0}, int64);
  CHECK(gather(tensor({5, 6}, int64), index, 0).to_vector<std::int64_t>() == std::vector<std::int64_t>{6, 6, 5});
  CHECK(gather(tensor({5, 6}, uint8), index, 0).to_vector<std::uint8_t>() == std::vector<std::uint8_t>{6, 6, 5});
  CHECK(gather(tensor({1, 0}, boolean), index, 0).to_vector<bool>() == std::vector<bool>{false, false, true});
  CHECK(scatter_add(tensor({5, 6, 7}, int64), index, 0, 2).to_vector<std::int64_t>() ==
        std::vector<std::int64_t>{7, 11});
}

TEST_CASE("gather: reports the first bad index of a broadcast index by its row-major position") {
  const Tensor index = broadcast_to(reshape(tensor({0, 9, -1}, int64), {3, 1}), {3, 4});
  CHECK_ERROR(ValueError, gather(zeros({3, 4}), index, 0), "index 9 at position 4");
  CHECK_ERROR(ValueError, gather(zeros({3, 4}), flip(index, 0), 0), "index -1 at position 0");
}

TEST_CASE("gather: nested K directions share the index") {
  const Tensor x = tensor({{1, 2}, {3, 4}, {5, 6}}, float64);
  const Tensor index = tensor({{2, 0}, {1, 1}}, int64);
  const auto f = [&](const Tensor& t) { return square(gather(t, index, 0)); };
  const Tensor h = jacfwd([&](const Tensor& t) { return jacfwd(f, t); }, x);  // (2, 2, 3, 2, 3, 2)
  CHECK(h.shape() == Shape{2, 2, 3, 2, 3, 2});
  // y[0][1] = x[0][1]^2
  CHECK(select(select(select(select(select(select(h, 0, 0), 0, 1), 0, 0), 0, 1), 0, 0), 0, 1).item() == 2.0);
  CHECK(sum(h).item() == 8.0);
}

TEST_CASE("scatter_add: the same bits for any number of threads") {
  const Tensor x = normal(Key(7), {5000, 40});
  const Tensor index = randint(Key(8), {5000, 1}, 0, 17);
  const NumThreadsGuard one(1);
  const Tensor a = scatter_add(x, index, 0, 17);
  set_num_threads(2);
  const Tensor b = scatter_add(x, index, 0, 17);
  CHECK(a.to_vector<float>() == b.to_vector<float>());
}

TEST_CASE("index_select: selects along any axis and differentiates twice") {
  const Tensor index = tensor({2, 0, 2}, int64);
  const Tensor x = reshape(arange(0, 6, 1, float64), {2, 3});
  CHECK(values(index_select(x, index, 1)) == std::vector<double>{2, 0, 2, 5, 3, 5});
  const GradcheckReport report =
      gradcheck([&](const Tensors& t) { return Tensors{tanh(index_select(t[0], index, -1))}; }, {x * 0.2});
  INFO(report.message);
  CHECK(report.ok);
}

}  // namespace solvent
