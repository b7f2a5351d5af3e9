// The scans on tensors. affine_scan: matrices that are stored transposed (column-major Jacobians, as K directions
// produce them) are passed to the kernel as such, other strides are copied first. cumsum: whole rows are added when the
// axis is not the innermost one, so that memory is read in order; lines are independent and run in parallel.

#include "solvent/ops/cpu/scan_glue.h"

#include <algorithm>
#include <type_traits>
#include <utility>

#include "solvent/core/engine/view.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/cpu/scan_kernels.h"

namespace solvent::cpu {
namespace {

constexpr int kDiagonalRank = 3;
constexpr int kBlocksRank = 5;

// `a` as dense memory; `transposed` tells whether its matrices lie there column by column.
struct Matrices {
  Tensor dense;
  bool transposed = false;
};

Matrices dense_matrices(const Tensor& a) {
  if (a.rank() == kDiagonalRank || a.is_contiguous()) return {engine::contiguous(a), false};
  const int last = a.rank() - 1;
  Strides swapped = a.strides();
  std::swap(swapped[last - 1], swapped[last]);
  const Tensor columns = engine::view(a, a.shape(), swapped, a.impl()->offset);  // matrices are square
  if (columns.is_contiguous()) return {columns, true};
  return {engine::contiguous(a), false};
}

ScanShape shape_of(const Tensor& a, const Tensor& b) {
  ScanShape s;
  s.T = b.size(-3);
  s.B = b.size(-2);
  s.n = b.size(-1);
  s.lead = 1;
  for (int axis = 0; axis < b.rank() - 3; ++axis) s.lead *= b.shape()[axis];
  s.block = a.rank() == kDiagonalRank ? 1 : a.rank() == kBlocksRank ? a.size(-1) : 0;
  return s;
}

Tensor run(ScanShape shape, const Tensor& a, Tensor b, const Tensor* h0) {
  if (b.numel() == 0) return engine::empty(b.shape(), b.dtype(), b.device());
  const Matrices matrices = dense_matrices(a);
  shape.transposed = shape.transposed != matrices.transposed;
  if (!b.is_contiguous()) b = engine::contiguous(b);
  return dispatch_float(b.dtype(), "affine_scan", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* from = engine::ptr<T>(b);
    Tensor start;
    if (h0 != nullptr) start = engine::contiguous(*h0);
    // The kernel may write the states over b; `b` itself stays alive until it is done if its memory is not reused.
    Tensor h = engine::take_or_empty(b, b.shape(), b.dtype());
    affine_scan<T>(shape, engine::ptr<T>(matrices.dense), from, h0 ? engine::ptr<T>(start) : nullptr,
                   engine::mutable_ptr<T>(h));
    return h;
  });
}

// What running sums and products add up or multiply with. Integers wrap around.
struct Plus {
  template <class T>
  T operator()(T a, T b) const noexcept {
    if constexpr (std::is_integral_v<T>)
      return static_cast<T>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
    else
      return a + b;
  }
};
struct Times {
  template <class T>
  T operator()(T a, T b) const noexcept {
    if constexpr (std::is_integral_v<T>)
      return static_cast<T>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b));
    else
      return a * b;
  }
};

template <class T, class Join>
void running_lines(const T* x, T* out, std::int64_t outer, std::int64_t count, std::int64_t inner, bool reversed,
                   Join join) {
  const std::int64_t start = reversed ? count - 1 : 0;
  const std::int64_t step = reversed ? -1 : 1;
  constexpr std::int64_t kGrain = 1 << 15;
  if (inner == 1) {
    parallel_for(outer, std::max<std::int64_t>(1, kGrain / count), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t o = begin; o < end; ++o) {
        const T* line = x + o * count + start;
        T* to = out + o * count + start;
        T total = to[0] = line[0];
        for (std::int64_t i = 1; i < count; ++i) to[i * step] = total = join(total, line[i * step]);
      }
    });
    return;
  }
  // Segments of rows: a multiple of a cache line, at least kGrain elements of work.
  const std::int64_t width = std::clamp<std::int64_t>(kGrain / count / 16 * 16, 64, std::max<std::int64_t>(inner, 64));
  const std::int64_t segments = (inner + width - 1) / width;
  parallel_for(outer * segments, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t first = task % segments * width;
      const std::int64_t last = std::min(first + width, inner);
      const T* line = x + task / segments * count * inner + start * inner;
      T* to = out + task / segments * count * inner + start * inner;
      std::copy(line + first, line + last, to + first);
      for (std::int64_t i = 1; i < count; ++i) {
        const T* above = to;
        line += step * inner;
        to += step * inner;
        for (std::int64_t j = first; j < last; ++j) to[j] = join(above[j], line[j]);
      }
    }
  });
}

}  // namespace

Tensor scan_forward(const Tensor& a, Tensor b, const Tensor& h0) {
  const ScanShape shape = shape_of(a, b);
  return run(shape, a, std::move(b), &h0);
}

Tensor scan_reversed(const Tensor& a, Tensor b) {
  ScanShape shape = shape_of(a, b);
  shape.reversed = true;
  shape.transposed = true;
  shape.shift_a = true;
  return run(shape, a, std::move(b), nullptr);
}

namespace {

template <class Join>
Tensor running(const char* op, const Tensor& x, int axis, bool reversed, Join join) {
  const Tensor dense = engine::contiguous(x);
  Tensor out = engine::empty(x.shape(), x.dtype(), x.device());
  if (out.numel() == 0) return out;
  std::int64_t outer = 1;
  std::int64_t inner = 1;
  for (int i = 0; i < axis; ++i) outer *= x.shape()[i];
  for (int i = axis + 1; i < x.rank(); ++i) inner *= x.shape()[i];
  const auto lines = [&](auto tag) {
    using T = typename decltype(tag)::type;
    running_lines(engine::ptr<T>(dense), engine::mutable_ptr<T>(out), outer, x.shape()[axis], inner, reversed, join);
  };
  if (x.dtype() == int64) {
    lines(solvent::detail::TypeTag<std::int64_t>{});
  } else {
    dispatch_float(x.dtype(), op, lines);
  }
  return out;
}

}  // namespace

Tensor cumsum(const Tensor& x, int axis, bool reversed) { return running("cumsum", x, axis, reversed, Plus{}); }

Tensor cumprod(const Tensor& x, int axis) { return running("cumprod", x, axis, false, Times{}); }

}  // namespace solvent::cpu
