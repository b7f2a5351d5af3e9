#pragma once
/// Binary functions of one floating type: included by elementwise_binary_f32.cu and elementwise_binary_f64.cu, because all in
/// one file take minutes to compile.

#include <utility>

#include "solvent/core/cuda/elementwise.h"
#include "solvent/ops/cuda/elementwise.h"

namespace solvent::cuda {
namespace {

template <functor::BinaryFn kFn, class T>
struct Binary {
  functor::Params params;
  __device__ T operator()(const T (&x)[2]) const { return functor::binary<kFn>(x[0], x[1], params); }
};

template <functor::BinaryFn kFn, class T>
Tensor run_binary_function(Tensor& a, Tensor& b, functor::Params params) {
  return elementwise<T, T>("binary function", Binary<kFn, T>{params}, {&a, &b});
}

template <class T, int... kFns>
Tensor run_by_number(std::integer_sequence<int, kFns...>, functor::BinaryFn fn, Tensor& a, Tensor& b,
                     functor::Params params) {
  using Runner = Tensor (*)(Tensor&, Tensor&, functor::Params);
  static constexpr Runner kRunners[] = {run_binary_function<static_cast<functor::BinaryFn>(kFns), T>...};
  return kRunners[static_cast<int>(fn)](a, b, params);
}

}  // namespace

template <class T>
Tensor binary_float(functor::BinaryFn fn, Tensor& a, Tensor& b, functor::Params params) {
  return run_by_number<T>(std::make_integer_sequence<int, functor::kBinaryFnCount>(), fn, a, b, params);
}

}  // namespace solvent::cuda
