// bfloat16 on a GPU: what moves elements, elementwise arithmetic and casts have the CPU's bits; sums, products and convolutions,
// which the GPU adds up in another order, lie within one rounding of the exact result.

#include <cmath>
#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "solvent/core/error.h"
#include "solvent/ops/conv.h"
#include "solvent/ops/cuda/conv.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/index.h"
#include "solvent/ops/linalg.h"
#include "solvent/ops/matrix_parts.h"
#include "solvent/ops/reduce.h"
#include "solvent/ops/shape_ops.h"
#include "solvent/tests/cuda/cuda_device.h"
#include "solvent/tests/cuda/device_error.h"
#include "solvent/tests/cuda/same_bits.h"
#include "solvent/tests/ops/bfloat16_sweep.h"
#include "solvent/tests/ops/op_table.h"
#include "solvent/tests/support/catch.h"

namespace solvent::testing {
namespace {

const Device kGpu = cuda_test_device();
const Key kKey(160);

// Half a unit in the last place of a value of size 1, with room for the error of sums in float32.
constexpr double kHalfUlp = 0x1p-8 + 1e-5;

Tensor sample(std::uint64_t i, const Shape& shape) { return cast(normal_sample(kKey, i, shape, float32), bfloat16); }

// The error of a bfloat16 result on the GPU.
double bfloat16_error(const Tensor& got, const Tensor& expected) {
  REQUIRE(got.dtype() == bfloat16);
  return error(got, expected);
}

using Function = std::function<Tensor(const Tensors&)>;

// f has the CPU's bits.
void check_bits(const char* name, const Function& f, const Tensors& xs) {
  INFO(name << " " << to_string(xs[0].shape()));
  Tensors on_gpu;
  for (const Tensor& x : xs) on_gpu.push_back(to(x, kGpu));
  CHECK(same_bits(f(on_gpu), f(xs)));
}

// op(a) op(b) against float64.
void check_product(const Shape& a_shape, const Shape& b_shape, bool trans_a, bool trans_b) {
  const auto stored = [](Shape shape, bool transposed) {
    if (transposed) std::swap(shape[shape.rank() - 1], shape[shape.rank() - 2]);
    return shape;
  };
  const auto read = [](const Tensor& x, bool transposed) { return transposed ? mT(x) : x; };
  const Tensor a = sample(1, stored(a_shape, trans_a));
  const Tensor b = sample(2, stored(b_shape, trans_b));
  const Tensor expected = matmul(read(cast(a, float64), trans_a), read(cast(b, float64), trans_b));
  INFO(to_string(a_shape) << " x " << to_string(b_shape) << " " << trans_a << trans_b);
  CHECK(bfloat16_error(matmul(read(to(a, kGpu), trans_a), read(to(b, kGpu), trans_b)), expected) < kHalfUlp);
}

}  // namespace

TEST_CASE("cuda bfloat16: every operation of the table computes as float32 does, or refuses, as on the CPU", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const std::set<std::string> taken = sweep_bfloat16(kGpu);
  CHECK(taken.count("matmul") == 1);
  CHECK(taken.count("exp") == 0);
}

TEST_CASE("cuda bfloat16: factories, copies and casts", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const TensorOptions on_gpu{bfloat16, kGpu};
  CHECK(full({1000}, 0.1, on_gpu).to_vector<BFloat16>()[999].bits == 0x3dcd);
  CHECK(same_bits(eye(5, on_gpu), eye(5, bfloat16)));
  CHECK(scalar(2.5, on_gpu).item() == 2.5);
  const Tensor x = sample(1, {70, 333});
  CHECK(same_bits(to(x, kGpu), x));
  CHECK(same_bits(to(to(x, kGpu), cpu_device), x));
  const Tensor special = tensor({0, -0.0, 1e39, -1e39, HUGE_VAL, 1e-40, 1.0 + 0x1p-8, 300.7, -2.5}, float64);
  // NaNs too where bits are moved and not converted by the processor.
  const Tensor nan = tensor({std::nan("")}, float32);
  CHECK(same_bits(cast(to(nan, kGpu), bfloat16), cast(nan, bfloat16)));
  CHECK(same_bits(cast(to(cast(nan, float64), kGpu), bfloat16), cast(cast(nan, float64), bfloat16)));
  CHECK(same_bits(cast(cast(to(nan, kGpu), bfloat16), float32), cast(cast(nan, bfloat16), float32)));
  for (const DType from : {float64, float32, bfloat16, int64, uint8, boolean})
    for (const DType dtype : {float64, float32, bfloat16, int64, uint8, boolean}) {
      INFO(to_string(from) << " to " << to_string(dtype));
      if (is_floating(from))
        CHECK(same_bits(cast(to(cast(special, from), kGpu), dtype), cast(cast(special, from), dtype)));
      const Tensor long_row = cast(affine(normal_sample(kKey, 3, {3, 10007}, float32), 100, 0), from);
      CHECK(same_bits(cast(to(long_row, kGpu), dtype), cast(long_row, dtype)));
      CHECK(same_bits(cast(mT(to(long_row, kGpu)), dtype), cast(mT(long_row), dtype)));
    }
}

TEST_CASE("cuda bfloat16: operations that move elements", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const Tensor index = tensor({4, 0, 4, 1, 2}, int64);
  const std::vector<std::pair<const char*, Function>> functions = {
      {"transpose", [](const Tensors& x) { return clone(mT(x[0])); }},
      {"batch of transposes",
       [](const Tensors& x) {
         return clone(permute(x[0], {0, 2, 1}));
       }},
      {"permute",
       [](const Tensors& x) {
         return clone(permute(x[0], {1, 0, 2}));
       }},
      {"flip", [](const Tensors& x) { return clone(flip(x[0], 2)); }},
      {"slice", [](const Tensors& x) { return clone(slice(x[0], 2, 1, -1, 2)); }},
      {"pad", [](const Tensors& x) { return pad(x[0], 2, 3, 2, 0.1); }},
      {"pad rows", [](const Tensors& x) { return pad(x[0], 0, 1, 1, -1.0); }},
      {"concat",
       [](const Tensors& x) {
         return concat({x[0], x[1], x[0]}, 2);
       }},
      {"concat of a transpose",
       [](const Tensors& x) {
         return concat({mT(x[0]), mT(x[1])}, 0);
       }},
      {"stack",
       [](const Tensors& x) {
         return stack({x[0], x[1]}, 3);
       }},
      {"index_select", [&](const Tensors& x) { return index_select(x[0], to(index, x[0].device()), 1); }},
      {"index_select of columns", [&](const Tensors& x) { return index_select(x[0], to(index, x[0].device()), 2); }},
      {"tril", [](const Tensors& x) { return tril(x[0], 1); }},
      {"triu", [](const Tensors& x) { return triu(x[0], -2); }},
      {"diag_embed", [](const Tensors& x) { return diag_embed(slice(x[0], 0, 0, 1), 1); }},
      {"where", [](const Tensors& x) { return where(less(x[0], x[1]), x[0], x[1]); }},
  };
  for (const Shape& shape : {Shape{3, 65, 70}, Shape{2, 33, 37}, Shape{2, 8, 64}})
    for (const auto& [name, f] : functions) check_bits(name, f, {sample(1, shape), sample(2, shape)});
}

TEST_CASE("cuda bfloat16: elementwise arithmetic", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const std::vector<std::pair<const char*, Function>> functions = {
      {"add", [](const Tensors& x) { return add(x[0], x[1]); }},
      {"sub", [](const Tensors& x) { return sub(x[0], x[1]); }},
      {"mul", [](const Tensors& x) { return mul(x[0], x[1]); }},
      {"neg", [](const Tensors& x) { return neg(x[0]); }},
      {"strided", [](const Tensors& x) { return add(slice(x[0], 0, 1, 301), slice(x[1], 0, 0, 300)); }},
      {"broadcast", [](const Tensors& x) { return mul(x[0], slice(x[1], 0, 0, 1)); }},
      {"less", [](const Tensors& x) { return less(x[0], x[1]); }},
  };
  for (const auto& [name, f] : functions) check_bits(name, f, {sample(3, {301, 177}), sample(4, {301, 177})});
  // Has a fused multiply-add on the device, and on the CPU as far as its vectors have one.
  const Tensor x = sample(5, {301, 177});
  CHECK(bfloat16_error(affine(to(x, kGpu), 1.1, -0.3), affine(cast(x, float64), 1.1, -0.3)) < kHalfUlp);
}

TEST_CASE("cuda bfloat16: sums are formed in float64 and rounded once", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const Shape& shape : {Shape{4, 1000, 3}, Shape{3, 5, 704}, Shape{2000, 40}, Shape{70001}, Shape{64, 33}}) {
    const Tensor x = sample(5, shape);
    INFO(to_string(shape));
    for (int axis = 0; axis < x.rank(); ++axis) {
      const Tensor expected = cast(sum(cast(to(x, kGpu), float64), {axis}), bfloat16);
      CHECK(same_bits(sum(to(x, kGpu), {axis}), expected));
      CHECK(bfloat16_error(sum(to(x, kGpu), {axis}), sum(cast(x, float64), {axis})) < kHalfUlp);
    }
  }
  const Tensor index = integer_sample(kKey, 6, {500}, 0, 7);
  const Tensor rows = sample(7, {500, 33});
  const auto scattered = [&](const Tensor& x) {
    return scatter_add(x, reshape(to(index, x.device()), {500, 1}), 0, 7);
  };
  CHECK(bfloat16_error(scattered(to(rows, kGpu)), scattered(cast(rows, float64))) < kHalfUlp);
}

