// Triangles and diagonals on a GPU. Bound by memory: one kernel writes every element of the result once and reads only what
// it keeps.

#include "solvent/ops/cuda/matrix_parts.h"

#include <cstdint>

#include "solvent/core/cuda/launch.h"
#include "solvent/ops/cuda/moving.h"

namespace solvent::cuda {
namespace {

// Kept: columns <= row + offset (lower) or >= row + offset. U has the size of an element.
template <class U>
__global__ void triangle_kernel(const U* x, StridedIndex<1> where, bool dense, Division columns, Division rows,
                                std::int64_t offset, bool lower, U* y, std::int64_t n) {
  for (std::int64_t i = global_thread(); i < n; i += grid_threads()) {
    std::int64_t line, column, matrix, row;
    columns.split(i, line, column);
    rows.split(line, matrix, row);
    const bool kept = lower ? column <= row + offset : column >= row + offset;
    if (!kept) {
      y[i] = U{0};
      continue;
    }
    std::int64_t from[1] = {i};
    if (!dense) where.locate(i, from);
    y[i] = x[from[0]];
  }
}

template <class U>
__global__ void diag_embed_kernel(const U* x, StridedIndex<1> where, std::int64_t length, Division columns,
                                  Division rows, std::int64_t offset, U* y, std::int64_t n) {
  for (std::int64_t i = global_thread(); i < n; i += grid_threads()) {
    std::int64_t line, column, matrix, row;
    columns.split(i, line, column);
    rows.split(line, matrix, row);
    if (column != row + offset) {
      y[i] = U{0};
      continue;
    }
    std::int64_t from[1];
    where.locate(matrix * length + (offset >= 0 ? row : column), from);
    y[i] = x[from[0]];
  }
}

// Calls f(TypeTag<U>) for the unsigned type as large as an element.
template <class F>
void dispatch_element(DType dtype, F&& f) {
  switch (size_of(dtype)) {
    case 1: return f(solvent::detail::TypeTag<std::uint8_t>{});
    case 2: return f(solvent::detail::TypeTag<std::uint16_t>{});
    case 4: return f(solvent::detail::TypeTag<std::uint32_t>{});
    default: return f(solvent::detail::TypeTag<std::uint64_t>{});
  }
}

template <class U>
const U* read_as(const Tensor& t) {
  return reinterpret_cast<const U*>(first_byte(t));
}
template <class U>
U* write_as(Tensor& t) {
  return reinterpret_cast<U*>(const_cast<std::byte*>(first_byte(t)));
}

}  // namespace

Tensor triangle(const Tensor& x, std::int64_t offset, bool lower) {
  Tensor out = engine::empty(x.shape(), x.dtype(), x.device());
  const std::int64_t n = out.numel();
  if (n == 0) return out;
  const Strides* const strides[] = {&x.strides()};
  const StridedIndex<1> where(x.shape(), strides);
  dispatch_element(x.dtype(), [&](auto tag) {
    using U = typename decltype(tag)::type;
    launch(over_elements(lower ? "tril" : "triu", n, x.device()), triangle_kernel<U>, read_as<U>(x), where,
           x.is_contiguous(), Division(x.size(-1), n), Division(x.size(-2), n), offset, lower, write_as<U>(out), n);
  });
  return out;
}

Tensor diag_embed(const Tensor& x, std::int64_t offset, std::int64_t rows, std::int64_t columns) {
  Shape shape = x.shape();
  const std::int64_t length = shape.back();
  shape[shape.rank() - 1] = rows;
  shape.push_back(columns);
  Tensor out = engine::empty(shape, x.dtype(), x.device());
  const std::int64_t n = out.numel();
  if (n == 0) return out;
  const Strides* const strides[] = {&x.strides()};
  const StridedIndex<1> where(x.shape(), strides);
  dispatch_element(x.dtype(), [&](auto tag) {
    using U = typename decltype(tag)::type;
    launch(over_elements("diag_embed", n, x.device()), diag_embed_kernel<U>, read_as<U>(x), where, length,
           Division(columns, n), Division(rows, n), offset, write_as<U>(out), n);
  });
  return out;
}

}  // namespace solvent::cuda
