#pragma once
/// CRC-32C (Castagnoli), the checksum of checkpoints' manifests and of TensorBoard's record files.

#include <cstddef>
#include <cstdint>

#include "solvent/core/export.h"

namespace solvent {

/// CRC-32C of `bytes` bytes; pass an earlier result as `crc` to continue it over the next piece.
/// Source: RFC 3720, appendix B.4 (reflected polynomial 0x82F63B78, initial and final complement).
[[nodiscard]] SOLVENT_API std::uint32_t crc32c(const void* data, std::size_t bytes, std::uint32_t crc = 0) noexcept;

}  // namespace solvent
