#pragma once
/// CUDA kernels of gru_sequence and gru_sequence_grad, and the cell with its Jacobian. Internal to the library.

#include <array>
#include <span>

#include "solvent/autodiff/op.h"
#include "solvent/core/export.h"

namespace solvent::cuda {

/// See ops/cpu/gru_glue.h.
/// @{
TensorVec gru_forward_pass(std::span<const Tensor> inputs, bool keep_gates);
TensorVec gru_gradients(std::span<const Tensor> inputs, const std::array<bool, 6>& wanted);
/// @}

/// The cell on rows h (N, H) with projected inputs xw (N, 3H), bias included; see cpu::gru_cell_jacobian.
/// @param jacobian  null, or an empty tensor (N, H, H), or (N, H) for its diagonal, which is written
/// @return the next states (N, H)
SOLVENT_API Tensor gru_cell(const Tensor& h, const Tensor& xw, const Tensor& w_hh, const Tensor& b_hn,
                            Tensor* jacobian);

/// The sequential parts for up to kGruPersistentHidden units; gru_steps.cu. Everything is dense device memory.
/// @{
inline constexpr std::int64_t kGruPersistentHidden = 64;

/// States of `steps` steps from `before` (batch, hidden). xw (steps, batch, 3 hidden) without the bias, or null for zeros.
///
/// With `chunks` above 1, `steps` steps of each chunk of time side by side: chunk c begins with step c length + shift and ends
/// before step `total` at the latest. Then `before`, `active` and `last` have a leading axis of chunks.
template <class T>
struct GruStates {
  std::int64_t steps, batch, hidden;
  const T* xw;
  const T* w_hh;
  const T* b;
  const T* b_hn;
  const T* before;  ///< null: zeros
  T* hs;            ///< null: not stored
  T* gates;         ///< null, or (steps, batch, 4, hidden): r, z, n, q
  std::int64_t chunks = 1, length = 0, shift = 0;
  std::int64_t total = 0;        ///< 0: no limit
  const bool* active = nullptr;  ///< (chunks, batch), or null: the rollouts that are wanted
  T* last = nullptr;             ///< (chunks, batch, hidden), or null: their last states
};
template <class T>
SOLVENT_API void gru_states(const GruStates<T>& call, Device device);

/// Adjoint of the recurrence, from the last step to the first: with l = g + carry,
///   u (steps, batch, 4, hidden): cotangents of the pre-activations of n, r, z, and of q,
///   carry <- z l + W_hh^T (u_r, u_z, u_q).
template <class T>
struct GruAdjoint {
  std::int64_t steps, batch, hidden;
  const T* w_hh;
  const T* gates;
  const T* before;  ///< (batch, hidden): state before the first of these steps
  const T* hs;
  const T* g;
  T* carry;  ///< (batch, hidden), read and written
  T* u;
};
template <class T>
void gru_adjoint(const GruAdjoint<T>& call, Device device);
/// @}

}  // namespace solvent::cuda
