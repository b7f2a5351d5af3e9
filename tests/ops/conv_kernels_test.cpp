// The implementations of convolutions against each other, and the cutting into pieces.

#include "solvent/ops/cpu/conv_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "solvent/core/parallel.h"
#include "solvent/ops/elementwise.h"
#include "solvent/tests/ops/conv_sizes.h"
#include "solvent/tests/ops/op_table.h"
#include "solvent/tests/ops/vector_test_tools.h"
#include "solvent/tests/support/catch.h"
#include "solvent/tests/support/larger.h"

namespace solvent::testing {
namespace {

using cpu::ConvBackend;
using cpu::ConvGeometry;

// Full and partial blocks of channels, few channels, depthwise, one image with many channels (channels are cut), batches
// that do not divide into parts, groups that are cut to one, padding wider than the filter, strides that leave rows over.
const std::vector<ConvSizes> kSizes = {
    {2, 16, 16, 1, conv_axis(12, 3, 1, 1, 1), conv_axis(10, 3, 1, 1, 1)},
    {3, 12, 20, 1, conv_axis(9, 5, 1, 2, 2), conv_axis(9, 5, 1, 2, 2)},
    {2, 3, 24, 1, conv_axis(17, 7, 2, 3, 3), conv_axis(16, 7, 2, 3, 3)},
    {2, 1, 8, 1, conv_axis(8, 3), conv_axis(9, 2)},
    {1, 72, 136, 1, conv_axis(20, 3, 1, 1, 1), conv_axis(20, 3, 1, 1, 1)},
    {19, 64, 32, 1, conv_axis(8, 1), conv_axis(8, 1)},
    {35, 16, 16, 1, conv_axis(8, 3, 1, 1, 1), conv_axis(8, 3, 1, 1, 1)},
    {2, 32, 16, 1, conv_axis(10, 1, 2), conv_axis(10, 1, 2)},
    {2, 16, 32, 4, conv_axis(9, 3, 1, 1, 1), conv_axis(7, 3, 2, 1, 0)},
    {3, 24, 24, 24, conv_axis(11, 3, 1, 1, 1), conv_axis(10, 3, 2, 1, 1)},
    {2, 6, 18, 3, conv_axis(6, 2), conv_axis(6, 3, 1, 2, 0)},
    {7, 48, 16, 2, conv_axis(52, 3, 2), conv_axis(52, 3, 2)},
    {1, 96, 64, 2, conv_axis(20, 3), conv_axis(20, 3)},
    {2, 8, 8, 1, conv_axis(11, 3, 1, 2, 2, 2), conv_axis(13, 3, 3, 0, 1, 2)},
    {2, 8, 8, 1, conv_axis(4, 2, 1, 3, 5), conv_axis(5, 1, 1, 2, 0)},
    {2, 16, 8, 1, conv_axis(1, 1), conv_axis(40, 5, 1, 4, 0)},
    {1, 5, 7, 1, conv_axis(1, 1), conv_axis(1, 1)},
    // Partial sums of weight gradients in trees of 3, 11 and 16 parts; filters that are packed by several threads.
    {3, 16, 24, 1, conv_axis(30, 3), conv_axis(30, 3)},
    {11, 16, 24, 1, conv_axis(30, 3), conv_axis(30, 3)},
    {32, 16, 32, 1, conv_axis(20, 2), conv_axis(22, 3)},
    {1, 80, 90, 1, conv_axis(5, 2), conv_axis(5, 3)},
};

cpu::ConvAxis tile_axis(std::int64_t in, std::int64_t before, std::int64_t after) {
  return conv_axis(in, 3, 1, before, after);
}

// For 2 x 2 tiles: odd and even maps, rows of tiles that fill vectors and that do not, padding up to the filter's width and
// beyond, on one side only; channels that leave registers, panels and groups partly empty; one piece and many, both ways of
// summing weight gradients, and tiles that end in the middle of a row.
const std::vector<ConvSizes> kTileSizes = {
    {1, 1, 1, 1, tile_axis(3, 0, 0), tile_axis(3, 0, 0)},     {3, 1, 3, 1, tile_axis(4, 1, 1), tile_axis(5, 1, 1)},
    {1, 3, 16, 1, tile_axis(7, 2, 2), tile_axis(9, 2, 2)},    {3, 17, 3, 1, tile_axis(6, 0, 1), tile_axis(11, 1, 0)},
    {1, 16, 65, 1, tile_axis(8, 2, 0), tile_axis(33, 0, 2)},  {3, 65, 17, 1, tile_axis(13, 1, 1), tile_axis(14, 1, 1)},
    {3, 64, 64, 1, tile_axis(15, 1, 1), tile_axis(16, 1, 1)}, {1, 17, 20, 1, tile_axis(5, 1, 1), tile_axis(131, 1, 2)},
    {2, 8, 8, 1, tile_axis(3, 3, 4), tile_axis(2, 4, 3)},     {1, 136, 260, 1, tile_axis(12, 1, 1), tile_axis(9, 1, 1)},
    {9, 200, 180, 1, tile_axis(8, 1, 1), tile_axis(8, 1, 1)},
};

std::vector<ConvSizes> all_sizes() {
  std::vector<ConvSizes> all = kSizes;
  all.insert(all.end(), kTileSizes.begin(), kTileSizes.end());
  return all;
}

Shape map_shape(const ConvSizes& s) { return {s.n, s.c, s.h.in, s.w.in}; }
Shape filter_shape(const ConvSizes& s) { return {s.o, s.c / s.groups, s.h.kernel, s.w.kernel}; }
Shape result_shape(const ConvSizes& s) { return {s.n, s.o, s.h.out, s.w.out}; }

using Member = Tensor (*)(const Tensor&, const Tensor&, const ConvGeometry&, ConvBackend);

// The three members of the family with operands that fit them.
struct Call {
  std::string name;
  Member run;
  Tensor a;
  Tensor b;
  std::int64_t terms;  // of each sum
};

std::vector<Call> calls(const ConvSizes& s, DType dtype) {
  const Key key(7);
  const Tensor x = normal_sample(key, 0, map_shape(s), dtype);
  const Tensor w = normal_sample(key, 1, filter_shape(s), dtype);
  const Tensor g = normal_sample(key, 2, result_shape(s), dtype);
  const std::int64_t taps = s.h.kernel * s.w.kernel;
  return {{"conv", cpu::conv, x, w, s.c / s.groups * taps},
          {"conv_input_grad", cpu::conv_input_grad, g, w, s.o / s.groups * taps},
          {"conv_weight_grad", cpu::conv_weight_grad, x, g, s.n * s.h.out * s.w.out}};
}

// Random walk of the rounding errors of products with variance 1, five standard deviations.
double tolerance_of(const Call& call) { return 5 * 6e-8 * static_cast<double>(call.terms) + 1e-6; }

// Largest difference of two tensors in double.
double distance(const Tensor& a, const Tensor& b) {
  const Array x(a);
  const Array y(b);
  double largest = 0;
  for (std::int64_t i = 0; i < x.numel(); ++i) largest = larger(largest, std::abs(x[i] - y[i]));
  return largest;
}

bool same_bits(const Tensor& a, const Tensor& b) {
  const std::vector<float> x = a.to_vector<float>();
  const std::vector<float> y = b.to_vector<float>();
  return x.size() == y.size() && (x.empty() || std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0);
}

TEST_CASE("conv kernels: all implementations agree with float64 for every kind of size") {
  for (const ConvSizes& s : all_sizes()) {
    const std::vector<Call> narrow = calls(s, float32);
    const std::vector<Call> wide = calls(s, float64);
    for (std::size_t i = 0; i < narrow.size(); ++i) {
      const Call& call = narrow[i];
      INFO(call.name << " x " << to_string(map_shape(s)) << " w " << to_string(filter_shape(s)) << " groups "
                     << s.groups);
      const ConvGeometry g{s.h, s.w, s.groups};
      const Tensor expected = wide[i].run(cast(call.a, float64), cast(call.b, float64), g, ConvBackend::automatic);
      const double tolerance = tolerance_of(call);
      CHECK(distance(call.run(call.a, call.b, g, ConvBackend::gemm), expected) <= tolerance);
      CHECK(distance(call.run(call.a, call.b, g, ConvBackend::onednn), expected) <= tolerance);
      CHECK(distance(call.run(call.a, call.b, g, ConvBackend::winograd), expected) <= tolerance);
    }
  }
}

TEST_CASE("conv kernels: the bits do not depend on the number of threads, with any implementation") {
  for (const ConvSizes& s : all_sizes())
    for (const Call& call : calls(s, float32)) {
      INFO(call.name << " x " << to_string(map_shape(s)) << " w " << to_string(filter_shape(s)) << " groups "
                     << s.groups);
      const ConvGeometry g{s.h, s.w, s.groups};
      for (const ConvBackend backend : {ConvBackend::gemm, ConvBackend::onednn, ConvBackend::winograd}) {
        Tensor first;
        for (const int threads : {1, 2, 3, 4}) {
          const NumThreadsGuard guard(threads);
          const Tensor result = call.run(call.a, call.b, g, backend);
          if (!first.defined()) first = result;
          CHECK(same_bits(result, first));
        }
      }
    }
}

TEST_CASE("conv kernels: NaN and infinity reach the positions that see them, and only those") {
  const ConvGeometry g{conv_axis(6, 3, 1, 1, 1), conv_axis(6, 3, 1, 1, 1), 1};
  // At every place of a tile. Between tiles' inner elements infinity may become NaN, as differences are formed.
  for (const ConvBackend backend : {ConvBackend::gemm, ConvBackend::onednn, ConvBackend::winograd})
    for (const float bad : {NAN, INFINITY})
      for (const auto& place : {std::pair{2, 2}, {1, 4}, {4, 3}, {3, 1}, {0, 5}}) {
        const int row = place.first, column = place.second;
        std::vector<float> values(16 * 36, 1.0f);
        values[static_cast<std::size_t>(3 * 36 + row * 6 + column)] = bad;
        const Tensor x = from_vector(values, {1, 16, 6, 6});
        const Tensor w = full({8, 16, 3, 3}, 0.5);
        const Tensor turned = full({16, 8, 3, 3}, 0.5);
        for (const Tensor& result : {cpu::conv(x, w, g, backend), cpu::conv_input_grad(x, turned, g, backend)}) {
          const Array y(result);
          for_each_index(y.shape, [&](const Dims& at) {
            const bool near = std::abs(at[2] - row) <= 1 && std::abs(at[3] - column) <= 1;
            INFO(to_string(at) << " from " << row << ", " << column);
            CHECK(std::isfinite(y.at(at)) != near);
            if (std::isnan(bad)) CHECK(std::isnan(y.at(at)) == near);
          });
        }
      }
}

// Root mean square of the errors, each relative to the sum of the absolute values of its terms.
double relative_error(const Tensor& y, const Tensor& expected, const Tensor& magnitude) {
  const Array a(y);
  const Array b(expected);
  const Array scale(magnitude);
  double sum = 0;
  for (std::int64_t i = 0; i < a.numel(); ++i) {
    const double error = (a[i] - b[i]) / scale[i];
    sum += error * error;
  }
  return std::sqrt(sum / static_cast<double>(a.numel()));
}

TEST_CASE("conv kernels: tiles lose little accuracy, also on maps far from 0") {
  const ConvSizes s{4, 48, 64, 1, tile_axis(16, 1, 1), tile_axis(16, 1, 1)};
  const ConvGeometry g{s.h, s.w, s.groups};
  for (const double mean : {0.0, 10.0})
    for (Call& call : calls(s, float32)) {
      INFO(call.name << " mean " << mean);
      call.a = call.a + mean;
      const Tensor a = cast(call.a, float64);
      const Tensor b = cast(call.b, float64);
      const Tensor expected = call.run(a, b, g, ConvBackend::gemm);
      const Tensor magnitude = call.run(abs(a), abs(b), g, ConvBackend::gemm);
      const double products = relative_error(call.run(call.a, call.b, g, ConvBackend::gemm), expected, magnitude);
      const double tiles = relative_error(call.run(call.a, call.b, g, ConvBackend::winograd), expected, magnitude);
      CHECK(tiles > 0);
      CHECK(tiles <= 4 * products);  // 0.7 to 2.7 were measured
    }
}

TEST_CASE("conv kernels: tiles with every instruction set") {
  vector_test::for_each_target([&](bool /*fused*/) {
    for (const ConvSizes& s : kTileSizes)
      for (const Call& call : calls(s, float32)) {
        INFO(call.name << " x " << to_string(map_shape(s)) << " w " << to_string(filter_shape(s)));
        const ConvGeometry g{s.h, s.w, s.groups};
        const Tensor expected = call.run(call.a, call.b, g, ConvBackend::gemm);
        CHECK(distance(call.run(call.a, call.b, g, ConvBackend::winograd), expected) <= 2 * tolerance_of(call));
      }
  });
}

TEST_CASE("conv kernels: what tiles do not serve goes to oneDNN as before") {
  if (!cpu::has_onednn()) return;
  // As many channels as tiles want, but other filters, strides, distances, groups.
  const std::vector<ConvSizes> sizes = {{3, 96, 64, 1, conv_axis(28, 2, 1, 1, 0), conv_axis(28, 3, 1, 1, 1)},
                                        {8, 64, 64, 1, conv_axis(28, 3, 2, 1, 1), conv_axis(28, 3, 2, 1, 1)},
                                        {3, 64, 64, 1, conv_axis(28, 3, 1, 2, 2, 2), conv_axis(28, 3, 1, 2, 2, 2)},
                                        {3, 128, 128, 2, conv_axis(28, 3, 1, 1, 1), conv_axis(28, 3, 1, 1, 1)}};
  for (const ConvSizes& s : sizes)
    for (const Call& call : calls(s, float32)) {
      INFO(call.name << " x " << to_string(map_shape(s)) << " w " << to_string(filter_shape(s)));
      const ConvGeometry g{s.h, s.w, s.groups};
      const Tensor chosen = call.run(call.a, call.b, g, ConvBackend::automatic);
      CHECK(same_bits(chosen, call.run(call.a, call.b, g, ConvBackend::onednn)));
      CHECK_FALSE(same_bits(chosen, call.run(call.a, call.b, g, ConvBackend::gemm)));
    }
}

TEST_CASE("conv kernels: SOLVENT_CONV=direct refuses tiles", "[conv_direct]") {
  const char* text = std::getenv("SOLVENT_CONV");
  const bool refused = text != nullptr && std::string(text) == "direct";
  const ConvSizes s{16, 64, 64, 1, tile_axis(16, 1, 1), tile_axis(16, 1, 1)};
  for (const Call& call : calls(s, float32)) {
    INFO(call.name << (refused ? ", refused" : ""));
    const ConvGeometry g{s.h, s.w, s.groups};
    const Tensor tiles = call.run(call.a, call.b, g, ConvBackend::winograd);
    const Tensor direct = call.run(call.a, call.b, g, cpu::has_onednn() ? ConvBackend::onednn : ConvBackend::gemm);
    CHECK_FALSE(same_bits(tiles, direct));
    CHECK(same_bits(call.run(call.a, call.b, g, ConvBackend::automatic), refused ? direct : tiles));
  }
}

}  // namespace
}  // namespace solvent::testing
