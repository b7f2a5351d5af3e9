#pragma once
/// Unary functions of one floating type: included by elementwise_unary_f32.cu and elementwise_unary_f64.cu, because all in one
/// file take minutes to compile.

#include <utility>

#include "solvent/core/cuda/elementwise.h"
#include "solvent/ops/cuda/elementwise.h"

namespace solvent::cuda {
namespace {

template <functor::UnaryFn kFn, class T>
struct Unary {
  functor::Params params;
  __device__ T operator()(const T (&x)[1]) const { return functor::unary<kFn>(x[0], params); }
};

template <functor::UnaryFn kFn, class T>
Tensor run_unary_function(Tensor& x, functor::Params params) {
  return elementwise<T, T>("unary function", Unary<kFn, T>{params}, {&x});
}

template <class T, int... kFns>
Tensor run_by_number(std::integer_sequence<int, kFns...>, functor::UnaryFn fn, Tensor& x, functor::Params params) {
  using Runner = Tensor (*)(Tensor&, functor::Params);
  static constexpr Runner kRunners[] = {run_unary_function<static_cast<functor::UnaryFn>(kFns), T>...};
  return kRunners[static_cast<int>(fn)](x, params);
}

}  // namespace

template <class T>
Tensor unary_float(functor::UnaryFn fn, Tensor& x, functor::Params params) {
  return run_by_number<T>(std::make_integer_sequence<int, functor::kUnaryFnCount>(), fn, x, params);
}

}  // namespace solvent::cuda
