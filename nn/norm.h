#pragma once
/// Batch normalisation with running statistics, and weight normalisation. LayerNorm is in layer_norm.h.

#include <optional>

#include "solvent/core/rng.h"
#include "solvent/nn/module.h"
#include "solvent/ops/norm.h"

namespace solvent::nn {

/// Options of BatchNorm1d and BatchNorm2d.
struct BatchNormOptions {
  double eps = 1e-5;  ///< added to the variance (PyTorch's default)
  /// running <- (1 - momentum) running + momentum batch; without a value the mean over all batches so far
  std::optional<double> momentum = 0.1;
  bool affine = true;            ///< with scale and shift
  bool track = true;             ///< with running statistics; without, evaluation uses those of the batch
  DType dtype = DType::float32;  ///< of parameters and statistics
};

/// Normalises each channel of x (N, C, ...) (Ioffe & Szegedy 2015, arXiv:1502.03167).
///
/// In training by the statistics of the batch, which also move the running ones (the variance with n - 1 in the
/// denominator, as PyTorch's); in evaluation by the running ones. Running statistics are buffers: saved, not trained, never
/// carrying derivatives. A call in training assigns them although it is const; a copy of the module has its own.
class SOLVENT_API BatchNorm : public Module {
 public:
  /// Scale 1, shift 0, running mean 0 and variance 1. @throws ValueError unless `channels` is positive, eps > 0 and 0 <=
  /// momentum <= 1
  explicit BatchNorm(std::int64_t channels, BatchNormOptions options = {});

  /// x (N, C, ...) -> same shape. @throws ShapeError, DtypeError; ValueError in training for one element per channel
  Tensor operator()(const Tensor& x) const;

  /// The training form without touching the running statistics, for callers that update them on their own.
  [[nodiscard]] BatchNormResult normalise(const Tensor& x) const;
  /// What `repeats` calls with these statistics of `count` elements per channel do to the running ones, in closed form.
  /// @throws ValueError without running statistics, for count < 2 or repeats < 0
  void update_running(const Tensor& mean, const Tensor& var, std::int64_t count, std::int64_t repeats = 1) const;

  void visit(Visitor& visitor) override;

  /// Number of channels C.
  [[nodiscard]] std::int64_t channels() const noexcept { return channels_; }

  Parameter weight;                    ///< (C), or empty
  Parameter bias;                      ///< (C), or empty
  mutable Buffer running_mean;         ///< (C), or empty
  mutable Buffer running_var;          ///< (C), or empty
  mutable Buffer num_batches_tracked;  ///< int64 (), or empty

 protected:
  /// Throws ShapeError naming `layer` unless x is (N, C, ...) with a rank in [low, high].
  void check_input(const char* layer, const char* expected, const Tensor& x, int low, int high) const;

 private:
  std::int64_t channels_;
  BatchNormOptions options_;
};

/// BatchNorm of x (N, C) or (N, C, L).
class SOLVENT_API BatchNorm1d : public BatchNorm {
 public:
  using BatchNorm::BatchNorm;
  /// Same shape. @throws ShapeError for another rank; as BatchNorm
  Tensor operator()(const Tensor& x) const;
};

/// BatchNorm of x (N, C, H, W).
class SOLVENT_API BatchNorm2d : public BatchNorm {
 public:
  using BatchNorm::BatchNorm;
  /// Same shape. @throws ShapeError for another rank; as BatchNorm
  Tensor operator()(const Tensor& x) const;
};

/// A weight stored as direction and length, w = gain v / |v| (Salimans & Kingma 2016, arXiv:1602.07868), one gain per index
/// of an axis. A part of layers, which list it by `weight.visit(visitor)`: "weight_v", "weight_g" as in PyTorch.
class SOLVENT_API WeightNorm : public Module {
 public:
  /// v and gain as given. @throws ShapeError unless gain has the extent of `axis`; DtypeError
  WeightNorm(Tensor v, Tensor gain, std::int64_t axis = 0);
  /// v = weight and gain = |weight|, so that the value is `weight`. @throws as the constructor
  static WeightNorm of(Tensor weight, std::int64_t axis = 0);
  /// v uniform within +-bound, and as gain the norms of a second, independent draw (the initial values of the PixelCNN++ in
  /// Song et al. 2021, arXiv:2002.03629). @throws as the constructor; ValueError unless bound > 0
  static WeightNorm independent(const Shape& shape, double bound, Key key, std::int64_t axis = 0,
                                DType dtype = DType::float32);

  /// The weight, differentiable in v and gain.
  Tensor operator()() const;

  void visit(Visitor& visitor) override;

  Parameter v;     ///< shape of the weight
  Parameter gain;  ///< (extent of the axis)

 private:
  std::int64_t axis_;
};

/// Data-dependent initial values (Salimans & Kingma 2016, section 3): scales `gain` and moves `bias` so that the layer's
/// output, which was `output` for a first batch, has mean 0 and deviation `scale` in every channel. `channel_axis` is that of
/// `output`; gains must be per output channel. Layers are initialised one after the other, each on the output of those before.
/// @throws ShapeError if gain and bias are not one per channel; ValueError for a channel without variation or scale <= 0
SOLVENT_API void initialise_from_data(WeightNorm& weight, Parameter& bias, const Tensor& output,
                                      std::int64_t channel_axis = 1, double scale = 1.0);

/// y = x w^T + b with a normalised weight, one gain per output.
class SOLVENT_API WeightNormLinear : public Module {
 public:
  /// As WeightNorm::independent with bound 1 / sqrt(in), bias uniform within the same bound.
  /// @throws ValueError unless both sizes are positive
  WeightNormLinear(std::int64_t in_features, std::int64_t out_features, Key key, DType dtype = DType::float32);

  /// x (..., in) -> (..., out). @throws ShapeError, DtypeError
  Tensor operator()(const Tensor& x) const;
  /// initialise_from_data for the batch x (..., in).
  void initialise(const Tensor& x, double scale = 1.0);

  void visit(Visitor& visitor) override;

  WeightNorm weight;  ///< (out, in)
  Parameter bias;     ///< (out)
};

}  // namespace solvent::nn
