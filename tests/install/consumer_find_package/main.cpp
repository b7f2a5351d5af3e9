// A user's program: differentiates a function of its own and solves a recurrence of its own, in parallel over time.
// Its last line says that the results are right; otherwise it exits with 1.
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "solvent/solvent.h"

namespace {

using solvent::Tensor;
using solvent::Tensors;

double largest_difference(const Tensor& a, const Tensor& b) { return solvent::max(solvent::abs(a - b)).item(); }

bool check(const char* what, double difference, double tolerance) {
  const bool ok = difference <= tolerance;  // false for NaN
  std::printf("%s: difference %.2e %s %.0e\n", what, difference, ok ? "<=" : "ABOVE", tolerance);
  return ok;
}

// d/dx sum(x sin x) = sin x + x cos x, and the derivative of that along v is (2 cos x - x sin x) v.
bool differentiates() {
  const auto f = [](const Tensor& x) { return sum(x * sin(x)); };
  const Tensor x = solvent::linspace(-2.0, 2.0, 9, solvent::float64);
  const Tensor v = solvent::linspace(1.0, 3.0, 9, solvent::float64);
  bool ok = check("gradient", largest_difference(solvent::grad(f, x), sin(x) + x * cos(x)), 1e-13);
  ok &= check("second derivative", largest_difference(solvent::hvp(f, x, v), (2.0 * cos(x) - x * sin(x)) * v), 1e-13);
  return ok;
}

// A cell that the library has never seen: Newton's method over the whole sequence against the plain loop.
bool solves() {
  using namespace solvent::solvers;
  const auto cell = [](const Tensor& h, const Tensor& x, const Tensors& theta) {
    return tanh(matmul(h, theta[0]) + x) * theta[1];
  };
  const Tensor h0 = solvent::zeros({2, 3}, solvent::float64);
  const Tensor xs = solvent::normal(solvent::Key(1), {200, 2, 3}, 0.0, 1.0, solvent::float64);
  const Tensors theta = {solvent::normal(solvent::Key(2), {3, 3}, 0.0, 0.4, solvent::float64),
                         solvent::tensor({0.5, 0.9, 0.7}, solvent::float64)};
  const auto loss = [&](const SequenceMethod& method) {
    return [&, method](const Tensors& parameters) {
      return mean(square(solve_sequence(cell, h0, xs, parameters, method).value));
    };
  };
  const auto parallel = solvent::value_and_grad(loss(Deer{}), theta);
  const auto sequential = solvent::value_and_grad(loss(Sequential{}), theta);
  bool ok = check("trajectory",
                  largest_difference(solve_sequence(cell, h0, xs, theta, Deer{}).value,
                                     solve_sequence(cell, h0, xs, theta, Sequential{}).value),
                  1e-7);
  ok &= check("loss", largest_difference(parallel.value, sequential.value), 1e-7);
  for (std::size_t i = 0; i < theta.size(); ++i) {
    ok &= check("gradient through the solution", largest_difference(parallel.grads[i], sequential.grads[i]), 1e-7);
  }
  return ok;
}

// Convolutions may come from another library (oneDNN), which the package has to bring along: a box filter over ones.
bool convolves() {
  const Tensor y = solvent::conv2d(solvent::ones({2, 8, 16, 16}), solvent::ones({8, 8, 3, 3}), {.padding = 1});
  const Tensor inside = solvent::slice(solvent::slice(y, -1, 1, -1), -2, 1, -1);
  return check("convolution", largest_difference(inside, solvent::full({1}, 72)), 0);
}

// Exceptions keep their type across the library's border.
bool reports_errors() {
  try {
    matmul(solvent::zeros({2, 3}), solvent::zeros({4, 5}));
  } catch (const solvent::ShapeError& error) {
    std::printf("as expected: %s\n", error.what());
    return std::string(error.what()).find("[matmul]") == 0;
  }
  return false;
}

}  // namespace

int main() {
  std::fputs(solvent::build_info().c_str(), stdout);
  bool ok = differentiates();
  ok = solves() && ok;  // every check runs, also after a failure
  ok = convolves() && ok;
  ok = reports_errors() && ok;
  std::puts(ok ? "results are right" : "results are WRONG");
  return ok ? 0 : 1;
}
