#pragma once
/// How buffers lie in memory. Internal to core: tensor.cpp frees what engine/view.cpp makes.

#include <cstddef>

#include "solvent/core/tensor.h"

namespace solvent::detail {

/// Data of at most kMaxEmbeddedBytes lie this many bytes behind the start of their Storage, in the same block.
inline constexpr std::size_t kEmbeddedOffset = 64;
/// Together with the Storage still a small block of the allocator (4 KiB).
inline constexpr std::size_t kMaxEmbeddedBytes = 4096 - kEmbeddedOffset;

/// Storage::device of pinned memory. Tensors of it live on the CPU.
inline constexpr Device kPinnedMemory{DeviceType::cuda, -1};

}  // namespace solvent::detail

namespace solvent::engine {

/// A contiguous CPU tensor with the values of `t` (on the CPU, plain) in pinned memory, `t` itself if it is one. In builds
/// without CUDA a contiguous one in any memory.
Tensor pinned_copy(const Tensor& t);

/// True if the data of a CPU tensor are in pinned memory.
bool is_pinned(const Tensor& t) noexcept;

}  // namespace solvent::engine
