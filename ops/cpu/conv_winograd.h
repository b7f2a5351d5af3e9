#pragma once
/// What the Winograd convolutions share. Internal to ops/cpu.

#include <cstdint>

#include "solvent/ops/cpu/conv_kernels.h"

namespace solvent::cpu {

/// Whether the filters are 3x3, moved by single steps, in one group.
inline bool has_winograd(const ConvShape& s) noexcept {
  const auto fits = [](const ConvAxis& a) { return a.kernel == 3 && a.stride == 1 && a.dilation == 1; };
  return s.g.groups == 1 && fits(s.g.h) && fits(s.g.w);
}

/// Tiles of 2 x 2 results along an axis; the last one may be half outside.
constexpr std::int64_t winograd_tiles(std::int64_t results) noexcept { return (results + 1) / 2; }

/// Maps (images, channels, height, width) and the tiles that are read from them: 4 x 4 elements, every two rows and columns,
/// the first one beginning `before` in front of the map (behind its border, if negative). Zeros outside the map.
struct WinogradMaps {
  const float* data;
  std::int64_t images;
  std::int64_t channels;
  std::int64_t height;
  std::int64_t width;
  std::int64_t before_h;
  std::int64_t before_w;
  std::int64_t tiles_h;
  std::int64_t tiles_w;

  [[nodiscard]] std::int64_t tiles() const noexcept { return images * tiles_h * tiles_w; }
};

/// Filters (rows, depth) of 3 x 3 taps anywhere in memory, read from the last tap to the first if `turned`.
struct WinogradFilters {
  const float* data;
  std::int64_t rows;
  std::int64_t depth;
  std::int64_t row_stride;
  std::int64_t depth_stride;
  bool turned;
};

/// Maps (images, channels, height, width) that are written.
struct WinogradResult {
  float* data;
  std::int64_t channels;
  std::int64_t height;
  std::int64_t width;
};

}  // namespace solvent::cpu
