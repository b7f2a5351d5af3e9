// What an operation costs beside its arithmetic: operations on 8 floats without a transform, recorded on a tape, and
// recorded and differentiated. Times are per operation.

#include "solvent/autodiff/transforms.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/bench/compare.h"
#include "solvent/tests/bench/torch_peers.h"

namespace solvent::bench {
namespace {

using torch_peer::Mode;

constexpr int kSize = 8;
constexpr int kLength = 100;
constexpr double kTorchTarget = 6;

Tensor chain(Tensor h, const Tensor& b, bool multiply) {
  for (int i = 0; i < kLength; ++i) h = multiply ? h * b : h + b;
  return h;
}

Row chain_row(bool multiply, Mode mode, double limit) {
  const Tensor x = ones({kSize}), b = ones({kSize});
  const torch_peer::Call peer = torch_peer::chain(multiply, kSize, kLength, mode);
  Row row;
  row.items = kLength;
  row.at_most = limit;
  row.peers = {{.name = "libtorch", .run = peer.run, .at_least = limit > 0 ? kTorchTarget : 0}};
  auto f = [b, multiply](const Tensor& h) { return chain(h, b, multiply); };
  std::function<Tensor()> result;
  switch (mode) {
    case Mode::untaped:
      // `x` stays alive and every intermediate is donated but the first: keep a second handle to forbid that.
      row.run = [x, b, multiply] {
        for (int i = 0; i < kLength; ++i) keep(multiply ? x * b : x + b);
      };
      row.note = "fresh output";
      result = [x, f] { return f(x); };
      break;
    case Mode::recorded:
      row.run = [x, f] { keep(vjp(f, x).value); };
      row.note = "tape made, kept for 100 operations and dropped";
      result = [x, f] { return vjp(f, x).value; };
      break;
    case Mode::backward: {
      const Tensor seed = ones({kSize});
      row.run = [x, f, seed] { keep(vjp(f, x).pullback(seed)); };
      result = [x, f, seed] { return vjp(f, x).pullback(seed); };
      break;
    }
  }
  if (peer.result) row.error = [result, peer] { return max_difference(result(), peer.result()); };
  return row;
}

const bool kRegistered[] = {
    add_row("overhead/add_8/untaped", [] { return chain_row(false, Mode::untaped, 100e-9); }),
    add_row("overhead/add_8/recorded", [] { return chain_row(false, Mode::recorded, 200e-9); }),
    add_row("overhead/add_8/backward", [] { return chain_row(false, Mode::backward, 400e-9); }),
    add_row("overhead/mul_8/untaped", [] { return chain_row(true, Mode::untaped, 0); }),
    add_row("overhead/mul_8/recorded", [] { return chain_row(true, Mode::recorded, 0); }),
    add_row("overhead/mul_8/backward", [] { return chain_row(true, Mode::backward, 0); }),
};

}  // namespace
}  // namespace solvent::bench
