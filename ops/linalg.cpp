// Products of matrices and linear systems. The primitives take operands of equal rank with equal leading axes; the front
// ends get there with views. How a product is arranged is decided here, as operations, so that derivatives profit too:
// - a rank-2 right operand takes all leading axes of the left one as rows: the product is one GEMM, and the gradient of
//   the right operand (weights) is one GEMM that contracts all rows, not a batch of products summed afterwards;
// - constant left operands whose rows are all the same (stride 0: the unit tangents of jacfwd) are multiplied once.

#include "solvent/ops/linalg.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "solvent/autodiff/cuda_kernel.h"
#include "solvent/core/error.h"
#include "solvent/ops/cpu/linalg_kernels.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/families.h"
#include "solvent/ops/matrix_util.h"
#include "solvent/ops/reduce.h"
#include "solvent/ops/shape_ops.h"
#include "solvent/ops/shape_primitives.h"
#if SOLVENT_WITH_CUDA
#include "solvent/ops/cuda/factor.h"
#include "solvent/ops/cuda/linalg.h"
#endif

namespace solvent {
namespace {

[[noreturn]] void throw_inner(const Tensor& a, const Tensor& b) {
  if (a.rank() == 0 || b.rank() == 0)
    throw ShapeError(fmt::format("[matmul] got a {} and b {}; expected at least one axis each. Use a * b for scalars.",
                                 to_string(a.shape()), to_string(b.shape())));
  const bool transposed = b.rank() >= 2 && b.size(-1) == a.size(-1);
  throw ShapeError(
      fmt::format("[matmul] got a {} and b {}; expected a.shape[-1] == b.shape[{}].{}", to_string(a.shape()),
                  to_string(b.shape()), b.rank() == 1 ? -1 : -2,
                  transposed ? " If b holds (out, in) weights, pass mT(b)." : " Check the order of operands."));
}

// --- matmul ---------------------------------------------------------------------------------------------------------------

// Of the calls that permit a GPU to round; exact ones have none.
struct MatmulAttrs : AttrsBase<MatmulAttrs> {
  explicit MatmulAttrs(MatmulPrecision p) : precision(p) {}
  MatmulPrecision precision;

