#pragma once
/// Convolutions by cuDNN. Internal to ops/cuda.
///
/// Of the algorithms that give the same bits at every run and take at most 1 GiB of memory beside the operands, the one that
/// cuDNN estimates to be the fastest. Its estimates come from sizes, so the choice and the bits do too, on one kind of card and
/// with one version of cuDNN. float32 is multiplied as the geometry says: without TF32 unless it was asked for. bfloat16 is
/// multiplied by tensor cores and added in float32. Algorithms that transform tiles or maps (Winograd, Fourier) have the errors
/// of float32 relative to the largest values there, and a NaN or infinity may reach more results of its image, or more taps
/// of a weight gradient, than those that depend on it.

#include <cstdint>

#include "solvent/core/tensor.h"
#include "solvent/ops/cpu/conv_kernels.h"

namespace solvent::cuda {

enum class ConvMember : std::uint8_t { conv, input_grad, weight_grad };

/// result = member(a, b) for dense tensors of one device and dtype (float32, float64 or bfloat16), sizes > 0, on the current
/// stream; before = after along both axes. False, and nothing is written, if this build has no cuDNN or cuDNN supports no
/// deterministic algorithm for this call. @throws DeviceError with cuDNN's words for any other failure
bool conv_cudnn(ConvMember member, const cpu::ConvShape& s, const Tensor& a, const Tensor& b, Tensor& result);

}  // namespace solvent::cuda
