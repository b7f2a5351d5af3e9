#pragma once
// The walk of the fused Newton method (specs of DEER, 10.4): every chunk of time in parallel, its steps in order. Jacobians
// exist for one step at a time, in registers or shared memory.
//
//     old:  y_t        f, J at y_{t-1}:  r_t = f - y_t,  d_t = J d_{t-1} + r_t       (the correction of this iteration)
//     new:  y_t + d_t  f, J at y_{t-1} + d_{t-1}:  r_t,  A <- J A,  v <- J v + r_t   (the map of the next one)
//
// The last d of a chunk is taken from the scan of the maps instead, for there the next chunk starts with the same y + d. So
// every r is the defect of the states as they are stored, also at the borders of chunks, and the largest |r| certifies them.
// Old and new states are in two buffers: a chunk reads the end of the one before it.
//
// How a chunk is shared out is in gru_walk-inl.h. Products with J as matrix: for v and A; with its factors: for d.
//
// Maxima are integer maxima of bits, whose order is of no account: the same bits in every run.
//
// Per step and sequence a walk moves 5 n values (the projected input, the old and the new state) and computes about
// 2 n^3 + 26 n^2 + 80 n: 5 operations per byte for n = 1 in float32, 21 for n = 8, 50 for n = 16. So by count, memory and the
// functions of the gates share the bound for n = 1 and 2, arithmetic is it from there on, and n^3 leads from n = 13. Where
// there are few chunks the latency of `length` steps bounds all. Registers per thread by ptxas for sm_90, without spills:
//
//     n         1    2    3    4    8   16   32
//     float    95   80   96  130  158  167  210
//     double  140  148  166  244  216  246  248

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>

#include "solvent/solvers/cuda/gru_newton_walk.h"
#include "solvent/solvers/cuda/gru_walk-inl.h"

namespace solvent::solvers::cuda {
namespace {

struct Larger {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};

/// Largest |r| / (atol + rtol |y|) and |r|; infinite if anything is not finite.
template <class T>
struct Maxima {
  T ratio = T(0), residual = T(0);

  __device__ void add(T r, T y, const NewtonWalk<T>& call) {
    constexpr T kInfinity = std::numeric_limits<T>::infinity();
    const T size = std::fabs(r), of_y = std::fabs(y);
    const T q = size / std::fma(call.rtol, of_y, call.atol);
    ratio = Larger{}(ratio, q < kInfinity && of_y < kInfinity ? q : kInfinity);
    residual = Larger{}(residual, size < kInfinity ? size : kInfinity);
  }

  __device__ void publish(const NewtonWalk<T>& call, std::int64_t sequence) const {
    NormBits<T> bits[2];
    std::memcpy(bits, &ratio, sizeof(T));
    std::memcpy(bits + 1, &residual, sizeof(T));
    atomicMax(call.norms + sequence, bits[0]);
    atomicMax(call.norms + call.batch + sequence, bits[1]);
  }
};

/// A chunk of one sequence.
template <class T>
struct Chunk : TimeChunk {
  bool has_map;

  __device__ Chunk(const NewtonWalk<T>& call, std::int64_t item)
      : TimeChunk(call, item), has_map(number + 1 < call.chunks) {}

  /// State before the chunk, and its correction.
  __device__ void start(const NewtonWalk<T>& call, std::int64_t unit, T& old, T& delta) const {
    old = number > 0 && call.from != nullptr ? call.from[((begin - 1) * call.batch + sequence) * call.hidden + unit]
                                             : call.before[sequence * call.hidden + unit];
    delta =
        number > 0 && call.corrects ? call.deltas[((number - 1) * call.batch + sequence) * call.hidden + unit] : T(0);
  }
  /// Correction at the end of a chunk that has a map.
  __device__ T last_delta(const NewtonWalk<T>& call, std::int64_t unit) const {
    return call.corrects && has_map ? call.deltas[(number * call.batch + sequence) * call.hidden + unit] : T(0);
  }
};

/// What a step reads of one unit: the projected input and the old state.
template <class T>
struct Inputs {
  T x[3], y;

