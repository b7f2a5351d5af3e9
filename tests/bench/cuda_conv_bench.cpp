// Convolutions of a residual network (50 layers, images of 224 x 224) and their two gradients against raw cuDNN in the same
// process, float32; forward also with factors rounded to TF32.

#include <algorithm>
#include <cmath>
#include <string>

#include "solvent/ops/ops.h"
#include "solvent/tests/bench/cuda_compare.h"

namespace solvent::bench {
namespace {

constexpr ConvCase kCases[] = {
    {"7x7s2_3_64_224", 32, 3, 64, 224, 7, 2, 3},     {"1x1_64_256_56", 32, 64, 256, 56, 1, 1, 0},
    {"3x3_64_64_56", 32, 64, 64, 56, 3, 1, 1},       {"3x3_128_128_28", 32, 128, 128, 28, 3, 1, 1},
    {"3x3s2_128_128_56", 32, 128, 128, 56, 3, 2, 1}, {"3x3_256_256_14", 32, 256, 256, 14, 3, 1, 1},
    {"3x3_512_512_7", 32, 512, 512, 7, 3, 1, 1},     {"1x1_2048_512_7", 32, 2048, 512, 7, 1, 1, 0},
};

const char* name_of(ConvPass pass) {
  return pass == ConvPass::forward ? "forward" : pass == ConvPass::input_grad ? "input_grad" : "weight_grad";
}

// A few channels and pixels of the same kind.
ConvCase tiny(ConvCase c) {
  c.n = 2;
  c.c = std::min<std::int64_t>(c.c, 4);
  c.o = std::min<std::int64_t>(c.o, 6);
  c.map = 9;
  return c;
}

Tensor run_pass(const ConvCase& c, ConvPass pass, const Tensor& x, const Tensor& y) {
  const Conv2dOptions options{.stride = c.stride, .padding = c.padding};
  if (pass == ConvPass::forward) return conv2d(x, y, options);
  if (pass == ConvPass::input_grad) return conv2d_input_grad(x, y, c.map, options);
  return conv2d_weight_grad(x, y, c.kernel, options);
}

Row conv_row(const ConvCase& c, ConvPass pass, bool tf32) {
  const Shape map{c.n, c.c, c.map, c.map}, filter{c.o, c.c, c.kernel, c.kernel}, result{c.n, c.o, c.out(), c.out()};
  const Tensor x = device_values(pass == ConvPass::input_grad ? result : map, 1);
  const Tensor y = device_values(pass == ConvPass::weight_grad ? result : filter, 2);
  const Shape shape = pass == ConvPass::forward ? result : pass == ConvPass::input_grad ? map : filter;
  const PeerResult cudnn = cudnn_peer(c, pass, tf32, x, y, shape, 0.97);
  auto ours = [=](const Tensor& p, const Tensor& q) {
    const PrecisionGuard precision(tf32 ? GemmKind::tf32 : GemmKind::f32);
    return run_pass(c, pass, p, q);
  };
  const double terms = static_cast<double>(pass == ConvPass::forward      ? c.c * c.kernel * c.kernel
                                           : pass == ConvPass::input_grad ? c.o * c.kernel * c.kernel
                                                                          : c.n * c.out() * c.out());
  Row row;
  row.run = [=] { keep(ours(x, y)); };
  row.flops = 2.0 * static_cast<double>(c.n * c.out() * c.out() * c.o * c.c * c.kernel * c.kernel);
  row.peers = {cudnn.peer};
  row.error = [=] {
    if (!cudnn.peer.run)
      return largest_difference(to(ours(x, y), cpu_device), ours(to(x, cpu_device), to(y, cpu_device)));
    cudnn.peer.run();
    return largest_difference(ours(x, y), cudnn.result);
  };
  row.tolerance = (tf32 ? 5e-3 : 1e-5) * std::sqrt(terms) + 1e-7 * terms;
  return row;
}

bool add_all() {
  for (const ConvCase& c : kCases)
    for (const ConvPass pass : {ConvPass::forward, ConvPass::input_grad, ConvPass::weight_grad})
      for (const bool tf32 : {false, true}) {
        if (tf32 && pass != ConvPass::forward) continue;
        if (bench_size() != BenchSize::full && &c != &kCases[2] && &c != &kCases[4] && &c != &kCases[7]) continue;
        const ConvCase chosen = bench_size() == BenchSize::smoke ? tiny(c) : c;
        add_cuda_row("conv/" + std::string(c.name) + "/" + name_of(pass) + (tf32 ? "/tf32" : ""),
                     [=] { return conv_row(chosen, pass, tf32); });
      }
  return true;
}

const bool kRegistered = add_all();

}  // namespace
}  // namespace solvent::bench
