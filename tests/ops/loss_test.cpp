// Losses: agreement with their definition by other operations, extreme values, empty batches.

#include "solvent/ops/loss.h"

#include <cmath>
#include <limits>

#include "solvent/autodiff/transforms.h"
#include "solvent/ops/ops.h"
#include "solvent/tests/support/catch.h"

namespace solvent {
namespace {

TEST_CASE("cross_entropy: equals the mean of -log_softmax at the labels, with its gradient") {
  const Tensor logits = reshape(sin(arange(0, 60, 1, float64)), {3, 4, 5}) * 4.0;
  const Tensor labels = randint(Key(5), {3, 4}, 0, 5);
  const auto composed = [&](const Tensor& x) { return -mean(sum(log_softmax(x) * one_hot(labels, 5, float64), {-1})); };
  const auto fused = [&](const Tensor& x) { return cross_entropy(x, labels); };
  const ValueAndGrad1 a = value_and_grad(fused, logits);
  const ValueAndGrad1 b = value_and_grad(composed, logits);
  CHECK(a.value.item() == Approx(b.value.item()).epsilon(1e-13));
  CHECK(max(abs(a.grad - b.grad)).item() < 1e-14);
  CHECK(max(abs(hessian(fused, logits) - hessian(composed, logits))).item() < 1e-14);
}

TEST_CASE("cross_entropy: huge logits neither overflow nor lose the loss") {
  const Tensor logits = tensor({{1e4, 0.0}, {1e4, 0.0}});
  CHECK(cross_entropy(logits, from_vector<std::int64_t>({0, 1}, {2})).item() == Approx(5e3));
}

TEST_CASE("cross_entropy: a NaN logit gives NaN, no rows give NaN") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(std::isnan(cross_entropy(tensor({{nan, 0.0}}), zeros({1}, int64)).item()));
  CHECK(std::isnan(cross_entropy(zeros({0, 3}), zeros({0}, int64)).item()));
}

TEST_CASE("mse_loss: value and gradient") {
  const Tensor x = tensor({1.0, 2.0}, float64);
  const Tensor y = tensor({0.0, 5.0}, float64);
  CHECK(mse_loss(x, y).item() == 5.0);
  CHECK(grad([&](const Tensor& t) { return mse_loss(t, y); }, x).to_vector<double>() == std::vector<double>{1.0, -3.0});
}

}  // namespace
}  // namespace solvent
