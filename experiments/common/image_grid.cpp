#include "solvent/experiments/common/image_grid.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "solvent/core/error.h"
#include "solvent/experiments/common/canvas.h"
#include "solvent/ops/ops.h"

namespace solvent::experiments {

namespace {

constexpr std::int64_t kMaxSide = 16384;

void check(const Tensor& images, const GridOptions& o) {
  if (images.rank() != 3 && images.rank() != 4)
    throw ShapeError(
        fmt::format("[image_grid] got {}; expected images (N, C, H, W) or (N, H, W).", to_string(images.shape())));
  if (images.rank() == 4 && images.size(1) != 1 && images.size(1) != 3)
    throw ShapeError(
        fmt::format("[image_grid] got {}, {} channels; expected 1 or 3. Permute (N, H, W, C) to (N, C, H, W).",
                    to_string(images.shape()), images.size(1)));
  if (images.numel() == 0)
    throw ShapeError(fmt::format("[image_grid] got {}, which has no pixel.", to_string(images.shape())));
  if (images.dtype() != uint8 && !is_floating(images.dtype()))
    throw DtypeError(
        fmt::format("[image_grid] got {}; expected float32, float64 or uint8. Use cast.", to_string(images.dtype())));
  if (!(o.low < o.high) || o.scale < 1 || o.padding < 0 || o.columns < 0)
    throw ValueError(fmt::format(
        "[image_grid] got values {}..{}, scale {}, padding {}, {} columns; expected low < high, scale >= 1, "
        "no negative numbers.",
        o.low, o.high, o.scale, o.padding, o.columns));
}

/// All values as 0..255, in the order (N, C, H, W).
std::vector<std::uint8_t> levels(const Tensor& images, const GridOptions& o) {
  if (images.dtype() == uint8) return contiguous(images).to_vector<std::uint8_t>();
  const std::vector<double> values = contiguous(cast(images, float64)).to_vector<double>();
  std::vector<std::uint8_t> result(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double level = (values[i] - o.low) / (o.high - o.low) * 255;
    result[i] = level > 0 ? static_cast<std::uint8_t>(std::lround(std::min(level, 255.0))) : std::uint8_t{0};
  }
  return result;
}

}  // namespace

Raster image_grid(const Tensor& images, const GridOptions& o) {
  check(images, o);
  const std::int64_t n = images.size(0), channels = images.rank() == 4 ? images.size(1) : 1;
  const std::int64_t h = images.size(-2), w = images.size(-1), scale = o.scale, padding = o.padding;
  const std::int64_t columns =
      std::min(n, o.columns > 0 ? o.columns : static_cast<std::int64_t>(std::ceil(std::sqrt(static_cast<double>(n)))));
  const std::int64_t rows = (n + columns - 1) / columns;
  const std::int64_t cell_w = w * scale + padding, cell_h = h * scale + padding;
  const std::int64_t width = columns * cell_w + padding, height = rows * cell_h + padding;
  if (w > kMaxSide || h > kMaxSide || columns > kMaxSide || rows > kMaxSide || width > kMaxSide || height > kMaxSide)
    throw ValueError(fmt::format("[image_grid] {} images of {} x {} make {} x {} pixels; expected at most {} each way.",
                                 n, w, h, width, height, kMaxSide));
  const std::vector<std::uint8_t> source = levels(images, o);
  Raster raster{static_cast<int>(width), static_cast<int>(height), static_cast<int>(channels), {}};
  raster.pixels.assign(static_cast<std::size_t>(width * height * channels), o.background);
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t left = (i % columns) * cell_w + padding, top = (i / columns) * cell_h + padding;
    for (std::int64_t y = 0; y < h * scale; ++y)
      for (std::int64_t x = 0; x < w * scale; ++x)
        for (std::int64_t c = 0; c < channels; ++c)
          raster.pixels[static_cast<std::size_t>(((top + y) * width + left + x) * channels + c)] =
              source[static_cast<std::size_t>(((i * channels + c) * h + y / scale) * w + x / scale)];
  }
  return raster;
}

void save_image_grid(const std::filesystem::path& file, const Tensor& images, const GridOptions& options) {
  const Raster grid = image_grid(images, options);
  write_png(file, grid.width, grid.height, grid.channels, grid.pixels);
}

}  // namespace solvent::experiments
