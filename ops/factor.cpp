// Cholesky, triangular systems, inverse, determinants, QR and least squares. Each family of rules is closed: they are
// written with products, triangular systems and the operations themselves.

#include "solvent/ops/factor.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "solvent/autodiff/cuda_kernel.h"
#include "solvent/core/engine/view.h"
#include "solvent/core/error.h"
#include "solvent/ops/cpu/factor_kernels.h"
#include "solvent/ops/cpu/linalg_kernels.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/families.h"
#include "solvent/ops/linalg.h"
#include "solvent/ops/matrix_parts.h"
#include "solvent/ops/matrix_util.h"
#include "solvent/ops/reduce.h"
#include "solvent/ops/rules.h"
#include "solvent/ops/shape_ops.h"
#if SOLVENT_WITH_CUDA
#include "solvent/ops/cuda/factor.h"
#endif

namespace solvent {
namespace {

using detail::add_defined;
using detail::symmetric_part;

// --- cholesky ---------------------------------------------------------------------------------------------------------------

// Lower part with half the diagonal.
Tensor lower_half(const Tensor& x) { return affine(add(tril(x), tril(x, -1)), 0.5, 0.0); }

TensorVec cholesky_kernel(std::span<Tensor> inputs, const Attrs*) { return cpu::cholesky(inputs[0]); }

TensorVec cholesky_jvp(const Rule& rule, std::span<const Tensor> tangents) {
  const Tensor& l = rule.output();
  Tensor m = triangular_solve(l, symmetric_part(tangents[0]));
  m = triangular_solve(l, std::move(m), {.transposed = true, .right = true});
  return matmul(l, lower_half(m));
}

// <G, L P(L^-1 S L^-T)> = <L^-T P(L^T G) L^-1, S>
TensorVec cholesky_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  const Tensor& l = rule.output();
  Tensor s = lower_half(matmul(mT(l), cotangents[0]));
  s = triangular_solve(l, std::move(s), {.transposed = true});
  s = triangular_solve(l, std::move(s), {.right = true});
  return symmetric_part(s);
}

constinit const OpDef kCholesky{.name = "cholesky",
                                .cpu = cholesky_kernel,
                                .cuda = SOLVENT_CUDA_KERNEL(cuda::cholesky),
                                .jvp = cholesky_jvp,
                                .vjp = cholesky_vjp,
                                .outputs = Save::data};

// --- triangular_solve -------------------------------------------------------------------------------------------------------

struct TriangularAttrs : AttrsBase<TriangularAttrs> {
  bool upper = false;
  bool unit = false;
  [[nodiscard]] std::string describe() const override { return fmt::format("upper={} unit={}", upper, unit); }
};

TensorVec triangular_kernel(std::span<Tensor> inputs, const Attrs* attrs) {
  const auto& a = static_cast<const TriangularAttrs&>(*attrs);
  return cpu::triangular_solve(inputs[0], inputs[1], a.upper, a.unit);
}

#if SOLVENT_WITH_CUDA
TensorVec triangular_on_gpu(std::span<Tensor> inputs, const Attrs* attrs) {
  const auto& a = static_cast<const TriangularAttrs&>(*attrs);
  return cuda::triangular_solve(inputs[0], inputs[1], a.upper, a.unit);
}
#endif

// The elements of a matrix that are read.
Tensor triangle(const Tensor& x, const TriangularAttrs& a) {
  return a.upper ? triu(x, a.unit ? 1 : 0) : tril(x, a.unit ? -1 : 0);
}

// a x = b  =>  a dx = db - tri(da) x
TensorVec triangular_jvp(const Rule& rule, std::span<const Tensor> tangents) {
  const auto& a = rule.attrs<TriangularAttrs>();
  Tensor rhs = tangents[1];
  if (tangents[0].defined()) rhs = add_defined(std::move(rhs), neg(matmul(triangle(tangents[0], a), rule.output())));
  return triangular_solve(rule.input(0), std::move(rhs), {.upper = a.upper, .unit_diagonal = a.unit});
}

TensorVec triangular_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  const auto& a = rule.attrs<TriangularAttrs>();
  TensorVec grads(2);
  Tensor adjoint =
      triangular_solve(rule.input(0), cotangents[0], {.upper = a.upper, .transposed = true, .unit_diagonal = a.unit});
  if (rule.needs(0)) grads[0] = neg(triangle(matmul(adjoint, mT(rule.output())), a));
  if (rule.needs(1)) grads[1] = std::move(adjoint);
  return grads;
}

