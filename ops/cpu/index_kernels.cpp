// Gather, scatter_add and one_hot on the CPU.
//
// All walk the index space in runs along the innermost axis (after merging axes that all operands allow to merge). When
// the index does not change along a run, as in index_select of rows, the run is a plain copy or vector addition.
// gather: parallel over runs, one read of x and index and one write per element. scatter_add: see the header; lines are
// the positions without the indexed axis, in segments so that one thread works on neighbouring memory.

#include "solvent/ops/cpu/index_kernels.h"

#include <algorithm>
#include <cstring>

#include "solvent/core/engine/iterate.h"
#include "solvent/core/engine/view.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/widen.h"

namespace solvent::cpu {
namespace {

constexpr std::int64_t kGrain = 1 << 15;  // elements per task

template <class T>
void gather_run(std::int64_t count, const T* x, std::int64_t x_stride, std::int64_t axis_stride,
                const std::int64_t* index, std::int64_t index_stride, T* out) {
  if (index_stride == 0) {
    const T* row = x + *index * axis_stride;
    if (x_stride == 1) {
      std::memcpy(out, row, static_cast<std::size_t>(count) * sizeof(T));
    } else {
      for (std::int64_t i = 0; i < count; ++i) out[i] = row[i * x_stride];
    }
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) out[i] = x[i * x_stride + index[i * index_stride] * axis_stride];
}

// `lines` are the merged axes without the indexed one: operands x, index, out.
template <class T>
void scatter_lines(const engine::Loops& lines, std::int64_t begin, std::int64_t end, std::int64_t count, const T* x,
                   std::int64_t x_axis, const std::int64_t* index, std::int64_t index_axis, T* out,
                   std::int64_t out_axis) {
  const std::int64_t inner = lines.inner();
  const std::int64_t xs = lines.inner_stride(0);
  const std::int64_t is = lines.inner_stride(1);
  const std::int64_t os = lines.inner_stride(2);
  for (std::int64_t at = begin; at < end;) {
    std::int64_t offset[3];
    engine::run_offsets(lines, at / inner, 3, offset);
    const std::int64_t first = at % inner;
    const std::int64_t width = std::min(inner - first, end - at);
    const T* x_run = x + offset[0] + first * xs;
    const std::int64_t* index_run = index + offset[1] + first * is;
    T* out_run = out + offset[2] + first * os;
    for (std::int64_t j = 0; j < count; ++j) {
      const T* x_row = x_run + j * x_axis;
      const std::int64_t* index_row = index_run + j * index_axis;
      if (is == 0) {
        T* out_row = out_run + *index_row * out_axis;
        if (xs == 1 && os == 1) {
          for (std::int64_t i = 0; i < width; ++i) out_row[i] += x_row[i];
        } else {
          for (std::int64_t i = 0; i < width; ++i) out_row[i * os] += x_row[i * xs];
        }
      } else {
        for (std::int64_t i = 0; i < width; ++i) out_run[index_row[i * is] * out_axis + i * os] += x_row[i * xs];
      }
    }
    at += width;
  }
}

}  // namespace

Tensor gather(const Tensor& x, const Tensor& index, int axis) {
  Tensor out = engine::empty(index.shape(), x.dtype(), x.device());
  if (out.numel() == 0) return out;
  Strides x_strides = x.strides();
  const std::int64_t axis_stride = x_strides[axis];
  x_strides[axis] = 0;  // the index decides the position
  const Strides* strides[] = {&out.strides(), &index.strides(), &x_strides};
  const engine::Loops loops = engine::merge_axes(out.shape(), strides, 3);
  const std::int64_t* indices = engine::ptr<std::int64_t>(index);
  const std::int64_t inner = loops.inner();
  dispatch_all(x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* from = engine::ptr<T>(x);
    T* to = engine::mutable_ptr<T>(out);
    // Segments of runs, so that one long run is shared by threads as well.
    parallel_for(out.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t at = begin; at < end;) {
        std::int64_t offset[3];
        engine::run_offsets(loops, at / inner, 3, offset);
        const std::int64_t first = at % inner;
        const std::int64_t width = std::min(inner - first, end - at);
        gather_run(width, from + offset[2] + first * loops.inner_stride(2), loops.inner_stride(2), axis_stride,
                   indices + offset[1] + first * loops.inner_stride(1), loops.inner_stride(1), to + at);
        at += width;
      }
    });
  });
  return out;
}

