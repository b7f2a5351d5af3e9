#pragma once
/// The CUDA slot of an OpDef: `.cuda = SOLVENT_CUDA_KERNEL(cuda::concat)`. Builds without CUDA leave it empty, and the name
/// in parentheses need not exist there. Internal to the library.

/// The kernel named, or null in builds without CUDA.
#if SOLVENT_WITH_CUDA
#define SOLVENT_CUDA_KERNEL(...) __VA_ARGS__
#else
#define SOLVENT_CUDA_KERNEL(...) nullptr
#endif
