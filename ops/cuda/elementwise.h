#pragma once
/// CUDA kernels of the elementwise operations: the scalar definitions of functors.h in the loops of core/cuda/elementwise.h.
/// Preconditions as for the CPU's (ops/cpu/elementwise.h). Internal to ops/.

#include <span>

#include "solvent/ops/cpu/elementwise.h"

namespace solvent::cuda {

/// By function, for one floating type; elementwise_*.cu.
/// @{
template <class T>
Tensor unary_float(functor::UnaryFn fn, Tensor& x, functor::Params params);
template <class T>
Tensor binary_float(functor::BinaryFn fn, Tensor& a, Tensor& b, functor::Params params);
/// @}

TensorVec run_unary(functor::UnaryFn fn, std::span<Tensor> inputs, functor::Params params);
TensorVec run_binary(functor::BinaryFn fn, std::span<Tensor> inputs, functor::Params params);
TensorVec run_compare(functor::CompareFn fn, std::span<Tensor> inputs);
TensorVec run_logical(functor::LogicalFn fn, std::span<Tensor> inputs);
TensorVec run_predicate(functor::PredicateFn fn, std::span<Tensor> inputs);

/// Kernels: one function pointer per function.
/// @{
template <functor::UnaryFn kFn>
TensorVec unary(std::span<Tensor> inputs, const Attrs* attrs) {
  return run_unary(kFn, inputs, cpu::params_of(attrs));
}
template <functor::BinaryFn kFn>
TensorVec binary(std::span<Tensor> inputs, const Attrs* attrs) {
  return run_binary(kFn, inputs, cpu::params_of(attrs));
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

TensorVec fmod(std::span<Tensor> inputs, const Attrs*);
TensorVec pow_scalar(std::span<Tensor> inputs, const Attrs* attrs);
TensorVec logical_not(std::span<Tensor> inputs, const Attrs*);
TensorVec where(std::span<Tensor> inputs, const Attrs*);
TensorVec cast(std::span<Tensor> inputs, const Attrs* attrs);
/// @}

}  // namespace solvent::cuda
