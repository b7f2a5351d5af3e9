// Affine scans with matrices up to 4 x 4 and diagonal ones (K = 1): h_s = M_s h_{s-1} + b_s along "chains", which lie side by
// side in memory: A (T, chains, K, K), b (lead, T, chains, K). s counts in the direction of the scan.
//
// Bound by memory. Three designs, chosen by sizes only:
// - many chains: a thread runs a whole chain. One pass; neighbours read neighbouring addresses, and the operands of the next
//   steps are loaded while the present ones are used, so that few threads keep the memory busy.
// - few chains (up to 16): tiles of time go through shared memory. A thread composes a few steps into one map h -> P h + q,
//   the block composes the threads' maps (log2 rounds), the tiles' maps are scanned by this same function, and then each tile
//   is replayed from its first state:
//
//      time   | tile 0          | tile 1          | ...
//      1.     | (P,q) of tile 0 | (P,q) of tile 1 | ...       reads A, b
//      2.       scan of the tiles' (P,q): a scan with T / 1024 or fewer steps
//      3.     | threads' maps, block scan, replay | ...       reads A, b, writes h
//
// - in between: the same three phases with a thread per chunk of a chain, without shared memory.
// The bracketing of products depends on sizes only, so results have the same bits at every run.

#include <algorithm>
#include <cmath>

#include "solvent/core/cuda/launch.h"
#include "solvent/core/cuda/strided.h"
#include "solvent/core/engine/view.h"
#include "solvent/ops/cuda/scan.h"
#include "solvent/ops/cuda/scan_call.h"
#include "solvent/ops/cuda/unroll.h"

namespace solvent::cuda {
namespace {

constexpr std::int64_t kManyChains = 8192;
constexpr std::int64_t kShortScan = 64;
constexpr std::int64_t kTileChains = 16;
constexpr std::int64_t kChunkThreads = 65536;  // that the chunked design aims at

template <class T>
struct Call : ScanCall<T> {
  Divider per_step_a, per_step_b;  // of a tile: elements of all chains at one step
};

// --- one step ---------------------------------------------------------------------------------------------------------

// M_s of a chain; there is none before the first step of a shifted scan.
template <class T, int K>
__device__ void load_matrix(const Call<T>& call, std::int64_t s, std::int64_t chain, T (&m)[K * K]) {
  if (call.shift_a && s == 0) {
    for (int e = 0; e < K * K; ++e) m[e] = T(0);
    return;
  }
  const T* const p = call.a + ((call.time(s) + (call.shift_a ? 1 : 0)) * call.chains + chain) * (K * K);
  for (int i = 0; i < K; ++i)
    for (int j = 0; j < K; ++j) m[i * K + j] = p[call.transposed ? j * K + i : i * K + j];
}

template <class T>
__device__ std::int64_t vector_at(const Call<T>& call, std::int64_t r, std::int64_t s, std::int64_t chain) {
  return (r * call.steps + call.time(s)) * call.chains + chain;
}

// h = M h + b
template <class T, int K>
__device__ void step(const T (&m)[K * K], const T (&b)[K], T (&h)[K]) {
  T next[K];
  for (int i = 0; i < K; ++i) {
    next[i] = b[i];
    for (int j = 0; j < K; ++j) next[i] = std::fma(m[i * K + j], h[j], next[i]);
  }
  for (int i = 0; i < K; ++i) h[i] = next[i];
}

// A map h -> P h + q.
template <class T, int K>
struct Map {
  T p[K * K];
  T q[K];
};

template <class T, int K>
__device__ Map<T, K> identity() {
  Map<T, K> map;
  for (int e = 0; e < K * K; ++e) map.p[e] = e % (K + 1) == 0 ? T(1) : T(0);
  for (int i = 0; i < K; ++i) map.q[i] = T(0);
  return map;
}

// `map`, then h -> M h + b.
template <class T, int K>
__device__ void append(const T (&m)[K * K], const T (&b)[K], Map<T, K>& map) {
  step<T, K>(m, b, map.q);
  T product[K * K];
  for (int i = 0; i < K; ++i)
    for (int j = 0; j < K; ++j) {
      T sum = m[i * K] * map.p[j];
      for (int k = 1; k < K; ++k) sum = std::fma(m[i * K + k], map.p[k * K + j], sum);
      product[i * K + j] = sum;
    }
  for (int e = 0; e < K * K; ++e) map.p[e] = product[e];
}

template <class T, int K>
__device__ void first_state(const Call<T>& call, std::int64_t r, std::int64_t chunk, std::int64_t chain, T (&h)[K]) {
  const T* from = nullptr;
  if (chunk > 0) {
    from = call.starts + ((r * (call.chunks - 1) + chunk - 1) * call.chains + chain) * K;
  } else if (call.h0 != nullptr) {
    from = call.h0 + (r * call.chains + chain) * K;
  }
  for (int i = 0; i < K; ++i) h[i] = from != nullptr ? from[i] : T(0);
}

template <class T, int K>
__device__ void store_map(const Call<T>& call, std::int64_t r, std::int64_t chunk, std::int64_t chain,
                          const Map<T, K>& map) {
  if (r == 0)
    for (int e = 0; e < K * K; ++e) call.products[(chunk * call.chains + chain) * (K * K) + e] = map.p[e];
  for (int i = 0; i < K; ++i) call.offsets[((r * (call.chunks - 1) + chunk) * call.chains + chain) * K + i] = map.q[i];
}

// --- a thread per chunk of a chain ----------------------------------------------------------------------------------------

// Operands of a few steps in registers.
template <class T, int K>
struct Ahead {
  static constexpr int kSteps = K == 1 ? 16 : K == 2 ? 4 : 2;
  T m[kSteps][K * K];
  T b[kSteps][K];

