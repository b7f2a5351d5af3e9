// Vector loops over rows of small matrices, for the factorisations. Included once per Highway target (no #pragma once).
// Sums have a fixed order for a given length and vector size.

#if defined(SOLVENT_OPS_CPU_ROW_LOOPS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SOLVENT_OPS_CPU_ROW_LOOPS_INL_H_
#undef SOLVENT_OPS_CPU_ROW_LOOPS_INL_H_
#else
#define SOLVENT_OPS_CPU_ROW_LOOPS_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace solvent::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
HWY_INLINE std::int64_t lanes() {
  return static_cast<std::int64_t>(hn::Lanes(hn::ScalableTag<T>()));
}

/// Calls body(tag, i) for whole vectors, then for 16-byte ones, then for single elements, covering [0, n): short rows do
/// not end in long scalar tails.
template <class T, class Body>
HWY_INLINE void for_pieces(std::int64_t n, const Body& body) {
  const hn::ScalableTag<T> d;
  const hn::CappedTag<T, 16 / sizeof(T)> quarter;
  const hn::CappedTag<T, 1> one;
  const std::int64_t N = lanes<T>();
  const std::int64_t Q = static_cast<std::int64_t>(hn::Lanes(quarter));
  std::int64_t i = 0;
  for (; i + N <= n; i += N) body(d, i);
  for (; i + Q <= n; i += Q) body(quarter, i);
  for (; i < n; ++i) body(one, i);
}

