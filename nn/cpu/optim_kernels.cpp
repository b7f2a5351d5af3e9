// See optim_kernels.h. One loop over vectors per kernel; the last, incomplete vector goes through a small buffer, so
// that all elements see the same arithmetic. NaN and infinity propagate.

#include "solvent/ops/cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "solvent/nn/cpu/optim_kernels.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include <algorithm>
#include <cstddef>

#include "hwy/highway.h"
#include "solvent/nn/cpu/optim_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace solvent::nn::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D>
using Lane = hn::TFromD<D>;

// Calls body(p, g, s, t, u) for consecutive vectors; it updates p and the states s, t, u. Null states are passed as zeros.
template <class T, class Body>
HWY_INLINE void for_each_vector(T* p, const T* g, T* s, T* t, T* u, std::int64_t n, Body body) noexcept {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  const std::size_t lanes = hn::Lanes(d);
  const std::size_t count = static_cast<std::size_t>(n);
  const auto turn = [&](T* pi, const T* gi, T* si, T* ti, T* ui) HWY_ATTR {
    V vp = hn::LoadU(d, pi);
    V vs = si != nullptr ? hn::LoadU(d, si) : hn::Zero(d);
    V vt = ti != nullptr ? hn::LoadU(d, ti) : hn::Zero(d);
    V vu = ui != nullptr ? hn::LoadU(d, ui) : hn::Zero(d);
    body(vp, hn::LoadU(d, gi), vs, vt, vu);
    hn::StoreU(vp, d, pi);
    if (si != nullptr) hn::StoreU(vs, d, si);
    if (ti != nullptr) hn::StoreU(vt, d, ti);
    if (ui != nullptr) hn::StoreU(vu, d, ui);
  };
  const auto at = [](T* state, std::size_t i) { return state != nullptr ? state + i : nullptr; };
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) turn(p + i, g + i, at(s, i), at(t, i), at(u, i));
  if (i == count) return;
  HWY_ALIGN T tail[5][HWY_MAX_BYTES / sizeof(T)] = {};
  const std::size_t rest = count - i;
  T* const states[3] = {s, t, u};
  std::copy_n(p + i, rest, tail[0]);
  std::copy_n(g + i, rest, tail[1]);
  for (std::size_t k = 0; k < 3; ++k)
    if (states[k] != nullptr) std::copy_n(states[k] + i, rest, tail[2 + k]);
  turn(tail[0], tail[1], s != nullptr ? tail[2] : nullptr, t != nullptr ? tail[3] : nullptr,
       u != nullptr ? tail[4] : nullptr);
  std::copy_n(tail[0], rest, p + i);
  for (std::size_t k = 0; k < 3; ++k)
    if (states[k] != nullptr) std::copy_n(tail[2 + k], rest, states[k] + i);
}

template <class T>
void sgd_loop(T* p, const T* g, T* velocity, std::int64_t n, const SgdScalars& a) noexcept {
  const hn::ScalableTag<T> d;
  const auto constant = [d](double x) { return hn::Set(d, static_cast<T>(x)); };
  const auto decay = constant(a.weight_decay);
  const auto rate = constant(a.rate);
  const auto momentum = constant(a.momentum);
  const auto old_weight = constant(a.momentum_weight);
  const auto new_weight = constant(a.gradient_weight);
  const bool with_momentum = velocity != nullptr;
  constexpr T* kNone = nullptr;
  for_each_vector(p, g, velocity, kNone, kNone, n, [=](auto& vp, const auto vg, auto& vv, auto&, auto&) HWY_ATTR {
    auto direction = hn::MulAdd(decay, vp, vg);
    if (with_momentum) {
      vv = hn::MulAdd(old_weight, vv, hn::Mul(new_weight, direction));
      direction = a.nesterov ? hn::MulAdd(momentum, vv, direction) : vv;
    }
    vp = hn::NegMulAdd(rate, direction, vp);
  });
}

