// Products and convolutions of float32 that a GPU may round: the precision of a call is that of its derivatives, and what
// set_matmul_precision() says holds for calls without one.

#include <optional>

#include "solvent/autodiff/transforms.h"
#include "solvent/core/matmul_precision.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/cuda/cuda_device.h"
#include "solvent/tests/support/catch.h"

namespace solvent::testing {
namespace {

const Device kGpu = cuda_test_device();

constexpr double kExact = 2e-6;  // of sums of 256 and 576 terms, relative to the largest result
constexpr double kTf32 = 2e-3;
constexpr double kBf16 = 2e-2;

struct DefaultPrecision {
  explicit DefaultPrecision(MatmulPrecision precision) { set_matmul_precision(precision); }
  ~DefaultPrecision() { set_matmul_precision(MatmulPrecision::highest); }
  DefaultPrecision(const DefaultPrecision&) = delete;
  DefaultPrecision& operator=(const DefaultPrecision&) = delete;
};

Tensor sample(std::uint64_t key, const Shape& shape) { return normal(Key(key), shape, 0.0, 1.0, float32); }

// Relative to the largest element.
double error(const Tensor& on_device, const Tensor& expected) {
  const Tensor reference = cast(expected, float64);
  return (max(abs(cast(to(on_device, cpu_device), float64) - reference)) / max(abs(reference))).item();
}

// Rounded factors: further from the truth than float32's sums, and not further than their digits allow.
bool is_rounded(double error, double bound) { return error > 5 * kExact && error < bound; }

TEST_CASE("cuda: a product's precision is that of its call and of its derivatives", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const Tensor a = sample(1, {256, 256});
  const Tensor b = sample(2, {256, 256});
  const Tensor g = sample(3, {256, 256});
  const Tensor a_gpu = to(a, kGpu), b_gpu = to(b, kGpu), g_gpu = to(g, kGpu);
  const Tensor y = matmul(cast(a, float64), cast(b, float64));
  const Tensor da = matmul(cast(g, float64), mT(cast(b, float64)));
  CHECK(error(matmul(a_gpu, b_gpu), y) < kExact);
  CHECK(is_rounded(error(matmul(a_gpu, b_gpu, MatmulPrecision::tf32), y), kTf32));
  CHECK(is_rounded(error(matmul(a_gpu, b_gpu, MatmulPrecision::bf16), y), kBf16));
  const auto product = [&](MatmulPrecision precision) {
    return [&, precision](const Tensor& x) { return matmul(x, b_gpu, precision); };
  };
  auto rounded = vjp(product(MatmulPrecision::tf32), a_gpu);
  CHECK(is_rounded(error(rounded.pullback(g_gpu), da), kTf32));
  CHECK(is_rounded(
      error(jvp(product(MatmulPrecision::tf32), a_gpu, g_gpu).tangent, matmul(cast(g, float64), cast(b, float64))),
      kTf32));
  const DefaultPrecision tf32(MatmulPrecision::tf32);
  CHECK(is_rounded(error(matmul(a_gpu, b_gpu), y), kTf32));
  auto exact = vjp(product(MatmulPrecision::highest), a_gpu);
  CHECK(error(exact.value, y) < kExact);
  CHECK(error(exact.pullback(g_gpu), da) < kExact);  // although the setting is another one
}

TEST_CASE("cuda: a convolution's precision is that of its call and of its derivatives", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const Tensor x = sample(4, {4, 64, 12, 12});
  const Tensor w = sample(5, {32, 64, 3, 3});
  const Tensor x_gpu = to(x, kGpu), w_gpu = to(w, kGpu);
  const auto conv = [](std::optional<MatmulPrecision> precision) {
    return [precision](const Tensor& map, const Tensor& filter) {
      return conv2d(map, filter, {.padding = 1, .precision = precision});
    };
  };
  const auto gradients = [&](auto f, const Tensor& map, const Tensor& filter) {
    const auto loss = [&](const Tensors& in) { return sum(square(f(in[0], in[1]))); };
    return grad(loss, Tensors{map, filter});
  };
  const Tensor y = conv({})(cast(x, float64), cast(w, float64));
  const Tensors expected = gradients(conv({}), cast(x, float64), cast(w, float64));
  CHECK(error(conv({})(x_gpu, w_gpu), y) < kExact);
  const DefaultPrecision tf32(MatmulPrecision::tf32);
  const Tensors exact = gradients(conv(MatmulPrecision::highest), x_gpu, w_gpu);
  const Tensors by_setting = gradients(conv({}), x_gpu, w_gpu);
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK(error(exact[i], expected[i]) < 2 * kExact);
    CHECK(error(by_setting[i], expected[i]) < 2 * kTf32);
  }
}

}  // namespace
}  // namespace solvent::testing
