// Pooling and resampling on a GPU at sizes of several blocks. All but resampling promise the CPU's bits.

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "solvent/autodiff/transforms.h"
#include "solvent/core/engine/view.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/pool.h"
#include "solvent/ops/shape_ops.h"
#include "solvent/tests/cuda/cuda_device.h"
#include "solvent/tests/cuda/device_error.h"
#include "solvent/tests/cuda/same_bits.h"
#include "solvent/tests/ops/op_table.h"
#include "solvent/tests/support/catch.h"

namespace solvent::testing {
namespace {

const Device kGpu = cuda_test_device();

struct Windows {
  Shape shape;
  Size2d window, stride, padding;
};

const std::vector<Windows> kWindows = {
    {{3, 5, 37, 41}, {2, 2}, {2, 2}, {0, 0}}, {{2, 3, 37, 41}, {3, 3}, {2, 2}, {1, 1}},  // windows that share elements
    {{7, 19, 23}, {5, 3}, {1, 3}, {2, 0}},    {{61, 12, 9}, {3, 4}, {4, 2}, {1, 2}},     // elements in no window
    {{70, 90}, {7, 2}, {3, 1}, {3, 1}},                                                  // a plane of several pieces
    {{2, 9, 1, 50}, {1, 4}, {1, 4}, {0, 0}},
};

// Values of few kinds, so that there are ties, with NaN and infinities.
Tensor with_ties(const Shape& shape, DType dtype) {
  const Tensor x = normal_sample(Key(5), 0, shape, float64);
  std::vector<double> values = x.to_vector<double>();
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = std::round(2 * values[i]) / 2;
    if (i % 97 == 13) values[i] = NAN;
    if (i % 89 == 7) values[i] = i % 2 ? INFINITY : -INFINITY;
  }
  return cast(from_vector(values, shape), dtype);
}

TEST_CASE("cuda pooling: the largest element, its index and its gradient have the CPU's bits", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const DType dtype : {float32, float64})
    for (const Windows& w : kWindows) {
      INFO(to_string(w.shape) << " " << to_string(dtype));
      const MaxPoolOptions options{.window = w.window, .stride = w.stride, .padding = w.padding};
      const Tensor x = with_ties(w.shape, dtype);
      const ValueAndIndex expected = max_pool2d_with_index(x, options);
      const ValueAndIndex got = max_pool2d_with_index(to(x, kGpu), options);
      CHECK(same_bits(got.value, expected.value));
      CHECK(same_bits(got.index, expected.index));
      const auto f = [&](const Tensors& xs) { return Tensors{max_pool2d(xs[0], options)}; };
      const Tensor seed = normal_sample(Key(5), 1, expected.value.shape(), dtype);
      const Tensor gradient = vjp(f, Tensors{x}).pullback(Tensors{seed})[0];
      CHECK(same_bits(vjp(f, Tensors{to(x, kGpu)}).pullback(Tensors{to(seed, kGpu)})[0], gradient));
    }
}

TEST_CASE("cuda pooling: means and their gradients have the CPU's bits", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const DType dtype : {float32, float64})
    for (const Windows& w : kWindows)
      for (const bool counted : {false, true}) {
        INFO(to_string(w.shape) << " " << to_string(dtype));
        const AvgPoolOptions options{
            .window = w.window, .stride = w.stride, .padding = w.padding, .count_include_pad = counted};
        const Tensor x = normal_sample(Key(6), 0, w.shape, dtype);
        const auto f = [&](const Tensors& xs) { return Tensors{avg_pool2d(xs[0], options)}; };
        VjpResult expected = vjp(f, Tensors{x});
        VjpResult got = vjp(f, Tensors{to(x, kGpu)});
        CHECK(same_bits(got.values[0], expected.values[0]));
        const Tensor seed = normal_sample(Key(6), 1, expected.values[0].shape(), dtype);
        CHECK(same_bits(got.pullback(Tensors{to(seed, kGpu)})[0], expected.pullback(Tensors{seed})[0]));
      }
}

// Many contributions to few elements: sums in another order have other bits.
TEST_CASE("cuda pooling: contributions to one element are added in order", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const std::int64_t planes = 9;
  const std::int64_t count = 700;
  const std::vector<Size2d> sizes = {{5, 7}, {1, 1}, {40, 30}, {90, 100}};
  for (const Size2d size : sizes) {
    INFO(size.height << " x " << size.width);
    std::vector<std::int64_t> at(static_cast<std::size_t>(planes * count));
    for (std::size_t i = 0; i < at.size(); ++i)
      at[i] = static_cast<std::int64_t>(i * i / 3 % 50) * 181 % (size.height * size.width);
    const Tensor index = from_vector(at, {planes, 20, 35});
    const Tensor x = normal_sample(Key(7), 0, {planes, 20, 35}, float32);
    const Tensor expected = max_unpool2d(x, index, size);
    const Tensor got = max_unpool2d(to(x, kGpu), to(index, kGpu), size);
    CHECK(same_bits(got, expected));
    // Three directions share the index; taking is the adjoint.
    const auto f = [&](const Tensors& xs) { return Tensors{max_unpool2d(xs[0], to(index, xs[0].device()), size)}; };
    const Tensor seed = normal_sample(Key(7), 1, expected.shape(), float32);
    CHECK(same_bits(vjp(f, Tensors{to(x, kGpu)}).pullback(Tensors{to(seed, kGpu)})[0],
                    vjp(f, Tensors{x}).pullback(Tensors{seed})[0]));
  }
}

TEST_CASE("cuda pooling: empty operands", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const Tensor none = zeros({0, 4, 4}, {float32, kGpu});
  CHECK(max_pool2d(none, {.window = {2, 2}}).shape() == Shape{0, 2, 2});
  CHECK(avg_pool2d(none, {.window = {2, 2}}).shape() == Shape{0, 2, 2});
  const Tensor nothing = max_unpool2d(zeros({2, 0, 3}, {float32, kGpu}), zeros({2, 0, 3}, {int64, kGpu}), {2, 2});
  CHECK(nothing.to_vector<float>() == std::vector<float>(8, 0.0f));
}

TEST_CASE("cuda resampling: values and gradients equal the CPU's", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const std::vector<Size2d> sizes = {{64, 90}, {11, 13}, {37, 100}, {1, 1}};
  const std::vector<ResizeOptions> kinds = {{.mode = Interpolation::nearest},
                                            {.mode = Interpolation::linear},
                                            {.mode = Interpolation::linear, .align_corners = true},
                                            {.mode = Interpolation::linear, .antialias = true}};
  for (const DType dtype : {float32, float64})
    for (const Size2d size : sizes)
      for (const ResizeOptions& options : kinds) {
        INFO(size.height << " x " << size.width << " " << to_string(dtype));
        const Tensor x = normal_sample(Key(8), 0, {2, 3, 37, 41}, dtype);
        const auto f = [&](const Tensors& xs) { return Tensors{resize2d(xs[0], size, options)}; };
        VjpResult expected = vjp(f, Tensors{x});
        VjpResult got = vjp(f, Tensors{to(x, kGpu)});
        const double tolerance = dtype == float32 ? 4e-6 : 1e-14;
        CHECK(distance(got.values[0], expected.values[0]) <= tolerance);
        const Tensor seed = normal_sample(Key(8), 1, expected.values[0].shape(), dtype);
        // Sums of up to 37 x 41 addends.
        CHECK(distance(got.pullback(Tensors{to(seed, kGpu)})[0], expected.pullback(Tensors{seed})[0]) <=
              10 * tolerance);
      }
}

}  // namespace
}  // namespace solvent::testing
