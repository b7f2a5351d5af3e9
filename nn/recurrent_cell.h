#pragma once
/// What a solver may know about a recurrent cell. Solvers take functions, not modules; a cell module hands out its
/// functions and parameters in this form, and a user's own cell is the same struct with only `step` filled.

#include <cstdint>
#include <functional>

#include "solvent/core/tensor.h"

namespace solvent::nn {

/// Cells for which fused kernels exist; `generic` always works.
enum class CellKind : std::uint8_t { generic, gru, elman };

/// One step and its derivative in the state, for N independent rows.
struct StepJacobian {
  Tensor value;  ///< (N, n) next states
  /// (N, n, n), [r][i][j] = d value[r][i] / d h[r][j]; or (N, n), its diagonal; or (N, n/k, k, k), its blocks,
  /// [r][i][a][b] = d value[r][a n/k + i] / d h[r][b n/k + i]
  Tensor jacobian;
};

/// A recurrent cell as a value: h' = step(h, x, theta) on rows, h (N, n) and x (N, m).
///
/// The functions are stateless (all parameters are in theta), act on each row separately, and are differentiable in all
/// arguments to any order. `theta` are the parameters when the struct was made: pass it on, do not capture it.
struct RecurrentCell {
  /// The functions of a cell, see the members that have these types.
  /// @{
  using StepFn = std::function<Tensor(const Tensor& h, const Tensor& x, const Tensors& theta)>;
  using JacobianFn = std::function<StepJacobian(const Tensor& h, const Tensor& x, const Tensors& theta)>;
  using ProjectFn = std::function<Tensor(const Tensor& x, const Tensors& theta)>;
  /// @}

  CellKind kind = CellKind::generic;  ///< which fused kernels may take the cell's place
  std::int64_t state_size = 0;        ///< n
  std::int64_t input_size = 0;        ///< m
  Tensors theta;                      ///< parameters, in the order in which the functions take them
  /// h (N, n), x (N, m) -> h' (N, n).
  StepFn step;
  /// Optional closed forms; empty: a solver differentiates `step`.
  /// @{
  JacobianFn jacobian;
  JacobianFn jacobian_diagonal;
  /// @}
  /// Optional: the part of a step that depends on the input only. x (..., m) -> (..., p), computed once per solve; the
  /// functions below then take its rows (N, p) in the place of x.
  ProjectFn project;
  /// The functions above with rows of project(x) in the place of x.
  /// @{
  StepFn step_projected;
  JacobianFn jacobian_projected;
  JacobianFn jacobian_diagonal_projected;
  /// @}
  /// Number k of components per channel: the state is component 0 of all channels, then component 1, ... (an LSTM's h and
  /// c). The block of a channel is the k x k Jacobian of its components in themselves.
  std::int64_t components = 1;
  /// True if no channel reads another channel's state: then the Jacobian consists of its blocks (of its diagonal for
  /// k = 1), and Newton's method costs O(n) per step.
  bool channelwise = false;
  JacobianFn jacobian_blocks = {};            ///< optional closed form of the blocks, for k > 1
  JacobianFn jacobian_blocks_projected = {};  ///< the same with rows of project(x) in the place of x
  /// The first entries of the state are the output of a layer; 0: all of them.
  std::int64_t output_size = 0;
};

}  // namespace solvent::nn