  __device__ void load(const Call<T>& call, std::int64_t r, std::int64_t chain, std::int64_t s, std::int64_t end) {
    SOLVENT_UNROLL
    for (int u = 0; u < kSteps; ++u) {
      if (s + u < end) {
        load_matrix<T, K>(call, s + u, chain, m[u]);
        const T* const from = call.b + vector_at(call, r, s + u, chain) * K;
        for (int i = 0; i < K; ++i) b[u][i] = from[i];
      }
    }
  }
};

template <class T, int K>
__global__ void replay_kernel(Call<T> call) {
  constexpr int kSteps = Ahead<T, K>::kSteps;
  const std::int64_t work = call.lead * call.chunks * call.chains;
  for (std::int64_t id = global_thread(); id < work; id += grid_threads()) {
    const std::int64_t chain = id % call.chains;
    const std::int64_t chunk = id / call.chains % call.chunks;
    const std::int64_t r = id / call.chains / call.chunks;
    const std::int64_t begin = chunk * call.length;
    const std::int64_t end = begin + call.length < call.steps ? begin + call.length : call.steps;
    T h[K];
    first_state<T, K>(call, r, chunk, chain, h);
    Ahead<T, K> now;
    now.load(call, r, chain, begin, end);
    for (std::int64_t s = begin; s < end; s += kSteps) {
      Ahead<T, K> next;
      next.load(call, r, chain, s + kSteps, end);
      SOLVENT_UNROLL
      for (int u = 0; u < kSteps; ++u) {
        if (s + u < end) {
          step<T, K>(now.m[u], now.b[u], h);
          T* const to = call.h + vector_at(call, r, s + u, chain) * K;
          for (int i = 0; i < K; ++i) to[i] = h[i];
        }
      }
      if (s + kSteps < end) now = next;
    }
  }
}

template <class T, int K>
__global__ void compose_kernel(Call<T> call) {
  constexpr int kSteps = Ahead<T, K>::kSteps;
  const std::int64_t work = call.lead * (call.chunks - 1) * call.chains;
  for (std::int64_t id = global_thread(); id < work; id += grid_threads()) {
    const std::int64_t chain = id % call.chains;
    const std::int64_t chunk = id / call.chains % (call.chunks - 1);
    const std::int64_t r = id / call.chains / (call.chunks - 1);
    const std::int64_t begin = chunk * call.length;
    const std::int64_t end = begin + call.length;  // only the last chunk, which has no map, may be shorter
    Map<T, K> map = identity<T, K>();
    for (std::int64_t s = begin; s < end; s += kSteps) {
      Ahead<T, K> now;
      now.load(call, r, chain, s, end);
      SOLVENT_UNROLL
      for (int u = 0; u < kSteps; ++u)
        if (s + u < end) append<T, K>(now.m[u], now.b[u], map);
    }
    store_map<T, K>(call, r, chunk, chain, map);
  }
}

// --- tiles in shared memory -----------------------------------------------------------------------------------------------

// A tile: thread j * chains + chain has `kSteps` steps of a chain; J = kThreads / chains threads follow each other in time.
template <class T, int K>
struct Tile {
  static constexpr int kSteps = K == 1 ? 16 : K == 2 ? 8 : 4;

  int chains, along;  // along = J
  int a_row, b_row;   // elements of the steps of one j, odd so that the threads' addresses fall on different banks
  T* a;
  T* b;
  T* scratch;  // maps of all threads, for the composition
  static constexpr int kMapRow = K * K + K + (K * K + K + 1) % 2;

