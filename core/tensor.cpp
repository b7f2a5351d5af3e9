#include "solvent/core/tensor.h"

#include <cmath>
#include <cstring>
#include <limits>

#include <fmt/format.h>

#include "solvent/core/engine/storage.h"
#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/core/host_access.h"
#include "solvent/core/parallel.h"

#if SOLVENT_WITH_CUDA
#include "solvent/core/cuda/basic.h"
#include "solvent/core/cuda/runtime.h"
#endif

namespace solvent {
namespace detail {

void release(Storage* storage) noexcept {
  const std::size_t bytes = storage->bytes;
  const Device device = storage->device;
  void* const data = storage->data;
  storage->~Storage();
  if (data == reinterpret_cast<std::byte*>(storage) + kEmbeddedOffset) {
    deallocate(storage, kEmbeddedOffset + bytes, device);
  } else {
    deallocate(data, bytes, device);
    deallocate_body(storage, sizeof(Storage));
  }
}

void release(TensorImpl* impl) noexcept {
  if (impl->ad) impl->ad->destroy(impl->ad);
  Storage* storage = impl->storage;
  if (storage && drop_reference(storage->refs)) release(storage);
  impl->~TensorImpl();
  deallocate_body(impl, sizeof(TensorImpl));
}

void throw_empty_handle() {
  throw Error("[tensor] got an empty handle (Tensor{} or moved from); expected a tensor. Check defined() first.");
}

}  // namespace detail

namespace {

constexpr std::int64_t kFillGrain = 1 << 17;

// Host access works on any view, boxed or not: derivative information says nothing about values.
void require_host_data(const char* op, const Tensor& t) {
  if (!t.defined()) detail::throw_empty_handle();
  if (!t.impl()->storage)
    throw Error(fmt::format("[{}] got a tensor that remembers only its shape {}; expected one with data.", op,
                            to_string(t.shape())));
}

// On the CPU; data() hands out pointers, and a pointer to a copy would dangle.
void require_on_host(const char* op, const Tensor& t) {
  if (t.device() != cpu_device)
    throw DeviceError(fmt::format("[{}] got a tensor on {}; expected one on cpu. Copy it with to(x, cpu_device).", op,
                                  to_string(t.device())));
}

template <class T>
const T* host_ptr(const Tensor& t) noexcept {
  return static_cast<const T*>(t.impl()->storage->data) + t.impl()->offset;
}

template <class T>
void require_dtype(const char* op, const Tensor& t) {
  if (t.dtype() != dtype_of<T>)
    throw DtypeError(
        fmt::format("[{}] got a {} tensor but was asked for {} elements; expected the tensor's own element "
                    "type. Convert with cast(x, {}) first.",
                    op, to_string(t.dtype()), to_string(dtype_of<T>), to_string(dtype_of<T>)));
}

template <class T>
T convert(const char* op, double value, DType dtype) {
  if constexpr (std::is_floating_point_v<T> || std::is_same_v<T, BFloat16>) {
    return static_cast<T>(value);
  } else if constexpr (std::is_same_v<T, bool>) {
    return value != 0;
  } else {
    const double rounded = std::nearbyint(value);
    // -2^63 is a double, 2^63 - 1 is not: compare with the first value that does not fit.
    constexpr double kEnd = std::is_same_v<T, std::int64_t> ? 0x1p63 : 256.0;
    constexpr double kBegin = std::is_same_v<T, std::int64_t> ? -0x1p63 : 0.0;
    if (!(rounded >= kBegin && rounded < kEnd))
      throw ValueError(fmt::format("[{}] got {} for dtype {}; expected a value in its range. Use float64.", op, value,
                                   to_string(dtype)));
    return static_cast<T>(rounded);
  }
}

template <class T>
void fill(Tensor& t, T value) {
#if SOLVENT_WITH_CUDA
  if (t.device() != cpu_device) return cuda::fill(t, static_cast<double>(value));
#endif
  T* p = engine::mutable_ptr<T>(t);
  parallel_for(t.numel(), kFillGrain,
               [=](std::int64_t begin, std::int64_t end) { std::fill(p + begin, p + end, value); });
}

// Element i of the result is value(i), a double.
template <class F>
Tensor generate(const char* op, const Shape& shape, const TensorOptions& options, F&& value) {
  detail::require_device(op, options.device);
  Tensor t = engine::empty(shape, options.dtype);
  dispatch_all(options.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* p = engine::mutable_ptr<T>(t);
    const std::int64_t n = t.numel();
    for (std::int64_t i = 0; i < n; ++i) p[i] = convert<T>(op, value(i), options.dtype);
  });
  return engine::copy_to(t, options.device);
}

void require_whole(const char* op, DType dtype, double value) {
  if (!is_floating(dtype) && value != std::nearbyint(value))
    throw ValueError(fmt::format("[{}] got {} for dtype {}; expected whole numbers. Pass float32 or float64.", op,
                                 value, to_string(dtype)));
}

}  // namespace