  [[nodiscard]] std::string describe() const override { return "precision=" + to_string(precision); }
};

MatmulPrecision precision_of(const MatmulAttrs* attrs) {
  return attrs == nullptr ? MatmulPrecision::highest : attrs->precision;
}
MatmulPrecision precision_of(const Rule& rule) { return precision_of(rule.attrs_if_any<MatmulAttrs>()); }

TensorVec matmul_kernel(std::span<Tensor> inputs, const Attrs*) { return cpu::matmul(inputs[0], inputs[1]); }

#if SOLVENT_WITH_CUDA
TensorVec matmul_cuda(std::span<Tensor> inputs, const Attrs* attrs) {
  return cuda::matmul(inputs[0], inputs[1], precision_of(static_cast<const MatmulAttrs*>(attrs)));
}
#endif

TensorVec matmul_jvp(const Rule& rule, std::span<const Tensor> tangents) {
  const MatmulPrecision precision = precision_of(rule);
  Tensor t;
  if (tangents[0].defined()) t = matmul(tangents[0], rule.input(1), precision);
  if (tangents[1].defined()) {
    Tensor other = matmul(rule.input(0), tangents[1], precision);
    t = t.defined() ? add(std::move(t), std::move(other)) : std::move(other);
  }
  return t;
}

bool is_column_major(const Tensor& t) { return t.strides()[t.rank() - 2] == 1 && t.strides()[t.rank() - 1] > 1; }

// a b, lying in memory like `like`: the gradient of the weights W (out, in) of x W^T comes out row-major, as W is, and
// whoever reads both (an optimizer) need not copy it.
Tensor product_like(const Tensor& like, const Tensor& a, const Tensor& b, MatmulPrecision precision) {
  return is_column_major(like) ? mT(matmul(mT(b), mT(a), precision)) : matmul(a, b, precision);
}

TensorVec matmul_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  TensorVec grads(2);
  const MatmulPrecision precision = precision_of(rule);
  const Tensor& g = cotangents[0];
  if (rule.needs(0)) grads[0] = product_like(rule.input(0), g, mT(rule.input(1)), precision);
  if (rule.needs(1)) grads[1] = product_like(rule.input(1), mT(rule.input(0)), g, precision);
  return grads;
}

constinit const OpDef kMatmul{.name = "matmul",
                              .cpu = matmul_kernel,
                              .cuda = SOLVENT_CUDA_KERNEL(matmul_cuda),
                              .jvp = matmul_jvp,
                              .vjp = matmul_vjp,
                              .inputs = {Save::data}};

Tensor multiply(Tensor a, Tensor b, MatmulPrecision precision) {
  if (precision == MatmulPrecision::highest) return apply1(kMatmul, nullptr, std::move(a), std::move(b));
  const MatmulAttrs attrs(precision);
  return apply1(kMatmul, &attrs, std::move(a), std::move(b));
}

// Operands of rank >= 2 with matching inner extents.
Tensor matmul_matrices(Tensor a, Tensor b, MatmulPrecision precision) {
  const int rows_axis = a.rank() - 2;
  // Only of a constant may one row stand for all: a differentiated `a` has a tangent for each row.
  if (a.shape()[rows_axis] > 1 && a.strides()[rows_axis] == 0 && !is_differentiated(a)) {
    const std::int64_t rows = a.shape()[rows_axis];
    Tensor y = matmul_matrices(detail::slice_exact(std::move(a), -2, 0, 1, 1), std::move(b), precision);
    Shape shape = y.shape();
    shape[shape.rank() - 2] = rows;
    return broadcast_to(std::move(y), shape);
  }
  if (a.rank() == 2 && b.rank() == 2) return multiply(std::move(a), std::move(b), precision);
  if (b.rank() == 2) {
    Shape shape = a.shape();
    shape[shape.rank() - 1] = b.shape()[1];
    const std::int64_t inner = a.shape().back();
    Shape lead = a.shape();
    lead.pop_back();
    a = reshape(std::move(a), {lead.product(), inner});
    return reshape(multiply(std::move(a), std::move(b), precision), shape);
  }
  detail::align_leading("matmul", a, b);
  return multiply(std::move(a), std::move(b), precision);
}

// --- outer ----------------------------------------------------------------------------------------------------------------
// A primitive of its own: as a broadcast multiplication its innermost runs would be as short as one row.

TensorVec outer_kernel(std::span<Tensor> inputs, const Attrs*) { return cpu::outer(inputs[0], inputs[1]); }

TensorVec outer_jvp(const Rule& rule, std::span<const Tensor> tangents) {
  Tensor t;
  if (tangents[0].defined()) t = outer(tangents[0], rule.input(1));
  if (tangents[1].defined()) {
    Tensor other = outer(rule.input(0), tangents[1]);
    t = t.defined() ? add(std::move(t), std::move(other)) : std::move(other);
  }
  return t;
}

Tensor times_vector(Tensor matrices, const Tensor& vectors) {
  Tensor y = matmul(std::move(matrices), unsqueeze(vectors, -1));
  return squeeze(std::move(y), -1);
}

TensorVec outer_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  TensorVec grads(2);
  if (rule.needs(0)) grads[0] = times_vector(cotangents[0], rule.input(1));
  if (rule.needs(1)) grads[1] = times_vector(mT(cotangents[0]), rule.input(0));
  return grads;
}

constinit const OpDef kOuter{.name = "outer",
                             .cpu = outer_kernel,
                             .cuda = SOLVENT_CUDA_KERNEL(cuda::outer),
                             .jvp = outer_jvp,
                             .vjp = outer_vjp,
                             .inputs = {Save::data}};

// --- solve ----------------------------------------------------------------------------------------------------------------

TensorVec solve_kernel(std::span<Tensor> inputs, const Attrs*) { return cpu::solve(inputs[0], inputs[1]); }

// a x = b  =>  a dx = db - da x
TensorVec solve_jvp(const Rule& rule, std::span<const Tensor> tangents) {
  Tensor rhs = tangents[1];
  if (tangents[0].defined()) {
    Tensor product = matmul(tangents[0], rule.output());
    rhs = rhs.defined() ? sub(std::move(rhs), std::move(product)) : neg(std::move(product));
  }
  return solve(rule.input(0), std::move(rhs));
}

