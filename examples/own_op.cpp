// An operation of one's own: Lambert's W function, w with w e^w = x, from kernel to checked derivatives of every order.
#include <cmath>
#include <iostream>
#include <limits>

#include "solvent/core/engine/view.h"
#include "solvent/solvent.h"
using namespace solvent;

namespace {

// [kernel]
// What it computes, on plain memory: kernels know nothing of derivatives and trust their inputs.
double lambert_w_of(double x) {
  if (!(x >= 0)) return std::numeric_limits<double>::quiet_NaN();
  double w = std::log1p(x);
  for (int i = 0; i < 8; ++i) {  // Halley's iteration converges cubically from here for all x >= 0
    const double e = std::exp(w), r = w * e - x;
    w -= r / (e * (w + 1) - 0.5 * (w + 2) * r / (w + 1));
  }
  return w;
}

TensorVec lambert_w_kernel(std::span<Tensor> inputs, const Attrs*) {
  const Tensor x = engine::contiguous(inputs[0]);
  Tensor w = engine::empty(x.shape(), x.dtype());
  dispatch_float(x.dtype(), "lambert_w", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* from = engine::ptr<T>(x);
    T* to = engine::mutable_ptr<T>(w);
    parallel_for(x.numel(), 1024, [=](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) to[i] = static_cast<T>(lambert_w_of(static_cast<double>(from[i])));
    });
  });
  return w;
}
// [kernel]

// [rule]
// Its derivative, w' = 1 / (e^w (1 + w)), written with public operations, so that it has derivatives itself. The
// Jacobian is diagonal, so one function maps tangents and, as the transposed rule, cotangents. An empty handle is a zero.
TensorVec times_slope(const Rule& rule, std::span<const Tensor> t) {
  if (!t[0].defined()) return Tensor();
  const Tensor& w = rule.output();
  return t[0] / (exp(w) * (1.0 + w));
}

// The record says what the rules read (the output), so that nothing else is kept for the backward pass.
constinit const OpDef kLambertW = {
    .name = "lambert_w", .cpu = lambert_w_kernel, .jvp = times_slope, .vjp = times_slope, .outputs = Save::data};
// [rule]

// [front]
// What users call: checks, then apply().
Tensor lambert_w(Tensor x) {
  if (!is_floating(x.dtype()))
    throw DtypeError("[lambert_w] got " + describe(x) + "; expected float32 or float64. Use cast(x, float32).");
  return apply1(kLambertW, nullptr, std::move(x));
}
// [front]

}  // namespace

int main() {
  // [check]
  // gradcheck compares forward and reverse mode, K directions at once, the four second-order nestings and
  // differences with each other.
  const Tensor x = uniform(Key(1), {4, 5}, 0.1, 10.0, float64);
  const GradcheckReport report = gradcheck([](const Tensors& xs) { return Tensors{lambert_w(xs[0])}; }, {x});
  std::cout << (report ? "derivatives agree" : report.message) << '\n';
  // [check]

  const Tensor w = lambert_w(x);
  const double residual = max(abs(w * exp(w) / x - 1.0)).item();
  const Tensor omega = lambert_w(tensor({1.0}, float64));
  std::cout << "W(1) = " << to_string(omega, 10) << "\nlargest residual " << residual << '\n';
  return report && residual < 1e-14 && std::abs(omega.item() - 0.567143290409783873) < 1e-15 ? 0 : 1;
}
