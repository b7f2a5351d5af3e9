#pragma once
/// The GRU of ParaRNN (Danieli et al. 2026, arXiv:2510.21450), whose recurrence acts on every channel by itself:
///
///     z = sigmoid(a_z h + u_z)    r = sigmoid(a_r h + u_r)    c = tanh(a_c h r + u_c)    h' = (1 - z) h + z c
///
/// with u = B x + b. theta = {w_in (heads, 3 n/heads, I/heads), a (3, n), b (3, n)}, rows in the order z, r, c; B is block
/// diagonal with one block per head. Note that z weighs the candidate, the opposite of GruCell.

#include "solvent/core/rng.h"
#include "solvent/nn/init.h"
#include "solvent/nn/module.h"
#include "solvent/nn/recurrent_cell.h"

namespace solvent::nn {

/// How ParaGruCell and ParaLstmCell are filled; in = I / heads, out = n / heads.
enum class ParaInit : std::uint8_t {
  /// The reference code's default: a (and peepholes) normal with deviation 2 / sqrt(5 n), B uniform within
  /// sqrt(6 / (in + out)), b zero but for row 0, which falls linearly from 0 to -1 over the channels.
  reference,
  /// As the paper's language models: a normal with deviation 1 / sqrt(n) cut off at +-0.9, B uniform within sqrt(3 / in), b
  /// zero.
  paper
};

/// Settings of ParaGruCell and ParaLstmCell.
struct ParaOptions {
  std::int64_t heads = 2;               ///< blocks of B; must divide both sizes
  ParaInit init = ParaInit::reference;  ///< how parameters are filled
  DType dtype = DType::float32;         ///< of all parameters
};

/// One step of a ParaGRU. The static functions are stateless in theta and act on rows.
class SOLVENT_API ParaGruCell : public Module {
 public:
  /// @throws ValueError unless both sizes are positive multiples of options.heads
  ParaGruCell(std::int64_t input_size, std::int64_t state_size, Key key, ParaOptions options = {});

  /// n.
  [[nodiscard]] std::int64_t state_size() const { return a.value().size(1); }
  /// Leading entries of the state that are the output.
  [[nodiscard]] std::int64_t output_size() const { return state_size(); }
  /// I.
  [[nodiscard]] std::int64_t input_size() const { return w_in.value().size(0) * w_in.value().size(2); }
  /// The parameters in the order of the file's head, as they are in the slots.
  [[nodiscard]] Tensors theta() const { return {w_in, a, b}; }
  /// Functions and theta for the solvers; the Jacobian is diagonal (`channelwise`).
  [[nodiscard]] RecurrentCell functions() const;

  /// h (N, n), x (N, I) -> next states (N, n).
  Tensor operator()(const Tensor& h, const Tensor& x) const { return step(h, x, theta()); }

  /// h (N, n), x (N, I) -> (N, n). @throws ShapeError, DtypeError
  static Tensor step(const Tensor& h, const Tensor& x, const Tensors& theta);
  /// B x + b: x (..., I) -> (..., 3n).
  static Tensor project(const Tensor& x, const Tensors& theta);
  /// h (N, n), u (N, 3n) from project -> (N, n).
  static Tensor step_projected(const Tensor& h, const Tensor& u, const Tensors& theta);
  /// Next states and the diagonal of their Jacobian, (N, n), which is all of it:
  ///   J = (1 - z) + (c - h) a_z z(1-z) + z a_c (1 - c^2) (r + h a_r r(1-r))
  static StepJacobian jacobian_diagonal_projected(const Tensor& h, const Tensor& u, const Tensors& theta);
  /// The same as a matrix, (N, n, n).
  static StepJacobian jacobian_projected(const Tensor& h, const Tensor& u, const Tensors& theta);

  void visit(Visitor& visitor) override;

  Parameter w_in;  ///< (heads, 3 n/heads, I/heads)
  Parameter a;     ///< (3, n)
  Parameter b;     ///< (3, n)
};

}  // namespace solvent::nn
