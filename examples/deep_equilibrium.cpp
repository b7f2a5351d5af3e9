// A deep equilibrium layer (Bai et al. 2019, arXiv:1909.01377): its output is the fixed point z = tanh(W z + U x + b),
// found by Anderson acceleration and differentiated by the implicit function theorem, so no iteration is stored.
#include <iostream>

#include "solvent/examples/deep_equilibrium.h"
#include "solvent/solvent.h"
using namespace solvent;
using namespace solvent::examples;

struct Points {
  Tensor x;       // (n, 2) in the square [-1, 1)^2
  Tensor labels;  // whether they lie in the ring 0.4 < |x| < 0.8
};

Points make_points(Key key, std::int64_t n) {
  const Tensor x = uniform(key, {n, 2}, -1.0, 1.0);
  const Tensor radius = sqrt(sum(square(x), {1}));
  return {x, cast(logical_and(greater(radius, scalar(0.4)), less(radius, scalar(0.8))), int64)};
}

int main() {
  const Points train = make_points(Key(1), 256), test = make_points(Key(2), 1000);

  // [train]
  Equilibrium model(2, 16, 2, Key(3));
  nn::Adam optimizer({.learning_rate = 0.05});
  for (int step = 0; step < 300; ++step) {
    auto [loss, grads, aux] = nn::value_and_grad(model, [&] { return cross_entropy(model(train.x), train.labels); });
    optimizer.step(model, grads);
    if (step % 100 == 0) std::cout << "step " << step << "  loss " << loss.item() << '\n';
  }
  // [train]
  const double accuracy = mean(cast(equal(argmax(model(test.x), 1), test.labels), float32)).item();
  std::cout << "test accuracy " << 100 * accuracy << " %\n";

  // [check]
  // The implicit gradient against differences, in double precision. nn::bind makes a function of (parameters, inputs).
  model.to(float64);
  model.termination = {.atol = 1e-13, .rtol = 0.0};
  Tensors arguments = model.parameter_values();
  arguments.push_back(cast(slice(test.x, 0, 0, 5), float64));
  const GradcheckReport report = gradcheck(nn::bind(model), arguments);
  std::cout << (report ? "implicit gradients agree with differences" : report.message) << '\n';
  // [check]
  return report && accuracy > 0.9 ? 0 : 1;
}