// <g, a^-1 (db - da x)> = <a^-T g, db> - <(a^-T g) x^T, da>
TensorVec solve_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  TensorVec grads(2);
  Tensor adjoint = solve(mT(rule.input(0)), cotangents[0]);
  if (rule.needs(0)) grads[0] = neg(matmul(adjoint, mT(rule.output())));
  if (rule.needs(1)) grads[1] = std::move(adjoint);
  return grads;
}

constinit const OpDef kSolve{.name = "solve",
                             .cpu = solve_kernel,
                             .cuda = SOLVENT_CUDA_KERNEL(cuda::solve),
                             .jvp = solve_jvp,
                             .vjp = solve_vjp,
                             .inputs = {Save::data, Save::none},
                             .num_saves = 2,
                             .outputs = Save::data};

constinit const OpDef* const kLinalgFamily[] = {&kMatmul, &kOuter, &kSolve};

}  // namespace

namespace detail {
OpList linalg_ops() { return kLinalgFamily; }
}  // namespace detail

Tensor matmul(Tensor a, Tensor b) { return matmul(std::move(a), std::move(b), matmul_precision()); }

Tensor matmul(Tensor a, Tensor b, MatmulPrecision precision) {
  detail::check_same_dtype("matmul", a, b);
  detail::check_floating_or_storage("matmul", a);
  const int rank_a = a.rank();
  const int rank_b = b.rank();
  if (rank_a == 0 || rank_b == 0) [[unlikely]]
    throw_inner(a, b);
  if (a.shape().back() != b.shape()[rank_b == 1 ? 0 : rank_b - 2]) [[unlikely]]
    throw_inner(a, b);
  if (rank_a >= 2 && rank_b >= 2) return matmul_matrices(std::move(a), std::move(b), precision);
  const std::int64_t inner = a.shape().back();
  if (rank_a == 1) a = reshape(std::move(a), {1, inner});
  if (rank_b == 1) b = reshape(std::move(b), {inner, 1});
  Tensor y = matmul_matrices(std::move(a), std::move(b), precision);
  Shape shape = y.shape();
  if (rank_b == 1) shape.pop_back();
  if (rank_a == 1) shape.erase(rank_b == 1 ? shape.rank() - 1 : shape.rank() - 2);
  return reshape(std::move(y), shape);
}

Tensor dot(Tensor a, Tensor b) {
  if (a.rank() == 0 || b.rank() == 0 || a.shape().back() != b.shape().back())
    throw ShapeError(fmt::format("[dot] got a {} and b {}; expected equal last extents. Use a * b for scalars.",
                                 to_string(a.shape()), to_string(b.shape())));
  // Products must not be rounded before they are added.
  if (is_storage_type(a.dtype()))
    return squeeze(squeeze(matmul(unsqueeze(std::move(a), -2), unsqueeze(std::move(b), -1)), -1), -1);
  return sum(mul(std::move(a), std::move(b)), {-1});
}

Tensor outer(Tensor a, Tensor b) {
  detail::check_same_dtype("outer", a, b);
  detail::check_floating_or_storage("outer", a);
  if (a.rank() == 0 || b.rank() == 0)
    throw ShapeError(fmt::format("[outer] got a {} and b {}; expected at least one axis each. Use a * b for scalars.",
                                 to_string(a.shape()), to_string(b.shape())));
  detail::align_leading("outer", a, b, 1);
  return apply1(kOuter, nullptr, std::move(a), std::move(b));
}

Tensor solve(Tensor a, Tensor b) {
  detail::check_same_dtype("solve", a, b);
  detail::check_floating("solve", a);
  if (a.rank() < 2 || b.rank() < 2 || a.size(-1) != a.size(-2) || a.size(-1) != b.size(-2))
    throw ShapeError(
        fmt::format("[solve] got a {} and b {}; expected a (..., n, n) and b (..., n, k). For one vector use "
                    "unsqueeze(b, -1).",
                    to_string(a.shape()), to_string(b.shape())));
  detail::align_leading("solve", a, b);
  return apply1(kSolve, nullptr, std::move(a), std::move(b));
}

}  // namespace solvent