template <class T>
void adam_loop(T* p, const T* g, T* m, T* v, T* v_max, std::int64_t n, const AdamScalars& a) noexcept {
  const hn::ScalableTag<T> d;
  const auto constant = [d](double x) { return hn::Set(d, static_cast<T>(x)); };
  const auto decay = constant(a.coupled_decay);
  const auto weight = constant(a.parameter_weight);
  const auto new_m = constant(1 - a.beta1);
  const auto old_v = constant(a.beta2);
  const auto new_v = constant(1 - a.beta2);
  const auto step = constant(a.step_size);
  const auto inverse_root = constant(a.inverse_root);
  const auto eps = constant(a.eps);
  const bool amsgrad = v_max != nullptr;
  for_each_vector(p, g, m, v, v_max, n, [=](auto& vp, const auto vg, auto& vm, auto& vv, auto& vx) HWY_ATTR {
    const auto direction = hn::MulAdd(decay, vp, vg);
    vm = hn::MulAdd(new_m, hn::Sub(direction, vm), vm);
    vv = hn::MulAdd(old_v, vv, hn::Mul(new_v, hn::Mul(direction, direction)));
    auto second = vv;
    if (amsgrad) {
      vx = hn::IfThenElse(hn::Gt(vx, vv), vx, vv);  // takes a NaN of v
      second = vx;
    }
    const auto denominator = hn::MulAdd(hn::Sqrt(second), inverse_root, eps);
    vp = hn::NegMulAdd(step, hn::Div(vm, denominator), hn::Mul(weight, vp));
  });
}

template <class T>
void adamax_loop(T* p, const T* g, T* m, T* u, std::int64_t n, const AdamaxScalars& a) noexcept {
  const hn::ScalableTag<T> d;
  const auto constant = [d](double x) { return hn::Set(d, static_cast<T>(x)); };
  const auto decay = constant(a.weight_decay);
  const auto new_m = constant(1 - a.beta1);
  const auto old_u = constant(a.beta2);
  const auto step = constant(a.step_size);
  const auto eps = constant(a.eps);
  constexpr T* kNone = nullptr;
  for_each_vector(p, g, m, u, kNone, n, [=](auto& vp, const auto vg, auto& vm, auto& vu, auto&) HWY_ATTR {
    const auto direction = hn::MulAdd(decay, vp, vg);
    vm = hn::MulAdd(new_m, hn::Sub(direction, vm), vm);
    const auto faded = hn::Mul(old_u, vu);
    const auto fresh = hn::Add(hn::Abs(direction), eps);
    vu = hn::IfThenElse(hn::Gt(faded, fresh), faded, fresh);  // takes a NaN of g
    vp = hn::NegMulAdd(step, hn::Div(vm, vu), vp);
  });
}

template <class T>
void average_loop(T* average, const T* x, std::int64_t n, double weight) noexcept {
  const hn::ScalableTag<T> d;
  const auto w = hn::Set(d, static_cast<T>(weight));
  constexpr T* kNone = nullptr;
  for_each_vector(average, x, kNone, kNone, kNone, n, [=](auto& va, const auto vx, auto&, auto&, auto&) HWY_ATTR {
    va = hn::MulAdd(w, hn::Sub(vx, va), va);
  });
}

// float64 sums in four accumulators: a fixed order for a given vector length.
double squares_loop(const double* x, std::int64_t n) noexcept {
  const hn::ScalableTag<double> d;
  const std::size_t lanes = hn::Lanes(d);
  const std::size_t count = static_cast<std::size_t>(n);
  auto sum0 = hn::Zero(d), sum1 = hn::Zero(d), sum2 = hn::Zero(d), sum3 = hn::Zero(d);
  std::size_t i = 0;
  for (; i + 4 * lanes <= count; i += 4 * lanes) {
    const auto x0 = hn::LoadU(d, x + i), x1 = hn::LoadU(d, x + i + lanes);
    const auto x2 = hn::LoadU(d, x + i + 2 * lanes), x3 = hn::LoadU(d, x + i + 3 * lanes);
    sum0 = hn::MulAdd(x0, x0, sum0);
    sum1 = hn::MulAdd(x1, x1, sum1);
    sum2 = hn::MulAdd(x2, x2, sum2);
    sum3 = hn::MulAdd(x3, x3, sum3);
  }
  double sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3))));
  for (; i < count; ++i) sum += x[i] * x[i];
  return sum;
}

double squares_loop(const float* x, std::int64_t n) noexcept {
  constexpr std::int64_t kChunk = 512;  // converted to float64 in the first-level cache
  double wide[kChunk];
  double sum = 0;
  for (std::int64_t i = 0; i < n; i += kChunk) {
    const std::int64_t count = std::min(kChunk, n - i);
    std::copy_n(x + i, count, wide);
    sum += squares_loop(wide, count);
  }
  return sum;
}