Tensor scatter_add(const Tensor& x, const Tensor& index, int axis, std::int64_t size) {
  if (x.dtype() == bfloat16)  // sums in float32, each rounded once
    return solvent::detail::narrowed(scatter_add(solvent::detail::widened(x), index, axis, size));
  Shape shape = x.shape();
  const std::int64_t count = shape[axis];
  shape[axis] = size;
  Tensor out = engine::empty(shape, x.dtype(), x.device());
  const auto without_axis = [axis](Dims d) {
    d.erase(axis);
    return d;
  };
  const Strides x_strides = without_axis(x.strides());
  const Strides index_strides = without_axis(index.strides());
  const Strides out_strides = without_axis(out.strides());
  const Strides* strides[] = {&x_strides, &index_strides, &out_strides};
  const engine::Loops lines = engine::merge_axes(without_axis(shape), strides, 3);
  // Narrow segments would read the same rows again and again: at least four cache lines of neighbouring elements.
  const std::int64_t grain = std::max<std::int64_t>(64, kGrain / std::max<std::int64_t>(count, 1));
  const auto run = [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* to = engine::mutable_ptr<T>(out);
    std::fill(to, to + out.numel(), T(0));
    if (count == 0 || out.numel() == 0) return;
    parallel_for(lines.total, grain, [&](std::int64_t begin, std::int64_t end) {
      scatter_lines(lines, begin, end, count, engine::ptr<T>(x), x.strides()[axis], engine::ptr<std::int64_t>(index),
                    index.strides()[axis], to, out.strides()[axis]);
    });
  };
  if (x.dtype() == int64) {
    run(solvent::detail::TypeTag<std::int64_t>{});
  } else {
    dispatch_float(x.dtype(), "scatter_add", run);
  }
  return out;
}

Tensor one_hot(const Tensor& index, std::int64_t classes, DType dtype) {
  Shape shape = index.shape();
  shape.push_back(classes);
  const Tensor dense = engine::contiguous(index);
  const std::int64_t rows = index.numel();
  Tensor out = engine::empty(shape, dtype, index.device());
  dispatch_float(dtype, "one_hot", [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* p = engine::mutable_ptr<T>(out);
    const std::int64_t* labels = engine::ptr<std::int64_t>(dense);
    std::fill(p, p + out.numel(), T(0));
    for (std::int64_t i = 0; i < rows && classes > 0; ++i) p[i * classes + labels[i]] = T(1);
  });
  return out;
}

std::int64_t position_in_whole(const Shape& walked, const Shape& whole, std::int64_t walk) {
  std::int64_t position = 0;
  std::int64_t unit = 1;
  for (int axis = walked.rank() - 1; axis >= 0; --axis) {
    position += walk % walked[axis] * unit;
    walk /= walked[axis];
    unit *= whole[axis];
  }
  return position;
}

BadIndex find_bad_index(const Tensor& index, std::int64_t size) {
  if (index.numel() == 0) return {};
  Shape shape = index.shape();
  for (int axis = 0; axis < shape.rank(); ++axis)
    if (index.strides()[axis] == 0) shape[axis] = 1;
  const std::int64_t* p = engine::ptr<std::int64_t>(index);
  const Strides* strides[] = {&index.strides()};
  const engine::Loops loops = engine::merge_axes(shape, strides, 1);
  const auto bound = static_cast<std::uint64_t>(size);
  const std::int64_t inner = loops.inner();
  for (std::int64_t run = 0; run < loops.outer(); ++run) {
    std::int64_t offset = 0;
    engine::run_offsets(loops, run, 1, &offset);
    const std::int64_t* row = p + offset;
    const std::int64_t stride = loops.inner_stride(0);
    bool bad = false;
    for (std::int64_t i = 0; i < inner; ++i) bad |= static_cast<std::uint64_t>(row[i * stride]) >= bound;
    if (!bad) continue;
    for (std::int64_t i = 0; i < inner; ++i) {
      if (static_cast<std::uint64_t>(row[i * stride]) < bound) continue;
      return {row[i * stride], position_in_whole(shape, index.shape(), run * inner + i)};
    }
  }
  return {};
}

}  // namespace solvent::cpu
