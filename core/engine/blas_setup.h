#pragma once
/// Agreement between BLAS's threads and ours. Internal; BLAS is called in core/engine/gemm, LAPACK in
/// ops/cpu/spectral_lapack.

#include <string>

#include "solvent/core/export.h"

namespace solvent::detail {

/// Call before the first BLAS call: gives BLAS `num_threads()` threads and warns once on stderr if the loaded OpenBLAS
/// does not use OpenMP (its own pool then spins against ours: a 512^3 product beside a parallel loop takes twice as
/// long). Later calls cost one load. Does nothing in a build without BLAS.
SOLVENT_API void prepare_blas() noexcept;

/// Passes the thread count on to a BLAS that can take it. Called by set_num_threads.
void set_blas_threads(int n) noexcept;

/// While it lives, BLAS and LAPACK calls of this thread stay on this thread, if `blas_can_be_serial()`. Changes nothing
/// that other threads see: OpenMP keeps the number of threads of a region for each calling thread.
class SOLVENT_API SerialBlas {
 public:
  SerialBlas() noexcept;
  ~SerialBlas();
  SerialBlas(const SerialBlas&) = delete;
  SerialBlas& operator=(const SerialBlas&) = delete;

 private:
  int previous_;
};

/// Whether calls under `SerialBlas` give the same bits for any number of threads. False for an OpenBLAS with threads of
/// its own, whose number is one setting for the whole process, for one with 64-bit integers, and without BLAS. Debian's
/// alternatives decide at load time, so this is no fact of the build.
SOLVENT_API bool blas_can_be_serial() noexcept;

/// The BLAS that was loaded, for example "OpenBLAS 0.3.21 ... (OpenMP threads)"; "none" without one.
std::string blas_description();

}  // namespace solvent::detail
