#pragma once
/// The simple recurrent cell of Elman (1990): h' = tanh(W_ih x + W_hh h + b),
/// with theta = {w_ih (H, I), w_hh (H, H), b (H)}.

#include "solvent/core/rng.h"
#include "solvent/nn/init.h"
#include "solvent/nn/module.h"
#include "solvent/nn/recurrent_cell.h"

namespace solvent::nn {

/// How a new cell is filled.
struct ElmanOptions {
  RecurrentInit init = RecurrentInit::equinox;  ///< initial values
  DType dtype = DType::float32;                 ///< of the parameters
};

/// One step of a tanh RNN. The static functions are stateless in theta and act on rows.
class SOLVENT_API ElmanCell : public Module {
 public:
  /// @throws ValueError unless both sizes are positive
  ElmanCell(std::int64_t input_size, std::int64_t hidden_size, Key key, ElmanOptions options = {});

  /// Number H of states, and I of inputs.
  /// @{
  [[nodiscard]] std::int64_t state_size() const { return w_hh.value().size(1); }
  [[nodiscard]] std::int64_t input_size() const { return w_ih.value().size(1); }
  /// @}
  /// {w_ih, w_hh, b} as they are in the slots.
  [[nodiscard]] Tensors theta() const { return {w_ih, w_hh, b}; }
  /// Functions and theta for the solvers.
  [[nodiscard]] RecurrentCell functions() const;

  /// h (N, H), x (N, I) -> next states (N, H).
  Tensor operator()(const Tensor& h, const Tensor& x) const { return step(h, x, theta()); }

  /// h (N, H), x (N, I) -> (N, H). @throws ShapeError, DtypeError
  static Tensor step(const Tensor& h, const Tensor& x, const Tensors& theta);
  /// W_ih x + b: x (..., I) -> (..., H).
  static Tensor project(const Tensor& x, const Tensors& theta);
  /// h (N, H), xw (N, H) from project -> (N, H).
  static Tensor step_projected(const Tensor& h, const Tensor& xw, const Tensors& theta);

  /// Next states and J = diag(1 - h'^2) W_hh, (N, H, H).
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

  Parameter w_ih;  ///< (H, I)
  Parameter w_hh;  ///< (H, H)
  Parameter b;     ///< (H)
};

}  // namespace solvent::nn
