// The two implementations of convolutions against each other, and the cutting into pieces.

#include "solvent/ops/cpu/conv_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "solvent/core/parallel.h"
#include "solvent/ops/elementwise.h"
#include "solvent/tests/ops/conv_sizes.h"
#include "solvent/tests/ops/op_table.h"
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
  return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0;
}

TEST_CASE("conv kernels: oneDNN and the matrix products agree with float64 for every kind of size") {
  for (const ConvSizes& s : kSizes) {
    const std::vector<Call> narrow = calls(s, float32);
    const std::vector<Call> wide = calls(s, float64);
    for (std::size_t i = 0; i < narrow.size(); ++i) {
      const Call& call = narrow[i];
      INFO(call.name << " x " << to_string(map_shape(s)) << " w " << to_string(filter_shape(s)) << " groups "
                     << s.groups);
      const ConvGeometry g{s.h, s.w, s.groups};
      const Tensor expected = wide[i].run(cast(call.a, float64), cast(call.b, float64), g, ConvBackend::automatic);
      // Random walk of the rounding errors of products with variance 1, five standard deviations.
      const double tolerance = 5 * 6e-8 * static_cast<double>(call.terms) + 1e-6;
      CHECK(distance(call.run(call.a, call.b, g, ConvBackend::gemm), expected) <= tolerance);
      CHECK(distance(call.run(call.a, call.b, g, ConvBackend::onednn), expected) <= tolerance);
    }
  }
}

TEST_CASE("conv kernels: the bits do not depend on the number of threads, with either implementation") {
  for (const ConvSizes& s : kSizes)
    for (const Call& call : calls(s, float32)) {
      INFO(call.name << " x " << to_string(map_shape(s)) << " w " << to_string(filter_shape(s)) << " groups "
                     << s.groups);
      const ConvGeometry g{s.h, s.w, s.groups};
      for (const ConvBackend backend : {ConvBackend::gemm, ConvBackend::onednn}) {
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
  for (const ConvBackend backend : {ConvBackend::gemm, ConvBackend::onednn}) {
    std::vector<float> values(16 * 36, 1.0f);
    values[3 * 36 + 2 * 6 + 2] = NAN;
    const Tensor x = from_vector(values, {1, 16, 6, 6});
    const Array y(cpu::conv(x, full({8, 16, 3, 3}, 0.5), g, backend));
    for_each_index(y.shape, [&](const Dims& at) {
      const bool near = std::abs(at[2] - 2) <= 1 && std::abs(at[3] - 2) <= 1;
      INFO(to_string(at));
      CHECK(std::isnan(y.at(at)) == near);
    });
  }
}

}  // namespace
}  // namespace solvent::testing
