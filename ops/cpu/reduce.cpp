// Glue between tensors and the row kernels of vector_kernels.h. Decomposition: those kernels split rows (or, for few long
// rows, columns) into blocks that depend on sizes only, so results have the same bits for any number of threads.

#include "solvent/ops/cpu/reduce.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "solvent/core/engine/view.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/cpu/block_reader.h"
#include "solvent/ops/cpu/vector_kernels.h"

namespace solvent {

std::string AxisAttrs::describe() const { return "axis=" + std::to_string(axis); }
std::string EpsAttrs::describe() const { return "eps=" + std::to_string(eps); }

namespace cpu {
namespace {

struct Rows {
  std::int64_t rows;
  std::int64_t cols;
};

Rows rows_of(const Shape& shape) {
  const std::int64_t cols = shape.back();
  return {cols == 0 ? 0 : shape.product() / cols, cols};
}

// Dense operand; `x` keeps the memory alive.
template <class T>
const T* dense(Tensor& x) {
  if (!x.is_contiguous()) x = engine::contiguous(x);
  return engine::ptr<T>(x);
}

// y = kernel(x) for a row kernel of equal shapes.
template <class F>
Tensor map_rows(const char* op, Tensor& x, F kernel) {
  return dispatch_float(x.dtype(), op, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Shape shape = x.shape();
    const T* src = dense<T>(x);
    Tensor y = engine::take_or_empty(x, shape, dtype_of<T>);
    const Rows r = rows_of(shape);
    if (r.rows > 0) kernel(src, engine::mutable_ptr<T>(y), r.rows, r.cols);
    return y;
  });
}

// (outer, n, inner), densely in this order, with rows of n elements: a tensor whose last axis was another one in memory.
struct Columns {
  std::int64_t outer = 1;
  std::int64_t n = 0;
  std::int64_t inner = 0;
};

// Rows that lie far enough apart to be worked on as columns; n is 0 if they do not.
Columns columns_of(const Tensor& x) {
  constexpr std::int64_t kLeastInner = 16;  // shorter runs waste the vectors: rows are copied together instead
  const int last = x.rank() - 1;
  Columns c;
  const std::int64_t inner = x.strides()[last];
  if (x.numel() == 0 || x.shape()[last] < 2 || inner < kLeastInner) return c;
  // The other axes by stride, from the smallest: up to `inner` they must fill it, then go on behind the rows.
  std::vector<std::pair<std::int64_t, std::int64_t>> axes;  // stride, extent
  for (int i = 0; i < last; ++i)
    if (x.shape()[i] > 1) axes.emplace_back(x.strides()[i], x.shape()[i]);
  std::sort(axes.begin(), axes.end());
  std::int64_t expected = 1;
  for (const auto& [stride, extent] : axes) {
    if (expected == inner) expected *= x.shape()[last];
    if (stride != expected) return c;
    expected *= extent;
  }
  if (expected == inner) expected *= x.shape()[last];
  if (expected != x.numel()) return c;
  c.outer = x.numel() / (inner * x.shape()[last]);
  c.n = x.shape()[last];
  c.inner = inner;
  return c;
}

// Uninitialised, lying in memory as x does.
Tensor empty_like_columns(const Tensor& x) {
  return engine::view(engine::empty({x.numel()}, x.dtype(), x.device()), x.shape(), x.strides(), 0);
}

template <class F>
Tensor map_columns(const Tensor& x, F kernel) {
  Tensor y = empty_like_columns(x);
  dispatch_float(x.dtype(), "softmax", [&](auto tag) {
    using T = typename decltype(tag)::type;
    kernel(engine::ptr<T>(x), engine::mutable_ptr<T>(y));
  });
  return y;
}

// Position and value of the largest (sign = 1) or smallest (-1) of int64 elements.
void extreme_int(const std::int64_t* x, std::int64_t outer, std::int64_t n, std::int64_t inner, bool largest,
                 std::int64_t* value, std::int64_t* index) {
  for (std::int64_t o = 0; o < outer; ++o)
    for (std::int64_t i = 0; i < inner; ++i) {
      const std::int64_t* column = x + o * n * inner + i;
      std::int64_t best = 0;
      for (std::int64_t k = 1; k < n; ++k) {
        const std::int64_t v = column[k * inner];
        const std::int64_t b = column[best * inner];
        if (largest ? v > b : v < b) best = k;
      }
      value[o * inner + i] = column[best * inner];
      index[o * inner + i] = best;
    }
}

TensorVec extreme_with_index(ReduceFn fn, Tensor& x, const Attrs* attrs) {
  const int axis = x.rank() + static_cast<const AxisAttrs*>(attrs)->axis;
  const Shape shape = x.shape();
  std::int64_t outer = 1;
  std::int64_t inner = 1;
  for (int i = 0; i < axis; ++i) outer *= shape[i];
  for (int i = axis + 1; i < shape.rank(); ++i) inner *= shape[i];
  Shape kept = shape;
  kept[axis] = 1;
  Tensor value = engine::empty(kept, x.dtype(), x.device());
  Tensor index = engine::empty(kept, DType::int64, x.device());
  auto* pi = engine::mutable_ptr<std::int64_t>(index);
  if (outer * inner == 0) return {std::move(value), std::move(index)};
  if (x.dtype() == DType::int64) {
    const auto* px = dense<std::int64_t>(x);
    extreme_int(px, outer, shape[axis], inner, fn == ReduceFn::max, engine::mutable_ptr<std::int64_t>(value), pi);
  } else {
    dispatch_float(x.dtype(), "max", [&](auto tag) {
      using T = typename decltype(tag)::type;
      const T* px = dense<T>(x);
      reduce_with_index<T>(fn, px, outer, shape[axis], inner, engine::mutable_ptr<T>(value), pi);
    });
  }
  return {std::move(value), std::move(index)};
}

// Whether some element equals `wanted`.
bool contains(const Tensor& x, bool wanted) {
  const bool* src = engine::ptr<bool>(x);
  const BlockReader reader(x);
  const std::int64_t n = x.numel();
  bool buffer[kBlock];
  for (std::int64_t first = 0; first < n; first += kBlock) {
    const std::int64_t count = std::min(kBlock, n - first);
    const bool* run = reader.read(src, first, count, buffer);
    for (std::int64_t i = 0; i < count; ++i)
      if (run[i] == wanted) return true;
  }
  return false;
}

Tensor truth(bool value, Device device) {
  Tensor y = engine::empty({}, boolean, device);
  *engine::mutable_ptr<bool>(y) = value;
  return y;
}

}  // namespace

TensorVec max_with_index(std::span<Tensor> inputs, const Attrs* attrs) {
  return extreme_with_index(ReduceFn::max, inputs[0], attrs);
}
TensorVec min_with_index(std::span<Tensor> inputs, const Attrs* attrs) {
  return extreme_with_index(ReduceFn::min, inputs[0], attrs);
}

TensorVec all(std::span<Tensor> inputs, const Attrs*) { return truth(!contains(inputs[0], false), inputs[0].device()); }
TensorVec any(std::span<Tensor> inputs, const Attrs*) { return truth(contains(inputs[0], true), inputs[0].device()); }

TensorVec logsumexp_rows(std::span<Tensor> inputs, const Attrs*) {
  Tensor& x = inputs[0];
  return dispatch_float(x.dtype(), "logsumexp", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* src = dense<T>(x);
    Shape shape = x.shape();
    const Rows r = rows_of(shape);
    shape[shape.rank() - 1] = 1;
    if (r.cols == 0) return full(shape, -std::numeric_limits<double>::infinity(), {x.dtype(), x.device()});
    Tensor y = engine::empty(shape, x.dtype(), x.device());
    if (r.rows > 0) logsumexp<T>(src, engine::mutable_ptr<T>(y), r.rows, r.cols);
    return y;
  });
}

