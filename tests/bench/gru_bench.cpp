// The fused GRU over a sequence, forward and backward with respect to inputs and all parameters, against libtorch's
// nn.GRU. libtorch takes seconds per call, so it takes part in few rounds.

#include <cmath>
#include <string>
#include <vector>

#include "solvent/autodiff/transforms.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/bench/compare.h"
#include "solvent/tests/bench/torch_peers.h"

namespace solvent::bench {
namespace {

constexpr std::int64_t kBatch = 16;

struct Problem {
  Tensor xs, h0, w_ih, w_hh, b, b_hn;
  std::vector<float> torch_b_ih, torch_b_hh;
};

Problem make_problem(std::int64_t t, std::int64_t hidden) {
  const double scale = 1 / std::sqrt(static_cast<double>(hidden));
  Problem p;
  p.xs = random_normal({t, kBatch, hidden}, 1);
  p.h0 = random_normal({kBatch, hidden}, 2) * 0.1;
  p.w_ih = random_normal({3 * hidden, hidden}, 3) * (scale * 0.5);
  p.w_hh = random_normal({3 * hidden, hidden}, 4) * (scale * 0.5);
  p.b = random_normal({3 * hidden}, 5) * 0.1;
  p.b_hn = random_normal({hidden}, 6) * 0.1;
  p.torch_b_ih = p.b.to_vector<float>();
  p.torch_b_hh.assign(static_cast<std::size_t>(3 * hidden), 0.0f);
  const std::vector<float> last = p.b_hn.to_vector<float>();
  std::copy(last.begin(), last.end(), p.torch_b_hh.end() - hidden);
  return p;
}

double gru_flops(std::int64_t t, std::int64_t hidden) {
  return 12.0 * static_cast<double>(t * kBatch) * static_cast<double>(hidden * hidden);
}

Tensors gradients(const Problem& p, const Tensor& seed) {
  auto f = [](const Tensors& v) { return Tensors{gru_sequence(v[0], v[1], v[2], v[3], v[4], v[5])}; };
  return vjp(TensorsFn(f), {p.xs, p.h0, p.w_ih, p.w_hh, p.b, p.b_hn}).pullback(Tensors{seed});
}

Row gru_row(std::int64_t t, std::int64_t hidden, bool backward, double limit, double of_torch) {
  const Problem p = make_problem(t, hidden);
  const torch_peer::Call torch =
      torch_peer::gru({t, kBatch, hidden, hidden}, p.xs.data<float>(), p.h0.data<float>(), p.w_ih.data<float>(),
                      p.w_hh.data<float>(), p.torch_b_ih.data(), p.torch_b_hh.data(), backward);
  const Tensor seed = ones({t, kBatch, hidden});
  Row row;
  row.at_most = limit;
  row.flops = gru_flops(t, hidden) * (backward ? 3 : 1);
  row.rounds = 15;
  row.peers = {{.name = "libtorch", .run = torch.run, .at_least = of_torch, .max_rounds = 2}};
  if (backward) {
    row.run = [p, seed] { keep(gradients(p, seed)[3]); };
    row.note = "gradients of inputs, state and parameters";
    if (torch.result) {
      row.error = [p, seed, result = torch.result] {
        const Tensor expected = from_vector(result(), p.w_hh.shape());
        const double size = max(abs(expected)).item();
        return max_difference(gradients(p, seed)[3], expected) / size;
      };
      row.tolerance = 1e-3;  // relative: float32 sums over all steps in different orders
    }
  } else {
    row.run = [p] { keep(gru_sequence(p.xs, p.h0, p.w_ih, p.w_hh, p.b, p.b_hn)); };
    if (torch.result) {
      row.error = [p, result = torch.result] {
        return max_difference(gru_sequence(p.xs, p.h0, p.w_ih, p.w_hh, p.b, p.b_hn), result());
      };
      row.tolerance = 1e-4;
    }
  }
  return row;
}

const bool kRegistered[] = {
    add_row("gru/H16_T10000_B16/forward", [] { return gru_row(10000, 16, false, 0, 0); }),
    add_row("gru/H16_T10000_B16/backward", [] { return gru_row(10000, 16, true, 0.04, 40); }),
    add_row("gru/H64_T10000_B16/forward", [] { return gru_row(10000, 64, false, 0, 0); }),
    add_row("gru/H64_T10000_B16/backward", [] { return gru_row(10000, 64, true, 0.20, 10); }),
    add_row("gru/H256_T2000_B16/forward", [] { return gru_row(2000, 256, false, 0, 0); }),
    add_row("gru/H256_T2000_B16/backward", [] { return gru_row(2000, 256, true, 0.55, 3); }),
};

}  // namespace
}  // namespace solvent::bench
