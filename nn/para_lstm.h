#pragma once
/// The LSTM of ParaRNN (Danieli et al. 2026, arXiv:2510.21450) with coupled input and forget gates and peepholes, whose
/// recurrence acts on every channel by itself:
///
///     f = sigmoid(a_f h + p_f c + u_f)      g = tanh(a_g h + u_g)      c' = f c + (1 - f) g
///     o = sigmoid(a_o h + p_o c' + u_o)     h' = o tanh(c')
///
/// with u = B x + b. theta = {w_in (heads, 3 n/heads, I/heads), a (3, n), p (2, n), b (3, n)}, rows in the order f, o, g. The
/// state is (h, c) joined, (N, 2n); its first n entries are the output.

#include "solvent/nn/para_gru.h"

namespace solvent::nn {

/// One step of a ParaLSTM. The static functions are stateless in theta and act on rows.
class SOLVENT_API ParaLstmCell : public Module {
 public:
  /// @throws ValueError unless both sizes are positive multiples of options.heads
  ParaLstmCell(std::int64_t input_size, std::int64_t hidden_size, Key key, ParaOptions options = {});

  /// 2n: h and c.
  [[nodiscard]] std::int64_t state_size() const { return 2 * output_size(); }
  /// Leading entries of the state that are the output.
  [[nodiscard]] std::int64_t output_size() const { return a.value().size(1); }
  /// I.
  [[nodiscard]] std::int64_t input_size() const { return w_in.value().size(0) * w_in.value().size(2); }
  /// The parameters in the order of the file's head, as they are in the slots.
  [[nodiscard]] Tensors theta() const { return {w_in, a, p, b}; }
  /// Functions and theta for the solvers; the Jacobian consists of 2 x 2 blocks on (h_i, c_i) (`channelwise`).
  [[nodiscard]] RecurrentCell functions() const;

  /// s (N, 2n), x (N, I) -> next states (N, 2n).
  Tensor operator()(const Tensor& s, const Tensor& x) const { return step(s, x, theta()); }

  /// s (N, 2n), x (N, I) -> (N, 2n). @throws ShapeError, DtypeError
  static Tensor step(const Tensor& s, const Tensor& x, const Tensors& theta);
  /// B x + b: x (..., I) -> (..., 3n).
  static Tensor project(const Tensor& x, const Tensors& theta);
  /// s (N, 2n), u (N, 3n) from project -> (N, 2n).
  static Tensor step_projected(const Tensor& s, const Tensor& u, const Tensors& theta);
  /// Next states and the 2 x 2 blocks of their Jacobian, (N, n, 2, 2), which are all of it:
  ///   dc'/dc = f + (c - g) f(1-f) p_f      dc'/dh = (c - g) f(1-f) a_f + (1 - f)(1 - g^2) a_g
  ///   dh'/dc = w dc'/dc                    dh'/dh = tanh(c') o(1-o) a_o + w dc'/dh
  ///   with w = o(1-o) p_o tanh(c') + o (1 - tanh^2 c')
  static StepJacobian jacobian_blocks_projected(const Tensor& s, const Tensor& u, const Tensors& theta);
  /// The diagonal, (N, 2n).
  static StepJacobian jacobian_diagonal_projected(const Tensor& s, const Tensor& u, const Tensors& theta);
  /// The whole matrix, (N, 2n, 2n).
  static StepJacobian jacobian_projected(const Tensor& s, const Tensor& u, const Tensors& theta);

  void visit(Visitor& visitor) override;

  Parameter w_in;  ///< (heads, 3 n/heads, I/heads)
  Parameter a;     ///< (3, n)
  Parameter p;     ///< (2, n), peepholes of f and o
  Parameter b;     ///< (3, n)
};

}  // namespace solvent::nn
