#pragma once
/// How buffers lie in memory. Internal to core: tensor.cpp frees what engine/view.cpp makes.

#include <cstddef>

namespace solvent::detail {

/// Data of at most kMaxEmbeddedBytes lie this many bytes behind the start of their Storage, in the same block.
inline constexpr std::size_t kEmbeddedOffset = 64;
/// Together with the Storage still a small block of the allocator (4 KiB).
inline constexpr std::size_t kMaxEmbeddedBytes = 4096 - kEmbeddedOffset;

}  // namespace solvent::detail
