#pragma once
/// Helpers of the tests of core.

#include <cstdint>
#include <string>
#include <vector>

#include "solvent/core/rng.h"
#include "solvent/core/tensor.h"

/// The text of the E that `f` throws; empty if it throws nothing (other exceptions pass).
template <class E, class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const E& e) {
    return e.what();
  }
  return {};
}

/// Deterministic choices for tests with random shapes.
class Chooser {
 public:
  explicit Chooser(std::uint64_t seed) : key_(seed) {}
  /// Uniform in [first, last].
  std::int64_t integer(std::int64_t first, std::int64_t last) {
    return first + static_cast<std::int64_t>(key_.bits(next_++) % static_cast<std::uint32_t>(last - first + 1));
  }
  /// Uniform in [-1, 1).
  double real() { return 2 * key_.uniform(1000000 + next_++) - 1; }

 private:
  solvent::Key key_;
  std::uint64_t next_ = 0;
};
