// Least significant digit radix sort of many lines, 8 bits per pass, stable. Bound by memory: a pass reads keys twice and
// positions once and writes both once. Three launches per pass: digits are counted in every tile; counts are summed along the
// tiles of each digit; tiles sort themselves in shared memory and write their runs of equal digits. Places follow from counts
// alone, so the result does not depend on the order in which blocks run.

#include "solvent/ops/cuda/radix_sort.h"

#include <algorithm>

#include "solvent/core/cuda/launch.h"
#include "solvent/core/engine/view.h"
#include "solvent/ops/cuda/block_scan.h"

namespace solvent::cuda {
namespace {

constexpr int kDigits = 256;
constexpr int kWarps = static_cast<int>(kThreads) / 32;
constexpr int kItems = 8;  // per thread
constexpr int kTile = static_cast<int>(kThreads) * kItems;
static_assert(kThreads == kDigits, "thread d looks after digit d");

template <class K>
__device__ int digit_of(K key, int shift) {
  return static_cast<int>((key >> shift) & K{kDigits - 1});
}

// counts[line, digit, tile]
template <class K>
__global__ void count_kernel(const K* keys, std::int64_t n, std::int64_t tiles, std::int64_t all_tiles, int shift,
                             std::uint32_t* counts) {
  __shared__ std::uint32_t count[kDigits];
  for (std::int64_t t = blockIdx.x; t < all_tiles; t += gridDim.x) {
    const std::int64_t line = t / tiles;
    const std::int64_t tile = t % tiles;
    count[threadIdx.x] = 0;
    __syncthreads();
    const std::int64_t end = tile * kTile + kTile < n ? tile * kTile + kTile : n;
    for (std::int64_t i = tile * kTile + threadIdx.x; i < end; i += kThreads)
      atomicAdd(&count[digit_of(keys[line * n + i], shift)], 1u);
    __syncthreads();
    counts[(line * kDigits + threadIdx.x) * tiles + tile] = count[threadIdx.x];
    __syncthreads();
  }
}

// Each row of counts becomes the sums of what stands left, totals[row] the sum of all.
__global__ void sum_counts_kernel(std::uint32_t* counts, std::int64_t tiles, std::int64_t rows, std::uint32_t* totals) {
  for (std::int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    if (tiles == 1) {
      if (threadIdx.x == 0) {
        totals[row] = counts[row];
        counts[row] = 0;
      }
      continue;
    }
    std::uint32_t carry = 0;
    for (std::int64_t first = 0; first < tiles; first += blockDim.x) {
      const std::int64_t tile = first + threadIdx.x;
      const std::uint32_t count = tile < tiles ? counts[row * tiles + tile] : 0;
      std::uint32_t before, total;
      block_scan(count, std::uint32_t{0}, Plus{}, before, total);
      if (tile < tiles) counts[row * tiles + tile] = carry + before;
      carry += total;
    }
    if (threadIdx.x == 0) totals[row] = carry;
  }
}

template <class K>
struct MoveCall {
  const K* keys;
  const std::uint32_t* positions;  // null: the places themselves
  K* sorted_keys;
  std::uint32_t* sorted_positions;
  const std::uint32_t* counts;
  const std::uint32_t* totals;
  std::int64_t n, tiles, all_tiles;
  int shift;
};

// Lanes of this warp whose item has the same digit; only for lanes with an item.
__device__ inline unsigned lanes_like(int digit, bool valid) {
  unsigned lanes = __ballot_sync(kAllLanes, valid);
  for (int bit = 0; bit < 8; ++bit) {
    const unsigned set = __ballot_sync(kAllLanes, digit >> bit & 1);
    lanes &= digit >> bit & 1 ? set : ~set;
  }
  return lanes;
}

template <class K>
__global__ void move_kernel(MoveCall<K> call) {
  __shared__ K keys[kTile];
  __shared__ std::uint32_t positions[kTile];
  __shared__ std::uint32_t rank_of_warp[kWarps][kDigits];  // counts, later places within the digit's run
  __shared__ std::uint32_t run_start[kDigits];             // within the tile
  __shared__ std::int64_t target[kDigits];                 // of the tile's place 0, were it in the digit's run
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int warp = static_cast<int>(threadIdx.x / 32);
  for (std::int64_t t = blockIdx.x; t < call.all_tiles; t += gridDim.x) {
    const std::int64_t line = t / call.tiles;
    const std::int64_t tile = t % call.tiles;
    for (int w = 0; w < kWarps; ++w) rank_of_warp[w][threadIdx.x] = 0;
    __syncthreads();
    // A warp owns 32 * kItems neighbouring items and takes 32 of them at a time, so ranks are in order of position.
    K key[kItems];
    std::uint32_t position[kItems];
    std::uint32_t rank[kItems];
    const std::int64_t first = tile * kTile + warp * (32 * kItems) + lane;
    for (int j = 0; j < kItems; ++j) {
      const std::int64_t i = first + j * 32;
      if (i - lane >= call.n) break;  // nothing is left for the whole warp
      const bool valid = i < call.n;
      key[j] = valid ? call.keys[line * call.n + i] : K{0};
      position[j] = static_cast<std::uint32_t>(i);
      if (valid && call.positions != nullptr) position[j] = call.positions[line * call.n + i];
      const int digit = digit_of(key[j], call.shift);
      const unsigned lanes = lanes_like(digit, valid);
      rank[j] = rank_of_warp[warp][digit] + static_cast<std::uint32_t>(__popc(lanes & ((1u << lane) - 1u)));
      __syncwarp();
      if (valid && __ffs(static_cast<int>(lanes)) - 1 == lane)
        rank_of_warp[warp][digit] += static_cast<std::uint32_t>(__popc(lanes));
      __syncwarp();
    }
    __syncthreads();
    const unsigned d = threadIdx.x;
    std::uint32_t count = 0;
    for (int w = 0; w < kWarps; ++w) {
      const std::uint32_t of_warp = rank_of_warp[w][d];
      rank_of_warp[w][d] = count;
      count += of_warp;
    }
    std::uint32_t before, total, smaller;
    block_scan(count, std::uint32_t{0}, Plus{}, before, total);
    const std::uint32_t tile_size = total;
    block_scan(call.totals[line * kDigits + d], std::uint32_t{0}, Plus{}, smaller, total);
    run_start[d] = before;
    target[d] = line * call.n + smaller + call.counts[(line * kDigits + d) * call.tiles + tile] - before;
    __syncthreads();
    for (int j = 0; j < kItems; ++j) {
      if (first + j * 32 >= call.n) continue;
      const int digit = digit_of(key[j], call.shift);
      const std::uint32_t place = run_start[digit] + rank_of_warp[warp][digit] + rank[j];
      keys[place] = key[j];
      positions[place] = position[j];
    }
    __syncthreads();
    for (std::uint32_t place = threadIdx.x; place < tile_size; place += kThreads) {
      const K moved = keys[place];
      const std::int64_t to = target[digit_of(moved, call.shift)] + place;
      call.sorted_keys[to] = moved;
      call.sorted_positions[to] = positions[place];
    }
    __syncthreads();
  }
}

}  // namespace

template <class K>
KeyLines<K>::KeyLines(std::int64_t lines, std::int64_t n, Device device) : lines_(lines), n_(n) {
  const std::int64_t tiles = (n + kTile - 1) / kTile;
  const std::int64_t totals = lines * kDigits;
  const std::int64_t words = 2 * lines * n + totals * tiles + totals;  // of 4 bytes, behind the keys
  const auto key_bytes = 2 * lines * n * static_cast<std::int64_t>(sizeof(K));
  memory_ = engine::empty({key_bytes / 8 + words / 2 + 2}, DType::int64, device);
  auto* const start = reinterpret_cast<std::byte*>(engine::mutable_ptr<std::int64_t>(memory_));
  keys_[0] = reinterpret_cast<K*>(start);
  keys_[1] = keys_[0] + lines * n;
  positions_[0] = reinterpret_cast<std::uint32_t*>(start + key_bytes);
  positions_[1] = positions_[0] + lines * n;
  counts_ = positions_[1] + lines * n;
  totals_ = counts_ + totals * tiles;
}

template <class K>
void KeyLines<K>::sort(int bits) {
  const Device device = memory_.device();
  const std::int64_t tiles = (n_ + kTile - 1) / kTile;
  const std::int64_t all_tiles = lines_ * tiles;
  const std::int64_t rows = lines_ * kDigits;
  // At least one pass: it also makes the positions.
  for (int shift = 0; shift < std::max(bits, 1); shift += 8) {
    const int next = 1 - current_;
    launch(over_blocks("sort", all_tiles, device), count_kernel<K>, keys_[current_], n_, tiles, all_tiles, shift,
           counts_);
    launch(over_blocks("sort", rows, device, tiles <= 32 ? 32 : kThreads), sum_counts_kernel, counts_, tiles, rows,
           totals_);
    MoveCall<K> call{};
    call.keys = keys_[current_];
    call.positions = shift == 0 ? nullptr : positions_[current_];
    call.sorted_keys = keys_[next];
    call.sorted_positions = positions_[next];
    call.counts = counts_;
    call.totals = totals_;
    call.n = n_;
    call.tiles = tiles;
    call.all_tiles = all_tiles;
    call.shift = shift;
    launch(over_blocks("sort", all_tiles, device), move_kernel<K>, call);
    current_ = next;
  }
}

template class KeyLines<std::uint32_t>;
template class KeyLines<std::uint64_t>;

}  // namespace solvent::cuda
