#pragma once
// The walks of the GRU's adjoint: every chunk of time in parallel, its steps from the last to the first. Jacobians exist for
// one step at a time, in registers or shared memory; the gates are computed again from the states.
//
//     maps:    P <- J_t^T P,  v <- J_t^T (g_t + v)      from P = 1, v = 0: the chunk as a map of what comes from later
//     scan over the maps of the chunks (scan_chunk_maps)
//     replay:  l_t = g_t + mu,  mu <- J_t^T l_t         from the mu that the later chunks hand over
//
// How a chunk is shared out is in gru_walk-inl.h. P is multiplied by J as a matrix, as a sum of products of a row of J and a
// row of P; mu by J's factors, without J.
//
// Counted, not measured: no GPU was at hand. Per step and sequence the maps read 5 n values (the projected input, the state before, g) and compute about
// 2 n^3 + 14 n^2 + 40 n; the replay reads as much, writes n and computes 12 n^2 + 40 n. Together 11 n values and
// 2 n^3 + 26 n^2 + 80 n operations, as one walk of Newton's method; Jacobians in memory would be 3 n^2 values more (written
// once, read twice). In float32 that is 2.5 operations per byte for n = 1, 9 for n = 8, 23 for n = 16, 67 for n = 32 (16 on
// an H200 is where memory and arithmetic take equally long). At 4.3 TB/s and 27 of 67 TFLOP/s the bound for 300,000 steps of
// one sequence is 3 us for n = 1 (memory; 1 us arithmetic) and for n = 4 12 us (10 us); for n = 8, 16, 32 arithmetic leads
// with 37, 180 and 1050 us. Where there are few chunks the latency of `length` steps bounds both walks: 19 dependent steps
// for n = 1 and 300,000 steps.
//
// The order of all sums depends on sizes only: the same bits in every run. Registers per thread by ptxas for sm_90, without
// spills but for 72 bytes of the maps of 4 units in double (maps / replay):
//
//     n              1        2        3        4        8       16       32
//     float    53/ 63   95/ 92  123/108  161/138  114/105  143/122  198/157
//     double   88/116  164/154  194/174  255/254  168/125  234/158  212/ 70

#include <cmath>
#include <cstddef>

#include "solvent/solvers/cuda/gru_adjoint_walk.h"
#include "solvent/solvers/cuda/gru_walk-inl.h"

namespace solvent::solvers::cuda {
namespace {

/// A chunk of one sequence.
template <class T>
struct AdjointChunk : TimeChunk {
  using TimeChunk::TimeChunk;

  /// Number of this chunk's map; that of the chunk after it is one less.
  [[nodiscard]] __device__ std::int64_t map(const AdjointWalk<T>& call) const {
    return (call.chunks - 1 - number) * call.batch + sequence;
  }
  [[nodiscard]] __device__ bool is_latest(const AdjointWalk<T>& call) const { return number + 1 == call.chunks; }
  /// What the later chunks hand over.
  __device__ T start(const AdjointWalk<T>& call, std::int64_t unit) const {
    return is_latest(call) ? T(0) : call.carries[(map(call) - call.batch) * call.hidden + unit];
  }
};

/// What a step reads of one unit: the projected input, the state before the step, the cotangent of the one after it.
template <class T>
struct AdjointInputs {
  T x[3], h, g;

  __device__ void load(const AdjointWalk<T>& call, const AdjointChunk<T>& chunk, std::int64_t t, std::int64_t unit) {
    const std::int64_t row = t * call.batch + chunk.sequence;
    load_projected(call, row, unit, x);
    h = t > 0 ? call.hs[(row - call.batch) * call.hidden + unit] : call.before[row * call.hidden + unit];
    g = call.g[row * call.hidden + unit];
  }
};

// --- a thread per chunk -------------------------------------------------------------------------------------------------

template <class T, int kN>
struct SmallAdjoint {
  T p[kN][kN], carry[kN];  // carry: v or mu

