// Pooling and resizing. Four closed families: max_pool2d with {pool_take, max_unpool2d}, each other's adjoints for a fixed
// index; {avg_pool2d, avg_pool2d_grad}; {resample}, whose adjoint is the transposed matrix. All work on the last two axes,
// so tangents with leading axes of directions need no care beyond sharing the index.

#include "solvent/ops/pool.h"

#include <fmt/format.h>

#include "solvent/autodiff/cuda_kernel.h"
#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/ops/cpu/pool.h"
#if SOLVENT_WITH_CUDA
#include "solvent/ops/cuda/pool.h"
#endif
#include "solvent/ops/families.h"
#include "solvent/ops/index_check.h"
#include "solvent/ops/rules.h"
#include "solvent/ops/shape_ops.h"

namespace solvent {
namespace {

using detail::jvp_of_one;
using detail::vjp_of_one;

// --- max ------------------------------------------------------------------------------------------------------------------------

// Without checks: rules use indices that max_pool2d made or max_unpool2d checked.
Tensor take(Tensor x, Tensor index);
Tensor put(Tensor x, Tensor index, std::int64_t height, std::int64_t width);

// `index` for a tangent: directions share it.
Tensor shared_index(const Tensor& index, const Tensor& tangent) {
  Shape shape = tangent.shape();
  for (int i = 1; i <= 2; ++i) shape[shape.rank() - i] = index.shape().at(-i);
  return shape == index.shape() ? index : broadcast_to(index, shape);
}

TensorVec max_pool_jvp(const Rule& r, std::span<const Tensor> t) {
  TensorVec out(2);
  if (t[0].defined()) out[0] = take(t[0], shared_index(r.output(1), t[0]));
  return out;
}
TensorVec max_pool_vjp(const Rule& r, std::span<const Tensor> g) {
  if (!g[0].defined()) return Tensor();
  return put(g[0], r.output(1), r.input_shape(0).at(-2), r.input_shape(0).at(-1));
}

constinit const OpDef kMaxPool = {.name = "max_pool2d",
                                  .cpu = cpu::max_pool_maps,
                                  .cuda = SOLVENT_CUDA_KERNEL(cuda::max_pool_maps),
                                  .jvp = max_pool_jvp,
                                  .vjp = max_pool_vjp,
                                  .inputs = {Save::shape},
                                  .outputs = Save::data};

TensorVec take_jvp(const Rule& r, std::span<const Tensor> t) {
  return t[0].defined() ? take(t[0], shared_index(r.input(1), t[0])) : Tensor();
}
TensorVec take_vjp(const Rule& r, std::span<const Tensor> g) {
  TensorVec out(2);
  if (g[0].defined()) out[0] = put(g[0], r.input(1), r.input_shape(0).at(-2), r.input_shape(0).at(-1));
  return out;
}

constinit const OpDef kPoolTake = {.name = "pool_take",
                                   .cpu = cpu::pool_take_maps,
                                   .cuda = SOLVENT_CUDA_KERNEL(cuda::pool_take_maps),
                                   .jvp = take_jvp,
                                   .vjp = take_vjp,
                                   .inputs = {Save::shape, Save::data},
                                   .num_saves = 2};

TensorVec put_jvp(const Rule& r, std::span<const Tensor> t) {
  const auto& a = r.attrs<MapAttrs>();
  return t[0].defined() ? put(t[0], shared_index(r.input(1), t[0]), a.height, a.width) : Tensor();
}
TensorVec put_vjp(const Rule& r, std::span<const Tensor> g) {
  TensorVec out(2);
  if (g[0].defined()) out[0] = take(g[0], r.input(1));
  return out;
}

constinit const OpDef kMaxUnpool = {.name = "max_unpool2d",
                                    .cpu = cpu::max_unpool_maps,
                                    .cuda = SOLVENT_CUDA_KERNEL(cuda::max_unpool_maps),
                                    .jvp = put_jvp,
                                    .vjp = put_vjp,
                                    .inputs = {Save::none, Save::data},
                                    .num_saves = 2};

Tensor take(Tensor x, Tensor index) { return apply1(kPoolTake, nullptr, std::move(x), std::move(index)); }
Tensor put(Tensor x, Tensor index, std::int64_t height, std::int64_t width) {
  MapAttrs attrs;
  attrs.height = height;
  attrs.width = width;
  return apply1(kMaxUnpool, &attrs, std::move(x), std::move(index));
}

// --- mean -----------------------------------------------------------------------------------------------------------------------

Tensor average(Tensor x, const PoolAttrs& attrs);
Tensor spread(Tensor g, const PoolAttrs& attrs);

constexpr auto kAverage = [](const Rule& r, const Tensor& t) { return average(t, r.attrs<PoolAttrs>()); };
constexpr auto kSpread = [](const Rule& r, const Tensor& t) { return spread(t, r.attrs<PoolAttrs>()); };

constinit const OpDef kAvgPool = {.name = "avg_pool2d",
                                  .cpu = cpu::avg_pool_maps,
                                  .cuda = SOLVENT_CUDA_KERNEL(cuda::avg_pool_maps),
                                  .jvp = jvp_of_one<kAverage>,
                                  .vjp = vjp_of_one<kSpread>};
constinit const OpDef kAvgPoolGrad = {.name = "avg_pool2d_grad",
                                      .cpu = cpu::avg_pool_maps_grad,
                                      .cuda = SOLVENT_CUDA_KERNEL(cuda::avg_pool_maps_grad),
                                      .jvp = jvp_of_one<kSpread>,
                                      .vjp = vjp_of_one<kAverage>};

Tensor average(Tensor x, const PoolAttrs& attrs) { return apply1(kAvgPool, &attrs, std::move(x)); }
Tensor spread(Tensor g, const PoolAttrs& attrs) { return apply1(kAvgPoolGrad, &attrs, std::move(g)); }

// --- resize ---------------------------------------------------------------------------------------------------------------------

Tensor resampled(Tensor x, ResampleAttrs attrs, bool transposed);

constexpr auto kSame = [](const Rule& r, const Tensor& t) {
  const auto& a = r.attrs<ResampleAttrs>();
  return resampled(t, a, a.transposed);
};
constexpr auto kTransposed = [](const Rule& r, const Tensor& t) {
  const auto& a = r.attrs<ResampleAttrs>();
  return resampled(t, a, !a.transposed);
};

constinit const OpDef kResample = {.name = "resample",
                                   .cpu = cpu::resample_axis,
                                   .cuda = SOLVENT_CUDA_KERNEL(cuda::resample_axis),
                                   .jvp = jvp_of_one<kSame>,
                                   .vjp = vjp_of_one<kTransposed>};

Tensor resampled(Tensor x, ResampleAttrs attrs, bool transposed) {
  attrs.transposed = transposed;
  return apply1(kResample, &attrs, std::move(x));
}

Tensor resize_axis(Tensor x, int axis, std::int64_t size, const ResizeOptions& options) {
  ResampleAttrs attrs;
  attrs.axis = axis;
  attrs.in = x.shape().at(axis);
  attrs.out = size;
  attrs.linear = options.mode == Interpolation::linear;
  attrs.align_corners = options.align_corners;
  attrs.antialias = options.antialias;
  return resampled(std::move(x), attrs, false);
}

void check_resize(const char* op, const Tensor& x, int axes, Size2d size, const ResizeOptions& options) {
  detail::check_floating(op, x);
  if (x.rank() < axes)
    throw ShapeError(fmt::format("[{}] got x {}; expected at least {} axes, those to resize last. Use reshape.", op,
                                 describe(x), axes));
  for (int i = 1; i <= axes; ++i)
    if (x.shape().at(-i) == 0)
      throw ShapeError(
          fmt::format("[{}] got x {}; expected at least one element along the axes to resize.", op, describe(x)));
  if (size.height < 1 || size.width < 1)
    throw ValueError(
        fmt::format("[{}] got size ({}, {}); expected extents of at least 1.", op, size.height, size.width));
  if (options.align_corners && (options.antialias || options.mode == Interpolation::nearest))
    throw ValueError(
        fmt::format("[{}] got align_corners with {}; expected it with plain linear interpolation only. Leave one out.",
                    op, options.antialias ? "antialias" : "nearest"));
}

// --- front ends -------------------------------------------------------------------------------------------------------------------

// Number of windows along one axis; throws if these windows make no sense.
std::int64_t windows(const char* op, const Tensor& x, const char* axis, std::int64_t extent, std::int64_t window,
                     std::int64_t stride, std::int64_t padding) {
  if (window < 1 || stride < 1)
    throw ValueError(
        fmt::format("[{}] got window {} and stride {} along the {}; expected at least 1 (stride 0 means "
                    "the window's extent).",
                    op, window, stride, axis));
  if (padding < 0 || 2 * padding > window)
    throw ValueError(
        fmt::format("[{}] got padding {} for a window of {} along the {}; expected 0 to {}, so that every "
                    "window holds an element. Use pad(x, ...) for more.",
                    op, padding, window, axis, window / 2));
  if (extent < 1 || extent + 2 * padding < window)
    throw ShapeError(
        fmt::format("[{}] got x {} and a window of {} with padding {} along the {}; expected a map that is "
                    "not smaller than the window. Use a smaller window or more padding.",
                    op, describe(x), window, padding, axis));
  return (extent + 2 * padding - window) / stride + 1;
}

template <class Options>
PoolAttrs attrs_for(const char* op, const Tensor& x, const Options& options) {
  detail::check_floating(op, x);
  if (x.rank() < 2)
    throw ShapeError(
        fmt::format("[{}] got x {}; expected maps (..., H, W). For (..., L) use the 1-d variant.", op, describe(x)));
  PoolAttrs attrs;
  cpu::PoolGeometry& g = attrs.geometry;
  g.height = x.shape().at(-2);
  g.width = x.shape().at(-1);
  g.window_h = options.window.height;
  g.window_w = options.window.width;
  g.stride_h = options.stride.height == 0 ? g.window_h : options.stride.height;
  g.stride_w = options.stride.width == 0 ? g.window_w : options.stride.width;
  g.pad_h = options.padding.height;
  g.pad_w = options.padding.width;
  g.out_height = windows(op, x, "rows", g.height, g.window_h, g.stride_h, g.pad_h);
  g.out_width = windows(op, x, "columns", g.width, g.window_w, g.stride_w, g.pad_w);
  return attrs;
}

ValueAndIndex max_pool(const char* op, Tensor x, const MaxPoolOptions& options) {
  PoolAttrs attrs = attrs_for(op, x, options);
  Tensor in[] = {std::move(x)};
  TensorVec out = apply(kMaxPool, in, &attrs);
  return {std::move(out[0]), std::move(out[1])};
}

Tensor avg_pool(const char* op, Tensor x, const AvgPoolOptions& options) {
  PoolAttrs attrs = attrs_for(op, x, options);
  attrs.geometry.count_include_pad = options.count_include_pad;
  return average(std::move(x), attrs);
}

// (..., L) as maps of one row.
Tensor as_row(const char* op, Tensor x) {
  if (x.rank() < 1) throw ShapeError(fmt::format("[{}] got a 0-d tensor; expected (..., L). Use reshape.", op));
  return unsqueeze(std::move(x), -2);
}

constinit const OpDef* const kOps[] = {&kMaxPool, &kPoolTake, &kMaxUnpool, &kAvgPool, &kAvgPoolGrad, &kResample};

}  // namespace

namespace detail {
OpList pool_ops() { return kOps; }
}  // namespace detail

ValueAndIndex max_pool2d_with_index(Tensor x, const MaxPoolOptions& options) {
  return max_pool("max_pool2d", std::move(x), options);
}
Tensor max_pool2d(Tensor x, const MaxPoolOptions& options) {
  return max_pool("max_pool2d", std::move(x), options).value;
}

Tensor max_unpool2d(Tensor x, Tensor index, Size2d size) {
  detail::check_floating("max_unpool2d", x);
  if (index.dtype() != int64)
    throw DtypeError(
        fmt::format("[max_unpool2d] got index {}; expected int64 positions, as max_pool2d_with_index "
                    "returns them. Use cast(index, int64).",
                    describe(index)));
  if (x.rank() < 2 || !(x.shape() == index.shape()))
    throw ShapeError(fmt::format("[max_unpool2d] got x {} and index {}; expected two equal shapes (..., h, w).",
                                 describe(x), describe(index)));
  if (size.height < 1 || size.width < 1)
    throw ValueError(
        fmt::format("[max_unpool2d] got size ({}, {}); expected extents of at least 1.", size.height, size.width));
  index = detail::checked_index(index, size.height * size.width, [size](std::int64_t value, std::int64_t position) {
    throw ValueError(
        fmt::format("[max_unpool2d] got index {} at position {} (row-major); expected values in [0, {}), "
                    "positions h * {} + w in a map of size ({}, {}).",
                    value, position, size.height * size.width, size.width, size.height, size.width));
  });
  return put(std::move(x), std::move(index), size.height, size.width);
}

Tensor avg_pool2d(Tensor x, const AvgPoolOptions& options) { return avg_pool("avg_pool2d", std::move(x), options); }

Tensor global_avg_pool2d(Tensor x, bool keepdims) {
  detail::check_floating("global_avg_pool2d", x);
  if (x.rank() < 2 || x.shape().at(-1) * x.shape().at(-2) == 0)
    throw ShapeError(
        fmt::format("[global_avg_pool2d] got x {}; expected maps (..., H, W) of at least one element.", describe(x)));
  return mean(std::move(x), {-2, -1}, keepdims);
}

ValueAndIndex max_pool1d_with_index(Tensor x, std::int64_t window, std::int64_t stride, std::int64_t padding) {
  ValueAndIndex r = max_pool("max_pool1d", as_row("max_pool1d", std::move(x)),
                             {.window = {1, window}, .stride = {1, stride}, .padding = {0, padding}});
  return {squeeze(std::move(r.value), -2), squeeze(std::move(r.index), -2)};
}
Tensor max_pool1d(Tensor x, std::int64_t window, std::int64_t stride, std::int64_t padding) {
  return max_pool1d_with_index(std::move(x), window, stride, padding).value;
}
Tensor avg_pool1d(Tensor x, std::int64_t window, std::int64_t stride, std::int64_t padding, bool count_include_pad) {
  return squeeze(avg_pool("avg_pool1d", as_row("avg_pool1d", std::move(x)),
                          {.window = {1, window},
                           .stride = {1, stride},
                           .padding = {0, padding},
                           .count_include_pad = count_include_pad}),
                 -2);
}

Tensor resize2d(Tensor x, Size2d size, const ResizeOptions& options) {
  check_resize("resize2d", x, 2, size, options);
  // Columns first if that leaves less for the second pass.
  const bool rows_first = size.height * x.shape().at(-1) <= size.width * x.shape().at(-2);
  Tensor y = resize_axis(std::move(x), rows_first ? -2 : -1, rows_first ? size.height : size.width, options);
  return resize_axis(std::move(y), rows_first ? -1 : -2, rows_first ? size.width : size.height, options);
}

Tensor resize1d(Tensor x, std::int64_t size, const ResizeOptions& options) {
  check_resize("resize1d", x, 1, {1, size}, options);
  return resize_axis(std::move(x), -1, size, options);
}

}  // namespace solvent
