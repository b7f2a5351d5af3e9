#include "solvent/solvers/solution.h"

#include <fmt/format.h>

#include "solvent/core/error.h"

namespace solvent::solvers {

std::string_view to_string(Status status) noexcept {
  switch (status) {
    case Status::converged: return "converged";
    case Status::max_steps: return "max_steps";
    case Status::stalled: return "stalled";
    case Status::diverged: return "diverged";
    case Status::non_finite: return "non_finite";
  }
  return "unknown";
}

std::string_view advice(Status status) noexcept {
  switch (status) {
    case Status::converged: return "";
    case Status::max_steps: return "Allow more steps, start from a better guess, or loosen the tolerance.";
    case Status::stalled:
      return "The tolerance may be below what the dtype can reach: loosen it or use float64; or try damping.";
    case Status::diverged: return "Try damping > 0, a window, a better guess, or Sequential{} to check the cell.";
    case Status::non_finite:
      return "Check the function with Sequential{} for NaN or overflow; try a window or damping if it is finite there.";
  }
  return "";
}

std::string Solution::message() const {
  if (ok()) return fmt::format("[{}] converged in {} steps: residual {:.2e}", method, stats.steps, stats.residual);
  return fmt::format("[{}] {} after {} of {} steps: residual {:.2e} is not within tolerance (best at step {}). {}",
                     method, to_string(status), stats.steps, max_steps, stats.residual, stats.best_step,
                     advice(status));
}

const Tensor& Solution::value_or_throw() const {
  if (!ok()) throw SolverError(message());
  return value;
}

}  // namespace solvent::solvers
