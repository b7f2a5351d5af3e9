// Extreme values with their places, all and any, the mean loss; and the tensors' side of the row kernels. All bound by memory;
// the reductions have the design of core/cuda/reduce.h and are deterministic: an extreme value's place is the first one, which
// does not depend on the order of comparisons.

#include "solvent/ops/cuda/reduce.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "solvent/core/cuda/basic.h"
#include "solvent/core/cuda/reduce.h"
#include "solvent/core/engine/view.h"
#include "solvent/ops/cpu/reduce.h"
#include "solvent/ops/cuda/row_kernels.h"

namespace solvent::cuda {
namespace {

// --- extreme values -------------------------------------------------------------------------------------------------------------

template <class T>
struct Extremum {
  std::int64_t index;  // -1: of no element
  T value;
};

// The largest (smallest) element, or the first NaN; the first of equal ones.
template <class T>
struct ExtremeOf {
  using Input = T;
  using State = Extremum<T>;
  struct Local {};
  static constexpr int kInputs = 1;
  bool largest;
  T* value;
  std::int64_t* index;
  __device__ State neutral() const { return {-1, T{0}}; }
  __device__ Local local(std::int64_t) const { return {}; }
  __device__ void add(State& s, const T (&x)[1], std::int64_t k, const Local&) const { s = merge(s, {k, x[0]}); }
  __device__ State merge(const State& a, const State& b) const {
    if (a.index < 0) return b;
    if (b.index < 0) return a;
    const bool a_is_nan = a.value != a.value;
    const bool b_is_nan = b.value != b.value;
    if (a_is_nan != b_is_nan) return a_is_nan ? a : b;
    if (a_is_nan || a.value == b.value) return a.index < b.index ? a : b;
    return (a.value > b.value) == largest ? a : b;
  }
  __device__ void store(std::int64_t result, const State& s) const {
    value[result] = s.value;
    index[result] = s.index;
  }
};

template <class T>
void extreme_typed(bool largest, const Tensor& x, std::int64_t outer, std::int64_t n, std::int64_t inner, Tensor& value,
                   Tensor& index) {
  const ExtremeOf<T> f{largest, engine::mutable_ptr<T>(value), engine::mutable_ptr<std::int64_t>(index)};
  reduce_middle(largest ? "max" : "min", x.device(), f, {engine::ptr<T>(x)}, outer, n, inner);
}

TensorVec extreme_with_index(bool largest, const Tensor& input, const Attrs* attrs) {
  const Tensor x = engine::contiguous(input);
  const Shape shape = x.shape();
  const int axis = x.rank() + static_cast<const AxisAttrs*>(attrs)->axis;
  std::int64_t outer = 1;
  std::int64_t inner = 1;
  for (int i = 0; i < axis; ++i) outer *= shape[i];
  for (int i = axis + 1; i < shape.rank(); ++i) inner *= shape[i];
  Shape kept = shape;
  kept[axis] = 1;
  Tensor value = engine::empty(kept, x.dtype(), x.device());
  Tensor index = engine::empty(kept, DType::int64, x.device());
  if (outer * inner > 0) {
    if (x.dtype() == DType::int64) {
      extreme_typed<std::int64_t>(largest, x, outer, shape[axis], inner, value, index);
    } else {
      dispatch_float(x.dtype(), "max", [&](auto tag) {
        extreme_typed<typename decltype(tag)::type>(largest, x, outer, shape[axis], inner, value, index);
      });
    }
  }
  return {std::move(value), std::move(index)};
}

// --- truth values ---------------------------------------------------------------------------------------------------------------

// Whether some element equals kWanted; the result is that, or its opposite for `all`.
template <bool kWanted>
struct Contains {
  using Input = bool;
  using State = int;
  struct Local {};
  static constexpr int kInputs = 1;
  bool* y;
  __device__ State neutral() const { return 0; }
  __device__ Local local(std::int64_t) const { return {}; }
  __device__ void add(State& s, const bool (&x)[1], std::int64_t, const Local&) const { s |= x[0] == kWanted ? 1 : 0; }
  __device__ State merge(const State& a, const State& b) const { return a | b; }
  __device__ void store(std::int64_t result, const State& s) const { y[result] = (s != 0) == kWanted; }
};

template <bool kWanted>
Tensor contains(const Tensor& input) {
  const Tensor x = engine::contiguous(input);
  Tensor y = engine::empty(Shape{}, DType::boolean, x.device());
  if (x.numel() == 0) {
    fill(y, kWanted ? 0.0 : 1.0);
  } else {
    reduce_middle(kWanted ? "any" : "all", x.device(), Contains<kWanted>{engine::mutable_ptr<bool>(y)},
                  {engine::ptr<bool>(x)}, 1, x.numel(), 1);
  }
  return y;
}

// --- rows -----------------------------------------------------------------------------------------------------------------------

Rows rows_of(const Tensor& x) {
  const std::int64_t columns = x.shape().back();
  return {x.device(), columns == 0 ? 0 : x.numel() / columns, columns};
}

// y = kernel(x) for a row kernel of equal shapes.
template <class F>
Tensor map(const char* op, Tensor& x, F kernel) {
  return dispatch_float(x.dtype(), op, [&](auto tag) -> Tensor {
    using T = typename decltype(tag)::type;
    x = engine::contiguous(x);
    const Rows r = rows_of(x);
    const T* const src = engine::ptr<T>(x);
    Tensor y = engine::take_or_empty(x, x.shape(), dtype_of<T>);
    if (r.rows > 0) kernel(r, src, engine::mutable_ptr<T>(y));
    return y;
  });
}

// out = kernel(a, b), of equal shapes.
template <class F>
Tensor map_two(const char* op, std::span<Tensor> inputs, F kernel) {
  return dispatch_float(inputs[0].dtype(), op, [&](auto tag) -> Tensor {
    using T = typename decltype(tag)::type;
    inputs[0] = engine::contiguous(inputs[0]);
    inputs[1] = engine::contiguous(inputs[1]);
    const Rows r = rows_of(inputs[0]);
    const T* const a = engine::ptr<T>(inputs[0]);
    const T* const b = engine::ptr<T>(inputs[1]);
    Tensor y = engine::take_or_empty(inputs[0], inputs[0].shape(), dtype_of<T>);
    if (r.rows > 0) kernel(r, a, b, engine::mutable_ptr<T>(y));
    return y;
  });
}

// y = sum of x / count
template <class T>
struct MeanOf {
  using Input = T;
  using State = double;
  struct Local {};
  static constexpr int kInputs = 1;
  T* y;
  double count;
  __device__ State neutral() const { return 0.0; }
  __device__ Local local(std::int64_t) const { return {}; }
  __device__ void add(State& s, const T (&x)[1], std::int64_t, const Local&) const { s += static_cast<double>(x[0]); }
  __device__ State merge(const State& a, const State& b) const { return a + b; }
  __device__ void store(std::int64_t result, const State& s) const { y[result] = static_cast<T>(s / count); }
};

}  // namespace

TensorVec max_with_index(std::span<Tensor> inputs, const Attrs* attrs) {
  return extreme_with_index(true, inputs[0], attrs);
}
TensorVec min_with_index(std::span<Tensor> inputs, const Attrs* attrs) {
  return extreme_with_index(false, inputs[0], attrs);
}

TensorVec all(std::span<Tensor> inputs, const Attrs*) { return contains<false>(inputs[0]); }
TensorVec any(std::span<Tensor> inputs, const Attrs*) { return contains<true>(inputs[0]); }

TensorVec logsumexp_rows(std::span<Tensor> inputs, const Attrs*) {
  return dispatch_float(inputs[0].dtype(), "logsumexp", [&](auto tag) -> Tensor {
    using T = typename decltype(tag)::type;
    const Tensor x = engine::contiguous(inputs[0]);
    const Rows r = rows_of(x);
    Shape shape = x.shape();
    shape[shape.rank() - 1] = 1;
    Tensor y = engine::empty(shape, dtype_of<T>, x.device());
    if (r.columns == 0) {
      fill(y, -std::numeric_limits<double>::infinity());
    } else if (r.rows > 0) {
      logsumexp<T>(r, engine::ptr<T>(x), engine::mutable_ptr<T>(y));
    }
    return y;
  });
}

TensorVec softmax_rows(std::span<Tensor> inputs, const Attrs*) {
  return map("softmax", inputs[0], [](const Rows& r, const auto* x, auto* y) { softmax(r, x, y); });
}
TensorVec log_softmax_rows(std::span<Tensor> inputs, const Attrs*) {
  return map("log_softmax", inputs[0], [](const Rows& r, const auto* x, auto* y) { log_softmax(r, x, y); });
}
TensorVec softmax_grad_rows(std::span<Tensor> inputs, const Attrs*) {
  return map_two("softmax_grad", inputs,
                 [](const Rows& r, const auto* g, const auto* y, auto* gx) { softmax_backward(r, g, y, gx); });
}

TensorVec layer_norm_rows(std::span<Tensor> inputs, const Attrs* attrs) {
  const double eps = static_cast<const EpsAttrs*>(attrs)->eps;
  return map("layer_norm", inputs[0], [eps](const Rows& r, const auto* x, auto* y) {
    const std::remove_pointer_t<decltype(y)>* const none = nullptr;
    layer_norm(r, x, none, none, eps, y);
  });
}
TensorVec layer_norm_grad_rows(std::span<Tensor> inputs, const Attrs* attrs) {
  const double eps = static_cast<const EpsAttrs*>(attrs)->eps;
  return map_two("layer_norm_grad", inputs, [eps](const Rows& r, const auto* g, const auto* x, auto* gx) {
    std::remove_pointer_t<decltype(gx)>* const none = nullptr;
    layer_norm_backward(r, g, x, static_cast<decltype(g)>(none), eps, gx, none);
  });
}

TensorVec cross_entropy_mean(std::span<Tensor> inputs, const Attrs*) {
  return dispatch_float(inputs[0].dtype(), "cross_entropy", [&](auto tag) -> Tensor {
    using T = typename decltype(tag)::type;
    const Tensor x = engine::contiguous(inputs[0]);
    const Tensor labels = engine::contiguous(inputs[1]);
    const std::int64_t rows = x.shape()[0];
    Tensor y = engine::empty(Shape{}, dtype_of<T>, x.device());
    if (rows == 0 || x.shape()[1] == 0) {  // no rows: 0 / 0, no classes: no label can be one
      fill(y, std::numeric_limits<double>::quiet_NaN());
      return y;
    }
    Tensor loss = engine::empty(Shape{rows}, dtype_of<T>, x.device());
    cross_entropy<T>({x.device(), rows, x.shape()[1]}, engine::ptr<T>(x), engine::ptr<std::int64_t>(labels),
                     engine::mutable_ptr<T>(loss));
    const MeanOf<T> mean{engine::mutable_ptr<T>(y), static_cast<double>(rows)};
    reduce_middle("cross_entropy", x.device(), mean, {engine::ptr<T>(loss)}, 1, rows, 1);
    return y;
  });
}

TensorVec cross_entropy_mean_grad(std::span<Tensor> inputs, const Attrs*) {
  const Tensor labels = engine::contiguous(inputs[1]);
  return map("cross_entropy", inputs[0], [&labels](const Rows& r, const auto* x, auto* y) {
    using T = std::remove_pointer_t<decltype(y)>;
    cross_entropy_backward<T>(r, T{1} / static_cast<T>(r.rows), x, engine::ptr<std::int64_t>(labels), y);
  });
}

}  // namespace solvent::cuda
