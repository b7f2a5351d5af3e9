// Kernels behind basic.h, all bound by memory. Sums over axes: reduce.h, in double (integers wrap around), in an order that
// depends on shapes and strides only.

#include "solvent/core/cuda/basic.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "solvent/core/cuda/elementwise.h"
#include "solvent/core/cuda/reduce.h"
#include "solvent/core/error.h"

namespace solvent::cuda {
namespace {

template <class T>
__global__ void fill_kernel(T* y, T value, std::int64_t n) {
  for (std::int64_t i = global_thread(); i < n; i += grid_threads()) y[i] = value;
}

// Copies move bytes: one kernel for each size of elements.
template <class T>
__global__ void copy_kernel(const T* x, T* y, StridedIndex<2> index, std::int64_t n) {
  SOLVENT_ROLLED
  for (std::int64_t i = global_thread(); i < n; i += grid_threads()) {
    std::int64_t offset[2];
    index.locate(i, offset);
    y[offset[1]] = x[offset[0]];
  }
}

// Tiles of 32 x 32: y[b, j, i] = x[b, i, j] for unit strides along j in x and along i in y.
constexpr int kTile = 32;
constexpr int kTileRows = 8;

template <class T>
struct TransposeCall {
  const T* x;
  T* y;
  std::int64_t rows, columns;           // of x, seen as matrices (rows, columns)
  std::int64_t row_stride, out_stride;  // of x along i, of y along j
  std::int64_t batch_stride, out_batch_stride;
  std::int64_t tiles_down, tiles_across, tiles;
};

template <class T>
__global__ void transpose_kernel(TransposeCall<T> call) {
  __shared__ T tile[kTile][kTile + 1];
  for (std::int64_t t = blockIdx.x; t < call.tiles; t += gridDim.x) {
    const std::int64_t across = t % call.tiles_across;
    const std::int64_t down = t / call.tiles_across % call.tiles_down;
    const std::int64_t batch = t / call.tiles_across / call.tiles_down;
    const std::int64_t i0 = down * kTile;
    const std::int64_t j0 = across * kTile;
    for (int r = static_cast<int>(threadIdx.y); r < kTile; r += kTileRows)
      if (i0 + r < call.rows && j0 + threadIdx.x < call.columns)
        tile[r][threadIdx.x] = call.x[batch * call.batch_stride + (i0 + r) * call.row_stride + j0 + threadIdx.x];
    __syncthreads();
    for (int r = static_cast<int>(threadIdx.y); r < kTile; r += kTileRows)
      if (j0 + r < call.columns && i0 + threadIdx.x < call.rows)
        call.y[batch * call.out_batch_stride + (j0 + r) * call.out_stride + i0 + threadIdx.x] = tile[threadIdx.x][r];
    __syncthreads();
  }
}

// The copy as a batch of transposes, if it is one: merged rank 2 or 3 whose unit strides lie on different ones of two axes.
template <class T>
bool try_transpose(const char* name, Device device, const T* x, T* y, const engine::Loops& loops) {
  if (loops.rank < 2 || loops.rank > 3) return false;
  const int i = loops.rank - 2;
  const int j = loops.rank - 1;
  const bool unit_j_in_x = loops.stride[0][j] == 1 && loops.stride[1][i] == 1;
  const bool unit_i_in_x = loops.stride[0][i] == 1 && loops.stride[1][j] == 1;
  if (!unit_j_in_x && !unit_i_in_x) return false;
  const int row = unit_j_in_x ? i : j;  // the axis along which x is not dense
  const int column = unit_j_in_x ? j : i;
  TransposeCall<T> call{};
  call.x = x;
  call.y = y;
  call.rows = loops.extent[row];
  call.columns = loops.extent[column];
  call.row_stride = loops.stride[0][row];
  call.out_stride = loops.stride[1][column];
  call.batch_stride = loops.rank == 3 ? loops.stride[0][0] : 0;
  call.out_batch_stride = loops.rank == 3 ? loops.stride[1][0] : 0;
  call.tiles_down = (call.rows + kTile - 1) / kTile;
  call.tiles_across = (call.columns + kTile - 1) / kTile;
  call.tiles = call.tiles_down * call.tiles_across * (loops.rank == 3 ? loops.extent[0] : 1);
  Launch where = over_blocks(name, call.tiles, device);
  where.block = dim3(kTile, kTileRows);
  launch(where, transpose_kernel<T>, call);
  return true;
}

template <class T>
void copy_typed(const Tensor& src, Tensor& dst) {
  const std::int64_t n = src.numel();
  const detail::TensorImpl& from = *src.impl();
  const detail::TensorImpl& to = *dst.impl();
  const T* const x = static_cast<const T*>(from.storage->data) + from.offset;
  T* const y = static_cast<T*>(to.storage->data) + to.offset;
  if (src.is_contiguous() && dst.is_contiguous())
    return copy_on_device(y, x, static_cast<std::size_t>(n) * sizeof(T), from.device);
  const Strides* const strides[] = {&from.strides, &to.strides};
  if (try_transpose("copy", from.device, x, y, engine::merge_axes(from.shape, strides, 2))) return;
  const StridedIndex<2> index(from.shape, strides);
  launch(over_elements("copy", n, from.device), copy_kernel<T>, x, y, index, n);
}

// --- many dense copies in one launch ---------------------------------------------------------------------------------------

constexpr int kMostCopies = 128;  // the table must fit into the 4 KiB of a kernel's arguments
constexpr std::int64_t kCopyChunk = std::int64_t{16} << 10;  // bytes that a block copies at a time
constexpr std::int64_t kLargeCopy = std::int64_t{64} << 20;  // bytes; the driver's own copy is as good from here on

struct CopyTable {
  std::byte* to[kMostCopies];
  const std::byte* from[kMostCopies];
  std::int64_t bytes[kMostCopies];
  std::int32_t first_chunk[kMostCopies + 1];
  bool packed[kMostCopies];  // both pointers are multiples of 16 bytes
};
static_assert(sizeof(CopyTable) <= 3900);

// A whole chunk of memory aligned for packs is copied by them; anything else byte by byte, which is rare.
__global__ void copy_table_kernel(CopyTable table, std::int32_t chunks) {
  using Bytes = Pack<std::uint32_t, 4>;
  for (auto c = static_cast<std::int32_t>(blockIdx.x); c < chunks; c += static_cast<std::int32_t>(gridDim.x)) {
    int k = 0;
    while (c >= table.first_chunk[k + 1]) ++k;
    const std::int64_t begin = (c - table.first_chunk[k]) * kCopyChunk;
    const std::int64_t end = begin + kCopyChunk < table.bytes[k] ? begin + kCopyChunk : table.bytes[k];
    const std::byte* const from = table.from[k];
    std::byte* const to = table.to[k];
    std::int64_t rest = begin;
    if (table.packed[k]) {
      rest = end / 16 * 16;
      for (std::int64_t i = begin + 16 * threadIdx.x; i < rest; i += 16 * blockDim.x)
        *reinterpret_cast<Bytes*>(to + i) = *reinterpret_cast<const Bytes*>(from + i);
    }
    for (std::int64_t i = rest + threadIdx.x; i < end; i += blockDim.x) to[i] = from[i];
  }
}

std::byte* address_of(const Tensor& t) {
  const detail::TensorImpl& impl = *t.impl();
  return static_cast<std::byte*>(impl.storage->data) + impl.offset * static_cast<std::int64_t>(size_of(impl.dtype));
}

void launch_copies(const CopyTable& table, int count, Device device) {
  const std::int32_t chunks = table.first_chunk[count];
  if (chunks > 0)
    launch(over_elements("copy", chunks * std::int64_t{kThreads}, device), copy_table_kernel, table, chunks);
}

template <class T>
struct Add {
  __device__ T operator()(const T (&x)[2]) const { return static_cast<T>(x[0] + x[1]); }
};

template <class T>
struct Affine {
  T scale, shift;
  __device__ T operator()(const T (&x)[1]) const { return std::fma(scale, x[0], shift); }
};
template <>
struct Affine<BFloat16> {
  float scale, shift;
  __device__ BFloat16 operator()(const BFloat16 (&x)[1]) const {
    return BFloat16(std::fma(scale, static_cast<float>(x[0]), shift));
  }
};
template <>
struct Affine<std::int64_t> {
  std::int64_t scale, shift;
  __device__ std::int64_t operator()(const std::int64_t (&x)[1]) const { return scale * x[0] + shift; }
};

// Floating or int64.
template <class F>
void dispatch_number(DType dtype, const char* op, F&& f) {
  if (dtype == DType::int64) return f(solvent::detail::TypeTag<std::int64_t>{});
  dispatch_floating(dtype, op, f);
}

// --- sums over axes -------------------------------------------------------------------------------------------------------

template <class T>
struct SumOf {
  using Input = T;
  // Sums of integers wrap around.
  using State = std::conditional_t<std::is_same_v<T, std::int64_t>, std::uint64_t, double>;
  struct Local {};
  static constexpr int kInputs = 1;
  T* y;
  __device__ State neutral() const { return State{0}; }
  __device__ Local local(std::int64_t) const { return {}; }
  __device__ void add(State& s, const T (&x)[1], std::int64_t, const Local&) const { s += static_cast<State>(x[0]); }
  __device__ State merge(const State& a, const State& b) const { return a + b; }
  __device__ void store(std::int64_t result, const State& s) const { y[result] = static_cast<T>(s); }
};

template <class T>
void sum_typed(const Tensor& x, Tensor& y) {
  const Shape& shape = x.shape();
  Shape kept_shape = shape;
  Shape reduced_shape = shape;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    const bool is_reduced = y.shape()[axis] != shape[axis];
    (is_reduced ? kept_shape : reduced_shape)[axis] = 1;
  }
  const std::int64_t results = y.numel();
  if (results == 0) return;
  const std::int64_t addends = reduced_shape.product();
  if (addends == 0) return fill(y, 0.0);
  const Strides* const strides[] = {&x.strides()};
  reduce("sum", x.device(), SumOf<T>{engine::mutable_ptr<T>(y)}, {engine::ptr<T>(x)},
         StridedIndex<1>(kept_shape, strides), StridedIndex<1>(reduced_shape, strides), results, addends);
}

}  // namespace

