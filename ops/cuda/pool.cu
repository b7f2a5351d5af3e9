// Pooling and resampling on a GPU. Bound by memory: one thread per result, neighbouring threads on neighbouring columns, so
// that the rows of overlapping windows are read from the cache. Windows are visited, compared and added in the CPU's order:
// max_pool2d, avg_pool2d and its gradient, pool_take and max_unpool2d have the CPU's bits. Nothing is added by atomics on
// floats: gradients gather.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "solvent/core/cuda/launch.h"
#include "solvent/core/engine/view.h"
#include "solvent/ops/cpu/repeats.h"
#include "solvent/ops/cuda/planes.h"
#include "solvent/ops/cuda/pool.h"

namespace solvent::cuda {
namespace {

using cpu::PoolGeometry;

const PoolGeometry& geometry_of(const Attrs* attrs) { return static_cast<const PoolAttrs*>(attrs)->geometry; }

// `shape` with other extents of the last two axes.
Shape with_map(Shape shape, std::int64_t height, std::int64_t width) {
  shape[shape.rank() - 2] = height;
  shape[shape.rank() - 1] = width;
  return shape;
}

std::int64_t map_size(const Shape& shape) { return shape[shape.rank() - 2] * shape[shape.rank() - 1]; }

// launch(dense x, fresh y) on tensors of x's type; not called if y is empty.
template <class F>
Tensor map_planes(const char* op, const Tensor& x, const Shape& result, F run) {
  return dispatch_float(x.dtype(), op, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Tensor dense = engine::contiguous(x);
    Tensor y = engine::empty(result, dtype_of<T>, x.device());
    if (y.numel() > 0) run(engine::ptr<T>(dense), engine::mutable_ptr<T>(y));
    return y;
  });
}

// --- windows ----------------------------------------------------------------------------------------------------------------

// Positions [begin, end) of the map in window number o of an axis.
struct Span {
  std::int64_t begin, end;
  __device__ Span(std::int64_t o, std::int64_t stride, std::int64_t pad, std::int64_t window, std::int64_t extent) {
    const std::int64_t start = o * stride - pad;
    begin = start > 0 ? start : 0;
    end = start + window < extent ? start + window : extent;
  }
};

__device__ inline Span window_rows(const PoolGeometry& g, std::int64_t oh) {
  return Span(oh, g.stride_h, g.pad_h, g.window_h, g.height);
}
__device__ inline Span window_columns(const PoolGeometry& g, std::int64_t ow) {
  return Span(ow, g.stride_w, g.pad_w, g.window_w, g.width);
}

// Number of elements by which the sum of a window is divided.
template <class T>
__device__ T divisor(const PoolGeometry& g, const Span& rows, const Span& columns) {
  return static_cast<T>(g.count_include_pad ? g.window_h * g.window_w
                                            : (rows.end - rows.begin) * (columns.end - columns.begin));
}

// The first largest element in row-major order; NaN is above all.
template <class T>
__global__ void max_pool_kernel(PoolGeometry g, PlaneIndex index, const T* x, T* y, std::int64_t* at, std::int64_t n) {
  for (std::int64_t i = global_thread(); i < n; i += grid_threads()) {
    std::int64_t plane = 0;
    std::int64_t oh = 0;
    std::int64_t ow = 0;
    index.locate(i, plane, oh, ow);
    const Span rows = window_rows(g, oh);
    const Span columns = window_columns(g, ow);
    const T* const map = x + plane * g.height * g.width;
    std::int64_t best_at = rows.begin * g.width + columns.begin;
    T best = map[best_at];
    for (std::int64_t h = rows.begin; h < rows.end; ++h)
      for (std::int64_t w = columns.begin; w < columns.end; ++w) {
        const T v = map[h * g.width + w];
        if (!(v <= best) && !std::isnan(best)) {
          best = v;
          best_at = h * g.width + w;
        }
      }
    y[i] = best;
    at[i] = best_at;
  }
}

template <class T>
__global__ void avg_pool_kernel(PoolGeometry g, PlaneIndex index, const T* x, T* y, std::int64_t n) {
  for (std::int64_t i = global_thread(); i < n; i += grid_threads()) {
    std::int64_t plane = 0;
    std::int64_t oh = 0;
    std::int64_t ow = 0;
    index.locate(i, plane, oh, ow);
    const Span rows = window_rows(g, oh);
    const Span columns = window_columns(g, ow);
    const T* const map = x + plane * g.height * g.width;
    T sum{0};
    for (std::int64_t h = rows.begin; h < rows.end; ++h)
      for (std::int64_t w = columns.begin; w < columns.end; ++w) sum += map[h * g.width + w];
    y[i] = sum / divisor<T>(g, rows, columns);
  }
}

// The windows [begin, end) of one axis that hold position p.
struct Windows {
  std::int64_t begin, end;
  __device__ Windows(std::int64_t p, std::int64_t stride, std::int64_t pad, std::int64_t window, std::int64_t windows) {
    const std::int64_t past = p + pad - window + 1;  // window o begins at o stride - pad
    begin = past > 0 ? (past + stride - 1) / stride : 0;
    end = (p + pad) / stride + 1;
    if (end > windows) end = windows;
  }
};

template <class T>
__global__ void avg_pool_grad_kernel(PoolGeometry g, PlaneIndex index, const T* gy, T* gx, std::int64_t n) {
  for (std::int64_t i = global_thread(); i < n; i += grid_threads()) {
    std::int64_t plane = 0;
    std::int64_t h = 0;
    std::int64_t w = 0;
    index.locate(i, plane, h, w);
    const Windows rows(h, g.stride_h, g.pad_h, g.window_h, g.out_height);
    const Windows columns(w, g.stride_w, g.pad_w, g.window_w, g.out_width);
    const T* const map = gy + plane * g.out_height * g.out_width;
    T sum{0};
    for (std::int64_t oh = rows.begin; oh < rows.end; ++oh)
      for (std::int64_t ow = columns.begin; ow < columns.end; ++ow)
        sum += map[oh * g.out_width + ow] / divisor<T>(g, window_rows(g, oh), window_columns(g, ow));
    gx[i] = sum;
  }
}

// --- positions that max_pool2d found ----------------------------------------------------------------------------------------

// y[p, i] = x[p, index[p % index_planes, i]]; y has one row of `count` per plane.
template <class T>
__global__ void pool_take_kernel(PlaneIndex shape, const T* x, const std::int64_t* index, std::int64_t index_planes,
                                 std::int64_t size, T* y, std::int64_t n) {
  const std::int64_t count = shape.width;
  for (std::int64_t i = global_thread(); i < n; i += grid_threads()) {
    std::int64_t batch = 0;  // of planes that share the index
    std::int64_t plane = 0;
    std::int64_t at = 0;
    shape.locate(i, batch, plane, at);
    y[i] = x[(batch * index_planes + plane) * size + index[plane * count + at]];
  }
}

// The adjoint: a block owns kPutWindow or fewer consecutive elements of y, whole planes of them or a piece of one. In each
// round every element takes the first contribution that it has not had; the number of rounds is that of the windows that
// chose the same element. So sums run in the order of contributions, as on the CPU.
constexpr std::int64_t kPutWindow = 4096;
constexpr std::int64_t kPutRound = std::int64_t{1} << 30;  // contributions that are looked at together, at most

template <class T>
struct PutCall {
  const T* x;
  const std::int64_t* index;
  T* y;
  std::int64_t index_planes, planes;
  std::int64_t size, count;         // elements of y and of x per plane
  Divider by_count;                 // where items have several planes
  std::int64_t planes_per_item;     // 1 if planes are cut into pieces
  std::int64_t pieces, piece_size;  // of a plane
  std::int64_t items;
};

template <class T>
struct PutItem {
  const PutCall<T>& call;
  std::int64_t plane, planes;  // first one and number
  std::int64_t begin, length;  // of the elements, from the first one of `plane`

