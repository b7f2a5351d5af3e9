#pragma once
/// LU factorisation with partial pivoting of one row-major matrix.

#include <cstdint>

namespace solvent::cpu {

/// a (n, n) <- L and U, `pivots` (n) <- rows exchanged. Returns the column of a pivot that is 0, or -1.
template <class T>
std::int64_t lu_factor(T* a, std::int64_t n, std::int64_t* pivots) noexcept;

/// x (n, k) <- a^-1 x
template <class T>
void lu_substitute(const T* lu, std::int64_t n, const std::int64_t* pivots, T* x, std::int64_t k) noexcept;

}  // namespace solvent::cpu
