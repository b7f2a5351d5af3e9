#pragma once
/// Positions of planes (..., height, width) in kernels. For `.cu` files of ops/cuda only.

#include <cstdint>

#include "solvent/core/cuda/strided.h"

namespace solvent::cuda {

/// Splits position i of (planes, height, width), row-major, into its three parts: by multiplication with reciprocals where
/// there are fewer than 2^31 positions.
struct PlaneIndex {
  std::int64_t height = 1;
  std::int64_t width = 1;
  Divider by_height, by_width;
  bool small = false;

  PlaneIndex() = default;
  /// All at least 1; `total` is the number of positions.
  PlaneIndex(std::int64_t total, std::int64_t rows, std::int64_t columns) : height(rows), width(columns) {
    small = total < (std::int64_t{1} << 31);
    if (!small) return;
    by_height = Divider(static_cast<std::uint32_t>(rows));
    by_width = Divider(static_cast<std::uint32_t>(columns));
  }

  __device__ void locate(std::int64_t i, std::int64_t& plane, std::int64_t& row, std::int64_t& column) const {
    if (small) {
      const auto position = static_cast<std::uint32_t>(i);
      const std::uint32_t line = by_width.divide(position);
      const std::uint32_t top = by_height.divide(line);
      column = position - line * by_width.divisor;
      row = line - top * by_height.divisor;
      plane = top;
      return;
    }
    const std::int64_t line = i / width;
    column = i - line * width;
    plane = line / height;
    row = line - plane * height;
  }
};

}  // namespace solvent::cuda
