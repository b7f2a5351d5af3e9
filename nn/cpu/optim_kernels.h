#pragma once
/// Vector kernels of the optimizers on raw contiguous memory. They trust their inputs and never throw.
///
/// Traffic per element: one read and one write of the parameter and of each state, one read of the gradient; nothing
/// else is stored. Every element is computed from its own inputs, so results do not depend on how a caller cuts the
/// arrays.

#include <cstdint>

namespace solvent::nn::cpu {

/// Sgd's update with all scalars of one step.
struct SgdScalars {
  double rate = 0;
  double momentum = 0;
  double gradient_weight = 1;  ///< of g in the momentum: 1 - dampening, but 1 in the first step
  double momentum_weight = 0;  ///< of the old momentum: 0 in the first step
  double weight_decay = 0;
  bool nesterov = false;
};

/// `velocity` is null for plain gradient descent.
template <class T>
void sgd_update(T* p, const T* g, T* velocity, std::int64_t n, const SgdScalars& scalars) noexcept;

/// Adam's and AdamW's update with all scalars of one step.
struct AdamScalars {
  double beta1 = 0;
  double beta2 = 0;
  double step_size = 0;     ///< rate / (1 - beta1^t)
  double inverse_root = 1;  ///< 1 / sqrt(1 - beta2^t)
  double eps = 0;
  double coupled_decay = 0;     ///< added to the gradient times the parameter
  double parameter_weight = 1;  ///< 1 - rate * decay of AdamW
};

/// `v_max` is null without AMSGrad.
template <class T>
void adam_update(T* p, const T* g, T* m, T* v, T* v_max, std::int64_t n, const AdamScalars& scalars) noexcept;

/// Adamax' update with all scalars of one step.
struct AdamaxScalars {
  double beta1 = 0;
  double beta2 = 0;
  double step_size = 0;  ///< rate / (1 - beta1^t)
  double eps = 0;
  double weight_decay = 0;
};

template <class T>
void adamax_update(T* p, const T* g, T* m, T* u, std::int64_t n, const AdamaxScalars& scalars) noexcept;

/// average += weight (x - average): an exponential average with decay 1 - weight.
template <class T>
void average_update(T* average, const T* x, std::int64_t n, double weight) noexcept;

/// Sum of squares of a block, in float64.
template <class T>
double sum_of_squares(const T* x, std::int64_t n) noexcept;

/// Elements per block: about 20 us of work, and a multiple of every vector length.
inline constexpr std::int64_t kOptimGrain = 16384;

}  // namespace solvent::nn::cpu
