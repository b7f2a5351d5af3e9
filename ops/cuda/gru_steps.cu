// The gated recurrent unit step by step, forwards and backwards: one block per sequence runs through all steps (a
// "persistent" kernel), so a step costs no launch. Bound by the latency of a step: kColumns products per gate and thread, a
// barrier, and the functions of the gates.
//
// kParts neighbouring lanes share a hidden unit. Each keeps kColumns = kH / kParts columns of the unit's three rows of W_hh
// (backwards: of its columns) in registers; states go through shared memory. Of the two gates that do not wait for each other,
// even lanes compute r and odd ones z. Addresses advance by additions, and one warp needs no barrier of the block: a lone warp
// issues its instructions in order, so whatever stands between two states is on the way from one to the next. What a step
// reads from global memory is loaded kDepth steps ahead; the gates of a step are stored while the next one's sums travel
// between lanes. Sums over units have a fixed order, so results have the same bits at every run and in any batch.

#include <cmath>

#include "solvent/core/cuda/launch.h"
#include "solvent/core/cuda/strided.h"
#include "solvent/ops/cuda/gru.h"
#include "solvent/ops/cuda/gru_cell.h"
#include "solvent/ops/cuda/unroll.h"

namespace solvent::cuda {
namespace {

/// sums[g] = sum_k w[g][k] x[g][k] over the columns of this lane: even and odd k apart.
template <class T, int kColumns>
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
  for (int g = 0; g < 3; ++g) sums[g] = even[g] + odd[g];
}

/// Each of `sums` over groups of lanes that are `first`, 2 `first`, ... kParts / 2 apart.
template <class T, int kParts>
__device__ void over_lanes(int first, T (&sums)[3]) {
  SOLVENT_UNROLL
  for (int lanes = first; lanes < kParts; lanes *= 2) {
    SOLVENT_UNROLL
    for (int g = 0; g < 3; ++g) sums[g] += __shfl_xor_sync(kAllLanes, sums[g], lanes);
  }
}

// Waits for the block's other threads: within a warp no barrier of the block is needed.
template <bool kOneWarp>
__device__ void meet() {
  if constexpr (kOneWarp) {
    __syncwarp();
  } else {
    __syncthreads();
  }
}

template <class T>
__device__ void store_gates(const GruUnit<T>& unit, std::int64_t hidden, T* to) {
  to[0] = unit.r;
  to[hidden] = unit.z;
  to[2 * hidden] = unit.n;
  to[3 * hidden] = unit.q;
}

// What one lane knows of its unit: a part of the weights, and the biases of its gate (r or z), of n and of q.
template <class T, int kColumns>
struct Weights {
  T w[3][kColumns], gate, n, q;

