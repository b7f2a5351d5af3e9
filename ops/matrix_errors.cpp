#include "solvent/ops/matrix_errors.h"

#include <fmt/format.h>

#include "solvent/core/error.h"

namespace solvent::detail {

void throw_singular(const char* op, std::int64_t matrix, std::int64_t count, std::int64_t pivot) {
  throw ValueError(
      fmt::format("[{}] matrix {} of {} is singular: pivot {} is exactly 0; expected an invertible matrix. "
                  "Check it for equal or zero rows, or add a multiple of the identity.",
                  op, matrix, count, pivot));
}

void throw_not_positive(std::int64_t matrix, std::int64_t count, std::int64_t pivot) {
  throw ValueError(
      fmt::format("[cholesky] matrix {} of {} is not positive definite: pivot {} is not positive; expected a "
                  "symmetric positive definite matrix. Add a multiple of the identity, or look at eigh's "
                  "smallest value.",
                  matrix, count, pivot));
}

void throw_zero_diagonal(std::int64_t matrix, std::int64_t count, std::int64_t pivot) {
  throw ValueError(
      fmt::format("[triangular_solve] matrix {} of {} is singular: element {} of its diagonal is exactly 0; "
                  "expected none. Add a multiple of the identity, or set unit_diagonal if the diagonal is "
                  "meant to be 1.",
                  matrix, count, pivot));
}

void throw_no_convergence(const char* op, std::int64_t matrix, std::int64_t count) {
  throw ValueError(
      fmt::format("[{}] the iteration did not converge for matrix {} of {}, which is not expected of finite "
                  "matrices. Check the scale of its elements.",
                  op, matrix, count));
}

void throw_too_many_doublings(const char* op, std::int64_t matrix, std::int64_t count, std::int64_t needed,
                              std::int64_t most) {
  throw ValueError(fmt::format(
      "[{}] the norm of matrix {} of {} asks for {} doublings; expected at most {}, which is what a recorded "
      "graph does. Scale the matrix down, or make the call outside of graph().",
      op, matrix, count, needed, most));
}

}  // namespace solvent::detail
