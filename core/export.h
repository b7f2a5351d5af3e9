#pragma once
/// Symbol visibility. The libraries are compiled with hidden visibility; what users may link against carries SOLVENT_API.

/// Marks what is visible outside the shared libraries.
#if defined(_WIN32)
#define SOLVENT_API
#else
#define SOLVENT_API __attribute__((visibility("default")))
#endif

/// Marks functions that CUDA device code shares with the host.
#if defined(__CUDACC__)
#define SOLVENT_HD __host__ __device__
#else
#define SOLVENT_HD
#endif
