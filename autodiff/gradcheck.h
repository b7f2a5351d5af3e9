#pragma once
/// Checks derivatives of a user's function in every mode against differences and against each other.

#include <string>

#include "solvent/autodiff/transforms.h"

namespace solvent {

/// Tolerances and extent of gradcheck.
struct GradcheckOptions {
  double eps = 1e-6;         ///< step of central differences
  double atol = 1e-6;        ///< |a - b| <= atol + rtol * max(|a|, |b|) against differences
  double rtol = 1e-5;        ///< relative part of the tolerance against differences
  double mode_tol = 1e-10;   ///< relative, between modes (they differ by rounding only)
  int directions = 3;        ///< K of the batched forward check
  bool second_order = true;  ///< also forward/reverse over forward/reverse
  std::uint64_t seed = 0;    ///< of the random directions
};

/// What gradcheck found.
struct GradcheckReport {
  bool ok = false;                                        ///< all comparisons within tolerance
  double max_error = 0;                                   ///< largest relative error seen
  std::string message;                                    ///< what failed: mode, both values; empty if ok
  explicit operator bool() const noexcept { return ok; }  ///< `ok`
};

/// Compares, along random directions: forward against central differences, reverse against forward, K batched directions
/// against single ones, and (second order) ff, fr, rf, rr against each other and against differences of the first
/// derivative. Use float64 inputs away from kinks. Non-floating inputs are passed through. @throws DtypeError for float32
/// inputs.
SOLVENT_API GradcheckReport gradcheck(const TensorsFn& f, const Tensors& xs, const GradcheckOptions& options = {});

}  // namespace solvent