  // Element of the item that contribution i (from the first one of `plane`) goes to; -1 if it belongs to another item.
  __device__ int target(std::int64_t i) const {
    const std::int64_t p = planes == 1 ? 0 : call.by_count.divide(static_cast<std::uint32_t>(i));
    const std::int64_t at = call.index[(plane + p) % call.index_planes * call.count + i - p * call.count];
    const std::int64_t element = p * call.size + at - begin;
    return element >= 0 && element < length ? static_cast<int>(element) : -1;
  }
};

// Contributions [first, last) of an item, in rounds. Returns with the block at a barrier.
template <class T>
__device__ void put_range(const PutItem<T>& item, std::int64_t first, std::int64_t last, int* had, int* next) {
  const PutCall<T>& call = item.call;
  const auto length = static_cast<int>(item.length);
  const auto thread = static_cast<int>(threadIdx.x);
  const auto threads = static_cast<int>(blockDim.x);
  const T* const x = call.x + item.plane * call.count + first;
  T* const y = call.y + item.plane * call.size + item.begin;
  const auto count = static_cast<int>(last - first);
  for (int e = thread; e < length; e += threads) {
    had[e] = -1;
    next[e] = count;
  }
  __syncthreads();
  int left = 0;  // contributions that this thread saw, minus those that its elements took
  for (bool is_first = true, more = true; more; is_first = false) {
    for (int i = thread; i < count; i += threads) {
      const int e = item.target(first + i);
      if (e < 0 || i <= had[e]) continue;
      atomicMin(&next[e], i);
      if (is_first) ++left;
    }
    __syncthreads();
    for (int e = thread; e < length; e += threads) {
      const int i = next[e];
      if (i == count) continue;
      y[e] += x[i];
      had[e] = i;
      next[e] = count;
      --left;
    }
    more = block_fold(left, 0, Plus{}) > 0;
  }
}

template <class T>
__global__ void pool_put_kernel(PutCall<T> call) {
  __shared__ int had[kPutWindow];   // last contribution that an element had
  __shared__ int next[kPutWindow];  // first one that it has not had
  for (std::int64_t number = blockIdx.x; number < call.items; number += gridDim.x) {
    const std::int64_t plane = number / call.pieces * call.planes_per_item;
    const std::int64_t begin = number % call.pieces * call.piece_size;
    const std::int64_t left = call.planes - plane;
    const std::int64_t planes = left < call.planes_per_item ? left : call.planes_per_item;
    const std::int64_t end = planes * call.size;
    const std::int64_t length = end - begin < call.piece_size ? end - begin : call.piece_size;
    const PutItem<T> item{call, plane, planes, begin, length};
    T* const y = call.y + plane * call.size + begin;
    for (std::int64_t e = threadIdx.x; e < length; e += blockDim.x) y[e] = T{0};
    const std::int64_t contributions = planes * call.count;
    for (std::int64_t first = 0; first < contributions; first += kPutRound) {
      const std::int64_t last = contributions - first < kPutRound ? contributions : first + kPutRound;
      put_range(item, first, last, had, next);
    }
  }
}

// --- resampling ---------------------------------------------------------------------------------------------------------------

// The rows of a sparse matrix (cpu::SparseRows).
template <class T>
struct Rows {
  const std::int64_t* begin;
  const std::int64_t* column;
  const T* weight;
};

// y (outer, rows, inner) = matrix times x (outer, n, inner) along the middle axis.
template <class T>
__global__ void resample_kernel(Rows<T> m, PlaneIndex shape, const T* x, std::int64_t n, T* y, std::int64_t count) {
  for (std::int64_t i = global_thread(); i < count; i += grid_threads()) {
    std::int64_t outer = 0;
    std::int64_t row = 0;
    std::int64_t inner = 0;
    shape.locate(i, outer, row, inner);
    const T* const from = x + outer * n * shape.width + inner;
    T sum{0};
    for (std::int64_t k = m.begin[row]; k < m.begin[row + 1]; ++k) sum += m.weight[k] * from[m.column[k] * shape.width];
    y[i] = sum;
  }
}

// Of tables that depend on attributes only.
template <class T>
Tensor upload(const std::vector<T>& values, Device device) {
  Tensor t = engine::empty(Shape{static_cast<std::int64_t>(values.size())}, dtype_of<T>, device);
  copy_constant_to_device(engine::mutable_ptr<T>(t), values.data(), values.size() * sizeof(T), device);
  return t;
}

}  // namespace