constinit const OpDef kTriangularSolve{.name = "triangular_solve",
                                       .cpu = triangular_kernel,
                                       .cuda = SOLVENT_CUDA_KERNEL(triangular_on_gpu),
                                       .jvp = triangular_jvp,
                                       .vjp = triangular_vjp,
                                       .inputs = {Save::data, Save::none},
                                       .num_saves = 2,
                                       .outputs = Save::data};

// --- inverse ----------------------------------------------------------------------------------------------------------------

TensorVec inverse_kernel(std::span<Tensor> inputs, const Attrs*) {
  const Tensor& a = inputs[0];
  const Tensor unit = eye(a.size(-1), {a.dtype(), a.device()});
  Strides strides = Dims::filled(a.rank(), 0);
  strides[a.rank() - 2] = unit.strides()[0];
  strides[a.rank() - 1] = unit.strides()[1];
  return cpu::solve(a, engine::view(unit, a.shape(), strides, unit.impl()->offset), "inverse");
}

TensorVec inverse_jvp(const Rule& rule, std::span<const Tensor> tangents) {
  return neg(matmul(rule.output(), matmul(tangents[0], rule.output())));
}

TensorVec inverse_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  const Tensor transposed = mT(rule.output());
  return neg(matmul(transposed, matmul(cotangents[0], transposed)));
}

constinit const OpDef kInverse{.name = "inverse",
                               .cpu = inverse_kernel,
                               .cuda = SOLVENT_CUDA_KERNEL(cuda::inverse),
                               .jvp = inverse_jvp,
                               .vjp = inverse_vjp,
                               .outputs = Save::data};

// --- determinants -----------------------------------------------------------------------------------------------------------

// tr(a^-1 t) for each matrix
Tensor log_derivative(const Tensor& a, const Tensor& t) { return sum(mul(mT(inverse(a)), t), {-2, -1}); }

// g a^-T for each matrix
Tensor scaled_inverse(const Tensor& a, const Tensor& g) { return mul(mT(inverse(a)), unsqueeze(unsqueeze(g, -1), -1)); }

TensorVec det_kernel(std::span<Tensor> inputs, const Attrs*) { return cpu::det(inputs[0]); }

TensorVec det_jvp(const Rule& rule, std::span<const Tensor> tangents) {
  return mul(rule.output(), log_derivative(rule.input(0), tangents[0]));
}

TensorVec det_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  return scaled_inverse(rule.input(0), mul(cotangents[0], rule.output()));
}

constinit const OpDef kDet{.name = "det",
                           .cpu = det_kernel,
                           .cuda = SOLVENT_CUDA_KERNEL(cuda::det),
                           .jvp = det_jvp,
                           .vjp = det_vjp,
                           .inputs = {Save::data},
                           .outputs = Save::data};

TensorVec slogdet_kernel(std::span<Tensor> inputs, const Attrs*) { return cpu::slogdet(inputs[0]); }

TensorVec slogdet_jvp(const Rule& rule, std::span<const Tensor> tangents) {
  return {Tensor(), log_derivative(rule.input(0), tangents[0])};
}

TensorVec slogdet_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  return cotangents[1].defined() ? scaled_inverse(rule.input(0), cotangents[1]) : Tensor();
}

constinit const OpDef kSlogdet{.name = "slogdet",
                               .cpu = slogdet_kernel,
                               .cuda = SOLVENT_CUDA_KERNEL(cuda::slogdet),
                               .jvp = slogdet_jvp,
                               .vjp = slogdet_vjp,
                               .inputs = {Save::data}};

