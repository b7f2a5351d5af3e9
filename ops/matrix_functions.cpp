// expm and phi1. For an analytic f,
//     f([[a, e], [0, a]]) = [[f(a), L(a, e)], [0, f(a)]]
// with the Frechet derivative L, the derivative of f at a in direction e. L is an operation of its own, linear in e; its
// derivative in a is the same identity for matrices of twice the size, so the family {f, L} is closed. The adjoint of
// e -> L(a, e) is e -> L(a^T, e), and that of d -> D_a L(a, e)[d] is d -> D_a L(a^T, e^T)[d], as the power series show.

#include "solvent/ops/matrix_functions.h"

#include <utility>

#include "solvent/autodiff/cuda_kernel.h"
#include "solvent/ops/cpu/exponential_kernels.h"
#include "solvent/ops/families.h"
#include "solvent/ops/matrix_util.h"
#include "solvent/ops/rules.h"
#include "solvent/ops/shape_ops.h"
#if SOLVENT_WITH_CUDA
#include "solvent/ops/cuda/exponential.h"
#endif

namespace solvent {
namespace {

using cpu::MatrixFn;
using detail::add_defined;

template <MatrixFn kFn>
Tensor frechet(Tensor a, Tensor e);

// Top right (n, n) of a (..., 2 n, 2 n).
Tensor top_right(const Tensor& x) {
  const std::int64_t n = x.size(-1) / 2;
  return slice(slice(x, -2, 0, n), -1, n, 2 * n);
}

// [[a, b], [0, a]]
Tensor triangular_blocks(const Tensor& a, const Tensor& b) {
  const Tensor zero = zeros_like(stop_gradient(a));
  return concat({concat({a, b}, -1), concat({zero, a}, -1)}, -2);
}

// Derivative of L(a, e) in a, direction d.
template <MatrixFn kFn>
Tensor second(Tensor a, Tensor e, Tensor d) {
  detail::align_leading("expm", a, e);
  detail::align_leading("expm", a, d);
  detail::align_leading("expm", e, d);
  const Tensor zero = zeros_like(stop_gradient(e));
  return top_right(frechet<kFn>(triangular_blocks(a, d), triangular_blocks(e, zero)));
}

// --- f --------------------------------------------------------------------------------------------------------------------

template <MatrixFn kFn>
TensorVec function_kernel(std::span<Tensor> inputs, const Attrs*) {
  return cpu::matrix_function(kFn, inputs[0]);
}

#if SOLVENT_WITH_CUDA
template <MatrixFn kFn>
TensorVec function_on_gpu(std::span<Tensor> inputs, const Attrs*) {
  return cuda::matrix_function(kFn, inputs[0]);
}
#endif

template <MatrixFn kFn>
TensorVec function_jvp(const Rule& rule, std::span<const Tensor> tangents) {
  return frechet<kFn>(rule.input(0), tangents[0]);
}

template <MatrixFn kFn>
TensorVec function_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  return frechet<kFn>(mT(rule.input(0)), cotangents[0]);
}

template <MatrixFn kFn>
constexpr OpDef function_op(std::string_view name) {
  return {.name = name,
          .cpu = function_kernel<kFn>,
          .cuda = SOLVENT_CUDA_KERNEL(function_on_gpu<kFn>),
          .jvp = function_jvp<kFn>,
          .vjp = function_vjp<kFn>,
          .inputs = {Save::data}};
}

// --- L --------------------------------------------------------------------------------------------------------------------

template <MatrixFn kFn>
TensorVec frechet_kernel(std::span<Tensor> inputs, const Attrs*) {
  return cpu::matrix_function_derivative(kFn, inputs[0], inputs[1]);
}

#if SOLVENT_WITH_CUDA
template <MatrixFn kFn>
TensorVec frechet_on_gpu(std::span<Tensor> inputs, const Attrs*) {
  return cuda::matrix_function_derivative(kFn, inputs[0], inputs[1]);
}
#endif

template <MatrixFn kFn>
TensorVec frechet_jvp(const Rule& rule, std::span<const Tensor> tangents) {
  return add_defined(tangents[0].defined() ? second<kFn>(rule.input(0), rule.input(1), tangents[0]) : Tensor(),
                     tangents[1].defined() ? frechet<kFn>(rule.input(0), tangents[1]) : Tensor());
}

template <MatrixFn kFn>
TensorVec frechet_vjp(const Rule& rule, std::span<const Tensor> cotangents) {
  const Tensor a = mT(rule.input(0));
  TensorVec grads(2);
  if (rule.needs(0)) grads[0] = second<kFn>(a, mT(rule.input(1)), cotangents[0]);
  if (rule.needs(1)) grads[1] = frechet<kFn>(a, cotangents[0]);
  return grads;
}

template <MatrixFn kFn>
constexpr OpDef frechet_op(std::string_view name) {
  return {.name = name,
          .cpu = frechet_kernel<kFn>,
          .cuda = SOLVENT_CUDA_KERNEL(frechet_on_gpu<kFn>),
          .jvp = frechet_jvp<kFn>,
          .vjp = frechet_vjp<kFn>,
          .inputs = {Save::data, Save::data},
          .num_saves = 2};
}

constinit const OpDef kExpm = function_op<MatrixFn::exp>("expm");
constinit const OpDef kPhi1 = function_op<MatrixFn::phi1>("phi1");
constinit const OpDef kExpmFrechet = frechet_op<MatrixFn::exp>("expm_frechet");
constinit const OpDef kPhi1Frechet = frechet_op<MatrixFn::phi1>("phi1_frechet");

constinit const OpDef* const kMatrixFunctions[] = {&kExpm, &kPhi1, &kExpmFrechet, &kPhi1Frechet};

template <MatrixFn kFn>
Tensor frechet(Tensor a, Tensor e) {
  detail::align_leading("expm", a, e);
  return apply1(kFn == MatrixFn::exp ? kExpmFrechet : kPhi1Frechet, nullptr, std::move(a), std::move(e));
}

}  // namespace

namespace detail {
OpList matrix_function_ops() { return kMatrixFunctions; }
}  // namespace detail

Tensor expm(Tensor a) {
  detail::check_square("expm", a);
  return apply1(kExpm, nullptr, std::move(a));
}

Tensor phi1(Tensor a) {
  detail::check_square("phi1", a);
  return apply1(kPhi1, nullptr, std::move(a));
}

}  // namespace solvent
