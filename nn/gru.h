#pragma once
/// Gated recurrent units (Cho et al. 2014, arXiv:1406.1078, in the form used by PyTorch, Equinox and Flax):
///
///     r = sigmoid(W_ir x + b_r + W_hr h)        z = sigmoid(W_iz x + b_z + W_hz h)
///     q = W_hn h + b_hn                         c = tanh(W_in x + b_n + r * q)
///     h' = (1 - z) * c + z * h
///
/// with theta = {w_ih (3H, I), w_hh (3H, H), b (3H), b_hn (H)}, gates stacked in the order r, z, n.

#include "solvent/core/rng.h"
#include "solvent/nn/init.h"
#include "solvent/nn/module.h"
#include "solvent/nn/recurrent_cell.h"

namespace solvent::nn {

/// PyTorch's `nn.GRU` layout: gates r, z, n. Its b_hh for r and z only ever appears added to b_ih.
struct PyTorchGru {
  Tensor weight_ih;  ///< (3H, I)
  Tensor weight_hh;  ///< (3H, H)
  Tensor bias_ih;    ///< (3H)
  Tensor bias_hh;    ///< (3H)
};

/// Equinox' `nn.GRUCell` layout: gates r, z, n.
struct EquinoxGru {
  Tensor weight_ih;  ///< (3H, I)
  Tensor weight_hh;  ///< (3H, H)
  Tensor bias;       ///< (3H)
  Tensor bias_n;     ///< (H)
};

/// Flax' `linen.GRUCell` layout: one dense layer per gate, kernels (in, out); only `hn` has a bias on the state's side.
struct FlaxGru {
  /// (I, H) each.
  /// @{
  Tensor ir_kernel, iz_kernel, in_kernel;
  /// @}
  /// (H, H) each.
  /// @{
  Tensor hr_kernel, hz_kernel, hn_kernel;
  /// @}
  /// (H) each.
  /// @{
  Tensor ir_bias, iz_bias, in_bias;
  /// @}
  Tensor hn_bias;  ///< (H)
};

/// How a new cell is filled.
struct GruOptions {
  RecurrentInit init = RecurrentInit::equinox;  ///< initial values
  DType dtype = DType::float32;                 ///< of the parameters
};

/// One step of a GRU. The static functions are stateless in theta and act on rows.
class SOLVENT_API GruCell : public Module {
 public:
  /// @throws ValueError unless both sizes are positive
  GruCell(std::int64_t input_size, std::int64_t hidden_size, Key key, GruOptions options = {});
  /// From given tensors; sizes follow from their shapes. @throws ShapeError, DtypeError if they do not fit
  static GruCell from_theta(Tensors theta);
  /// From the parameters of another library. @throws ShapeError, DtypeError if they do not fit
  /// @{
  static GruCell from_pytorch(const PyTorchGru& p);
  static GruCell from_equinox(const EquinoxGru& p);
  static GruCell from_flax(const FlaxGru& p);
  /// @}
  /// The parameters as another library wants them; PyTorch's state-side biases of r and z are zero.
  /// @{
  [[nodiscard]] PyTorchGru to_pytorch() const;
  [[nodiscard]] EquinoxGru to_equinox() const;
  [[nodiscard]] FlaxGru to_flax() const;
  /// @}

  /// Number H of states, and I of inputs.
  /// @{
  [[nodiscard]] std::int64_t state_size() const { return w_hh.value().size(1); }
  [[nodiscard]] std::int64_t input_size() const { return w_ih.value().size(1); }
  /// @}
  /// {w_ih, w_hh, b, b_hn} as they are in the slots.
  [[nodiscard]] Tensors theta() const { return {w_ih, w_hh, b, b_hn}; }
  /// Functions and theta for the solvers.
  [[nodiscard]] RecurrentCell functions() const;

  /// h (N, H), x (N, I) -> next states (N, H).
  Tensor operator()(const Tensor& h, const Tensor& x) const { return step(h, x, theta()); }

  /// h (N, H), x (N, I) -> (N, H). @throws ShapeError, DtypeError
  static Tensor step(const Tensor& h, const Tensor& x, const Tensors& theta);
  /// W_i x + b: x (..., I) -> (..., 3H). The part of a step that does not depend on the state.
  static Tensor project(const Tensor& x, const Tensors& theta);
  /// h (N, H), xw (N, 3H) from project -> (N, H).
  static Tensor step_projected(const Tensor& h, const Tensor& xw, const Tensors& theta);

  /// Next states and their Jacobian in h, in closed form:
  ///   J = diag(z) + diag((h - c) z (1 - z)) W_hz + diag((1 - z)(1 - c^2)) (diag(r) W_hn + diag(q r (1 - r)) W_hr)
  /// One fused kernel for plain tensors, ordinary operations when an argument is being differentiated.
  /// Source: Lim et al. 2024 (arXiv:2309.12252); the diagonal is that of Gonzalez et al. 2024 (arXiv:2407.19115).
  /// @{
  static StepJacobian jacobian(const Tensor& h, const Tensor& x, const Tensors& theta);
  static StepJacobian jacobian_projected(const Tensor& h, const Tensor& xw, const Tensors& theta);
  /// @}
  /// The diagonal of the same Jacobian, (N, H).
  /// @{
  static StepJacobian jacobian_diagonal(const Tensor& h, const Tensor& x, const Tensors& theta);
  static StepJacobian jacobian_diagonal_projected(const Tensor& h, const Tensor& xw, const Tensors& theta);
  /// @}

  void visit(Visitor& visitor) override;

  Parameter w_ih;  ///< (3H, I)
  Parameter w_hh;  ///< (3H, H)
  Parameter b;     ///< (3H)
  Parameter b_hn;  ///< (H)

 private:
  GruCell() = default;
};

/// A GRU over whole sequences, evaluated step by step by one fused operation (ops/gru.h).
class SOLVENT_API Gru : public Module {
 public:
  /// A new cell. @throws ValueError unless both sizes are positive
  Gru(std::int64_t input_size, std::int64_t hidden_size, Key key, GruOptions options = {})
      : cell(input_size, hidden_size, key, options) {}
  /// Around a given cell.
  explicit Gru(GruCell c) : cell(std::move(c)) {}

  /// xs (T, B, I), h0 (B, H) -> states after every step (T, B, H). @throws ShapeError (also for T == 0), DtypeError
  Tensor operator()(const Tensor& xs, const Tensor& h0) const;
  /// From the zero state.
  Tensor operator()(const Tensor& xs) const;

  void visit(Visitor& visitor) override { visitor("cell", cell); }

  GruCell cell;  ///< the cell; its functions are what solvers take
};

}  // namespace solvent::nn