  /// J at the states and inputs of a step.
  __device__ static void jacobian(const SmallWeights<T, kN>& weights, const AdjointInputs<T> (&in)[kN],
                                  T (&jac)[kN][kN]) {
    SOLVENT_UNROLL
    for (int i = 0; i < kN; ++i) {
      T sums[3] = {weights.b[0][i], weights.b[1][i], weights.q_bias[i]};
      SOLVENT_UNROLL
      for (int k = 0; k < kN; ++k)
        for (int gate = 0; gate < 3; ++gate) sums[gate] = std::fma(weights.w[gate][i][k], in[k].h, sums[gate]);
      const GruUnit<T> unit(in[i].x[0] + sums[0], in[i].x[1] + sums[1], in[i].x[2] + weights.b[2][i], sums[2]);
      const GruSlopes<T> slopes(unit, in[i].h);
      weights.jacobian_row(i, unit.z, slopes, jac[i]);
    }
  }

  /// carry <- J^T l
  __device__ void hand_on(const T (&jac)[kN][kN], const T (&l)[kN]) {
    SOLVENT_UNROLL
    for (int j = 0; j < kN; ++j) {
      carry[j] = jac[0][j] * l[0];
      SOLVENT_UNROLL
      for (int i = 1; i < kN; ++i) carry[j] = std::fma(jac[i][j], l[i], carry[j]);
    }
  }

  /// P <- J^T P
  __device__ void compose(const T (&jac)[kN][kN]) {
    SOLVENT_UNROLL
    for (int c = 0; c < kN; ++c) {
      T next[kN];
      SOLVENT_UNROLL
      for (int j = 0; j < kN; ++j) {
        next[j] = jac[0][j] * p[0][c];
        SOLVENT_UNROLL
        for (int i = 1; i < kN; ++i) next[j] = std::fma(jac[i][j], p[i][c], next[j]);
      }
      SOLVENT_UNROLL
      for (int j = 0; j < kN; ++j) p[j][c] = next[j];
    }
  }

  __device__ void begin(const AdjointWalk<T>& call, const AdjointChunk<T>& chunk, bool replay) {
    SOLVENT_UNROLL
    for (int i = 0; i < kN; ++i) {
      carry[i] = replay ? chunk.start(call, i) : T(0);
      SOLVENT_UNROLL
      for (int j = 0; j < kN; ++j) p[i][j] = i == j ? T(1) : T(0);
    }
  }