TensorVec softmax_rows(std::span<Tensor> inputs, const Attrs*) {
  if (const Columns c = columns_of(inputs[0]); c.n > 0)
    return map_columns(inputs[0], [&](const auto* x, auto* y) { softmax_along(x, y, c.outer, c.n, c.inner); });
  return map_rows("softmax", inputs[0],
                  [](const auto* x, auto* y, std::int64_t n, std::int64_t c) { softmax(x, y, n, c); });
}
TensorVec log_softmax_rows(std::span<Tensor> inputs, const Attrs*) {
  if (const Columns c = columns_of(inputs[0]); c.n > 0)
    return map_columns(inputs[0], [&](const auto* x, auto* y) { log_softmax_along(x, y, c.outer, c.n, c.inner); });
  return map_rows("log_softmax", inputs[0],
                  [](const auto* x, auto* y, std::int64_t n, std::int64_t c) { log_softmax(x, y, n, c); });
}

TensorVec softmax_grad_rows(std::span<Tensor> inputs, const Attrs*) {
  return dispatch_float(inputs[0].dtype(), "softmax_grad", [&](auto tag) -> Tensor {
    using T = typename decltype(tag)::type;
    const Shape shape = inputs[0].shape();
    if (const Columns c = columns_of(inputs[0]); c.n > 0 && inputs[1].strides() == inputs[0].strides()) {
      Tensor out = empty_like_columns(inputs[0]);
      softmax_backward_along(engine::ptr<T>(inputs[0]), engine::ptr<T>(inputs[1]), engine::mutable_ptr<T>(out), c.outer,
                             c.n, c.inner);
      return out;
    }
    const T* g = dense<T>(inputs[0]);
    const T* y = dense<T>(inputs[1]);
    Tensor out = engine::empty(shape, dtype_of<T>, inputs[0].device());
    const Rows r = rows_of(shape);
    if (r.rows > 0) softmax_backward<T>(g, y, engine::mutable_ptr<T>(out), r.rows, r.cols);
    return out;
  });
}

