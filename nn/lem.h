#pragma once
/// Long expressive memory (Rusch et al. 2022, arXiv:2110.04744):
///
///     d1 = dt sigmoid(W_1 x + b_1 + V_1 y)            d2 = dt sigmoid(W_2 x + b_2 + V_2 y)
///     z' = (1 - d2) z + d2 tanh(W_z x + b_z + V_z y)  y' = (1 - d1) y + d1 tanh(W_y x + b_y + V_y z')
///
/// with theta = {w_ih (4H, I), w_hh (3H, H), w_z (H, H), b (4H)}; w_ih and b are stacked in the order 1, 2, z, y, w_hh in the
/// order 1, 2, z (they act on y), w_z is V_y (it acts on z'). The state is (y, z) joined, (N, 2H); y is the output.
///
/// The authors' code has a second set of biases on the state's side, which only appear in sums and are left out here.

#include "solvent/core/rng.h"
#include "solvent/nn/init.h"
#include "solvent/nn/module.h"
#include "solvent/nn/recurrent_cell.h"

namespace solvent::nn {

/// How LemCell is filled.
enum class LemInit : std::uint8_t {
  uniform,   ///< all weights and biases within 1 / sqrt(H), as the authors' code
  he_normal  ///< normal weights with variance 2 / fan_in, zero biases, as DEER's EigenWorms experiment
};

/// Settings of LemCell.
struct LemOptions {
  double dt = 1.0;                  ///< scale of both time steps, 0 < dt <= 1; DEER's EigenWorms experiment has 0.0016
  LemInit init = LemInit::uniform;  ///< how parameters are filled
  DType dtype = DType::float32;     ///< of all parameters
};

/// One step of LEM. The static functions are stateless in theta and act on rows.
class SOLVENT_API LemCell : public Module {
 public:
  /// @throws ValueError unless both sizes are positive and 0 < dt <= 1
  LemCell(std::int64_t input_size, std::int64_t hidden_size, Key key, LemOptions options = {});

  /// 2H: y and z.
  [[nodiscard]] std::int64_t state_size() const { return 2 * output_size(); }
  /// Leading entries of the state that are the output.
  [[nodiscard]] std::int64_t output_size() const { return w_z.value().size(1); }
  /// I.
  [[nodiscard]] std::int64_t input_size() const { return w_ih.value().size(1); }
  /// Scale of both time steps.
  [[nodiscard]] double dt() const noexcept { return dt_; }
  /// The parameters in the order of the file's head, as they are in the slots.
  [[nodiscard]] Tensors theta() const { return {w_ih, w_hh, w_z, b}; }
  /// Functions and theta for the solvers; two components per channel, so that y_i and z_i form a 2 x 2 block.
  [[nodiscard]] RecurrentCell functions() const;

  /// s (N, 2H), x (N, I) -> next states (N, 2H).
  Tensor operator()(const Tensor& s, const Tensor& x) const { return step(s, x, theta(), dt_); }

  /// s (N, 2H), x (N, I) -> (N, 2H). @throws ShapeError, DtypeError
  static Tensor step(const Tensor& s, const Tensor& x, const Tensors& theta, double dt);
  /// W x + b: x (..., I) -> (..., 4H).
  static Tensor project(const Tensor& x, const Tensors& theta);
  /// s (N, 2H), xw (N, 4H) from project -> (N, 2H).
  static Tensor step_projected(const Tensor& s, const Tensor& xw, const Tensors& theta, double dt);
  /// Next states and their Jacobian in s, (N, 2H, 2H), in closed form. With the candidates q of z and p of y, the gates
  /// s1 and s2, and w = d1 (1 - p^2):
  ///   dz'/dy = diag((q - z) d2 (1 - s2)) V_2 + diag(d2 (1 - q^2)) V_z                dz'/dz = diag(1 - d2)
  ///   dy'/dy = diag(1 - d1) + diag((p - y) d1 (1 - s1)) V_1 + diag(w) V_y dz'/dy     dy'/dz = diag(w) V_y diag(1 - d2)
  static StepJacobian jacobian_projected(const Tensor& s, const Tensor& xw, const Tensors& theta, double dt);
  /// Its diagonal, (N, 2H).
  static StepJacobian jacobian_diagonal_projected(const Tensor& s, const Tensor& xw, const Tensors& theta, double dt);
  /// Its 2 x 2 blocks on (y_i, z_i), (N, H, 2, 2).
  static StepJacobian jacobian_blocks_projected(const Tensor& s, const Tensor& xw, const Tensors& theta, double dt);

  void visit(Visitor& visitor) override;

  Parameter w_ih;  ///< (4H, I)
  Parameter w_hh;  ///< (3H, H)
  Parameter w_z;   ///< (H, H)
  Parameter b;     ///< (4H)

 private:
  double dt_ = 1.0;
};

}  // namespace solvent::nn
