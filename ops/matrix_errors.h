#pragma once
/// Errors of the families on matrices, the same for all devices. Internal to ops/.

#include <cstdint>

namespace solvent::detail {

/// Of matrix `matrix` of `count`, what failed at `pivot`. @throws ValueError always
/// @{
[[noreturn]] void throw_singular(const char* op, std::int64_t matrix, std::int64_t count, std::int64_t pivot);
[[noreturn]] void throw_not_positive(std::int64_t matrix, std::int64_t count, std::int64_t pivot);
[[noreturn]] void throw_zero_diagonal(std::int64_t matrix, std::int64_t count, std::int64_t pivot);
[[noreturn]] void throw_no_convergence(const char* op, std::int64_t matrix, std::int64_t count);
/// In a graph, which doubles `most` times.
[[noreturn]] void throw_too_many_doublings(const char* op, std::int64_t matrix, std::int64_t count, std::int64_t needed,
                                           std::int64_t most);
/// @}

}  // namespace solvent::detail