  __device__ void load(const NewtonWalk<T>& call, const Chunk<T>& chunk, std::int64_t t, std::int64_t unit) {
    const std::int64_t row = t * call.batch + chunk.sequence;
    load_projected(call, row, unit, x);
    y = call.from == nullptr ? call.before[chunk.sequence * call.hidden + unit] : call.from[row * call.hidden + unit];
  }
};

/// Sums of one unit over the states: W_hh h for the old and the new state, W_hh d; for r, z and q.
template <class T>
struct Sums {
  T old[3], of_d[3], now[3];

  __device__ void add(int gate, T w, T h_old, T d, T h_new) {
    old[gate] = std::fma(w, h_old, old[gate]);
    of_d[gate] = std::fma(w, d, of_d[gate]);
    now[gate] = std::fma(w, h_new, now[gate]);
  }
};

/// One unit in one step: the correction, the new state, and its row of J except for W_hh. `keep` multiplies J.
template <class T>
struct Linearised {
  T d, y, r, z;
  GruSlopes<T> slopes;

  __device__ static T correction(const Sums<T>& sums, const Inputs<T>& in, T of_n, T h_old, T d_before, T keep) {
    const GruUnit<T> unit(in.x[0] + sums.old[0], in.x[1] + sums.old[1], of_n, sums.old[2]);
    const GruSlopes<T> s = kept(GruSlopes<T>(unit, h_old), keep);
    const T defect = unit.next(h_old) - in.y;
    return std::fma(keep * unit.z, d_before,
                    std::fma(s.r, sums.of_d[0], std::fma(s.z, sums.of_d[1], std::fma(s.q, sums.of_d[2], defect))));
  }

  __device__ Linearised(const Sums<T>& sums, const Inputs<T>& in, T of_n, T h_new, T delta, T keep)
      : Linearised(GruUnit<T>(in.x[0] + sums.now[0], in.x[1] + sums.now[1], of_n, sums.now[2]), h_new, delta,
                   in.y + delta, keep) {}

 private:
  __device__ Linearised(const GruUnit<T>& unit, T h_new, T delta, T state, T keep)
      : d(delta),
        y(state),
        r(unit.next(h_new) - state),
        z(keep * unit.z),
        slopes(kept(GruSlopes<T>(unit, h_new), keep)) {}

  __device__ static GruSlopes<T> kept(GruSlopes<T> s, T keep) {
    s.r *= keep;
    s.z *= keep;
    s.q *= keep;
    return s;
  }
};

// --- a thread per chunk -------------------------------------------------------------------------------------------------

template <class T, int kN>
struct SmallState {
  T a[kN][kN], v[kN], h_old[kN], h_new[kN], d[kN], last[kN];

  __device__ void begin(const NewtonWalk<T>& call, const Chunk<T>& chunk) {
    SOLVENT_UNROLL
    for (int i = 0; i < kN; ++i) {
      chunk.start(call, i, h_old[i], d[i]);
      h_new[i] = h_old[i] + d[i];
      last[i] = chunk.last_delta(call, i);
      v[i] = T(0);
      SOLVENT_UNROLL
      for (int j = 0; j < kN; ++j) a[i][j] = i == j ? T(1) : T(0);
    }
  }

