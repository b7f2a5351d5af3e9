// Gathering and scattering. Each is the other's adjoint, so {gather, scatter_add} is closed under differentiation of any
// order. Primitives take operands of equal shape on every axis but the indexed one; indices of a broadcast axis are
// stride-0 views, which is also how K directions share one index tensor.

#include "solvent/ops/index.h"

#include <utility>

#include <fmt/format.h>

#include "solvent/autodiff/cuda_kernel.h"
#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/ops/cpu/index_kernels.h"
#if SOLVENT_WITH_CUDA
#include "solvent/ops/cuda/index_kernels.h"
#endif
#include "solvent/ops/families.h"
#include "solvent/ops/index_check.h"
#include "solvent/ops/rule_util.h"

namespace solvent {
namespace {

[[noreturn]] void throw_index_dtype(const char* op, DType dtype) {
  throw DtypeError(
      fmt::format("[{}] got an index of type {}; expected int64. Use cast(index, int64).", op, to_string(dtype)));
}

[[noreturn]] void throw_index_value(const char* op, std::int64_t value, std::int64_t position, std::int64_t size,
                                    const char* what) {
  throw ValueError(
      fmt::format("[{}] got index {} at position {} (row-major); expected values in [0, {}), {}. Negative "
                  "indices do not count from the end here.",
                  op, value, position, size, what));
}

[[noreturn]] void throw_index_shape(const char* op, const Tensor& x, const Tensor& index, std::int64_t axis) {
  throw ShapeError(
      fmt::format("[{}] got x of shape {} and index of shape {} with axis {}; expected the same rank and, on "
                  "the other axes, equal extents or 1. Use reshape or index_select.",
                  op, to_string(x.shape()), to_string(index.shape()), axis));
}

void check_dtype(const char* op, const Tensor& index) {
  if (index.dtype() != int64) throw_index_dtype(op, index.dtype());
}

// The index to use from here on. Reads every distinct element of `index` (axes of stride 0 once).
Tensor check_range(const char* op, const Tensor& index, std::int64_t size, const char* what) {
  return detail::checked_index(index, size, [op, size, what](std::int64_t value, std::int64_t position) {
    throw_index_value(op, value, position, size, what);
  });
}

struct GatherAttrs : AttrsBase<GatherAttrs> {
  std::int64_t axis = -1;
  std::int64_t size = 0;  // extent of the indexed axis: of gather's input, of scatter_add's result
  [[nodiscard]] std::string describe() const override { return fmt::format("axis={} size={}", axis, size); }
};

// The primitives, without checks: rules use indices that were checked before.
Tensor gather_aligned(Tensor x, Tensor index, std::int64_t axis, std::int64_t size);
Tensor scatter_aligned(Tensor x, Tensor index, std::int64_t axis, std::int64_t size);

// The saved index for tangents: K directions share it.
Tensor index_for(const Rule& rule, const Shape& tangent_shape, std::int64_t axis) {
  const Tensor& index = rule.input(1);
  if (rule.directions() == 0) return index;
  Shape shape = tangent_shape;
  shape[static_cast<int>(axis) + shape.rank()] = index.shape().at(axis);
  return broadcast_to(index, shape);
}

template <auto kRun>
TensorVec gather_kernel(std::span<Tensor> inputs, const Attrs* attrs) {
  const auto& a = static_cast<const GatherAttrs&>(*attrs);
  return kRun(inputs[0], inputs[1], static_cast<int>(a.axis) + inputs[0].rank());
}

TensorVec gather_jvp(const Rule& rule, std::span<const Tensor> tangents) {
  const auto& a = rule.attrs<GatherAttrs>();
  return gather_aligned(tangents[0], index_for(rule, tangents[0].shape(), a.axis), a.axis, a.size);
}

TensorVec gather_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  const auto& a = rule.attrs<GatherAttrs>();
  return scatter_aligned(cotangents[0], rule.input(1), a.axis, a.size);
}

constinit const OpDef kGather{.name = "gather",
                              .cpu = gather_kernel<cpu::gather>,
                              .cuda = SOLVENT_CUDA_KERNEL(gather_kernel<cuda::gather>),
                              .jvp = gather_jvp,
                              .vjp = gather_vjp,
                              .inputs = {Save::none, Save::data},
                              .num_saves = 2};

template <auto kRun>
TensorVec scatter_kernel(std::span<Tensor> inputs, const Attrs* attrs) {
  const auto& a = static_cast<const GatherAttrs&>(*attrs);
  return kRun(inputs[0], inputs[1], static_cast<int>(a.axis) + inputs[0].rank(), a.size);
}

TensorVec scatter_jvp(const Rule& rule, std::span<const Tensor> tangents) {
  const auto& a = rule.attrs<GatherAttrs>();
  return scatter_aligned(tangents[0], index_for(rule, tangents[0].shape(), a.axis), a.axis, a.size);
}

TensorVec scatter_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  const auto& a = rule.attrs<GatherAttrs>();
  return gather_aligned(cotangents[0], rule.input(1), a.axis, a.size);
}

