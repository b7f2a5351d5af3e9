// eigh and svd. The rules divide by gaps between eigenvalues, without hiding small or zero ones.

#include "solvent/ops/spectral.h"

#include <utility>

#include "solvent/autodiff/cuda_kernel.h"
#include "solvent/core/error.h"
#include "solvent/ops/cpu/factor_kernels.h"
#include "solvent/ops/elementwise.h"
#include "solvent/ops/families.h"
#include "solvent/ops/linalg.h"
#include "solvent/ops/matrix_parts.h"
#include "solvent/ops/matrix_util.h"
#include "solvent/ops/reduce.h"
#include "solvent/ops/rules.h"
#include "solvent/ops/shape_ops.h"
#if SOLVENT_WITH_CUDA
#include "solvent/ops/cuda/spectral.h"
#endif

namespace solvent {
namespace {

using detail::add_defined;
using detail::symmetric_part;

Tensor row_of(const Tensor& v) { return unsqueeze(v, -2); }
Tensor column_of(const Tensor& v) { return unsqueeze(v, -1); }

// 1 / d off the diagonal, 0 on it, for d with a diagonal of zeros.
Tensor reciprocal_off_diagonal(const Tensor& d) {
  const Tensor unit = eye(d.size(-1), {d.dtype(), d.device()});
  return sub(reciprocal(add(d, unit)), unit);
}

// diag(a^T b) for matrices with equal columns
Tensor column_products(const Tensor& a, const Tensor& b) { return sum(mul(a, b), {-2}); }

// --- eigh -----------------------------------------------------------------------------------------------------------------

// F_ij = 1 / (w_j - w_i)
Tensor eigenvalue_gaps(const Tensor& w) { return reciprocal_off_diagonal(sub(row_of(w), column_of(w))); }

TensorVec eigh_kernel(std::span<Tensor> inputs, const Attrs*) { return cpu::eigh(inputs[0]); }

// dw = diag(V^T dA V), dV = V (F . V^T dA V)
TensorVec eigh_jvp(const Rule& rule, std::span<const Tensor> tangents) {
  const Tensor& v = rule.output(1);
  const Tensor product = matmul(symmetric_part(tangents[0]), v);
  Tensor dv = matmul(v, mul(eigenvalue_gaps(rule.output(0)), matmul(mT(v), product)));
  return {column_products(v, product), std::move(dv)};
}

// gA = sym(V (diag(gw) + F . V^T gV) V^T)
TensorVec eigh_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  const Tensor& v = rule.output(1);
  Tensor inner;
  if (cotangents[0].defined()) inner = diag_embed(cotangents[0]);
  if (cotangents[1].defined())
    inner = add_defined(std::move(inner), mul(eigenvalue_gaps(rule.output(0)), matmul(mT(v), cotangents[1])));
  return symmetric_part(matmul(matmul(v, std::move(inner)), mT(v)));
}

constinit const OpDef kEigh{.name = "eigh",
                            .cpu = eigh_kernel,
                            .cuda = SOLVENT_CUDA_KERNEL(cuda::eigh),
                            .jvp = eigh_jvp,
                            .vjp = eigh_vjp,
                            .outputs = Save::data};

// --- svd ------------------------------------------------------------------------------------------------------------------
// The primitive takes m >= n, so that V is square and only U has an orthogonal complement.

// F_ij = 1 / (s_j^2 - s_i^2), as a product of differences and sums, which does not cancel
Tensor singular_gaps(const Tensor& s) {
  return reciprocal_off_diagonal(mul(sub(row_of(s), column_of(s)), add(row_of(s), column_of(s))));
}

TensorVec svd_kernel(std::span<Tensor> inputs, const Attrs*) { return cpu::svd(inputs[0]); }

// P = U^T dA V: ds = diag(P), dU = U (F . (P S + S P^T)) + (1 - U U^T) dA V S^-1, dV = V (F . (S P + P^T S))
TensorVec svd_jvp(const Rule& rule, std::span<const Tensor> tangents) {
  const Tensor& u = rule.output(0);
  const Tensor& s = rule.output(1);
  const Tensor& vt = rule.output(2);
  const Tensor f = singular_gaps(s);
  const Tensor product = matmul(tangents[0], mT(vt));
  const Tensor p = matmul(mT(u), product);
  const Tensor pt = mT(p);
  Tensor du = matmul(u, mul(f, add(mul(p, row_of(s)), mul(pt, column_of(s)))));
  if (u.size(-2) > u.size(-1)) du = add(std::move(du), div(sub(product, matmul(u, p)), row_of(s)));
  Tensor dvt = matmul(mT(mul(f, add(mul(p, column_of(s)), mul(pt, row_of(s))))), vt);
  return {std::move(du), column_products(u, product), std::move(dvt)};
}

// gA = (U (diag(gs) + (F . (U^T gU - gU^T U)) S + S (F . (V^T gV - gV^T V))) + (1 - U U^T) gU S^-1) V^T
TensorVec svd_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  const Tensor& u = rule.output(0);
  const Tensor& s = rule.output(1);
  const Tensor& vt = rule.output(2);
  Tensor inner;
  Tensor outside;
  if (cotangents[1].defined()) inner = diag_embed(cotangents[1]);
  if (cotangents[0].defined()) {
    const Tensor c = matmul(mT(u), cotangents[0]);
    inner = add_defined(std::move(inner), mul(mul(singular_gaps(s), sub(c, mT(c))), row_of(s)));
    if (u.size(-2) > u.size(-1)) outside = div(sub(cotangents[0], matmul(u, c)), row_of(s));
  }
  if (cotangents[2].defined()) {
    const Tensor c = matmul(vt, mT(cotangents[2]));
    inner = add_defined(std::move(inner), mul(column_of(s), mul(singular_gaps(s), sub(c, mT(c)))));
  }
  return matmul(add_defined(matmul(u, std::move(inner)), std::move(outside)), vt);
}

constinit const OpDef kSvd{.name = "svd",
                           .cpu = svd_kernel,
                           .cuda = SOLVENT_CUDA_KERNEL(cuda::svd),
                           .jvp = svd_jvp,
                           .vjp = svd_vjp,
                           .outputs = Save::data};

constinit const OpDef* const kSpectralFamily[] = {&kEigh, &kSvd};

}  // namespace

namespace detail {
OpList spectral_ops() { return kSpectralFamily; }
}  // namespace detail

EighResult eigh(Tensor a) {
  detail::check_square("eigh", a);
  Tensor in[] = {std::move(a)};
  TensorVec out = apply(kEigh, in);
  return {std::move(out[0]), std::move(out[1])};
}

SvdResult svd(Tensor a) {
  detail::check_matrices("svd", a);
  const bool tall = a.size(-2) >= a.size(-1);
  Tensor in[] = {tall ? std::move(a) : mT(std::move(a))};
  TensorVec out = apply(kSvd, in);
  if (tall) return {std::move(out[0]), std::move(out[1]), std::move(out[2])};
  return {mT(std::move(out[2])), std::move(out[1]), mT(std::move(out[0]))};
}

}  // namespace solvent
