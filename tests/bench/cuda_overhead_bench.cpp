// What the host spends on one operation of 8 floats on the GPU: plain, recorded on a tape, and inside a replayed graph. Times
// are the host's per operation, without waiting for the device.

#include <functional>
#include <memory>
#include <string>

#include "solvent/autodiff/transforms.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/bench/cuda_compare.h"

namespace solvent::bench {
namespace {

constexpr int kLength = 100;

Tensor chain(Tensor h, const Tensor& b) {
  for (int i = 0; i < kLength; ++i) h = h + b;
  return h;
}

Row overhead_row(double limit, std::function<void(const Tensor&, const Tensor&)> run, const std::string& note) {
  const Tensor x = ones({8}, {float32, bench_gpu()}), b = ones({8}, {float32, bench_gpu()});
  Row row;
  row.items = kLength;
  row.at_most = limit;
  row.run = [=] { run(x, b); };
  row.error = [=] { return largest_difference(chain(x, b), full({8}, 1.0 + kLength, {float32, bench_gpu()})); };
  row.note = note;
  return row;
}

Row replay_row() {
  const Tensor x = ones({8}, {float32, bench_gpu()}), b = ones({8}, {float32, bench_gpu()});
  auto replay = std::make_shared<Graph>(graph([](const Tensors& in) { return Tensors{chain(in[0], in[1])}; }, {x, b}));
  Row row;
  row.items = kLength;
  row.run = [=] { keep((*replay)({x, b})[0]); };
  row.error = [=] { return largest_difference((*replay)({x, b})[0], chain(x, b)); };
  row.note = "one replay of 100 additions";
  return row;
}

const bool kRegistered[] = {
    add_cuda_row(
        "overhead/add_8/untaped",
        [] {
          return overhead_row(
              3e-6,
              [](const Tensor& x, const Tensor& b) {
                for (int i = 0; i < kLength; ++i) keep(x + b);
              },
              "fresh output");
        },
        enqueue_seconds),
    add_cuda_row(
        "overhead/add_8/recorded",
        [] {
          return overhead_row(
              4e-6,
              [](const Tensor& x, const Tensor& b) {
                keep(vjp([b](const Tensor& h) { return chain(h, b); }, x).value);
              },
              "tape made and dropped");
        },
        enqueue_seconds),
    add_cuda_row("overhead/add_8/graph", replay_row, enqueue_seconds),
};

}  // namespace
}  // namespace solvent::bench
