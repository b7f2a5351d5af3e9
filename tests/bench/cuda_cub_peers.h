#pragma once
/// CUB's device-wide scans with plain types, so that only one file needs its headers.

#include <cstddef>
#include <cstdint>

struct CUstream_st;  // cudaStream_t is a pointer to it

namespace solvent::bench {

/// h[t] = a[t] h[t-1] + b[t] from h[-1] = 0, as an inclusive scan of the pairs (a, b) under composition. With `temporary` null
/// nothing runs. Returns the bytes of temporary memory that it needs. @throws std::runtime_error
std::size_t cub_recurrence(void* temporary, std::size_t bytes, const float* a, const float* b, float* h, std::int64_t n,
                           CUstream_st* stream);
/// y[t] = x[0] + ... + x[t]; as above.
std::size_t cub_sum(void* temporary, std::size_t bytes, const float* x, float* y, std::int64_t n, CUstream_st* stream);
/// CUB_VERSION
int cub_version();

}  // namespace solvent::bench
