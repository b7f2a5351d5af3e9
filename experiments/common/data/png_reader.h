#pragma once
/// Reading small grey PNG images (the drawings of Omniglot). Writing: see png.cpp.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace solvent::experiments {

/// One channel of bytes, row by row; 0 is black.
struct GreyImage {
  std::int64_t height = 0, width = 0;
  std::vector<std::uint8_t> pixels;
};

/// Decodes a grey or palette PNG of 1, 2, 4 or 8 bits, up to 4096 x 4096; palette colours must be grey. Checksums are
/// verified. @throws DataError naming `name` for anything else: colour, 16 bits, interlacing, damage.
GreyImage parse_png(std::span<const std::byte> bytes, const std::string& name = "memory");

}  // namespace solvent::experiments
