// Glue between tensors and the pooling loops, and the matrices of interpolation.

#include "solvent/ops/cpu/pool.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "solvent/core/engine/view.h"
#include "solvent/ops/cpu/repeats.h"

namespace solvent {

std::string PoolAttrs::describe() const {
  const cpu::PoolGeometry& g = geometry;
  return fmt::format("window=({}, {}), stride=({}, {}), padding=({}, {})", g.window_h, g.window_w, g.stride_h,
                     g.stride_w, g.pad_h, g.pad_w);
}
std::string MapAttrs::describe() const { return fmt::format("size=({}, {})", height, width); }
std::string ResampleAttrs::describe() const {
  return fmt::format("axis={}, {} -> {}{}", axis, in, out, transposed ? ", transposed" : "");
}

namespace cpu {
namespace {

const PoolGeometry& geometry_of(const Attrs* attrs) { return static_cast<const PoolAttrs*>(attrs)->geometry; }

/// `shape` with other extents of the last two axes.
Shape with_map(Shape shape, std::int64_t height, std::int64_t width) {
  shape[shape.rank() - 2] = height;
  shape[shape.rank() - 1] = width;
  return shape;
}

std::int64_t planes_of(const Shape& shape) {
  std::int64_t n = 1;
  for (int i = 0; i + 2 < shape.rank(); ++i) n *= shape[i];
  return n;
}

std::int64_t map_size(const Shape& shape) { return shape[shape.rank() - 2] * shape[shape.rank() - 1]; }

/// kernel(dense x, fresh y) on tensors of x's type; y is not touched if it is empty.
template <class F>
Tensor map_planes(const char* op, const Tensor& x, const Shape& result, F kernel) {
  return dispatch_float(x.dtype(), op, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Tensor dense = engine::contiguous(x);
    Tensor y = engine::empty(result, dtype_of<T>, x.device());
    if (y.numel() > 0) kernel(engine::ptr<T>(dense), engine::mutable_ptr<T>(y));
    return y;
  });
}

/// Weight of the triangle filter at distance t.
double triangle(double t) { return std::max(0.0, 1.0 - std::abs(t)); }

// Rows of the interpolation matrix, each as (first column, weights). Source positions as PyTorch's interpolate.
SparseRows interpolation(const ResampleAttrs& a) {
  SparseRows m;
  m.begin.push_back(0);
  const auto put = [&](std::int64_t column, double weight) {
    m.column.push_back(column);
    m.weight.push_back(weight);
  };
  const double scale = static_cast<double>(a.in) / static_cast<double>(a.out);
  for (std::int64_t i = 0; i < a.out; ++i) {
    const auto position = static_cast<double>(i);
    if (!a.linear) {
      put(i * a.in / a.out, 1.0);
    } else if (a.antialias && scale > 1.0) {
      const double centre = scale * (position + 0.5);
      const auto first = std::max<std::int64_t>(static_cast<std::int64_t>(std::floor(centre - scale + 0.5)), 0);
      const auto last = std::min<std::int64_t>(static_cast<std::int64_t>(std::floor(centre + scale + 0.5)), a.in);
      double total = 0.0;
      for (std::int64_t k = first; k < last; ++k) total += triangle((static_cast<double>(k) - centre + 0.5) / scale);
      for (std::int64_t k = first; k < last; ++k)
        put(k, triangle((static_cast<double>(k) - centre + 0.5) / scale) / total);
    } else {
      const double corner = a.out > 1 ? static_cast<double>(a.in - 1) / static_cast<double>(a.out - 1) : 0.0;
      const double at = a.align_corners ? corner * position : std::max(0.0, scale * (position + 0.5) - 0.5);
      const auto low = std::min(static_cast<std::int64_t>(at), a.in - 1);
      const double fraction = low + 1 < a.in ? at - static_cast<double>(low) : 0.0;
      put(low, 1.0 - fraction);
      if (fraction > 0.0) put(low + 1, fraction);
    }
    m.begin.push_back(static_cast<std::int64_t>(m.column.size()));
  }
  return m;
}

// Rows become columns; entries of a row stay in ascending order.
SparseRows transpose(const SparseRows& m, std::int64_t columns) {
  SparseRows t;
  t.begin.assign(static_cast<std::size_t>(columns) + 1, 0);
  for (const std::int64_t c : m.column) ++t.begin[static_cast<std::size_t>(c) + 1];
  for (std::size_t c = 1; c < t.begin.size(); ++c) t.begin[c] += t.begin[c - 1];
  std::vector<std::int64_t> next(t.begin.begin(), t.begin.end() - 1);
  t.column.resize(m.column.size());
  t.weight.resize(m.weight.size());
  for (std::size_t row = 0; row + 1 < m.begin.size(); ++row)
    for (auto k = static_cast<std::size_t>(m.begin[row]); k < static_cast<std::size_t>(m.begin[row + 1]); ++k) {
      const auto at = static_cast<std::size_t>(next[static_cast<std::size_t>(m.column[k])]++);
      t.column[at] = static_cast<std::int64_t>(row);
      t.weight[at] = m.weight[k];
    }
  return t;
}

}  // namespace

SparseRows resample_matrix(const ResampleAttrs& attrs) {
  SparseRows matrix = interpolation(attrs);
  return attrs.transposed ? transpose(matrix, attrs.in) : matrix;
}

TensorVec max_pool_maps(std::span<Tensor> inputs, const Attrs* attrs) {
  const PoolGeometry& g = geometry_of(attrs);
  const Shape shape = with_map(inputs[0].shape(), g.out_height, g.out_width);
  Tensor index = engine::empty(shape, DType::int64, inputs[0].device());
  Tensor value = map_planes("max_pool2d", inputs[0], shape, [&](const auto* x, auto* y) {
    max_pool(g, x, planes_of(shape), y, engine::mutable_ptr<std::int64_t>(index));
  });
  return {std::move(value), std::move(index)};
}

TensorVec avg_pool_maps(std::span<Tensor> inputs, const Attrs* attrs) {
  const PoolGeometry& g = geometry_of(attrs);
  const Shape shape = with_map(inputs[0].shape(), g.out_height, g.out_width);
  return map_planes("avg_pool2d", inputs[0], shape,
                    [&](const auto* x, auto* y) { avg_pool(g, x, planes_of(shape), y); });
}

TensorVec avg_pool_maps_grad(std::span<Tensor> inputs, const Attrs* attrs) {
  const PoolGeometry& g = geometry_of(attrs);
  const Shape shape = with_map(inputs[0].shape(), g.height, g.width);
  return map_planes("avg_pool2d_grad", inputs[0], shape,
                    [&](const auto* gy, auto* gx) { avg_pool_backward(g, gy, planes_of(shape), gx); });
}

TensorVec pool_take_maps(std::span<Tensor> inputs, const Attrs*) {
  const Shape shape = inputs[1].shape();
  const Repeated index = distinct_part(inputs[1], 2);
  return map_planes("pool_take", inputs[0], shape, [&](const auto* x, auto* y) {
    const std::int64_t count = map_size(shape);
    pool_take(x, engine::ptr<std::int64_t>(index.part), planes_of(shape),
              std::max<std::int64_t>(index.count / count, 1), map_size(inputs[0].shape()), count, y);
  });
}

TensorVec max_unpool_maps(std::span<Tensor> inputs, const Attrs* attrs) {
  const auto& a = *static_cast<const MapAttrs*>(attrs);
  const Shape shape = with_map(inputs[0].shape(), a.height, a.width);
  const Repeated index = distinct_part(inputs[1], 2);
  return map_planes("max_unpool2d", inputs[0], shape, [&](const auto* x, auto* y) {
    const std::int64_t count = map_size(inputs[0].shape());
    const std::int64_t index_planes = count == 0 ? 1 : std::max<std::int64_t>(index.count / count, 1);
    pool_put(x, engine::ptr<std::int64_t>(index.part), planes_of(shape), index_planes, map_size(shape), count, y);
  });
}

TensorVec resample_axis(std::span<Tensor> inputs, const Attrs* attrs) {
  const auto& a = *static_cast<const ResampleAttrs*>(attrs);
  const SparseRows matrix = resample_matrix(a);
  Shape shape = inputs[0].shape();
  const int axis = shape.rank() + a.axis;
  const std::int64_t n = shape[axis];
  shape[axis] = a.transposed ? a.in : a.out;
  std::int64_t outer = 1;
  for (int i = 0; i < axis; ++i) outer *= shape[i];
  const std::int64_t inner = axis + 1 < shape.rank() ? shape.back() : 1;
  return map_planes("resample", inputs[0], shape,
                    [&](const auto* x, auto* y) { resample(matrix, x, outer, n, inner, y); });
}

}  // namespace cpu
}  // namespace solvent
