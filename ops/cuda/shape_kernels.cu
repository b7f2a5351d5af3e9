// Concatenation, padding and copies on a GPU. Bound by memory: every element is read and written once, in units of 16 bytes
// where lengths and addresses allow it. Joins see the result as a matrix of which each piece fills some columns: up to
// kPieces pieces share a launch (one row of the grid each), so that stacking many small tensors costs few launches. Pieces
// that are no matrices with two strides are copied one by one.

#include "solvent/ops/cuda/shape_kernels.h"

#include <algorithm>
#include <vector>

#include "solvent/core/cuda/launch.h"
#include "solvent/ops/cuda/moving.h"

namespace solvent::cuda {
namespace {

// --- pad ------------------------------------------------------------------------------------------------------------------

template <class U>
struct PadCall {
  const U* x;
  U* y;
  std::int64_t n;            // units of y
  Division inner, size;      // y is (outer, size, inner)
  std::int64_t count;        // x is (outer, count, inner)
  std::int64_t first, step;  // where x goes
  U value;
  bool dense;  // x
};

template <class U>
__global__ void pad_kernel(PadCall<U> call, StridedIndex<1> x_index) {
  for (std::int64_t i = global_thread(); i < call.n; i += grid_threads()) {
    std::int64_t outer, line, at, inner;
    call.inner.split(i, line, inner);
    call.size.split(line, outer, at);
    at -= call.first;
    std::int64_t from = at;
    bool inside = true;
    if (call.step != 1) {
      from = at / call.step;
      inside = from * call.step == at;
    }
    inside = inside && from >= 0 && from < call.count;
    if (!inside) {
      call.y[i] = call.value;
      continue;
    }
    std::int64_t offset[1] = {(outer * call.count + from) * call.inner.divisor + inner};
    if (!call.dense) x_index.locate(offset[0], offset);
    call.y[i] = call.x[offset[0]];
  }
}

// --- joins ----------------------------------------------------------------------------------------------------------------

constexpr int kPieces = 48;

// Columns [start, start + length) of the result; strides of the piece in units.
template <class U>
struct Piece {
  const U* data;
  std::int64_t start;
  Division length;
  std::int64_t row_stride, stride;
};

template <class U>
struct Pieces {
  U* out;
  std::int64_t rows, row;  // number and length of the result's rows
  Piece<U> piece[kPieces];
};

template <class U>
__global__ void join_kernel(Pieces<U> call) {
  const Piece<U>& piece = call.piece[blockIdx.y];
  const std::int64_t n = call.rows * piece.length.divisor;
  for (std::int64_t i = global_thread(); i < n; i += grid_threads()) {
    std::int64_t row, column;
    piece.length.split(i, row, column);
    call.out[row * call.row + piece.start + column] = piece.data[row * piece.row_stride + column * piece.stride];
  }
}

// A piece in elements.
struct Part {
  const std::byte* data;
  std::int64_t start, length, row_stride, stride;
};

// Axes [begin, end) of x as one; false if their strides do not allow it.
bool merged_stride(const Tensor& x, int begin, int end, std::int64_t& stride) {
  Shape shape;
  Strides strides;
  for (int axis = begin; axis < end; ++axis) {
    shape.push_back(x.shape()[axis]);
    strides.push_back(x.strides()[axis]);
  }
  const Strides* const operands[] = {&strides};
  const engine::Loops loops = engine::merge_axes(shape, operands, 1);
  stride = loops.rank == 0 ? 1 : loops.stride[0][0];
  return loops.rank <= 1;
}

template <class U>
void launch_parts(const char* name, const std::vector<Part>& parts, std::int64_t element, std::int64_t rows,
                  std::int64_t row, Tensor& out) {
  const std::int64_t per_unit = std::max<std::int64_t>(1, static_cast<std::int64_t>(sizeof(U)) / element);
  Pieces<U> call{};
  call.out = reinterpret_cast<U*>(const_cast<std::byte*>(first_byte(out)));
  call.rows = rows;
  call.row = row / per_unit;
  for (std::size_t first = 0; first < parts.size(); first += kPieces) {
    const std::size_t count = std::min<std::size_t>(kPieces, parts.size() - first);
    std::int64_t longest = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const Part& part = parts[first + i];
      const std::int64_t length = part.length / per_unit;
      call.piece[i] = {reinterpret_cast<const U*>(part.data), part.start / per_unit, Division(length, rows * length),
                       part.row_stride / per_unit, part.stride};
      longest = std::max(longest, rows * length);
    }
    Launch where = over_elements(name, longest, out.device());
    where.grid.y = static_cast<unsigned>(count);
    launch(where, join_kernel<U>, call);
  }
}

// Writes the pieces side by side into `out`, seen as a matrix with one row for each position left of `axis`.
void join(const char* name, std::span<const Tensor> xs, int axis, Tensor& out) {
  if (out.numel() == 0) return;
  std::int64_t rows = 1;
  for (int i = 0; i < axis; ++i) rows *= out.shape()[i];
  const std::int64_t row = out.numel() / rows;
  const auto element = static_cast<std::int64_t>(size_of(out.dtype()));
  std::vector<Part> parts;
  std::uint64_t bits = address_bits(first_byte(out)) | static_cast<std::uint64_t>(row * element);
  std::int64_t start = 0;
  for (const Tensor& x : xs) {
    if (x.numel() == 0) continue;
    Part part{first_byte(x), start, x.numel() / rows, 0, 0};
    start += part.length;
    if (merged_stride(x, 0, axis, part.row_stride) && merged_stride(x, axis, x.rank(), part.stride)) {
      if (part.length == 1) part.stride = 1;
      if (rows == 1) part.row_stride = 0;
      bits |= address_bits(part.data);
      for (const std::int64_t n : {part.start, part.length, part.row_stride})
        bits |= static_cast<std::uint64_t>(n * element);
      if (part.stride != 1) bits |= static_cast<std::uint64_t>(element);
      parts.push_back(part);
      continue;
    }
    Strides strides = contiguous_strides(x.shape());
    for (int i = 0; i < axis; ++i) strides[i] = strides[i] / part.length * row;
    Tensor target = engine::view(out, x.shape(), strides, out.impl()->offset + part.start);
    engine::copy_into(x, target);
  }
  if (parts.empty()) return;
  dispatch_unit(widest_unit(bits),
                [&](auto tag) { launch_parts<typename decltype(tag)::type>(name, parts, element, rows, row, out); });
}

}  // namespace

