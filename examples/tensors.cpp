// Tensors: how they are made, viewed, combined, read, and what they refuse.
#include <iostream>

#include "solvent/solvent.h"
using namespace solvent;

int main() {
  // [make]
  const Tensor a = tensor({{1, 2, 3}, {4, 5, 6}});                       // float32 (2, 3), for literals
  const Tensor b = zeros({2, 3}, float64);                               // also ones, full, eye, linspace
  const Tensor index = arange(0, 10);                                    // int64 (10)
  const Tensor d = from_vector(std::vector<float>{1, 2, 3, 4}, {2, 2});  // copies host memory
  // [make]

  // [views]
  const Tensor row = select(a, 0, 1);              // (3): one index of an axis
  const Tensor left = slice(a, 1, 0, 2);           // (2, 2): columns 0 and 1
  const Tensor turned = mT(a);                     // (3, 2): last two axes swapped
  const Tensor cube = reshape(index, {5, 1, -1});  // (5, 1, 2): -1 is what is left
  const Tensor moved = permute(cube, {2, 0, 1});   // (2, 5, 1)
  // [views]

  // [broadcast]
  const Tensor shifted = a + tensor({10, 20, 30});  // (2, 3) + (3): axes are aligned at the right
  const Tensor centred = a - mean(a, {1}, true);    // (2, 3) - (2, 1): keepdims leaves an axis of extent 1
  const Tensor table = unsqueeze(row, 1) * row;     // (3, 1) * (3): all products, (3, 3)
  // [broadcast]

  // [types]
  try {
    a + b;
  } catch (const DtypeError& error) {
    std::cout << error.what() << '\n';
  }
  const Tensor sum_of_both = cast(a, float64) + b;
  const Tensor doubled = 2.0 * a + 1.0;  // scalars take the tensor's type
  // [types]

  // [read]
  std::cout << shifted << '\n' << sum(table).item() << '\n';    // printing; one element as double
  const std::vector<float> values = turned.to_vector<float>();  // all elements in row-major order
  const float* memory = doubled.data<float>();                  // without a copy, if contiguous
  // [read]

  // [time]
  // Loops over an axis take its pieces at once: one backward pass for all of them.
  Tensor state = zeros({3});
  for (const Tensor& x : unstack(a)) state = 0.5 * state + x;
  // [time]

  // [random]
  // No hidden generator: element i is a function of (key, i). Derive keys instead of reusing one.
  const Key key(42);
  const Tensor weights = normal(key.fold_in(0), {3, 3});
  const Tensor noise = uniform(key.fold_in(1), {3});
  // [random]

  const bool good = values == std::vector<float>{1, 4, 2, 5, 3, 6} && memory[5] == 13 &&
                    state.to_vector<float>()[2] == 7.5f && moved.shape() == Shape{2, 5, 1} && left.numel() == 4 &&
                    d.size(-1) == 2 && max(abs(sum(centred, {1}))).item() < 1e-6 && sum_of_both.dtype() == float64 &&
                    all(isfinite(matmul(weights, noise))).item() == 1;
  std::cout << (good ? "as expected" : "something differs") << '\n';
  return good ? 0 : 1;
}