/// y += f * x
template <class T>
HWY_INLINE void add_row(std::int64_t n, T f, const T* HWY_RESTRICT x, T* HWY_RESTRICT y) {
  for_pieces<T>(n, [=](auto d, std::int64_t i) HWY_ATTR {
    hn::StoreU(hn::MulAdd(hn::Set(d, f), hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, y + i);
  });
}

/// y += f * |x|
template <class T>
HWY_INLINE void add_magnitudes(std::int64_t n, T f, const T* HWY_RESTRICT x, T* HWY_RESTRICT y) {
  for_pieces<T>(n, [=](auto d, std::int64_t i) HWY_ATTR {
    hn::StoreU(hn::MulAdd(hn::Set(d, f), hn::Abs(hn::LoadU(d, x + i)), hn::LoadU(d, y + i)), d, y + i);
  });
}

/// y += f * x + g * z
template <class T>
HWY_INLINE void add_rows(std::int64_t n, T f, const T* HWY_RESTRICT x, T g, const T* HWY_RESTRICT z,
                         T* HWY_RESTRICT y) {
  for_pieces<T>(n, [=](auto d, std::int64_t i) HWY_ATTR {
    const auto sum = hn::MulAdd(hn::Set(d, f), hn::LoadU(d, x + i), hn::LoadU(d, y + i));
    hn::StoreU(hn::MulAdd(hn::Set(d, g), hn::LoadU(d, z + i), sum), d, y + i);
  });
}

/// x /= f
template <class T>
HWY_INLINE void divide_row(std::int64_t n, T f, T* x) {
  for_pieces<T>(
      n, [=](auto d, std::int64_t i) HWY_ATTR { hn::StoreU(hn::Div(hn::LoadU(d, x + i), hn::Set(d, f)), d, x + i); });
}

/// x *= f
template <class T>
HWY_INLINE void scale_row(std::int64_t n, T f, T* x) {
  for_pieces<T>(
      n, [=](auto d, std::int64_t i) HWY_ATTR { hn::StoreU(hn::Mul(hn::Set(d, f), hn::LoadU(d, x + i)), d, x + i); });
}

/// sum x_i y_i
template <class T>
HWY_INLINE T dot_rows(std::int64_t n, const T* x, const T* y) {
  const hn::ScalableTag<T> d;
  const std::int64_t N = lanes<T>();
  auto sum0 = hn::Zero(d);
  auto sum1 = hn::Zero(d);
  std::int64_t i = 0;
  for (; i + 2 * N <= n; i += 2 * N) {
    sum0 = hn::MulAdd(hn::LoadU(d, x + i), hn::LoadU(d, y + i), sum0);
    sum1 = hn::MulAdd(hn::LoadU(d, x + i + N), hn::LoadU(d, y + i + N), sum1);
  }
  for (; i + N <= n; i += N) sum0 = hn::MulAdd(hn::LoadU(d, x + i), hn::LoadU(d, y + i), sum0);
  T sum = i == 0 ? T(0) : hn::GetLane(hn::SumOfLanes(d, hn::Add(sum0, sum1)));
  const hn::CappedTag<T, 16 / sizeof(T)> quarter;
  const std::int64_t Q = static_cast<std::int64_t>(hn::Lanes(quarter));
  if (i + Q <= n) {
    auto rest = hn::Zero(quarter);
    for (; i + Q <= n; i += Q) rest = hn::MulAdd(hn::LoadU(quarter, x + i), hn::LoadU(quarter, y + i), rest);
    sum += hn::GetLane(hn::SumOfLanes(quarter, rest));
  }
  for (; i < n; ++i) sum += x[i] * y[i];
  return sum;
}

/// (x, y) <- (c x - s y, s x + c y)
template <class T>
HWY_INLINE void rotate_rows(std::int64_t n, T c, T s, T* HWY_RESTRICT x, T* HWY_RESTRICT y) {
  for_pieces<T>(n, [=](auto d, std::int64_t i) HWY_ATTR {
    const auto vc = hn::Set(d, c);
    const auto vs = hn::Set(d, s);
    const auto a = hn::LoadU(d, x + i);
    const auto b = hn::LoadU(d, y + i);
    hn::StoreU(hn::NegMulAdd(vs, b, hn::Mul(vc, a)), d, x + i);
    hn::StoreU(hn::MulAdd(vs, a, hn::Mul(vc, b)), d, y + i);
  });
}

/// x.x, y.y and x.y in one pass.
template <class T>
HWY_INLINE void dots_of_pair(std::int64_t n, const T* x, const T* y, T* xx, T* yy, T* xy) {
  const hn::ScalableTag<T> d;
  const std::int64_t N = lanes<T>();
  auto sum_xx = hn::Zero(d);
  auto sum_yy = hn::Zero(d);
  auto sum_xy = hn::Zero(d);
  std::int64_t i = 0;
  for (; i + N <= n; i += N) {
    const auto a = hn::LoadU(d, x + i);
    const auto b = hn::LoadU(d, y + i);
    sum_xx = hn::MulAdd(a, a, sum_xx);
    sum_yy = hn::MulAdd(b, b, sum_yy);
    sum_xy = hn::MulAdd(a, b, sum_xy);
  }
  *xx = hn::GetLane(hn::SumOfLanes(d, sum_xx));
  *yy = hn::GetLane(hn::SumOfLanes(d, sum_yy));
  *xy = hn::GetLane(hn::SumOfLanes(d, sum_xy));
  for (; i < n; ++i) {
    *xx += x[i] * x[i];
    *yy += y[i] * y[i];
    *xy += x[i] * y[i];
  }
}

/// H = I - tau v v^T with v_0 = 1 that maps x (stride ld) to (beta, 0, ...). x is overwritten by beta and v_1, ...
/// The norm is taken of x / max|x|, which can neither overflow nor vanish. So is everything if x is so small that its
/// quotients would lose digits (what is left of a matrix of low rank after some steps): H must be orthogonal all the same.
template <class T>
T reflector(T* x, std::int64_t count, std::int64_t ld) {
  T largest = T(0);
  for (std::int64_t i = 1; i < count; ++i) largest = std::max(largest, std::abs(x[i * ld]));
  if (largest == T(0)) return T(0);
  largest = std::max(largest, std::abs(x[0]));
  T scale = T(1);
  if (largest < std::numeric_limits<T>::min() / std::numeric_limits<T>::epsilon()) {
    scale = largest;
    for (std::int64_t i = 0; i < count; ++i) x[i * ld] /= scale;
    largest = T(1);
  }
  T sum = T(0);
  for (std::int64_t i = 0; i < count; ++i) {
    const T scaled = x[i * ld] / largest;
    sum += scaled * scaled;
  }
  const T beta = -std::copysign(largest * std::sqrt(sum), x[0]);
  const T head = x[0] - beta;
  for (std::int64_t i = 1; i < count; ++i) x[i * ld] /= head;
  const T tau = -head / beta;
  x[0] = beta * scale;
  return tau;
}

}  // namespace solvent::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
