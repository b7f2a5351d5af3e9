#pragma once
/// Random tensors as pure functions of a Key: element i depends on (key, i) only, so the bits are the same for any number
/// of threads and on every device.

#include "solvent/autodiff/basis.h"
#include "solvent/core/rng.h"

namespace solvent {

/// Uniform in [low, high). 24 (float32) or 53 (float64) random bits. @throws ValueError unless low < high, DtypeError
SOLVENT_API Tensor uniform(Key key, const Shape& shape, double low = 0.0, double high = 1.0,
                           TensorOptions options = {});
/// Normal by the inverse distribution function (Wichura 1988, AS 241) of one 32-bit word (float32; |z| <= 6.4) or 52 bits
/// (float64; |z| <= 8.3). Relative error of the quantile 1e-15, then rounded. @throws DtypeError, ValueError for stddev < 0
SOLVENT_API Tensor normal(Key key, const Shape& shape, double mean = 0.0, double stddev = 1.0,
                          TensorOptions options = {});
/// Normal conditioned on |z| <= bound standard deviations. @throws ValueError unless bound > 0 and stddev >= 0
SOLVENT_API Tensor truncated_normal(Key key, const Shape& shape, double bound = 2.0, double stddev = 1.0,
                                    TensorOptions options = {});
/// true with probability p. @throws ValueError unless 0 <= p <= 1
SOLVENT_API Tensor bernoulli(Key key, const Shape& shape, double p, Device device = {});
/// Integers in [low, high), each with probability 1 / (high - low) up to 2^-64. @throws ValueError if empty
SOLVENT_API Tensor randint(Key key, const Shape& shape, std::int64_t low, std::int64_t high, Device device = {});
/// A uniformly random order of 0..n-1 (int64).
SOLVENT_API Tensor permutation(Key key, std::int64_t n, Device device = {});

}  // namespace solvent
