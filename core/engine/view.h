#pragma once
/// Raw access for kernels and for the front ends of view ops. Nothing here is differentiable, and every function
/// requires tensors without derivative information (asserted): a raw view of a differentiated tensor would silently
/// lose its gradient.

#include <cassert>
#include <cstdint>

#include "solvent/core/tensor.h"

namespace solvent::engine {

/// True if a transform is differentiating this value.
inline bool is_boxed(const Tensor& t) noexcept { return t.impl()->ad != nullptr; }

/// Uninitialised contiguous tensor.
SOLVENT_API Tensor empty(const Shape& shape, DType dtype, Device device = {});

/// A tensor without data that remembers shape, dtype and device (saved on tapes for rules that need only the shape).
SOLVENT_API Tensor meta(const Tensor& like);

/// A tensor sharing `base`'s storage. `offset` in elements, absolute in the storage.
SOLVENT_API Tensor view(const Tensor& base, const Shape& shape, const Strides& strides, std::int64_t offset);

/// A handle with the same storage and metadata as `primal` that carries `box` (takes ownership of the box).
SOLVENT_API Tensor with_box(const Tensor& primal, detail::AdBox* box);

/// Pointer to the first element; strides are the caller's business. T must be the element type (asserted).
template <class T>
const T* ptr(const Tensor& t) noexcept {
  assert(!is_boxed(t) && t.dtype() == dtype_of<T>);
  return static_cast<const T*>(t.impl()->storage->data) + t.impl()->offset;
}

/// Writable pointer: only for a tensor just made by `empty`, `take` or `take_or_empty`.
template <class T>
T* mutable_ptr(Tensor& t) noexcept {
  assert(!is_boxed(t) && t.dtype() == dtype_of<T>);
  return static_cast<T*>(t.impl()->storage->data) + t.impl()->offset;
}

/// True if `t` is the only handle to a dense row-major buffer that it covers entirely: its memory may be reused.
SOLVENT_API bool can_donate(const Tensor& t) noexcept;

/// Moves `in` out if it can be donated and has `shape` and `dtype`; otherwise allocates. The result may alias `in`'s old
/// data, so an elementwise kernel may write position i only after reading position i.
/// The caller must keep a raw pointer to the input data, not the moved-from handle:
///     const T* x = ptr<T>(in); Tensor y = take_or_empty(in, in.shape(), dtype);
SOLVENT_API Tensor take_or_empty(Tensor& in, const Shape& shape, DType dtype);

/// Strides for viewing `t` with `shape` without copying; false if impossible.
SOLVENT_API bool reshape_strides(const Tensor& t, const Shape& shape, Strides& strides);

/// Copies any strided tensor into a new contiguous one (same dtype, same device); returns `t` itself if contiguous.
SOLVENT_API Tensor contiguous(const Tensor& t);

/// Copies `src` (any strides) into `dst` (any strides, same shape and dtype). Both on one device.
SOLVENT_API void copy_into(const Tensor& src, Tensor& dst);

/// `t` itself if it lives on `device`, otherwise a dense copy there. `t` must be dense unless it lives there already
/// (asserted). A copy to the host waits for the work that makes `t`.
SOLVENT_API Tensor copy_to(const Tensor& t, Device device);

}  // namespace solvent::engine