TensorVec max_pool_maps(std::span<Tensor> inputs, const Attrs* attrs) {
  const PoolGeometry& g = geometry_of(attrs);
  const Device device = inputs[0].device();
  const Shape shape = with_map(inputs[0].shape(), g.out_height, g.out_width);
  const std::int64_t n = shape.product();
  Tensor index = engine::empty(shape, DType::int64, device);
  Tensor value = map_planes("max_pool2d", inputs[0], shape, [&]<class T>(const T* x, T* y) {
    launch(over_elements("max_pool2d", n, device), max_pool_kernel<T>, g, PlaneIndex(n, g.out_height, g.out_width), x,
           y, engine::mutable_ptr<std::int64_t>(index), n);
  });
  return {std::move(value), std::move(index)};
}

TensorVec avg_pool_maps(std::span<Tensor> inputs, const Attrs* attrs) {
  const PoolGeometry& g = geometry_of(attrs);
  const Device device = inputs[0].device();
  const Shape shape = with_map(inputs[0].shape(), g.out_height, g.out_width);
  const std::int64_t n = shape.product();
  return map_planes("avg_pool2d", inputs[0], shape, [&]<class T>(const T* x, T* y) {
    launch(over_elements("avg_pool2d", n, device), avg_pool_kernel<T>, g, PlaneIndex(n, g.out_height, g.out_width), x,
           y, n);
  });
}