TEST_CASE("cuda bfloat16: products, small, large, batched, scattered and with vectors", "[cuda]") {
  if (!has_cuda_test_device()) return;
  for (const bool trans_a : {false, true})
    for (const bool trans_b : {false, true}) {
      check_product({301, 1, 7}, {301, 7, 9}, trans_a, trans_b);
      check_product({37, 9, 17}, {37, 17, 11}, trans_a, trans_b);
      check_product({19, 32, 32}, {19, 32, 32}, trans_a, trans_b);
      check_product({65, 130}, {130, 77}, trans_a, trans_b);
      check_product({9, 40, 33}, {9, 33, 35}, trans_a, trans_b);
      check_product({7, 1, 34, 40}, {7, 6, 40, 9}, trans_a, trans_b);
      check_product({3, 5, 34, 40}, {5, 40, 36}, trans_a, trans_b);
      check_product({41, 136}, {136, 1}, trans_a, trans_b);
      check_product({5, 33, 67}, {5, 67, 1}, trans_a, trans_b);
      check_product({4, 1, 61}, {4, 61, 130}, trans_a, trans_b);
      check_product({6, 50, 3}, {3, 40}, trans_a, trans_b);
    }
  check_bits("outer", [](const Tensors& x) { return outer(x[0], x[1]); }, {sample(6, {7, 50}), sample(7, {7, 64})});
  check_bits("outer", [](const Tensors& x) { return outer(x[0], x[1]); }, {sample(6, {7, 50}), sample(7, {7, 9})});
  const Tensor none = zeros({3, 0}, {bfloat16, kGpu});
  CHECK(same_bits(matmul(none, mT(none)), zeros({3, 3}, bfloat16)));
}

