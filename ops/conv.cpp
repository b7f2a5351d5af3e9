// Convolutions. Three bilinear primitives on maps of rank 4, each derivative of which is one of the three:
//
//   Y = conv(x, w)           X = conv_input_grad(g, w)      adjoint of x -> conv(x, w)
//                            W = conv_weight_grad(x, g)     adjoint of w -> conv(x, w)
//
//   <g, conv(x, w)> = <conv_input_grad(g, w), x> = <conv_weight_grad(x, g), w>   for all x, w, g
//
// so the cotangents of the inputs of any one of them are made by the other two. The attributes of all three are those of
// the convolution, with the extents of map and filter, which a stride forgets.
//
// Tangents carry an axis of K directions in front. The primitives stay at rank 4; directions are folded into the axis
// along which the operand's maps or filters are independent:
//
//                        1st operand (of rank 5)     2nd operand
//   conv(x, w)           K into N                    K into O
//   conv_input_grad      K into N                    K into C
//   conv_weight_grad     K into C                    K into O
//
// With groups, K is interleaved inside each group: (K, N, G C, ...) -> (N, G K C, ...). The rules of a bilinear operation
// pass one tangent and one value, so at most one operand has directions.

#include "solvent/ops/conv.h"

#include <utility>

#include <fmt/format.h>

#include "solvent/autodiff/cuda_kernel.h"
#include "solvent/core/error.h"
#include "solvent/ops/cpu/conv_kernels.h"
#if SOLVENT_WITH_CUDA
#include "solvent/ops/cuda/conv.h"
#endif
#include "solvent/ops/families.h"
#include "solvent/ops/rules.h"

namespace solvent {
namespace {

using cpu::ConvAxis;
using cpu::ConvGeometry;

constexpr int kMaps = 4;  // rank of maps and filters without directions

struct ConvAttrs : AttrsBase<ConvAttrs> {
  explicit ConvAttrs(const ConvGeometry& g) : geometry(g) {}
  ConvGeometry geometry;

