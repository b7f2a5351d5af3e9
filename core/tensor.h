#pragma once
/// Tensor: a reference-counted handle to a strided array of at most eight axes.
///
/// Handles are cheap to copy and the values behind them never change (there is no public in-place operation). A Tensor
/// has metadata, host access and factories only: everything that computes or views, even `reshape`, is a free function
/// of ops/, because it must pass the differentiation machinery. Tensors may be shared between threads; a tensor that is
/// being differentiated may be used only on the thread that differentiates it.

#include <atomic>
#include <cstdint>
#include <iosfwd>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "solvent/core/allocator.h"
#include "solvent/core/device.h"
#include "solvent/core/dtype.h"
#include "solvent/core/export.h"
#include "solvent/core/shape.h"

namespace solvent {

namespace detail {

/// Derivative information attached to a tensor; opaque to core. `destroy` frees the box.
struct AdBox {
  void (*destroy)(AdBox*) noexcept = nullptr;
};

/// A reference-counted buffer.
struct Storage {
  std::atomic<std::int32_t> refs{1};
  Device device;
  void* data = nullptr;
  std::size_t bytes = 0;
};

struct TensorImpl {
  std::atomic<std::int32_t> refs{1};
  DType dtype = DType::float32;
  Device device;
  Storage* storage = nullptr;  // null for meta tensors (shape only)
  std::int64_t offset = 0;     // in elements
  AdBox* ad = nullptr;         // null unless a transform is differentiating this value
  Shape shape;
  Strides strides;  // in elements; 0 on broadcast axes
};

/// Gives one reference back; true if it was the last. A count of 1 means that no other thread can reach the object, so
/// the usual case needs no atomic read-modify-write.
inline bool drop_reference(std::atomic<std::int32_t>& refs) noexcept {
  return refs.load(std::memory_order_acquire) == 1 || refs.fetch_sub(1, std::memory_order_acq_rel) == 1;
}

SOLVENT_API void release(TensorImpl* impl) noexcept;  // called when refs reaches 0
SOLVENT_API void release(Storage* storage) noexcept;
[[noreturn]] SOLVENT_API void throw_empty_handle();

}  // namespace detail

/// A handle to a strided array of at most eight axes. Copies of a handle share the values, which never change.
class SOLVENT_API Tensor {
 public:
  /// The empty handle; only `defined()` and assignment are allowed on it.
  constexpr Tensor() noexcept = default;
  /// Copies share the values (no data is copied); a handle that was moved from is empty.
  /// @{
  Tensor(const Tensor& o) noexcept : impl_(o.impl_) {
    if (impl_) impl_->refs.fetch_add(1, std::memory_order_relaxed);
  }
  Tensor(Tensor&& o) noexcept : impl_(std::exchange(o.impl_, nullptr)) {}
  Tensor& operator=(const Tensor& o) noexcept {
    Tensor(o).swap(*this);
    return *this;
  }
  Tensor& operator=(Tensor&& o) noexcept {
    if (this != &o) {
      reset();
      impl_ = std::exchange(o.impl_, nullptr);
    }
    return *this;
  }
  /// @}
  /// Frees the values with the last handle.
  ~Tensor() { reset(); }

  /// Exchanges two handles.
  void swap(Tensor& o) noexcept { std::swap(impl_, o.impl_); }
  /// Makes the handle empty.
  void reset() noexcept {
    if (impl_ && detail::drop_reference(impl_->refs)) detail::release(impl_);
    impl_ = nullptr;
  }
  /// False for the empty handle.
  [[nodiscard]] bool defined() const noexcept { return impl_ != nullptr; }

  // --- metadata -----------------------------------------------------------------------------------------------------
  /// Extents of the axes; () for a 0-d tensor. Like all metadata, an Error on the empty handle.
  [[nodiscard]] const Shape& shape() const { return get()->shape; }
  /// In elements.
  [[nodiscard]] const Strides& strides() const { return get()->strides; }
  /// Number of axes.
  [[nodiscard]] int rank() const { return get()->shape.rank(); }
  /// Extent of one axis; negative axes count from the right. @throws ShapeError
  [[nodiscard]] std::int64_t size(std::int64_t axis) const { return get()->shape.at(axis); }
  /// Number of elements, 1 for a 0-d tensor.
  [[nodiscard]] std::int64_t numel() const { return get()->shape.product(); }
  /// Element type.
  [[nodiscard]] DType dtype() const { return get()->dtype; }
  /// Where the values live.
  [[nodiscard]] Device device() const { return get()->device; }
  /// True if elements lie in row-major order without gaps.
  [[nodiscard]] bool is_contiguous() const;

