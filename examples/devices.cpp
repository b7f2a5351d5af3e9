// Tensors on a GPU, if there is one: the same program runs on the CPU.
#include <cmath>
#include <cstdio>

#include "solvent/solvent.h"
using namespace solvent;

int main() {
  // [devices]
  const Device device = gpu_count() > 0 ? parse_device("cuda") : cpu_device;
  const Tensor x = to(normal(Key(1), {256, 64}, 0, 1, float64), device);
  const Tensor gram = matmul(mT(x), x);     // operations run where their operands live
  const double total = trace(gram).item();  // waits for the device
  // [devices]
  // [bfloat16]
  Tensor weights = normal(Key(2), {64, 10}, 0.0, 0.1, {float32, device});  // the copy that learns is float32
  const Tensor inputs = cast(x, bfloat16);                                 // half the memory of float32
  const auto loss = [&](const Tensor& w) {
    const Tensor y = matmul(inputs, cast(w, bfloat16));  // sums in float32, results rounded to bfloat16
    return mean(square(cast(y, float32)));               // everything else in float32
  };
  const auto [before, gradient] = value_and_grad(loss, weights);  // the gradient is float32, as the weights are
  weights = weights - 0.1 * gradient;
  // [bfloat16]
  const double expected = sum(square(to(x, cpu_device))).item();
  const double after = loss(weights).item();
  std::printf("%s: trace %.6f, sum of squares %.6f\n", to_string(device).c_str(), total, expected);
  std::printf("bfloat16 products: loss %.4f, then %.4f\n", before.item(), after);
  return std::abs(total - expected) <= 1e-10 * expected && after < before.item() ? 0 : 1;
}
