#include "solvent/ops/sort.h"

#include <utility>

#include <fmt/format.h>

#include "solvent/autodiff/cuda_kernel.h"
#include "solvent/core/error.h"
#include "solvent/ops/cpu/sort_kernels.h"
#if SOLVENT_WITH_CUDA
#include "solvent/ops/cuda/sort.h"
#endif
#include "solvent/ops/families.h"
#include "solvent/ops/index.h"
#include "solvent/ops/rule_util.h"

namespace solvent {
namespace {

struct SortAttrs : AttrsBase<SortAttrs> {
  std::int64_t axis = -1;
  std::int64_t count = 0;  // elements kept
  bool descending = false;
  [[nodiscard]] std::string describe() const override {
    return fmt::format("axis={} count={}{}", axis, count, descending ? " descending" : "");
  }
};

template <auto kRun>
TensorVec sort_kernel(std::span<Tensor> inputs, const Attrs* attrs) {
  const auto& a = static_cast<const SortAttrs&>(*attrs);
  auto [value, index] = kRun(inputs[0], static_cast<int>(a.axis) + inputs[0].rank(), a.count, a.descending);
  return {std::move(value), std::move(index)};
}

TensorVec sort_jvp(const Rule& rule, std::span<const Tensor> tangents) {
  TensorVec out(2);
  if (!tangents[0].defined()) return out;
  Tensor index = rule.output(1);
  if (rule.directions() > 0) index = reshape(index, prepend(1, index.shape()));  // one index for all directions
  out[0] = gather(tangents[0], index, rule.attrs<SortAttrs>().axis);
  return out;
}

TensorVec sort_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  if (!cotangents[0].defined()) return Tensor();
  const std::int64_t axis = rule.attrs<SortAttrs>().axis;
  return scatter_add(cotangents[0], rule.output(1), axis, rule.input_shape(0).at(axis));
}

constinit const OpDef kSort{.name = "sort",
                            .cpu = sort_kernel<cpu::sort>,
                            .cuda = SOLVENT_CUDA_KERNEL(sort_kernel<cuda::sort>),
                            .jvp = sort_jvp,
                            .vjp = sort_vjp,
                            .inputs = {Save::shape},
                            .outputs = Save::data};

constinit const OpDef* const kSortFamily[] = {&kSort};

// The first `count` in order; all if negative.
ValueAndIndex ordered(const char* op, Tensor x, std::int64_t axis, std::int64_t count, bool descending) {
  if (is_storage_type(x.dtype())) detail::check_floating(op, x);
  if (!is_floating(x.dtype()) && x.dtype() != int64)
    throw DtypeError(
        fmt::format("[{}] got {}; expected float32, float64 or int64. Use cast(x, int64).", op, describe(x)));
  const int at = normalise_axis(op, axis, x.rank());
  const std::int64_t size = x.shape()[at];
  if (size > cpu::kMaxSortExtent)
    throw ShapeError(fmt::format("[{}] got axis {} of extent {}; expected at most {} elements.", op, axis, size,
                                 cpu::kMaxSortExtent));
  SortAttrs attrs;
  attrs.axis = detail::from_right(at, x.rank());
  attrs.count = count < 0 ? size : count;
  attrs.descending = descending;
  Tensor in[] = {std::move(x)};
  TensorVec out = apply(kSort, in, &attrs);
  return {std::move(out[0]), std::move(out[1])};
}

}  // namespace

namespace detail {
OpList sort_ops() { return kSortFamily; }
}  // namespace detail

ValueAndIndex sort(Tensor x, std::int64_t axis, bool descending) {
  return ordered("sort", std::move(x), axis, -1, descending);
}

Tensor argsort(const Tensor& x, std::int64_t axis, bool descending) {
  return ordered("argsort", stop_gradient(x), axis, -1, descending).index;
}

ValueAndIndex topk(Tensor x, std::int64_t k, std::int64_t axis, bool largest) {
  const std::int64_t size = x.shape()[normalise_axis("topk", axis, x.rank())];
  if (k < 0 || k > size)
    throw ValueError(
        fmt::format("[topk] got k = {} for axis {} of extent {}; expected 0 <= k <= {}.", k, axis, size, size));
  return ordered("topk", std::move(x), axis, k, largest);
}

}  // namespace solvent
