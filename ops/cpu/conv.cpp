// Convolutions on tensors: memory, empty sizes, and which implementation. bfloat16 is convolved as float32, since every
// element is read many times, and rounded once.

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "solvent/core/engine/view.h"
#include "solvent/ops/cpu/conv_kernels.h"
#include "solvent/ops/cpu/conv_winograd.h"
#include "solvent/ops/widen.h"

namespace solvent::cpu {
namespace {

// Nothing to add up: the result is 0 or has no elements.
bool is_empty(const ConvShape& s) noexcept { return s.n == 0 || s.c == 0 || s.o == 0 || s.map() == 0; }

enum class Kind : std::uint8_t { forward, input_grad, weight_grad };

bool is_pointwise(const ConvAxis& a) noexcept {
  return a.kernel == 1 && a.stride == 1 && a.before == 0 && a.in == a.out;
}

// 1x1 filters are products on the maps as they lie: nothing is unfolded, nothing brought into oneDNN's layout. The limits
// are measured (8 to 2048 channels, maps of 5x5 to 64x64, two cores): below them oneDNN is faster. Where the channels fill
// few of its blocks it needs 2 to 10 times as long.
bool is_better_as_product(Kind kind, const ConvShape& s) noexcept {
  if (s.g.groups > 1 || !is_pointwise(s.g.h) || !is_pointwise(s.g.w)) return false;
  constexpr std::int64_t kFewWeights = 48 * 48;
  constexpr std::int64_t kFewChannels = 32;
  constexpr std::int64_t kEvenMap = 32;    // columns of a panel
  constexpr std::int64_t kLongSums = 192;  // positions that are worth reading and writing the weights' sums once
  const bool is_small = s.weights() <= kFewWeights;
  switch (kind) {
    case Kind::forward: return is_small || s.c <= kFewChannels || (s.result() % kEvenMap == 0 && s.c <= 2 * s.o);
    case Kind::input_grad: return is_small && s.o <= 4 * s.c;
    case Kind::weight_grad: return is_small || s.result() >= kLongSums;
  }
  return false;
}

// 3x3 filters by tiles of 2 x 2 results. Measured with 8 to 512 channels; as many, half, twice, a quarter and four times as
// many of the result; maps of 4x4 to 64x64; 1 to 64 images; two cores: from these sizes on they are 1.0 to 5 times as fast as
// oneDNN, 1.65 in the middle, nine in ten at least 1.25. Below, too few tiles share the transform of the filters, or too few
// channels that of the tiles; small maps gain less, as oneDNN skips what falls on padding.
bool is_better_by_tiles(Kind kind, const ConvShape& s) noexcept {
  if (!has_winograd(s)) return false;
  const std::int64_t channels = std::min(s.c, s.o);
  const std::int64_t map = std::min({s.g.h.in, s.g.w.in, s.g.h.out, s.g.w.out});
  const std::int64_t tiles = s.n * ((s.g.h.out + 1) / 2) * ((s.g.w.out + 1) / 2);
  const bool is_weight_grad = kind == Kind::weight_grad;
  if (tiles < (channels >= 64 && !is_weight_grad ? 192 : 256)) return false;
  if (channels >= 128) return map >= 4;
  if (channels >= 64) return map >= 8;
  if (channels >= 32) return map >= (is_weight_grad ? 8 : 14);
  constexpr std::int64_t kBlock = 16;  // channels of oneDNN's layout
  return channels >= 24 && map >= 8 && (s.c % kBlock != 0 || s.o % kBlock != 0);
}

// SOLVENT_CONV=direct in the environment.
bool is_direct_wanted() noexcept {
  static const bool wanted = [] {
    const char* text = std::getenv("SOLVENT_CONV");
    return text != nullptr && std::strcmp(text, "direct") == 0;
  }();
  return wanted;
}

// Which implementation to try first: what was asked for, or what is fastest.
ConvBackend first_choice(DType dtype, ConvBackend backend, Kind kind, const ConvShape& s) noexcept {
  if (dtype != DType::float32) return ConvBackend::gemm;
  if (backend != ConvBackend::automatic) return backend;
  if (is_better_as_product(kind, s)) return ConvBackend::gemm;
  if (is_better_by_tiles(kind, s) && !is_direct_wanted()) return ConvBackend::winograd;
  return has_onednn() ? ConvBackend::onednn : ConvBackend::gemm;
}

// Calls the implementation of the choice; false, and nothing is written, if it does not serve these sizes.
template <class Winograd, class OneDnn>
bool try_fast(ConvBackend choice, Winograd&& winograd, OneDnn&& onednn) {
  switch (choice) {
    case ConvBackend::winograd: return winograd();
    case ConvBackend::onednn: return onednn();
    default: return false;
  }
}

}  // namespace

Tensor conv(const Tensor& x, const Tensor& w, const ConvGeometry& g, ConvBackend backend) {
  if (x.dtype() == DType::bfloat16) return detail::narrowed(conv(detail::widened(x), detail::widened(w), g, backend));
  const ConvShape s{x.size(0), x.size(1), w.size(0), g};
  const Shape shape{s.n, s.o, g.h.out, g.w.out};
  if (is_empty(s)) return zeros(shape, {x.dtype(), x.device()});
  const Tensor dense_x = engine::contiguous(x);
  const Tensor dense_w = engine::contiguous(w);
  Tensor y = engine::empty(shape, x.dtype(), x.device());
  const ConvBackend choice = first_choice(x.dtype(), backend, Kind::forward, s);
  const auto call = [&](auto fn) {
    return fn(s, engine::ptr<float>(dense_x), engine::ptr<float>(dense_w), engine::mutable_ptr<float>(y));
  };
  if (try_fast(
          choice, [&] { return call(conv_winograd); }, [&] { return call(conv_onednn); }))
    return y;
  dispatch_float(x.dtype(), "conv", [&](auto tag) {
    using T = typename decltype(tag)::type;
    conv_gemm<T>(s, engine::ptr<T>(dense_x), engine::ptr<T>(dense_w), engine::mutable_ptr<T>(y));
  });
  return y;
}

Tensor conv_input_grad(const Tensor& g, const Tensor& w, const ConvGeometry& geometry, ConvBackend backend) {
  if (g.dtype() == DType::bfloat16)
    return detail::narrowed(conv_input_grad(detail::widened(g), detail::widened(w), geometry, backend));
  const ConvShape s{g.size(0), w.size(1) * geometry.groups, w.size(0), geometry};
  const Shape shape{s.n, s.c, geometry.h.in, geometry.w.in};
  if (is_empty(s)) return zeros(shape, {g.dtype(), g.device()});
  const Tensor dense_g = engine::contiguous(g);
  const Tensor dense_w = engine::contiguous(w);
  Tensor x = engine::empty(shape, g.dtype(), g.device());
  const ConvBackend choice = first_choice(g.dtype(), backend, Kind::input_grad, s);
  const auto call = [&](auto fn) {
    return fn(s, engine::ptr<float>(dense_g), engine::ptr<float>(dense_w), engine::mutable_ptr<float>(x));
  };
  if (try_fast(
          choice, [&] { return call(conv_input_grad_winograd); }, [&] { return call(conv_input_grad_onednn); }))
    return x;
  dispatch_float(g.dtype(), "conv_input_grad", [&](auto tag) {
    using T = typename decltype(tag)::type;
    conv_input_grad_gemm<T>(s, engine::ptr<T>(dense_g), engine::ptr<T>(dense_w), engine::mutable_ptr<T>(x));
  });
  return x;
}

Tensor conv_weight_grad(const Tensor& x, const Tensor& g, const ConvGeometry& geometry, ConvBackend backend) {
  if (x.dtype() == DType::bfloat16)
    return detail::narrowed(conv_weight_grad(detail::widened(x), detail::widened(g), geometry, backend));
  const ConvShape s{x.size(0), x.size(1), g.size(1), geometry};
  const Shape shape{s.o, s.group_c(), geometry.h.kernel, geometry.w.kernel};
  if (is_empty(s)) return zeros(shape, {x.dtype(), x.device()});
  const Tensor dense_x = engine::contiguous(x);
  const Tensor dense_g = engine::contiguous(g);
  Tensor w = engine::empty(shape, x.dtype(), x.device());
  const ConvBackend choice = first_choice(x.dtype(), backend, Kind::weight_grad, s);
  const auto call = [&](auto fn) {
    return fn(s, engine::ptr<float>(dense_x), engine::ptr<float>(dense_g), engine::mutable_ptr<float>(w));
  };
  if (try_fast(
          choice, [&] { return call(conv_weight_grad_winograd); }, [&] { return call(conv_weight_grad_onednn); }))
    return w;
  dispatch_float(x.dtype(), "conv_weight_grad", [&](auto tag) {
    using T = typename decltype(tag)::type;
    conv_weight_grad_gemm<T>(s, engine::ptr<T>(dense_x), engine::ptr<T>(dense_g), engine::mutable_ptr<T>(w));
  });
  return w;
}

}  // namespace solvent::cpu
