// Concatenation, padding and copies on the CPU. All of them write blocks of a new row-major tensor, so each is a loop of
// strided copies, which run on several threads when they are large. Positions do not depend on the number of threads.

#include "solvent/ops/cpu/shape_kernels.h"

#include <algorithm>
#include <cstring>

#include "solvent/core/engine/strided_copy.h"
#include "solvent/core/engine/view.h"
#include "solvent/core/parallel.h"

namespace solvent::cpu {
namespace {

const std::byte* bytes(const Tensor& t) {
  return static_cast<const std::byte*>(t.impl()->storage->data) +
         t.impl()->offset * static_cast<std::int64_t>(size_of(t.dtype()));
}

std::byte* mutable_bytes(Tensor& t) { return static_cast<std::byte*>(t.impl()->storage->data); }

// Writes x at element `offset` of `out` with `strides` (those of out without or with the joined axis).
void place(const Tensor& x, Tensor& out, const Strides& strides, std::int64_t offset) {
  if (x.numel() == 0) return;
  const std::size_t element = size_of(x.dtype());
  engine::strided_copy(x.shape(), element, bytes(x), x.strides(),
                       mutable_bytes(out) + offset * static_cast<std::int64_t>(element), strides);
}

void fill(Tensor& out, double value) {
  constexpr std::int64_t kGrain = 1 << 17;
  dispatch_all(out.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* p = engine::mutable_ptr<T>(out);
    const T v = static_cast<T>(value);
    parallel_for(out.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) { std::fill(p + begin, p + end, v); });
  });
}

}  // namespace

Tensor pad(const Tensor& x, int axis, std::int64_t size, std::int64_t first, std::int64_t step, double value) {
  Shape shape = x.shape();
  shape[axis] = size;
  Tensor out = engine::empty(shape, x.dtype(), x.device());
  fill(out, value);
  Strides strides = out.strides();
  const std::int64_t offset = first * strides[axis];
  strides[axis] *= step;
  place(x, out, strides, offset);
  return out;
}

Tensor concat(std::span<const Tensor> xs, int axis) {
  Shape shape = xs[0].shape();
  shape[axis] = 0;
  for (const Tensor& x : xs) shape[axis] += x.shape()[axis];
  Tensor out = engine::empty(shape, xs[0].dtype(), xs[0].device());
  std::int64_t offset = 0;
  for (const Tensor& x : xs) {
    place(x, out, out.strides(), offset);
    offset += x.shape()[axis] * out.strides()[axis];
  }
  return out;
}

Tensor stack(std::span<const Tensor> xs, int axis) {
  Shape shape = xs[0].shape();
  shape.insert(axis, static_cast<std::int64_t>(xs.size()));
  Tensor out = engine::empty(shape, xs[0].dtype(), xs[0].device());
  Strides strides = out.strides();
  const std::int64_t stride = strides[axis];
  strides.erase(axis);
  const bool dense = strides == contiguous_strides(xs[0].shape());
  const std::size_t element = size_of(out.dtype());
  const std::int64_t piece_bytes = xs[0].numel() * static_cast<std::int64_t>(element);
  constexpr std::int64_t kSmallPiece = 4096;  // below this, setting up a strided copy costs more than the bytes
  for (std::size_t i = 0; i < xs.size(); ++i) {
    const std::int64_t offset = static_cast<std::int64_t>(i) * stride;
    if (dense && piece_bytes > 0 && piece_bytes <= kSmallPiece && xs[i].is_contiguous()) {
      std::memcpy(mutable_bytes(out) + offset * static_cast<std::int64_t>(element), bytes(xs[i]),
                  static_cast<std::size_t>(piece_bytes));
    } else {
      place(xs[i], out, strides, offset);
    }
  }
  return out;
}

Tensor clone(const Tensor& x) {
  Tensor out = engine::empty(x.shape(), x.dtype(), x.device());
  place(x, out, out.strides(), 0);
  return out;
}

}  // namespace solvent::cpu