namespace detail {

Tensor host_contiguous(const char* op, const Tensor& t) {
  require_host_data(op, t);
  if (t.is_contiguous() && t.device() == cpu_device) return t;
  const Tensor dense = engine::contiguous(engine::is_boxed(t) ? engine::with_box(t, nullptr) : t);
  return engine::copy_to(dense, cpu_device);
}

}  // namespace detail

// --- Tensor ---------------------------------------------------------------------------------------------------------

bool Tensor::is_contiguous() const {
  const detail::TensorImpl& impl = *get();
  std::int64_t expected = 1;
  for (int i = impl.shape.rank() - 1; i >= 0; --i) {
    const std::int64_t extent = impl.shape[i];
    if (extent == 0) return true;
    if (extent != 1 && impl.strides[i] != expected) {
      // An axis of extent 0 further out makes the tensor empty, hence contiguous.
      return impl.shape.product() == 0;
    }
    expected *= extent;
  }
  return true;
}

double Tensor::item() const {
  if (numel() != 1)
    throw ShapeError(
        fmt::format("[item] got shape {} with {} elements; expected one element. Use to_vector, or reduce "
                    "first.",
                    to_string(shape()), numel()));
  const Tensor host = detail::host_contiguous("item", *this);
  return dispatch_all(dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    return static_cast<double>(*host_ptr<T>(host));
  });
}

template <class T>
std::vector<T> Tensor::to_vector() const {
  require_dtype<T>("to_vector", *this);
  const Tensor dense = detail::host_contiguous("to_vector", *this);
  const T* p = host_ptr<T>(dense);
  return std::vector<T>(p, p + numel());
}

template <class T>
const T* Tensor::data() const {
  require_dtype<T>("data", *this);
  require_host_data("data", *this);
  require_on_host("data", *this);
  if (!is_contiguous())
    throw ShapeError(
        fmt::format("[data] got a tensor of shape {} with strides {}; expected a contiguous one. Use "
                    "contiguous(x), and keep it alive while the pointer is used.",
                    to_string(shape()), to_string(strides())));
  return host_ptr<T>(*this);
}

// --- factories ------------------------------------------------------------------------------------------------------

Tensor full(const Shape& shape, double value, TensorOptions options) {
  detail::require_device("full", options.device);
  Tensor t = engine::empty(shape, options.dtype, options.device);
  dispatch_all(options.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    fill<T>(t, convert<T>("full", value, options.dtype));
  });
  return t;
}

Tensor zeros(const Shape& shape, TensorOptions options) { return full(shape, 0.0, options); }

Tensor ones(const Shape& shape, TensorOptions options) { return full(shape, 1.0, options); }

Tensor zeros_like(const Tensor& like) { return full(like.shape(), 0.0, {like.dtype(), like.device()}); }

Tensor ones_like(const Tensor& like) { return full(like.shape(), 1.0, {like.dtype(), like.device()}); }

Tensor scalar(double value, TensorOptions options) { return full({}, value, options); }