  __device__ void step(const NewtonWalk<T>& call, const SmallWeights<T, kN>& weights, const Inputs<T> (&in)[kN],
                       bool ends, T* to, Maxima<T>& maxima) {
    T jac[kN][kN], r[kN], y[kN], d_now[kN];
    SOLVENT_UNROLL
    for (int i = 0; i < kN; ++i) {
      Sums<T> sums{{weights.b[0][i], weights.b[1][i], weights.q_bias[i]},
                   {T(0), T(0), T(0)},
                   {weights.b[0][i], weights.b[1][i], weights.q_bias[i]}};
      SOLVENT_UNROLL
      for (int k = 0; k < kN; ++k)
        for (int g = 0; g < 3; ++g) sums.add(g, weights.w[g][i][k], h_old[k], d[k], h_new[k]);
      const T of_n = in[i].x[2] + weights.b[2][i];
      T delta = T(0);
      if (call.corrects)
        delta = ends ? last[i] : Linearised<T>::correction(sums, in[i], of_n, h_old[i], d[i], call.keep);
      const Linearised<T> unit(sums, in[i], of_n, h_new[i], delta, call.keep);
      maxima.add(unit.r, unit.y, call);
      to[i] = unit.y;
      y[i] = unit.y;
      d_now[i] = unit.d;
      r[i] = unit.r;
      weights.jacobian_row(i, unit.z, unit.slopes, jac[i]);
    }
    compose(jac, r);
    SOLVENT_UNROLL
    for (int i = 0; i < kN; ++i) {
      h_old[i] = in[i].y;
      h_new[i] = y[i];
      d[i] = d_now[i];
    }
  }

  __device__ void compose(const T (&jac)[kN][kN], const T (&r)[kN]) {
    T next[kN][kN], sum[kN];
    SOLVENT_UNROLL
    for (int i = 0; i < kN; ++i) {
      sum[i] = r[i];
      SOLVENT_UNROLL
      for (int j = 0; j < kN; ++j) next[i][j] = T(0);
      SOLVENT_UNROLL
      for (int k = 0; k < kN; ++k) {
        sum[i] = std::fma(jac[i][k], v[k], sum[i]);
        SOLVENT_UNROLL
        for (int j = 0; j < kN; ++j) next[i][j] = std::fma(jac[i][k], a[k][j], next[i][j]);
      }
    }
    SOLVENT_UNROLL
    for (int i = 0; i < kN; ++i) {
      v[i] = sum[i];
      SOLVENT_UNROLL
      for (int j = 0; j < kN; ++j) a[i][j] = next[i][j];
    }
  }

  __device__ void store(const NewtonWalk<T>& call, const Chunk<T>& chunk) const {
    const std::int64_t map = chunk.number * call.batch + chunk.sequence;
    for (int i = 0; i < kN; ++i) {
      call.offsets[map * kN + i] = v[i];
      for (int j = 0; j < kN; ++j) call.matrices[(map * kN + i) * kN + j] = chunk.number == 0 ? T(0) : a[i][j];
    }
  }
};

template <class T, int kN>
__device__ Maxima<T> walk_chunk(const NewtonWalk<T>& call, const Chunk<T>& chunk, const SmallWeights<T, kN>& weights) {
  Maxima<T> maxima;
  SmallState<T, kN> state;
  state.begin(call, chunk);
  Inputs<T> ahead[kDepth<kN>][kN];
  SOLVENT_UNROLL
  for (int k = 0; k < kDepth<kN>; ++k)
    for (int i = 0; i < kN; ++i)
      if (chunk.begin + k < chunk.end) ahead[k][i].load(call, chunk, chunk.begin + k, i);
  for (std::int64_t t0 = chunk.begin; t0 < chunk.end; t0 += kDepth<kN>) {
    SOLVENT_UNROLL
    for (int k = 0; k < kDepth<kN>; ++k) {
      const std::int64_t t = t0 + k;
      if (t >= chunk.end) continue;
      Inputs<T> in[kN];
      SOLVENT_UNROLL
      for (int i = 0; i < kN; ++i) {
        in[i] = ahead[k][i];
        if (t + kDepth<kN> < chunk.end) ahead[k][i].load(call, chunk, t + kDepth<kN>, i);
      }
      state.step(call, weights, in, chunk.has_map && t + 1 == chunk.end,
                 call.to + (t * call.batch + chunk.sequence) * kN, maxima);
    }
  }
  if (chunk.has_map) state.store(call, chunk);
  return maxima;
}

template <class T, int kN>
__global__ void walk_threads_kernel(NewtonWalk<T> call) {
  __shared__ SmallWeights<T, kN> weights;
  weights.load(call);
  __syncthreads();
  const std::int64_t work = call.chunks * call.batch;
  for (std::int64_t first = global_thread() - threadIdx.x; first < work; first += grid_threads()) {
    const std::int64_t item = first + threadIdx.x;
    const Chunk<T> chunk(call, item < work ? item : 0);
    const bool walks = item < work && call.active[chunk.sequence];
    Maxima<T> maxima;
    if (walks) maxima = walk_chunk<T, kN>(call, chunk, weights);
    if (call.batch > 1) {
      if (walks) maxima.publish(call, chunk.sequence);
      continue;
    }
    maxima.ratio = warp_fold(maxima.ratio, Larger{});  // all lanes have the one sequence
    maxima.residual = warp_fold(maxima.residual, Larger{});
    if (threadIdx.x % 32 == 0) maxima.publish(call, 0);
  }
}

// --- several lanes per chunk --------------------------------------------------------------------------------------------

template <class T, int kN, int kLanes>
struct Lanes : LaneGroup<T, kN, kLanes, kN> {
  using Base = LaneGroup<T, kN, kLanes, kN>;
  using Base::kCols;
  using Base::kPack;
  using Base::kStride;
  using Base::own;
  using Base::read;
  using Base::unit;
  static constexpr int kScratch = kN * kStride + 4 * kN + kPack;  // per chunk
  static constexpr std::size_t kBytes = (Base::kWeights + Base::kChunks * kScratch) * sizeof(T);

