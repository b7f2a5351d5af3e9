#pragma once
/// Convolutions by cuDNN. Internal to ops/cuda.
///
/// Deterministic algorithms only, those for which cuDNN's manual promises the same bits at every run: implicit products
/// forward, ALGO_1 backward. float32 is multiplied as the geometry says: without TF32 unless it was asked for. bfloat16
/// is multiplied by tensor cores and added in float32.

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
