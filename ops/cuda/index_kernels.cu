// Gather, one_hot and the check of indices on a GPU. Bound by memory: one read of x and index and one write per element. Rows
// that share an index (index_select, embedding) are moved in units of up to 16 bytes.

#include "solvent/ops/cuda/index_kernels.h"

#include <cstdint>

#include "solvent/core/cuda/graph.h"
#include "solvent/core/cuda/launch.h"
#include "solvent/core/error.h"
#include "solvent/ops/cuda/moving.h"

namespace solvent::cuda {
namespace {

using Int = std::int64_t;

// --- check ----------------------------------------------------------------------------------------------------------------

// *first becomes the smallest position of an index outside of [0, bound), and stays as it is if there is none.
__global__ void check_kernel(const Int* index, StridedIndex<1> where, std::int64_t n, std::uint64_t bound,
                             unsigned long long* first) {
  for (std::int64_t i = global_thread(); i < n; i += grid_threads()) {
    std::int64_t offset[1];
    where.locate(i, offset);
    if (static_cast<std::uint64_t>(index[offset[0]]) < bound) continue;
    atomicMin(first, static_cast<unsigned long long>(i));
    return;  // the thread's later positions are larger
  }
}

// --- gather ---------------------------------------------------------------------------------------------------------------

// Operands of `where`: index, x without the indexed axis.
template <class U>
__global__ void gather_kernel(const U* x, const Int* index, std::int64_t axis_stride, StridedIndex<2> where, U* out,
                              std::int64_t n) {
  for (std::int64_t i = global_thread(); i < n; i += grid_threads()) {
    std::int64_t offset[2];
    where.locate(i, offset);
    out[i] = x[offset[1] + index[offset[0]] * axis_stride];
  }
}

// The merged axes of a gather as shape and strides again.
struct GatherAxes {
  Shape shape;
  Strides index, x;

  GatherAxes(const Tensor& out, const Tensor& index_tensor, const Strides& x_strides) {
    const Strides* const strides[] = {&out.strides(), &index_tensor.strides(), &x_strides};
    const engine::Loops loops = engine::merge_axes(out.shape(), strides, 3);
    for (int axis = 0; axis < loops.rank; ++axis) {
      shape.push_back(loops.extent[axis]);
      index.push_back(loops.stride[1][axis]);
      x.push_back(loops.stride[2][axis]);
    }
  }

  // True if the last axis is a run of neighbours in x under one index.
  [[nodiscard]] bool has_rows() const { return shape.rank() > 0 && index.back() == 0 && x.back() == 1; }

  // Everything that must be a multiple of a unit for rows to consist of units.
  [[nodiscard]] std::uint64_t bits(std::int64_t element) const {
    if (!has_rows()) return static_cast<std::uint64_t>(element);
    auto all = static_cast<std::uint64_t>(shape.back() * element);
    for (int axis = 0; axis + 1 < shape.rank(); ++axis) all |= static_cast<std::uint64_t>(x[axis] * element);
    return all;
  }

  void use_units(std::int64_t per_unit) {
    if (per_unit == 1) return;
    shape[shape.rank() - 1] /= per_unit;
    for (int axis = 0; axis + 1 < shape.rank(); ++axis) x[axis] /= per_unit;
  }
};

// --- one_hot --------------------------------------------------------------------------------------------------------------

template <class T>
__global__ void one_hot_kernel(const Int* index, StridedIndex<1> where, Division classes, T* out, std::int64_t n) {
  for (std::int64_t i = global_thread(); i < n; i += grid_threads()) {
    std::int64_t row, column, offset[1];
    classes.split(i, row, column);
    where.locate(row, offset);
    out[i] = index[offset[0]] == column ? T(1) : T(0);
  }
}

}  // namespace

Tensor gather(const Tensor& x, const Tensor& index, int axis) {
  Tensor out = engine::empty(index.shape(), x.dtype(), x.device());
  if (out.numel() == 0) return out;
  Strides x_strides = x.strides();
  const std::int64_t axis_stride = x_strides[axis];
  x_strides[axis] = 0;  // the index decides the position
  GatherAxes axes(out, index, x_strides);
  const auto element = static_cast<std::int64_t>(size_of(x.dtype()));
  const std::uint64_t bits = axes.bits(element) | static_cast<std::uint64_t>(axis_stride * element) |
                             address_bits(first_byte(x)) | address_bits(first_byte(out));
  dispatch_unit(widest_unit(bits), [&](auto tag) {
    using U = typename decltype(tag)::type;
    const std::int64_t per_unit = static_cast<std::int64_t>(sizeof(U)) / element;
    axes.use_units(per_unit);
    const Strides* const strides[] = {&axes.index, &axes.x};
    const std::int64_t n = out.numel() / per_unit;
    launch(over_elements("gather", n, x.device()), gather_kernel<U>, reinterpret_cast<const U*>(first_byte(x)),
           engine::ptr<Int>(index), axis_stride / per_unit, StridedIndex<2>(axes.shape, strides),
           reinterpret_cast<U*>(const_cast<std::byte*>(first_byte(out))), n);
  });
  return out;
}

Tensor one_hot(const Tensor& index, std::int64_t classes, DType dtype) {
  Shape shape = index.shape();
  shape.push_back(classes);
  Tensor out = engine::empty(shape, dtype, index.device());
  const std::int64_t n = out.numel();
  if (n == 0) return out;
  const Strides* const strides[] = {&index.strides()};
  dispatch_float(dtype, "one_hot", [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch(over_elements("one_hot", n, index.device()), one_hot_kernel<T>, engine::ptr<Int>(index),
           StridedIndex<1>(index.shape(), strides), Division(classes, n), engine::mutable_ptr<T>(out), n);
  });
  return out;
}

cpu::BadIndex find_bad_index(const Tensor& index, std::int64_t size) {
  if (index.numel() == 0) return {};
  Shape shape = index.shape();
  for (int axis = 0; axis < shape.rank(); ++axis)
    if (index.strides()[axis] == 0) shape[axis] = 1;
  const Device device = index.device();
  if (is_recording(current_stream(device)))
    throw DeviceError(
        "[graph] the recorded function checks indices (gather, scatter_add, embedding, one_hot), for which the host "
        "must "
        "wait; run it without recording.");
  Tensor flag = engine::empty({1}, DType::int64, device);
  Int* const word = engine::mutable_ptr<Int>(flag);
  set_bytes(word, 0xff, sizeof(Int), device);
  const Int* const p = engine::ptr<Int>(index);
  const Strides* const strides[] = {&index.strides()};
  const std::int64_t n = shape.product();
  launch(over_elements("check of indices", n, device), check_kernel, p, StridedIndex<1>(shape, strides), n,
         static_cast<std::uint64_t>(size), reinterpret_cast<unsigned long long*>(word));
  Int first = -1;
  copy_to_host(&first, word, sizeof(first), device);
  if (first == -1) return {};
  std::int64_t offset = 0;
  std::int64_t walk = first;
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    offset += walk % shape[axis] * index.strides()[axis];
    walk /= shape[axis];
  }
  cpu::BadIndex bad;
  bad.position = cpu::position_in_whole(shape, index.shape(), first);
  copy_to_host(&bad.value, p + offset, sizeof(bad.value), device);
  return bad;
}

}  // namespace solvent::cuda
