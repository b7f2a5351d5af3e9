// Views and rearrangements. Two facts decide the set of primitives:
// - families are closed, so that derivatives of any order stay inside: {slice, pad}, {concat, split}, {stack, unstack};
// - an operation that makes many pieces is one node with many outputs: the backward pass of T pieces is then one join
//   of T cotangents, where T separate slices would each pad to full length (T^2 work).
// Slices carry (first, count, step) instead of NumPy's bounds, which cannot say "down to element 0" with a step of -1.

#include "solvent/ops/shape_ops.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "solvent/autodiff/cuda_kernel.h"
#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/ops/cpu/shape_kernels.h"
#if SOLVENT_WITH_CUDA
#include "solvent/ops/cuda/shape_kernels.h"
#endif
#include "solvent/ops/families.h"
#include "solvent/ops/rule_util.h"
#include "solvent/ops/shape_primitives.h"

namespace solvent {
namespace {

using detail::from_right;

constexpr std::int64_t kMaxPieces = 1 << 24;  // outputs of one operation: a guard against a wrong axis

[[noreturn]] void throw_step() {
  throw ValueError("[slice] got step 0; expected a positive step, or a negative one to read backwards.");
}

[[noreturn]] void throw_index(std::int64_t index, std::int64_t size, std::int64_t axis) {
  throw ShapeError(fmt::format("[select] got index {} for axis {} of extent {}; expected an index in [{}, {}).", index,
                               axis, size, -size, size));
}

[[noreturn]] void throw_pad(std::int64_t before, std::int64_t after) {
  throw ValueError(
      fmt::format("[pad] got before = {} and after = {}; expected counts of at least 0. Use slice to remove "
                  "elements.",
                  before, after));
}

[[noreturn]] void throw_no_tensors(const char* op) {
  throw ShapeError(fmt::format("[{}] got an empty list; expected at least one tensor.", op));
}

[[noreturn]] void throw_join_shapes(const char* op, const Tensor& first, const Tensor& other, std::size_t i) {
  throw ShapeError(
      fmt::format("[{}] got tensor 0 of shape {} and tensor {} of shape {}; expected equal shapes{}. Use "
                  "broadcast_to, reshape or pad first.",
                  op, to_string(first.shape()), i, to_string(other.shape()),
                  std::string_view(op) == "concat" ? " on every axis but the joined one" : ""));
}

[[noreturn]] void throw_join_dtypes(const char* op, const Tensor& first, const Tensor& other, std::size_t i) {
  throw DtypeError(fmt::format("[{}] got {} and (tensor {}) {}; expected one dtype. Convert one with cast(x, dtype).",
                               op, to_string(first.dtype()), i, to_string(other.dtype())));
}

[[noreturn]] void throw_rank(const char* op, const Shape& shape, int least) {
  throw ShapeError(fmt::format("[{}] got a tensor of shape {}; expected at least {} {}. Use reshape or unsqueeze.", op,
                               to_string(shape), least, least == 1 ? "axis" : "axes"));
}

void require_rank(const char* op, const Tensor& x, int least) {
  if (x.rank() < least) throw_rank(op, x.shape(), least);
}

std::string axis_text(std::int64_t axis) { return fmt::format("axis={}", axis); }

// --- slice and pad --------------------------------------------------------------------------------------------------------

struct SliceAttrs : AttrsBase<SliceAttrs> {
  std::int64_t axis = -1;
  std::int64_t first = 0;
  std::int64_t count = 0;
  std::int64_t step = 1;
  [[nodiscard]] std::string describe() const override {
    return fmt::format("axis={} first={} count={} step={}", axis, first, count, step);
  }
};

struct PadAttrs : AttrsBase<PadAttrs> {
  std::int64_t axis = -1;
  std::int64_t size = 0;   // extent of the result
  std::int64_t first = 0;  // where element 0 goes
  std::int64_t step = 1;   // distance of neighbours
  double value = 0.0;
  [[nodiscard]] std::string describe() const override {
    return fmt::format("axis={} size={} first={} step={} value={}", axis, size, first, step, value);
  }
};

TensorVec slice_kernel(std::span<Tensor> inputs, const Attrs* attrs) {
  const auto& a = static_cast<const SliceAttrs&>(*attrs);
  const Tensor& x = inputs[0];
  const int axis = static_cast<int>(a.axis) + x.rank();
  Shape shape = x.shape();
  Strides strides = x.strides();
  shape[axis] = a.count;
  // An empty slice may start outside the buffer; its offset is never used, but should not point there.
  const std::int64_t offset = x.impl()->offset + (a.count > 0 ? a.first * strides[axis] : 0);
  strides[axis] *= a.step;
  return engine::view(x, shape, strides, offset);
}

TensorVec slice_jvp(const Rule& rule, std::span<const Tensor> tangents) {
  const auto& a = rule.attrs<SliceAttrs>();
  return detail::slice_exact(tangents[0], a.axis, a.first, a.count, a.step);
}

TensorVec slice_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  const auto& a = rule.attrs<SliceAttrs>();
  return detail::pad_exact(cotangents[0], a.axis, rule.input_shape(0).at(a.axis), a.first, a.step, 0.0);
}

constinit const OpDef kSlice{.name = "slice",
                             .cpu = slice_kernel,
                             .cuda = SOLVENT_CUDA_KERNEL(slice_kernel),
                             .jvp = slice_jvp,
                             .vjp = slice_vjp,
                             .inputs = {Save::shape}};

template <auto kRun>
TensorVec pad_kernel(std::span<Tensor> inputs, const Attrs* attrs) {
  const auto& a = static_cast<const PadAttrs&>(*attrs);
  return kRun(inputs[0], static_cast<int>(a.axis) + inputs[0].rank(), a.size, a.first, a.step, a.value);
}

TensorVec pad_jvp(const Rule& rule, std::span<const Tensor> tangents) {
  const auto& a = rule.attrs<PadAttrs>();
  return detail::pad_exact(tangents[0], a.axis, a.size, a.first, a.step, 0.0);
}

TensorVec pad_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  const auto& a = rule.attrs<PadAttrs>();
  return detail::slice_exact(cotangents[0], a.axis, a.first, rule.input_shape(0).at(a.axis), a.step);
}

