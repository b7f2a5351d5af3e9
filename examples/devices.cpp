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
  const double expected = sum(square(to(x, cpu_device))).item();
  std::printf("%s: trace %.6f, sum of squares %.6f\n", to_string(device).c_str(), total, expected);
  return std::abs(total - expected) <= 1e-10 * expected ? 0 : 1;
}