  __device__ Weights(const GruStates<T>& call, bool is_unit, int unit, int part) {
    const auto hidden = static_cast<int>(call.hidden);
    for (int g = 0; g < 3; ++g) {
      SOLVENT_UNROLL
      for (int k = 0; k < kColumns; ++k) {
        const int column = part * kColumns + k;
        w[g][k] = is_unit && column < hidden ? call.w_hh[(g * hidden + unit) * hidden + column] : T(0);
      }
    }
    gate = is_unit ? call.b[part % 2 * hidden + unit] : T(0);
    n = is_unit ? call.b[2 * hidden + unit] : T(0);
    q = is_unit ? call.b_hn[unit] : T(0);
  }
};

template <class T, int kH, int kParts, int kDepth>
__global__ void states_kernel(GruStates<T> call) {
  constexpr int kColumns = kH / kParts;
  constexpr bool kOneWarp = kH * kParts <= 32;
  static_assert(kParts % 2 == 0, "even lanes have r, odd lanes z");
  static_assert(kDepth % 2 == 0, "the state before step d is in buffer d % 2");
  __shared__ T state[2][kH];
  const std::int64_t hidden = call.hidden;
  const int unit = static_cast<int>(threadIdx.x) / kParts;
  const int part = static_cast<int>(threadIdx.x) % kParts;
  const bool is_unit = unit < hidden;
  const bool keeps_state = part == 0 && unit < kH;
  const bool loads = is_unit && call.xw != nullptr;
  const bool stores = is_unit && part == 0 && call.hs != nullptr;
  const bool stores_gates = is_unit && part == 0 && call.gates != nullptr;
  const Weights<T, kColumns> weights(call, is_unit, unit, part);
  const std::int64_t row = call.batch * hidden;  // values of a step
  const std::int64_t x_step = loads ? 3 * row : 0, to_step = stores ? row : 0;
  const std::int64_t to_n = (2 - part % 2) * hidden;  // from the input of this lane's gate to that of n
  for (std::int64_t rollout = blockIdx.x; rollout < call.batch * call.chunks; rollout += gridDim.x) {
    if (call.active != nullptr && !call.active[rollout]) continue;
    const std::int64_t begin = rollout / call.batch * call.length + call.shift;
    const std::int64_t first = (begin * call.batch + rollout % call.batch) * hidden;
    const std::int64_t steps = call.total > 0 && call.total - begin < call.steps ? call.total - begin : call.steps;
    const T* x = loads ? call.xw + 3 * first + part % 2 * hidden + unit : nullptr;  // of the step to load next
    T* to = stores ? call.hs + first + unit : nullptr;
    T* gates_to = stores_gates ? call.gates + 4 * first + unit : nullptr;
    T h = is_unit && call.before != nullptr ? call.before[rollout * hidden + unit] : T(0);
    GruUnit<T> gates{};
    meet<kOneWarp>();  // the states of the last turn are no longer read
    if (keeps_state) state[0][unit] = h;
    T ahead[kDepth][2] = {};  // of the lane's gate, of n
    SOLVENT_UNROLL
    for (int d = 0; d < kDepth; ++d) {
      if (loads && d < steps) {
        ahead[d][0] = x[0];
        ahead[d][1] = x[to_n];
      }
      x += x_step;
    }
    for (std::int64_t left = steps; left > 0; left -= kDepth) {
      const int now = left < kDepth ? static_cast<int>(left) : kDepth;  // steps of this turn, and of the next one
      const int next = left - kDepth < kDepth ? static_cast<int>(left - kDepth) : kDepth;
      SOLVENT_UNROLL
      for (int d = 0; d < kDepth; ++d) {  // beyond `now`: no branch, but nothing is kept
        const T of_gate = ahead[d][0] + weights.gate, of_n = ahead[d][1] + weights.n;
        meet<kOneWarp>();  // the state is there; the one before may be overwritten
        const T* const from = state[d % 2] + part * kColumns;
        T sums[3];
        products(weights.w, {from, from, from}, sums);
        over_lanes<T, kParts>(2, sums);
        const T mine = part % 2 == 0 ? sums[0] : sums[1], other = part % 2 == 0 ? sums[1] : sums[0];
        const T gate_sum = of_gate + (mine + __shfl_xor_sync(kAllLanes, other, 1));
        const T q = (sums[2] + __shfl_xor_sync(kAllLanes, sums[2], 1)) + weights.q;
        if (stores_gates && (d > 0 ? d <= now : left < steps)) {  // of the step before
          store_gates(gates, hidden, gates_to);
          gates_to += 4 * row;
        }
        if (d < next && loads) {
          ahead[d][0] = x[0];
          ahead[d][1] = x[to_n];
        }
        x += x_step;
        gates.r = sigmoid(gate_sum);  // z in odd lanes, which compute no state
        gates.z = __shfl_xor_sync(kAllLanes, gates.r, 1);
        gates.n = std::tanh(std::fma(gates.r, q, of_n));
        gates.q = q;
        const T h_now = is_unit ? gates.next(h) : T(0);
        if (keeps_state) state[(d + 1) % 2][unit] = h_now;
        if (d < now) h = h_now;
        if (d < now && stores) *to = h_now;
        to += to_step;
      }
    }
    if (stores_gates && steps % kDepth == 0) store_gates(gates, hidden, gates_to);
    if (call.last != nullptr && is_unit && part == 0) call.last[rollout * hidden + unit] = h;
  }
}

// What a step of the adjoint reads of one unit.
template <class T>
struct AdjointInputs {
  GruUnit<T> gates;
  T h, g;
};

// Where it reads that: steps from the last to the first.
template <class T>
struct AdjointReader {
  const T* gates;
  const T* h;
  const T* g;
  const T* before;  // in place of h at the first step
  std::int64_t hidden, row;

  __device__ AdjointReader(const GruAdjoint<T>& call, std::int64_t sequence, int unit)
      : hidden(call.hidden), row(call.batch * call.hidden) {
    const std::int64_t at = (call.steps - 1) * row + sequence * hidden;
    gates = call.gates + 4 * at + unit;
    g = call.g + at + unit;
    before = call.before + sequence * hidden + unit;
    h = call.steps > 1 ? call.hs + at - row + unit : before;
  }

