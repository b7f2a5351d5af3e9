// Affine scans with matrices larger than 4 x 4: h_s = M_s h_{s-1} + b_s, A (T, B, n, n), b (lead, T, B, n). s counts in the
// direction of the scan.
//
// Up to 64 x 64 ("tiles"): M_s goes through shared memory, loaded some steps ahead into registers, four lanes per row. Bound
// by memory if there are many sequences, by the latency of a step (a barrier, n / 4 products per lane) otherwise. Therefore
// few long sequences are cut into chunks of time:
//
//      1. products of the matrices of each chunk, with the offsets as further columns:  X <- M_s X + [0 | b_s]
//         (n x (n + lead) values in shared memory, 4 x 4 of them per thread)
//      2. a scan of the chunks' maps by this same function
//      3. every chunk from its first state
//
// which costs n^3 instead of n^2 per step, but keeps all multiprocessors busy. Larger matrices: a block per sequence, a warp
// per row. Chunks and all sums depend on sizes only, so results have the same bits at every run.

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "solvent/core/cuda/launch.h"
#include "solvent/core/cuda/strided.h"
#include "solvent/core/engine/view.h"
#include "solvent/ops/cuda/scan.h"
#include "solvent/ops/cuda/scan_call.h"
#include "solvent/ops/cuda/unroll.h"

namespace solvent::cuda {
namespace {

constexpr int kLargestTile = 64;
constexpr int kLanesPerRow = 4;
constexpr std::int64_t kManySequences = 256;
constexpr std::int64_t kShortScan = 128;
constexpr std::int64_t kBlocks = 1024;  // that the chunked design aims at

template <class T>
struct Call : ScanCall<T> {  // chains: sequences; K: n
  std::int64_t n = 0;
  bool any_batch = false;  // chunks as for one sequence

