#pragma once
/// Functions of the elements at one position: the loops of all elementwise operations. For `.cu` files only.
///
///     template <class T>
///     struct Hypot {
///       __device__ T operator()(const T (&x)[2]) const { return std::sqrt(x[0] * x[0] + x[1] * x[1]); }
///     };
///     Tensor y = cuda::elementwise<T, T>("hypot", Hypot<T>{}, {&a, &b});

#include <algorithm>
#include <cstdint>

#include "solvent/core/cuda/launch.h"
#include "solvent/core/cuda/strided.h"
#include "solvent/core/engine/view.h"

namespace solvent::cuda {

/// The operands of one call; a step of 0 means the same element everywhere.
template <class In, int kInputs>
struct DenseOperands {
  const In* data[kInputs];
  std::int64_t step[kInputs];
};

/// Packs of at most 16 bytes per operand and turn; the elements behind the last whole pack are done one by one. Operands
/// with a step of 1 and y start at multiples of 16 bytes.
template <class F, class In, class Out, int kInputs, int kPack>
__global__ void dense_kernel(F f, DenseOperands<In, kInputs> x, Out* y, std::int64_t n) {
  const std::int64_t packs = n / kPack;
  const std::int64_t first = global_thread();
  const std::int64_t step = grid_threads();
  for (std::int64_t p = first; p < packs; p += step) {
    Pack<In, kPack> in[kInputs];
    for (int k = 0; k < kInputs; ++k) {
      if (x.step[k] != 0) {
        in[k] = reinterpret_cast<const Pack<In, kPack>*>(x.data[k])[p];
      } else {
        for (int j = 0; j < kPack; ++j) in[k].value[j] = x.data[k][0];
      }
    }
    Pack<Out, kPack> out;
    for (int j = 0; j < kPack; ++j) {
      In element[kInputs];
      for (int k = 0; k < kInputs; ++k) element[k] = in[k].value[j];
      out.value[j] = f(element);
    }
    reinterpret_cast<Pack<Out, kPack>*>(y)[p] = out;
  }
  for (std::int64_t i = packs * kPack + first; i < n; i += step) {
    In element[kInputs];
    for (int k = 0; k < kInputs; ++k) element[k] = x.data[k][i * x.step[k]];
    y[i] = f(element);
  }
}

/// Operands of any strides and alignment; y is dense.
template <class F, class In, class Out, int kInputs>
__global__ void strided_kernel(F f, DenseOperands<In, kInputs> x, StridedIndex<kInputs> index, Out* y, std::int64_t n) {
  for (std::int64_t i = global_thread(); i < n; i += grid_threads()) {
    std::int64_t offset[kInputs];
    index.locate(i, offset);
    In element[kInputs];
    for (int k = 0; k < kInputs; ++k) element[k] = x.data[k][offset[k]];
    y[i] = f(element);
  }
}

/// True if every element of `t` is the same one in memory.
inline bool is_one_value(const Tensor& t) noexcept {
  for (int i = 0; i < t.rank(); ++i)
    if (t.shape()[i] != 1 && t.strides()[i] != 0) return false;
  return true;
}

/// y[i] = f(x0[i], x1[i], ...) for inputs of one shape and of element type In. Reuses the memory of a dying input that is
/// dense and as large as the result. F is copied to the device: `Out operator()(const In (&x)[kInputs]) const`.
template <class In, class Out, int kInputs, class F>
Tensor elementwise(const char* name, F f, Tensor* const (&inputs)[kInputs]) {
  const Shape shape = inputs[0]->shape();
  const Device device = inputs[0]->device();
  const std::int64_t n = shape.product();
  DenseOperands<In, kInputs> x;
  const Strides* strides[kInputs];
  bool dense = true;
  for (int k = 0; k < kInputs; ++k) {
    Tensor& t = *inputs[k];
    x.data[k] = engine::ptr<In>(t);
    x.step[k] = is_one_value(t) && n != 1 ? 0 : 1;
    dense = dense && (x.step[k] == 0 || t.is_contiguous());
  }
  for (int k = 0; k < kInputs; ++k) {
    dense = dense && (x.step[k] == 0 || is_aligned(x.data[k]));
    strides[k] = &inputs[k]->strides();
  }
  const StridedIndex<kInputs> index = dense ? StridedIndex<kInputs>() : StridedIndex<kInputs>(shape, strides);
  Tensor* reused = inputs[0];
  for (int k = 0; k < kInputs; ++k)
    if (engine::can_donate(*inputs[k])) reused = inputs[k];
  Tensor y = engine::take_or_empty(*reused, shape, dtype_of<Out>);
  if (n == 0) return y;
  Out* const out = engine::mutable_ptr<Out>(y);
  if (dense) {
    constexpr int kPack = static_cast<int>(16 / std::max(sizeof(In), sizeof(Out)));
    launch(over_elements(name, n, device, kPack), dense_kernel<F, In, Out, kInputs, kPack>, f, x, out, n);
  } else {
    launch(over_elements(name, n, device), strided_kernel<F, In, Out, kInputs>, f, x, index, out, n);
  }
  return y;
}

}  // namespace solvent::cuda
