#pragma once
/// Eigenvalues and singular values of one large matrix through LAPACK, in builds that have it. Internal to ops/cpu.

#include <cstdint>

#include "solvent/core/export.h"

namespace solvent::cpu {

/// Whether LAPACK takes matrices of n rows: it is linked, its results do not depend on the number of threads, its int can
/// count the working memory, and n is past the size up to which the own kernels are faster. Depends on nothing else, so
/// a matrix gets the same bits alone and in a batch.
/// @{
SOLVENT_API bool lapack_takes_eigh(std::int64_t n) noexcept;
SOLVENT_API bool lapack_takes_svd(std::int64_t n) noexcept;
/// @}

/// The two decompositions whatever the size; to be called only if LAPACK is linked (`has_lapack`).
template <class T>
struct SpectralLapack {
  /// Elements of working memory for n rows, of T and of int.
  static std::int64_t work(std::int64_t n) noexcept;
  static std::int64_t iwork(std::int64_t n) noexcept;
  /// a (n, n) symmetric, finite, destroyed -> values (n) ascending and `rows` (n, n) with their eigenvectors. False: no
  /// convergence.
  SOLVENT_API static bool eigh(T* a, std::int64_t n, T* values, T* rows, T* work, int* iwork) noexcept;
  /// a (n, n) finite, destroyed -> u (n, n), s (n) descending, vt (n, n). False: no convergence.
  SOLVENT_API static bool svd(T* a, std::int64_t n, T* u, T* s, T* vt, T* work, int* iwork) noexcept;
};

/// Whether this build can call LAPACK with the library that was loaded.
SOLVENT_API bool has_lapack() noexcept;

}  // namespace solvent::cpu
