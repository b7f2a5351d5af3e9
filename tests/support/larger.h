#pragma once
/// The largest of several errors.

#include <cmath>

namespace solvent::testing {

/// The larger of two errors, or NaN if one of them is NaN: std::max loses it in one of its two places, and a test that lost
/// a NaN passes.
inline double larger(double a, double b) noexcept { return a >= b || std::isnan(a) ? a : b; }

}  // namespace solvent::testing
