// The fused GRU on tensors. Copies happen only for operands that are not row-major (transposed weights, sliced batches);
// an empty batch or input of width 0 is answered here, where the raw kernels would need special cases.

#include "solvent/ops/cpu/gru_glue.h"

#include <utility>

#include "solvent/core/engine/view.h"
#include "solvent/ops/cpu/gru_kernels.h"
#include "solvent/ops/rule_util.h"

namespace solvent::cpu {
namespace {

constexpr std::size_t kArguments = 6;

// Row-major operands; keeps copies alive while the kernel runs.
struct Operands {
  Tensor t[9];
  GruShape shape;

  explicit Operands(std::span<const Tensor> inputs) {
    for (std::size_t i = 0; i < inputs.size(); ++i) t[i] = engine::contiguous(inputs[i]);
    shape.T = t[0].size(0);
    shape.B = t[0].size(1);
    shape.I = t[0].size(2);
    shape.H = t[1].size(1);
  }

  template <class T>
  [[nodiscard]] const T* ptr(std::size_t i) const {
    return t[i].defined() ? engine::ptr<T>(t[i]) : nullptr;
  }

  template <class T>
  [[nodiscard]] GruWeights<T> weights() const {
    return {ptr<T>(2), ptr<T>(3), ptr<T>(4), ptr<T>(5)};
  }
};

}  // namespace

TensorVec gru_forward_pass(std::span<const Tensor> inputs, bool keep_gates) {
  const Operands in(inputs);
  const GruShape& s = in.shape;
  const DType dtype = inputs[0].dtype();
  Tensor hs = engine::empty({s.T, s.B, s.H}, dtype, inputs[0].device());
  Tensor gates;
  if (keep_gates) gates = engine::empty({s.T, s.B, 4, s.H}, dtype, inputs[0].device());
  dispatch_float(dtype, "gru_sequence", [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (s.B == 0) return;
    gru_forward<T>(s, in.weights<T>(), in.ptr<T>(0), in.ptr<T>(1), engine::mutable_ptr<T>(hs),
                   keep_gates ? engine::mutable_ptr<T>(gates) : nullptr);
  });
  if (!keep_gates) return hs;
  return {std::move(hs), std::move(gates)};
}

TensorVec gru_gradients(std::span<const Tensor> inputs, const std::array<bool, 6>& wanted) {
  const Operands in(inputs);
  const GruShape& s = in.shape;
  TensorVec grads(static_cast<int>(kArguments));
  for (std::size_t i = 0; i < kArguments; ++i) {
    const Tensor& like = inputs[i];
    const bool computed = wanted[i] && s.B > 0;
    grads[static_cast<int>(i)] = computed ? engine::empty(like.shape(), like.dtype(), like.device())
                                          : detail::zeros_view(like.shape(), like.dtype(), like.device());
  }
  if (s.B == 0) return grads;
  dispatch_float(inputs[0].dtype(), "gru_sequence_grad", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto target = [&](std::size_t i) {
      return wanted[i] ? engine::mutable_ptr<T>(grads[static_cast<int>(i)]) : nullptr;
    };
    const GruGradients<T> out{target(0), target(1), target(2), target(3), target(4), target(5)};
    gru_backward<T>(s, in.weights<T>(), in.ptr<T>(0), in.ptr<T>(1), in.ptr<T>(6), in.ptr<T>(8), in.ptr<T>(7), out);
  });
  return grads;
}

}  // namespace solvent::cpu
