// The exponential and phi1 of batches: memory, strides and threads around the kernels of exponential_core.cpp.

#include <algorithm>
#include <vector>

#include "solvent/core/engine/view.h"
#include "solvent/ops/cpu/exponential_kernels.h"
#include "solvent/ops/cpu/matrix_batch.h"

namespace solvent::cpu {
namespace {

// Up to this size matrices go side by side into lanes (tests/bench/factor_bench.cpp).
constexpr std::int64_t kSmallMatrix = 24;

// Tangents that one call of a kernel carries: the working memory of a task should stay in cache.
std::int64_t directions_at_once(std::int64_t n, std::int64_t directions) {
  return std::min(directions, std::clamp<std::int64_t>(512 / (n * n), 1, 8));
}

// `count` matrices a with `directions` matrices e each (none: the function itself) in dense memory.
template <class T>
struct Problem {
  MatrixFn fn;
  std::int64_t n;
  std::int64_t count;
  std::int64_t directions;
  const T* a;
  const T* e;
  T* out;

  // Matrix i with the directions from `first`.
  [[nodiscard]] ExponentialTask<T> task(std::int64_t i, std::int64_t first) const {
    const std::int64_t at = (i * std::max<std::int64_t>(directions, 1) + first) * n * n;
    return {a + i * n * n, directions > 0 ? e + at : nullptr, out + at};
  }
};

// Working memory of a task, in elements; pivots are kept apart.
template <class T>
std::int64_t work_size(std::int64_t n, std::int64_t at_once) {
  const std::int64_t width = n <= kSmallMatrix ? exponential_kernels(T{}).lanes : 1;
  return kExponentialBuffers * (1 + at_once) * n * n * width;
}

// Matrices [first, last) with directions [from, from + at_once).
template <class T>
void run_group(const Problem<T>& p, std::int64_t first, std::int64_t last, std::int64_t from, std::int64_t at_once,
               std::int64_t* pivots, T* work) {
  constexpr std::int64_t kMostLanes = 64;
  const ExponentialKernels<T>& kernels = exponential_kernels(T{});
  ExponentialTask<T> tasks[kMostLanes];
  bool redo[kMostLanes];
  for (std::int64_t i = first; i < last; ++i) {
    tasks[i - first] = p.task(i, from);
    redo[i - first] = true;
  }
  if (p.n <= kSmallMatrix) kernels.small(p.fn, p.n, at_once, tasks, last - first, redo, work);
  for (std::int64_t i = 0; i < last - first; ++i)
    if (redo[i]) kernels.large(p.fn, p.n, at_once, tasks[i], pivots, work);
}

template <class T>
void run(const Problem<T>& p, Device device) {
  const std::int64_t at_once = directions_at_once(p.n, p.directions);
  const std::int64_t width = p.n <= kSmallMatrix ? exponential_kernels(T{}).lanes : 1;
  const std::int64_t groups = (p.count + width - 1) / width;
  const Tasks tasks(groups, 40 * (1 + p.directions) * width * p.n * p.n * p.n);
  const std::int64_t each = work_size<T>(p.n, at_once);
  Tensor work_memory = engine::empty({tasks.number, each}, dtype_of<T>, device);
  Tensor pivot_memory = engine::empty({tasks.number, p.n}, DType::int64, device);
  T* work = engine::mutable_ptr<T>(work_memory);
  auto* pivots = engine::mutable_ptr<std::int64_t>(pivot_memory);
  tasks.run([=, &p](std::int64_t task, std::int64_t group) {
    const std::int64_t first = group * width;
    const std::int64_t last = std::min(first + width, p.count);
    std::int64_t from = 0;
    do {
      const std::int64_t directions = std::min(at_once, p.directions - from);
      run_group(p, first, last, from, directions, pivots + task * p.n, work + task * each);
      from += directions;
    } while (from < p.directions);
  });
}

}  // namespace

ExponentialOrder order_axes(const Tensor& a, const Tensor& e) {
  const int lead = a.rank() - 2;
  const auto repeats = [&a](int axis) { return a.strides()[axis] == 0 && a.shape()[axis] > 1; };
  Shape a_shape;
  Strides a_strides;
  ExponentialOrder order;
  for (int axis = 0; axis < a.rank(); ++axis)
    if (axis >= lead || !repeats(axis)) {
      a_shape.push_back(a.shape()[axis]);
      a_strides.push_back(a.strides()[axis]);
      if (axis < lead) order.axes.push_back(axis);
    }
  for (int axis = 0; axis < lead; ++axis)
    if (repeats(axis)) order.axes.push_back(axis);
  order.axes.push_back(lead);
  order.axes.push_back(lead + 1);
  Shape e_shape;
  Strides e_strides;
  for (int i = 0; i < order.axes.rank(); ++i) {
    e_shape.push_back(e.shape()[static_cast<int>(order.axes[i])]);
    e_strides.push_back(e.strides()[static_cast<int>(order.axes[i])]);
  }
  order.a = engine::contiguous(engine::view(a, a_shape, a_strides, a.impl()->offset));
  order.e = engine::contiguous(engine::view(e, e_shape, e_strides, e.impl()->offset));
  return order;
}

Tensor restore_axes(const ExponentialOrder& order, const Tensor& out, const Shape& shape) {
  Strides strides = Dims::filled(shape.rank(), 0);
  for (int i = 0; i < order.axes.rank(); ++i) strides[static_cast<int>(order.axes[i])] = out.strides()[i];
  return engine::view(out, shape, strides, 0);
}

Tensor matrix_function(MatrixFn fn, const Tensor& a) {
  Tensor out = engine::empty(a.shape(), a.dtype(), a.device());
  if (a.numel() == 0) return out;
  const Tensor dense = engine::contiguous(a);
  dispatch_float(a.dtype(), "expm", [&](auto tag) {
    using T = typename decltype(tag)::type;
    run(Problem<T>{fn, a.size(-1), matrix_count(a), 0, engine::ptr<T>(dense), nullptr, engine::mutable_ptr<T>(out)},
        a.device());
  });
  return out;
}

Tensor matrix_function_derivative(MatrixFn fn, const Tensor& a, const Tensor& e) {
  if (e.numel() == 0) return engine::empty(e.shape(), e.dtype(), e.device());
  const ExponentialOrder order = order_axes(a, e);
  Tensor out = engine::empty(order.e.shape(), e.dtype(), e.device());
  const std::int64_t count = matrix_count(order.a);
  dispatch_float(e.dtype(), "expm", [&](auto tag) {
    using T = typename decltype(tag)::type;
    run(Problem<T>{fn, e.size(-1), count, matrix_count(e) / count, engine::ptr<T>(order.a), engine::ptr<T>(order.e),
                   engine::mutable_ptr<T>(out)},
        e.device());
  });
  return restore_axes(order, out, e.shape());
}

}  // namespace solvent::cpu
