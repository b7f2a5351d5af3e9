// A method of one's own for recurrences: Newton's method with one frozen Jacobian (the chord method), stepped by hand.
#include <cstdio>

#include "solvent/solvent.h"
using namespace solvent;
using namespace solvent::solvers;

namespace {

// [method]
// The residual of all steps is r_t = f(h_{t-1}, x_t) - h_t. A Newton step solves d_t = J_t d_{t-1} + r_t, which is one
// affine scan. Here J is evaluated once, at the first iterate: linear convergence, but a step costs no Jacobians.
Tensor chord(const SequenceProblem& problem, double tolerance, int max_steps) {
  const Tensor start = zeros_like(problem.h0());
  Tensor h = problem.evaluate(problem.default_guess());
  const Tensor jacobian = problem.linearize(h, JacobianKind::dense).jacobian;  // (T, B, n, n)
  for (int step = 0; step < max_steps; ++step) {
    const Tensor residual = problem.evaluate(h) - h;
    const double largest = max(abs(residual)).item();
    std::printf("step %2d  residual %.1e\n", step, largest);
    if (!(largest > tolerance)) break;  // also stops at NaN
    h = h + affine_scan(jacobian, residual, start);
  }
  return h;
}
// [method]

}  // namespace

int main() {
  SequenceCell cell;
  cell.step = [](const Tensor& h, const Tensor& x, const Tensors& w) { return tanh(matmul(h, w[0]) + x); };
  const Tensor h0 = zeros({2, 3}, float64), xs = normal(Key(1), {1000, 2, 3}, 0.0, 0.5, float64);
  const Tensor w = normal(Key(2), {3, 3}, 0.0, 0.3, float64);
  const Tensor found = chord(SequenceProblem(cell, h0, xs, {w}), 1e-10, 60);

  // [polish]
  // As a warm start of solve_sequence the result is certified by the residual test, and gradients follow from the
  // implicit function theorem.
  const auto loss = [&](const Tensor& p) {
    return mean(square(solve_sequence(cell, h0, xs, {p}, Deer{}, {.initial_guess = found}).value));
  };
  const Tensor gradient = grad(loss, w);
  const Solution certified = solve_sequence(cell, h0, xs, {w}, Deer{}, {.initial_guess = found});
  std::printf("%s after %d further steps\n", to_string(certified.status).data(), certified.stats.steps);
  // [polish]
  const Tensor reference =
      grad([&](const Tensor& p) { return mean(square(solve_sequence(cell, h0, xs, {p}, Sequential{}).value)); }, w);
  const double difference = max(abs(gradient - reference)).item();
  std::printf("gradient differs from step-by-step evaluation by %.1e\n", difference);
  return certified.stats.steps == 0 && difference < 1e-9 ? 0 : 1;
}