  __device__ void load(bool is_first, AdjointInputs<T>& to) const {
    to.gates.r = gates[0];
    to.gates.z = gates[hidden];
    to.gates.n = gates[2 * hidden];
    to.gates.q = gates[3 * hidden];
    to.h = is_first ? *before : *h;
    to.g = *g;
  }
  __device__ void advance() {
    gates -= 4 * row;
    h -= row;
    g -= row;
  }
};

template <class T, int kH, int kParts, int kDepth>
__global__ void __launch_bounds__(kH* kParts < 32 ? 32 : kH * kParts, 1) adjoint_kernel(GruAdjoint<T> call) {
  constexpr int kColumns = kH / kParts;
  constexpr bool kOneWarp = kH * kParts <= 32;
  static_assert(kDepth % 2 == 0, "the products of step d are in buffer d % 2");
  __shared__ T into_h[2][3][kH];
  const std::int64_t hidden = call.hidden;
  const int unit = static_cast<int>(threadIdx.x) / kParts;
  const int part = static_cast<int>(threadIdx.x) % kParts;
  const bool is_unit = unit < hidden;
  const bool writes = is_unit && part == 0;
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
    AdjointReader<T> reader(call, sequence, is_unit ? unit : 0);
    T* u = call.u + ((call.steps - 1) * call.batch + sequence) * 4 * hidden + (is_unit ? unit : 0);
    SOLVENT_UNROLL
    for (int d = 0; d < kDepth; ++d) {
      if (d >= call.steps) continue;
      if (is_unit) reader.load(d + 1 == call.steps, ahead[d]);
      if (d + 1 < call.steps) reader.advance();
    }
    meet<kOneWarp>();  // what the last turn left is no longer read
    for (std::int64_t left = call.steps; left > 0; left -= kDepth) {
      const int now =
          left < kDepth ? static_cast<int>(left) : kDepth;  // steps of this turn, and of the next one and one
      const int next = left <= 2 * kDepth ? static_cast<int>(left - kDepth) : kDepth + 1;
      SOLVENT_UNROLL
      for (int d = 0; d < kDepth; ++d) {  // beyond `now`: no branch, but nothing is kept
        const GruUnit<T> gates = ahead[d].gates;
        const GruSlopes<T> slopes(gates, ahead[d].h);
        const T l = ahead[d].g + carry;
        T(&shared)[3][kH] = into_h[d % 2];
        if (part == 0 && unit < kH) {
          shared[0][unit] = is_unit ? l * slopes.r : T(0);
          shared[1][unit] = is_unit ? l * slopes.z : T(0);
          shared[2][unit] = is_unit ? l * slopes.q : T(0);
        }
        meet<kOneWarp>();  // all of into_h is there; the other half may be overwritten
        T sums[3];
        products(w, {shared[0] + part * kColumns, shared[1] + part * kColumns, shared[2] + part * kColumns}, sums);
        over_lanes<T, kParts>(1, sums);
        if (writes && d < now) {
          u[0] = l * slopes.n;
          u[hidden] = l * slopes.r;
          u[2 * hidden] = l * slopes.z;
          u[3 * hidden] = l * slopes.q;
          u -= d + 1 < left ? 4 * call.batch * hidden : 0;
        }
        if (d < next) {
          if (is_unit) reader.load(d + 1 == next, ahead[d]);
          if (d + 1 < next) reader.advance();
        }
        if (d < now) carry = std::fma(l, gates.z, (sums[0] + sums[1]) + sums[2]);
      }
    }
    if (writes) call.carry[sequence * hidden + unit] = carry;
  }
}

}  // namespace

template <class T>
void gru_states(const GruStates<T>& call, Device device) {
  const auto run = [&](unsigned threads, void (*kernel)(GruStates<T>)) {
    launch(over_blocks("gru_sequence", call.batch * call.chunks, device, threads), kernel, call);
  };
  if (call.hidden <= 8) return run(32, states_kernel<T, 8, 2, 4>);
  if (call.hidden <= 16) return run(32, states_kernel<T, 16, 2, 4>);
  if (call.hidden <= 32) return run(64, states_kernel<T, 32, 2, 4>);
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
