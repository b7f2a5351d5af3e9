// A GRU over a long sequence on a GPU: the fused step-by-step kernel, Newton's method and multiple shooting, each to a residual
// of 1e-6 that is checked with other code; and value and gradients of one sequence of 300,000 steps with one state. cuDNN's
// GRU and the same method in JAX are in peers/.

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <variant>

#include "solvent/autodiff/transforms.h"
#include "solvent/nn/gru.h"
#include "solvent/ops/ops.h"
#include "solvent/solvers/sequence.h"
#include "solvent/tests/bench/cuda_compare.h"

namespace solvent::bench {
namespace {

using solvers::SequenceMethod;

struct Problem {
  nn::RecurrentCell cell;
  Tensor xs, h0;
};

// Weights of variance 1/n make the cell contracting; the same for every size of run and in peers/gpu_jax.py.
Problem make_problem(std::int64_t steps, std::int64_t batch, std::int64_t n) {
  const double scale = 1 / std::sqrt(static_cast<double>(n));
  Tensors theta = {random_normal({3 * n, n}, 2) * scale, random_normal({3 * n, n}, 3) * scale,
                   random_normal({3 * n}, 4) * 0.1, random_normal({n}, 5) * 0.1};
  for (Tensor& t : theta) t = to(t, bench_gpu());
  return {nn::GruCell::from_theta(theta).functions(), to(random_normal({steps, batch, n}), bench_gpu()),
          zeros({batch, n}, {float32, bench_gpu()})};
}

solvers::Options to_residual(double atol) { return {.termination = {.atol = atol, .rtol = 0}}; }

// The defect of states on the GPU, computed on the CPU.
double residual(const Problem& p, const Tensor& states) {
  Tensors theta;
  for (const Tensor& t : p.cell.theta) theta.push_back(to(t, cpu_device));
  const Tensor r = solvers::sequence_residual(solvers::sequence_cell(p.cell), to(states, cpu_device),
                                              to(p.h0, cpu_device), to(p.xs, cpu_device), theta);
  return max(abs(r)).item();
}

Row forward_row(const SequenceMethod& method, std::int64_t steps) {
  const Problem p = make_problem(steps, 16, 16);
  auto solve = [=](const SequenceMethod& m) {
    return solvers::solve_sequence(p.cell, p.h0, p.xs, m, to_residual(1e-6));
  };
  Row row;
  const solvers::Solution solution = solve(method);
  row.run = [=] { keep(solve(method).value); };
  row.extra = {{"x:steps", solution.stats.steps}};
  row.error = [=, value = solution.value] { return residual(p, value); };
  row.tolerance = 2e-6;  // 1e-6, and the rounding of another evaluation
  if (!std::holds_alternative<solvers::Sequential>(method))
    row.peers = {{.name = "fused sequential", .run = [=] { keep(solve(solvers::Sequential{}).value); }}};
  return row;
}

using solvers::SequenceCell;

ValueAndGrad gradients(const SequenceCell& cell, const Problem& p, const SequenceMethod& method) {
  Tensors at = p.cell.theta;
  at.push_back(p.xs);
  const auto loss = [&](const Tensors& v) {
    const Tensors theta(v.begin(), v.end() - 1);
    return sum(square(solvers::solve_sequence(cell, p.h0, v.back(), theta, method, to_residual(1e-6)).value));
  };
  return value_and_grad(loss, at);
}

// Largest error of any gradient, relative to that gradient's largest entry (or 1), and of the value.
double gradient_error(const ValueAndGrad& got, const ValueAndGrad& expected) {
  double worst = std::abs(got.value.item() / expected.value.item() - 1);
  for (std::size_t i = 0; i < got.grads.size(); ++i) {
    const double size = std::max(1.0, max(abs(expected.grads[i])).item());
    worst = std::max(worst, largest_difference(got.grads[i], expected.grads[i]) / size);
  }
  return worst;
}

// Sum of squares of the states, differentiated with respect to inputs and parameters. Parallel methods must take the fused
// adjoint, exactly once per call; the same with Jacobians in memory, and the solve alone, take turns with it.
Row gradient_row(const SequenceMethod& method, std::int64_t steps) {
  const Problem p = make_problem(steps, 1, 1);
  const bool parallel = !std::holds_alternative<solvers::Sequential>(method);
  const auto calls = std::make_shared<int>(0);
  const SequenceCell plain = solvers::sequence_cell(p.cell);
  SequenceCell cell = plain, in_memory = plain;
  in_memory.fused_adjoint = nullptr;
  cell.fused_adjoint = [calls, inner = plain.fused_adjoint](const Tensor& hs, const Tensor& h0, const Tensor& xs,
                                                            const Tensors& theta, const Tensor& g) {
    Tensor l = inner(hs, h0, xs, theta, g);
    *calls += l.defined() ? 1 : 0;
    return l;
  };
  const auto solve = [=] { return solvers::solve_sequence(p.cell, p.h0, p.xs, method, to_residual(1e-6)); };
  Row row;
  row.run = [=] { keep(gradients(cell, p, method).grads[0]); };
  row.error = [=] {
    *calls = 0;
    const ValueAndGrad got = gradients(cell, p, method);
    if (*calls != (parallel ? 1 : 0)) return std::numeric_limits<double>::infinity();
    return gradient_error(got, gradients(plain, p, solvers::Sequential{.fused = true}));
  };
  row.tolerance = 1e-3;  // float32 sums over all steps in different orders
  row.note = "value and gradients of inputs and parameters, against backpropagation step by step";
  if (parallel) {
    row.extra = {{"x:steps", solve().stats.steps}};
    row.peers = {{.name = "Jacobians in memory", .run = [=] { keep(gradients(in_memory, p, method).grads[0]); }},
                 {.name = "the solve alone", .run = [=] { keep(solve().value); }}};
  }
  return row;
}

bool add_all() {
  const std::int64_t steps = by_size<std::int64_t>(10000, 10000, 40),
                     longest = by_size<std::int64_t>(300000, 30000, 60);
  const std::pair<const char*, SequenceMethod> methods[] = {
      {"sequential", solvers::Sequential{}}, {"deer", solvers::Deer{}}, {"shooting", solvers::Shooting{}}};
  for (const auto& [name, method] : methods)
    add_cuda_row("gru/n16_B16_T" + std::to_string(steps) + "/" + name,
                 [method = method, steps] { return forward_row(method, steps); });
  for (const auto& [name, method] : methods)
    add_cuda_row("gru/n1_B1_T" + std::to_string(longest) + "_gradient/" + name,
                 [method = method, longest] { return gradient_row(method, longest); });
  return true;
}

const bool kRegistered = add_all();

}  // namespace
}  // namespace solvent::bench