Tensor arange(double start, double stop, double step, TensorOptions options) {
  if (!std::isfinite(start) || !std::isfinite(stop) || !std::isfinite(step) || step == 0 || (stop - start) / step < 0)
    throw ValueError(
        fmt::format("[arange] got start {}, stop {}, step {}; expected finite numbers and a step that is not "
                    "0 and points from start to stop.",
                    start, stop, step));
  require_whole("arange", options.dtype, start);
  require_whole("arange", options.dtype, step);
  const double count = std::ceil((stop - start) / step);
  if (count > 0x1p53) throw ValueError(fmt::format("[arange] got {} elements; expected at most 2^53.", count));
  return generate("arange", {static_cast<std::int64_t>(count)}, options,
                  [=](std::int64_t i) { return start + static_cast<double>(i) * step; });
}

Tensor linspace(double first, double last, std::int64_t n, TensorOptions options) {
  if (n < 0) throw ValueError(fmt::format("[linspace] got n = {}; expected the number of values, at least 0.", n));
  if (!is_floating(options.dtype)) detail::throw_not_floating("linspace", options.dtype);
  const double step = n > 1 ? (last - first) / static_cast<double>(n - 1) : 0.0;
  return generate("linspace", {n}, options, [=](std::int64_t i) {
    // The last value is exact; no accumulation in between.
    return i == n - 1 && n > 1 ? last : first + static_cast<double>(i) * step;
  });
}

Tensor eye(std::int64_t n, TensorOptions options) {
  detail::require_device("eye", options.device);
  Tensor t = zeros({n, n}, options);
  Tensor diagonal = engine::view(t, {n}, {n + 1}, 0);
  engine::copy_into(ones({n}, options), diagonal);
  return t;
}

template <class T>
Tensor from_data(const T* values, const Shape& shape, Device device) {
  detail::require_device("from_data", device);
  Tensor t = engine::empty(shape, dtype_of<T>);
  const std::int64_t n = t.numel();
  if (n > 0) std::memcpy(engine::mutable_ptr<T>(t), values, static_cast<std::size_t>(n) * sizeof(T));
  return engine::copy_to(t, device);
}

template <class T>
Tensor from_vector(const std::vector<T>& values, const Shape& shape, Device device) {
  detail::require_device("from_vector", device);
  // Compared before allocating; an overflowing product is found by engine::empty.
  Tensor t = engine::empty(shape, dtype_of<T>);
  if (static_cast<std::int64_t>(values.size()) != t.numel())
    throw ShapeError(fmt::format("[from_vector] got {} values and shape {}; expected {} values.", values.size(),
                                 to_string(shape), t.numel()));
  std::copy(values.begin(), values.end(), engine::mutable_ptr<T>(t));  // not memcpy: std::vector<bool> is packed
  return engine::copy_to(t, device);
}

Tensor tensor(std::initializer_list<double> values, TensorOptions options) {
  return generate("tensor", {static_cast<std::int64_t>(values.size())}, options,
                  [&](std::int64_t i) { return values.begin()[i]; });
}

Tensor tensor(std::initializer_list<std::initializer_list<double>> rows, TensorOptions options) {
  const std::size_t columns = rows.size() == 0 ? 0 : rows.begin()->size();
  for (const auto& row : rows)
    if (row.size() != columns)
      throw ShapeError(
          fmt::format("[tensor] got rows of {} and {} values; expected rows of equal length.", columns, row.size()));
  const auto width = static_cast<std::int64_t>(columns);
  return generate("tensor", {static_cast<std::int64_t>(rows.size()), width}, options,
                  [&](std::int64_t i) { return rows.begin()[i / width].begin()[i % width]; });
}

#define SOLVENT_INSTANTIATE(T)                                              \
  template SOLVENT_API std::vector<T> Tensor::to_vector<T>() const;         \
  template SOLVENT_API const T* Tensor::data<T>() const;                    \
  template SOLVENT_API Tensor from_data<T>(const T*, const Shape&, Device); \
  template SOLVENT_API Tensor from_vector<T>(const std::vector<T>&, const Shape&, Device);
SOLVENT_INSTANTIATE(float)
SOLVENT_INSTANTIATE(double)
SOLVENT_INSTANTIATE(std::int64_t)
SOLVENT_INSTANTIATE(bool)
SOLVENT_INSTANTIATE(std::uint8_t)
SOLVENT_INSTANTIATE(BFloat16)
#undef SOLVENT_INSTANTIATE

}  // namespace solvent