  T *jac, *h_old, *h_new, *d, *v;

  __device__ explicit Lanes(T* shared) : Base(shared, kScratch) {
    jac = own;
    h_old = jac + kN * kStride;
    h_new = h_old + kN;
    d = h_new + kN;
    v = d + kN;
  }

  /// sums[c] += the products of unit c's three rows of W_hh.
  __device__ void recur(Sums<T> (&sums)[kCols]) const {
    for (int k0 = 0; k0 < kN; k0 += kPack) {
      const Pack<T, kPack> of_old = read(h_old + k0), of_new = read(h_new + k0), of_d = read(d + k0);
      SOLVENT_UNROLL
      for (int p = 0; p < kPack; ++p) {
        SOLVENT_UNROLL
        for (int g = 0; g < 3; ++g) {
          SOLVENT_UNROLL
          for (int c = 0; c < kCols; ++c)
            sums[c].add(g, this->weight(g, k0 + p, unit(c)), of_old.value[p], of_d.value[p], of_new.value[p]);
        }
      }
    }
  }

  /// Row unit(c) of J into shared memory; returns its product with v.
  __device__ T jacobian_row(int c, T z, const GruSlopes<T>& slopes) const {
    const int i = unit(c);
    T sum = T(0);
    for (int k0 = 0; k0 < kN; k0 += kPack) {
      const Pack<T, kPack> of_v = read(v + k0);
      Pack<T, kPack> row;
      SOLVENT_UNROLL
      for (int p = 0; p < kPack; ++p) {
        row.value[p] = this->jacobian(i, k0 + p, z, slopes);
        sum = std::fma(row.value[p], of_v.value[p], sum);
      }
      *reinterpret_cast<Pack<T, kPack>*>(jac + i * kStride + k0) = row;
    }
    return sum;
  }

  /// A <- J A for this lane's columns.
  __device__ void compose(T (&a)[kN][kCols]) const {
    T next[kN][kCols];
    SOLVENT_UNROLL
    for (int i = 0; i < kN; ++i) {
      T sum[kCols];
      SOLVENT_UNROLL
      for (int c = 0; c < kCols; ++c) sum[c] = T(0);
      SOLVENT_UNROLL
      for (int k0 = 0; k0 < kN; k0 += kPack) {
        const Pack<T, kPack> row = read(jac + i * kStride + k0);
        SOLVENT_UNROLL
        for (int p = 0; p < kPack; ++p) {
          SOLVENT_UNROLL
          for (int c = 0; c < kCols; ++c) sum[c] = std::fma(row.value[p], a[k0 + p][c], sum[c]);
        }
      }
      SOLVENT_UNROLL
      for (int c = 0; c < kCols; ++c) next[i][c] = sum[c];
    }
    SOLVENT_UNROLL
    for (int i = 0; i < kN; ++i) {
      SOLVENT_UNROLL
      for (int c = 0; c < kCols; ++c) a[i][c] = next[i][c];
    }
  }
};

/// What a lane keeps over the steps of a chunk.
template <class T, int kN, int kLanes>
struct LaneState : LaneBiases<T, kN / kLanes> {
  static constexpr int kCols = kN / kLanes;
  using LaneBiases<T, kCols>::bias;
  using LaneBiases<T, kCols>::q_bias;
  using LaneBiases<T, kCols>::is_unit;
  T a[kN][kCols], h_old[kCols], h_new[kCols], d[kCols], last[kCols];

