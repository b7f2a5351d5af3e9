#pragma once
/// Training runs on a GPU beside the same runs on the CPU.

#include <cmath>
#include <functional>
#include <vector>

#include "solvent/nn/nn.h"
#include "solvent/tests/support/catch.h"
#include "solvent/tests/support/larger.h"

namespace solvent::testing {

/// The loss before each of `steps` steps, `loss(step)` being a function of the model's parameters.
inline std::vector<double> losses_of(nn::Module& model, nn::Optimizer& optimizer, int steps,
                                     const std::function<Tensor(int step)>& loss) {
  std::vector<double> list;
  for (int step = 0; step < steps; ++step) {
    auto [value, grads, aux] = nn::value_and_grad(model, [&] { return loss(step); });
    list.push_back(value.item());
    nn::ClippedGrads clipped = nn::clip_by_global_norm(std::move(grads), 1.0);
    optimizer.step(model, clipped.grads);
  }
  return list;
}

/// Checks that losses differ by at most 1e-4 in float32 and 1e-10 in float64, and that the last is below `falls` times the
/// first: a run that does not learn compares little.
inline void check_same_losses(const std::vector<double>& got, const std::vector<double>& expected, DType dtype,
                              double falls) {
  REQUIRE(got.size() == expected.size());
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i) worst = larger(worst, std::abs(got[i] - expected[i]));
  INFO(to_string(dtype) << ": largest difference " << worst << ", losses from " << expected.front() << " to "
                        << expected.back());
  CHECK(worst <= (dtype == float32 ? 1e-4 : 1e-10));
  CHECK(expected.back() < falls * expected.front());
}

}  // namespace solvent::testing
