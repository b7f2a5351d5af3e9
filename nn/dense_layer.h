#pragma once
/// The parts of a DenseNet beside DenseBlock (sequential.h): layers of a block and the transitions between blocks. Names of
/// parameters are torchvision's.
///
///     std::vector<nn::Layer> layers;
///     for (std::int64_t p = 0; p < 6; ++p)
///       layers.emplace_back(nn::DenseLayer(64 + 32 * p, 32, key.fold_in(p)));
///     nn::Sequential net{nn::DenseBlock(std::move(layers)), nn::DenseTransition(256, 128, key.fold_in(6))};

#include "solvent/core/rng.h"
#include "solvent/nn/conv.h"
#include "solvent/nn/dropout.h"
#include "solvent/nn/module.h"
#include "solvent/nn/norm.h"

namespace solvent::nn {

/// Options of DenseLayer.
struct DenseLayerOptions {
  std::int64_t bottleneck = 4;   ///< channels between the convolutions, in units of the growth (DenseNet-B)
  double dropout = 0.0;          ///< probability of dropping elements of the result in training
  double eps = 1e-5;             ///< of the normalisations
  DType dtype = DType::float32;  ///< of the parameters
};

/// The pre-activation bottleneck of Huang et al. 2017 (arXiv:1608.06993, DenseNet-B): normalisation, relu and a 1 x 1
/// convolution to bottleneck * growth channels, then normalisation, relu and a 3 x 3 convolution to `growth` channels; no
/// biases. Filters start normal with variance 2 / fan_in, as in torchvision.
class SOLVENT_API DenseLayer : public Module {
 public:
  /// `in_channels`: those of the block's input and of all layers before. @throws ValueError unless the sizes are positive
  /// and 0 <= dropout <= 1
  DenseLayer(std::int64_t in_channels, std::int64_t growth, Key key, const DenseLayerOptions& options = {});

  /// x (N, in, H, W) -> (N, growth, H, W). @throws ShapeError, DtypeError; ValueError if dropout needs a Key
  Tensor operator()(const Tensor& x) const;
  /// The same; the key is that of the dropout.
  Tensor operator()(const Tensor& x, Key key) const;

  void visit(Visitor& visitor) override;

  BatchNorm2d norm1;  ///< of the input
  Conv2d conv1;       ///< 1 x 1
  BatchNorm2d norm2;  ///< of conv1's result
  Conv2d conv2;       ///< 3 x 3

 private:
  [[nodiscard]] Tensor features(const Tensor& x) const;

  Dropout dropout_;
};

/// What follows a dense block but the last: normalisation, relu, a 1 x 1 convolution to `out_channels` and the mean of 2 x 2
/// pixels (DenseNet-C has half as many channels out as in).
class SOLVENT_API DenseTransition : public Module {
 public:
  /// Filters and options as of DenseLayer. @throws ValueError unless the sizes are positive
  DenseTransition(std::int64_t in_channels, std::int64_t out_channels, Key key, double eps = 1e-5,
                  DType dtype = DType::float32);

  /// x (N, in, H, W) -> (N, out, H / 2, W / 2), rounded down. @throws ShapeError, DtypeError
  Tensor operator()(const Tensor& x) const;

  void visit(Visitor& visitor) override;

  BatchNorm2d norm;  ///< of the input
  Conv2d conv;       ///< 1 x 1
};

}  // namespace solvent::nn