  __device__ explicit Tile(int of_chains) : chains(of_chains), along(static_cast<int>(kThreads) / of_chains) {
    a_row = kSteps * chains * K * K | 1;
    b_row = kSteps * chains * K | 1;
    a = dynamic_shared<T>();
    b = a + along * a_row;
    scratch = b + along * b_row;
  }
  static std::size_t bytes(std::int64_t chains) {
    const std::int64_t along = std::int64_t{kThreads} / chains;
    return static_cast<std::size_t>(along * ((kSteps * chains * K * K | 1) + (kSteps * chains * K | 1)) +
                                    std::int64_t{kThreads} * kMapRow) *
           sizeof(T);
  }

  // Operands of `count` steps from `first`, in the order of the scan.
  __device__ void load(const Call<T>& call, std::int64_t r, std::int64_t first, int count) const {
    const std::int64_t a_shift = call.shift_a ? 1 : 0;
    for (int e = static_cast<int>(threadIdx.x); e < count * chains * K * K; e += static_cast<int>(blockDim.x)) {
      const int s = static_cast<int>(call.per_step_a.divide(static_cast<std::uint32_t>(e)));
      const int within = e - s * chains * K * K;
      T value = T(0);
      if (!(call.shift_a && first + s == 0)) value = call.a[(call.time(first + s) + a_shift) * chains * K * K + within];
      a[s / kSteps * a_row + s % kSteps * chains * K * K + within] = value;
    }
    for (int e = static_cast<int>(threadIdx.x); e < count * chains * K; e += static_cast<int>(blockDim.x)) {
      const int s = static_cast<int>(call.per_step_b.divide(static_cast<std::uint32_t>(e)));
      const int within = e - s * chains * K;
      b[s / kSteps * b_row + s % kSteps * chains * K + within] =
          call.b[(r * call.steps + call.time(first + s)) * chains * K + within];
    }
  }
  // Writes what lies in b.
  __device__ void store(const Call<T>& call, std::int64_t r, std::int64_t first, int count) const {
    for (int e = static_cast<int>(threadIdx.x); e < count * chains * K; e += static_cast<int>(blockDim.x)) {
      const int s = static_cast<int>(call.per_step_b.divide(static_cast<std::uint32_t>(e)));
      const int within = e - s * chains * K;
      call.h[(r * call.steps + call.time(first + s)) * chains * K + within] =
          b[s / kSteps * b_row + s % kSteps * chains * K + within];
    }
  }
  __device__ void matrix(const Call<T>& call, int j, int u, int chain, T (&m)[K * K]) const {
    const T* const p = a + j * a_row + (u * chains + chain) * K * K;
    for (int row = 0; row < K; ++row)
      for (int column = 0; column < K; ++column)
        m[row * K + column] = p[call.transposed ? column * K + row : row * K + column];
  }
  __device__ T* vector(int j, int u, int chain) const { return b + j * b_row + (u * chains + chain) * K; }