constinit const OpDef kPad{.name = "pad",
                           .cpu = pad_kernel<cpu::pad>,
                           .cuda = SOLVENT_CUDA_KERNEL(pad_kernel<cuda::pad>),
                           .jvp = pad_jvp,
                           .vjp = pad_vjp,
                           .inputs = {Save::shape}};

// --- concat and split -----------------------------------------------------------------------------------------------------

struct JoinAttrs : AttrsBase<JoinAttrs> {
  std::int64_t axis = -1;
  [[nodiscard]] std::string describe() const override { return axis_text(axis); }
};

struct SplitAttrs : AttrsBase<SplitAttrs> {
  std::int64_t axis = -1;
  std::vector<std::int64_t> sizes;
  [[nodiscard]] std::string describe() const override { return fmt::format("axis={} pieces={}", axis, sizes.size()); }
};

Tensors split_exact(Tensor x, std::vector<std::int64_t> sizes, std::int64_t axis);

template <auto kRun>
TensorVec concat_kernel(std::span<Tensor> inputs, const Attrs* attrs) {
  return kRun(inputs, static_cast<int>(static_cast<const JoinAttrs&>(*attrs).axis) + inputs[0].rank());
}

TensorVec concat_jvp(const Rule& rule, std::span<const Tensor> tangents) {
  const Tensor* some = detail::first_defined(tangents);
  if (some == nullptr) return TensorVec(1);
  Tensors parts(tangents.begin(), tangents.end());
  for (std::size_t i = 0; i < parts.size(); ++i)
    if (!parts[i].defined())
      parts[i] = detail::zeros_view(rule.tangent_shape(static_cast<int>(i)), some->dtype(), some->device());
  return concat(std::move(parts), rule.attrs<JoinAttrs>().axis);
}

