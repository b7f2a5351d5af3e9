#include "solvent/experiments/common/data/batch_tensors.h"

#include <utility>
#include <vector>

#include <fmt/format.h>

#include "solvent/core/dtype.h"
#include "solvent/core/error.h"
#include "solvent/ops/shape_ops.h"

namespace solvent::experiments {

namespace {

template <class T>
BatchTensors convert(const SequenceBatch& batch) {
  std::vector<T> weights(static_cast<std::size_t>(batch.num_steps * batch.batch), T{0});
  for (std::int64_t b = 0; b < batch.batch; ++b) {
    const std::int64_t length = batch.lengths[static_cast<std::size_t>(b)];
    for (std::int64_t t = 0; t < length; ++t) {
      weights[static_cast<std::size_t>(t * batch.batch + b)] = T{1} / static_cast<T>(length);
    }
  }
  const std::vector<T> values(batch.values.begin(), batch.values.end());
  return {from_vector(values, {batch.num_steps, batch.batch, batch.num_channels}),
          from_vector(weights, {batch.num_steps, batch.batch, 1}), from_vector(batch.labels, {batch.batch})};
}

}  // namespace

BatchTensors to_tensors(const SequenceBatch& batch, DType dtype) {
  if (dtype == DType::float32) return convert<float>(batch);
  if (dtype == DType::float64) return convert<double>(batch);
  throw DtypeError(fmt::format("[to_tensors] got {}; expected float32 or float64", to_string(dtype)));
}

std::vector<Tensor*> tensors_of(BatchTensors& batch) { return {&batch.values, &batch.time_weights, &batch.labels}; }

BatchTensors to(BatchTensors batch, Device device) {
  return {.values = solvent::to(std::move(batch.values), device),
          .time_weights = solvent::to(std::move(batch.time_weights), device),
          .labels = solvent::to(std::move(batch.labels), device)};
}

}  // namespace solvent::experiments
