// The scan over the maps of chunks. Up to 4 units one launch does it, which is what bounds it: a block per sequence, a thread
// for some maps in a row. A thread composes its maps to one, the warp composes those of its threads by shuffles, every thread
// takes the vector through the maps of the earlier warps, and then through its own:
//
//     threads      P, q of own maps  ->  of all maps of the warp up to the own ones
//     warps        d = P_w d + q_w from d = 0, over the earlier warps
//     replay       d <- A_c d + v_c, stored
//
// More units: dense_scan of ops/cuda.

#include "solvent/solvers/cuda/gru_chunks.h"

#include <algorithm>
#include <cmath>

#include "solvent/core/cuda/launch.h"
#include "solvent/ops/cuda/scan.h"
#include "solvent/ops/cuda/unroll.h"

namespace solvent::solvers::cuda {
namespace {

using namespace solvent::cuda;

constexpr std::int64_t kMapsPerThread = 8;  // at least, where there are enough
template <class T>
constexpr std::int64_t kMostThreads = sizeof(T) == 4 ? 512 : 256;  // so that maps of 4 x 4 stay in registers

template <class T>
struct MapScan {
  std::int64_t maps, batch, per_thread;
  const T* matrices;
  const T* offsets;
  T* d;
};

/// h -> P h + q
template <class T, int K>
struct Map {
  T p[K][K], q[K];

