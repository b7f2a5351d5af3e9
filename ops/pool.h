#pragma once
/// Pooling and resizing of maps. Everything works on the last two axes (1-d variants: the last one) with any number of
/// leading axes, so a batch of images is (N, C, H, W). Floating types; results have the same bits for any number of threads.

#include "solvent/ops/reduce.h"
#include "solvent/ops/size2d.h"

namespace solvent {

/// Windows of max_pool2d. The result has floor((extent + 2 padding - window) / stride) + 1 positions.
struct MaxPoolOptions {
  Size2d window = 2;   ///< elements per window
  Size2d stride = 0;   ///< 0: the window's extent
  Size2d padding = 0;  ///< on both sides, at most half the window; padded positions never win
};

/// Windows of avg_pool2d.
struct AvgPoolOptions {
  Size2d window = 2;              ///< elements per window
  Size2d stride = 0;              ///< 0: the window's extent
  Size2d padding = 0;             ///< zeros on both sides, at most half the window
  bool count_include_pad = true;  ///< divide by the window's size; false: by its positions inside the map
};

/// Largest element of each window of x (..., H, W), and its position h * W + w in the map (int64).
///
/// Ties: the first position in row-major order wins (and gets the cotangent), so a constant window gives its upper left
/// corner. A NaN wins over every number; the first NaN is reported. @throws ShapeError for fewer than two axes, an empty
/// map or a map smaller than the window; ValueError for windows, strides or paddings that make no sense; DtypeError
SOLVENT_API ValueAndIndex max_pool2d_with_index(Tensor x, const MaxPoolOptions& options = {});
/// The values alone. @throws as max_pool2d_with_index
SOLVENT_API Tensor max_pool2d(Tensor x, const MaxPoolOptions& options = {});
/// Zeros of shape (..., size) with x (..., h, w) added at `index` (same shape, positions in the map as max_pool2d_with_index
/// gives them): the adjoint of selecting these positions. Overlapping windows that chose one position add up.
/// @throws ShapeError, DtypeError; ValueError for an index outside the map, on a GPU later (core/stream.h)
SOLVENT_API Tensor max_unpool2d(Tensor x, Tensor index, Size2d size);
/// Mean of each window of x (..., H, W). @throws as max_pool2d_with_index
SOLVENT_API Tensor avg_pool2d(Tensor x, const AvgPoolOptions& options = {});
/// Mean over the last two axes: (..., H, W) -> (...), or (..., 1, 1) with `keepdims`. @throws ShapeError, DtypeError
SOLVENT_API Tensor global_avg_pool2d(Tensor x, bool keepdims = false);

/// The same on the last axis of x (..., L); `stride` 0 means `window`.
/// @{
SOLVENT_API ValueAndIndex max_pool1d_with_index(Tensor x, std::int64_t window, std::int64_t stride = 0,
                                                std::int64_t padding = 0);
SOLVENT_API Tensor max_pool1d(Tensor x, std::int64_t window, std::int64_t stride = 0, std::int64_t padding = 0);
SOLVENT_API Tensor avg_pool1d(Tensor x, std::int64_t window, std::int64_t stride = 0, std::int64_t padding = 0,
                              bool count_include_pad = true);
/// @}

/// What lies between the elements of a map that is resized.
enum class Interpolation : std::uint8_t {
  nearest,  ///< the element at floor(i * in / out)
  linear,   ///< between the two nearest elements (bilinear on maps)
};

/// How resize2d and resize1d sample. With `scale` = in / out, position i of the result lies at scale (i + 1/2) - 1/2.
struct ResizeOptions {
  Interpolation mode = Interpolation::linear;  ///< between the elements
  bool align_corners = false;  ///< linear: the corner elements coincide, position i lies at i (in - 1) / (out - 1)
  /// linear, shrinking: a triangle filter widened by `scale`, normalised at the border (Pillow's bilinear reduction;
  /// without it elements between the samples are skipped). Not together with align_corners.
  bool antialias = false;
};

/// Resizes the last two axes to `size`. Equal to PyTorch's interpolate. @throws ShapeError for fewer than two axes or an
/// empty map; ValueError for a size < 1, or align_corners with antialias; DtypeError
SOLVENT_API Tensor resize2d(Tensor x, Size2d size, const ResizeOptions& options = {});
/// Resizes the last axis. @throws as resize2d
SOLVENT_API Tensor resize1d(Tensor x, std::int64_t size, const ResizeOptions& options = {});

}  // namespace solvent