TensorVec concat_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  const std::int64_t axis = rule.attrs<JoinAttrs>().axis;
  std::vector<std::int64_t> sizes;
  sizes.reserve(static_cast<std::size_t>(rule.num_inputs()));
  for (int i = 0; i < rule.num_inputs(); ++i) sizes.push_back(rule.input_shape(i).at(axis));
  return TensorVec(split_exact(cotangents[0], std::move(sizes), axis));
}

constinit const OpDef kConcat{.name = "concat",
                              .cpu = concat_kernel<cpu::concat>,
                              .cuda = SOLVENT_CUDA_KERNEL(concat_kernel<cuda::concat>),
                              .jvp = concat_jvp,
                              .vjp = concat_vjp,
                              .inputs = {Save::shape}};

TensorVec split_kernel(std::span<Tensor> inputs, const Attrs* attrs) {
  const auto& a = static_cast<const SplitAttrs&>(*attrs);
  const Tensor& x = inputs[0];
  const int axis = static_cast<int>(a.axis) + x.rank();
  TensorVec pieces(static_cast<int>(a.sizes.size()));
  Shape shape = x.shape();
  std::int64_t offset = x.impl()->offset;
  for (int i = 0; i < pieces.size(); ++i) {
    shape[axis] = a.sizes[static_cast<std::size_t>(i)];
    pieces[i] = engine::view(x, shape, x.strides(), shape[axis] > 0 ? offset : x.impl()->offset);
    offset += shape[axis] * x.strides()[axis];
  }
  return pieces;
}

TensorVec split_jvp(const Rule& rule, std::span<const Tensor> tangents) {
  const auto& a = rule.attrs<SplitAttrs>();
  return TensorVec(split_exact(tangents[0], a.sizes, a.axis));
}

TensorVec split_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  const auto& a = rule.attrs<SplitAttrs>();
  const Tensor* some = detail::first_defined(cotangents);
  if (some == nullptr) return TensorVec(1);
  Shape shape = rule.input_shape(0);
  const int axis = static_cast<int>(a.axis) + shape.rank();
  Tensors parts(cotangents.begin(), cotangents.end());
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].defined()) continue;
    shape[axis] = a.sizes[i];
    parts[i] = detail::zeros_view(shape, some->dtype(), some->device());
  }
  return concat(std::move(parts), a.axis);
}

constinit const OpDef kSplit{.name = "split",
                             .cpu = split_kernel,
                             .cuda = SOLVENT_CUDA_KERNEL(split_kernel),
                             .jvp = split_jvp,
                             .vjp = split_vjp,
                             .inputs = {Save::shape}};

// Sizes are known to add up.
Tensors split_exact(Tensor x, std::vector<std::int64_t> sizes, std::int64_t axis) {
  SplitAttrs attrs;
  attrs.axis = axis;
  attrs.sizes = std::move(sizes);
  Tensor in[] = {std::move(x)};
  return apply(kSplit, in, &attrs).take();
}

// --- stack and unstack ----------------------------------------------------------------------------------------------------

template <auto kRun>
TensorVec stack_kernel(std::span<Tensor> inputs, const Attrs* attrs) {
  return kRun(inputs, static_cast<int>(static_cast<const JoinAttrs&>(*attrs).axis) + inputs[0].rank() + 1);
}

// A missing piece is a zero of the shape that all pieces share.
Tensors with_zeros(std::span<const Tensor> pieces, const Tensor& like) {
  Tensors parts(pieces.begin(), pieces.end());
  Tensor zero;
  for (Tensor& part : parts) {
    if (part.defined()) continue;
    if (!zero.defined()) zero = detail::zeros_view(like.shape(), like.dtype(), like.device());
    part = zero;
  }
  return parts;
}

