// The gated recurrent unit step by step, forwards and backwards: one block per sequence runs through all steps (a
// "persistent" kernel), so a step costs no launch. Bound by the latency of a step: kColumns products per gate and thread, a
// barrier, and the functions of the gates.
//
// kParts neighbouring lanes share a hidden unit. Each keeps kColumns = kH / kParts columns of the unit's three rows of W_hh
// (backwards: of its columns) in registers; states go through shared memory. What a step reads from global memory is loaded
// kDepth steps ahead. Sums over units have a fixed order, so results have the same bits at every run and in any batch.

#include <cmath>

#include "solvent/core/cuda/launch.h"
#include "solvent/core/cuda/strided.h"
#include "solvent/ops/cuda/gru.h"
#include "solvent/ops/cuda/gru_cell.h"
#include "solvent/ops/cuda/unroll.h"

namespace solvent::cuda {
namespace {

/// sums[g] += sum_k w[g][k] x[g][k]: even and odd k apart, then over the lanes of the unit.
template <class T, int kColumns, int kParts>
__device__ void products(const T (&w)[3][kColumns], const T* const (&x)[3], T (&sums)[3]) {
  T odd[3] = {T(0), T(0), T(0)};
  T even[3] = {T(0), T(0), T(0)};
  SOLVENT_UNROLL
  for (int k = 0; k < kColumns; k += 2) {
    SOLVENT_UNROLL
    for (int g = 0; g < 3; ++g) {
      even[g] = std::fma(w[g][k], x[g][k], even[g]);
      odd[g] = std::fma(w[g][k + 1], x[g][k + 1], odd[g]);
    }
  }
  SOLVENT_UNROLL
  for (int g = 0; g < 3; ++g) {
    T sum = even[g] + odd[g];
    SOLVENT_UNROLL
    for (int lanes = 1; lanes < kParts; lanes *= 2) sum += __shfl_xor_sync(kAllLanes, sum, lanes);
    sums[g] += sum;
  }
}

template <class T, int kH, int kParts, int kDepth>
__global__ void states_kernel(GruStates<T> call) {
  constexpr int kColumns = kH / kParts;
  __shared__ T state[2][kH];
  const auto hidden = static_cast<int>(call.hidden);
  const int unit = static_cast<int>(threadIdx.x) / kParts;
  const int part = static_cast<int>(threadIdx.x) % kParts;
  const bool is_unit = unit < hidden;
  T w[3][kColumns], bias[3], q_bias = T(0);
  for (int g = 0; g < 3; ++g) {
    bias[g] = is_unit ? call.b[g * hidden + unit] : T(0);
    SOLVENT_UNROLL
    for (int k = 0; k < kColumns; ++k) {
      const int column = part * kColumns + k;
      w[g][k] = is_unit && column < hidden ? call.w_hh[(g * hidden + unit) * hidden + column] : T(0);
    }
  }
  if (is_unit) q_bias = call.b_hn[unit];
  for (std::int64_t rollout = blockIdx.x; rollout < call.batch * call.chunks; rollout += gridDim.x) {
    if (call.active != nullptr && !call.active[rollout]) continue;
    const std::int64_t begin = rollout / call.batch * call.length + call.shift;
    const std::int64_t first_row = begin * call.batch + rollout % call.batch;
    const std::int64_t steps = call.total > 0 && call.total - begin < call.steps ? call.total - begin : call.steps;
    T h = is_unit && call.before != nullptr ? call.before[rollout * hidden + unit] : T(0);
    __syncthreads();  // the states of the last turn are no longer read
    if (part == 0 && unit < kH) state[0][unit] = h;
    T ahead[kDepth][3];
    SOLVENT_UNROLL
    for (int d = 0; d < kDepth; ++d)
      for (int g = 0; g < 3; ++g)
        ahead[d][g] = is_unit && call.xw != nullptr && d < steps
                          ? call.xw[((first_row + d * call.batch) * 3 + g) * hidden + unit]
                          : T(0);
    for (std::int64_t t0 = 0; t0 < steps; t0 += kDepth) {
      SOLVENT_UNROLL
      for (int d = 0; d < kDepth; ++d) {
        const std::int64_t t = t0 + d;
        if (t >= steps) continue;
        const std::int64_t row = first_row + t * call.batch;
        T of_x[3];
        for (int g = 0; g < 3; ++g) of_x[g] = ahead[d][g] + bias[g];
        if (is_unit && call.xw != nullptr && t + kDepth < steps)
          for (int g = 0; g < 3; ++g) ahead[d][g] = call.xw[((row + kDepth * call.batch) * 3 + g) * hidden + unit];
        __syncthreads();  // the state is there; the one before may be overwritten
        const T* const from = state[t % 2] + part * kColumns;
        T sums[3] = {of_x[0], of_x[1], q_bias};
        products<T, kColumns, kParts>(w, {from, from, from}, sums);
        if (is_unit && part == 0) {
          const GruUnit<T> now(sums[0], sums[1], of_x[2], sums[2]);
          h = now.next(h);
          state[(t + 1) % 2][unit] = h;
          if (call.hs != nullptr) call.hs[row * hidden + unit] = h;
          if (call.gates != nullptr) {
            T* const to = call.gates + row * 4 * hidden + unit;
            to[0] = now.r;
            to[hidden] = now.z;
            to[2 * hidden] = now.n;
            to[3 * hidden] = now.q;
          }
        } else if (part == 0 && unit < kH) {
          state[(t + 1) % 2][unit] = T(0);
        }
      }
    }
    if (call.last != nullptr && is_unit && part == 0) call.last[rollout * hidden + unit] = h;
  }
}

// What a step of the adjoint reads of one unit.
template <class T>
struct AdjointInputs {
  GruUnit<T> gates;
  T h, g;

