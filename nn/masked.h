#pragma once
/// Layers that see only a part of their input, for autoregressive models: products with masked weights (MADE, PixelCNN)
/// and convolutions of shifted maps (PixelCNN++).
///
/// "Before" is raster order: pixel (p, q) comes before (r, s) if p < r, or p = r and q < s. The derivative of an output
/// with respect to a pixel outside its view is exactly 0.

#include <vector>

#include "solvent/nn/conv.h"
#include "solvent/nn/linear.h"

namespace solvent::nn {

/// y = x (mask W)^T + b (Germain et al. 2015, arXiv:1502.03509). The bias is not masked.
class SOLVENT_API MaskedLinear : public Module {
 public:
  /// `mask` (out, in), 1 where an output sees an input and 0 elsewhere (any dtype).
  /// @throws ShapeError unless the mask is a matrix with at least one row and column; ValueError for other entries
  MaskedLinear(const Tensor& mask, Key key, LinearOptions options = {});

  /// x (..., in) -> (..., out). @throws ShapeError, DtypeError
  Tensor operator()(const Tensor& x) const;
  void visit(Visitor& visitor) override;

  Parameter weight;  ///< (out, in); entries outside the mask have no effect and get no gradient
  Parameter bias;    ///< (out), or empty
  Buffer mask;       ///< (out, in), of the weight's dtype
};

/// Mask (out, in) of a layer whose units have these degrees: an output sees the inputs whose degree is at most its own, or
/// less than its own if `strict` (MADE's last layer). @throws ValueError for an empty list
SOLVENT_API Tensor degree_mask(const std::vector<std::int64_t>& in_degrees,
                               const std::vector<std::int64_t>& out_degrees, bool strict = false);

/// Whether a masked convolution sees the pixel it computes.
enum class MaskType : std::uint8_t {
  a,  ///< only pixels before it (first layer), and its earlier colours
  b   ///< it too (layers whose input has seen only pixels before), and its colours up to its own
};

/// How a masked convolution is made.
struct MaskedConv2dOptions {
  /// Channels of input and output are this many equal blocks, e.g. 3 for R, G, B: in the centre of the filter a block sees
  /// earlier blocks (a) or those and itself (b).
  std::int64_t colours = 1;
  ConvLayerOptions layer = {};  ///< bias, initial values, dtype
};

/// A convolution of stride 1 that keeps the extents and sees pixels before the one it computes: the upper half of a centred
/// filter of odd extents (van den Oord et al. 2016, arXiv:1601.06759).
class SOLVENT_API MaskedConv2d : public Module {
 public:
  /// @throws ValueError unless the filter's extents are odd and `colours` divides both numbers of channels
  MaskedConv2d(MaskType type, std::int64_t in_channels, std::int64_t out_channels, Size2d kernel, Key key,
               MaskedConv2dOptions options = {});

  /// x (N, in, H, W) -> (N, out, H, W). @throws ShapeError, DtypeError
  Tensor operator()(const Tensor& x) const;
  void visit(Visitor& visitor) override;

  Parameter weight;  ///< (out, in, kh, kw); entries outside the mask have no effect and get no gradient
  Parameter bias;    ///< (out), or empty
  Buffer mask;       ///< (out, in, kh, kw), of the weight's dtype
};

/// What a shifted convolution sees of its input (Salimans et al. 2017, arXiv:1701.05517).
enum class Shift : std::uint8_t {
  down,       ///< rows up to its own, and columns on both sides: padding (kh - 1, 0, (kw - 1) / 2, kw / 2)
  down_right  ///< rows and columns up to its own: padding (kh - 1, 0, kw - 1, 0)
};

/// Maps moved by one row (down) with a row of zeros above; x (N, C, H, W). @throws ShapeError
SOLVENT_API Tensor shift_down(const Tensor& x);
/// Maps moved by one column (right) with a column of zeros before. @throws ShapeError
SOLVENT_API Tensor shift_right(const Tensor& x);

/// How a shifted convolution is made.
struct ShiftedConv2dOptions {
  Size2d kernel = 0;  ///< 0: (2, 3) for down, (2, 2) for down_right
  Size2d stride = 1;  ///< steps between positions of the filter
  /// Moves the result by one row (down) or column (down_right), so that it sees only earlier ones. The zeros enter after the
  /// bias, so they are exactly zero.
  bool shift_output = false;
  bool weight_norm = false;     ///< the filter is gain weight / |weight|, with one gain per row of the weight
  ConvLayerOptions layer = {};  ///< bias, initial values, dtype
};

/// The convolution of PixelCNN++.
class SOLVENT_API ShiftedConv2d : public Module {
 public:
  /// @throws ValueError unless all sizes are positive; for `down`, unless the filter's width is odd
  ShiftedConv2d(Shift shift, std::int64_t in_channels, std::int64_t out_channels, Key key,
                ShiftedConv2dOptions options = {});

  /// x (N, in, H, W) -> (N, out, ceil(H / stride), ceil(W / stride)). @throws ShapeError, DtypeError
  Tensor operator()(const Tensor& x) const;
  void visit(Visitor& visitor) override;

  Parameter weight;  ///< (out, in, kh, kw)
  Parameter gain;    ///< (out) with weight_norm, else empty
  Parameter bias;    ///< (out), or empty

 private:
  Shift shift_;
  Conv2dOptions conv_;
  bool shift_output_;
};

/// The transposed convolution of PixelCNN++: doubles both extents, and position (2p + i, 2q + j) of the result, i and j 0 or
/// 1, sees what a shifted convolution at (p, q) would.
class SOLVENT_API ShiftedConvTranspose2d : public Module {
 public:
  /// `options.stride` must be left at 1 and `options.shift_output` false. @throws ValueError as ShiftedConv2d, and unless the
  /// filter has at least two rows and columns
  ShiftedConvTranspose2d(Shift shift, std::int64_t in_channels, std::int64_t out_channels, Key key,
                         ShiftedConv2dOptions options = {});

  /// x (N, in, H, W) -> (N, out, 2 H, 2 W). @throws ShapeError, DtypeError
  Tensor operator()(const Tensor& x) const;
  void visit(Visitor& visitor) override;

  Parameter weight;  ///< (in, out, kh, kw)
  Parameter gain;    ///< (in) with weight_norm, else empty
  Parameter bias;    ///< (out), or empty

 private:
  ConvTranspose2dOptions conv_;
};

}  // namespace solvent::nn
