// The example of README.md (the test "readme" compares the two).
// [readme]
#include <iostream>

#include "solvent/solvent.h"
using namespace solvent;

int main() {
  // A recurrent cell is a function of tensors; it needs no derivative code.
  auto cell = [](const Tensor& h, const Tensor& x, const Tensors& w) { return tanh(matmul(h, w[0]) + x); };
  Tensor h0 = zeros({4, 8}), xs = normal(Key(1), {10000, 4, 8}), w0 = normal(Key(2), {8, 8}, 0.0, 0.2);

  // All 10,000 steps at once by Newton's method on the trajectory; the gradient by the implicit function theorem.
  auto loss = [&](const Tensor& w) { return mean(square(solvers::solve_sequence(cell, h0, xs, {w}).value)); };
  auto [value, gradient] = value_and_grad(loss, w0);
  std::cout << "loss " << value.item() << "\ngradient " << gradient << "\n";
}
// [readme]