  __device__ static Map identity() {
    Map map;
    SOLVENT_UNROLL
    for (int i = 0; i < K; ++i) {
      map.q[i] = T(0);
      SOLVENT_UNROLL
      for (int j = 0; j < K; ++j) map.p[i][j] = i == j ? T(1) : T(0);
    }
    return map;
  }
  __device__ void load(const MapScan<T>& call, std::int64_t number, std::int64_t sequence) {
    const std::int64_t at = number * call.batch + sequence;
    SOLVENT_UNROLL
    for (int i = 0; i < K; ++i) {
      q[i] = call.offsets[at * K + i];
      SOLVENT_UNROLL
      for (int j = 0; j < K; ++j) p[i][j] = call.matrices[(at * K + i) * K + j];
    }
  }
  __device__ void apply(T (&h)[K]) const {
    T next[K];
    SOLVENT_UNROLL
    for (int i = 0; i < K; ++i) {
      next[i] = q[i];
      SOLVENT_UNROLL
      for (int j = 0; j < K; ++j) next[i] = std::fma(p[i][j], h[j], next[i]);
    }
    SOLVENT_UNROLL
    for (int i = 0; i < K; ++i) h[i] = next[i];
  }
  /// `first`, then this.
  [[nodiscard]] __device__ Map after(const Map& first) const {
    Map map;
    SOLVENT_UNROLL
    for (int i = 0; i < K; ++i) {
      map.q[i] = first.q[i];
      SOLVENT_UNROLL
      for (int j = 0; j < K; ++j) {
        map.p[i][j] = p[i][0] * first.p[0][j];
        SOLVENT_UNROLL
        for (int k = 1; k < K; ++k) map.p[i][j] = std::fma(p[i][k], first.p[k][j], map.p[i][j]);
      }
    }
    apply(map.q);
    return map;
  }
  /// That of the lane `distance` before this one, which every lane asks for.
  [[nodiscard]] __device__ Map of_earlier_lane(unsigned distance) const {
    Map map;
    SOLVENT_UNROLL
    for (int i = 0; i < K; ++i) {
      map.q[i] = __shfl_up_sync(kAllLanes, q[i], distance);
      SOLVENT_UNROLL
      for (int j = 0; j < K; ++j) map.p[i][j] = __shfl_up_sync(kAllLanes, p[i][j], distance);
    }
    return map;
  }
};

/// Maps that are loaded before the first of them is used.
template <int K>
inline constexpr int kAhead = K == 1   ? 8
                              : K == 2 ? 4
                              : K == 3 ? 2
                                       : 1;

template <class T, int K>
__global__ void __launch_bounds__(kMostThreads<T>, 1) chunk_maps_kernel(MapScan<T> call) {
  __shared__ Map<T, K> of_warp[kMostThreads<T> / 32];
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const std::int64_t mine = threadIdx.x * call.per_thread;
  const std::int64_t begin = mine < call.maps ? mine : call.maps;
  const std::int64_t end = begin + call.per_thread < call.maps ? begin + call.per_thread : call.maps;
  for (std::int64_t sequence = blockIdx.x; sequence < call.batch; sequence += gridDim.x) {
    Map<T, K> map = Map<T, K>::identity();
    for (std::int64_t c = begin; c < end; c += kAhead<K>) {
      Map<T, K> next[kAhead<K>];
      SOLVENT_UNROLL
      for (int u = 0; u < kAhead<K>; ++u)
        if (c + u < end) next[u].load(call, c + u, sequence);
      SOLVENT_UNROLL
      for (int u = 0; u < kAhead<K>; ++u)
        if (c + u < end) map = next[u].after(map);
    }
    for (unsigned distance = 1; distance < 32; distance *= 2) {
      const Map<T, K> earlier = map.of_earlier_lane(distance);
      if (lane >= distance) map = map.after(earlier);
    }
    __syncthreads();  // the maps of the last sequence are no longer read
    if (lane == 31) of_warp[warp] = map;
    __syncthreads();
    T d[K];
    SOLVENT_UNROLL
    for (int i = 0; i < K; ++i) d[i] = T(0);
    for (unsigned w = 0; w < warp; ++w) of_warp[w].apply(d);
    const Map<T, K> before = map.of_earlier_lane(1);
    if (lane > 0) before.apply(d);
    for (std::int64_t c = begin; c < end; c += kAhead<K>) {
      Map<T, K> next[kAhead<K>];
      SOLVENT_UNROLL
      for (int u = 0; u < kAhead<K>; ++u)
        if (c + u < end) next[u].load(call, c + u, sequence);
      SOLVENT_UNROLL
      for (int u = 0; u < kAhead<K>; ++u) {
        if (c + u >= end) continue;
        next[u].apply(d);
        SOLVENT_UNROLL
        for (int i = 0; i < K; ++i) call.d[((c + u) * call.batch + sequence) * K + i] = d[i];
      }
    }
  }
}

template <class T>
void scan_maps(MapScan<T> call, std::int64_t hidden, Device device) {
  if (hidden > 4) {
    cpu::ScanShape shape;
    shape.T = call.maps;
    shape.B = call.batch;
    shape.n = hidden;
    return dense_scan<T>(shape, call.matrices, call.offsets, nullptr, call.d, device, true);
  }
  const std::int64_t wanted = (call.maps + kMapsPerThread - 1) / kMapsPerThread;
  const std::int64_t threads = std::clamp<std::int64_t>((wanted + 31) / 32 * 32, 32, kMostThreads<T>);
  call.per_thread = (call.maps + threads - 1) / threads;
  const Launch where = over_blocks("solve_sequence", call.batch, device, static_cast<unsigned>(threads));
  switch (hidden) {
    case 1: return launch(where, chunk_maps_kernel<T, 1>, call);
    case 2: return launch(where, chunk_maps_kernel<T, 2>, call);
    case 3: return launch(where, chunk_maps_kernel<T, 3>, call);
    default: return launch(where, chunk_maps_kernel<T, 4>, call);
  }
}

}  // namespace

void scan_chunk_maps(std::int64_t maps, std::int64_t batch, std::int64_t hidden, const float* matrices,
                     const float* offsets, float* d, Device device) {
  scan_maps(MapScan<float>{maps, batch, 0, matrices, offsets, d}, hidden, device);
}
void scan_chunk_maps(std::int64_t maps, std::int64_t batch, std::int64_t hidden, const double* matrices,
                     const double* offsets, double* d, Device device) {
  scan_maps(MapScan<double>{maps, batch, 0, matrices, offsets, d}, hidden, device);
}

}  // namespace solvent::solvers::cuda