Tensor pad(const Tensor& x, int axis, std::int64_t size, std::int64_t first, std::int64_t step, double value) {
  Shape shape = x.shape();
  shape[axis] = size;
  Tensor out = engine::empty(shape, x.dtype(), x.device());
  if (out.numel() == 0) return out;
  std::int64_t inner = 1;
  for (int i = axis + 1; i < x.rank(); ++i) inner *= x.shape()[i];
  const auto element = static_cast<std::int64_t>(size_of(x.dtype()));
  const bool dense = x.is_contiguous();
  const std::uint64_t bits = address_bits(first_byte(x)) | address_bits(first_byte(out)) |
                             static_cast<std::uint64_t>((dense ? inner : 1) * element);
  const Strides* const strides[] = {&x.strides()};
  const StridedIndex<1> index(x.shape(), strides);
  dispatch_unit(widest_unit(bits), [&](auto tag) {
    using U = typename decltype(tag)::type;
    const std::int64_t per_unit = static_cast<std::int64_t>(sizeof(U)) / element;
    PadCall<U> call{};
    call.x = reinterpret_cast<const U*>(first_byte(x));
    call.y = reinterpret_cast<U*>(const_cast<std::byte*>(first_byte(out)));
    call.n = out.numel() / per_unit;
    call.inner = Division(inner / per_unit, call.n);
    call.size = Division(size, call.n);
    call.count = x.shape()[axis];
    call.first = first;
    call.step = step;
    call.value = repeated<U>(x.dtype(), value);
    call.dense = dense;
    launch(over_elements("pad", call.n, x.device()), pad_kernel<U>, call, index);
  });
  return out;
}

Tensor concat(std::span<const Tensor> xs, int axis) {
  Shape shape = xs[0].shape();
  shape[axis] = 0;
  for (const Tensor& x : xs) shape[axis] += x.shape()[axis];
  Tensor out = engine::empty(shape, xs[0].dtype(), xs[0].device());
  join("concat", xs, axis, out);
  return out;
}

Tensor stack(std::span<const Tensor> xs, int axis) {
  Shape shape = xs[0].shape();
  shape.insert(axis, static_cast<std::int64_t>(xs.size()));
  Tensor out = engine::empty(shape, xs[0].dtype(), xs[0].device());
  join("stack", xs, axis, out);
  return out;
}

Tensor clone(const Tensor& x) {
  Tensor out = engine::empty(x.shape(), x.dtype(), x.device());
  engine::copy_into(x, out);
  return out;
}

}  // namespace solvent::cuda