  // --- host access (copies from the device if needed; never differentiable) --------------------------------------------
  /// The value of a one-element tensor, converted to double. @throws ShapeError
  [[nodiscard]] double item() const;
  /// All elements in row-major order. T must be the tensor's element type. @throws DtypeError
  template <class T>
  [[nodiscard]] std::vector<T> to_vector() const;
  /// Read-only pointer to the elements of a contiguous CPU tensor. @throws DtypeError, DeviceError, ShapeError
  template <class T>
  [[nodiscard]] const T* data() const;

  /// For the library itself.
  [[nodiscard]] detail::TensorImpl* impl() const noexcept { return impl_; }
  /// Takes over one reference.
  static Tensor adopt(detail::TensorImpl* impl) noexcept {
    Tensor t;
    t.impl_ = impl;
    return t;
  }

 private:
  [[nodiscard]] detail::TensorImpl* get() const {
    if (!impl_) [[unlikely]]
      detail::throw_empty_handle();
    return impl_;
  }
  detail::TensorImpl* impl_ = nullptr;
};

/// A list of tensors: parameters, gradients, arguments of transforms.
using Tensors = std::vector<Tensor>;

// --- factories ----------------------------------------------------------------------------------------------------------

/// How to make a tensor: `zeros({2, 3}, {.dtype = float64})`, or just `zeros({2, 3}, float64)`.
struct TensorOptions {
  DType dtype = DType::float32;  ///< element type
  Device device = {};            ///< where to make it
  constexpr TensorOptions() = default;
  /// So that a DType can stand for options.
  constexpr TensorOptions(DType d, Device dev = {}) : dtype(d), device(dev) {}  // NOLINT: implicit by design
};

/// All elements equal to `value` (rounded to the dtype).
SOLVENT_API Tensor full(const Shape& shape, double value, TensorOptions options = {});
/// All elements 0, or 1.
/// @{
SOLVENT_API Tensor zeros(const Shape& shape, TensorOptions options = {});
SOLVENT_API Tensor ones(const Shape& shape, TensorOptions options = {});
/// @}
/// Zeros or ones with the shape, dtype and device of `like`.
/// @{
SOLVENT_API Tensor zeros_like(const Tensor& like);
SOLVENT_API Tensor ones_like(const Tensor& like);
/// @}
/// A 0-d tensor.
SOLVENT_API Tensor scalar(double value, TensorOptions options = {});
/// start, start + step, ... (< stop for positive step). @throws ValueError if step is 0 or points away from stop.
SOLVENT_API Tensor arange(double start, double stop, double step = 1.0, TensorOptions options = DType::int64);
/// n values from first to last inclusive.
SOLVENT_API Tensor linspace(double first, double last, std::int64_t n, TensorOptions options = {});
/// Identity matrix (n, n).
SOLVENT_API Tensor eye(std::int64_t n, TensorOptions options = {});
/// Copies host values in row-major order. @throws ShapeError unless values.size() is the number of elements.
template <class T>
[[nodiscard]] Tensor from_vector(const std::vector<T>& values, const Shape& shape, Device device = {});
/// Copies `values` (any size) from a pointer.
template <class T>
[[nodiscard]] Tensor from_data(const T* values, const Shape& shape, Device device = {});
/// Literals for examples and tests: tensor({1, 2, 3}), tensor({{1, 2}, {3, 4}}, float64). @throws ShapeError for rows of
/// different lengths.
/// @{
SOLVENT_API Tensor tensor(std::initializer_list<double> values, TensorOptions options = {});
SOLVENT_API Tensor tensor(std::initializer_list<std::initializer_list<double>> rows, TensorOptions options = {});
/// @}

// --- printing ------------------------------------------------------------------------------------------------------------

/// Values with at most `max_per_axis` entries per axis (the middle is elided), shape and dtype.
SOLVENT_API std::string to_string(const Tensor& t, int precision = 5, int max_per_axis = 6);
/// Prints `to_string(t)`.
SOLVENT_API std::ostream& operator<<(std::ostream& os, const Tensor& t);
/// "float32(2, 3)": for error messages.
SOLVENT_API std::string describe(const Tensor& t);

}  // namespace solvent
