#pragma once
/// CUDA kernels of the convolution family; operands and results as in ops/cpu/conv_kernels.h. Internal to ops/.
///
/// Two implementations, compared in tests/cuda/conv_cuda_test.cpp: cuDNN (conv_cudnn.h) where it is there and supports the
/// call, and own kernels for any floating type and any size (conv_gather.cu, conv_weight.cu). Both give the same bits at
/// every run. The environment variable SOLVENT_CUDA_CONV=own chooses the own kernels for a whole process.

#include <cstdint>

#include "solvent/ops/cpu/conv_kernels.h"

namespace solvent::cuda {

enum class ConvBackend : std::uint8_t { automatic, own };

/// Whether this build has cuDNN, or the emulator, where the own kernels stand in for it.
SOLVENT_API bool has_cudnn() noexcept;

/// Tensors of any strides on one device; results are dense.
/// @{
SOLVENT_API Tensor conv(const Tensor& x, const Tensor& w, const cpu::ConvGeometry& g,
                        ConvBackend backend = ConvBackend::automatic);
SOLVENT_API Tensor conv_input_grad(const Tensor& g, const Tensor& w, const cpu::ConvGeometry& geometry,
                                   ConvBackend backend = ConvBackend::automatic);
SOLVENT_API Tensor conv_weight_grad(const Tensor& x, const Tensor& g, const cpu::ConvGeometry& geometry,
                                    ConvBackend backend = ConvBackend::automatic);
/// @}

// --- on dense memory of `device`, sizes > 0; for conv.cpp -----------------------------------------------------------------

template <class T>
void own_conv(const cpu::ConvShape& s, const T* x, const T* w, T* y, Device device);
template <class T>
void own_conv_input_grad(const cpu::ConvShape& s, const T* g, const T* w, T* x, Device device);
template <class T>
void own_conv_weight_grad(const cpu::ConvShape& s, const T* x, const T* g, T* w, Device device);

}  // namespace solvent::cuda
