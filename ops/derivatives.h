#pragma once
/// Derivatives as operations of their own. Not part of the public interface.
///
/// `f_grad(g, s)` is g * f'(s) in one pass over memory (g may carry leading axes of directions, s is then broadcast). Each is
/// an ordinary operation with its own rules, so first derivatives cost one kernel and every higher order still exists.

#include "solvent/autodiff/basis.h"

namespace solvent::detail {

// From the input x.
SOLVENT_API Tensor abs_grad(Tensor g, Tensor x);
SOLVENT_API Tensor square_grad(Tensor g, Tensor x);
SOLVENT_API Tensor log1p_grad(Tensor g, Tensor x);
SOLVENT_API Tensor sin_grad(Tensor g, Tensor x);  ///< g cos(x)
SOLVENT_API Tensor cos_grad(Tensor g, Tensor x);  ///< -g sin(x)
SOLVENT_API Tensor erf_grad(Tensor g, Tensor x);
SOLVENT_API Tensor softplus_grad(Tensor g, Tensor x);  ///< g sigmoid(x)
SOLVENT_API Tensor leaky_relu_grad(Tensor g, Tensor x, double slope);
SOLVENT_API Tensor elu_grad(Tensor g, Tensor x, double alpha);
SOLVENT_API Tensor clip_grad(Tensor g, Tensor x, double low, double high);
SOLVENT_API Tensor silu_grad(Tensor g, Tensor x);
SOLVENT_API Tensor gelu_grad(Tensor g, Tensor x);
SOLVENT_API Tensor gelu_tanh_grad(Tensor g, Tensor x);
/// Jacobian of layer_norm (symmetric) times g, over the last axis.
SOLVENT_API Tensor layer_norm_grad(Tensor g, Tensor x, double eps);

// From the output y.
SOLVENT_API Tensor reciprocal_grad(Tensor g, Tensor y);  ///< -g y^2
SOLVENT_API Tensor sqrt_grad(Tensor g, Tensor y);        ///< g / (2 y)
SOLVENT_API Tensor rsqrt_grad(Tensor g, Tensor y);       ///< -g y^3 / 2
SOLVENT_API Tensor expm1_grad(Tensor g, Tensor y);       ///< g (y + 1)
SOLVENT_API Tensor tanh_grad(Tensor g, Tensor y);        ///< g (1 - y^2)
SOLVENT_API Tensor sigmoid_grad(Tensor g, Tensor y);     ///< g y (1 - y)
SOLVENT_API Tensor relu_grad(Tensor g, Tensor y);        ///< g where y > 0, else 0
/// Jacobian of softmax (symmetric) times g: y (g - sum(g y)) over the last axis.
SOLVENT_API Tensor softmax_grad(Tensor g, Tensor y);

/// (softmax(logits) - one_hot(labels)) / N for logits (N, C) and labels (N).
SOLVENT_API Tensor cross_entropy_grad(Tensor logits, Tensor labels);

}  // namespace solvent::detail