  __device__ void store(const AdjointWalk<T>& call, const AdjointChunk<T>& chunk) const {
    const std::int64_t map = chunk.map(call);
    for (int i = 0; i < kN; ++i) {
      call.offsets[map * kN + i] = carry[i];
      for (int j = 0; j < kN; ++j) call.matrices[(map * kN + i) * kN + j] = chunk.is_latest(call) ? T(0) : p[i][j];
    }
  }
};

template <class T, int kN, bool kReplay>
__device__ void adjoint_chunk(const AdjointWalk<T>& call, const AdjointChunk<T>& chunk,
                              const SmallWeights<T, kN>& weights) {
  SmallAdjoint<T, kN> state;
  state.begin(call, chunk, kReplay);
  AdjointInputs<T> ahead[kDepth<kN>][kN];
  SOLVENT_UNROLL
  for (int k = 0; k < kDepth<kN>; ++k)
    for (int i = 0; i < kN; ++i)
      if (chunk.end - 1 - k >= chunk.begin) ahead[k][i].load(call, chunk, chunk.end - 1 - k, i);
  for (std::int64_t t0 = chunk.end - 1; t0 >= chunk.begin; t0 -= kDepth<kN>) {
    SOLVENT_UNROLL
    for (int k = 0; k < kDepth<kN>; ++k) {
      const std::int64_t t = t0 - k;
      if (t < chunk.begin) continue;
      AdjointInputs<T> in[kN];
      T l[kN], jac[kN][kN];
      SOLVENT_UNROLL
      for (int i = 0; i < kN; ++i) {
        in[i] = ahead[k][i];
        if (t - kDepth<kN> >= chunk.begin) ahead[k][i].load(call, chunk, t - kDepth<kN>, i);
        l[i] = in[i].g + state.carry[i];
        if (kReplay) call.adjoint[(t * call.batch + chunk.sequence) * kN + i] = l[i];
      }
      if (kReplay && t == chunk.begin) continue;  // the chunk before has it from the scan
      state.jacobian(weights, in, jac);
      state.hand_on(jac, l);
      if (!kReplay) state.compose(jac);
    }
  }
  if (!kReplay) state.store(call, chunk);
}

/// Number of chunks of all sequences that a walk has, and of those that come before them.
template <class T>
struct AdjointWork {
  std::int64_t skipped, items;
  __host__ __device__ AdjointWork(const AdjointWalk<T>& call, bool replay)
      : skipped(replay ? 0 : call.batch), items(call.chunks * call.batch - skipped) {}
};

template <class T, int kN, bool kReplay>
__global__ void adjoint_threads_kernel(AdjointWalk<T> call) {
  __shared__ SmallWeights<T, kN> weights;
  weights.load(call);
  __syncthreads();
  const AdjointWork<T> work(call, kReplay);
  for (std::int64_t item = global_thread(); item < work.items; item += grid_threads())
    adjoint_chunk<T, kN, kReplay>(call, AdjointChunk<T>(call, work.skipped + item), weights);
}

// --- several lanes per chunk --------------------------------------------------------------------------------------------

template <class T, int kN, int kLanes, bool kReplay>
struct AdjointLanes : LaneGroup<T, kN, kLanes, kN + 1> {  // lanes read W_hh along rows and along columns
  using Base = LaneGroup<T, kN, kLanes, kN + 1>;
  using Base::kCols;
  using Base::kPack;
  using Base::kStride;
  using Base::own;
  using Base::read;
  using Base::unit;
  static constexpr int kVectors = kReplay ? 4 * kN : 2 * kN;  // h and l times the slopes, or h and l
  static constexpr int kScratch = kVectors + (kReplay ? 0 : kN * kStride) + kPack;  // per chunk
  static constexpr std::size_t kBytes = (Base::kWeights + Base::kChunks * kScratch) * sizeof(T);

  T *h, *l, *jac;

  __device__ explicit AdjointLanes(T* shared) : Base(shared, kScratch) {
    h = own;
    l = h + kN;
    jac = h + kVectors;
  }

  /// sums[c][gate] += the products of unit c's three rows of W_hh with h.
  __device__ void recur(T (&sums)[kCols][3]) const {
    for (int k0 = 0; k0 < kN; k0 += kPack) {
      const Pack<T, kPack> of_h = read(h + k0);
      SOLVENT_UNROLL
      for (int p = 0; p < kPack; ++p) {
        SOLVENT_UNROLL
        for (int gate = 0; gate < 3; ++gate) {
          SOLVENT_UNROLL
          for (int c = 0; c < kCols; ++c)
            sums[c][gate] = std::fma(this->weight(gate, k0 + p, unit(c)), of_h.value[p], sums[c][gate]);
        }
      }
    }
  }

  /// Row unit(c) of J into shared memory.
  __device__ void jacobian_row(int c, T z, const GruSlopes<T>& slopes) const {
    const int i = unit(c);
    for (int k0 = 0; k0 < kN; k0 += kPack) {
      Pack<T, kPack> row;
      SOLVENT_UNROLL
      for (int p = 0; p < kPack; ++p) row.value[p] = this->jacobian(i, k0 + p, z, slopes);
      *reinterpret_cast<Pack<T, kPack>*>(jac + i * kStride + k0) = row;
    }
  }

  /// Entry unit(c) of J^T l.
  [[nodiscard]] __device__ T times_jacobian(int c) const {
    T sum = T(0);
    for (int i0 = 0; i0 < kN; i0 += kPack) {
      const Pack<T, kPack> of_l = read(l + i0);
      SOLVENT_UNROLL
      for (int p = 0; p < kPack; ++p) sum = std::fma(jac[(i0 + p) * kStride + unit(c)], of_l.value[p], sum);
    }
    return sum;
  }