  __device__ LaneState(const NewtonWalk<T>& call, const Lanes<T, kN, kLanes>& lanes)
      : LaneBiases<T, kCols>(call, lanes) {}

  __device__ void begin(const NewtonWalk<T>& call, const Chunk<T>& chunk, const Lanes<T, kN, kLanes>& lanes) {
    SOLVENT_UNROLL
    for (int c = 0; c < kCols; ++c) {
      h_old[c] = d[c] = last[c] = T(0);
      if (is_unit[c]) {
        chunk.start(call, lanes.unit(c), h_old[c], d[c]);
        last[c] = chunk.last_delta(call, lanes.unit(c));
      }
      h_new[c] = h_old[c] + d[c];
      lanes.v[lanes.unit(c)] = T(0);
      SOLVENT_UNROLL
      for (int i = 0; i < kN; ++i) a[i][c] = i == lanes.unit(c) ? T(1) : T(0);
    }
  }

  __device__ void load(const NewtonWalk<T>& call, const Chunk<T>& chunk, const Lanes<T, kN, kLanes>& lanes,
                       std::int64_t t, Inputs<T> (&in)[kCols]) const {
    SOLVENT_UNROLL
    for (int c = 0; c < kCols; ++c) {
      in[c] = Inputs<T>{};
      if (is_unit[c] && t < chunk.end) in[c].load(call, chunk, t, lanes.unit(c));
    }
  }

  __device__ void step(const NewtonWalk<T>& call, const Chunk<T>& chunk, const Lanes<T, kN, kLanes>& lanes,
                       std::int64_t t, const Inputs<T> (&in)[kCols], Maxima<T>& maxima) {
    SOLVENT_UNROLL
    for (int c = 0; c < kCols; ++c) {
      lanes.h_old[lanes.unit(c)] = h_old[c];
      lanes.h_new[lanes.unit(c)] = h_new[c];
      lanes.d[lanes.unit(c)] = d[c];
    }
    __syncwarp(lanes.mask);  // the vectors are there, and J is no longer read
    Sums<T> sums[kCols];
    SOLVENT_UNROLL
    for (int c = 0; c < kCols; ++c)
      sums[c] = {{bias[0][c], bias[1][c], q_bias[c]}, {T(0), T(0), T(0)}, {bias[0][c], bias[1][c], q_bias[c]}};
    lanes.recur(sums);
    T v_now[kCols];
    SOLVENT_UNROLL
    for (int c = 0; c < kCols; ++c) {
      const T of_n = in[c].x[2] + bias[2][c];
      T delta = T(0);
      if (call.corrects)
        delta = chunk.has_map && t + 1 == chunk.end
                    ? last[c]
                    : Linearised<T>::correction(sums[c], in[c], of_n, h_old[c], d[c], call.keep);
      const Linearised<T> unit(sums[c], in[c], of_n, h_new[c], delta, call.keep);
      if (is_unit[c]) {
        maxima.add(unit.r, unit.y, call);
        call.to[(t * call.batch + chunk.sequence) * call.hidden + lanes.unit(c)] = unit.y;
      }
      v_now[c] = chunk.has_map ? unit.r + lanes.jacobian_row(c, unit.z, unit.slopes) : T(0);
      h_old[c] = in[c].y;
      h_new[c] = unit.y;
      d[c] = unit.d;
    }
    __syncwarp(lanes.mask);  // J is there, and the vectors are no longer read
    if (!chunk.has_map) return;
    SOLVENT_UNROLL
    for (int c = 0; c < kCols; ++c) lanes.v[lanes.unit(c)] = v_now[c];
    lanes.compose(a);
  }

