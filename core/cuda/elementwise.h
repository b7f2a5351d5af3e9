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

/// Packs that a thread reads before it writes: 32 bytes in flight per thread and more keep an H200 busy, whose memory answers
/// after about 0.7 us (25 KiB per multiprocessor).
template <int kInputs>
inline constexpr int kPacksAtOnce = kInputs <= 2 ? 2 : 1;

/// Packs of at most 16 bytes per operand and turn; the elements behind the last whole pack are done one by one. Operands
/// with a step of 1 and y start at multiples of 16 bytes.
template <class F, class In, class Out, int kInputs, int kPack>
__global__ void dense_kernel(F f, DenseOperands<In, kInputs> x, Out* y, std::int64_t n) {
  constexpr int kAtOnce = kPacksAtOnce<kInputs>;
  const std::int64_t packs = n / kPack;
  const std::int64_t width = blockDim.x;
  const std::int64_t step = grid_threads() * kAtOnce;
  SOLVENT_ROLLED
  for (std::int64_t first = blockIdx.x * width * kAtOnce + threadIdx.x; first < packs; first += step) {
    Pack<In, kPack> in[kAtOnce][kInputs];
    for (int a = 0; a < kAtOnce; ++a) {
      if (first + a * width >= packs) continue;
      for (int k = 0; k < kInputs; ++k) {
        if (x.step[k] != 0) {
          in[a][k] = reinterpret_cast<const Pack<In, kPack>*>(x.data[k])[first + a * width];
        } else {
          for (int j = 0; j < kPack; ++j) in[a][k].value[j] = x.data[k][0];
        }
      }
    }
    for (int a = 0; a < kAtOnce; ++a) {
      if (first + a * width >= packs) continue;
      Pack<Out, kPack> out;
      for (int j = 0; j < kPack; ++j) {
        In element[kInputs];
        for (int k = 0; k < kInputs; ++k) element[k] = in[a][k].value[j];
        out.value[j] = f(element);
      }
      store_pack(reinterpret_cast<Pack<Out, kPack>*>(y) + first + a * width, out);
    }
  }
  SOLVENT_ROLLED
  for (std::int64_t i = packs * kPack + global_thread(); i < n; i += grid_threads()) {
    In element[kInputs];
    for (int k = 0; k < kInputs; ++k) element[k] = x.data[k][i * x.step[k]];
    y[i] = f(element);
  }
}

/// Operands of any strides, y dense: kPack elements of the last axis per turn, which lie side by side or are the same one in
/// each operand (x.step), and one position to find for all of them.
template <class F, class In, class Out, int kInputs, int kPack>
__global__ void strided_kernel(F f, DenseOperands<In, kInputs> x, StridedIndex<kInputs> index, Out* y, std::int64_t n) {
  SOLVENT_ROLLED
  for (std::int64_t p = global_thread(); p < n / kPack; p += grid_threads()) {
    std::int64_t offset[kInputs];
    index.locate(p * kPack, offset);
    Pack<In, kPack> in[kInputs];
    for (int k = 0; k < kInputs; ++k) {
      if (kPack == 1 || x.step[k] != 0) {
        in[k] = *reinterpret_cast<const Pack<In, kPack>*>(x.data[k] + offset[k]);
      } else {
        for (int j = 0; j < kPack; ++j) in[k].value[j] = x.data[k][offset[k]];
      }
    }
    Pack<Out, kPack> out;
    for (int j = 0; j < kPack; ++j) {
      In element[kInputs];
      for (int k = 0; k < kInputs; ++k) element[k] = in[k].value[j];
      out.value[j] = f(element);
    }
    store_pack(reinterpret_cast<Pack<Out, kPack>*>(y) + p, out);
  }
}

/// True if strided_kernel may take packs of n elements; sets the operands' steps along the last axis.
template <class In, int kInputs>
bool allows_packs(DenseOperands<In, kInputs>& x, const StridedIndex<kInputs>& index, int n) {
  const int last = index.rank - 1;
  if (last < 0 || index.extent[last] % n != 0) return false;
  for (int k = 0; k < kInputs; ++k) {
    x.step[k] = index.stride[k][last];
    if (x.step[k] == 0) continue;
    if (x.step[k] != 1 || !is_aligned(x.data[k])) return false;
    for (int axis = 0; axis < last; ++axis)
      if (index.stride[k][axis] % n != 0) return false;
  }
  return true;
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
  constexpr int kPack = static_cast<int>(16 / std::max(sizeof(In), sizeof(Out)));
  if (dense) {
    launch(over_elements(name, n, device, kPack * kPacksAtOnce<kInputs>), dense_kernel<F, In, Out, kInputs, kPack>, f,
           x, out, n);
  } else if (allows_packs(x, index, kPack)) {
    launch(over_elements(name, n, device, kPack), strided_kernel<F, In, Out, kInputs, kPack>, f, x, index, out, n);
  } else {
    launch(over_elements(name, n, device), strided_kernel<F, In, Out, kInputs, 1>, f, x, index, out, n);
  }
  return y;
}

}  // namespace solvent::cuda
