#pragma once
/// Fused GRU kernels on raw, contiguous, row-major memory. They trust their inputs and know nothing about tensors,
/// tapes or errors; the ops on top check shapes and own the memory.
///
/// The cell (PyTorch's convention; Equinox and Flax weights map onto it), gate order r, z, n, weights (out, in):
///
///     r  = sigmoid(W_ir x + W_hr h + b_r)         z = sigmoid(W_iz x + W_hz h + b_z)
///     q  = W_hn h + b_hn                          n = tanh(W_in x + b_n + r * q)
///     h' = (1 - z) * n + z * h
///
/// Guarantees, for both float and double:
/// - results have the same bits for any number of threads: work is partitioned by sizes only, and weight gradients are
///   partial sums per fixed batch block, added in a fixed order;
/// - the forward result of a batch element has the same bits in any batch, and does not depend on T;
/// - NaN and infinity in the inputs reach the outputs, they are never turned into ordinary numbers.
/// The vector sigmoid and tanh have absolute errors of about 1e-7 (float) and 1e-15 (double); near 0 the error of tanh
/// is absolute, not relative.

#include <cstdint>

#include "solvent/core/export.h"

namespace solvent::cpu {

/// Sizes of one GRU layer: T time steps, B sequences, I inputs, H hidden units.
struct GruShape {
  std::int64_t T = 0;
  std::int64_t B = 0;
  std::int64_t I = 0;
  std::int64_t H = 0;
};

/// Weights of one GRU layer, all contiguous, rows in gate order r, z, n.
template <class T>
struct GruWeights {
  const T* w_ih = nullptr;  ///< (3H, I)
  const T* w_hh = nullptr;  ///< (3H, H)
  const T* b = nullptr;     ///< (3H) biases of the three input projections
  const T* b_hn = nullptr;  ///< (H) bias inside the reset gate's product
};

/// Results of `gru_backward`; every pointer may be null, then that result is not computed. Values are overwritten.
template <class T>
struct GruGradients {
  T* d_xs = nullptr;    ///< (T, B, I)
  T* d_h0 = nullptr;    ///< (B, H)
  T* d_w_ih = nullptr;  ///< (3H, I)
  T* d_w_hh = nullptr;  ///< (3H, H)
  T* d_b = nullptr;     ///< (3H)
  T* d_b_hn = nullptr;  ///< (H)
};

/// Runs the cell over time.
///
/// @param xs     (T, B, I) inputs.
/// @param h0     (B, H) state before step 0; null means zeros.
/// @param hs     (T, B, H) states after each step (output).
/// @param gates  null, or (T, B, 4, H): r, z, n and q of each step, for `gru_backward` (output).
///
/// T = 1 with B rows evaluates the cell on a batch of states.
template <class T>
SOLVENT_API void gru_forward(const GruShape& shape, const GruWeights<T>& weights, const T* xs, const T* h0, T* hs,
                             T* gates);

/// Transposes `gru_forward`: given the gradient with respect to every state, computes the requested gradients.
///
/// @param hs     (T, B, H) states computed by `gru_forward`.
/// @param gates  the gates saved by `gru_forward`, or null: then they are recomputed from `hs` (as batched rows, about
///               20 % slower for H >= 64 and equal for small H, but 4H values per row less memory).
/// @param g_hs   (T, B, H) cotangents of `hs`.
template <class T>
SOLVENT_API void gru_backward(const GruShape& shape, const GruWeights<T>& weights, const T* xs, const T* h0,
                              const T* hs, const T* gates, const T* g_hs, const GruGradients<T>& gradients);

/// Input projection xw = W_i x + b of `rows` inputs: xs (rows, I) -> xw (rows, 3H), gate order r, z, n.
template <class T>
SOLVENT_API void gru_input_projection(std::int64_t rows, std::int64_t input, std::int64_t hidden,
                                      const GruWeights<T>& weights, const T* xs, T* xw);

/// Which part of the cell's Jacobian to write, and how.
enum class GruJacobianLayout {
  row_major,     ///< (rows, H, H): jac[r][i][j] = d h'_i / d h_j
  column_major,  ///< (rows, H, H): jac[r][j][i] = d h'_i / d h_j (columns contiguous; each K direction is one row)
  diagonal,      ///< (rows, H): jac[r][i] = d h'_i / d h_i
};

/// Evaluates the cell and its closed-form Jacobian with respect to the state on a batch of rows.
///
///     J = diag(z) + diag((h - n) z(1-z)) W_hz + diag((1-z)(1-n^2)) [diag(r) W_hn + diag(q r(1-r)) W_hr]
///
/// @param xw      (rows, 3H) from `gru_input_projection`; it does not change between Newton iterations.
/// @param h_prev  (rows, H) states the cell is evaluated at.
/// @param f_out   (rows, H) the cell's values; null to skip.
/// @param jac     layout as chosen.
/// `weights.w_ih` and `weights.b` are not read. Source: specs of DEER (Lim et al. 2024, arXiv:2309.12252), section 3.
template <class T>
SOLVENT_API void gru_cell_jacobian(std::int64_t rows, std::int64_t hidden, const GruWeights<T>& weights, const T* xw,
                                   const T* h_prev, T* f_out, T* jac, GruJacobianLayout layout);

}  // namespace solvent::cpu