TensorVec stack_jvp(const Rule& rule, std::span<const Tensor> tangents) {
  const Tensor* some = detail::first_defined(tangents);
  if (some == nullptr) return TensorVec(1);
  return stack(with_zeros(tangents, *some), rule.attrs<JoinAttrs>().axis);
}

TensorVec stack_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  return TensorVec(unstack(cotangents[0], rule.attrs<JoinAttrs>().axis));
}

constinit const OpDef kStack{.name = "stack",
                             .cpu = stack_kernel<cpu::stack>,
                             .cuda = SOLVENT_CUDA_KERNEL(stack_kernel<cuda::stack>),
                             .jvp = stack_jvp,
                             .vjp = stack_vjp};

TensorVec unstack_kernel(std::span<Tensor> inputs, const Attrs* attrs) {
  const Tensor& x = inputs[0];
  const int axis = static_cast<int>(static_cast<const JoinAttrs&>(*attrs).axis) + x.rank();
  const std::int64_t count = x.shape()[axis];
  const std::int64_t stride = x.strides()[axis];
  Shape shape = x.shape();
  Strides strides = x.strides();
  shape.erase(axis);
  strides.erase(axis);
  TensorVec pieces(static_cast<int>(count));
  Tensor* out = pieces.data();
  for (std::int64_t i = 0; i < count; ++i) out[i] = engine::view(x, shape, strides, x.impl()->offset + i * stride);
  return pieces;
}

TensorVec unstack_jvp(const Rule& rule, std::span<const Tensor> tangents) {
  return TensorVec(unstack(tangents[0], rule.attrs<JoinAttrs>().axis));
}

TensorVec unstack_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  const Tensor* some = detail::first_defined(cotangents);
  if (some == nullptr) return TensorVec(1);
  return stack(with_zeros(cotangents, *some), rule.attrs<JoinAttrs>().axis);
}

constinit const OpDef kUnstack{.name = "unstack",
                               .cpu = unstack_kernel,
                               .cuda = SOLVENT_CUDA_KERNEL(unstack_kernel),
                               .jvp = unstack_jvp,
                               .vjp = unstack_vjp};

// --- clone ----------------------------------------------------------------------------------------------------------------

template <auto kRun>
TensorVec clone_kernel(std::span<Tensor> inputs, const Attrs*) {
  return kRun(inputs[0]);
}

TensorVec clone_rule(const Rule&, std::span<const Tensor> values) { return TensorVec(values[0]); }

struct DeviceAttrs : AttrsBase<DeviceAttrs> {
  Device target;
  [[nodiscard]] std::string describe() const override { return solvent::to_string(target); }
};

TensorVec to_kernel(std::span<Tensor> inputs, const Attrs* attrs) {
  return engine::copy_to(engine::contiguous(inputs[0]), static_cast<const DeviceAttrs*>(attrs)->target);
}
TensorVec to_jvp(const Rule& rule, std::span<const Tensor> t) { return to(t[0], rule.attrs<DeviceAttrs>().target); }
TensorVec to_vjp(const Rule& rule, std::span<const Tensor> g) { return to(g[0], rule.input_device(0)); }
// Not in the list of the family: the table's checks run on one device. tests/cuda checks its rules.
constinit const OpDef kTo{.name = "to",
                          .cpu = to_kernel,
                          .cuda = SOLVENT_CUDA_KERNEL(to_kernel),
                          .jvp = to_jvp,
                          .vjp = to_vjp,
                          .inputs = {Save::shape}};

constinit const OpDef kClone{.name = "clone",
                             .cpu = clone_kernel<cpu::clone>,
                             .cuda = SOLVENT_CUDA_KERNEL(clone_kernel<cuda::clone>),
                             .jvp = clone_rule,
                             .vjp = clone_rule};

constinit const OpDef* const kShapeFamily[] = {&kSlice, &kPad, &kConcat, &kSplit, &kStack, &kUnstack, &kClone};