// --- qr -----------------------------------------------------------------------------------------------------------------------
// The primitive takes m >= n. Rules: Walter & Lehmann 2018, "Algorithmic differentiation of linear algebra functions with
// application in optimum experimental design", and Seeger et al. 2017 (arXiv:1710.08717), eq. for LQ transposed.

TensorVec qr_kernel(std::span<Tensor> inputs, const Attrs*) { return cpu::qr(inputs[0]); }

// X = dA R^-1, C = Q^T X, W = lower(C) - lower(C)^T (strictly): dQ = X - Q (C - W), dR = (C - W) R
TensorVec qr_jvp(const Rule& rule, std::span<const Tensor> tangents) {
  const Tensor& q = rule.output(0);
  const Tensor& r = rule.output(1);
  Tensor x = triangular_solve(r, tangents[0], {.upper = true, .right = true});
  const Tensor c = matmul(mT(q), x);
  const Tensor lower = tril(c, -1);
  const Tensor upper = sub(c, sub(lower, mT(lower)));
  Tensor dr = matmul(upper, r);
  return {sub(std::move(x), matmul(q, upper)), std::move(dr)};
}

// M = R gR^T - gQ^T Q: gA = (gQ + Q (lower(M) + strictly lower(M)^T)) R^-T
TensorVec qr_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  const Tensor& q = rule.output(0);
  const Tensor& r = rule.output(1);
  Tensor m;
  if (cotangents[1].defined()) m = matmul(r, mT(cotangents[1]));
  if (cotangents[0].defined()) m = add_defined(std::move(m), neg(matmul(mT(cotangents[0]), q)));
  if (!m.defined()) return Tensor();
  Tensor g = matmul(q, add(tril(m), mT(tril(m, -1))));
  if (cotangents[0].defined()) g = add(cotangents[0], std::move(g));
  return triangular_solve(r, std::move(g), {.upper = true, .transposed = true, .right = true});
}

constinit const OpDef kQr{.name = "qr",
                          .cpu = qr_kernel,
                          .cuda = SOLVENT_CUDA_KERNEL(cuda::qr),
                          .jvp = qr_jvp,
                          .vjp = qr_vjp,
                          .outputs = Save::data};

constinit const OpDef* const kFactorFamily[] = {&kCholesky, &kTriangularSolve, &kInverse, &kDet, &kSlogdet, &kQr};

QrFactors tall_qr(Tensor a) {
  Tensor in[] = {std::move(a)};
  TensorVec out = apply(kQr, in);
  return {std::move(out[0]), std::move(out[1])};
}

// --- lstsq ------------------------------------------------------------------------------------------------------------------

// First row-major matrix of r (..., n, n) whose diagonal has an element below `limit` times its largest one, or -1.
template <class T>
std::int64_t find_deficient(const Tensor& diagonal, double limit, double* ratio) {
  const std::vector<T> values = diagonal.to_vector<T>();
  const auto n = static_cast<std::size_t>(diagonal.size(-1));
  for (std::size_t begin = 0; begin < values.size(); begin += n) {
    double smallest = std::numeric_limits<double>::infinity();
    double largest = 0.0;
    for (std::size_t i = begin; i < begin + n; ++i) {
      smallest = std::min(smallest, std::abs(static_cast<double>(values[i])));
      largest = std::max(largest, std::abs(static_cast<double>(values[i])));
    }
    *ratio = largest > 0.0 ? smallest / largest : 0.0;
    if (!(smallest > limit * largest) && !std::isnan(smallest) && !std::isnan(largest))
      return static_cast<std::int64_t>(begin / n);
  }
  return -1;
}

void check_rank(const Tensor& a, const Tensor& r) {
  if (r.numel() == 0) return;
  const Tensor values = diagonal(stop_gradient(r));
  const double eps = r.dtype() == float64 ? std::numeric_limits<double>::epsilon()
                                          : static_cast<double>(std::numeric_limits<float>::epsilon());
  const double limit = eps * static_cast<double>(std::max(a.size(-1), a.size(-2)));
  double ratio = 0.0;
  const std::int64_t bad = r.dtype() == float64 ? find_deficient<double>(values, limit, &ratio)
                                                : find_deficient<float>(values, limit, &ratio);
  if (bad >= 0)
    throw ValueError(
        fmt::format("[lstsq] matrix {} of {}, with a of shape {}, is rank deficient: the smallest element of "
                    "r's diagonal is {:.1e} times the largest; expected more than {:.1e}. Drop dependent "
                    "columns, add a small multiple of the identity to a^T a, or use svd.",
                    bad, r.numel() / (r.size(-1) * r.size(-1)), to_string(a.shape()), ratio, limit));
}

}  // namespace

