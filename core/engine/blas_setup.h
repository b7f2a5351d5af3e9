#pragma once
/// Agreement between BLAS's threads and ours. Internal to core; the BLAS calls themselves are in core/engine/gemm.

#include <string>

#include "solvent/core/export.h"

namespace solvent::detail {

/// Call before the first BLAS call: gives BLAS `num_threads()` threads and warns once on stderr if the loaded OpenBLAS
/// does not use OpenMP (its own pool then spins against ours: a 512^3 product beside a parallel loop takes twice as
/// long). Later calls cost one load. Does nothing in a build without BLAS.
SOLVENT_API void prepare_blas() noexcept;

/// Passes the thread count on to a BLAS that can take it. Called by set_num_threads.
void set_blas_threads(int n) noexcept;

/// The BLAS that was loaded, for example "OpenBLAS 0.3.21 ... (OpenMP threads)"; "none" without one.
std::string blas_description();

}  // namespace solvent::detail