  /// The same from `sum` = z l and l times the slopes of r, z and q.
  [[nodiscard]] __device__ T times_factors(int c, T sum) const {
    T sums[3] = {sum, T(0), T(0)};
    for (int i0 = 0; i0 < kN; i0 += kPack) {
      SOLVENT_UNROLL
      for (int gate = 0; gate < 3; ++gate) {
        const Pack<T, kPack> of_l = read(l + gate * kN + i0);
        SOLVENT_UNROLL
        for (int p = 0; p < kPack; ++p)
          sums[gate] = std::fma(this->weight(gate, unit(c), i0 + p), of_l.value[p], sums[gate]);
      }
    }
    return (sums[0] + sums[1]) + sums[2];
  }

  /// P <- J^T P for this lane's columns.
  __device__ void compose(T (&a)[kN][kCols]) const {
    T next[kN][kCols];
    SOLVENT_UNROLL
    for (int j = 0; j < kN; ++j) {
      SOLVENT_UNROLL
      for (int c = 0; c < kCols; ++c) next[j][c] = T(0);
    }
    SOLVENT_UNROLL
    for (int i = 0; i < kN; ++i) {
      SOLVENT_UNROLL
      for (int j0 = 0; j0 < kN; j0 += kPack) {
        const Pack<T, kPack> row = read(jac + i * kStride + j0);
        SOLVENT_UNROLL
        for (int p = 0; p < kPack; ++p) {
          SOLVENT_UNROLL
          for (int c = 0; c < kCols; ++c) next[j0 + p][c] = std::fma(row.value[p], a[i][c], next[j0 + p][c]);
        }
      }
    }
    SOLVENT_UNROLL
    for (int j = 0; j < kN; ++j) {
      SOLVENT_UNROLL
      for (int c = 0; c < kCols; ++c) a[j][c] = next[j][c];
    }
  }
};

/// What a lane keeps over the steps of a chunk.
template <class T, int kN, int kLanes, bool kReplay>
struct AdjointLaneState : LaneBiases<T, kN / kLanes> {
  static constexpr int kCols = kN / kLanes;
  using LaneBiases<T, kCols>::bias;
  using LaneBiases<T, kCols>::q_bias;
  using LaneBiases<T, kCols>::is_unit;
  using Group = AdjointLanes<T, kN, kLanes, kReplay>;
  T a[kReplay ? 1 : kN][kCols], carry[kCols];  // carry: v or mu

  __device__ AdjointLaneState(const AdjointWalk<T>& call, const Group& lanes) : LaneBiases<T, kCols>(call, lanes) {}

  __device__ void begin(const AdjointWalk<T>& call, const AdjointChunk<T>& chunk, const Group& lanes) {
    SOLVENT_UNROLL
    for (int c = 0; c < kCols; ++c) {
      carry[c] = kReplay && is_unit[c] ? chunk.start(call, lanes.unit(c)) : T(0);
      if constexpr (!kReplay) {
        SOLVENT_UNROLL
        for (int i = 0; i < kN; ++i) a[i][c] = i == lanes.unit(c) ? T(1) : T(0);
      }
    }
  }

  __device__ void load(const AdjointWalk<T>& call, const AdjointChunk<T>& chunk, const Group& lanes, std::int64_t t,
                       AdjointInputs<T> (&in)[kCols]) const {
    SOLVENT_UNROLL
    for (int c = 0; c < kCols; ++c) {
      in[c] = AdjointInputs<T>{};
      if (is_unit[c] && t >= chunk.begin) in[c].load(call, chunk, t, lanes.unit(c));
    }
  }

