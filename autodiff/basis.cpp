#include "solvent/autodiff/basis.h"

#include <cmath>
#include <string>

#include "solvent/autodiff/cuda_kernel.h"
#include "solvent/autodiff/mechanism.h"
#include "solvent/core/engine/basic.h"
#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"

namespace solvent {

namespace {

// --- attributes -------------------------------------------------------------------------------------------------------------

struct AffineAttrs : AttrsBase<AffineAttrs> {
  double scale = 1, shift = 0;
  [[nodiscard]] std::string describe() const override {
    return "scale=" + std::to_string(scale) + ", shift=" + std::to_string(shift);
  }
};

struct ShapeAttrs : AttrsBase<ShapeAttrs> {
  Shape shape;
  [[nodiscard]] std::string describe() const override { return "shape=" + to_string(shape); }
};

struct OrderAttrs : AttrsBase<OrderAttrs> {
  Axes order;  // non-negative, for the primal's rank
  [[nodiscard]] std::string describe() const override { return "order=" + to_string(order); }
};

Shape lifted(const Rule& rule, const Shape& shape) {
  return rule.directions() > 0 ? prepend(rule.directions(), shape) : shape;
}

// --- add --------------------------------------------------------------------------------------------------------------------

TensorVec add_kernel(std::span<Tensor> in, const Attrs*) { return engine::add(in[0], in[1]); }

TensorVec add_jvp(const Rule&, std::span<const Tensor> t) {
  if (t[0].defined() && t[1].defined()) return add(t[0], t[1]);
  return t[0].defined() ? t[0] : t[1];
}

TensorVec add_vjp(const Rule&, std::span<const Tensor> g) { return {g[0], g[0]}; }

constinit const OpDef kAdd = {
    .name = "add", .cpu = add_kernel, .cuda = SOLVENT_CUDA_KERNEL(add_kernel), .jvp = add_jvp, .vjp = add_vjp};

// --- affine -----------------------------------------------------------------------------------------------------------------

TensorVec affine_kernel(std::span<Tensor> in, const Attrs* attrs) {
  const auto& a = *static_cast<const AffineAttrs*>(attrs);
  return engine::affine(in[0], a.scale, a.shift);
}

TensorVec affine_derivative(const Rule& rule, std::span<const Tensor> t) {
  const double scale = rule.attrs<AffineAttrs>().scale;
  return scale == 1.0 ? t[0] : affine(t[0], scale, 0.0);
}

constinit const OpDef kAffine = {.name = "affine",
                                 .cpu = affine_kernel,
                                 .cuda = SOLVENT_CUDA_KERNEL(affine_kernel),
                                 .jvp = affine_derivative,
                                 .vjp = affine_derivative};

// --- reshape ----------------------------------------------------------------------------------------------------------------

TensorVec reshape_kernel(std::span<Tensor> in, const Attrs* attrs) {
  const Shape& shape = static_cast<const ShapeAttrs*>(attrs)->shape;
  Strides strides;
  if (engine::reshape_strides(in[0], shape, strides)) return engine::view(in[0], shape, strides, in[0].impl()->offset);
  const Tensor dense = engine::contiguous(in[0]);
  return engine::view(dense, shape, contiguous_strides(shape), dense.impl()->offset);
}

TensorVec reshape_jvp(const Rule& rule, std::span<const Tensor> t) {
  return reshape(t[0], lifted(rule, rule.attrs<ShapeAttrs>().shape));
}

TensorVec reshape_vjp(const Rule& rule, std::span<const Tensor> g) { return reshape(g[0], rule.input_shape(0)); }

constinit const OpDef kReshape = {.name = "reshape",
                                  .cpu = reshape_kernel,
                                  .cuda = SOLVENT_CUDA_KERNEL(reshape_kernel),
                                  .jvp = reshape_jvp,
                                  .vjp = reshape_vjp,
                                  .inputs = {Save::shape}};

// --- broadcast_to and sum_to ------------------------------------------------------------------------------------------------

TensorVec broadcast_kernel(std::span<Tensor> in, const Attrs* attrs) {
  const Shape& shape = static_cast<const ShapeAttrs*>(attrs)->shape;
  const Tensor& x = in[0];
  Strides strides = x.strides();
  for (int i = 0; i < shape.rank(); ++i)
    if (x.shape()[i] != shape[i]) strides[i] = 0;
  return engine::view(x, shape, strides, x.impl()->offset);
}

TensorVec broadcast_jvp(const Rule& rule, std::span<const Tensor> t) {
  return broadcast_to(t[0], lifted(rule, rule.attrs<ShapeAttrs>().shape));
}

TensorVec broadcast_vjp(const Rule& rule, std::span<const Tensor> g) { return sum_to(g[0], rule.input_shape(0)); }

constinit const OpDef kBroadcastTo = {.name = "broadcast_to",
                                      .cpu = broadcast_kernel,
                                      .cuda = SOLVENT_CUDA_KERNEL(broadcast_kernel),
                                      .jvp = broadcast_jvp,
                                      .vjp = broadcast_vjp,
                                      .inputs = {Save::shape}};

TensorVec sum_to_kernel(std::span<Tensor> in, const Attrs* attrs) {
  return engine::sum_to(in[0], static_cast<const ShapeAttrs*>(attrs)->shape);
}

TensorVec sum_to_jvp(const Rule& rule, std::span<const Tensor> t) {
  return sum_to(t[0], lifted(rule, rule.attrs<ShapeAttrs>().shape));
}

TensorVec sum_to_vjp(const Rule& rule, std::span<const Tensor> g) { return broadcast_to(g[0], rule.input_shape(0)); }

constinit const OpDef kSumTo = {.name = "sum_to",
                                .cpu = sum_to_kernel,
                                .cuda = SOLVENT_CUDA_KERNEL(sum_to_kernel),
                                .jvp = sum_to_jvp,
                                .vjp = sum_to_vjp,
                                .inputs = {Save::shape}};

// --- permute ----------------------------------------------------------------------------------------------------------------

TensorVec permute_kernel(std::span<Tensor> in, const Attrs* attrs) {
  const Axes& order = static_cast<const OrderAttrs*>(attrs)->order;
  const Tensor& x = in[0];
  Shape shape = x.shape();
  Strides strides = x.strides();
  for (int i = 0; i < order.rank(); ++i) {
    const auto from = static_cast<int>(order[i]);
    shape[i] = x.shape()[from];
    strides[i] = x.strides()[from];
  }
  return engine::view(x, shape, strides, x.impl()->offset);
}

TensorVec permute_jvp(const Rule& rule, std::span<const Tensor> t) {
  const Axes& order = rule.attrs<OrderAttrs>().order;
  if (rule.directions() == 0) return permute(t[0], order);
  Axes shifted{0};
  for (const std::int64_t axis : order) shifted.push_back(axis + 1);
  return permute(t[0], shifted);
}

TensorVec permute_vjp(const Rule& rule, std::span<const Tensor> g) {
  const Axes& order = rule.attrs<OrderAttrs>().order;
  Axes inverse = order;
  for (int i = 0; i < order.rank(); ++i) inverse[static_cast<int>(order[i])] = i;
  return permute(g[0], inverse);
}

constinit const OpDef kPermute = {.name = "permute",
                                  .cpu = permute_kernel,
                                  .cuda = SOLVENT_CUDA_KERNEL(permute_kernel),
                                  .jvp = permute_jvp,
                                  .vjp = permute_vjp};

constexpr const OpDef* kBasisOps[] = {&kAdd, &kAffine, &kBroadcastTo, &kPermute, &kReshape, &kSumTo};

[[noreturn]] void throw_reshape(const Tensor& x, const Shape& shape) {
  throw ShapeError("[reshape] got " + describe(x) + " with " + std::to_string(x.numel()) +
                   " elements and target shape " + to_string(shape) +
                   "; expected as many elements (one extent may be -1).");
}

Shape resolve_reshape(const Tensor& x, Shape shape) {
  int unknown = -1;
  std::int64_t known = 1;
  const Shape requested = shape;
  for (int i = 0; i < shape.rank(); ++i) {
    if (shape[i] == -1 && unknown < 0) {
      unknown = i;
    } else {
      if (shape[i] < 0) throw_reshape(x, requested);
      known *= shape[i];
    }
  }
  if (unknown >= 0) {
    if (known == 0 || x.numel() % known != 0) throw_reshape(x, requested);
    shape[unknown] = x.numel() / known;
  } else if (known != x.numel()) {
    throw_reshape(x, requested);
  }
  return shape;
}

// Puts axes of extent 1 in front until `x` has `rank` axes.
Tensor with_rank(Tensor x, int rank) {
  if (x.rank() == rank) return x;
  Shape shape;
  for (int i = x.rank(); i < rank; ++i) shape.push_back(1);
  for (const std::int64_t n : x.shape()) shape.push_back(n);
  return reshape(std::move(x), shape);
}

void check_integer_scalars(const Tensor& x, double a, double b) {
  if (is_floating(x.dtype())) return;
  if (x.dtype() != DType::int64)
    throw DtypeError("[affine] got " + describe(x) + "; expected a floating or int64 tensor. Use cast(x, dtype).");
  if (a != std::floor(a) || b != std::floor(b))
    throw DtypeError(
        "[affine] got an int64 tensor and a fractional scalar; expected an integer. Use cast(x, float32) first.");
}

}  // namespace

namespace detail {

std::span<const OpDef* const> basis_ops() { return kBasisOps; }

void check_same_dtype(const char* op, const Tensor& a, const Tensor& b) {
  if (a.dtype() == b.dtype()) [[likely]]
    return;
  throw DtypeError(std::string("[") + op + "] got " + describe(a) + " and " + describe(b) +
                   "; expected one dtype (there is no silent promotion). Convert one with cast(x, dtype).");
}

void check_floating(const char* op, const Tensor& x) {
  const DType dtype = x.dtype();
  if (is_floating(dtype) && !is_storage_type(dtype)) [[likely]]
    return;
  std::string text = std::string("[") + op + "] got " + describe(x) + "; expected float32 or float64. ";
  text += is_storage_type(dtype) ? floating_advice(dtype) : "Use cast(x, dtype).";
  throw DtypeError(text);
}

void check_floating_or_storage(const char* op, const Tensor& x) {
  if (!is_floating(x.dtype())) [[unlikely]]
    check_floating(op, x);
}

void align(const char* op, Tensor& a, Tensor& b) {
  check_same_dtype(op, a, b);
  if (a.shape() == b.shape()) [[likely]]
    return;
  const Shape shape = broadcast_shapes(op, a.shape(), b.shape());
  a = broadcast_to(std::move(a), shape);
  b = broadcast_to(std::move(b), shape);
}

}  // namespace detail

Tensor add(Tensor a, Tensor b) {
  detail::align("add", a, b);
  return apply1(kAdd, nullptr, std::move(a), std::move(b));
}

Tensor affine(Tensor x, double a, double b) {
  check_integer_scalars(x, a, b);
  AffineAttrs attrs;
  attrs.scale = a;
  attrs.shift = b;
  return apply1(kAffine, &attrs, std::move(x));
}

Tensor reshape(Tensor x, Shape shape) {
  shape = resolve_reshape(x, shape);
  if (x.shape() == shape) return x;
  ShapeAttrs attrs;
  attrs.shape = shape;
  return apply1(kReshape, &attrs, std::move(x));
}

Tensor broadcast_to(Tensor x, const Shape& shape) {
  if (x.shape() == shape) return x;
  bool fits = x.rank() <= shape.rank();
  for (int i = 1; fits && i <= x.rank(); ++i) {
    const std::int64_t from = x.shape()[x.rank() - i], to = shape[shape.rank() - i];
    fits = from == to || from == 1;
  }
  if (!fits)
    throw ShapeError("[broadcast_to] got " + describe(x) + " and target shape " + to_string(shape) +
                     "; expected every extent, counted from the right, to be equal or 1.");
  x = with_rank(std::move(x), shape.rank());
  if (x.shape() == shape) return x;
  ShapeAttrs attrs;
  attrs.shape = shape;
  return apply1(kBroadcastTo, &attrs, std::move(x));
}

Tensor sum_to(Tensor x, const Shape& shape) {
  if (x.shape() == shape) return x;
  bool fits = shape.rank() <= x.rank();
  for (int i = 1; fits && i <= shape.rank(); ++i) {
    const std::int64_t from = x.shape()[x.rank() - i], to = shape[shape.rank() - i];
    fits = from == to || to == 1;
  }
  if (!fits)
    throw ShapeError("[sum_to] got " + describe(x) + " and target shape " + to_string(shape) +
                     "; expected every extent, counted from the right, to be equal or 1.");
  ShapeAttrs attrs;
  for (int i = shape.rank(); i < x.rank(); ++i) attrs.shape.push_back(1);
  for (const std::int64_t n : shape) attrs.shape.push_back(n);
  Tensor y = x.shape() == attrs.shape ? std::move(x) : apply1(kSumTo, &attrs, std::move(x));
  return reshape(std::move(y), shape);
}

Tensor permute(Tensor x, const Axes& order) {
  const int rank = x.rank();
  OrderAttrs attrs;
  bool identity = order.rank() == rank;
  bool seen[kMaxRank] = {};
  bool valid = order.rank() == rank;
  for (int i = 0; valid && i < rank; ++i) {
    const int axis = normalise_axis("permute", order[i], rank);
    valid = !seen[axis];
    seen[axis] = true;
    identity = identity && axis == i;
    attrs.order.push_back(axis);
  }
  if (!valid)
    throw ShapeError("[permute] got " + describe(x) + " and order " + to_string(order) + "; expected each of its " +
                     std::to_string(rank) + " axes exactly once.");
  if (identity) return x;
  return apply1(kPermute, &attrs, std::move(x));
}

}  // namespace solvent
