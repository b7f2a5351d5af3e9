#pragma once
/// Helpers of the tests of nn/.

#include <cmath>
#include <string>
#include <vector>

#include "solvent/core/error.h"
#include "solvent/core/io/safetensors.h"
#include "solvent/core/tensor.h"
#include "solvent/tests/ops/messages.h"
#include "solvent/tests/support/catch.h"

namespace solvent::testing {

/// Tensors of tests/golden/<name>.safetensors.
class Golden {
 public:
  explicit Golden(const std::string& name) : file_(load_safetensors("golden/" + name + ".safetensors")) {}
  const Tensor& operator[](const std::string& name) const {
    for (const auto& [key, value] : file_.tensors)
      if (key == name) return value;
    throw ValueError("golden file has no tensor " + name);
  }

 private:
  SafetensorsFile file_;
};

/// All elements as double.
inline std::vector<double> values_of(const Tensor& t) {
  if (t.dtype() == float64) return t.to_vector<double>();
  const std::vector<float> narrow = t.to_vector<float>();
  return {narrow.begin(), narrow.end()};
}

/// Largest absolute difference; infinite for different shapes or a NaN.
inline double max_difference(const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape()) return INFINITY;
  const std::vector<double> x = values_of(a);
  const std::vector<double> y = values_of(b);
  double largest = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double d = std::fabs(x[i] - y[i]);
    if (!(d <= largest)) largest = std::isnan(d) ? INFINITY : d;
  }
  return largest;
}

/// Same bits.
inline bool identical(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() && max_difference(a, b) == 0;
}

}  // namespace solvent::testing

#define CHECK_CLOSE(a, b, tolerance) CHECK(::solvent::testing::max_difference((a), (b)) <= (tolerance))