  /// h is written before the first barrier and read up to the second; what follows from it is written between the two and
  /// read up to the first one of the next step.
  __device__ void step(const AdjointWalk<T>& call, const AdjointChunk<T>& chunk, const Group& lanes, std::int64_t t,
                       const AdjointInputs<T> (&in)[kCols]) {
    SOLVENT_UNROLL
    for (int c = 0; c < kCols; ++c) lanes.h[lanes.unit(c)] = in[c].h;
    __syncwarp(lanes.mask);
    T sums[kCols][3];
    SOLVENT_UNROLL
    for (int c = 0; c < kCols; ++c) {
      sums[c][0] = bias[0][c];
      sums[c][1] = bias[1][c];
      sums[c][2] = q_bias[c];
    }
    lanes.recur(sums);
    SOLVENT_UNROLL
    for (int c = 0; c < kCols; ++c) {
      const GruUnit<T> unit(in[c].x[0] + sums[c][0], in[c].x[1] + sums[c][1], in[c].x[2] + bias[2][c], sums[c][2]);
      const GruSlopes<T> slopes(unit, in[c].h);
      const int i = lanes.unit(c);
      const T l = in[c].g + carry[c];
      if constexpr (kReplay) {
        if (is_unit[c]) call.adjoint[(t * call.batch + chunk.sequence) * call.hidden + i] = l;
        lanes.l[i] = slopes.r * l;
        lanes.l[kN + i] = slopes.z * l;
        lanes.l[2 * kN + i] = slopes.q * l;
        carry[c] = unit.z * l;
      } else {
        lanes.l[i] = l;
        lanes.jacobian_row(c, unit.z, slopes);
      }
    }
    __syncwarp(lanes.mask);
    SOLVENT_UNROLL
    for (int c = 0; c < kCols; ++c) carry[c] = kReplay ? lanes.times_factors(c, carry[c]) : lanes.times_jacobian(c);
    if constexpr (!kReplay) lanes.compose(a);
  }

  __device__ void store(const AdjointWalk<T>& call, const AdjointChunk<T>& chunk, const Group& lanes) const {
    const std::int64_t map = chunk.map(call);
    SOLVENT_UNROLL
    for (int c = 0; c < kCols; ++c) {
      if (!is_unit[c]) continue;
      call.offsets[map * call.hidden + lanes.unit(c)] = carry[c];
      SOLVENT_UNROLL
      for (int i = 0; i < kN; ++i)
        if (i < call.hidden)
          call.matrices[(map * call.hidden + i) * call.hidden + lanes.unit(c)] = chunk.is_latest(call) ? T(0) : a[i][c];
    }
  }
};

template <class T, int kN, int kLanes, bool kReplay>
__global__ void __launch_bounds__(128, (kBlocksAtOnce<T, kN>)) adjoint_lanes_kernel(AdjointWalk<T> call) {
  using L = AdjointLanes<T, kN, kLanes, kReplay>;
  T* const shared = dynamic_shared<T>();
  L::load_weights(call, shared);
  __syncthreads();
  const L lanes(shared);
  AdjointLaneState<T, kN, kLanes, kReplay> state(call, lanes);
  const AdjointWork<T> work(call, kReplay);
  for (std::int64_t item = L::first_item(); item < work.items; item += L::stride()) {
    const AdjointChunk<T> chunk(call, work.skipped + item);
    state.begin(call, chunk, lanes);
    AdjointInputs<T> ahead[L::kCols], in[L::kCols];
    state.load(call, chunk, lanes, chunk.end - 1, ahead);
    for (std::int64_t t = chunk.end - 1; t >= chunk.begin; --t) {
      SOLVENT_UNROLL
      for (int c = 0; c < L::kCols; ++c) in[c] = ahead[c];
      state.load(call, chunk, lanes, t - 1, ahead);
      state.step(call, chunk, lanes, t, in);
    }
    if constexpr (!kReplay) state.store(call, chunk, lanes);
  }
}

// --- launches ---------------------------------------------------------------------------------------------------------------

template <class T, bool kReplay>
struct AdjointLaunch {
  const AdjointWalk<T>& call;
  Device device;

  template <int kN>
  void threads() const {
    launch_threads(AdjointWork<T>(call, kReplay).items, call, device, adjoint_threads_kernel<T, kN, kReplay>);
  }
  template <int kN, int kLanes>
  void lanes() const {
    launch_lanes<AdjointLanes<T, kN, kLanes, kReplay>>(AdjointWork<T>(call, kReplay).items, call, device,
                                                       adjoint_lanes_kernel<T, kN, kLanes, kReplay>);
  }
};

}  // namespace
}  // namespace solvent::solvers::cuda
