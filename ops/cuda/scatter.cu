// scatter_add on a GPU, without atomic operations. Two ways, chosen by sizes:
// - many lines or short ones: a thread owns a line of the result and adds in order, as on the CPU. Bound by memory; threads
//   next to each other own neighbouring lines.
// - else the indices of a line are sorted stably (radix_sort.h), so that equal ones form runs. Slots of the sorted order are
//   summed in chunks of kChunk: runs inside of a chunk are complete; what reaches over a chunk's end is finished by a warp
//   that adds the parts of the chunks it covers. A few hot entries (padding of a vocabulary) thus cost no more than others.
// Where all lines share one index list (embedding, index_select) it is sorted once, and threads run along the lines.

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "solvent/core/cuda/basic.h"
#include "solvent/core/cuda/launch.h"
#include "solvent/ops/cuda/index_kernels.h"
#include "solvent/ops/cuda/moving.h"
#include "solvent/ops/cuda/radix_sort.h"
#include "solvent/ops/widen.h"

namespace solvent::cuda {
namespace {

using Int = std::int64_t;
using Key = std::uint32_t;

constexpr std::int64_t kChunk = 64;
constexpr std::int64_t kManyLines = 1 << 14;  // enough threads without splitting lines
constexpr std::int64_t kShortLine = 32;

template <class T>
struct ScatterCall {
  const T* x;
  const Int* index;
  T* out;
  StridedIndex<3> lines;  // operands x, index, out without the indexed axis
  std::int64_t x_axis, index_axis, out_axis;
  std::int64_t total_lines, count;
};

template <class T>
__global__ void scatter_lines_kernel(ScatterCall<T> call) {
  for (std::int64_t line = global_thread(); line < call.total_lines; line += grid_threads()) {
    std::int64_t offset[3];
    call.lines.locate(line, offset);
    const T* const x = call.x + offset[0];
    const Int* const index = call.index + offset[1];
    T* const out = call.out + offset[2];
    for (std::int64_t j = 0; j < call.count; ++j) out[index[j * call.index_axis] * call.out_axis] += x[j * call.x_axis];
  }
}

template <class T>
__global__ void read_keys_kernel(ScatterCall<T> call, Key* keys, std::int64_t n, Division count) {
  for (std::int64_t i = global_thread(); i < n; i += grid_threads()) {
    std::int64_t line, j, offset[3];
    count.split(i, line, j);
    call.lines.locate(line, offset);
    keys[i] = static_cast<Key>(call.index[offset[1] + j * call.index_axis]);
  }
}

// Work items are (list, chunk, column): lists of sorted keys, and columns that share a list. One of both is 1.
template <class T, class Sum>
struct RunCall {
  ScatterCall<T> scatter;
  const Key* keys;                 // (lists, count)
  const std::uint32_t* positions;  // (lists, count)
  Sum* head;  // (lists, columns, chunks): of the run that enters a chunk, up to its end or the chunk's
  Sum* tail;  // of the run that starts in a chunk and leaves it
  std::int64_t chunks, columns, items;
  Division per_list, per_chunk;  // by chunks * columns, by columns
};

template <class T, class Sum>
__global__ void sum_chunks_kernel(RunCall<T, Sum> call) {
  const ScatterCall<T>& s = call.scatter;
  for (std::int64_t item = global_thread(); item < call.items; item += grid_threads()) {
    std::int64_t list, rest, chunk, column, offset[3];
    call.per_list.split(item, list, rest);
    call.per_chunk.split(rest, chunk, column);
    s.lines.locate(list + column, offset);
    const Key* const keys = call.keys + list * s.count;
    const std::uint32_t* const positions = call.positions + list * s.count;
    const std::int64_t begin = chunk * kChunk;
    const std::int64_t end = begin + kChunk < s.count ? begin + kChunk : s.count;
    const std::int64_t slot = (list * call.columns + column) * call.chunks + chunk;
    bool entered = begin > 0 && keys[begin - 1] == keys[begin];
    Sum total{};
    for (std::int64_t j = begin; j < end; ++j) {
      const Key key = keys[j];
      total += static_cast<Sum>(s.x[offset[0] + static_cast<std::int64_t>(positions[j]) * s.x_axis]);
      const bool leaves = j + 1 == end;
      if (j + 1 < s.count && keys[j + 1] == key && !leaves) continue;
      const bool goes_on = leaves && j + 1 < s.count && keys[j + 1] == key;
      if (entered) {
        call.head[slot] = total;
      } else if (goes_on) {
        call.tail[slot] = total;
      } else {
        s.out[offset[2] + static_cast<std::int64_t>(key) * s.out_axis] = static_cast<T>(total);
      }
      entered = false;
      total = Sum{};
    }
  }
}

// A warp for each (list, column, chunk) in which a run starts that leaves the chunk: lanes take the chunks that follow.
template <class T, class Sum>
__global__ void finish_runs_kernel(RunCall<T, Sum> call) {
  const ScatterCall<T>& s = call.scatter;
  const std::int64_t lane = threadIdx.x % 32;
  const std::int64_t warps = grid_threads() / 32;
  for (std::int64_t slot = global_thread() / 32; slot < call.items; slot += warps) {
    const std::int64_t chunk = slot % call.chunks;
    const std::int64_t line = slot / call.chunks;
    const std::int64_t list = line / call.columns;
    const Key* const keys = call.keys + list * s.count;
    const std::int64_t end = (chunk + 1) * kChunk;
    if (end >= s.count) continue;  // the same for all lanes, as are the next two
    const Key key = keys[end - 1];
    if (keys[end] != key) continue;
    const std::int64_t begin = chunk * kChunk;
    if (begin > 0 && keys[begin] == key && keys[begin - 1] == key) continue;  // it started before
    Sum total{};
    for (std::int64_t c = chunk + 1 + lane; c < call.chunks && keys[c * kChunk] == key; c += 32)
      total += call.head[slot - chunk + c];
    total = warp_fold(total, Plus{});
    if (lane == 0) {
      std::int64_t offset[3];
      s.lines.locate(line, offset);
      s.out[offset[2] + static_cast<std::int64_t>(key) * s.out_axis] = static_cast<T>(call.tail[slot] + total);
    }
  }
}

int bits_of(std::int64_t size) {
  int bits = 0;
  while (size > 1 && (size - 1) >> bits != 0) ++bits;
  return bits;
}

// True if all lines read the same indices.
bool is_shared(const Tensor& index, int axis) {
  for (int i = 0; i < index.rank(); ++i)
    if (i != axis && index.shape()[i] != 1 && index.strides()[i] != 0) return false;
  return true;
}

template <class T>
void scatter_sorted(const ScatterCall<T>& call, bool shared, std::int64_t size, Device device) {
  using Sum = std::conditional_t<std::is_integral_v<T>, T, double>;
  const std::int64_t lists = shared ? 1 : call.total_lines;
  KeyLines<Key> order(lists, call.count, device);
  const std::int64_t n = lists * call.count;
  launch(over_elements("scatter_add", n, device), read_keys_kernel<T>, call, order.keys(), n, Division(call.count, n));
  order.sort(bits_of(size));
  RunCall<T, Sum> runs{};
  runs.scatter = call;
  runs.keys = order.keys();
  runs.positions = order.positions();
  runs.chunks = (call.count + kChunk - 1) / kChunk;
  runs.columns = call.total_lines / lists;
  runs.items = lists * runs.chunks * runs.columns;
  runs.per_list = Division(runs.chunks * runs.columns, runs.items);
  runs.per_chunk = Division(runs.columns, runs.items);
  const std::int64_t sums = 2 * runs.items;
  Tensor parts = engine::empty({sums}, dtype_of<Sum>, device);
  runs.head = engine::mutable_ptr<Sum>(parts);
  runs.tail = runs.head + runs.items;
  launch(over_elements("scatter_add", runs.items, device), sum_chunks_kernel<T, Sum>, runs);
  if (runs.chunks == 1) return;
  Launch finish = over_elements("scatter_add", runs.items * 32, device);
  finish.barriers = true;
  launch(finish, finish_runs_kernel<T, Sum>, runs);
}

Dims without(Dims d, int axis) {
  d.erase(axis);
  return d;
}

template <class T>
void scatter_typed(const Tensor& x, const Tensor& index, int axis, std::int64_t size, Tensor& out) {
  const std::int64_t count = x.shape()[axis];
  const Shape lines = without(x.shape(), axis);
  const Strides x_strides = without(x.strides(), axis);
  const Strides index_strides = without(index.strides(), axis);
  const Strides out_strides = without(out.strides(), axis);
  const Strides* const strides[] = {&x_strides, &index_strides, &out_strides};
  ScatterCall<T> call{};
  call.x = engine::ptr<T>(x);
  call.index = engine::ptr<Int>(index);
  call.out = engine::mutable_ptr<T>(out);
  call.lines = StridedIndex<3>(lines, strides);
  call.x_axis = x.strides()[axis];
  call.index_axis = index.strides()[axis];
  call.out_axis = out.strides()[axis];
  call.total_lines = lines.product();
  call.count = count;
  const bool sortable = count <= INT32_MAX && size <= INT32_MAX;
  const bool enough_threads = count <= kShortLine || call.total_lines >= kManyLines;
  const bool shared = is_shared(index, axis);
  if (sortable && (shared ? count > kShortLine : !enough_threads))
    return scatter_sorted(call, shared, size, x.device());
  launch(over_elements("scatter_add", call.total_lines, x.device()), scatter_lines_kernel<T>, call);
}

}  // namespace

Tensor scatter_add(const Tensor& x, const Tensor& index, int axis, std::int64_t size) {
  if (x.dtype() == DType::bfloat16)  // sums in float32, each rounded once
    return solvent::detail::narrowed(scatter_add(solvent::detail::widened(x), index, axis, size));
  Shape shape = x.shape();
  shape[axis] = size;
  Tensor out = engine::empty(shape, x.dtype(), x.device());
  if (out.numel() == 0) return out;
  fill(out, 0.0);
  if (x.numel() == 0) return out;
  if (x.dtype() == DType::int64) {
    scatter_typed<Int>(x, index, axis, size, out);
  } else {
    dispatch_float(x.dtype(), "scatter_add",
                   [&](auto tag) { scatter_typed<typename decltype(tag)::type>(x, index, axis, size, out); });
  }
  return out;
}

}  // namespace solvent::cuda
