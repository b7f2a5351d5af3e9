#pragma once
/// Batches of series as tensors.

#include <vector>

#include "solvent/core/tensor.h"
#include "solvent/experiments/common/data/sequence_data.h"

namespace solvent::experiments {

/// What a sequence classifier consumes.
struct BatchTensors {
  Tensor values;        ///< (T, B, C), zero behind the end of a series
  Tensor time_weights;  ///< (T, B, 1): 1 / length within a series, 0 behind; weights of a mean over time
  Tensor labels;        ///< (B) int64
};

/// @param dtype  of values and weights: float32 or float64. @throws DtypeError otherwise.
BatchTensors to_tensors(const SequenceBatch& batch, DType dtype = DType::float32);

/// What a prefetcher for a GPU copies.
std::vector<Tensor*> tensors_of(BatchTensors& batch);

/// The batch on another device. @throws DeviceError if this build or machine does not have it.
BatchTensors to(BatchTensors batch, Device device);

}  // namespace solvent::experiments
