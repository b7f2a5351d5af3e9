#pragma once
/// How far results on a GPU may be from the CPU's, for each entry of the table of operations: cuda/op_matrix_cuda_test.cpp
/// compares by these numbers, device_tolerance_test.cpp publishes them in docs/gpu-tolerances.md.

#include "solvent/tests/ops/op_table.h"

namespace solvent::testing {

/// What is compared: values, or derivatives of first and second order in any mode.
enum class Compared { values, derivatives };

/// The tolerance in |got - expected| <= tolerance * max(1, |expected|), element by element. Derivatives multiply values by
/// further rounded factors and get ten times as much.
inline double device_tolerance(const OpCase& c, DType dtype, Compared what) {
  return (what == Compared::values ? 1 : 10) * (dtype == float32 ? c.tolerance_f32 : c.tolerance_f64);
}

}  // namespace solvent::testing