void check_join(const char* op, const Tensors& xs, int joined_axis) {
  for (std::size_t i = 1; i < xs.size(); ++i) {
    if (xs[i].dtype() != xs[0].dtype()) throw_join_dtypes(op, xs[0], xs[i], i);
    if (xs[i].rank() != xs[0].rank()) throw_join_shapes(op, xs[0], xs[i], i);
    for (int axis = 0; axis < xs[0].rank(); ++axis)
      if (axis != joined_axis && xs[i].shape()[axis] != xs[0].shape()[axis]) throw_join_shapes(op, xs[0], xs[i], i);
  }
}

}  // namespace

namespace detail {

OpList shape_family_ops() { return kShapeFamily; }

Tensor slice_exact(Tensor x, std::int64_t axis, std::int64_t first, std::int64_t count, std::int64_t step) {
  if (first == 0 && step == 1 && count == x.shape().at(axis)) return x;
  SliceAttrs attrs;
  attrs.axis = axis;
  attrs.first = first;
  attrs.count = count;
  attrs.step = step;
  return apply1(kSlice, &attrs, std::move(x));
}

Tensor pad_exact(Tensor x, std::int64_t axis, std::int64_t size, std::int64_t first, std::int64_t step, double value) {
  PadAttrs attrs;
  attrs.axis = axis;
  attrs.size = size;
  attrs.first = first;
  attrs.step = step;
  attrs.value = value;
  return apply1(kPad, &attrs, std::move(x));
}

}  // namespace detail

Tensor slice(Tensor x, std::int64_t axis, std::int64_t start, std::int64_t stop, std::int64_t step) {
  const int at = normalise_axis("slice", axis, x.rank());
  if (step == 0) throw_step();
  const std::int64_t size = x.shape()[at];
  // Python's rules (slice.indices): negative bounds count from the end, then bounds are clamped to the axis.
  const std::int64_t low = step > 0 ? 0 : -1;
  const std::int64_t high = step > 0 ? size : size - 1;
  const auto clamped = [&](std::int64_t i) { return i < 0 ? std::max(i + size, low) : std::min(i, high); };
  const std::int64_t first = clamped(start);
  const std::int64_t last = clamped(stop);
  std::int64_t count = 0;
  if (step > 0 && first < last) count = (last - first - 1) / step + 1;
  if (step < 0 && last < first) count = (first - last - 1) / -step + 1;
  const std::int64_t axis_from_right = from_right(at, x.rank());  // not in the call: x is moved from there
  return detail::slice_exact(std::move(x), axis_from_right, count > 0 ? first : 0, count, step);
}

Tensor select(Tensor x, std::int64_t axis, std::int64_t index) {
  const int at = normalise_axis("select", axis, x.rank());
  const std::int64_t size = x.shape()[at];
  if (index < -size || index >= size) throw_index(index, size, axis);
  Shape shape = x.shape();
  shape.erase(at);
  const std::int64_t right = from_right(at, x.rank());
  return reshape(detail::slice_exact(std::move(x), right, index < 0 ? index + size : index, 1, 1), shape);
}

Tensor pad(Tensor x, std::int64_t axis, std::int64_t before, std::int64_t after, double value) {
  const int at = normalise_axis("pad", axis, x.rank());
  if (before < 0 || after < 0) throw_pad(before, after);
  if (before == 0 && after == 0) return x;
  const std::int64_t size = before + x.shape()[at] + after;
  const std::int64_t right = from_right(at, x.rank());
  return detail::pad_exact(std::move(x), right, size, before, 1, value);
}

Tensor concat(Tensors xs, std::int64_t axis) {
  if (xs.empty()) throw_no_tensors("concat");
  const int at = normalise_axis("concat", axis, xs[0].rank());
  check_join("concat", xs, at);
  if (xs.size() == 1) return std::move(xs[0]);
  JoinAttrs attrs;
  attrs.axis = from_right(at, xs[0].rank());
  return std::move(apply(kConcat, xs, &attrs)[0]);
}

