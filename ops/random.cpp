#include "solvent/ops/random.h"

#include <cmath>

#include <fmt/format.h>

#include "solvent/autodiff/cuda_kernel.h"
#include "solvent/core/error.h"
#include "solvent/ops/cpu/random.h"
#if SOLVENT_WITH_CUDA
#include "solvent/ops/cuda/random.h"
#endif
#include "solvent/ops/families.h"
#include "solvent/ops/rules.h"

namespace solvent {
namespace {

using detail::constant_op;

constinit const OpDef kUniform = constant_op("uniform", {cpu::uniform, SOLVENT_CUDA_KERNEL(cuda::uniform)});
constinit const OpDef kNormal = constant_op("normal", {cpu::normal, SOLVENT_CUDA_KERNEL(cuda::normal)});
constinit const OpDef kTruncatedNormal =
    constant_op("truncated_normal", {cpu::truncated_normal, SOLVENT_CUDA_KERNEL(cuda::truncated_normal)});
constinit const OpDef kBernoulli = constant_op("bernoulli", {cpu::bernoulli, SOLVENT_CUDA_KERNEL(cuda::bernoulli)});
constinit const OpDef kRandint = constant_op("randint", {cpu::randint, SOLVENT_CUDA_KERNEL(cuda::randint)});
constinit const OpDef kPermutation =
    constant_op("permutation", {cpu::permutation, SOLVENT_CUDA_KERNEL(cuda::permutation)});

constinit const OpDef* const kOps[] = {&kUniform, &kNormal, &kTruncatedNormal, &kBernoulli, &kRandint, &kPermutation};

Tensor draw(const OpDef& op, const RandomAttrs& attrs) { return std::move(apply(op, {}, &attrs)[0]); }

RandomAttrs attrs_for(const char* op, Key key, const Shape& shape, TensorOptions options) {
  if (is_storage_type(options.dtype)) detail::throw_not_floating(op, options.dtype);
  if (!is_floating(options.dtype))
    throw DtypeError(
        fmt::format("[{}] got dtype {}; expected float32 or float64. Use randint for integers, or cast(x, dtype).", op,
                    to_string(options.dtype)));
  RandomAttrs attrs;
  attrs.key = key;
  attrs.shape = shape;
  attrs.dtype = options.dtype;
  attrs.on = options.device;
  return attrs;
}

void check_stddev(const char* op, double stddev) {
  if (!(stddev >= 0.0) || !std::isfinite(stddev))
    throw ValueError(fmt::format("[{}] got stddev {}; expected a finite number >= 0.", op, stddev));
}

}  // namespace

namespace detail {
OpList random_ops() { return kOps; }
}  // namespace detail

Tensor uniform(Key key, const Shape& shape, double low, double high, TensorOptions options) {
  RandomAttrs attrs = attrs_for("uniform", key, shape, options);
  if (!(low < high) || !std::isfinite(high - low))
    throw ValueError(fmt::format("[uniform] got the interval [{}, {}); expected finite low < high.", low, high));
  attrs.a = low;
  attrs.b = high;
  return draw(kUniform, attrs);
}

Tensor normal(Key key, const Shape& shape, double mean, double stddev, TensorOptions options) {
  RandomAttrs attrs = attrs_for("normal", key, shape, options);
  check_stddev("normal", stddev);
  attrs.a = mean;
  attrs.b = stddev;
  return draw(kNormal, attrs);
}

Tensor truncated_normal(Key key, const Shape& shape, double bound, double stddev, TensorOptions options) {
  RandomAttrs attrs = attrs_for("truncated_normal", key, shape, options);
  if (!(bound > 0.0))
    throw ValueError(
        fmt::format("[truncated_normal] got bound {}; expected a number > 0 of standard deviations.", bound));
  check_stddev("truncated_normal", stddev);
  attrs.a = bound;
  attrs.b = stddev;
  return draw(kTruncatedNormal, attrs);
}

Tensor bernoulli(Key key, const Shape& shape, double p, Device device) {
  if (!(p >= 0.0 && p <= 1.0))
    throw ValueError(fmt::format("[bernoulli] got p = {}; expected a probability, 0 <= p <= 1.", p));
  RandomAttrs attrs;
  attrs.key = key;
  attrs.shape = shape;
  attrs.on = device;
  attrs.dtype = boolean;
  attrs.a = p;
  return draw(kBernoulli, attrs);
}

Tensor randint(Key key, const Shape& shape, std::int64_t low, std::int64_t high, Device device) {
  if (low >= high)
    throw ValueError(fmt::format("[randint] got the interval [{}, {}); expected low < high.", low, high));
  RandomAttrs attrs;
  attrs.key = key;
  attrs.shape = shape;
  attrs.on = device;
  attrs.dtype = int64;
  attrs.low = low;
  attrs.high = high;
  return draw(kRandint, attrs);
}

Tensor permutation(Key key, std::int64_t n, Device device) {
  if (n < 0) throw ValueError(fmt::format("[permutation] got n = {}; expected the number of elements, at least 0.", n));
  RandomAttrs attrs;
  attrs.key = key;
  attrs.shape = {n};
  attrs.on = device;
  attrs.dtype = int64;
  attrs.high = n;
  return draw(kPermutation, attrs);
}

}  // namespace solvent
