#pragma once
/// Long short-term memory (Hochreiter and Schmidhuber 1997, in the form used by PyTorch and Equinox):
///
///     i, f, o = sigmoid(W_. x + b_. + U_. h)      g = tanh(W_g x + b_g + U_g h)
///     c' = f * c + i * g                          h' = o * tanh(c')
///
/// with theta = {w_ih (4H, I), w_hh (4H, H), b (4H)}, gates stacked in the order i, f, g, o. The state is (h, c) joined,
/// (N, 2H); its first H entries are the output.

#include "solvent/core/rng.h"
#include "solvent/nn/init.h"
#include "solvent/nn/module.h"
#include "solvent/nn/recurrent_cell.h"

namespace solvent::nn {

/// PyTorch's `nn.LSTM` layout: gates i, f, g, o; its two biases only appear as their sum.
struct PyTorchLstm {
  Tensor weight_ih;  ///< (4H, I)
  Tensor weight_hh;  ///< (4H, H)
  Tensor bias_ih;    ///< (4H)
  Tensor bias_hh;    ///< (4H)
};

/// Settings of LstmCell.
struct LstmOptions {
  RecurrentInit init = RecurrentInit::equinox;  ///< how parameters are filled
  DType dtype = DType::float32;                 ///< of all parameters
};

/// One step of an LSTM. The static functions are stateless in theta and act on rows.
class SOLVENT_API LstmCell : public Module {
 public:
  /// @throws ValueError unless both sizes are positive
  LstmCell(std::int64_t input_size, std::int64_t hidden_size, Key key, LstmOptions options = {});
  /// From given tensors; sizes follow from their shapes. @throws ShapeError, DtypeError if they do not fit
  static LstmCell from_theta(Tensors theta);
  /// The two biases are added. @throws ShapeError, DtypeError
  static LstmCell from_pytorch(const PyTorchLstm& p);
  [[nodiscard]] PyTorchLstm to_pytorch() const;  ///< bias_hh is zero

  /// 2H: h and c.
  [[nodiscard]] std::int64_t state_size() const { return 2 * output_size(); }
  /// Leading entries of the state that are the output.
  [[nodiscard]] std::int64_t output_size() const { return w_hh.value().size(1); }
  /// I.
  [[nodiscard]] std::int64_t input_size() const { return w_ih.value().size(1); }
  /// The parameters in the order of the file's head, as they are in the slots.
  [[nodiscard]] Tensors theta() const { return {w_ih, w_hh, b}; }
  /// Functions and theta for the solvers; two components per channel, so that h_i and c_i form a 2 x 2 block.
  [[nodiscard]] RecurrentCell functions() const;

  /// s (N, 2H), x (N, I) -> next states (N, 2H).
  Tensor operator()(const Tensor& s, const Tensor& x) const { return step(s, x, theta()); }

  /// s (N, 2H), x (N, I) -> (N, 2H). @throws ShapeError, DtypeError
  static Tensor step(const Tensor& s, const Tensor& x, const Tensors& theta);
  /// W x + b: x (..., I) -> (..., 4H).
  static Tensor project(const Tensor& x, const Tensors& theta);
  /// s (N, 2H), xw (N, 4H) from project -> (N, 2H).
  static Tensor step_projected(const Tensor& s, const Tensor& xw, const Tensors& theta);
  /// Next states and their Jacobian in s, (N, 2H, 2H), in closed form:
  ///   dc'/dh = diag(c f(1-f)) U_f + diag(g i(1-i)) U_i + diag(i (1-g^2)) U_g      dc'/dc = diag(f)
  ///   dh'/dh = diag(tanh(c') o(1-o)) U_o + diag(w) dc'/dh                         dh'/dc = diag(w f),  w = o (1 - tanh^2 c')
  static StepJacobian jacobian_projected(const Tensor& s, const Tensor& xw, const Tensors& theta);
  /// Its diagonal, (N, 2H).
  static StepJacobian jacobian_diagonal_projected(const Tensor& s, const Tensor& xw, const Tensors& theta);
  /// Its 2 x 2 blocks on (h_i, c_i), (N, H, 2, 2).
  static StepJacobian jacobian_blocks_projected(const Tensor& s, const Tensor& xw, const Tensors& theta);

  void visit(Visitor& visitor) override;

  Parameter w_ih;  ///< (4H, I)
  Parameter w_hh;  ///< (4H, H)
  Parameter b;     ///< (4H)

 private:
  LstmCell() = default;
};

}  // namespace solvent::nn