  [[nodiscard]] std::string describe() const override {
    const ConvAxis& h = geometry.h;
    const ConvAxis& w = geometry.w;
    return fmt::format(
        "map=({}, {}) kernel=({}, {}) stride=({}, {}) padding=({}, {}, {}, {}) dilation=({}, {}) groups={}{}", h.in,
        w.in, h.kernel, w.kernel, h.stride, w.stride, h.before, h.after, w.before, w.after, h.dilation, w.dilation,
        geometry.groups,
        geometry.precision == MatmulPrecision::highest ? "" : " precision=" + to_string(geometry.precision));
  }
};

// --- directions -------------------------------------------------------------------------------------------------------------

// (K, N, ...) <-> (K N, ...)
Tensor fold_images(Tensor t) {
  const Shape s = t.shape();
  return reshape(std::move(t), {s[0] * s[1], s[2], s[3], s[4]});
}
Tensor unfold_images(Tensor t, std::int64_t k) {
  const Shape s = t.shape();
  return reshape(std::move(t), {k, s[0] / k, s[1], s[2], s[3]});
}

// (K, N, G C, H, W) <-> (N, G K C, H, W)
Tensor fold_channels(Tensor t, std::int64_t groups) {
  const Shape s = t.shape();
  const std::int64_t c = s[2] / groups;
  t = permute(reshape(std::move(t), {s[0], s[1], groups, c, s[3], s[4]}), {1, 2, 0, 3, 4, 5});
  return reshape(std::move(t), {s[1], s[0] * s[2], s[3], s[4]});
}
Tensor unfold_channels(Tensor t, std::int64_t k, std::int64_t groups) {
  const Shape s = t.shape();
  const std::int64_t c = s[1] / (k * groups);
  t = permute(reshape(std::move(t), {s[0], groups, k, c, s[2], s[3]}), {2, 0, 1, 3, 4, 5});
  return reshape(std::move(t), {k, s[0], groups * c, s[2], s[3]});
}

// Filters (K, G O, C, h, w) <-> (G K O, C, h, w)
Tensor fold_filters(Tensor t, std::int64_t groups) {
  const Shape s = t.shape();
  t = permute(reshape(std::move(t), {s[0], groups, s[1] / groups, s[2], s[3], s[4]}), {1, 0, 2, 3, 4, 5});
  return reshape(std::move(t), {s[0] * s[1], s[2], s[3], s[4]});
}
Tensor unfold_filters(Tensor t, std::int64_t k, std::int64_t groups) {
  const Shape s = t.shape();
  const std::int64_t o = s[0] / k;
  t = permute(reshape(std::move(t), {groups, k, o / groups, s[1], s[2], s[3]}), {1, 0, 2, 3, 4, 5});
  return reshape(std::move(t), {k, o, s[1], s[2], s[3]});
}

// Filters (K, O, C, h, w) <-> (O, K C, h, w)
Tensor fold_depth(Tensor t) {
  const Shape s = t.shape();
  return reshape(permute(std::move(t), {1, 0, 2, 3, 4}), {s[1], s[0] * s[2], s[3], s[4]});
}
Tensor unfold_depth(Tensor t, std::int64_t k) {
  const Shape s = t.shape();
  return permute(reshape(std::move(t), {s[0], k, s[1] / k, s[2], s[3]}), {1, 0, 2, 3, 4});
}

// --- the family: front ends of the primitives, for operands of which one may have directions ---------------------------------

extern const OpDef kConv;
extern const OpDef kInputGrad;
extern const OpDef kWeightGrad;

Tensor run(const OpDef& op, Tensor a, Tensor b, const ConvGeometry& geometry) {
  const ConvAttrs attrs(geometry);
  return apply1(op, &attrs, std::move(a), std::move(b));
}

Tensor apply_conv(Tensor x, Tensor w, const ConvGeometry& geometry) {
  if (x.rank() > kMaps) {
    const std::int64_t k = x.size(0);
    return unfold_images(run(kConv, fold_images(std::move(x)), std::move(w), geometry), k);
  }
  if (w.rank() > kMaps) {
    const std::int64_t k = w.size(0);
    Tensor y = run(kConv, std::move(x), fold_filters(std::move(w), geometry.groups), geometry);
    return unfold_channels(std::move(y), k, geometry.groups);
  }
  return run(kConv, std::move(x), std::move(w), geometry);
}

Tensor apply_input_grad(Tensor g, Tensor w, const ConvGeometry& geometry) {
  if (g.rank() > kMaps) {
    const std::int64_t k = g.size(0);
    return unfold_images(run(kInputGrad, fold_images(std::move(g)), std::move(w), geometry), k);
  }
  if (w.rank() > kMaps) {
    const std::int64_t k = w.size(0);
    Tensor x = run(kInputGrad, std::move(g), fold_depth(std::move(w)), geometry);
    return unfold_channels(std::move(x), k, geometry.groups);
  }
  return run(kInputGrad, std::move(g), std::move(w), geometry);
}

Tensor apply_weight_grad(Tensor x, Tensor g, const ConvGeometry& geometry) {
  if (x.rank() > kMaps) {
    const std::int64_t k = x.size(0);
    return unfold_depth(run(kWeightGrad, fold_channels(std::move(x), geometry.groups), std::move(g), geometry), k);
  }
  if (g.rank() > kMaps) {
    const std::int64_t k = g.size(0);
    Tensor w = run(kWeightGrad, std::move(x), fold_channels(std::move(g), geometry.groups), geometry);
    return unfold_filters(std::move(w), k, geometry.groups);
  }
  return run(kWeightGrad, std::move(x), std::move(g), geometry);
}

// --- rules ------------------------------------------------------------------------------------------------------------------

using Member = Tensor (*)(Tensor, Tensor, const ConvGeometry&);

template <Member kSelf>
TensorVec bilinear_jvp(const Rule& rule, std::span<const Tensor> tangents) {
  const ConvGeometry& g = rule.attrs<ConvAttrs>().geometry;
  return detail::add_defined(tangents[0].defined() ? kSelf(tangents[0], rule.input(1), g) : Tensor(),
                             tangents[1].defined() ? kSelf(rule.input(0), tangents[1], g) : Tensor());
}

TensorVec conv_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  const ConvGeometry& g = rule.attrs<ConvAttrs>().geometry;
  TensorVec grads(2);
  if (rule.needs(0)) grads[0] = apply_input_grad(cotangents[0], rule.input(1), g);
  if (rule.needs(1)) grads[1] = apply_weight_grad(rule.input(0), cotangents[0], g);
  return grads;
}

TensorVec input_grad_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  const ConvGeometry& g = rule.attrs<ConvAttrs>().geometry;
  TensorVec grads(2);
  if (rule.needs(0)) grads[0] = apply_conv(cotangents[0], rule.input(1), g);
  if (rule.needs(1)) grads[1] = apply_weight_grad(cotangents[0], rule.input(0), g);
  return grads;
}

