// Convolutions of tensors on a GPU: memory, empty sizes, and which implementation.

#include "solvent/ops/cuda/conv.h"

#include "solvent/core/engine/view.h"

namespace solvent::cuda {
namespace {

using cpu::ConvGeometry;
using cpu::ConvShape;

// Nothing to add up: the result is 0 or has no elements.
bool is_empty(const ConvShape& s) noexcept { return s.n == 0 || s.c == 0 || s.o == 0 || s.map() == 0; }

}  // namespace

Tensor conv(const Tensor& x, const Tensor& w, const ConvGeometry& g, ConvBackend) {
  const ConvShape s{x.size(0), x.size(1), w.size(0), g};
  const Shape shape{s.n, s.o, g.h.out, g.w.out};
  if (is_empty(s)) return zeros(shape, {x.dtype(), x.device()});
  const Tensor dense_x = engine::contiguous(x);
  const Tensor dense_w = engine::contiguous(w);
  Tensor y = engine::empty(shape, x.dtype(), x.device());
  dispatch_float(x.dtype(), "conv", [&](auto tag) {
    using T = typename decltype(tag)::type;
    own_conv<T>(s, engine::ptr<T>(dense_x), engine::ptr<T>(dense_w), engine::mutable_ptr<T>(y), x.device());
  });
  return y;
}

Tensor conv_input_grad(const Tensor& g, const Tensor& w, const ConvGeometry& geometry, ConvBackend) {
  const ConvShape s{g.size(0), w.size(1) * geometry.groups, w.size(0), geometry};
  const Shape shape{s.n, s.c, geometry.h.in, geometry.w.in};
  if (is_empty(s)) return zeros(shape, {g.dtype(), g.device()});
  const Tensor dense_g = engine::contiguous(g);
  const Tensor dense_w = engine::contiguous(w);
  Tensor x = engine::empty(shape, g.dtype(), g.device());
  dispatch_float(g.dtype(), "conv_input_grad", [&](auto tag) {
    using T = typename decltype(tag)::type;
    own_conv_input_grad<T>(s, engine::ptr<T>(dense_g), engine::ptr<T>(dense_w), engine::mutable_ptr<T>(x), g.device());
  });
  return x;
}

Tensor conv_weight_grad(const Tensor& x, const Tensor& g, const ConvGeometry& geometry, ConvBackend) {
  const ConvShape s{x.size(0), x.size(1), g.size(1), geometry};
  const Shape shape{s.o, s.group_c(), geometry.h.kernel, geometry.w.kernel};
  if (is_empty(s)) return zeros(shape, {x.dtype(), x.device()});
  const Tensor dense_x = engine::contiguous(x);
  const Tensor dense_g = engine::contiguous(g);
  Tensor w = engine::empty(shape, x.dtype(), x.device());
  dispatch_float(x.dtype(), "conv_weight_grad", [&](auto tag) {
    using T = typename decltype(tag)::type;
    own_conv_weight_grad<T>(s, engine::ptr<T>(dense_x), engine::ptr<T>(dense_g), engine::mutable_ptr<T>(w), x.device());
  });
  return w;
}

}  // namespace solvent::cuda
