#pragma once
/// Convolutions of maps (N, C, H, W) and sequences (N, C, L) with weights (O, C / groups, kh, kw), as in PyTorch: the
/// filter is not flipped (a cross-correlation).
///
///     y[n, o, p, q] = sum over c, i, j of x[n, c, p stride - top + i dilation, q stride - left + j dilation] w[o, c, i, j]
///
/// where x is 0 outside the map and c runs over the channels of o's group. Three operations are closed under
/// differentiation (conv, conv_input_grad, conv_weight_grad), so derivatives of every order and in every mode are
/// convolutions again. Everything here takes float32 or float64 with any strides and returns contiguous tensors. Results
/// have the same bits for any number of threads.
///
/// On the CPU float32 is computed by oneDNN where the build has it, everything else by the library's matrix products on
/// unfolded maps. 3x3 filters of stride 1 on enough channels take Winograd's tiles of 2 x 2 results, which need 16 instead of
/// 36 multiplications: faster by about 1.5, errors at most about 2.6 times as large (ops/cpu/conv_kernels.h has the figures).
/// SOLVENT_CONV=direct in the environment refuses them for a whole process. All differ by rounding only.

#include <optional>

#include "solvent/autodiff/basis.h"
#include "solvent/core/matmul_precision.h"
#include "solvent/ops/size2d.h"

namespace solvent {

/// Zeros around a map: one number for all sides, two for rows and columns, or four.
struct Padding2d {
  std::int64_t top = 0;     ///< rows above the map
  std::int64_t bottom = 0;  ///< rows below it
  std::int64_t left = 0;    ///< columns in front of it
  std::int64_t right = 0;   ///< columns behind it

  /// The same on all sides.
  constexpr Padding2d(std::int64_t all = 0) : Padding2d(all, all) {}  // NOLINT: implicit, the usual case
  /// h rows on both sides, w columns on both sides.
  constexpr Padding2d(std::int64_t h, std::int64_t w) : top(h), bottom(h), left(w), right(w) {}
  /// Top, bottom, left, right.
  constexpr Padding2d(std::int64_t t, std::int64_t b, std::int64_t l, std::int64_t r)
      : top(t), bottom(b), left(l), right(r) {}
  friend constexpr bool operator==(const Padding2d&, const Padding2d&) = default;
};

/// Zeros before and after a sequence: one number for both ends, or two.
struct Padding1d {
  std::int64_t before = 0;  ///< positions in front of the sequence
  std::int64_t after = 0;   ///< positions behind it

  /// The same at both ends.
  constexpr Padding1d(std::int64_t both = 0) : before(both), after(both) {}  // NOLINT: implicit, the usual case
  /// Before, after.
  constexpr Padding1d(std::int64_t b, std::int64_t a) : before(b), after(a) {}
  friend constexpr bool operator==(const Padding1d&, const Padding1d&) = default;
};

/// How a filter moves over a map. The result has floor((extent + padding - dilation (kernel - 1) - 1) / stride) + 1
/// positions along each axis.
struct Conv2dOptions {
  Size2d stride = 1;        ///< steps between positions of the filter
  Padding2d padding = 0;    ///< zeros around the map
  Size2d dilation = 1;      ///< steps between the filter's taps
  std::int64_t groups = 1;  ///< channels and filters are divided into this many independent convolutions
  /// Of float32 products on a GPU, here and in derivatives; what set_matmul_precision() says if empty.
  std::optional<MatmulPrecision> precision = std::nullopt;
};

/// The same for sequences.
struct Conv1dOptions {
  std::int64_t stride = 1;    ///< steps between positions of the filter
  Padding1d padding = 0;      ///< zeros around the sequence
  std::int64_t dilation = 1;  ///< steps between the filter's taps
  std::int64_t groups = 1;    ///< independent convolutions
  /// Of float32 products on a GPU, here and in derivatives; what set_matmul_precision() says if empty.
  std::optional<MatmulPrecision> precision = std::nullopt;
};

/// How a transposed convolution spreads its input. The result has (extent - 1) stride - padding + dilation (kernel - 1) +
/// output_padding + 1 positions along each axis.
struct ConvTranspose2dOptions {
  Size2d stride = 1;          ///< steps between the positions to which the input's are spread
  Padding2d padding = 0;      ///< that of the convolution it transposes: cut off the result
  Size2d output_padding = 0;  ///< further positions at the end, to undo the rounding of a stride; less than the stride
  Size2d dilation = 1;        ///< steps between the filter's taps
  std::int64_t groups = 1;    ///< independent convolutions
  /// Of float32 products on a GPU, here and in derivatives; what set_matmul_precision() says if empty.
  std::optional<MatmulPrecision> precision = std::nullopt;
};

/// The same for sequences.
struct ConvTranspose1dOptions {
  std::int64_t stride = 1;          ///< steps between the positions to which the input's are spread
  Padding1d padding = 0;            ///< cut off the result
  std::int64_t output_padding = 0;  ///< further positions at the end, less than the stride
  std::int64_t dilation = 1;        ///< steps between the filter's taps
  std::int64_t groups = 1;          ///< independent convolutions
  /// Of float32 products on a GPU, here and in derivatives; what set_matmul_precision() says if empty.
  std::optional<MatmulPrecision> precision = std::nullopt;
};

/// x (N, C, H, W), w (O, C / groups, kh, kw) -> (N, O, H', W').
/// @throws ShapeError for shapes that do not fit each other or a filter larger than the padded map; ValueError for options
/// that make no sense; DtypeError for different or not floating dtypes
SOLVENT_API Tensor conv2d(Tensor x, Tensor w, const Conv2dOptions& options = {});
/// x (N, C, L), w (O, C / groups, k) -> (N, O, L'). @throws as conv2d
SOLVENT_API Tensor conv1d(Tensor x, Tensor w, const Conv1dOptions& options = {});

/// The transpose of conv2d, as a layer that enlarges maps: x (N, C, H, W), w (C, O / groups, kh, kw) -> (N, O, H', W').
/// @throws as conv2d
SOLVENT_API Tensor conv_transpose2d(Tensor x, Tensor w, const ConvTranspose2dOptions& options = {});
/// x (N, C, L), w (C, O / groups, k) -> (N, O, L'). @throws as conv2d
SOLVENT_API Tensor conv_transpose1d(Tensor x, Tensor w, const ConvTranspose1dOptions& options = {});

/// The adjoint of x -> conv2d(x, w, options) for maps of `input_size`, applied to g (N, O, H', W'): (N, C, H, W).
/// @throws ShapeError unless g has the shape of the convolution's result; else as conv2d
SOLVENT_API Tensor conv2d_input_grad(Tensor g, Tensor w, Size2d input_size, const Conv2dOptions& options = {});
/// The adjoint of w -> conv2d(x, w, options) for filters of `kernel_size`, applied to g (N, O, H', W'):
/// (O, C / groups, kh, kw), summed over the batch. @throws as conv2d_input_grad
SOLVENT_API Tensor conv2d_weight_grad(Tensor x, Tensor g, Size2d kernel_size, const Conv2dOptions& options = {});

}  // namespace solvent
