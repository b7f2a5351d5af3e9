// Derivatives in every form: along a direction, transposed, second order, and one per sample.
#include <cmath>
#include <iostream>

#include "solvent/solvent.h"
using namespace solvent;

// Rosenbrock's function of x (n): minimum 0 at (1, ..., 1).
Tensor rosenbrock(const Tensor& x) {
  const std::int64_t n = x.size(0);
  const Tensor head = slice(x, 0, 0, n - 1), tail = slice(x, 0, 1, n);
  return sum(100.0 * square(tail - square(head)) + square(1.0 - head));
}

int main() {
  const Tensor x = tensor({-1.2, 1.0}, float64);
  const Tensor v = tensor({1.0, 2.0}, float64);

  // [gradient]
  // Of a scalar function, by reverse mode.
  std::cout << "gradient  " << grad(rosenbrock, x) << '\n';
  // [gradient]

  // [jvp]
  // The derivative along v, by forward mode: value and tangent in one pass, nothing is recorded.
  auto [value, tangent] = jvp(rosenbrock, x, v);
  std::cout << "value " << value.item() << "  along v " << tangent.item() << '\n';
  // [jvp]

  // [vjp]
  // The transposed derivative of a function with many outputs: cotangents of y -> cotangents of x.
  auto [y, pullback] = vjp([](const Tensor& z) { return exp(z) * sum(z); }, x);
  std::cout << "pullback of ones  " << pullback(ones_like(y)) << '\n';
  // [vjp]

  // [hessian]
  // Transforms nest in any order: hessian is forward mode over grad, hvp one direction of it.
  const Tensor h = hessian(rosenbrock, x);
  std::cout << "Hessian  " << h << "\nHessian times v  " << hvp(rosenbrock, x, v) << '\n';
  // [hessian]

  // [newton]
  // So Newton's method is two lines.
  Tensor z = x;
  for (int step = 0; step < 7; ++step)
    z = z - reshape(solve(hessian(rosenbrock, z), reshape(grad(rosenbrock, z), {2, 1})), {2});
  std::cout << "Newton's method reaches  " << z << '\n';
  // [newton]

  // [per_sample]
  // One Jacobian per row of a batch, (N, n) -> (N, m, n), in one pass with n directions.
  const Tensor w = normal(Key(1), {2, 3}, 0.0, 1.0, float64);
  const Tensor batch = normal(Key(2), {1000, 2}, 0.0, 1.0, float64);
  auto [rows, jacobian] = jacfwd_rows([&](const Tensor& r, std::int64_t) { return tanh(matmul(r, w)); }, batch);
  std::cout << "values " << to_string(rows.shape()) << "  Jacobians " << to_string(jacobian.shape()) << '\n';
  // [per_sample]

  // Checks: the closed form J = diag(1 - y^2) W^T, the symmetry of the Hessian, the minimum.
  const Tensor closed = unsqueeze(1.0 - square(rows), -1) * mT(w);
  const double errors[] = {max(abs(jacobian - closed)).item(), max(abs(h - mT(h))).item(), max(abs(z - 1.0)).item()};
  std::cout << "errors " << errors[0] << ' ' << errors[1] << ' ' << errors[2] << '\n';
  for (const double error : errors)
    if (!(error < 1e-12)) return 1;
  return 0;
}
