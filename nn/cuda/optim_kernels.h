#pragma once
/// The optimizers' kernels on a GPU: twins of nn/cpu/optim_kernels.h, with the arithmetic of those. Internal to nn/.

#include "solvent/core/tensor.h"
#include "solvent/nn/cpu/optim_kernels.h"
#include "solvent/nn/optim/device_updates.h"

namespace solvent::nn::cuda {

/// One launch for 44 to 64 parameters, by the number of their states, so that many small parameters cost little on the host.
/// @{
void sgd_update(const detail::DeviceUpdates& updates, const cpu::SgdScalars& scalars);
void adam_update(const detail::DeviceUpdates& updates, const cpu::AdamScalars& scalars);
void adamax_update(const detail::DeviceUpdates& updates, const cpu::AdamaxScalars& scalars);
/// @}

/// average + weight (x - average)
Tensor average_update(Tensor average, Tensor x, double weight);

/// Sum of the squares of all elements of dense tensors, float32 or float64, on one device: in float64, over blocks of fixed
/// size and in an order that depends on sizes only. Waits for the result.
double sum_of_squares(const Tensors& tensors);

}  // namespace solvent::nn::cuda
