#include "solvent/core/engine/view.h"

#include <new>

#include <fmt/format.h>

#include "solvent/core/engine/strided_copy.h"
#include "solvent/core/error.h"

namespace solvent::engine {
namespace {

using detail::Storage;
using detail::TensorImpl;

// Bytes of a dense tensor. Extents come from users and files, so they are checked here, at the one place where all
// memory of tensors is made.
std::size_t checked_bytes(const Shape& shape, DType dtype) {
  std::int64_t numel = 1;
  bool overflow = false;
  bool is_empty = false;
  for (const std::int64_t extent : shape) {
    if (extent < 0)
      throw ShapeError(fmt::format("[tensor] got shape {}; expected extents of at least 0.", to_string(shape)));
    is_empty |= extent == 0;
    overflow |= __builtin_mul_overflow(numel, extent, &numel);
  }
  if (is_empty) return 0;
  std::int64_t bytes = 0;
  overflow |= __builtin_mul_overflow(numel, static_cast<std::int64_t>(size_of(dtype)), &bytes);
  if (overflow)
    throw ShapeError(fmt::format("[tensor] got shape {} of {}; expected less than 2^63 bytes.", to_string(shape),
                                 to_string(dtype)));
  return static_cast<std::size_t>(bytes);
}

TensorImpl* new_impl() { return ::new (detail::allocate_body(sizeof(TensorImpl))) TensorImpl; }

void retain(Storage* storage) noexcept {
  if (storage) storage->refs.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

Tensor empty(const Shape& shape, DType dtype, Device device) {
  const std::size_t bytes = checked_bytes(shape, dtype);
  Tensor t = Tensor::adopt(new_impl());  // released by the handle if one of the next allocations throws
  TensorImpl& impl = *t.impl();
  impl.dtype = dtype;
  impl.device = device;
  impl.shape = shape;
  impl.strides = contiguous_strides(shape);
  auto* storage = ::new (detail::allocate_body(sizeof(Storage))) Storage;
  storage->device = device;
  impl.storage = storage;
  storage->data = detail::allocate(bytes, device);
  storage->bytes = bytes;
  return t;
}

Tensor meta(const Tensor& like) {
  Tensor t = Tensor::adopt(new_impl());
  t.impl()->dtype = like.dtype();
  t.impl()->device = like.device();
  t.impl()->shape = like.shape();
  t.impl()->strides = contiguous_strides(like.shape());
  return t;
}

Tensor view(const Tensor& base, const Shape& shape, const Strides& strides, std::int64_t offset) {
  assert(!is_boxed(base) && shape.rank() == strides.rank());
  Tensor t = Tensor::adopt(new_impl());
  TensorImpl& impl = *t.impl();
  impl.dtype = base.dtype();
  impl.device = base.device();
  impl.shape = shape;
  impl.strides = strides;
  impl.offset = offset;
  impl.storage = base.impl()->storage;
  retain(impl.storage);
  return t;
}

Tensor with_box(const Tensor& primal, detail::AdBox* box) {
  const TensorImpl& from = *primal.impl();
  Tensor t;
  try {
    t = Tensor::adopt(new_impl());
  } catch (...) {
    if (box) box->destroy(box);
    throw;
  }
  TensorImpl& impl = *t.impl();
  impl.dtype = from.dtype;
  impl.device = from.device;
  impl.shape = from.shape;
  impl.strides = from.strides;
  impl.offset = from.offset;
  impl.storage = from.storage;
  retain(impl.storage);
  impl.ad = box;
  return t;
}

bool can_donate(const Tensor& t) noexcept {
  const TensorImpl* impl = t.impl();
  // Acquire pairs with the release of handles dropped by other threads: their reads happen before our writes.
  return impl && !impl->ad && impl->storage && impl->refs.load(std::memory_order_acquire) == 1 &&
         impl->storage->refs.load(std::memory_order_acquire) == 1 && impl->offset == 0 && t.is_contiguous() &&
         static_cast<std::size_t>(impl->shape.product()) * size_of(impl->dtype) == impl->storage->bytes;
}

Tensor take_or_empty(Tensor& in, const Shape& shape, DType dtype) {
  if (in.dtype() == dtype && in.shape() == shape && can_donate(in)) return std::move(in);
  return empty(shape, dtype, in.device());
}

bool reshape_strides(const Tensor& t, const Shape& shape, Strides& strides) {
  assert(t.numel() == shape.product());
  const Shape& old_shape = t.shape();
  const Strides& old_strides = t.strides();
  if (t.numel() == 0 || t.is_contiguous()) {
    strides = contiguous_strides(shape);
    return true;
  }
  // Groups of old axes that form one progression are matched from the right with groups of new axes of equal product.
  Strides result = Dims::filled(shape.rank(), 1);
  int j = shape.rank() - 1;
  int i = old_shape.rank() - 1;
  while (i >= 0) {
    if (old_shape[i] == 1) {
      --i;
      continue;
    }
    const std::int64_t unit = old_strides[i];
    std::int64_t group = old_shape[i];
    for (--i; i >= 0 && (old_shape[i] == 1 || old_strides[i] == unit * group); --i) group *= old_shape[i];
    std::int64_t covered = 1;
    while (covered < group) {
      if (j < 0 || group % (covered * shape[j]) != 0) return false;
      result[j] = unit * covered;
      covered *= shape[j--];
    }
  }
  // What is left has extent 1, where any stride will do.
  strides = result;
  return true;
}

Tensor contiguous(const Tensor& t) {
  assert(!is_boxed(t));
  if (t.is_contiguous()) return t;
  Tensor result = empty(t.shape(), t.dtype(), t.device());
  copy_into(t, result);
  return result;
}

void copy_into(const Tensor& src, Tensor& dst) {
  assert(!is_boxed(src) && !is_boxed(dst) && src.shape() == dst.shape() && src.dtype() == dst.dtype());
  const TensorImpl& from = *src.impl();
  const TensorImpl& to = *dst.impl();
  const std::size_t size = size_of(from.dtype);
  strided_copy(from.shape, size, static_cast<const std::byte*>(from.storage->data) + from.offset * static_cast<std::int64_t>(size),
               from.strides, static_cast<std::byte*>(to.storage->data) + to.offset * static_cast<std::int64_t>(size),
               to.strides);
}

}  // namespace solvent::engine
