#pragma once
/// What this copy of Solvent is: recorded in every run directory and benchmark.

#include <string>

#include "solvent/core/export.h"

namespace solvent {

/// Version, commit, compiler, flags, libraries and instruction sets, one `name: value` per line.
///
/// Carries no date, so two builds of the same source give the same text. The lines on BLAS and on instruction sets
/// describe the running machine: which OpenBLAS was loaded and which vector target was chosen.
SOLVENT_API const std::string& build_info();

/// "major.minor.patch" of the library that was loaded.
SOLVENT_API const char* version() noexcept;

/// True if this build contains CUDA kernels.
SOLVENT_API bool has_cuda() noexcept;

}  // namespace solvent