constinit const OpDef kScatterAdd{.name = "scatter_add",
                                  .cpu = scatter_kernel<cpu::scatter_add>,
                                  .cuda = SOLVENT_CUDA_KERNEL(scatter_kernel<cuda::scatter_add>),
                                  .jvp = scatter_jvp,
                                  .vjp = scatter_vjp,
                                  .inputs = {Save::none, Save::data},
                                  .num_saves = 2};

Tensor gather_aligned(Tensor x, Tensor index, std::int64_t axis, std::int64_t size) {
  GatherAttrs attrs;
  attrs.axis = axis;
  attrs.size = size;
  return apply1(kGather, &attrs, std::move(x), std::move(index));
}

Tensor scatter_aligned(Tensor x, Tensor index, std::int64_t axis, std::int64_t size) {
  GatherAttrs attrs;
  attrs.axis = axis;
  attrs.size = size;
  return apply1(kScatterAdd, &attrs, std::move(x), std::move(index));
}

// Broadcasts both operands to common extents on every axis but `at`; with `same_axis` on that one too.
void align_index(const char* op, Tensor& x, Tensor& index, int at, bool same_axis) {
  if (x.rank() != index.rank()) throw_index_shape(op, x, index, at);
  Shape x_shape = x.shape();
  Shape index_shape = index.shape();
  for (int i = 0; i < x.rank(); ++i) {
    if (i == at && !same_axis) continue;
    if (x_shape[i] == index_shape[i]) continue;
    if (x_shape[i] != 1 && index_shape[i] != 1) throw_index_shape(op, x, index, at);
    (x_shape[i] == 1 ? x_shape : index_shape)[i] = x_shape[i] == 1 ? index_shape[i] : x_shape[i];
  }
  if (!(x_shape == x.shape())) x = broadcast_to(std::move(x), x_shape);
  if (!(index_shape == index.shape())) index = broadcast_to(std::move(index), index_shape);
}

struct OneHotAttrs : AttrsBase<OneHotAttrs> {
  std::int64_t classes = 0;
  DType dtype = DType::float32;
  [[nodiscard]] std::string describe() const override { return fmt::format("classes={}", classes); }
};

template <auto kRun>
TensorVec one_hot_kernel(std::span<Tensor> inputs, const Attrs* attrs) {
  const auto& a = static_cast<const OneHotAttrs&>(*attrs);
  return kRun(inputs[0], a.classes, a.dtype);
}

constinit const OpDef kOneHot{.name = "one_hot",
                              .cpu = one_hot_kernel<cpu::one_hot>,
                              .cuda = SOLVENT_CUDA_KERNEL(one_hot_kernel<cuda::one_hot>),
                              .differentiable = false};

constinit const OpDef* const kIndexFamily[] = {&kGather, &kScatterAdd, &kOneHot};

}  // namespace