TensorVec weight_grad_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  const ConvGeometry& g = rule.attrs<ConvAttrs>().geometry;
  TensorVec grads(2);
  if (rule.needs(0)) grads[0] = apply_input_grad(rule.input(1), cotangents[0], g);
  if (rule.needs(1)) grads[1] = apply_conv(rule.input(0), cotangents[0], g);
  return grads;
}

// A kernel of cpu:: or cuda::, each with its own choice of implementations.
template <class Backend, Tensor (*kFn)(const Tensor&, const Tensor&, const ConvGeometry&, Backend)>
TensorVec kernel(std::span<Tensor> inputs, const Attrs* attrs) {
  return kFn(inputs[0], inputs[1], static_cast<const ConvAttrs&>(*attrs).geometry, Backend::automatic);
}

constexpr OpDef family_member(std::string_view name, Kernel cpu, Kernel cuda, JvpRule jvp, VjpRule vjp) {
  return {.name = name, .cpu = cpu, .cuda = cuda, .jvp = jvp, .vjp = vjp, .inputs = {Save::data}};
}

constinit const OpDef kConv =
    family_member("conv", kernel<cpu::ConvBackend, cpu::conv>,
                  SOLVENT_CUDA_KERNEL(kernel<cuda::ConvBackend, cuda::conv>), bilinear_jvp<apply_conv>, conv_vjp);
constinit const OpDef kInputGrad = family_member("conv_input_grad", kernel<cpu::ConvBackend, cpu::conv_input_grad>,
                                                 SOLVENT_CUDA_KERNEL(kernel<cuda::ConvBackend, cuda::conv_input_grad>),
                                                 bilinear_jvp<apply_input_grad>, input_grad_vjp);
constinit const OpDef kWeightGrad =
    family_member("conv_weight_grad", kernel<cpu::ConvBackend, cpu::conv_weight_grad>,
                  SOLVENT_CUDA_KERNEL(kernel<cuda::ConvBackend, cuda::conv_weight_grad>),
                  bilinear_jvp<apply_weight_grad>, weight_grad_vjp);

constinit const OpDef* const kConvFamily[] = {&kConv, &kInputGrad, &kWeightGrad};

// --- checks -----------------------------------------------------------------------------------------------------------------

// A layout in words, for maps (rank 4) or sequences (rank 3).
struct Words {
  const char* op;
  const char* x;  // "x (N, C, H, W)"
  const char* w;  // "w (O, C / groups, kh, kw)"
};

void check_options(const char* op, const ConvGeometry& g) {
  const auto check = [op](std::int64_t value, std::int64_t least, const char* name) {
    if (value < least)
      throw ValueError(fmt::format("[{}] got {} = {}; expected at least {}.{}", op, name, value, least,
                                   least == 0 ? " Use slice to cut a map." : ""));
  };
  for (const ConvAxis* axis : {&g.h, &g.w}) {
    check(axis->stride, 1, "stride");
    check(axis->dilation, 1, "dilation");
    check(axis->before, 0, "padding");
    check(axis->after, 0, "padding");
  }
  check(g.groups, 1, "groups");
}

void check_operands(const Words& words, const Tensor& x, const Tensor& w, int rank) {
  detail::check_same_dtype(words.op, x, w);
  detail::check_floating_or_storage(words.op, x);
  if (x.rank() != rank || w.rank() != rank)
    throw ShapeError(fmt::format("[{}] got {} and {}; expected {} and {}. Use unsqueeze(x, 0) for a batch of one.",
                                 words.op, to_string(x.shape()), to_string(w.shape()), words.x, words.w));
}

[[noreturn]] void throw_channels(const Words& words, const Tensor& x, const Tensor& w, std::int64_t groups) {
  throw ShapeError(
      fmt::format("[{}] got {} and {} with {} groups; expected {} and {}, both channel numbers divisible by "
                  "groups.",
                  words.op, to_string(x.shape()), to_string(w.shape()), groups, words.x, words.w));
}

// Positions of the filter, or 0 if it is larger than the padded map.
std::int64_t positions(const ConvAxis& a) noexcept {
  const std::int64_t room = a.in + a.before + a.after - a.dilation * (a.kernel - 1) - 1;
  return room < 0 || a.kernel < 1 ? 0 : room / a.stride + 1;
}

