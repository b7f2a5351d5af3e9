// Sorting along an axis on a GPU. Values become unsigned keys (sort_key.h) as on the CPU, and the order by (key, position) is
// strict, so that every correct algorithm gives the CPU's bits. Lines of up to kTile elements: bitonic networks in shared
// memory, several short lines in one block; bound by shared memory and barriers. Longer lines: radix_sort.h, bound by memory.
// Lines along other axes than the last are transposed before and after.

#include "solvent/ops/cuda/sort.h"

#include <algorithm>
#include <cstdint>

#include "solvent/core/cuda/launch.h"
#include "solvent/core/engine/view.h"
#include "solvent/ops/cuda/moving.h"
#include "solvent/ops/cuda/radix_sort.h"
#include "solvent/ops/sort_key.h"

namespace solvent::cuda {
namespace {

using solvent::detail::sort_key;
using solvent::detail::SortKey;

constexpr int kTile = 2048;
constexpr int kSmallTile = 512;

template <class T>
struct SortCall {
  const T* x;           // (lines, n)
  T* value;             // (lines, count)
  std::int64_t* index;  // (lines, count)
  std::int64_t lines, n, count;
  SortKey<T> flip;  // all bits to descend
};

// A block sorts `tile` places: tile / width lines of `width` >= n places, both powers of 2.
template <class T>
__global__ void sort_tiles_kernel(SortCall<T> call, int tile, int width, std::int64_t tiles) {
  using Key = SortKey<T>;
  __shared__ Key keys[kTile];
  __shared__ std::uint32_t positions[kTile];
  const int per_tile = tile / width;
  const int threads = static_cast<int>(blockDim.x);
  for (std::int64_t t = blockIdx.x; t < tiles; t += gridDim.x) {
    for (int place = static_cast<int>(threadIdx.x); place < tile; place += threads) {
      const std::int64_t line = t * per_tile + place / width;
      const int i = place % width;
      const bool valid = line < call.lines && i < call.n;
      // What fills up a line is behind everything.
      keys[place] = valid ? static_cast<Key>(sort_key(call.x[line * call.n + i]) ^ call.flip) : ~Key{0};
      positions[place] = valid ? static_cast<std::uint32_t>(i) : UINT32_MAX;
    }
    __syncthreads();
    for (int size = 2; size <= width; size *= 2)
      for (int distance = size / 2; distance > 0; distance /= 2) {
        for (int pair = static_cast<int>(threadIdx.x); pair < tile / 2; pair += threads) {
          const int a = 2 * pair - (pair & (distance - 1));
          const int b = a + distance;
          const bool ascending = (a & (width - 1) & size) == 0;
          const Key u = keys[a];
          const Key v = keys[b];
          const std::uint32_t p = positions[a];
          const std::uint32_t q = positions[b];
          const bool greater = v < u || (v == u && q < p);
          if (greater == ascending) {
            keys[a] = v;
            keys[b] = u;
            positions[a] = q;
            positions[b] = p;
          }
        }
        __syncthreads();
      }
    for (int place = static_cast<int>(threadIdx.x); place < tile; place += threads) {
      const std::int64_t line = t * per_tile + place / width;
      const int i = place % width;
      if (line >= call.lines || i >= call.count) continue;
      const std::uint32_t from = positions[place];
      call.value[line * call.count + i] = call.x[line * call.n + from];
      call.index[line * call.count + i] = static_cast<std::int64_t>(from);
    }
    __syncthreads();
  }
}

template <class T>
__global__ void sort_keys_kernel(const T* x, SortKey<T> flip, SortKey<T>* keys, std::int64_t n) {
  for (std::int64_t i = global_thread(); i < n; i += grid_threads()) keys[i] = sort_key(x[i]) ^ flip;
}

template <class T>
__global__ void take_sorted_kernel(SortCall<T> call, const std::uint32_t* positions, Division count, std::int64_t n) {
  for (std::int64_t i = global_thread(); i < n; i += grid_threads()) {
    std::int64_t line, place;
    count.split(i, line, place);
    const std::uint32_t from = positions[line * call.n + place];
    call.value[i] = call.x[line * call.n + from];
    call.index[i] = static_cast<std::int64_t>(from);
  }
}

template <class T>
void sort_long(SortCall<T> call, Device device) {
  constexpr std::int64_t kBatch = std::int64_t{1} << 27;  // elements; bounds the scratch memory
  const std::int64_t batch = std::clamp<std::int64_t>(kBatch / call.n, 1, call.lines);
  const std::int64_t lines = call.lines;
  for (std::int64_t first = 0; first < lines; first += batch) {
    call.lines = std::min(batch, lines - first);
    KeyLines<SortKey<T>> order(call.lines, call.n, device);
    const std::int64_t all = call.lines * call.n;
    launch(over_elements("sort", all, device), sort_keys_kernel<T>, call.x, call.flip, order.keys(), all);
    order.sort(8 * static_cast<int>(sizeof(SortKey<T>)));
    const std::int64_t kept = call.lines * call.count;
    launch(over_elements("sort", kept, device), take_sorted_kernel<T>, call, order.positions(),
           Division(call.count, kept), kept);
    call.x += all;
    call.value += kept;
    call.index += kept;
  }
}

// Lines along the last axis of a dense x; count > 0.
template <class T>
void sort_lines(const Tensor& x, bool descending, Tensor& value, Tensor& index) {
  SortCall<T> call{};
  call.x = engine::ptr<T>(x);
  call.value = engine::mutable_ptr<T>(value);
  call.index = engine::mutable_ptr<std::int64_t>(index);
  call.n = x.size(-1);
  call.lines = x.numel() / call.n;
  call.count = value.size(-1);
  call.flip = descending ? static_cast<SortKey<T>>(~SortKey<T>{0}) : SortKey<T>{0};
  if (call.n > kTile) return sort_long(call, x.device());
  int width = 1;
  while (width < call.n) width *= 2;
  const int tile = std::max(width, kSmallTile);
  const std::int64_t per_tile = tile / width;
  const std::int64_t tiles = (call.lines + per_tile - 1) / per_tile;
  launch(over_blocks("sort", tiles, x.device()), sort_tiles_kernel<T>, call, tile, width, tiles);
}

// The same tensor with `axis` moved to the end.
Tensor moved_to_end(const Tensor& x, int axis) {
  Shape shape = x.shape();
  Strides strides = x.strides();
  shape.erase(axis);
  strides.erase(axis);
  shape.push_back(x.shape()[axis]);
  strides.push_back(x.strides()[axis]);
  return engine::view(x, shape, strides, x.impl()->offset);
}

}  // namespace

std::pair<Tensor, Tensor> sort(const Tensor& x, int axis, std::int64_t count, bool descending) {
  const bool last = axis == x.rank() - 1;
  Shape shape = x.shape();
  shape[axis] = count;
  Tensor value = engine::empty(shape, x.dtype(), x.device());
  Tensor index = engine::empty(shape, DType::int64, x.device());
  if (value.numel() == 0) return {std::move(value), std::move(index)};
  const Tensor lines = engine::contiguous(last ? x : moved_to_end(x, axis));
  Shape lines_shape = lines.shape();
  lines_shape[x.rank() - 1] = count;
  Tensor line_value = last ? value : engine::empty(lines_shape, x.dtype(), x.device());
  Tensor line_index = last ? index : engine::empty(lines_shape, DType::int64, x.device());
  const auto run = [&](auto tag) {
    sort_lines<typename decltype(tag)::type>(lines, descending, line_value, line_index);
  };
  if (x.dtype() == DType::int64) {
    run(solvent::detail::TypeTag<std::int64_t>{});
  } else {
    dispatch_float(x.dtype(), "sort", run);
  }
  if (!last) {
    Tensor value_target = moved_to_end(value, axis);
    Tensor index_target = moved_to_end(index, axis);
    engine::copy_into(line_value, value_target);
    engine::copy_into(line_index, index_target);
  }
  return {std::move(value), std::move(index)};
}

}  // namespace solvent::cuda