TEST_CASE("cuda bfloat16: convolutions by cuDNN and by the own kernels", "[cuda][conv]") {
  if (!has_cuda_test_device()) return;
  using cpu::ConvAxis;
  using cpu::ConvGeometry;
  const std::vector<std::pair<ConvGeometry, Shape>> sizes = {
      // extents of the map, filter, result; stride, zeros before and after, dilation
      {{{9, 5, 9, 1, 2, 2, 1}, {11, 5, 11, 1, 2, 2, 1}, 1}, {2, 12, 20}},
      {{{9, 3, 9, 1, 1, 1, 1}, {7, 3, 4, 2, 1, 1, 1}, 2}, {2, 16, 32}},
      {{{6, 2, 5, 1, 0, 0, 1}, {6, 3, 6, 1, 2, 0, 1}, 3}, {2, 6, 18}},  // uneven zeros, few channels
      {{{9, 3, 5, 1, 0, 0, 2}, {8, 3, 8, 1, 1, 1, 1}, 1}, {2, 9, 12}},  // the emulator refuses this when it runs
  };
  for (const auto& [g, channels] : sizes) {
    const Tensor x = sample(8, {channels[0], channels[1], g.h.in, g.w.in});
    const Tensor w = sample(9, {channels[2], channels[1] / g.groups, g.h.kernel, g.w.kernel});
    const Tensor y = sample(10, {channels[0], channels[2], g.h.out, g.w.out});
    const auto exact = [](const Tensor& t) { return cast(t, float64); };
    for (const cuda::ConvBackend backend : {cuda::ConvBackend::automatic, cuda::ConvBackend::own}) {
      INFO(to_string(w.shape()) << " groups " << g.groups << (backend == cuda::ConvBackend::own ? " own" : ""));
      CHECK(bfloat16_error(cuda::conv(to(x, kGpu), to(w, kGpu), g, backend),
                           cpu::conv(exact(x), exact(w), g, cpu::ConvBackend::gemm)) < kHalfUlp);
      CHECK(bfloat16_error(cuda::conv_input_grad(to(y, kGpu), to(w, kGpu), g, backend),
                           cpu::conv_input_grad(exact(y), exact(w), g, cpu::ConvBackend::gemm)) < kHalfUlp);
      CHECK(bfloat16_error(cuda::conv_weight_grad(to(x, kGpu), to(y, kGpu), g, backend),
                           cpu::conv_weight_grad(exact(x), exact(y), g, cpu::ConvBackend::gemm)) < kHalfUlp);
    }
  }
}

TEST_CASE("cuda bfloat16: float32 weights learn through bfloat16 products", "[cuda]") {
  if (!has_cuda_test_device()) return;
  const Tensor x = sample(11, {40, 36});
  const Tensor w = normal_sample(kKey, 12, {36, 33}, float32);
  const auto gradient = [](const Tensor& data, const Tensor& weight) {
    return grad([&](const Tensor& v) { return sum(square(cast(matmul(data, cast(v, bfloat16)), float32))); }, weight);
  };
  const Tensor on_gpu = gradient(to(x, kGpu), to(w, kGpu));
  CHECK(on_gpu.dtype() == float32);
  const Array got(to(on_gpu, cpu_device));
  const Array expected(gradient(x, w));
  for (std::int64_t i = 0; i < got.numel(); ++i)
    CHECK(std::abs(got[i] - expected[i]) <= 0x1p-6 * std::max(8.0, std::abs(expected[i])));
}

}  // namespace solvent::testing
