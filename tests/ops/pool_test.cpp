// Pooling and resizing against PyTorch (tests/golden/make_pool_norm.py), ties, NaN, and rows of every length.

#include <cmath>
#include <limits>

#include "solvent/autodiff/transforms.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/nn/nn_support.h"
#include "solvent/tests/support/larger.h"

namespace solvent {
namespace {

using testing::Golden;
using testing::identical;

constexpr double kGoldenTolerance = 1e-14;

// Value and gradient of f at name.x against name.output and name.grad.x.
template <class F>
void check_golden(const Golden& golden, const std::string& name, const F& f) {
  INFO(name);
  const Tensor& x = golden[name + ".x"];
  CHECK_CLOSE(f(x), golden[name + ".output"], kGoldenTolerance);
  const Tensor gradient = grad([&](const Tensor& v) { return sum(f(v) * golden[name + ".weights"]); }, x);
  CHECK_CLOSE(gradient, golden[name + ".grad.x"], kGoldenTolerance);
}

TEST_CASE("pooling: values, positions and gradients equal PyTorch's", "[ops]") {
  const Golden golden("pool_norm");
  const MaxPoolOptions stem = {.window = 3, .stride = 2, .padding = 1};
  check_golden(golden, "max_stem", [&](const Tensor& x) { return max_pool2d(x, stem); });
  CHECK(max_pool2d_with_index(golden["max_stem.x"], stem).index.to_vector<std::int64_t>() ==
        golden["max_stem.index"].to_vector<std::int64_t>());
  CHECK(max_pool2d_with_index(golden["max_ties.x"]).index.to_vector<std::int64_t>() ==
        golden["max_ties.index"].to_vector<std::int64_t>());
  check_golden(golden, "avg", [](const Tensor& x) { return avg_pool2d(x, {.window = 3, .stride = 2, .padding = 1}); });
  check_golden(golden, "avg_inside", [](const Tensor& x) {
    return avg_pool2d(x, {.window = {2, 3}, .stride = {2, 1}, .padding = {1, 1}, .count_include_pad = false});
  });
}

TEST_CASE("resize: values and gradients equal PyTorch's", "[ops]") {
  const Golden golden("pool_norm");
  check_golden(golden, "resize_bilinear", [](const Tensor& x) { return resize2d(x, 10); });
  check_golden(golden, "resize_corners", [](const Tensor& x) { return resize2d(x, 10, {.align_corners = true}); });
  check_golden(golden, "resize_antialias", [](const Tensor& x) { return resize2d(x, 10, {.antialias = true}); });
  check_golden(golden, "resize_up", [](const Tensor& x) { return resize2d(x, {8, 10}); });
  check_golden(golden, "resize_nearest", [](const Tensor& x) {
    return resize2d(x, {8, 3}, {.mode = Interpolation::nearest});
  });
}

TEST_CASE("resize: a constant stays constant and equal sizes change nothing", "[ops]") {
  const Tensor x = normal(Key(1), {2, 5, 6});
  CHECK(identical(resize2d(x, {5, 6}), x));
  CHECK(identical(resize2d(x, {5, 6}, {.antialias = true}), x));
  CHECK_CLOSE(resize2d(full({9, 7}, 3.0), {4, 13}, {.antialias = true}), full({4, 13}, 3.0), 1e-6);
}

TEST_CASE("max_pool2d: the first position in row-major order wins a tie and gets the cotangent", "[ops]") {
  const Tensor x = zeros({1, 4, 4});
  const ValueAndIndex r = max_pool2d_with_index(x);
  CHECK(r.index.to_vector<std::int64_t>() == std::vector<std::int64_t>{0, 2, 8, 10});
  const Tensor g = grad([](const Tensor& v) { return sum(max_pool2d(v)); }, x);
  CHECK(identical(reshape(g, {4, 4}), tensor({{1, 0, 1, 0}, {0, 0, 0, 0}, {1, 0, 1, 0}, {0, 0, 0, 0}})));
  // Padding holds no candidates, not even against -inf.
  const double low = -std::numeric_limits<double>::infinity();
  const MaxPoolOptions padded = {.window = 3, .stride = 1, .padding = 1};
  CHECK(max_pool2d_with_index(full({2, 2}, low), padded).index.to_vector<std::int64_t>() ==
        std::vector<std::int64_t>{0, 0, 0, 0});
}

TEST_CASE("max_pool2d: the first NaN wins", "[ops]") {
  for (const std::int64_t width : {2, 4, 16, 64}) {
    std::vector<float> values(static_cast<std::size_t>(2 * width), 1.0f);
    values[1] = std::nanf("");
    values[static_cast<std::size_t>(width)] = std::nanf("");
    const ValueAndIndex r = max_pool2d_with_index(from_vector(values, {2, width}));
    CHECK(std::isnan(r.value.to_vector<float>()[0]));
    CHECK(r.index.to_vector<std::int64_t>()[0] == 1);
  }
}

// Rows of every length around the vectors' widths, with each stride: vectors, their overlapping ends, and scalars.
template <class T>
void check_rows(DType dtype) {
  for (std::int64_t width = 1; width <= 70; ++width)
    for (const std::int64_t stride : {1, 2, 3}) {
      const Tensor x = normal(Key(5), {2, 3, width}, 0, 1, dtype);
      const std::int64_t window = std::min<std::int64_t>(width, 3);
      const ValueAndIndex r = max_pool2d_with_index(x, {.window = {2, window}, .stride = {1, stride}});
      const Tensor mean = avg_pool2d(x, {.window = {2, window}, .stride = {1, stride}});
      const std::vector<T> in = x.to_vector<T>();
      const std::vector<T> best = r.value.to_vector<T>();
      const std::vector<T> average = mean.to_vector<T>();
      const std::vector<std::int64_t> at = r.index.to_vector<std::int64_t>();
      const std::int64_t columns = (width - window) / stride + 1;
      REQUIRE(r.value.shape() == Shape{2, 2, columns});
      bool equal = true;
      double error = 0;
      for (std::int64_t i = 0; i < r.value.numel(); ++i) {
        const std::int64_t map = i / (2 * columns) * 3 * width;
        const std::int64_t start = i / columns % 2 * width + i % columns * stride;
        std::int64_t expected = start;
        double total = 0;
        for (std::int64_t k = 0; k < 2 * window; ++k) {
          const std::int64_t position = start + k / window * width + k % window;
          if (in[static_cast<std::size_t>(map + position)] > in[static_cast<std::size_t>(map + expected)])
            expected = position;
          total += static_cast<double>(in[static_cast<std::size_t>(map + position)]);
        }
        const auto n = static_cast<std::size_t>(i);
        equal = equal && at[n] == expected && best[n] == in[static_cast<std::size_t>(map + expected)];
        error = testing::larger(error,
                                std::fabs(static_cast<double>(average[n]) - total / static_cast<double>(2 * window)));
      }
      INFO("width " << width << ", stride " << stride);
      CHECK(equal);
      CHECK(error < 4 * static_cast<double>(std::numeric_limits<T>::epsilon()));
    }
}

TEST_CASE("pooling: rows of every length agree with a plain loop", "[ops]") {
  check_rows<float>(float32);
  check_rows<double>(float64);
}

TEST_CASE("max_unpool2d: puts values back where they won", "[ops]") {
  const Tensor x = normal(Key(2), {3, 6, 8});
  const ValueAndIndex r = max_pool2d_with_index(x);
  const Tensor back = max_unpool2d(r.value, r.index, {6, 8});
  CHECK(identical(max_pool2d(back - (1.0 - cast(not_equal(back, zeros({})), float32)) * 100.0), r.value));
  CHECK_CLOSE(sum(back), sum(r.value), 1e-5);
}

}  // namespace
}  // namespace solvent