Tensor stack(Tensors xs, std::int64_t axis) {
  if (xs.empty()) throw_no_tensors("stack");
  const int rank = xs[0].rank() + 1;  // of the result, which `axis` belongs to
  const int at = normalise_axis("stack", axis, rank);
  check_join("stack", xs, -1);
  JoinAttrs attrs;
  attrs.axis = from_right(at, rank);
  return std::move(apply(kStack, xs, &attrs)[0]);
}

Tensors unstack(Tensor x, std::int64_t axis) {
  const int at = normalise_axis("unstack", axis, x.rank());
  const std::int64_t count = x.shape()[at];
  if (count == 0) return {};
  if (count > kMaxPieces)
    throw ShapeError(
        fmt::format("[unstack] got axis {} of extent {}; expected at most {} pieces. Use slice for blocks.", axis,
                    count, kMaxPieces));
  JoinAttrs attrs;
  attrs.axis = from_right(at, x.rank());
  Tensor in[] = {std::move(x)};
  return apply(kUnstack, in, &attrs).take();
}

Tensors split(Tensor x, const std::vector<std::int64_t>& sizes, std::int64_t axis) {
  const int at = normalise_axis("split", axis, x.rank());
  std::int64_t total = 0;
  bool valid = true;
  for (const std::int64_t size : sizes) {
    valid = valid && size >= 0;
    total += size;
  }
  if (!valid || total != x.shape()[at])
    throw ShapeError(fmt::format(
        "[split] got sizes {} for axis {} of extent {}; expected sizes of at least 0 that add up "
        "to the extent.",
        to_string(Dims(std::span(sizes).first(std::min<std::size_t>(sizes.size(), kMaxRank)))), axis, x.shape()[at]));
  if (sizes.empty()) return {};
  const std::int64_t right = from_right(at, x.rank());
  return split_exact(std::move(x), sizes, right);
}

Tensor flip(Tensor x, std::int64_t axis) {
  const int at = normalise_axis("flip", axis, x.rank());
  const std::int64_t size = x.shape()[at];
  if (size <= 1) return x;
  const std::int64_t right = from_right(at, x.rank());
  return detail::slice_exact(std::move(x), right, size - 1, size, -1);
}

Tensor transpose(Tensor x, std::int64_t axis_a, std::int64_t axis_b) {
  const int a = normalise_axis("transpose", axis_a, x.rank());
  const int b = normalise_axis("transpose", axis_b, x.rank());
  if (a == b) return x;
  Axes order;
  for (int i = 0; i < x.rank(); ++i) order.push_back(i == a ? b : i == b ? a : i);
  return permute(std::move(x), order);
}

Tensor mT(Tensor x) {
  require_rank("mT", x, 2);
  return transpose(std::move(x), -2, -1);
}

Tensor squeeze(Tensor x, std::int64_t axis) {
  const int at = normalise_axis("squeeze", axis, x.rank());
  Shape shape = x.shape();
  if (shape[at] != 1)
    throw ShapeError(
        fmt::format("[squeeze] got axis {} of a tensor of shape {}; expected an axis of extent 1. Use select "
                    "to take one index of a longer axis.",
                    axis, to_string(shape)));
  shape.erase(at);
  return reshape(std::move(x), shape);
}

Tensor unsqueeze(Tensor x, std::int64_t axis) {
  const int at = normalise_axis("unsqueeze", axis, x.rank() + 1);
  Shape shape = x.shape();
  shape.insert(at, 1);
  return reshape(std::move(x), shape);
}

Tensor contiguous(Tensor x) {
  if (x.is_contiguous()) return x;
  return clone(x);
}

Tensor clone(const Tensor& x) { return apply1(kClone, nullptr, x); }

Tensor to(Tensor x, Device device) {
  if (x.device() == device) return x;
  detail::require_device("to", device);
  DeviceAttrs attrs;
  attrs.target = device;
  return apply1(kTo, &attrs, std::move(x));
}

}  // namespace solvent