  __device__ void load(const GruAdjoint<T>& call, std::int64_t t, std::int64_t sequence, int unit) {
    const std::int64_t row = t * call.batch + sequence;
    const T* const from = call.gates + row * 4 * call.hidden + unit;
    gates.r = from[0];
    gates.z = from[call.hidden];
    gates.n = from[2 * call.hidden];
    gates.q = from[3 * call.hidden];
    h = t > 0 ? call.hs[(row - call.batch) * call.hidden + unit] : call.before[sequence * call.hidden + unit];
    g = call.g[row * call.hidden + unit];
  }
};

template <class T, int kH, int kParts, int kDepth>
__global__ void adjoint_kernel(GruAdjoint<T> call) {
  constexpr int kColumns = kH / kParts;
  __shared__ T into_h[2][3][kH];
  const auto hidden = static_cast<int>(call.hidden);
  const int unit = static_cast<int>(threadIdx.x) / kParts;
  const int part = static_cast<int>(threadIdx.x) % kParts;
  const bool is_unit = unit < hidden;
  T w[3][kColumns];
  for (int g = 0; g < 3; ++g) {
    SOLVENT_UNROLL
    for (int k = 0; k < kColumns; ++k) {
      const int row = part * kColumns + k;
      w[g][k] = is_unit && row < hidden ? call.w_hh[(g * hidden + row) * hidden + unit] : T(0);
    }
  }
  for (std::int64_t sequence = blockIdx.x; sequence < call.batch; sequence += gridDim.x) {
    T carry = is_unit ? call.carry[sequence * hidden + unit] : T(0);
    AdjointInputs<T> ahead[kDepth] = {};
    SOLVENT_UNROLL
    for (int d = 0; d < kDepth; ++d)
      if (is_unit && d < call.steps) ahead[d].load(call, call.steps - 1 - d, sequence, unit);
    __syncthreads();  // what the last turn left is no longer read
    for (std::int64_t s0 = 0; s0 < call.steps; s0 += kDepth) {
      SOLVENT_UNROLL
      for (int d = 0; d < kDepth; ++d) {
        const std::int64_t t = call.steps - 1 - s0 - d;
        if (t < 0) continue;
        const GruUnit<T> gates = ahead[d].gates;
        const GruSlopes<T> slopes(gates, ahead[d].h);
        const T l = ahead[d].g + carry;
        if (is_unit && t >= kDepth) ahead[d].load(call, t - kDepth, sequence, unit);
        T(&shared)[3][kH] = into_h[t % 2];
        if (part == 0 && unit < kH) {
          shared[0][unit] = is_unit ? l * slopes.r : T(0);
          shared[1][unit] = is_unit ? l * slopes.z : T(0);
          shared[2][unit] = is_unit ? l * slopes.q : T(0);
        }
        if (part == 0 && is_unit) {
          T* const to = call.u + (t * call.batch + sequence) * 4 * hidden + unit;
          to[0] = l * slopes.n;
          to[hidden] = l * slopes.r;
          to[2 * hidden] = l * slopes.z;
          to[3 * hidden] = l * slopes.q;
        }
        __syncthreads();  // all of into_h is there; the other half may be overwritten
        T sums[3] = {T(0), T(0), T(0)};
        products<T, kColumns, kParts>(
            w, {shared[0] + part * kColumns, shared[1] + part * kColumns, shared[2] + part * kColumns}, sums);
        carry = std::fma(l, gates.z, (sums[0] + sums[1]) + sums[2]);
      }
    }
    if (is_unit && part == 0) call.carry[sequence * hidden + unit] = carry;
  }
}

}  // namespace

template <class T>
void gru_states(const GruStates<T>& call, Device device) {
  const auto run = [&](unsigned threads, void (*kernel)(GruStates<T>)) {
    launch(over_blocks("gru_sequence", call.batch * call.chunks, device, threads), kernel, call);
  };
  if (call.hidden <= 8) return run(32, states_kernel<T, 8, 1, 8>);
  if (call.hidden <= 16) return run(32, states_kernel<T, 16, 2, 8>);
  if (call.hidden <= 32) return run(64, states_kernel<T, 32, 2, 8>);
  run(256, states_kernel<T, 64, 4, 4>);
}

template <class T>
void gru_adjoint(const GruAdjoint<T>& call, Device device) {
  const auto run = [&](unsigned threads, void (*kernel)(GruAdjoint<T>)) {
    launch(over_blocks("gru_sequence_grad", call.batch, device, threads), kernel, call);
  };
  if (call.hidden <= 8) return run(32, adjoint_kernel<T, 8, 1, 4>);
  if (call.hidden <= 16) return run(32, adjoint_kernel<T, 16, 2, 4>);
  if (call.hidden <= 32) return run(64, adjoint_kernel<T, 32, 2, 4>);
  run(256, adjoint_kernel<T, 64, 4, 4>);
}

template SOLVENT_API void gru_states(const GruStates<float>&, Device);
template SOLVENT_API void gru_states(const GruStates<double>&, Device);
template void gru_adjoint(const GruAdjoint<float>&, Device);
template void gru_adjoint(const GruAdjoint<double>&, Device);

}  // namespace solvent::cuda
