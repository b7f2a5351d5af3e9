// A recurrent cell of one's own through every method: the same states from step-by-step and time-parallel evaluation.
#include <cstdio>

#include "solvent/solvent.h"
using namespace solvent;
using namespace solvent::solvers;

int main() {
  // [cell]
  // A minimal gated unit (Zhou et al. 2016) on rows, h (N, n) and x (N, 2n): no derivative code is needed.
  const auto cell = [](const Tensor& h, const Tensor& x, const Tensors& theta) {
    const std::int64_t n = h.size(1);
    const Tensor forget = sigmoid(matmul(h, theta[0]) + slice(x, 1, 0, n));
    const Tensor candidate = tanh(matmul(forget * h, theta[1]) + slice(x, 1, n, 2 * n));
    return h + forget * (candidate - h);
  };
  // [cell]
  const std::int64_t steps = 2000, batch = 4, n = 4;
  const Tensor h0 = zeros({batch, n}, float64), xs = normal(Key(1), {steps, batch, 2 * n}, 0.0, 1.0, float64);
  const Tensors theta = {normal(Key(2), {n, n}, 0.0, 0.4, float64), normal(Key(3), {n, n}, 0.0, 0.4, float64)};

  // [methods]
  // Every method returns states (T, B, n) with status, statistics and residual.
  const Termination tight = {.atol = 1e-10, .rtol = 0.0};
  const Tensor reference = solve_sequence(cell, h0, xs, theta, Sequential{}).value;
  const SequenceMethod methods[] = {
      Sequential{}, Jacobi{}, GaussSeidel{.block = 32}, Deer{}, Deer{.jacobian = JacobianKind::diagonal}, Shooting{}};
  bool good = true;
  std::printf("%-14s %-10s %6s %9s %10s %8s\n", "method", "status", "steps", "residual", "deviation", "time/ms");
  for (const SequenceMethod& method : methods) {
    const Solution s = solve_sequence(cell, h0, xs, theta, method, {.termination = tight});
    const double deviation = max(abs(s.value - reference)).item();
    std::printf("%-14s %-10s %6d %9.1e %10.1e %8.1f\n", name_of(method).c_str(), to_string(s.status).data(),
                s.stats.steps, s.stats.residual, deviation, 1e3 * s.stats.seconds);
    good = good && s.ok() && deviation < 1e-8;
  }
  // [methods]

  // [gradient]
  // Gradients do not depend on the method either: one adjoint recurrence, solved by a reversed scan.
  const auto gradients = [&](const SequenceMethod& method) {
    return grad(
        [&](const Tensors& p) {
          return mean(square(solve_sequence(cell, h0, xs, p, method, {.termination = tight}).value));
        },
        theta);
  };
  const Tensors a = gradients(Sequential{}), b = gradients(Deer{});
  const double difference = max(abs(concat(a) - concat(b))).item();
  std::printf("largest difference of gradients %.1e\n", difference);
  // [gradient]
  good = good && difference < 1e-8;
  std::puts(good ? "all methods agree" : "methods disagree");
  return good ? 0 : 1;
}
