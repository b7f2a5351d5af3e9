// A GRU evaluated in parallel over time (one sequence, T = 300,000), as a user calls it, against the fused step-by-step
// loop. Weights have variance 1/n, which makes the cell contracting: other weights change Newton's iteration count and the
// burn-in that shooting needs. The tolerance is the default of float32; the certificate (largest defect) is reported.

#include <cmath>
#include <string>

#include "solvent/nn/gru.h"
#include "solvent/ops/ops.h"
#include "solvent/solvers/sequence.h"
#include "solvent/tests/bench/compare.h"

namespace solvent::bench {
namespace {

using solvers::SequenceMethod;

constexpr std::int64_t kSteps = 300000;

Row sequence_row(std::int64_t n, std::int64_t batch, std::int64_t steps, SequenceMethod method, double at_least) {
  const double scale = 1 / std::sqrt(static_cast<double>(n));
  const Tensor xs = random_normal({steps, batch, n}), h0 = zeros({batch, n});
  const nn::RecurrentCell cell =
      nn::GruCell::from_theta({random_normal({3 * n, n}, 2) * scale, random_normal({3 * n, n}, 3) * scale,
                               random_normal({3 * n}, 4) * 0.1, random_normal({n}, 5) * 0.1})
          .functions();
  auto solve = [=](const SequenceMethod& m) { return solvers::solve_sequence(cell, h0, xs, m); };
  const solvers::Solution parallel = solve(method);
  Row row;
  row.run = [=] { keep(solve(method).value); };
  row.peers = {
      {.name = "fused sequential", .run = [=] { keep(solve(solvers::Sequential{}).value); }, .at_least = at_least}};
  row.error = [=] { return max_difference(solve(method).value, solve(solvers::Sequential{}).value); };
  row.tolerance = 1e-3;
  row.rounds = 15;
  row.extra = {{"x:steps", parallel.stats.steps}, {"x:residual", parallel.stats.residual}};
  return row;
}

bool add_sequence(const std::string& name, SequenceMethod method, std::int64_t n, double at_least) {
  return add_row("sequence/" + name + "_n" + std::to_string(n) + "_T300000_B1",
                 [=] { return sequence_row(n, 1, kSteps, method, at_least); });
}

const bool kRegistered[] = {
    add_sequence("shooting", solvers::Shooting{}, 1, 20),
    add_sequence("shooting", solvers::Shooting{}, 2, 12),
    add_sequence("shooting", solvers::Shooting{}, 4, 6),
    add_sequence("shooting", solvers::Shooting{}, 8, 3),
    add_sequence("shooting", solvers::Shooting{}, 16, 1.8),
    add_sequence("deer", solvers::Deer{}, 1, 5),
    add_sequence("deer", solvers::Deer{}, 2, 2),
    add_sequence("deer", solvers::Deer{}, 4, 0),
    add_sequence("deer", solvers::Deer{}, 8, 0),
    add_row("sequence/shooting_n4_T100000_B16", [] { return sequence_row(4, 16, 100000, solvers::Shooting{}, 0); }),
};

}  // namespace
}  // namespace solvent::bench
