#pragma once
/// CPU kernels of gru_sequence and gru_sequence_grad on tensors: make operands contiguous and call gru_kernels.h.

#include <array>
#include <span>

#include "solvent/autodiff/op.h"

namespace solvent::cpu {

/// States (T, B, H) and, if wanted, gates (T, B, 4, H). Inputs: xs, h0, w_ih, w_hh, b, b_hn.
TensorVec gru_forward_pass(std::span<const Tensor> inputs, bool keep_gates);

/// Cotangents of the six arguments. Inputs: the six, the states, the states' cotangent, and optionally the gates.
/// Results that are not wanted are zeros without memory.
TensorVec gru_gradients(std::span<const Tensor> inputs, const std::array<bool, 6>& wanted);

}  // namespace solvent::cpu