namespace detail {
OpList factor_ops() { return kFactorFamily; }
}  // namespace detail

Tensor cholesky(Tensor a) {
  detail::check_square("cholesky", a);
  return apply1(kCholesky, nullptr, std::move(a));
}

Tensor triangular_solve(Tensor a, Tensor b, TriangularOptions options) {
  detail::check_same_dtype("triangular_solve", a, b);
  detail::check_square("triangular_solve", a);
  if (b.rank() < 2 || a.size(-1) != b.size(options.right ? -1 : -2))
    throw ShapeError(
        fmt::format("[triangular_solve] got a {} and b {}; expected a (..., n, n) and b {}. For one vector use "
                    "unsqueeze(b, {}).",
                    to_string(a.shape()), to_string(b.shape()), options.right ? "(..., k, n)" : "(..., n, k)",
                    options.right ? -2 : -1));
  // x op(a) = b is op(a)^T x^T = b^T, and the transpose of an upper triangle is a lower one.
  const bool transposed = options.transposed != options.right;
  if (transposed) a = mT(std::move(a));
  if (options.right) b = mT(std::move(b));
  TriangularAttrs attrs;
  attrs.upper = options.upper != transposed;
  attrs.unit = options.unit_diagonal;
  detail::align_leading("triangular_solve", a, b);
  Tensor x = apply1(kTriangularSolve, &attrs, std::move(a), std::move(b));
  return options.right ? mT(std::move(x)) : x;
}

Tensor inverse(Tensor a) {
  detail::check_square("inverse", a);
  return apply1(kInverse, nullptr, std::move(a));
}

Tensor det(Tensor a) {
  detail::check_square("det", a);
  return apply1(kDet, nullptr, std::move(a));
}

SignAndLog slogdet(Tensor a) {
  detail::check_square("slogdet", a);
  Tensor in[] = {std::move(a)};
  TensorVec out = apply(kSlogdet, in);
  return {std::move(out[0]), std::move(out[1])};
}

QrFactors qr(Tensor a) {
  detail::check_matrices("qr", a);
  const std::int64_t m = a.size(-2);
  const std::int64_t n = a.size(-1);
  if (m >= n) return tall_qr(std::move(a));
  // The first m columns decide q; the others are q^T times them.
  QrFactors f = tall_qr(slice(a, -1, 0, m));
  Tensor rest = matmul(mT(f.q), slice(std::move(a), -1, m, n));
  f.r = concat({std::move(f.r), std::move(rest)}, -1);
  return f;
}

Tensor lstsq(Tensor a, Tensor b) {
  detail::check_same_dtype("lstsq", a, b);
  detail::check_floating("lstsq", a);
  if (a.rank() < 2 || b.rank() < 2 || a.size(-2) != b.size(-2))
    throw ShapeError(
        fmt::format("[lstsq] got a {} and b {}; expected a (..., m, n) and b (..., m, k). For one vector use "
                    "unsqueeze(b, -1).",
                    to_string(a.shape()), to_string(b.shape())));
  Tensor one = stop_gradient(a);
  Tensor two = stop_gradient(b);
  detail::align_leading("lstsq", one, two);  // a check only: each distinct `a` is factored once
  const bool tall = a.size(-2) >= a.size(-1);
  const QrFactors f = tall_qr(tall ? a : mT(a));
  check_rank(a, f.r);
  if (tall) return triangular_solve(f.r, matmul(mT(f.q), std::move(b)), {.upper = true});
  return matmul(f.q, triangular_solve(f.r, std::move(b), {.upper = true, .transposed = true}));
}

}  // namespace solvent
