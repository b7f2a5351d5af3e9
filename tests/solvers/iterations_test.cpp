// Newton and quasi-Newton iteration counts of GRUs, against the counts measured with an independent implementation
// (NumPy and PyTorch) for the specification: contracting cells need 4 to 7 Newton steps whatever T and n are.

#include <array>
#include <cmath>

#include "solvent/nn/gru.h"
#include "solvent/ops/ops.h"
#include "solvent/solvers/sequence.h"
#include "solvent/tests/support/catch.h"

using namespace solvent;
using namespace solvent::solvers;

namespace {

struct Range {
  int low, high;
};

// Iterations by the original's rule |dh| <= atol + rtol |h| (repo) and by max |dh| <= tight.
struct Row {
  nn::RecurrentInit init;
  std::int64_t n;
  Range f32_repo, f32_tight, f64_repo, f64_tight;
  Range quasi32_repo, quasi64_repo;
};

constexpr auto kEquinox = nn::RecurrentInit::equinox;
constexpr auto kFlax = nn::RecurrentInit::flax;

const std::array<Row, 10> kRows = {{{kEquinox, 1, {3, 4}, {4, 4}, {4, 4}, {5, 5}, {3, 4}, {4, 4}},
                                    {kEquinox, 2, {4, 4}, {4, 5}, {4, 5}, {5, 6}, {6, 11}, {8, 14}},
                                    {kEquinox, 4, {4, 4}, {4, 5}, {4, 5}, {5, 6}, {7, 8}, {9, 11}},
                                    {kEquinox, 8, {4, 4}, {4, 5}, {4, 5}, {5, 6}, {7, 8}, {10, 11}},
                                    {kEquinox, 16, {4, 4}, {4, 4}, {4, 4}, {5, 6}, {8, 8}, {11, 11}},
                                    {kFlax, 1, {3, 5}, {4, 6}, {4, 6}, {5, 7}, {3, 5}, {4, 6}},
                                    {kFlax, 2, {4, 5}, {5, 5}, {5, 5}, {6, 6}, {7, 12}, {10, 17}},
                                    {kFlax, 4, {4, 5}, {5, 5}, {5, 5}, {6, 7}, {10, 11}, {13, 15}},
                                    {kFlax, 8, {5, 5}, {5, 5}, {5, 5}, {6, 6}, {11, 12}, {14, 16}},
                                    {kFlax, 16, {4, 4}, {5, 5}, {5, 5}, {6, 6}, {10, 11}, {14, 15}}}};

struct Problem {
  SequenceCell cell;
  Tensors theta;
  Tensor h0, xs;
};

Problem make(const Row& row, std::int64_t steps, DType dtype) {
  const std::int64_t batch = row.n <= 8 ? 4 : 1;
  const nn::GruCell gru(row.n, row.n, Key(17, static_cast<std::uint64_t>(row.n)), {.init = row.init, .dtype = dtype});
  return {sequence_cell(gru.functions()), gru.theta(), zeros({batch, row.n}, dtype),
          normal(Key(18), {steps, batch, row.n}, 0, 1, dtype)};
}

int iterations(const Problem& p, const SequenceMethod& method, double atol, double rtol) {
  Options o;
  o.termination = {.on = Criterion::step, .atol = atol, .rtol = rtol};
  o.initial_guess = zeros({p.xs.size(0), p.xs.size(1), p.h0.size(1)}, p.h0.dtype());
  const Solution s = solve_sequence(p.cell, p.h0, p.xs, p.theta, method, o);
  const Tensor exact = solve_sequence(p.cell, p.h0, p.xs, p.theta, Sequential{}).value;
  const double tolerance = p.h0.dtype() == float32 ? 2e-6 : 1e-13;
  if (rtol == 0) CHECK(max(abs(s.value - exact)).item() <= tolerance);
  return s.stats.steps;
}

void check(const char* what, int got, Range expected) {
  INFO(what << ": " << got << " iterations, expected " << expected.low << ".." << expected.high << " +- 1");
  CHECK(got >= expected.low - 1);
  CHECK(got <= expected.high + 1);
}

}  // namespace

TEST_CASE("iteration counts of DEER and quasi-DEER on GRUs are those of the specification") {
  for (const Row& row : kRows) {
    for (const std::int64_t steps : {std::int64_t{1000}, std::int64_t{10000}}) {
      INFO((row.init == kFlax ? "flax" : "equinox") << " n = " << row.n << " T = " << steps);
      const Problem single = make(row, steps, float32), wide = make(row, steps, float64);
      const Deer dense{.fused = false}, quasi{.jacobian = JacobianKind::diagonal};
      check("float32", iterations(single, dense, 1e-4, 1e-3), row.f32_repo);
      check("float32 tight", iterations(single, dense, 2e-6, 0), row.f32_tight);
      check("float64", iterations(wide, dense, 1e-6, 1e-4), row.f64_repo);
      check("float64 tight", iterations(wide, dense, 1e-13, 0), row.f64_tight);
      check("quasi float32", iterations(single, quasi, 1e-4, 1e-3), row.quasi32_repo);
      check("quasi float64", iterations(wide, quasi, 1e-6, 1e-4), row.quasi64_repo);
    }
  }
}

TEST_CASE("warm starts after a small change of all weights save iterations") {
  const nn::GruCell gru(16, 16, Key(21), {.init = kFlax});
  const Tensor xs = normal(Key(22), {4000, 1, 16}), h0 = zeros({1, 16});
  const SequenceCell cell = sequence_cell(gru.functions());
  const auto count = [&](const Tensors& theta, const Tensor& guess) {
    Options o;
    o.termination = {.on = Criterion::step, .atol = 1e-4, .rtol = 1e-3};
    o.initial_guess = guess;
    return solve_sequence(cell, h0, xs, theta, Deer{.fused = false}, o);
  };
  const Solution cold = count(gru.theta(), zeros({4000, 1, 16}));
  CHECK(count(gru.theta(), cold.value).stats.steps == 1);
  for (const auto& [size, most] : {std::pair{1e-4, 2}, std::pair{1e-3, 3}, std::pair{1e-2, 3}}) {
    Tensors moved;
    for (std::size_t i = 0; i < 4; ++i)
      moved.push_back(gru.theta()[i] + normal(Key(23, i), gru.theta()[i].shape()) * size);
    const int steps = count(moved, cold.value).stats.steps;
    CHECK(steps <= most);
    CHECK(steps < cold.stats.steps);
  }
}