  /// M_s of a sequence; null before the first step of a shifted scan, where it counts as zero.
  __device__ const T* matrix(std::int64_t s, std::int64_t sequence) const {
    if (this->shift_a && s == 0) return nullptr;
    return this->a + ((this->time(s) + (this->shift_a ? 1 : 0)) * this->chains + sequence) * n * n;
  }
  __device__ std::int64_t vector_at(std::int64_t r, std::int64_t s, std::int64_t sequence) const {
    return ((r * this->steps + this->time(s)) * this->chains + sequence) * n;
  }
  __device__ T first_state(std::int64_t r, std::int64_t chunk, std::int64_t sequence, std::int64_t i) const {
    if (chunk > 0) return this->starts[((r * (this->chunks - 1) + chunk - 1) * this->chains + sequence) * n + i];
    return this->h0 != nullptr ? this->h0[(r * this->chains + sequence) * n + i] : T(0);
  }
};

// --- states, up to 64 x 64 ------------------------------------------------------------------------------------------------

// Rows of a matrix in shared memory are 4 (mod 32) elements apart: the addresses of 8 rows x 4 lanes fall on 32 banks.
__host__ __device__ constexpr int row_stride(int n) { return (n + 27) / 32 * 32 + 4; }

template <class T>
__device__ void place_in_rows(const T* values, int per_thread, int n, bool transposed, T* tile) {
  const int stride = row_stride(n);
  int e = static_cast<int>(threadIdx.x);
  for (int k = 0; k < per_thread; ++k, e += static_cast<int>(blockDim.x)) {
    if (e >= n * n) return;
    const int row = e / n;
    const int column = e - row * n;
    tile[transposed ? column * stride + row : row * stride + column] = values[k];
  }
}

// kElements: of a matrix per thread; kDepth: steps whose matrices are under way.
template <class T, int kElements, int kDepth>
__global__ void states_kernel(Call<T> call) {
  const int n = static_cast<int>(call.n);
  const int stride = row_stride(n);
  T* const tiles = dynamic_shared<T>();      // two matrices
  T* const states = tiles + 2 * n * stride;  // two vectors
  const int row = static_cast<int>(threadIdx.x) / kLanesPerRow;
  const int lane = static_cast<int>(threadIdx.x) % kLanesPerRow;
  const bool writes = row < n && lane == 0;
  for (std::int64_t work = blockIdx.x; work < call.lead * call.chunks * call.chains; work += gridDim.x) {
    const std::int64_t sequence = work % call.chains;
    const std::int64_t chunk = work / call.chains % call.chunks;
    const std::int64_t r = work / call.chains / call.chunks;
    const std::int64_t begin = chunk * call.length;
    const std::int64_t end = begin + call.length < call.steps ? begin + call.length : call.steps;
    T ahead[kDepth][kElements];
    T b_ahead[kDepth];
    __syncthreads();  // the tiles of the last turn are no longer read
    if (writes) states[row] = call.first_state(r, chunk, sequence, row);
    SOLVENT_UNROLL
    for (int u = 0; u < kDepth; ++u) {
      b_ahead[u] = T(0);
      if (begin + u >= end) continue;
      const T* const m = call.matrix(begin + u, sequence);
      SOLVENT_UNROLL
      for (int k = 0; k < kElements; ++k) {
        const int e = static_cast<int>(threadIdx.x) + k * static_cast<int>(blockDim.x);
        ahead[u][k] = m != nullptr && e < n * n ? m[e] : T(0);
      }
      if (writes) b_ahead[u] = call.b[call.vector_at(r, begin + u, sequence) + row];
    }
    for (std::int64_t s0 = begin; s0 < end; s0 += kDepth) {
      SOLVENT_UNROLL
      for (int u = 0; u < kDepth; ++u) {
        const std::int64_t s = s0 + u;
        if (s >= end) continue;
        const int now = static_cast<int>((s - begin) % 2);
        place_in_rows(ahead[u], kElements, n, call.transposed, tiles + now * n * stride);
        const T b = b_ahead[u];
        if (s + kDepth < end) {
          const T* const m = call.matrix(s + kDepth, sequence);
          SOLVENT_UNROLL
          for (int k = 0; k < kElements; ++k) {
            const int e = static_cast<int>(threadIdx.x) + k * static_cast<int>(blockDim.x);
            if (e < n * n) ahead[u][k] = m[e];
          }
          if (writes) b_ahead[u] = call.b[call.vector_at(r, s + kDepth, sequence) + row];
        }
        __syncthreads();  // the matrix and the last state are there; the other ones may be overwritten
        T sum = T(0);
        if (row < n) {
          const T* const m = tiles + now * n * stride + row * stride;
          const T* const h = states + now * n;
          for (int k = lane; k < n; k += kLanesPerRow) sum = std::fma(m[k], h[k], sum);
        }
        sum += __shfl_xor_sync(kAllLanes, sum, 2);
        sum += __shfl_xor_sync(kAllLanes, sum, 1);
        if (writes) {
          sum += b;
          states[(1 - now) * n + row] = sum;
          call.h[call.vector_at(r, s, sequence) + row] = sum;
        }
      }
    }
  }
}

// --- maps of chunks ---------------------------------------------------------------------------------------------------------

constexpr int kSide = 4;  // a thread computes kSide x kSide values

template <class T>
__device__ void read_side(const T* from, T (&to)[kSide]) {
  using P = Pack<T, kPackSize<T>>;
  for (int p = 0; p < kSide / kPackSize<T>; ++p) {
    const P pack = reinterpret_cast<const P*>(from)[p];
    for (int j = 0; j < kPackSize<T>; ++j) to[p * kPackSize<T> + j] = pack.value[j];
  }
}

// Columns [first, first + width) of X: of the product if below n, of the right-hand side `column - n` otherwise.
template <class T, int kElements>
__global__ void maps_kernel(Call<T> call, int width, std::int64_t groups) {
  const int n = static_cast<int>(call.n);
  const int rows = (n + kSide - 1) / kSide * kSide;  // padded with zeros
  T* const tiles = dynamic_shared<T>();              // two matrices, [k][i]
  T* const columns = tiles + 2 * rows * rows;        // two X, [k][j]
  const int i0 = static_cast<int>(threadIdx.x) / (width / kSide) * kSide;
  const int j0 = static_cast<int>(threadIdx.x) % (width / kSide) * kSide;
  const bool active = i0 < rows;
  const std::int64_t maps = call.chunks - 1;
  const std::int64_t all = call.n + call.lead;
  for (std::int64_t work = blockIdx.x; work < maps * call.chains * groups; work += gridDim.x) {
    const std::int64_t first = work % groups * width;
    const std::int64_t sequence = work / groups % call.chains;
    const std::int64_t chunk = work / groups / call.chains;
    const std::int64_t begin = chunk * call.length;
    const std::int64_t end = begin + call.length;  // only the last chunk, which has no map, may be shorter
    T ahead[kElements];
    __syncthreads();  // what the last turn left is no longer read
    for (int e = static_cast<int>(threadIdx.x); e < 2 * rows * rows; e += static_cast<int>(blockDim.x)) tiles[e] = T(0);
    for (int e = static_cast<int>(threadIdx.x); e < rows * width; e += static_cast<int>(blockDim.x))
      columns[e] = e / width == first + e % width ? T(1) : T(0);
    const T* m = call.matrix(begin, sequence);
    for (int k = 0; k < kElements; ++k) {
      const int e = static_cast<int>(threadIdx.x) + k * static_cast<int>(blockDim.x);
      ahead[k] = m != nullptr && e < n * n ? m[e] : T(0);
    }
    __syncthreads();
    for (std::int64_t s = begin; s < end; ++s) {
      const int now = static_cast<int>((s - begin) % 2);
      T* const tile = tiles + now * rows * rows;
      SOLVENT_UNROLL
      for (int k = 0; k < kElements; ++k) {
        const int e = static_cast<int>(threadIdx.x) + k * static_cast<int>(blockDim.x);
        if (e < n * n) tile[call.transposed ? e / n * rows + e % n : e % n * rows + e / n] = ahead[k];
      }
      T sum[kSide][kSide];  // starts with [0 | b_s]
      for (int i = 0; i < kSide; ++i)
        for (int j = 0; j < kSide; ++j) {
          const std::int64_t r = first + j0 + j - call.n;
          sum[i][j] =
              active && r >= 0 && r < call.lead && i0 + i < n ? call.b[call.vector_at(r, s, sequence) + i0 + i] : T(0);
        }
      if (s + 1 < end) {
        m = call.matrix(s + 1, sequence);
        SOLVENT_UNROLL
        for (int k = 0; k < kElements; ++k) {
          const int e = static_cast<int>(threadIdx.x) + k * static_cast<int>(blockDim.x);
          if (e < n * n) ahead[k] = m[e];
        }
      }
      __syncthreads();  // M_s and X are there; the other ones may be overwritten
      const T* const x = columns + now * rows * width;
      if (active) {
        for (int k = 0; k < n; ++k) {
          T left[kSide], right[kSide];
          read_side(tile + k * rows + i0, left);
          read_side(x + k * width + j0, right);
          for (int i = 0; i < kSide; ++i)
            for (int j = 0; j < kSide; ++j) sum[i][j] = std::fma(left[i], right[j], sum[i][j]);
        }
        T* const next = columns + (1 - now) * rows * width;
        for (int i = 0; i < kSide; ++i)
          for (int j = 0; j < kSide; ++j) next[(i0 + i) * width + j0 + j] = sum[i][j];
      }
    }
    __syncthreads();
    const T* const x = columns + (end - begin) % 2 * rows * width;
    for (int e = static_cast<int>(threadIdx.x); e < n * width; e += static_cast<int>(blockDim.x)) {
      const int i = e / width;
      const std::int64_t column = first + e % width;
      if (column < call.n) {
        call.products[((chunk * call.chains + sequence) * call.n + i) * call.n + column] = x[e];
      } else if (column < all) {
        call.offsets[(((column - call.n) * maps + chunk) * call.chains + sequence) * call.n + i] = x[e];
      }
    }
  }
}

// --- states, larger matrices ----------------------------------------------------------------------------------------------

// A warp per row; rows lie one after the other in memory (`transposed` was resolved by the caller).
template <class T>
__global__ void rows_kernel(Call<T> call) {
  T* const states = dynamic_shared<T>();  // two vectors
  const std::int64_t n = call.n;
  const std::int64_t lane = threadIdx.x % 32;
  const std::int64_t warp = threadIdx.x / 32;
  const std::int64_t warps = blockDim.x / 32;
  for (std::int64_t work = blockIdx.x; work < call.lead * call.chains; work += gridDim.x) {
    const std::int64_t sequence = work % call.chains;
    const std::int64_t r = work / call.chains;
    __syncthreads();
    for (std::int64_t i = threadIdx.x; i < n; i += blockDim.x) states[i] = call.first_state(r, 0, sequence, i);
    for (std::int64_t s = 0; s < call.steps; ++s) {
      __syncthreads();
      const T* const m = call.matrix(s, sequence);
      const T* const h = states + s % 2 * n;
      T* const next = states + (s + 1) % 2 * n;
      const std::int64_t at = call.vector_at(r, s, sequence);
      for (std::int64_t i = warp; i < n; i += warps) {
        T sum = T(0);
        if (m != nullptr)
          for (std::int64_t k = lane; k < n; k += 32) sum = std::fma(m[i * n + k], h[k], sum);
        sum = warp_fold(sum, Plus{});
        if (lane == 0) {
          sum += call.b[at + i];
          next[i] = sum;
          call.h[at + i] = sum;
        }
      }
    }
  }
}

// --- launches ---------------------------------------------------------------------------------------------------------------

const char* const kName = "affine_scan";

unsigned round_to_warps(std::int64_t threads) { return static_cast<unsigned>((threads + 31) / 32 * 32); }

template <class T>
void launch_states(const Call<T>& call, Device device) {
  const int n = static_cast<int>(call.n);
  Launch where =
      over_blocks(kName, call.lead * call.chunks * call.chains, device, round_to_warps(call.n * kLanesPerRow));
  where.shared_bytes = sizeof(T) * static_cast<std::size_t>(2 * n * row_stride(n) + 2 * n);
  if (n <= 16) return launch(where, states_kernel<T, 4, 4>, call);
  if (n <= 32) return launch(where, states_kernel<T, 8, 4>, call);
  launch(where, states_kernel < T, 16, sizeof(T) == 4 ? 4 : 2 >, call);
}

template <class T>
void launch_maps(const Call<T>& call, Device device) {
  const std::int64_t rows = (call.n + kSide - 1) / kSide * kSide;
  const std::int64_t all = call.n + call.lead;
  const std::int64_t groups = (all + 79) / 80;
  const std::int64_t width = ((all + groups - 1) / groups + kSide - 1) / kSide * kSide;
  const std::int64_t computing = rows / kSide * (width / kSide);
  const std::int64_t loading = (call.n * call.n + 15) / 16;  // at most 16 elements per thread
  Launch where = over_blocks(kName, (call.chunks - 1) * call.chains * groups, device,
                             round_to_warps(std::max(computing, loading)));
  where.shared_bytes = sizeof(T) * static_cast<std::size_t>(2 * rows * rows + 2 * rows * width);
  launch(where, maps_kernel<T, 16>, call, static_cast<int>(width), groups);
}

template <class T>
void run(Call<T> call, Device device) {
  if (call.n > kLargestTile) {
    call.chunks = 1;
    Launch where = over_blocks(kName, call.lead * call.chains, device, 512);
    where.shared_bytes = 2 * sizeof(T) * static_cast<std::size_t>(call.n);
    return launch(where, rows_kernel<T>, call);
  }
  const std::int64_t sequences = call.any_batch ? 1 : call.chains;
  const bool chunked = call.steps >= kShortScan && (call.any_batch || call.lead * sequences < kManySequences);
  call.length = chunked ? std::max<std::int64_t>((call.steps * sequences + kBlocks - 1) / kBlocks, 16) : call.steps;
  call.chunks = (call.steps + call.length - 1) / call.length;
  Tensor products, offsets;
  if (call.chunks > 1) {
    products = engine::empty(Shape{call.chunks - 1, call.chains, call.n, call.n}, dtype_of<T>, device);
    offsets = engine::empty(Shape{call.lead, call.chunks - 1, call.chains, call.n}, dtype_of<T>, device);
    call.products = engine::mutable_ptr<T>(products);
    call.offsets = engine::mutable_ptr<T>(offsets);
    launch_maps(call, device);
    run(Call<T>{scan_of_chunks<T>(call), call.n, call.any_batch}, device);
    call.starts = call.offsets;
  }
  launch_states(call, device);
}

}  // namespace

template <class T>
void dense_scan(const cpu::ScanShape& shape, const T* a, const T* b, const T* h0, T* h, Device device, bool any_batch) {
  run(Call<T>{scan_call(shape, a, b, h0, h), shape.n, any_batch}, device);
}

template SOLVENT_API void dense_scan(const cpu::ScanShape&, const float*, const float*, const float*, float*, Device,
                                     bool);
template SOLVENT_API void dense_scan(const cpu::ScanShape&, const double*, const double*, const double*, double*,
                                     Device, bool);

}  // namespace solvent::cuda