// Fills in the results' extents. @throws ShapeError if there are none
void set_results(const char* op, ConvGeometry& g, int spatial) {
  for (const ConvAxis* axis : {&g.h, &g.w})
    if (positions(*axis) < 1) {
      throw ShapeError(fmt::format(
          "[{}] got a map of {} with a filter of {} along axis {}, padding {} + {}, dilation {}; "
          "expected a filter that fits into the padded map. Add padding.",
          op, axis->in, axis->kernel, axis == &g.w ? -1 : -spatial, axis->before, axis->after, axis->dilation));
    }
  g.h.out = positions(g.h);
  g.w.out = positions(g.w);
}

MatmulPrecision precision_of(const std::optional<MatmulPrecision>& wanted) {
  return wanted ? *wanted : matmul_precision();
}

// Extents of map, filter and result are filled in later.
ConvGeometry geometry_of(const Conv2dOptions& o) {
  return {
      {.stride = o.stride.height, .before = o.padding.top, .after = o.padding.bottom, .dilation = o.dilation.height},
      {.stride = o.stride.width, .before = o.padding.left, .after = o.padding.right, .dilation = o.dilation.width},
      o.groups,
      precision_of(o.precision)};
}

ConvGeometry geometry_of(const Conv1dOptions& o) {
  return {{},
          {.stride = o.stride, .before = o.padding.before, .after = o.padding.after, .dilation = o.dilation},
          o.groups,
          precision_of(o.precision)};
}

constexpr Words kConv2dWords{"conv2d", "x (N, C, H, W)", "w (O, C / groups, kh, kw)"};
constexpr Words kConv1dWords{"conv1d", "x (N, C, L)", "w (O, C / groups, k)"};
constexpr Words kTranspose2dWords{"conv_transpose2d", "x (N, C, H, W)", "w (C, O / groups, kh, kw)"};
constexpr Words kTranspose1dWords{"conv_transpose1d", "x (N, C, L)", "w (C, O / groups, k)"};
constexpr Words kInputGradWords{"conv2d_input_grad", "g (N, O, H', W')", "w (O, C / groups, kh, kw)"};
constexpr Words kWeightGradWords{"conv2d_weight_grad", "x (N, C, H, W)", "g (N, O, H', W')"};

void check_conv(const Words& words, const Tensor& x, const Tensor& w, const ConvGeometry& g, int rank) {
  check_operands(words, x, w, rank);
  check_options(words.op, g);
  if (x.size(1) != w.size(1) * g.groups || w.size(0) % g.groups != 0) throw_channels(words, x, w, g.groups);
}

// (N, C, L) as maps of one row.
Tensor as_map(Tensor x) {
  const Shape s = x.shape();
  return reshape(std::move(x), {s[0], s[1], 1, s[2]});
}
Tensor as_sequence(Tensor y) {
  const Shape s = y.shape();
  return reshape(std::move(y), {s[0], s[1], s[3]});
}

void check_output_padding(const char* op, const ConvAxis& axis, std::int64_t output_padding) {
  if (output_padding < 0 || output_padding >= axis.stride)
    throw ValueError(fmt::format("[{}] got output_padding = {} with stride {}; expected 0 <= output_padding < stride.",
                                 op, output_padding, axis.stride));
}

// Extents of a transposed convolution: `out` is that of its input. @throws ShapeError if nothing is left
void set_transposed(const char* op, ConvAxis& axis, std::int64_t extent, std::int64_t kernel,
                    std::int64_t output_padding) {
  check_output_padding(op, axis, output_padding);
  axis.out = extent;
  axis.kernel = kernel;
  axis.in = (extent - 1) * axis.stride - axis.before - axis.after + axis.dilation * (kernel - 1) + output_padding + 1;
  if (extent < 1 || kernel < 1 || axis.in < 1)
    throw ShapeError(
        fmt::format("[{}] got extents {} of x and {} of w with padding {} + {}; expected x, w and the result "
                    "to have at least one position. Use less padding.",
                    op, extent, kernel, axis.before, axis.after));
}

}  // namespace

namespace detail {
OpList conv_ops() { return kConvFamily; }
}  // namespace detail

Tensor conv2d(Tensor x, Tensor w, const Conv2dOptions& options) {
  ConvGeometry g = geometry_of(options);
  check_conv(kConv2dWords, x, w, g, 4);
  g.h.in = x.size(2);
  g.w.in = x.size(3);
  g.h.kernel = w.size(2);
  g.w.kernel = w.size(3);
  set_results("conv2d", g, 2);
  return apply_conv(std::move(x), std::move(w), g);
}

