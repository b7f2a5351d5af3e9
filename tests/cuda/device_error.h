#pragma once
/// How far a result on the GPU is from the expected one.

#include <algorithm>
#include <cmath>

#include "solvent/ops/shape_ops.h"
#include "solvent/tests/cuda/cuda_device.h"
#include "solvent/tests/ops/op_table.h"
#include "solvent/tests/support/catch.h"
#include "solvent/tests/support/larger.h"

namespace solvent::testing {

/// Largest |got - expected| / max(1, |expected|); `got` must be on the test's GPU. NaN where one of them is NaN.
inline double error(const Tensor& got, const Tensor& expected) {
  REQUIRE(got.shape() == expected.shape());
  REQUIRE(got.device() == cuda_test_device());
  const Array g(to(got, cpu_device));
  const Array e(expected);
  double largest = 0.0;
  for (std::int64_t i = 0; i < g.numel(); ++i)
    largest = larger(largest, std::abs(g[i] - e[i]) / std::max(1.0, std::abs(e[i])));
  return largest;
}

/// Largest |a - b| of tensors with as many elements; `a` may be on a GPU. NaN where one of them is NaN.
inline double distance(const Tensor& a, const Tensor& b) {
  const Array x(to(a, cpu_device));
  const Array y(b);
  REQUIRE(x.numel() == y.numel());
  double largest = 0.0;
  for (std::int64_t i = 0; i < x.numel(); ++i) largest = larger(largest, std::abs(x[i] - y[i]));
  return largest;
}

}  // namespace solvent::testing