TensorVec layer_norm_rows(std::span<Tensor> inputs, const Attrs* attrs) {
  const double eps = static_cast<const EpsAttrs*>(attrs)->eps;
  return map_rows("layer_norm", inputs[0], [eps](const auto* x, auto* y, std::int64_t n, std::int64_t c) {
    using T = std::remove_cvref_t<decltype(*y)>;
    layer_norm<T>(x, nullptr, nullptr, eps, y, nullptr, nullptr, n, c);
  });
}

TensorVec layer_norm_grad_rows(std::span<Tensor> inputs, const Attrs* attrs) {
  const double eps = static_cast<const EpsAttrs*>(attrs)->eps;
  return dispatch_float(inputs[0].dtype(), "layer_norm_grad", [&](auto tag) -> Tensor {
    using T = typename decltype(tag)::type;
    const Shape shape = inputs[0].shape();
    const T* g = dense<T>(inputs[0]);
    const T* x = dense<T>(inputs[1]);
    Tensor out = engine::empty(shape, dtype_of<T>, inputs[0].device());
    const Rows r = rows_of(shape);
    if (r.rows == 0) return out;
    // Mean and deviation are formed again rather than kept: x is read anyway, and the forward pass saves nothing else.
    // The normalised rows that come with them go to `out`, which is overwritten next.
    Tensor statistics = engine::empty({2, r.rows}, dtype_of<T>, inputs[0].device());
    T* mean = engine::mutable_ptr<T>(statistics);
    T* rstd = mean + r.rows;
    layer_norm<T>(x, nullptr, nullptr, eps, engine::mutable_ptr<T>(out), mean, rstd, r.rows, r.cols);
    layer_norm_backward<T>(g, x, mean, rstd, nullptr, engine::mutable_ptr<T>(out), nullptr, nullptr, r.rows, r.cols);
    return out;
  });
}

TensorVec cross_entropy_mean(std::span<Tensor> inputs, const Attrs*) {
  Tensor& x = inputs[0];
  return dispatch_float(x.dtype(), "cross_entropy", [&](auto tag) -> Tensor {
    using T = typename decltype(tag)::type;
    const T* logits = dense<T>(x);
    const auto* labels = dense<std::int64_t>(inputs[1]);
    const std::int64_t rows = x.shape()[0];
    Tensor loss = engine::empty({rows}, dtype_of<T>, x.device());
    T* per_row = engine::mutable_ptr<T>(loss);
    if (rows > 0) cross_entropy<T>(logits, labels, rows, x.shape()[1], per_row, nullptr);
    T total = 0;
    reduce<T>(ReduceFn::sum, per_row, 1, rows, 1, &total);
    Tensor y = engine::empty({}, dtype_of<T>, x.device());
    *engine::mutable_ptr<T>(y) = total / static_cast<T>(rows);
    return y;
  });
}

TensorVec cross_entropy_mean_grad(std::span<Tensor> inputs, const Attrs*) {
  Tensor& x = inputs[0];
  return dispatch_float(x.dtype(), "cross_entropy", [&](auto tag) -> Tensor {
    using T = typename decltype(tag)::type;
    const Shape shape = x.shape();
    const T* logits = dense<T>(x);
    const auto* labels = dense<std::int64_t>(inputs[1]);
    Tensor y = engine::take_or_empty(x, shape, dtype_of<T>);
    if (shape.product() == 0) return y;
    if (constexpr std::int64_t kShort = 64; shape[1] <= kShort) {  // one exponential per element
      T* out = engine::mutable_ptr<T>(y);
      const T share = T{1} / static_cast<T>(shape[0]);
      softmax<T>(logits, out, shape[0], shape[1]);
      binary<T>(BinaryFn::mul, out, 1, &share, 0, out, shape.product());
      for (std::int64_t row = 0; row < shape[0]; ++row) out[row * shape[1] + labels[row]] -= share;
      return y;
    }
    Tensor lse = engine::empty({shape[0]}, dtype_of<T>, y.device());
    logsumexp<T>(logits, engine::mutable_ptr<T>(lse), shape[0], shape[1]);
    const T weight = T{1} / static_cast<T>(shape[0]);
    cross_entropy_backward<T>(&weight, 0, logits, labels, engine::ptr<T>(lse), engine::mutable_ptr<T>(y), shape[0],
                              shape[1]);
    return y;
  });
}

}  // namespace cpu
}  // namespace solvent
