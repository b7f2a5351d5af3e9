// Gather, one_hot and the check of indices on a GPU. Bound by memory: one read of x and index and one write per element. Rows
// that share an index (index_select, embedding) are moved in units of up to 16 bytes.

#include "solvent/ops/cuda/index_kernels.h"

#include <cstdint>
#include <utility>

#include "solvent/core/cuda/launch.h"
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

// The same, with a copy of the indices that has 0 in place of those outside.
__global__ void check_copy_kernel(const Int* index, StridedIndex<1> where, std::int64_t n, std::uint64_t bound,
                                  unsigned long long* first, Int* safe) {
  bool is_first = true;
  for (std::int64_t i = global_thread(); i < n; i += grid_threads()) {
    std::int64_t offset[1];
    where.locate(i, offset);
    const Int value = index[offset[0]];
    const bool is_good = static_cast<std::uint64_t>(value) < bound;
    safe[i] = is_good ? value : 0;
    if (is_good || !is_first) continue;
    atomicMin(first, static_cast<unsigned long long>(i));
    is_first = false;
  }
}

struct Smaller {
  __device__ Int operator()(Int a, Int b) const { return a < b ? a : b; }
};

// The same for few indices, by one block, which writes the report itself. `safe` may be null.
__global__ void check_few_kernel(const Int* index, StridedIndex<1> where, Int n, std::uint64_t bound, Int* safe,
                                 Int number, Int* report) {
  Int first = n;
  for (Int i = threadIdx.x; i < n; i += blockDim.x) {
    std::int64_t offset[1];
    where.locate(i, offset);
    const Int value = index[offset[0]];
    const bool is_good = static_cast<std::uint64_t>(value) < bound;
    if (safe != nullptr) safe[i] = is_good ? value : 0;
    if (!is_good && i < first) first = i;
  }
  first = block_fold(first, n, Smaller{});
  if (threadIdx.x != 0 || first == n || report[0] >= 0) return;
  std::int64_t offset[1];
  where.locate(first, offset);
  report[0] = number;
  report[1] = first;
  report[2] = index[offset[0]];
}

// What the kernels above found becomes the report, unless there is one. One thread.
__global__ void report_kernel(const Int* index, StridedIndex<1> where, const unsigned long long* first, Int number,
                              Int* report) {
  const auto position = static_cast<Int>(*first);
  if (position < 0 || report[0] >= 0) return;
  std::int64_t offset[1];
  where.locate(position, offset);
  report[0] = number;
  report[1] = position;
  report[2] = index[offset[0]];
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

namespace {

// The elements of an index that differ in memory: axes of stride 0 once.
struct Distinct {
  Shape shape;
  std::int64_t n;
  StridedIndex<1> where;

  explicit Distinct(const Tensor& index) : Distinct(index, distinct_shape(index)) {}

 private:
  Distinct(const Tensor& index, const Shape& distinct)
      : shape(distinct), n(distinct.product()), where(located(distinct, index.strides())) {}
  static Shape distinct_shape(const Tensor& index) {
    Shape shape = index.shape();
    for (int axis = 0; axis < shape.rank(); ++axis)
      if (index.strides()[axis] == 0) shape[axis] = 1;
    return shape;
  }
  static StridedIndex<1> located(const Shape& shape, const Strides& own) {
    const Strides* const strides[] = {&own};
    return StridedIndex<1>(shape, strides);
  }
};

// So few that one block is faster than three launches.
constexpr std::int64_t kFewIndices = 4096;

// The checked elements as a tensor of the index's shape.
Tensor in_place_of(const Tensor& index, const Tensor& safe) {
  Strides strides = safe.strides();
  for (int axis = 0; axis < strides.rank(); ++axis)
    if (index.strides()[axis] == 0) strides[axis] = 0;
  return engine::view(safe, index.shape(), strides, 0);
}

}  // namespace

Tensor check_index(const Tensor& index, std::int64_t size, bool make_safe, Raise raise) {
  if (index.numel() == 0) return index;
  const Device device = index.device();
  const Int* const p = engine::ptr<Int>(index);
  if (size == 0) {  // nothing can stand in for an index, so no kernel may run
    Int value = 0;
    copy_to_host(&value, p, sizeof(value), device);
    raise(value, 0);
  }
  const Distinct distinct(index);
  const auto bound = static_cast<std::uint64_t>(size);
  Tensor safe = make_safe ? engine::empty(distinct.shape, DType::int64, device) : Tensor();
  const auto launch_check = [&](const Report& report) {
    if (distinct.n <= kFewIndices)
      return launch(over_blocks("check of indices", 1, device, distinct.n <= kThreads ? kThreads : 1024),
                    check_few_kernel, p, distinct.where, distinct.n, bound,
                    make_safe ? engine::mutable_ptr<Int>(safe) : nullptr, report.number, report.first);
    Tensor flag = engine::empty({1}, DType::int64, device);
    auto* const first = reinterpret_cast<unsigned long long*>(engine::mutable_ptr<Int>(flag));
    set_bytes(first, 0xff, sizeof(Int), device);
    Launch where = over_elements("check of indices", distinct.n, device);
    if (make_safe) {
      launch(where, check_copy_kernel, p, distinct.where, distinct.n, bound, first, engine::mutable_ptr<Int>(safe));
    } else {
      launch(where, check_kernel, p, distinct.where, distinct.n, bound, first);
    }
    where.grid = where.block = dim3(1);
    launch(where, report_kernel, p, distinct.where, first, report.number, report.first);
  };
  const auto raise_whole = [raise = std::move(raise), walked = distinct.shape, whole = index.shape()](
                               std::int64_t value, std::int64_t walk) {
    raise(value, cpu::position_in_whole(walked, whole, walk));
  };
  add_check(device, raise_whole, launch_check);
  return make_safe ? in_place_of(index, safe) : index;
}

}  // namespace solvent::cuda
