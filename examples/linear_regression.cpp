// Linear regression from scratch: data, a loss, its gradient, gradient descent, and the exact answer to compare with.
#include <iostream>

#include "solvent/solvent.h"
using namespace solvent;

int main() {
  // [data]
  // 500 samples of y = 2 x_1 - 3 x_2 + 0.5 x_3 + 1 + noise.
  const Tensor x = normal(Key(1), {500, 3}, 0.0, 1.0, float64);
  const Tensor truth = tensor({2.0, -3.0, 0.5}, float64);
  const Tensor y = matmul(x, truth) + 1.0 + normal(Key(2), {500}, 0.0, 0.1, float64);
  // [data]

  // [train]
  // A loss is any function of tensors; value_and_grad returns its value and its gradients.
  const auto loss = [&](const Tensors& p) { return mean(square(matmul(x, p[0]) + p[1] - y)); };
  Tensors parameters = {zeros({3}, float64), zeros({}, float64)};  // weights, bias
  for (int step = 0; step < 100; ++step) {
    auto [value, grads, aux] = value_and_grad(loss, parameters);
    for (std::size_t i = 0; i < parameters.size(); ++i) parameters[i] = parameters[i] - 0.2 * grads[i];
    if (step % 25 == 0) std::cout << "step " << step << "  loss " << value.item() << '\n';
  }
  // [train]
  std::cout << "weights " << parameters[0] << "\nbias " << parameters[1].item() << '\n';

  // [exact]
  // The minimum solves the normal equations A^T A p = A^T y, where A has a column of ones for the bias.
  const Tensor a = concat({x, ones({500, 1}, float64)}, 1);
  const Tensor exact = squeeze(solve(matmul(mT(a), a), unsqueeze(matmul(mT(a), y), 1)), 1);
  const double error = max(abs(concat({parameters[0], unsqueeze(parameters[1], 0)}) - exact)).item();
  std::cout << "largest difference to the exact minimum " << error << '\n';
  // [exact]
  return error < 1e-9 ? 0 : 1;
}