Tensor conv1d(Tensor x, Tensor w, const Conv1dOptions& options) {
  ConvGeometry g = geometry_of(options);
  check_conv(kConv1dWords, x, w, g, 3);
  g.h.in = g.h.kernel = 1;
  g.w.in = x.size(2);
  g.w.kernel = w.size(2);
  set_results("conv1d", g, 2);
  return as_sequence(apply_conv(as_map(std::move(x)), as_map(std::move(w)), g));
}

Tensor conv_transpose2d(Tensor x, Tensor w, const ConvTranspose2dOptions& options) {
  ConvGeometry g = geometry_of({options.stride, options.padding, options.dilation, options.groups, options.precision});
  check_operands(kTranspose2dWords, x, w, 4);
  check_options("conv_transpose2d", g);
  if (x.size(1) != w.size(0) || w.size(0) % g.groups != 0) throw_channels(kTranspose2dWords, x, w, g.groups);
  set_transposed("conv_transpose2d", g.h, x.size(2), w.size(2), options.output_padding.height);
  set_transposed("conv_transpose2d", g.w, x.size(3), w.size(3), options.output_padding.width);
  return apply_input_grad(std::move(x), std::move(w), g);
}

Tensor conv_transpose1d(Tensor x, Tensor w, const ConvTranspose1dOptions& options) {
  ConvGeometry g =
      geometry_of(Conv1dOptions{options.stride, options.padding, options.dilation, options.groups, options.precision});
  check_operands(kTranspose1dWords, x, w, 3);
  check_options("conv_transpose1d", g);
  if (x.size(1) != w.size(0) || w.size(0) % g.groups != 0) throw_channels(kTranspose1dWords, x, w, g.groups);
  set_transposed("conv_transpose1d", g.h, 1, 1, 0);
  set_transposed("conv_transpose1d", g.w, x.size(2), w.size(2), options.output_padding);
  return as_sequence(apply_input_grad(as_map(std::move(x)), as_map(std::move(w)), g));
}

namespace {

// g must be the result of a convolution of this geometry.
void check_result(const Words& words, const Tensor& g, const ConvGeometry& geometry) {
  if (g.size(2) != geometry.h.out || g.size(3) != geometry.w.out)
    throw ShapeError(
        fmt::format("[{}] got g {}; expected (N, O, {}, {}), what conv2d gives for a map ({}, {}) and a filter "
                    "({}, {}) with these options.",
                    words.op, to_string(g.shape()), geometry.h.out, geometry.w.out, geometry.h.in, geometry.w.in,
                    geometry.h.kernel, geometry.w.kernel));
}

}  // namespace

Tensor conv2d_input_grad(Tensor g, Tensor w, Size2d input_size, const Conv2dOptions& options) {
  ConvGeometry geometry = geometry_of(options);
  check_operands(kInputGradWords, g, w, 4);
  check_options(kInputGradWords.op, geometry);
  if (g.size(1) != w.size(0) || w.size(0) % geometry.groups != 0)
    throw_channels(kInputGradWords, g, w, geometry.groups);
  geometry.h.in = input_size.height;
  geometry.w.in = input_size.width;
  geometry.h.kernel = w.size(2);
  geometry.w.kernel = w.size(3);
  set_results(kInputGradWords.op, geometry, 2);
  check_result(kInputGradWords, g, geometry);
  return apply_input_grad(std::move(g), std::move(w), geometry);
}

Tensor conv2d_weight_grad(Tensor x, Tensor g, Size2d kernel_size, const Conv2dOptions& options) {
  ConvGeometry geometry = geometry_of(options);
  check_operands(kWeightGradWords, x, g, 4);
  check_options(kWeightGradWords.op, geometry);
  if (x.size(0) != g.size(0) || x.size(1) % geometry.groups != 0 || g.size(1) % geometry.groups != 0)
    throw_channels(kWeightGradWords, x, g, geometry.groups);
  geometry.h.in = x.size(2);
  geometry.w.in = x.size(3);
  geometry.h.kernel = kernel_size.height;
  geometry.w.kernel = kernel_size.width;
  set_results(kWeightGradWords.op, geometry, 2);
  check_result(kWeightGradWords, g, geometry);
  return apply_weight_grad(std::move(x), std::move(g), geometry);
}

}  // namespace solvent
