#pragma once
/// CPU kernels of the elementwise operations: allocation, strides, threads and types around the vector loops of
/// vector_kernels.h. Preconditions (checked by the front ends): operands of one shape, dtypes as documented there.

#include <span>
#include <string>

#include "solvent/autodiff/op.h"
#include "solvent/ops/functors.h"

namespace solvent {

/// Scalar arguments of an elementwise operation.
struct ParamAttrs : AttrsBase<ParamAttrs> {
  functor::Params params;

  ParamAttrs() = default;
  explicit ParamAttrs(double a, double b = 0.0) : params{a, b} {}
  [[nodiscard]] std::string describe() const override;
};

struct CastAttrs : AttrsBase<CastAttrs> {
  DType dtype;

  explicit CastAttrs(DType d) : dtype(d) {}
  [[nodiscard]] std::string describe() const override;
};

namespace cpu {

TensorVec run_unary(functor::UnaryFn fn, std::span<Tensor> inputs, functor::Params params);
TensorVec run_binary(functor::BinaryFn fn, std::span<Tensor> inputs, functor::Params params);
TensorVec run_compare(functor::CompareFn fn, std::span<Tensor> inputs);
TensorVec run_logical(functor::LogicalFn fn, std::span<Tensor> inputs);
TensorVec run_predicate(functor::PredicateFn fn, std::span<Tensor> inputs);

inline functor::Params params_of(const Attrs* attrs) {
  return attrs ? static_cast<const ParamAttrs*>(attrs)->params : functor::Params{};
}

/// Kernels: one function pointer per function.
template <functor::UnaryFn kFn>
TensorVec unary(std::span<Tensor> inputs, const Attrs* attrs) {
  return run_unary(kFn, inputs, params_of(attrs));
}
template <functor::BinaryFn kFn>
TensorVec binary(std::span<Tensor> inputs, const Attrs* attrs) {
  return run_binary(kFn, inputs, params_of(attrs));
}
template <functor::CompareFn kFn>
TensorVec compare(std::span<Tensor> inputs, const Attrs*) {
  return run_compare(kFn, inputs);
}
template <functor::LogicalFn kFn>
TensorVec logical(std::span<Tensor> inputs, const Attrs*) {
  return run_logical(kFn, inputs);
}

template <functor::PredicateFn kFn>
TensorVec predicate(std::span<Tensor> inputs, const Attrs*) {
  return run_predicate(kFn, inputs);
}

/// Remainder of a / b with the sign of a.
TensorVec fmod(std::span<Tensor> inputs, const Attrs*);
/// x^p with p = ParamAttrs::params.a.
TensorVec pow_scalar(std::span<Tensor> inputs, const Attrs* attrs);
TensorVec logical_not(std::span<Tensor> inputs, const Attrs*);
/// condition (bool), a, b
TensorVec where(std::span<Tensor> inputs, const Attrs*);
TensorVec cast(std::span<Tensor> inputs, const Attrs* attrs);

}  // namespace cpu
}  // namespace solvent
