#pragma once
/// Convolution layers: filters with a bias per channel on maps (N, C, H, W) or sequences (N, C, L). Shapes, options and
/// default initial values are PyTorch's.

#include "solvent/core/rng.h"
#include "solvent/nn/init.h"
#include "solvent/nn/module.h"
#include "solvent/ops/conv.h"

namespace solvent::nn {

/// Zeros around a map with which a filter of stride 1 keeps the map's extents; an even filter gets one more at the end.
SOLVENT_API Padding2d same_padding(Size2d kernel, Size2d dilation = 1);

/// What a convolution layer has besides its filter's extents.
struct ConvLayerOptions {
  bool bias = true;                              ///< whether there is a bias per channel of the result
  WeightInit init = WeightInit::fan_in_uniform;  ///< fan_in: products per result, C / groups kh kw
  DType dtype = DType::float32;                  ///< of the parameters
};

/// A convolution of maps.
class SOLVENT_API Conv2d : public Module {
 public:
  /// @throws ValueError unless all sizes are positive and `groups` divides both numbers of channels
  Conv2d(std::int64_t in_channels, std::int64_t out_channels, Size2d kernel, Key key, Conv2dOptions options = {},
         ConvLayerOptions layer = {});

  /// x (N, in, H, W) -> (N, out, H', W'). @throws ShapeError, DtypeError
  Tensor operator()(const Tensor& x) const;
  void visit(Visitor& visitor) override;

  [[nodiscard]] std::int64_t in_channels() const { return weight.value().size(1) * options_.groups; }  ///< of x
  [[nodiscard]] std::int64_t out_channels() const { return weight.value().size(0); }  ///< of the result
  [[nodiscard]] const Conv2dOptions& options() const noexcept { return options_; }    ///< how the filter moves

  Parameter weight;  ///< (out, in / groups, kh, kw)
  Parameter bias;    ///< (out), or empty

 private:
  Conv2dOptions options_;
};

/// A convolution of sequences.
class SOLVENT_API Conv1d : public Module {
 public:
  /// @throws as Conv2d
  Conv1d(std::int64_t in_channels, std::int64_t out_channels, std::int64_t kernel, Key key, Conv1dOptions options = {},
         ConvLayerOptions layer = {});

  /// x (N, in, L) -> (N, out, L'). @throws ShapeError, DtypeError
  Tensor operator()(const Tensor& x) const;
  void visit(Visitor& visitor) override;

  [[nodiscard]] std::int64_t in_channels() const { return weight.value().size(1) * options_.groups; }  ///< of x
  [[nodiscard]] std::int64_t out_channels() const { return weight.value().size(0); }  ///< of the result
  [[nodiscard]] const Conv1dOptions& options() const noexcept { return options_; }    ///< how the filter moves

  Parameter weight;  ///< (out, in / groups, k)
  Parameter bias;    ///< (out), or empty

 private:
  Conv1dOptions options_;
};

/// A transposed convolution, which enlarges maps by its stride.
class SOLVENT_API ConvTranspose2d : public Module {
 public:
  /// As in PyTorch, fan_in counts out / groups kh kw. @throws as Conv2d
  ConvTranspose2d(std::int64_t in_channels, std::int64_t out_channels, Size2d kernel, Key key,
                  ConvTranspose2dOptions options = {}, ConvLayerOptions layer = {});

  /// x (N, in, H, W) -> (N, out, H', W'). @throws ShapeError, DtypeError
  Tensor operator()(const Tensor& x) const;
  void visit(Visitor& visitor) override;

  [[nodiscard]] std::int64_t in_channels() const { return weight.value().size(0); }  ///< of x
  [[nodiscard]] std::int64_t out_channels() const {
    return weight.value().size(1) * options_.groups;
  }                                                                                          ///< of the result
  [[nodiscard]] const ConvTranspose2dOptions& options() const noexcept { return options_; }  ///< how the filter moves

  Parameter weight;  ///< (in, out / groups, kh, kw)
  Parameter bias;    ///< (out), or empty

 private:
  ConvTranspose2dOptions options_;
};

}  // namespace solvent::nn
