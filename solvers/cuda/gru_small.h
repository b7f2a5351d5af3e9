#pragma once
/// Pieces of the kernels in which a thread has a chunk of a GRU of up to 4 units. For `.cu` files only.

#include "solvent/core/cuda/launch.h"

namespace solvent::solvers::cuda {

/// Weights of the states and biases, in shared memory.
template <class T, int kN>
struct SmallWeights {
  T w[3][kN][kN], b[3][kN], q_bias[kN];

  /// By all threads of a block, which then need a barrier. `call` has w_hh, b and b_hn.
  template <class Call>
  __device__ void load(const Call& call) {
    for (int e = static_cast<int>(threadIdx.x); e < 3 * kN * kN; e += static_cast<int>(blockDim.x))
      w[e / (kN * kN)][e / kN % kN][e % kN] = call.w_hh[e];
    for (int e = static_cast<int>(threadIdx.x); e < 3 * kN; e += static_cast<int>(blockDim.x))
      b[e / kN][e % kN] = call.b[e];
    for (int e = static_cast<int>(threadIdx.x); e < kN; e += static_cast<int>(blockDim.x)) q_bias[e] = call.b_hn[e];
  }
};

/// Steps that are loaded ahead, so that one thread has several loads under way.
template <int kN>
inline constexpr int kDepth = kN == 1   ? 4
                              : kN == 2 ? 2
                                        : 1;

}  // namespace solvent::solvers::cuda
