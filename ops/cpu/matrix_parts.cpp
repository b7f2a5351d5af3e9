// Triangles and diagonals on the CPU: copies of rows and strided copies. Bound by memory; rows are independent.

#include "solvent/ops/cpu/matrix_parts.h"

#include <algorithm>
#include <cstring>

#include "solvent/core/engine/view.h"
#include "solvent/core/parallel.h"

namespace solvent::cpu {
namespace {

constexpr std::int64_t kGrainBytes = 1 << 17;

const std::byte* bytes(const Tensor& t) {
  return static_cast<const std::byte*>(t.impl()->storage->data) +
         t.impl()->offset * static_cast<std::int64_t>(size_of(t.dtype()));
}

std::byte* mutable_bytes(Tensor& t) { return static_cast<std::byte*>(t.impl()->storage->data); }

}  // namespace

Tensor triangle(const Tensor& x, std::int64_t offset, bool lower) {
  const Tensor dense = engine::contiguous(x);
  Tensor out = engine::empty(x.shape(), x.dtype(), x.device());
  if (out.numel() == 0) return out;
  const std::int64_t rows = x.size(-2);
  const std::int64_t columns = x.size(-1);
  const auto element = static_cast<std::int64_t>(size_of(x.dtype()));
  const std::byte* from = bytes(dense);
  std::byte* to = mutable_bytes(out);
  const auto size = [element](std::int64_t n) { return static_cast<std::size_t>(n * element); };
  const std::int64_t grain = std::max<std::int64_t>(1, kGrainBytes / (columns * element));
  parallel_for(out.numel() / columns, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      // The first column above the diagonal (lower) or on it (upper).
      const std::int64_t cut = std::clamp<std::int64_t>(row % rows + offset + (lower ? 1 : 0), 0, columns);
      const std::byte* line = from + row * columns * element;
      std::byte* target = to + row * columns * element;
      const std::size_t left = size(cut);
      const std::size_t right = size(columns - cut);
      if (lower) {
        std::memcpy(target, line, left);
        std::memset(target + left, 0, right);
      } else {
        std::memset(target, 0, left);
        std::memcpy(target + left, line + left, right);
      }
    }
  });
  return out;
}

Tensor diagonal_view(const Tensor& x, std::int64_t offset, std::int64_t length) {
  Shape shape = x.shape();
  Strides strides = x.strides();
  const std::int64_t row_stride = strides[x.rank() - 2];
  const std::int64_t column_stride = strides[x.rank() - 1];
  shape.pop_back();
  strides.pop_back();
  shape[shape.rank() - 1] = length;
  strides[strides.rank() - 1] = row_stride + column_stride;
  const std::int64_t start = offset >= 0 ? offset * column_stride : -offset * row_stride;
  return engine::view(x, shape, strides, x.impl()->offset + (shape.product() > 0 ? start : 0));
}

Tensor diag_embed(const Tensor& x, std::int64_t offset, std::int64_t rows, std::int64_t columns) {
  Shape shape = x.shape();
  shape[shape.rank() - 1] = rows;
  shape.push_back(columns);
  Tensor out = engine::empty(shape, x.dtype(), x.device());
  const auto size = static_cast<std::size_t>(out.numel()) * size_of(x.dtype());
  if (size > 0) std::memset(mutable_bytes(out), 0, size);
  if (x.numel() == 0) return out;
  Tensor target = diagonal_view(out, offset, x.shape().back());
  engine::copy_into(x, target);
  return out;
}

}  // namespace solvent::cpu
