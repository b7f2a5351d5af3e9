#pragma once
/// Running folds within warps and blocks, in an order that depends on sizes only. For `.cu` files only; kernels that use
/// them are launched with barriers.

#include "solvent/core/cuda/launch.h"

namespace solvent::cuda {

/// Exchanges between the lanes of a warp; overloaded for states of several words (found by their namespace).
/// @{
template <class T>
__device__ T shift_up(T value, unsigned lanes) {
  return __shfl_up_sync(kAllLanes, value, lanes);
}
template <class T>
__device__ T from_lane(T value, int lane) {
  return __shfl_sync(kAllLanes, value, lane);
}
/// @}

/// Lane i gets op(op(v_0, v_1), ... v_i), associated as a tree. Op: `T operator()(T a, T b)`, associative, a left of b.
template <class T, class Op>
__device__ T warp_scan(T value, Op op) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (int lanes = 1; lanes < 32; lanes *= 2) {
    const T left = shift_up(value, static_cast<unsigned>(lanes));
    if (lane >= lanes) value = op(left, value);
  }
  return value;
}

/// The same over all threads of a block (a multiple of 32, at most 1024). `before` becomes the fold of all threads to the
/// left (`neutral` in thread 0), `total` that of all. Every thread of the block must call it; T is at most 16 bytes.
template <class T, class Op>
__device__ T block_scan(T value, T neutral, Op op, T& before, T& total) {
  __shared__ T of_warp[32];
  const unsigned lane = threadIdx.x % 32;
  const unsigned warp = threadIdx.x / 32;
  const unsigned warps = blockDim.x / 32;
  const T in_warp = warp_scan(value, op);
  T left = shift_up(in_warp, 1u);
  if (lane == 0) left = neutral;
  __syncthreads();  // the array may still be read from the last call
  if (lane == 31) of_warp[warp] = in_warp;
  __syncthreads();
  const T of_warps = warp_scan(lane < warps ? of_warp[lane] : neutral, op);  // every warp folds the same values
  T warps_left = from_lane(of_warps, warp == 0 ? 0 : static_cast<int>(warp) - 1);
  if (warp == 0) warps_left = neutral;
  total = from_lane(of_warps, static_cast<int>(warps) - 1);
  before = op(warps_left, left);
  return op(warps_left, in_warp);
}

}  // namespace solvent::cuda