void fill(Tensor& t, double value) {
  const std::int64_t n = t.numel();
  if (n == 0) return;
  dispatch_all(t.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch(over_elements("fill", n, t.device()), fill_kernel<T>, engine::mutable_ptr<T>(t), static_cast<T>(value), n);
  });
}

void copy_strided(const Tensor& src, Tensor& dst) {
  if (src.numel() == 0) return;
  switch (size_of(src.dtype())) {
    case 1: return copy_typed<std::uint8_t>(src, dst);
    case 2: return copy_typed<std::uint16_t>(src, dst);
    case 4: return copy_typed<std::uint32_t>(src, dst);
    default: return copy_typed<std::uint64_t>(src, dst);
  }
}

void copy_all(std::span<const Tensor> from, std::span<Tensor> to, Device device) {
  CopyTable table{};
  int count = 0;
  for (std::size_t i = 0; i < from.size(); ++i) {
    const std::int64_t bytes = from[i].numel() * static_cast<std::int64_t>(size_of(from[i].dtype()));
    if (bytes > kLargeCopy || !from[i].is_contiguous() || !to[i].is_contiguous()) {
      copy_strided(from[i], to[i]);
      continue;
    }
    if (bytes == 0) continue;
    if (count == kMostCopies) {
      launch_copies(table, count, device);
      count = 0;
    }
    table.to[count] = address_of(to[i]);
    table.from[count] = address_of(from[i]);
    table.bytes[count] = bytes;
    table.packed[count] = is_aligned(table.to[count]) && is_aligned(table.from[count]);
    table.first_chunk[count + 1] =
        table.first_chunk[count] + static_cast<std::int32_t>((bytes + kCopyChunk - 1) / kCopyChunk);
    ++count;
  }
  launch_copies(table, count, device);
}

Tensor add(Tensor& a, Tensor& b) {
  Tensor y;
  dispatch_number(a.dtype(), "add", [&](auto tag) {
    using T = typename decltype(tag)::type;
    y = elementwise<T, T>("add", Add<T>{}, {&a, &b});
  });
  return y;
}

Tensor affine(Tensor& x, double scale, double shift) {
  Tensor y;
  dispatch_number(x.dtype(), "affine", [&](auto tag) {
    using T = typename decltype(tag)::type;
    using S = std::conditional_t<std::is_same_v<T, BFloat16>, float, T>;
    y = elementwise<T, T>("affine", Affine<T>{static_cast<S>(scale), static_cast<S>(shift)}, {&x});
  });
  return y;
}

Tensor sum_to(const Tensor& x, const Shape& shape) {
  Tensor y = engine::empty(shape, x.dtype(), x.device());
  dispatch_number(x.dtype(), "sum", [&](auto tag) { sum_typed<typename decltype(tag)::type>(x, y); });
  return y;
}

}  // namespace solvent::cuda