TensorVec avg_pool_maps_grad(std::span<Tensor> inputs, const Attrs* attrs) {
  const PoolGeometry& g = geometry_of(attrs);
  const Device device = inputs[0].device();
  const Shape shape = with_map(inputs[0].shape(), g.height, g.width);
  const std::int64_t n = shape.product();
  return map_planes("avg_pool2d_grad", inputs[0], shape, [&]<class T>(const T* gy, T* gx) {
    launch(over_elements("avg_pool2d_grad", n, device), avg_pool_grad_kernel<T>, g, PlaneIndex(n, g.height, g.width),
           gy, gx, n);
  });
}

TensorVec pool_take_maps(std::span<Tensor> inputs, const Attrs*) {
  const Device device = inputs[0].device();
  const Shape shape = inputs[1].shape();
  const cpu::Repeated index = cpu::distinct_part(inputs[1], 2);
  const std::int64_t n = shape.product();
  return map_planes("pool_take", inputs[0], shape, [&]<class T>(const T* x, T* y) {
    const std::int64_t count = map_size(shape);
    const std::int64_t index_planes = index.count / count;
    launch(over_elements("pool_take", n, device), pool_take_kernel<T>, PlaneIndex(n, index_planes, count), x,
           engine::ptr<std::int64_t>(index.part), index_planes, map_size(inputs[0].shape()), y, n);
  });
}

TensorVec max_unpool_maps(std::span<Tensor> inputs, const Attrs* attrs) {
  const auto& a = *static_cast<const MapAttrs*>(attrs);
  const Device device = inputs[0].device();
  const Shape shape = with_map(inputs[0].shape(), a.height, a.width);
  const cpu::Repeated index = cpu::distinct_part(inputs[1], 2);
  return map_planes("max_unpool2d", inputs[0], shape, [&]<class T>(const T* x, T* y) {
    PutCall<T> call{};
    call.x = x;
    call.index = engine::ptr<std::int64_t>(index.part);
    call.y = y;
    call.size = map_size(shape);
    call.count = map_size(inputs[0].shape());
    call.planes = shape.product() / call.size;
    call.index_planes = call.count == 0 ? 1 : index.count / call.count;
    const std::int64_t few = call.count == 0 ? kPutWindow : kPutRound / call.count;
    call.planes_per_item = std::clamp<std::int64_t>(std::min(kPutWindow / call.size, few), 1, call.planes);
    if (call.planes_per_item > 1 && call.count > 0) call.by_count = Divider(static_cast<std::uint32_t>(call.count));
    call.piece_size = std::min<std::int64_t>(call.size * call.planes_per_item, kPutWindow);
    call.pieces = (call.size + call.piece_size - 1) / call.piece_size;
    call.items = (call.planes + call.planes_per_item - 1) / call.planes_per_item * call.pieces;
    launch(over_blocks("max_unpool2d", call.items, device), pool_put_kernel<T>, call);
  });
}

TensorVec resample_axis(std::span<Tensor> inputs, const Attrs* attrs) {
  const auto& a = *static_cast<const ResampleAttrs*>(attrs);
  const Device device = inputs[0].device();
  const cpu::SparseRows matrix = cpu::resample_matrix(a);
  Shape shape = inputs[0].shape();
  const int axis = shape.rank() + a.axis;
  const std::int64_t n = shape[axis];
  shape[axis] = a.transposed ? a.in : a.out;
  const std::int64_t inner = axis + 1 < shape.rank() ? shape.back() : 1;
  const std::int64_t count = shape.product();
  return map_planes("resample", inputs[0], shape, [&]<class T>(const T* x, T* y) {
    const Tensor begin = upload(matrix.begin, device);
    const Tensor column = upload(matrix.column, device);
    const Tensor weight = upload(std::vector<T>(matrix.weight.begin(), matrix.weight.end()), device);  // rounded once
    const Rows<T> rows{engine::ptr<std::int64_t>(begin), engine::ptr<std::int64_t>(column), engine::ptr<T>(weight)};
    launch(over_elements("resample", count, device), resample_kernel<T>, rows, PlaneIndex(count, shape[axis], inner), x,
           n, y, count);
  });
}

}  // namespace solvent::cuda
