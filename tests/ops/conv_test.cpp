// Convolutions: laws, layouts, and numbers computed by hand.

#include "solvent/ops/conv.h"

#include <cmath>

#include "solvent/autodiff/debug.h"
#include "solvent/autodiff/transforms.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/linalg.h"
#include "solvent/ops/reduce.h"
#include "solvent/ops/shape_ops.h"
#include "solvent/tests/ops/op_table.h"
#include "solvent/tests/support/catch.h"
#include "solvent/tests/support/larger.h"

namespace solvent {
namespace {

using testing::Array;
using testing::normal_sample;

const Key kKey(11);

double distance(const Tensor& a, const Tensor& b) {
  REQUIRE(to_string(a.shape()) == to_string(b.shape()));
  const Array x(a);
  const Array y(b);
  double largest = 0;
  for (std::int64_t i = 0; i < x.numel(); ++i) largest = testing::larger(largest, std::abs(x[i] - y[i]));
  return largest;
}

double inner(const Tensor& a, const Tensor& b) { return sum(a * b).item(); }

TEST_CASE("conv2d: the filter is not flipped, and padding is per side") {
  const Tensor x = from_vector(std::vector<double>{1, 2, 3, 4}, {1, 1, 2, 2});
  const Tensor w = from_vector(std::vector<double>{10, 1}, {1, 1, 1, 2});
  CHECK(conv2d(x, w).to_vector<double>() == std::vector<double>{12, 34});
  const Conv2dOptions left{.padding = {0, 0, 1, 0}};  // top, bottom, left, right
  CHECK(conv2d(x, w, left).to_vector<double>() == std::vector<double>{1, 12, 3, 34});
  const Conv2dOptions top{.padding = {1, 0, 0, 0}};
  CHECK(conv2d(x, w, top).to_vector<double>() == std::vector<double>{0, 12, 34});
}

TEST_CASE("conv1d: equals conv2d on maps of one row, also with a filter of one tap") {
  const Tensor x = normal_sample(kKey, 0, {2, 4, 9}, float64);
  const Tensor w = normal_sample(kKey, 1, {6, 2, 3}, float64);
  const Tensor y = conv1d(x, w, {.stride = 2, .padding = {3, 1}, .dilation = 2, .groups = 2});
  const Tensor z = conv2d(unsqueeze(x, 2), unsqueeze(w, 2),
                          {.stride = {1, 2}, .padding = {0, 0, 3, 1}, .dilation = {1, 2}, .groups = 2});
  CHECK(distance(y, squeeze(z, 2)) == 0);
}

TEST_CASE("conv2d: a 1x1 filter is a matrix product over channels") {
  const Tensor x = normal_sample(kKey, 0, {3, 5, 4, 2}, float64);
  const Tensor w = normal_sample(kKey, 1, {7, 5, 1, 1}, float64);
  const Tensor y = permute(matmul(permute(x, {0, 2, 3, 1}), mT(reshape(w, {7, 5}))), {0, 3, 1, 2});
  CHECK(distance(conv2d(x, w), y) < 1e-13);
}

TEST_CASE("conv2d: commutes with shifts of the map") {
  const Tensor x = pad(pad(normal_sample(kKey, 0, {1, 3, 6, 6}, float64), -1, 2, 3), -2, 3, 2);
  const Tensor w = normal_sample(kKey, 1, {4, 3, 3, 3}, float64);
  const auto moved = [](const Tensor& t) { return pad(slice(slice(t, -1, 0, -1), -2, 1, 100), -1, 1, 0); };
  const Tensor y = conv2d(x, w, {.padding = 1});
  const Tensor expected = slice(slice(moved(y), -1, 2, 8), -2, 2, 8);
  const Tensor got = slice(slice(conv2d(moved(x), w, {.padding = 1}), -1, 2, 8), -2, 2, 8);
  CHECK(distance(got, expected) < 1e-13);
}

TEST_CASE("conv2d: groups are independent convolutions") {
  const Tensor x = normal_sample(kKey, 0, {2, 6, 5, 5}, float64);
  const Tensor w = normal_sample(kKey, 1, {9, 2, 3, 3}, float64);
  Tensors parts;
  for (std::int64_t g = 0; g < 3; ++g)
    parts.push_back(conv2d(slice(x, 1, 2 * g, 2 * g + 2), slice(w, 0, 3 * g, 3 * g + 3)));
  CHECK(distance(conv2d(x, w, {.groups = 3}), concat(parts, 1)) < 1e-13);
}

TEST_CASE("conv family: <g, conv(x, w)> = <input_grad(g, w), x> = <weight_grad(x, g), w>") {
  const Conv2dOptions o{.stride = {2, 1}, .padding = {1, 2, 0, 1}, .dilation = {1, 2}, .groups = 2};
  const Tensor x = normal_sample(kKey, 0, {3, 4, 8, 7}, float64);
  const Tensor w = normal_sample(kKey, 1, {6, 2, 3, 2}, float64);
  const Tensor y = conv2d(x, w, o);
  const Tensor g = normal_sample(kKey, 2, y.shape(), float64);
  const double value = inner(g, y);
  CHECK(inner(conv2d_input_grad(g, w, {8, 7}, o), x) == Approx(value).epsilon(1e-12));
  CHECK(inner(conv2d_weight_grad(x, g, {3, 2}, o), w) == Approx(value).epsilon(1e-12));
}

TEST_CASE("conv_transpose2d: the adjoint of conv2d, and zero-stuffing followed by the flipped filter") {
  const Tensor x = normal_sample(kKey, 0, {2, 3, 4, 3}, float64);
  const Tensor w = normal_sample(kKey, 1, {3, 5, 3, 2}, float64);
  const Tensor y = conv_transpose2d(x, w, {.stride = 2, .padding = {1, 0}, .output_padding = {1, 0}});
  CHECK(to_string(y.shape()) == "(2, 5, 8, 6)");
  const Tensor z = normal_sample(kKey, 2, y.shape(), float64);
  CHECK(inner(conv2d(z, w, {.stride = 2, .padding = {1, 0}}), x) == Approx(inner(z, y)).epsilon(1e-12));
  // x at every second position, then a convolution with the filter turned by 180 degrees and its channels swapped.
  Tensor stuffed = zeros({2, 3, 7, 5}, float64);
  stuffed = conv_transpose2d(x, reshape(cast(tensor({{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}), float64), {3, 3, 1, 1}),
                             {.stride = 2});
  CHECK(to_string(stuffed.shape()) == "(2, 3, 7, 5)");
  const Tensor turned = flip(flip(permute(w, {1, 0, 2, 3}), -1), -2);
  CHECK(distance(conv2d(stuffed, turned, {.padding = {1, 2, 1, 1}}), y) < 1e-13);
}

TEST_CASE("conv2d: the gradient costs one node per convolution, and an unwanted one is not computed") {
  const Tensor x = normal_sample(kKey, 0, {2, 3, 5, 5}, float64);
  const Tensor w = normal_sample(kKey, 1, {4, 3, 3, 3}, float64);
  const auto counts = debug::node_counts(vjp([&](const Tensor& v) { return conv2d(x, v); }, w).pullback);
  CHECK(counts.size() == 1);
  CHECK(counts.at("conv") == 1);
}

TEST_CASE("conv2d: results are contiguous whatever the strides of the inputs") {
  const Tensor nhwc = normal_sample(kKey, 0, {2, 5, 6, 3}, float32);
  const Tensor x = permute(nhwc, {0, 3, 1, 2});
  const Tensor w = normal_sample(kKey, 1, {4, 3, 3, 3}, float32);
  const Tensor y = conv2d(x, w, {.padding = 1});
  CHECK(y.strides() == contiguous_strides(y.shape()));
  CHECK(distance(y, conv2d(contiguous(x), w, {.padding = 1})) == 0);
}

}  // namespace
}  // namespace solvent