namespace detail {
OpList index_ops() { return kIndexFamily; }

#if SOLVENT_WITH_CUDA
Tensor checked_on_gpu(const Tensor& index, std::int64_t size, bool make_safe,
                      std::function<void(std::int64_t, std::int64_t)> raise) {
  return cuda::check_index(index, size, make_safe, std::move(raise));
}
#endif
}  // namespace detail

Tensor gather(Tensor x, Tensor index, std::int64_t axis) {
  const int at = normalise_axis("gather", axis, x.rank());
  check_dtype("gather", index);
  const std::int64_t size = x.shape()[at];
  index = check_range("gather", index, size, "the extent of x along the axis");
  align_index("gather", x, index, at, false);
  const std::int64_t right = detail::from_right(at, x.rank());
  return gather_aligned(std::move(x), std::move(index), right, size);
}

Tensor scatter_add(Tensor x, Tensor index, std::int64_t axis, std::int64_t size) {
  const int at = normalise_axis("scatter_add", axis, x.rank());
  check_dtype("scatter_add", index);
  if (x.dtype() == boolean || x.dtype() == uint8)
    throw DtypeError(
        fmt::format("[scatter_add] got {}; expected float32, float64 or int64, which can be added. Use cast.",
                    to_string(x.dtype())));
  if (size < 0)
    throw ValueError(fmt::format("[scatter_add] got size {}; expected the extent of the result, at least 0.", size));
  index = check_range("scatter_add", index, size, "the size given");
  align_index("scatter_add", x, index, at, true);
  const std::int64_t right = detail::from_right(at, x.rank());
  return scatter_aligned(std::move(x), std::move(index), right, size);
}

Tensor index_select(Tensor x, Tensor index, std::int64_t axis) {
  const int at = normalise_axis("index_select", axis, x.rank());
  check_dtype("index_select", index);
  if (index.rank() != 1)
    throw ShapeError(
        fmt::format("[index_select] got an index of shape {}; expected one axis. Use gather for one index per "
                    "element.",
                    to_string(index.shape())));
  const std::int64_t size = x.shape()[at];
  index = check_range("index_select", index, size, "the extent of x along the axis");
  Shape shape = Dims::filled(x.rank(), 1);
  shape[at] = index.shape()[0];
  index = reshape(std::move(index), shape);
  align_index("index_select", x, index, at, false);
  const std::int64_t right = detail::from_right(at, x.rank());
  return gather_aligned(std::move(x), std::move(index), right, size);
}

Tensor embedding(Tensor weight, Tensor index) {
  check_dtype("embedding", index);
  if (weight.rank() != 2)
    throw ShapeError(
        fmt::format("[embedding] got a table of shape {}; expected (V, D), one row per entry. Use "
                    "index_select for other ranks.",
                    to_string(weight.shape())));
  index = check_range("embedding", index, weight.shape()[0], "the number of rows of the table");
  Shape shape = index.shape();
  const std::int64_t width = weight.shape()[1];
  const std::int64_t rows = index.numel();
  shape.push_back(width);
  const std::int64_t size = weight.shape()[0];
  index = broadcast_to(reshape(std::move(index), {rows, 1}), {rows, width});
  return reshape(gather_aligned(std::move(weight), std::move(index), -2, size), shape);
}

Tensor one_hot(Tensor index, std::int64_t classes, DType dtype) {
  check_dtype("one_hot", index);
  if (is_storage_type(dtype)) detail::throw_not_floating("one_hot", dtype);
  if (!is_floating(dtype))
    throw DtypeError(fmt::format("[one_hot] got dtype {}; expected float32 or float64.", to_string(dtype)));
  if (classes < 0) throw ValueError(fmt::format("[one_hot] got {} classes; expected at least 0.", classes));
  index = check_range("one_hot", index, classes, "the number of classes");
  OneHotAttrs attrs;
  attrs.classes = classes;
  attrs.dtype = dtype;
  return apply1(kOneHot, &attrs, std::move(index));
}

}  // namespace solvent
