#pragma once
/// Many small images as one PNG: samples, digits, filters.

#include <cstdint>
#include <filesystem>
#include <vector>

#include "solvent/core/tensor.h"

namespace solvent::experiments {

struct GridOptions {
  std::int64_t columns = 0;      ///< 0: about as many columns as rows
  int padding = 2;               ///< pixels between and around the images
  int scale = 1;                 ///< each pixel becomes scale x scale ones (no smoothing)
  double low = 0, high = 1;      ///< values shown as black and white; others are clamped, NaN is black
  std::uint8_t background = 96;  ///< grey level between the images
};

/// 8-bit pixels, row by row.
struct Raster {
  int width = 0, height = 0, channels = 0;
  std::vector<std::uint8_t> pixels;  ///< (height, width, channels)
};

/// Arranges images from left to right, then downwards.
///
/// @param images  (N, C, H, W) or (N, H, W); C is 1 (grey) or 3 (RGB). float32 and float64 are mapped from low..high to
///                0..255, uint8 is taken as it is. N >= 1.
/// @throws ShapeError, DtypeError; ValueError for low >= high, scale < 1 or negative numbers
Raster image_grid(const Tensor& images, const GridOptions& options = {});

/// image_grid as a PNG file, atomically. @throws as image_grid; IoError
void save_image_grid(const std::filesystem::path& file, const Tensor& images, const GridOptions& options = {});

}  // namespace solvent::experiments