// Entries of the dispatch tables (Highway 1.0 cannot store noexcept functions).
void sgd_float(float* p, const float* g, float* v, std::int64_t n, const SgdScalars& a) { sgd_loop(p, g, v, n, a); }
void sgd_double(double* p, const double* g, double* v, std::int64_t n, const SgdScalars& a) { sgd_loop(p, g, v, n, a); }
void adam_float(float* p, const float* g, float* m, float* v, float* x, std::int64_t n, const AdamScalars& a) {
  adam_loop(p, g, m, v, x, n, a);
}
void adam_double(double* p, const double* g, double* m, double* v, double* x, std::int64_t n, const AdamScalars& a) {
  adam_loop(p, g, m, v, x, n, a);
}
void adamax_float(float* p, const float* g, float* m, float* u, std::int64_t n, const AdamaxScalars& a) {
  adamax_loop(p, g, m, u, n, a);
}
void adamax_double(double* p, const double* g, double* m, double* u, std::int64_t n, const AdamaxScalars& a) {
  adamax_loop(p, g, m, u, n, a);
}
void average_float(float* average, const float* x, std::int64_t n, double w) { average_loop(average, x, n, w); }
void average_double(double* average, const double* x, std::int64_t n, double w) { average_loop(average, x, n, w); }
double squares_float(const float* x, std::int64_t n) { return squares_loop(x, n); }
double squares_double(const double* x, std::int64_t n) { return squares_loop(x, n); }

}  // namespace solvent::nn::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace solvent::nn::cpu {

HWY_EXPORT(sgd_float);
HWY_EXPORT(sgd_double);
HWY_EXPORT(adam_float);
HWY_EXPORT(adam_double);
HWY_EXPORT(adamax_float);
HWY_EXPORT(adamax_double);
HWY_EXPORT(average_float);
HWY_EXPORT(average_double);
HWY_EXPORT(squares_float);
HWY_EXPORT(squares_double);

template <>
void sgd_update<float>(float* p, const float* g, float* v, std::int64_t n, const SgdScalars& a) noexcept {
  HWY_DYNAMIC_DISPATCH(sgd_float)(p, g, v, n, a);
}
template <>
void sgd_update<double>(double* p, const double* g, double* v, std::int64_t n, const SgdScalars& a) noexcept {
  HWY_DYNAMIC_DISPATCH(sgd_double)(p, g, v, n, a);
}
template <>
void adam_update<float>(float* p, const float* g, float* m, float* v, float* v_max, std::int64_t n,
                        const AdamScalars& a) noexcept {
  HWY_DYNAMIC_DISPATCH(adam_float)(p, g, m, v, v_max, n, a);
}
template <>
void adam_update<double>(double* p, const double* g, double* m, double* v, double* v_max, std::int64_t n,
                         const AdamScalars& a) noexcept {
  HWY_DYNAMIC_DISPATCH(adam_double)(p, g, m, v, v_max, n, a);
}
template <>
void adamax_update<float>(float* p, const float* g, float* m, float* u, std::int64_t n,
                          const AdamaxScalars& a) noexcept {
  HWY_DYNAMIC_DISPATCH(adamax_float)(p, g, m, u, n, a);
}
template <>
void adamax_update<double>(double* p, const double* g, double* m, double* u, std::int64_t n,
                           const AdamaxScalars& a) noexcept {
  HWY_DYNAMIC_DISPATCH(adamax_double)(p, g, m, u, n, a);
}
template <>
void average_update<float>(float* average, const float* x, std::int64_t n, double weight) noexcept {
  HWY_DYNAMIC_DISPATCH(average_float)(average, x, n, weight);
}
template <>
void average_update<double>(double* average, const double* x, std::int64_t n, double weight) noexcept {
  HWY_DYNAMIC_DISPATCH(average_double)(average, x, n, weight);
}
template <>
double sum_of_squares<float>(const float* x, std::int64_t n) noexcept {
  return HWY_DYNAMIC_DISPATCH(squares_float)(x, n);
}
template <>
double sum_of_squares<double>(const double* x, std::int64_t n) noexcept {
  return HWY_DYNAMIC_DISPATCH(squares_double)(x, n);
}

}  // namespace solvent::nn::cpu
#endif
