#pragma once
/// Extents of maps: what convolution, pooling and resizing take for their two spatial axes.

#include <cstdint>

namespace solvent {

/// Extents along rows (height) and columns (width); one number means both.
struct Size2d {
  std::int64_t height = 0;  ///< along rows, axis -2
  std::int64_t width = 0;   ///< along columns, axis -1

  /// Square.
  constexpr Size2d(std::int64_t both = 0) : height(both), width(both) {}     // NOLINT: implicit, the usual case
  constexpr Size2d(std::int64_t h, std::int64_t w) : height(h), width(w) {}  ///< height, width
  friend constexpr bool operator==(const Size2d&, const Size2d&) = default;
};

}  // namespace solvent
