// Products of matrices on the CPU.
//
// matmul finds out how each operand lies in memory and hands the products to core/engine/gemm, so its time is that of the
// GEMM plus a few dozen nanoseconds. Only batches of tiny matrices times vectors (one transition matrix per time step) are
// done here: the call of a kernel per product would cost more than the product. outer writes each result once.
// Deterministic: gemm is, and elsewhere every result is one sum in a fixed order.

#include "solvent/ops/cpu/linalg_kernels.h"

#include <algorithm>
#include <type_traits>

#include "solvent/core/engine/gemm.h"
#include "solvent/core/engine/iterate.h"
#include "solvent/core/engine/view.h"
#include "solvent/core/parallel.h"
#include "solvent/ops/matrix_layout.h"
#include "solvent/ops/widen.h"

namespace solvent::cpu {
namespace {

using detail::dense_matrices;
using detail::layout_of;
using Layout = detail::MatrixLayout;

// y = A x for `batch` matrices of at most kTinyMatrix elements, in a fixed order of additions.
constexpr std::int64_t kTinyMatrix = 64;

// kSize > 0: square of that size, everything in registers.
template <class T, int kSize, bool kTransposed>
void matrix_vector(std::int64_t rows, std::int64_t cols, const T* a, std::int64_t ld, const T* x, std::int64_t x_stride,
                   T* y) {
  if constexpr (kSize > 0) {
    T v[kSize];
    T sum[kSize];
    for (int j = 0; j < kSize; ++j) v[j] = x[j * x_stride];
    for (int i = 0; i < kSize; ++i) sum[i] = (kTransposed ? a[i] : a[i * ld]) * v[0];
    for (int j = 1; j < kSize; ++j)
      for (int i = 0; i < kSize; ++i) sum[i] += (kTransposed ? a[j * ld + i] : a[i * ld + j]) * v[j];
    for (int i = 0; i < kSize; ++i) y[i] = sum[i];
  } else {
    for (std::int64_t i = 0; i < rows; ++i) {
      T sum = (kTransposed ? a[i] : a[i * ld]) * x[0];
      for (std::int64_t j = 1; j < cols; ++j) sum += (kTransposed ? a[j * ld + i] : a[i * ld + j]) * x[j * x_stride];
      y[i] = sum;
    }
  }
}

template <class T, int kSize, bool kTransposed>
void tiny_batch(std::int64_t batch, std::int64_t rows, std::int64_t cols, const T* a, std::int64_t ld,
                std::int64_t step_a, const T* x, std::int64_t x_stride, std::int64_t step_x, T* y) {
  parallel_for(batch, (1 << 16) / (rows * cols), [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      matrix_vector<T, kSize, kTransposed>(rows, cols, a + i * step_a, ld, x + i * step_x, x_stride, y + i * rows);
  });
}

template <class T>
void tiny_vectors(std::int64_t batch, std::int64_t rows, std::int64_t cols, const T* a, const Layout& la,
                  std::int64_t step_a, const T* x, std::int64_t x_stride, std::int64_t step_x, T* y) {
  const auto run = [&](auto size) {
    constexpr int kSize = decltype(size)::value;
    if (la.transposed) {
      tiny_batch<T, kSize, true>(batch, rows, cols, a, la.ld, step_a, x, x_stride, step_x, y);
    } else {
      tiny_batch<T, kSize, false>(batch, rows, cols, a, la.ld, step_a, x, x_stride, step_x, y);
    }
  };
  if (rows != cols) return run(std::integral_constant<int, 0>{});
  switch (cols) {
    case 2: return run(std::integral_constant<int, 2>{});
    case 3: return run(std::integral_constant<int, 3>{});
    case 4: return run(std::integral_constant<int, 4>{});
    default: return run(std::integral_constant<int, 0>{});
  }
}

template <class T>
void batched(const Tensor& a, const Layout& la, const Tensor& b, const Layout& lb, Tensor& c) {
  const int lead_rank = c.rank() - 2;
  const std::int64_t m = c.shape()[lead_rank];
  const std::int64_t n = c.shape()[lead_rank + 1];
  const std::int64_t k = a.shape()[lead_rank + 1];
  const Shape lead_shape = detail::leading_axes(c.shape());
  const Strides lead_a = detail::leading_axes(a.strides());
  const Strides lead_b = detail::leading_axes(b.strides());
  const Strides lead_c = detail::leading_axes(c.strides());
  const Strides* strides[] = {&lead_a, &lead_b, &lead_c};
  const engine::Loops loops = engine::merge_axes(lead_shape, strides, 3);
  const T* pa = engine::ptr<T>(a);
  const T* pb = engine::ptr<T>(b);
  T* pc = engine::mutable_ptr<T>(c);
  const std::int64_t batch = loops.inner();
  const std::int64_t step_a = loops.inner_stride(0);
  const std::int64_t step_b = loops.inner_stride(1);
  const std::int64_t step_c = loops.inner_stride(2);
  // A batch that shares its right operand and whose left rows are equally spaced is one tall matrix.
  const std::int64_t lda = m == 1 && batch > 1 && step_a >= std::max<std::int64_t>(k, 1) ? step_a : la.ld;
  const bool tall = batch > 1 && step_b == 0 && !la.transposed && step_a == m * lda;
  for (std::int64_t i = 0; i < loops.outer(); ++i) {
    std::int64_t offset[3];
    engine::run_offsets(loops, i, 3, offset);
    const T* ai = pa + offset[0];
    const T* bi = pb + offset[1];
    T* ci = pc + offset[2];
    if (n == 1 && k > 0 && m * k <= kTinyMatrix && !tall) {
      tiny_vectors<T>(batch, m, k, ai, la, step_a, bi, lb.transposed ? 1 : lb.ld, step_b, ci);
    } else if (tall || batch == 1) {
      engine::gemm<T>(la.transposed, lb.transposed, m * batch, n, k, T(1), ai, tall ? lda : la.ld, bi, lb.ld, T(0), ci,
                      n);
    } else {
      engine::gemm_batched<T>(la.transposed, lb.transposed, m, n, k, T(1), ai, la.ld, step_a, bi, lb.ld, step_b, T(0),
                              ci, n, step_c, batch);
    }
  }
}

template <class T>
void product(const Tensor& a, const Layout& la, const Tensor& b, const Layout& lb, Tensor& c) {
  if (c.numel() == 0) return;
  if (c.rank() > 2) return batched<T>(a, la, b, lb, c);
  engine::gemm<T>(la.transposed, lb.transposed, c.shape()[0], c.shape()[1], a.shape()[1], T(1), engine::ptr<T>(a),
                  la.ld, engine::ptr<T>(b), lb.ld, T(0), engine::mutable_ptr<T>(c),
                  std::max<std::int64_t>(c.shape()[1], 1));
}

// Nothing is multiplied: an empty result, or zeros if only the inner extent is 0.
Tensor empty_product(const Tensor& a, const Tensor& b) {
  Shape shape = a.shape();
  shape[shape.rank() - 1] = b.shape().back();
  return zeros(shape, {a.dtype(), a.device()});
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b) {
  const Layout la = layout_of(a);
  const Layout lb = layout_of(b);
  if (!la.readable || !lb.readable) {
    if (a.numel() == 0 || b.numel() == 0) return empty_product(a, b);
    return la.readable ? matmul(a, dense_matrices(b)) : matmul(dense_matrices(a), b);
  }
  // The operands of a product are read several times: bfloat16 becomes float32 first. The result is rounded once.
  if (a.dtype() == DType::bfloat16) return detail::narrowed(matmul(detail::widened(a), detail::widened(b)));
  Shape shape = a.shape();
  shape[shape.rank() - 1] = b.shape().back();
  Tensor c = engine::empty(shape, a.dtype(), a.device());
  dispatch_float(a.dtype(), "matmul", [&](auto tag) { product<typename decltype(tag)::type>(a, la, b, lb, c); });
  return c;
}

namespace {

// Rows of kCols (0: any number) columns.
template <class T, int kCols>
void outer_rows(std::int64_t m, std::int64_t n, const T* a, std::int64_t a_stride, const T* b, std::int64_t b_stride,
                T* y) {
  const std::int64_t cols = kCols > 0 ? kCols : n;
  for (std::int64_t i = 0; i < m; ++i, y += cols) {
    const T factor = a[i * a_stride];
    if (b_stride == 1) {
      for (std::int64_t j = 0; j < cols; ++j) y[j] = factor * b[j];
    } else {
      for (std::int64_t j = 0; j < cols; ++j) y[j] = factor * b[j * b_stride];
    }
  }
}

template <class T>
void outer_all(const engine::Loops& loops, const Tensor& a, const Tensor& b, Tensor& y) {
  const std::int64_t m = a.shape().back();
  const std::int64_t n = b.shape().back();
  const std::int64_t inner = loops.inner();
  const T* pa = engine::ptr<T>(a);
  const T* pb = engine::ptr<T>(b);
  T* py = engine::mutable_ptr<T>(y);
  const auto run = [&](auto kernel) {
    parallel_for(loops.total, std::max<std::int64_t>(1, (1 << 16) / (m * n)),
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t at = begin; at < end;) {
                     std::int64_t offset[2];
                     engine::run_offsets(loops, at / inner, 2, offset);
                     const std::int64_t first = at % inner;
                     const std::int64_t last = std::min(inner, first + end - at);
                     for (std::int64_t i = first; i < last; ++i, ++at)
                       kernel(m, n, pa + offset[0] + i * loops.inner_stride(0), a.strides().back(),
                              pb + offset[1] + i * loops.inner_stride(1), b.strides().back(), py + at * m * n);
                   }
                 });
  };
  switch (n) {
    case 2: return run(outer_rows<T, 2>);
    case 4: return run(outer_rows<T, 4>);
    case 8: return run(outer_rows<T, 8>);
    case 16: return run(outer_rows<T, 16>);
    default: return run(outer_rows<T, 0>);
  }
}

}  // namespace

Tensor outer(const Tensor& a, const Tensor& b) {
  if (a.dtype() == DType::bfloat16) return detail::narrowed(outer(detail::widened(a), detail::widened(b)));
  Shape shape = a.shape();
  shape.push_back(b.shape().back());
  Tensor y = engine::empty(shape, a.dtype(), a.device());
  if (y.numel() == 0) return y;
  const auto lead = [](Dims d) {
    d.pop_back();
    return d;
  };
  const Shape lead_shape = lead(a.shape());
  const Strides lead_a = lead(a.strides());
  const Strides lead_b = lead(b.strides());
  const Strides* strides[] = {&lead_a, &lead_b};
  const engine::Loops loops = engine::merge_axes(lead_shape, strides, 2);
  dispatch_float(a.dtype(), "outer", [&](auto tag) { outer_all<typename decltype(tag)::type>(loops, a, b, y); });
  return y;
}

}  // namespace solvent::cpu
