#include "solvent/core/engine/view.h"

#include <new>

#include <fmt/format.h>

#include "solvent/core/engine/storage.h"
#include "solvent/core/engine/strided_copy.h"
#include "solvent/core/error.h"

#if SOLVENT_WITH_CUDA
#include "solvent/core/cuda/basic.h"
#include "solvent/core/cuda/pinned.h"
#include "solvent/core/cuda/runtime.h"
#endif

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
    throw ShapeError(
        fmt::format("[tensor] got shape {} of {}; expected less than 2^63 bytes.", to_string(shape), to_string(dtype)));
  return static_cast<std::size_t>(bytes);
}

void retain(Storage* storage) noexcept {
  if (storage) storage->refs.fetch_add(1, std::memory_order_relaxed);
}

// Takes over one reference of `storage` (or null), also when it throws.
Tensor make_handle(DType dtype, Device device, Storage* storage, std::int64_t offset, const Shape& shape,
                   const Strides& strides) {
  void* memory = nullptr;
  try {
    memory = detail::allocate_body(sizeof(TensorImpl));
  } catch (...) {
    if (storage && detail::drop_reference(storage->refs)) detail::release(storage);
    throw;
  }
  return Tensor::adopt(::new (memory) TensorImpl{{1}, dtype, device, storage, offset, nullptr, shape, strides});
}

// Small data follow their Storage in one block: one allocation less, and the counters are near.
Storage* new_storage(std::size_t bytes, Device device) {
  if (device == cpu_device && bytes <= detail::kMaxEmbeddedBytes) {
    void* const memory = detail::allocate(detail::kEmbeddedOffset + bytes, device);
    return ::new (memory) Storage{{1}, device, static_cast<std::byte*>(memory) + detail::kEmbeddedOffset, bytes};
  }
  void* const memory = detail::allocate_body(sizeof(Storage));
  try {
    return ::new (memory) Storage{{1}, device, detail::allocate(bytes, device), bytes};
  } catch (...) {
    detail::deallocate_body(memory, sizeof(Storage));
    throw;
  }
}

}  // namespace

Tensor empty(const Shape& shape, DType dtype, Device device) {
  Storage* const storage = new_storage(checked_bytes(shape, dtype), device);
  return make_handle(dtype, device, storage, 0, shape, contiguous_strides(shape));
}

Tensor pinned_copy(const Tensor& t) {
  assert(!is_boxed(t) && t.device() == cpu_device);
#if SOLVENT_WITH_CUDA
  if (is_pinned(t) && t.is_contiguous()) return t;
  const std::size_t bytes = checked_bytes(t.shape(), t.dtype());
  void* const memory = detail::allocate_body(sizeof(Storage));
  Storage* storage = nullptr;
  try {
    storage = ::new (memory) Storage{{1}, detail::kPinnedMemory, cuda::allocate_pinned(bytes), bytes};
  } catch (...) {
    detail::deallocate_body(memory, sizeof(Storage));
    throw;
  }
  Tensor copy = make_handle(t.dtype(), cpu_device, storage, 0, t.shape(), contiguous_strides(t.shape()));
  copy_into(t, copy);
  return copy;
#else
  return contiguous(t);
#endif
}

bool is_pinned(const Tensor& t) noexcept { return t.impl()->storage->device == detail::kPinnedMemory; }

Tensor meta(const Tensor& like) {
  return make_handle(like.dtype(), like.device(), nullptr, 0, like.shape(), contiguous_strides(like.shape()));
}

Tensor view(const Tensor& base, const Shape& shape, const Strides& strides, std::int64_t offset) {
  assert(!is_boxed(base) && shape.rank() == strides.rank());
  const TensorImpl& from = *base.impl();
  retain(from.storage);
  return make_handle(from.dtype, from.device, from.storage, offset, shape, strides);
}

Tensor with_box(const Tensor& primal, detail::AdBox* box) {
  const TensorImpl& from = *primal.impl();
  retain(from.storage);
  try {
    Tensor t = make_handle(from.dtype, from.device, from.storage, from.offset, from.shape, from.strides);
    t.impl()->ad = box;
    return t;
  } catch (...) {
    if (box) box->destroy(box);
    throw;
  }
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
#if SOLVENT_WITH_CUDA
  if (from.device.type == DeviceType::cuda) return cuda::copy_strided(src, dst);
#endif
  const std::size_t size = size_of(from.dtype);
  strided_copy(from.shape, size,
               static_cast<const std::byte*>(from.storage->data) + from.offset * static_cast<std::int64_t>(size),
               from.strides, static_cast<std::byte*>(to.storage->data) + to.offset * static_cast<std::int64_t>(size),
               to.strides);
}

Tensor copy_to(const Tensor& t, Device device) {
  if (t.device() == device) return t;
  assert(!is_boxed(t) && t.is_contiguous());
  Tensor result = empty(t.shape(), t.dtype(), device);
#if SOLVENT_WITH_CUDA
  const TensorImpl& from = *t.impl();
  const auto size = static_cast<std::int64_t>(size_of(from.dtype));
  const auto bytes = static_cast<std::size_t>(t.numel() * size);
  const std::byte* const source = static_cast<const std::byte*>(from.storage->data) + from.offset * size;
  void* const target = result.impl()->storage->data;
  if (from.device == cpu_device && is_pinned(t) && !cuda::is_recording(cuda::current_stream(device))) {
    cuda::copy_pinned_to_device(target, source, bytes, device, from.storage);
  } else if (from.device == cpu_device) {
    cuda::copy_to_device(target, source, bytes, device);
  } else if (device == cpu_device) {
    cuda::copy_to_host(target, source, bytes, from.device);
  } else {
    cuda::copy_between(target, device, source, from.device, bytes);
  }
#endif
  return result;  // without CUDA, empty() has thrown
}

}  // namespace solvent::engine
