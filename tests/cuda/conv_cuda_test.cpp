// Convolutions on a GPU at sizes that reach every kernel: several tiles and parts of one, large and small tiles, groups of
// few channels, classes of strides. The table of operations has small ones.

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "solvent/core/engine/view.h"
#include "solvent/core/matmul_precision.h"
#include "solvent/core/stream.h"
#include "solvent/ops/cuda/conv.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/shape_ops.h"
#include "solvent/tests/cuda/cuda_device.h"
#include "solvent/tests/cuda/device_error.h"
#include "solvent/tests/cuda/same_bits.h"
#include "solvent/tests/ops/conv_sizes.h"
#include "solvent/tests/ops/op_table.h"
#include "solvent/tests/support/catch.h"

namespace solvent::testing {
namespace {

using cpu::ConvGeometry;
using cuda::ConvBackend;

const Device kGpu = cuda_test_device();

const std::vector<ConvSizes> kSizes = {
    {2, 12, 20, 1, conv_axis(9, 5, 1, 2, 2), conv_axis(11, 5, 1, 2, 2)},   // one tile, partly full
    {3, 16, 72, 1, conv_axis(12, 3, 1, 1, 1), conv_axis(10, 3, 1, 1, 1)},  // tiles in both directions, packed results
    {2, 130, 132, 1, conv_axis(11, 3, 1, 1, 0), conv_axis(14, 1)},  // large tiles of float32; few positions per part
    {2, 3, 24, 1, conv_axis(17, 7, 2, 3, 3), conv_axis(16, 7, 2, 3, 3)},       // few channels; classes of a stride
    {2, 16, 32, 2, conv_axis(9, 3, 1, 1, 1), conv_axis(7, 3, 2, 1, 0)},        // groups, asymmetric padding
    {2, 24, 24, 24, conv_axis(11, 3, 1, 1, 1), conv_axis(10, 3, 2, 1, 1)},     // depthwise
    {2, 6, 18, 3, conv_axis(6, 2), conv_axis(6, 3, 1, 2, 0)},                  // groups of few rows
    {2, 8, 9, 1, conv_axis(11, 3, 1, 2, 2, 2), conv_axis(13, 3, 3, 0, 1, 2)},  // dilation; stride 3 and dilation 2
    {2, 8, 8, 1, conv_axis(21, 3, 6, 2, 2, 4),
     conv_axis(13, 2, 4, 0, 1, 6)},                                       // strides and dilations with common divisors
    {2, 8, 8, 1, conv_axis(11, 2, 5), conv_axis(9, 1, 4)},                // positions that no filter sees
    {1, 8, 8, 1, conv_axis(3, 1, 7), conv_axis(3, 3, 9, 1, 1)},           // strides wider than the map
    {2, 8, 8, 1, conv_axis(4, 2, 1, 3, 5), conv_axis(5, 1, 1, 2, 0)},     // padding wider than the filter
    {3, 16, 8, 1, conv_axis(1, 1), conv_axis(140, 5, 1, 4, 0)},           // a causal 1-d convolution
    {5, 9, 10, 1, conv_axis(17, 3, 1, 1, 1), conv_axis(13, 3, 1, 1, 1)},  // several parts of positions
    {2, 8, 8, 1, conv_axis(3, 2, std::int64_t{1} << 30), conv_axis(9, 2)},  // indices that do not fit into tiles
    {1, 5, 7, 1, conv_axis(1, 1), conv_axis(1, 1)},
    {1, 8, 8, 1, conv_axis(1, 1), conv_axis(8, 2, 1, 0, 0, 3)},
};

using Member = Tensor (*)(const Tensor&, const Tensor&, const ConvGeometry&, ConvBackend);
using CpuMember = Tensor (*)(const Tensor&, const Tensor&, const ConvGeometry&, cpu::ConvBackend);

// The three members of the family with operands that fit them.
struct Call {
  std::string name;
  Member run;
  CpuMember expected;
  Tensor a;
  Tensor b;
  std::int64_t terms;  // of each sum
};

std::vector<Call> calls(const ConvSizes& s, DType dtype) {
  const Key key(7);
  const Tensor x = normal_sample(key, 0, {s.n, s.c, s.h.in, s.w.in}, dtype);
  const Tensor w = normal_sample(key, 1, {s.o, s.c / s.groups, s.h.kernel, s.w.kernel}, dtype);
  const Tensor g = normal_sample(key, 2, {s.n, s.o, s.h.out, s.w.out}, dtype);
  const std::int64_t taps = s.h.kernel * s.w.kernel;
  return {{"conv", cuda::conv, cpu::conv, x, w, s.c / s.groups * taps},
          {"conv_input_grad", cuda::conv_input_grad, cpu::conv_input_grad, g, w, s.o / s.groups * taps},
          {"conv_weight_grad", cuda::conv_weight_grad, cpu::conv_weight_grad, x, g, s.n * s.h.out * s.w.out}};
}

Tensor run(const Call& call, const ConvGeometry& g, ConvBackend backend) {
  return to(call.run(to(call.a, kGpu), to(call.b, kGpu), g, backend), cpu_device);
}

bool wants_own_convolutions() {
  const char* const text = std::getenv("SOLVENT_CUDA_CONV");
  return text != nullptr && std::strcmp(text, "own") == 0;
}

std::string words(const Call& call, const ConvSizes& s) {
  return call.name + " " + to_string(call.a.shape()) + " " + to_string(call.b.shape()) + " groups " +
         std::to_string(s.groups);
}

TEST_CASE("cuda convolutions: the kernels agree with the CPU in float64 for every kind of size", "[cuda][conv]") {
  if (!has_cuda_test_device()) return;
  for (const ConvSizes& s : kSizes) {
    const ConvGeometry g{s.h, s.w, s.groups};
    const std::vector<Call> narrow = calls(s, float32);
    const std::vector<Call> wide = calls(s, float64);
    for (std::size_t i = 0; i < narrow.size(); ++i) {
      INFO(words(narrow[i], s));
      const auto terms = static_cast<double>(narrow[i].terms);
      const Call& exact = wide[i];
      const Tensor expected64 = exact.expected(exact.a, exact.b, g, cpu::ConvBackend::gemm);
      const Tensor expected32 =
          exact.expected(cast(narrow[i].a, float64), cast(narrow[i].b, float64), g, cpu::ConvBackend::gemm);
      for (const ConvBackend backend : {ConvBackend::own, ConvBackend::automatic}) {
        CHECK(distance(run(exact, g, backend), expected64) <= 1e-14 * terms + 1e-14);
        // The bound of the CPU's kernels (tests/ops/conv_kernels_test.cpp).
        CHECK(distance(run(narrow[i], g, backend), expected32) <= 5 * 6e-8 * terms + 1e-6);
      }
    }
  }
}

TEST_CASE("cuda convolutions: strided operands and two runs have the same bits", "[cuda][conv]") {
  if (!has_cuda_test_device()) return;
  for (const std::size_t index : {1u, 5u, 13u}) {
    const ConvSizes& s = kSizes[index];
    const ConvGeometry g{s.h, s.w, s.groups};
    for (const Call& call : calls(s, float32)) {
      INFO(words(call, s));
      const Tensor a = to(call.a, kGpu);
      const Tensor strided = permute(engine::contiguous(permute(a, {3, 1, 0, 2})), {2, 1, 3, 0});
      REQUIRE(!strided.is_contiguous());
      const Tensor b = to(call.b, kGpu);
      for (const ConvBackend backend : {ConvBackend::own, ConvBackend::automatic}) {
        const Tensor first = to(call.run(a, b, g, backend), cpu_device);
        CHECK(same_bits(to(call.run(a, b, g, backend), cpu_device), first));
        CHECK(same_bits(to(call.run(strided, b, g, backend), cpu_device), first));
      }
    }
  }
}

TEST_CASE("cuda convolutions: the bits of an image do not depend on the others", "[cuda][conv]") {
  if (!has_cuda_test_device()) return;
  const ConvGeometry g{conv_axis(12, 3, 1, 1, 1), conv_axis(12, 3, 1, 1, 1), 1};
  const Tensor x = to(normal_sample(Key(3), 0, {5, 104, 12, 12}, float32), kGpu);
  const Tensor w = to(normal_sample(Key(3), 1, {100, 104, 3, 3}, float32), kGpu);
  const Tensor all = cuda::conv(x, w, g, ConvBackend::own);  // enough rows and positions for large tiles
  for (const std::int64_t image : {0, 4}) {
    const Tensor one =
        cuda::conv(engine::view(x, {1, 104, 12, 12}, x.strides(), image * 104 * 144), w, g, ConvBackend::own);
    const Tensor part = engine::view(all, {1, 100, 12, 12}, all.strides(), image * 100 * 144);
    CHECK(same_bits(to(engine::contiguous(part), cpu_device), to(one, cpu_device)));
  }
}

TEST_CASE("cuda convolutions: NaN reaches the positions that see it, with own kernels only those", "[cuda][conv]") {
  if (!has_cuda_test_device()) return;
  const ConvGeometry g{conv_axis(6, 3, 1, 1, 1), conv_axis(6, 3, 1, 1, 1), 1};
  std::vector<float> values(16 * 36, 1.0f);
  values[3 * 36 + 2 * 6 + 2] = NAN;
  const Tensor x = from_vector(values, {1, 16, 6, 6}, kGpu);
  for (const ConvBackend backend : {ConvBackend::own, ConvBackend::automatic}) {
    const Array y(to(cuda::conv(x, full({8, 16, 3, 3}, 0.5, {float32, kGpu}), g, backend), cpu_device));
    for_each_index(y.shape, [&](const Dims& at) {
      const bool near = std::abs(at[2] - 2) <= 1 && std::abs(at[3] - 2) <= 1;
      INFO(to_string(at));
      // On a device cuDNN may have chosen an algorithm that transforms tiles.
      const bool is_direct = backend == ConvBackend::own || is_emulated_device();
      CHECK((is_direct ? std::isnan(y.at(at)) == near : std::isnan(y.at(at)) || !near));
    });
  }
}

TEST_CASE("cuda convolutions: empty batches and channels give zeros", "[cuda][conv]") {
  if (!has_cuda_test_device()) return;
  const ConvGeometry g{conv_axis(6, 3), conv_axis(6, 3), 1};
  const Tensor none = zeros({0, 4, 6, 6}, {float32, kGpu});
  CHECK(cuda::conv(none, ones({2, 4, 3, 3}, {float32, kGpu}), g).shape() == Shape{0, 2, 4, 4});
  const Tensor w = cuda::conv_weight_grad(none, zeros({0, 2, 4, 4}, {float32, kGpu}), g);
  CHECK(w.to_vector<float>() == std::vector<float>(2 * 4 * 9, 0.0f));
  const Tensor y = cuda::conv(zeros({2, 0, 6, 6}, {float64, kGpu}), zeros({3, 0, 3, 3}, {float64, kGpu}), g);
  CHECK(y.to_vector<double>() == std::vector<double>(2 * 3 * 16, 0.0));
}

TEST_CASE("cuda convolutions: TF32 where it was asked for, and nowhere else", "[cuda][conv]") {
  if (!has_cuda_test_device()) return;
  const auto rounded = [](const Tensor& x) {
    std::vector<float> values = x.to_vector<float>();
    for (float& value : values) {
      int exponent = 0;
      const float fraction = std::frexp(value, &exponent);
      value = std::ldexp(std::round(std::ldexp(fraction, 11)), exponent - 11);
    }
    return from_vector(values, x.shape());
  };
  for (const std::size_t index : {1u, 3u, 4u}) {
    const ConvSizes& s = kSizes[index];
    ConvGeometry exact{s.h, s.w, s.groups};
    ConvGeometry reduced = exact;
    reduced.precision = MatmulPrecision::tf32;
    for (const Call& call : calls(s, float32)) {
      INFO(words(call, s));
      const double size = std::sqrt(static_cast<double>(call.terms));
      const double rounding = 5 * 6e-8 * static_cast<double>(call.terms) + 1e-6;  // as above
      const auto expected = [&](const Tensor& a, const Tensor& b) {
        return call.expected(cast(a, float64), cast(b, float64), exact, cpu::ConvBackend::gemm);
      };
      const Tensor got = run(call, reduced, ConvBackend::automatic);
      CHECK(distance(got, expected(call.a, call.b)) < 1e-2 * size);
      CHECK(distance(run(call, exact, ConvBackend::automatic), expected(call.a, call.b)) < rounding);
      CHECK(distance(run(call, reduced, ConvBackend::own), expected(call.a, call.b)) < rounding);
      // A device may do without rounding, and own kernels do; the emulator of cuDNN never does.
      if (!is_emulated_device() || wants_own_convolutions()) continue;
      CHECK(distance(got, expected(rounded(call.a), rounded(call.b))) < 2e-6 * size);
      CHECK(distance(got, expected(call.a, call.b)) > 1e-5 * size);
    }
  }
}

TEST_CASE("cuda convolutions: more sizes than plans are kept", "[cuda][conv]") {
  if (!has_cuda_test_device()) return;
  const Tensor w = to(normal_sample(Key(4), 0, {2, 3, 1, 2}, float64), kGpu);
  for (int round = 0; round < 2; ++round)
    for (std::int64_t n = 2; n < 300; n += round == 0 ? 1 : 59) {
      const ConvGeometry g{conv_axis(1, 1), conv_axis(n, 2), 1};
      const Tensor x = to(normal_sample(Key(5), 0, {1, 3, 1, n}, float64), kGpu);
      const Tensor got = cuda::conv(x, w, g, ConvBackend::automatic);
      REQUIRE(distance(to(got, cpu_device), to(cuda::conv(x, w, g, ConvBackend::own), cpu_device)) < 1e-13);
    }
}

TEST_CASE("cuda convolutions: in graphs, by both kinds of kernels", "[cuda][streams][conv]") {
  if (!has_cuda_test_device()) return;
  const ConvSizes& s = kSizes[1];
  const ConvGeometry g{s.h, s.w, s.groups};
  for (const ConvBackend backend : {ConvBackend::own, ConvBackend::automatic})
    for (const Call& call : calls(s, float32)) {
      INFO(words(call, s));
      const Tensor a = to(call.a, kGpu);
      const Tensor b = to(call.b, kGpu);
      Graph recorded = graph([&](const Tensors& in) { return Tensors{call.run(in[0], in[1], g, backend)}; }, {a, b});
      const Tensor half = affine(a, 0.5, 0.0);
      CHECK(same_bits(recorded({half, b})[0], call.run(half, b, g, backend)));
      CHECK(same_bits(recorded({a, b})[0], call.run(a, b, g, backend)));
    }
}

}  // namespace
}  // namespace solvent::testing