  // Replaces every thread's map by the composition of all maps of its chain up to its own (Hillis and Steele 1986). Leaves
  // them in `scratch`. All threads of the block call it.
  __device__ void compose(int j, int chain, bool active, Map<T, K>& map) const {
    T* const own = scratch + (j * chains + chain) * kMapRow;
    for (int distance = 1;; distance *= 2) {
      if (active) {
        for (int e = 0; e < K * K; ++e) own[e] = map.p[e];
        for (int i = 0; i < K; ++i) own[K * K + i] = map.q[i];
      }
      __syncthreads();
      if (distance >= along) return;
      if (active && j >= distance) {
        const T* const other = own - distance * chains * kMapRow;
        Map<T, K> before;
        for (int e = 0; e < K * K; ++e) before.p[e] = other[e];
        for (int i = 0; i < K; ++i) before.q[i] = other[K * K + i];
        append<T, K>(map.p, map.q, before);
        map = before;
      }
      __syncthreads();
    }
  }
};

template <class T, int K, bool kReplay>
__global__ void tile_kernel(Call<T> call) {
  constexpr int kSteps = Tile<T, K>::kSteps;
  const Tile<T, K> tile(static_cast<int>(call.chains));
  const int chain = static_cast<int>(threadIdx.x) % tile.chains;
  const int j = static_cast<int>(threadIdx.x) / tile.chains;
  const bool active = j < tile.along;
  const std::int64_t chunks = kReplay ? call.chunks : call.chunks - 1;
  for (std::int64_t work = blockIdx.x; work < call.lead * chunks; work += gridDim.x) {
    const std::int64_t chunk = work % chunks;
    const std::int64_t r = work / chunks;
    const std::int64_t first = chunk * call.length;
    const int count = static_cast<int>(call.steps - first < call.length ? call.steps - first : call.length);
    tile.load(call, r, first, count);
    __syncthreads();
    Map<T, K> map = identity<T, K>();
    if (active)
      for (int u = 0; u < kSteps && j * kSteps + u < count; ++u) {
        T m[K * K], b[K];
        tile.matrix(call, j, u, chain, m);
        for (int i = 0; i < K; ++i) b[i] = tile.vector(j, u, chain)[i];
        append<T, K>(m, b, map);
      }
    tile.compose(j, chain, active, map);
    if constexpr (kReplay) {
      if (active) {
        T h[K];
        first_state<T, K>(call, r, chunk, chain, h);
        if (j > 0) {
          const T* const before = tile.scratch + ((j - 1) * tile.chains + chain) * Tile<T, K>::kMapRow;
          T p[K * K], q[K];
          for (int e = 0; e < K * K; ++e) p[e] = before[e];
          for (int i = 0; i < K; ++i) q[i] = before[K * K + i];
          step<T, K>(p, q, h);
        }
        for (int u = 0; u < kSteps && j * kSteps + u < count; ++u) {
          T m[K * K], b[K];
          tile.matrix(call, j, u, chain, m);
          T* const at = tile.vector(j, u, chain);
          for (int i = 0; i < K; ++i) b[i] = at[i];
          step<T, K>(m, b, h);
          for (int i = 0; i < K; ++i) at[i] = h[i];
        }
      }
      __syncthreads();
      tile.store(call, r, first, count);
    } else if (active && j == tile.along - 1) {
      store_map<T, K>(call, r, chunk, chain, map);
    }
    __syncthreads();  // the tile is loaded again
  }
}

// --- launches ---------------------------------------------------------------------------------------------------------------

template <class T, int K>
void run(Call<T> call, Device device) {
  const char* const name = "affine_scan";
  const bool plain = call.lead * call.chains >= kManyChains || call.steps <= kShortScan;
  const bool tiled = !plain && call.chains <= kTileChains;
  call.length = call.steps;
  if (tiled) {
    call.length = std::int64_t{kThreads} / call.chains * Tile<T, K>::kSteps;
  } else if (!plain) {
    const std::int64_t per_thread = (call.steps * call.chains * call.lead + kChunkThreads - 1) / kChunkThreads;
    call.length = std::clamp<std::int64_t>(per_thread, 16, call.steps);
  }
  call.chunks = (call.steps + call.length - 1) / call.length;
  if (tiled) {
    call.per_step_a = Divider(static_cast<std::uint32_t>(call.chains * K * K));
    call.per_step_b = Divider(static_cast<std::uint32_t>(call.chains * K));
  }
  Launch tiles = over_blocks(name, call.lead * call.chunks, device);
  if (tiled) tiles.shared_bytes = Tile<T, K>::bytes(call.chains);
  const auto threads = [&](std::int64_t chunks) {
    return over_elements(name, call.lead * chunks * call.chains, device);
  };
  Tensor products, offsets;
  if (call.chunks > 1) {
    products = engine::empty(Shape{call.chunks - 1, call.chains, K, K}, dtype_of<T>, device);
    offsets = engine::empty(Shape{call.lead, call.chunks - 1, call.chains, K}, dtype_of<T>, device);
    call.products = engine::mutable_ptr<T>(products);
    call.offsets = engine::mutable_ptr<T>(offsets);
    if (tiled) {
      launch(tiles, tile_kernel<T, K, false>, call);
    } else {
      launch(threads(call.chunks - 1), compose_kernel<T, K>, call);
    }
    run<T, K>(Call<T>{scan_of_chunks<T>(call), {}, {}}, device);
    call.starts = call.offsets;
  }
  if (tiled) {
    launch(tiles, tile_kernel<T, K, true>, call);
  } else {
    Launch where = threads(call.chunks);
    if (call.lead * call.chains * call.chunks < std::int64_t{132} * kThreads) {  // spread few threads over the device
      where.block = dim3(64);
      where.grid = dim3(static_cast<unsigned>((call.lead * call.chunks * call.chains + 63) / 64));
    }
    launch(where, replay_kernel<T, K>, call);
  }
}

}  // namespace

template <class T>
void small_scan(const cpu::ScanShape& shape, const T* a, const T* b, const T* h0, T* h, Device device) {
  const Call<T> call{scan_call(shape, a, b, h0, h), {}, {}};
  switch (shape.block) {
    case 1: return run<T, 1>(call, device);
    case 2: return run<T, 2>(call, device);
    case 3: return run<T, 3>(call, device);
    default: return run<T, 4>(call, device);
  }
}

template void small_scan(const cpu::ScanShape&, const float*, const float*, const float*, float*, Device);
template void small_scan(const cpu::ScanShape&, const double*, const double*, const double*, double*, Device);

}  // namespace solvent::cuda