  __device__ void store(const NewtonWalk<T>& call, const Chunk<T>& chunk, const Lanes<T, kN, kLanes>& lanes) const {
    const std::int64_t map = chunk.number * call.batch + chunk.sequence;
    SOLVENT_UNROLL
    for (int c = 0; c < kCols; ++c) {
      if (!is_unit[c]) continue;
      call.offsets[map * call.hidden + lanes.unit(c)] = lanes.v[lanes.unit(c)];  // written by this lane
      SOLVENT_UNROLL
      for (int i = 0; i < kN; ++i)
        if (i < call.hidden)
          call.matrices[(map * call.hidden + i) * call.hidden + lanes.unit(c)] = chunk.number == 0 ? T(0) : a[i][c];
    }
  }
};

template <class T, int kN, int kLanes>
__global__ void __launch_bounds__(128, (kBlocksAtOnce<T, kN>)) walk_lanes_kernel(NewtonWalk<T> call) {
  using L = Lanes<T, kN, kLanes>;
  T* const shared = dynamic_shared<T>();
  L::load_weights(call, shared);
  __syncthreads();
  const L lanes(shared);
  LaneState<T, kN, kLanes> state(call, lanes);
  for (std::int64_t item = L::first_item(); item < call.chunks * call.batch; item += L::stride()) {
    const Chunk<T> chunk(call, item);
    if (!call.active[chunk.sequence]) continue;
    Maxima<T> maxima;
    state.begin(call, chunk, lanes);
    Inputs<T> ahead[L::kCols], in[L::kCols];
    state.load(call, chunk, lanes, chunk.begin, ahead);
    for (std::int64_t t = chunk.begin; t < chunk.end; ++t) {
      SOLVENT_UNROLL
      for (int c = 0; c < L::kCols; ++c) in[c] = ahead[c];
      state.load(call, chunk, lanes, t + 1, ahead);
      state.step(call, chunk, lanes, t, in, maxima);
    }
    if (chunk.has_map) state.store(call, chunk, lanes);
    for (int lane = kLanes / 2; lane > 0; lane /= 2) {
      maxima.ratio = Larger{}(maxima.ratio, __shfl_xor_sync(lanes.mask, maxima.ratio, lane));
      maxima.residual = Larger{}(maxima.residual, __shfl_xor_sync(lanes.mask, maxima.residual, lane));
    }
    if (lanes.lane == 0) maxima.publish(call, chunk.sequence);
  }
}

// --- launches ---------------------------------------------------------------------------------------------------------------

template <class T>
struct WalkLaunch {
  const NewtonWalk<T>& call;
  Device device;

  template <int kN>
  void threads() const {
    launch_threads(call.chunks * call.batch, call, device, walk_threads_kernel<T, kN>);
  }
  template <int kN, int kLanes>
  void lanes() const {
    launch_lanes<Lanes<T, kN, kLanes>>(call.chunks * call.batch, call, device, walk_lanes_kernel<T, kN, kLanes>);
  }
};

template <class T>
__global__ void copy_sequences_kernel(const T* from, T* to, const bool* marked, std::int64_t batch, std::int64_t hidden,
                                      std::int64_t count) {
  for (std::int64_t e = global_thread(); e < count; e += grid_threads())
    if (marked[e / hidden % batch]) to[e] = from[e];
}

template <class T>
void copy_marked(const T* from, T* to, const bool* marked, std::int64_t steps, std::int64_t batch, std::int64_t hidden,
                 Device device) {
  const std::int64_t count = steps * batch * hidden;
  launch(over_elements(kName, count, device), copy_sequences_kernel<T>, from, to, marked, batch, hidden, count);
}

}  // namespace
}  // namespace solvent::solvers::cuda
