// Convolutions of tensors on a GPU: memory, empty sizes, uneven padding, and which implementation.

#include "solvent/ops/cuda/conv.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "solvent/core/engine/view.h"
#include "solvent/ops/cuda/conv_cudnn.h"
#include "solvent/ops/widen.h"

namespace solvent::cuda {
namespace {

using cpu::ConvAxis;
using cpu::ConvGeometry;
using cpu::ConvShape;

// Nothing to add up: the result is 0 or has no elements.
bool is_empty(const ConvShape& s) noexcept { return s.n == 0 || s.c == 0 || s.o == 0 || s.map() == 0; }

// cuDNN, unless the caller or the environment wants the own kernels. Groups of few channels are products that fill no tile:
// the own kernels do them one by one.
bool is_cudnn_wanted(ConvBackend backend, const ConvShape& s) noexcept {
  static const bool own = [] {
    const char* text = std::getenv("SOLVENT_CUDA_CONV");
    return text != nullptr && std::strcmp(text, "own") == 0;
  }();
  constexpr std::int64_t kFewChannels = 8;
  if (own || backend == ConvBackend::own) return false;
  return s.g.groups == 1 || std::min(s.group_c(), s.group_o()) >= kFewChannels;
}

// An axis with as many zeros in front as behind, which is all that cuDNN knows: the rest of them becomes part of the map.
struct EvenAxis {
  ConvAxis axis;
  std::int64_t front = 0;  // zeros of the map, in front of what was it

  explicit EvenAxis(const ConvAxis& a) : axis(a) {
    axis.after = axis.before;  // enough if the last position stays the last one
    const std::int64_t room = axis.in + 2 * axis.before - axis.dilation * (axis.kernel - 1) - 1;
    if (room >= 0 && room / axis.stride + 1 == axis.out) return;
    axis.before = axis.after = std::min(a.before, a.after);
    front = a.before - axis.before;
    axis.in += front + a.after - axis.after;
  }
};

struct EvenShape {
  EvenAxis h, w;
  ConvShape shape;

  explicit EvenShape(const ConvShape& s) : h(s.g.h), w(s.g.w), shape(s) {
    shape.g.h = h.axis;
    shape.g.w = w.axis;
  }
  [[nodiscard]] bool has_map_of(const ConvShape& s) const { return h.axis.in == s.g.h.in && w.axis.in == s.g.w.in; }
  [[nodiscard]] Tensor make_map(DType dtype, Device device) const {
    return engine::empty({shape.n, shape.c, h.axis.in, w.axis.in}, dtype, device);
  }
  // The part of a larger map that was the map.
  [[nodiscard]] Tensor inner(const Tensor& map, const ConvShape& s) const {
    return engine::view(map, {s.n, s.c, s.g.h.in, s.g.w.in}, map.strides(), h.front * w.axis.in + w.front);
  }
  [[nodiscard]] Tensor extend(const Tensor& x, const ConvShape& s) const {
    if (has_map_of(s)) return x;
    const Tensor map = zeros({shape.n, shape.c, h.axis.in, w.axis.in}, {x.dtype(), x.device()});
    Tensor part = inner(map, s);
    engine::copy_into(x, part);
    return map;
  }
};

// Dense operands; undefined if cuDNN has no algorithm for them.
Tensor by_cudnn(ConvMember member, const ConvShape& s, const Tensor& a, const Tensor& b, const Shape& shape) {
  const EvenShape even(s);
  const Tensor operand = member == ConvMember::input_grad ? a : even.extend(a, s);
  Tensor result = member == ConvMember::input_grad ? even.make_map(a.dtype(), a.device())
                                                   : engine::empty(shape, a.dtype(), a.device());
  if (!conv_cudnn(member, even.shape, operand, b, result)) return {};
  if (member == ConvMember::input_grad && !even.has_map_of(s)) return engine::contiguous(even.inner(result, s));
  return result;
}

template <class T>
using OwnKernel = void (*)(const ConvShape&, const T*, const T*, T*, Device);

template <class T>
OwnKernel<T> own_kernel(ConvMember member) {
  switch (member) {
    case ConvMember::conv: return own_conv<T>;
    case ConvMember::input_grad: return own_conv_input_grad<T>;
    case ConvMember::weight_grad: break;
  }
  return own_conv_weight_grad<T>;
}

Tensor run(ConvMember member, const ConvShape& s, const Tensor& a, const Tensor& b, const Shape& shape,
           ConvBackend backend) {
  if (is_empty(s)) return zeros(shape, {a.dtype(), a.device()});
  const Tensor dense_a = engine::contiguous(a);
  const Tensor dense_b = engine::contiguous(b);
  if (has_cudnn() && is_cudnn_wanted(backend, s)) {
    Tensor result = by_cudnn(member, s, dense_a, dense_b, shape);
    if (result.defined()) return result;
  }
  // The own kernels read every element many times: bfloat16 becomes float32 first. The result is rounded once.
  if (a.dtype() == DType::bfloat16)
    return detail::narrowed(
        run(member, s, detail::widened(dense_a), detail::widened(dense_b), shape, ConvBackend::own));
  Tensor result = engine::empty(shape, a.dtype(), a.device());
  dispatch_float(a.dtype(), "conv", [&](auto tag) {
    using T = typename decltype(tag)::type;
    own_kernel<T>(member)(s, engine::ptr<T>(dense_a), engine::ptr<T>(dense_b), engine::mutable_ptr<T>(result),
                          a.device());
  });
  return result;
}

}  // namespace

bool has_cudnn() noexcept { return SOLVENT_WITH_CUDNN; }

Tensor conv(const Tensor& x, const Tensor& w, const ConvGeometry& g, ConvBackend backend) {
  const ConvShape s{x.size(0), x.size(1), w.size(0), g};
  return run(ConvMember::conv, s, x, w, {s.n, s.o, g.h.out, g.w.out}, backend);
}

Tensor conv_input_grad(const Tensor& g, const Tensor& w, const ConvGeometry& geometry, ConvBackend backend) {
  const ConvShape s{g.size(0), w.size(1) * geometry.groups, w.size(0), geometry};
  return run(ConvMember::input_grad, s, g, w, {s.n, s.c, geometry.h.in, geometry.w.in}, backend);
}

Tensor conv_weight_grad(const Tensor& x, const Tensor& g, const ConvGeometry& geometry, ConvBackend backend) {
  const ConvShape s{x.size(0), x.size(1), g.size(1), geometry};
  return run(ConvMember::weight_grad, s, x, g, {s.o, s.group_c(), geometry.h.kernel, geometry.w.kernel}, backend);
}

}  // namespace solvent::cuda
