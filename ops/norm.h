#pragma once
/// Normalisation over batches, weight normalisation and dropout. layer_norm without weight and bias is in
/// reduce.h.

#include "solvent/autodiff/basis.h"
#include "solvent/core/rng.h"

namespace solvent {

/// What batch_norm returns in training.
struct BatchNormResult {
  Tensor value;  ///< like x
  Tensor mean;   ///< (C), of the batch
  Tensor var;    ///< (C), of the batch, divided by the count n; running statistics use var * n / (n - 1)
};

/// (x - mean) / sqrt(var + eps) * weight + bias with the mean and variance of each channel over all other axes (Ioffe &
/// Szegedy 2015, arXiv:1502.03167): x (N, C, ...), `weight` and `bias` (C) or empty.
///
/// Derivatives of any order include those through the statistics; `mean` and `var` differentiate too. Sums are formed in
/// blocks of two passes and combined in double: the same bits for any number of threads.
/// @throws ShapeError for fewer than two axes, another number of channels, or no element per channel; DtypeError; ValueError
/// for eps < 0
SOLVENT_API BatchNormResult batch_norm(Tensor x, Tensor weight, Tensor bias, double eps = 1e-5);
/// The same with given statistics (C), as in evaluation: an affine map of each channel. `mean` and `var` are ordinary
/// arguments. @throws as batch_norm
SOLVENT_API Tensor batch_norm_eval(Tensor x, Tensor mean, Tensor var, Tensor weight, Tensor bias, double eps = 1e-5);

/// layer_norm (reduce.h) times `weight` plus `bias` (C) in one pass, x (..., C). @throws ShapeError, DtypeError; ValueError
/// for eps < 0
SOLVENT_API Tensor layer_norm(Tensor x, Tensor weight, Tensor bias, double eps = 1e-5);

/// gain * v / |v|, the norm over all axes but `axis` (Salimans & Kingma 2016, arXiv:1602.07868): `gain` has the extent of
/// that axis. For weights (out, in, ...) axis 0 is one gain per output channel, axis 1 one per input channel; for transposed
/// convolutions with weights (in, out, ...) it is the other way round. A zero v gives NaN.
/// @throws ShapeError, DtypeError
SOLVENT_API Tensor weight_norm(Tensor v, Tensor gain, std::int64_t axis = 0);

/// Zeros with probability p, else x / (1 - p) (Srivastava et al. 2014). Element i is dropped if word i of the stream `key`,
/// as a fraction of 2^32, is below p: a pure function of (key, i). @throws ValueError unless 0 <= p <= 1; DtypeError
SOLVENT_API Tensor dropout(Tensor x, double p, Key key);
/// Drops whole channels of each sample: x (N, C, ...), word n * C + c decides for channel c of sample n.
/// @throws ShapeError for fewer than two axes; as dropout
SOLVENT_API Tensor channel_dropout(Tensor x, double p, Key key);

}  // namespace solvent
