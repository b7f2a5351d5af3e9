// The matrix exponential, phi1 and their Frechet derivatives on GPUs: the algorithm of cpu/exponential_core.cpp (see there
// for sources) for whole batches.
//
// All matrices of a batch go through the same products, linear systems and sums; only the number of halvings, chosen for
// each matrix on the device by norms of its powers, differs: a matrix that needs fewer doublings keeps its result in the
// last ones. A derivative carries D tangents as one (n, D n) matrix beside the value, so that the product of jets
// (a, da) (b, db) = (ab, a db + da b) is three products: a db with all tangents side by side, da b with all tangents one
// below the other, which is the same memory. Bound by those products (15 to 25 for each matrix).
// Deterministic: products and systems are, the rest is elementwise or a sum in fixed order.

#include "solvent/ops/cuda/exponential.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "solvent/core/cuda/checks.h"
#include "solvent/core/cuda/launch.h"
#include "solvent/core/cuda/runtime.h"
#include "solvent/ops/cuda/linalg.h"
#include "solvent/ops/cuda/matrix_block.h"
#include "solvent/ops/matrix_errors.h"

namespace solvent::cuda {
namespace {

using cpu::kPade13;
using cpu::kPade7;
using cpu::MatrixFn;

// As `large` of cpu/exponential_core.cpp.
template <class T>
struct Choice;
template <>
struct Choice<double> {
  static constexpr int kDegree = 13;
  static constexpr double kTheta = 5.37, kThetaDerivative = 4.74, kLog2Error = -116.44;
};
template <>
struct Choice<float> {
  static constexpr int kDegree = 7;
  static constexpr double kTheta = 3.9, kThetaDerivative = 3.0, kLog2Error = -51.99;
};

// Tangents that are carried at once have at most this many elements.
constexpr std::int64_t kMostElements = std::int64_t{1} << 25;

// --- kernels --------------------------------------------------------------------------------------------------------------

constexpr int kMostTerms = 4;

template <class T>
struct Terms {
  const T* x[kMostTerms];
  T factor[kMostTerms];
  int count;
};

// to = unit * identity + sum of terms; `to` may be one of them.
template <class T>
__global__ void combine_kernel(Terms<T> terms, T unit, std::int64_t n, T* to, std::int64_t total) {
  for (std::int64_t e = global_thread(); e < total; e += grid_threads()) {
    T sum = terms.factor[0] * terms.x[0][e];
    for (int t = 1; t < kMostTerms; ++t)
      if (t < terms.count) sum = std::fma(terms.factor[t], terms.x[t][e], sum);
    if (unit != T(0) && e % (n * n) % (n + 1) == 0) sum += unit;
    to[e] = sum;
  }
}

// In matrices that are doubled at this step: to <- other, or with `mean` the mean of both.
template <class T>
__global__ void take_kernel(const std::int64_t* halvings, std::int64_t step, bool mean, const T* other, T* to,
                            std::int64_t each, std::int64_t total) {
  for (std::int64_t e = global_thread(); e < total; e += grid_threads())
    if (step < halvings[e / each]) to[e] = mean ? T(0.5) * (other[e] + to[e]) : other[e];
}

// x <- x 2^(factor (more - less)), NaN where `more` is -1.
template <class T>
__global__ void scale_kernel(const std::int64_t* more, const std::int64_t* less, int factor, T* x, std::int64_t each,
                             std::int64_t total) {
  for (std::int64_t e = global_thread(); e < total; e += grid_threads()) {
    const std::int64_t m = e / each;
    const std::int64_t exponent = factor * (more[m] - (less != nullptr ? less[m] : 0));
    if (more[m] < 0) {
      x[e] = std::numeric_limits<T>::quiet_NaN();
    } else if (exponent != 0) {
      x[e] = std::scalbn(x[e], static_cast<int>(exponent));
    }
  }
}

struct LargestOrNan {
  __device__ double operator()(double a, double b) const {
    if (a != a) return a;
    return a >= b ? a : b;
  }
};

// Largest sum of magnitudes in a column, in every thread.
template <class T>
__device__ double column_norm(const T* a, std::int64_t n) {
  double largest = 0.0;
  for (std::int64_t j = threadIdx.x; j < n; j += blockDim.x) {
    double sum = 0.0;
    for (std::int64_t i = 0; i < n; ++i) sum += std::fabs(static_cast<double>(a[i * n + j]));
    largest = LargestOrNan{}(sum, largest);
  }
  return block_fold(largest, 0.0, LargestOrNan{});
}

// Halvings after which the norm is at most theta; -1 if it is not finite.
template <class T>
__global__ void norms_kernel(const T* a, std::int64_t n, std::int64_t count, double theta, double* norms,
                             std::int64_t* most) {
  for (std::int64_t m = blockIdx.x; m < count; m += gridDim.x) {
    const double norm = column_norm(a + m * n * n, n);
    if (threadIdx.x != 0) continue;
    norms[m] = norm;
    const bool is_finite = norm <= std::numeric_limits<double>::max();
    most[m] = !is_finite ? -1 : norm > theta ? static_cast<std::int64_t>(std::ceil(std::log2(norm / theta))) : 0;
  }
}

// log2 of the column norm of |x|^power, in every thread; v and w have n elements of shared memory.
template <class T>
__device__ double log2_norm_of_power(const T* x, std::int64_t n, int power, double* v, double* w) {
  for (std::int64_t j = threadIdx.x; j < n; j += blockDim.x) v[j] = 1.0;
  for (int step = 0; step < power; ++step) {
    __syncthreads();
    for (std::int64_t j = threadIdx.x; j < n; j += blockDim.x) {
      double sum = 0.0;
      for (std::int64_t i = 0; i < n; ++i) sum += v[i] * std::fabs(static_cast<double>(x[i * n + j]));
      w[j] = sum;
    }
    double* const swap = v;
    v = w;
    w = swap;
  }
  double largest = 0.0;
  for (std::int64_t j = threadIdx.x; j < n; j += blockDim.x) largest = LargestOrNan{}(v[j], largest);
  largest = block_fold(largest, 0.0, LargestOrNan{});
  __syncthreads();
  return std::log2(largest);
}

// Halvings by the norms of powers (Al-Mohy & Higham 2009, algorithms 3.1 and 5.1) of x halved `most` times: at least 0, at
// most `most`.
template <class T>
__global__ void refine_kernel(const T* x, const T* x4, const T* x6, std::int64_t n, std::int64_t count, double theta,
                              const double* norms, const std::int64_t* most, std::int64_t* halvings) {
  double* const v = dynamic_shared<double>();
  double* const w = v + n;
  constexpr int kDegree = Choice<T>::kDegree;
  for (std::int64_t m = blockIdx.x; m < count; m += gridDim.x) {
    const std::int64_t limit = most[m];
    std::int64_t chosen = limit;
    if (limit > 0) {  // the same in all threads
      const double fourth = std::pow(column_norm(x4 + m * n * n, n), 0.25);
      const double sixth = std::pow(column_norm(x6 + m * n * n, n), 1.0 / 6.0);
      const double size = fourth > sixth ? fourth : sixth;
      chosen = size > 0.0 ? limit + static_cast<std::int64_t>(std::ceil(std::log2(size / theta))) : 0;
      chosen = std::min(std::max<std::int64_t>(chosen, 0), limit);
      const double power = log2_norm_of_power(x + m * n * n, n, 2 * kDegree + 1, v, w);
      const double norm = std::scalbn(norms[m], -static_cast<int>(limit));
      const double error = Choice<T>::kLog2Error + power - std::log2(norm) +
                           2.0 * kDegree * static_cast<double>(limit - chosen) + std::numeric_limits<T>::digits;
      if (error > 0.0) chosen += static_cast<std::int64_t>(std::ceil(error / (2 * kDegree)));
      chosen = std::min(chosen, limit);
    }
    if (threadIdx.x == 0) halvings[m] = chosen;
  }
}

// --- jets -----------------------------------------------------------------------------------------------------------------

/// Values (count, n, n) and tangents (count, n, D, n); without tangents those are undefined.
struct Jet {
  Tensor value;
  Tensor tangents;
};

template <class T>
class Batch {
 public:
  Batch(std::int64_t n, std::int64_t count, std::int64_t directions, Device device)
      : n_(n), count_(count), directions_(directions), device_(device) {}

  [[nodiscard]] Jet make() const {
    return {engine::empty({count_, n_, n_}, dtype_of<T>, device_),
            directions_ > 0 ? engine::empty({count_, n_, directions_, n_}, dtype_of<T>, device_) : Tensor()};
  }

  [[nodiscard]] Jet product(const Jet& a, const Jet& b) const {
    Jet c{matmul(a.value, b.value), Tensor()};
    if (directions_ == 0) return c;
    c.tangents = matmul(a.value, wide(b.tangents));
    const Tensor other = matmul(tall(a.tangents), b.value);
    combine_one(c.tangents, T(0), {{T(1), &c.tangents}, {T(1), &other}});
    c.tangents = engine::view(c.tangents, {count_, n_, directions_, n_},
                              contiguous_strides({count_, n_, directions_, n_}), c.tangents.impl()->offset);
    return c;
  }

  struct Term {
    double factor;
    const Jet* jet;
  };
  /// unit * identity + sum of terms
  [[nodiscard]] Jet combine(double unit, const std::vector<Term>& terms) const {
    Jet to = make();
    std::vector<Part> values;
    std::vector<Part> tangents;
    for (const Term& t : terms) {
      values.push_back({static_cast<T>(t.factor), &t.jet->value});
      tangents.push_back({static_cast<T>(t.factor), &t.jet->tangents});
    }
    combine_one(to.value, static_cast<T>(unit), values);
    if (directions_ > 0) combine_one(to.tangents, T(0), tangents);
    return to;
  }

  /// d^-1 y; the value of d is destroyed.
  [[nodiscard]] Jet solve(Jet& d, const Jet& y) const {
    const LuState lu = factor_lu<T>(d.value, n_, count_);
    Jet x = make();
    solve_lu<T>(d.value, lu, n_, count_, y.value, x.value, n_);
    if (directions_ == 0) return x;
    const Tensor known = matmul(tall(d.tangents), x.value);
    Tensor right = engine::empty(y.tangents.shape(), dtype_of<T>, device_);
    combine_one(right, T(0), {{T(1), &y.tangents}, {T(-1), &known}});
    solve_lu<T>(d.value, lu, n_, count_, right, x.tangents, directions_ * n_);
    return x;
  }

  void take(const Tensor& halvings, std::int64_t step, bool mean, const Jet& other, Jet& to) const {
    take_one(halvings, step, mean, other.value, to.value);
    if (directions_ > 0) take_one(halvings, step, mean, other.tangents, to.tangents);
  }

  void scale(const Tensor& more, const Tensor* less, int factor, Jet& x) const {
    scale_one(more, less, factor, x.value);
    if (directions_ > 0) scale_one(more, less, factor, x.tangents);
  }

 private:
  struct Part {
    T factor;
    const Tensor* x;
  };

  // Tangents side by side, and one below the other.
  [[nodiscard]] Tensor wide(const Tensor& t) const { return reshaped(t, {count_, n_, directions_ * n_}); }
  [[nodiscard]] Tensor tall(const Tensor& t) const { return reshaped(t, {count_, n_ * directions_, n_}); }
  static Tensor reshaped(const Tensor& t, const Shape& shape) {
    return engine::view(t, shape, contiguous_strides(shape), t.impl()->offset);
  }

  void combine_one(Tensor& to, T unit, const std::vector<Part>& parts) const {
    Terms<T> terms{};
    for (const Part& part : parts) {
      terms.factor[terms.count] = part.factor;
      terms.x[terms.count++] = engine::ptr<T>(*part.x);
    }
    const std::int64_t total = to.numel();
    launch(over_elements("expm", total, device_), combine_kernel<T>, terms, unit, n_, engine::mutable_ptr<T>(to),
           total);
  }

  void take_one(const Tensor& halvings, std::int64_t step, bool mean, const Tensor& other, Tensor& to) const {
    const std::int64_t total = to.numel();
    launch(over_elements("expm", total, device_), take_kernel<T>, engine::ptr<std::int64_t>(halvings), step, mean,
           engine::ptr<T>(other), engine::mutable_ptr<T>(to), total / count_, total);
  }

  void scale_one(const Tensor& more, const Tensor* less, int factor, Tensor& x) const {
    const std::int64_t total = x.numel();
    launch(over_elements("expm", total, device_), scale_kernel<T>, engine::ptr<std::int64_t>(more),
           less != nullptr ? engine::ptr<std::int64_t>(*less) : nullptr, factor, engine::mutable_ptr<T>(x),
           total / count_, total);
  }

  std::int64_t n_, count_, directions_;
  Device device_;
};

// --- the algorithm --------------------------------------------------------------------------------------------------------

struct Powers {
  Jet x, x2, x4, x6;
};

// odd = P(x^2) with U = x P, even = V, both divided by v_0.
template <class T>
void pade_polynomials(const Batch<T>& batch, const Powers& p, Jet& odd, Jet& even) {
  if constexpr (Choice<T>::kDegree == 7) {
    const auto c = [](int k) { return kPade7[k] / kPade7[0]; };
    odd = batch.combine(c(1), {{c(7), &p.x6}, {c(5), &p.x4}, {c(3), &p.x2}});
    even = batch.combine(1.0, {{c(6), &p.x6}, {c(4), &p.x4}, {c(2), &p.x2}});
  } else {
    const auto c = [](int k) { return kPade13[k] / kPade13[0]; };
    odd = batch.product(p.x6, batch.combine(0.0, {{c(13), &p.x6}, {c(11), &p.x4}, {c(9), &p.x2}}));
    odd = batch.combine(c(1), {{1.0, &odd}, {c(7), &p.x6}, {c(5), &p.x4}, {c(3), &p.x2}});
    even = batch.product(p.x6, batch.combine(0.0, {{c(12), &p.x6}, {c(10), &p.x4}, {c(8), &p.x2}}));
    even = batch.combine(1.0, {{1.0, &even}, {c(6), &p.x6}, {c(4), &p.x4}, {c(2), &p.x2}});
  }
}

template <class T>
Jet doubled(const Batch<T>& batch, MatrixFn fn, const Jet& x, Jet r, const Tensor& halvings, std::int64_t most) {
  if (fn == MatrixFn::exp) {
    for (std::int64_t step = 0; step < most; ++step) batch.take(halvings, step, false, batch.product(r, r), r);
    return r;
  }
  if (most == 0) return r;
  Jet e = batch.product(x, r);  // e^x = 1 + x phi1(x)
  e = batch.combine(1.0, {{1.0, &e}});
  for (std::int64_t step = 0; step < most; ++step) {
    batch.take(halvings, step, true, batch.product(e, r), r);
    if (step + 1 < most) batch.take(halvings, step, false, batch.product(e, e), e);
  }
  return r;
}

// A graph doubles so many times, whatever its inputs: enough for norms up to 4096 theta, where e^x of most matrices is beyond
// the range of float64. The others keep their result in the last doublings, so the bits are those of a call outside of graphs.
constexpr std::int64_t kRecordedDoublings = 12;

// state[m] becomes -1, or the number of halvings where it is beyond what a graph does.
__global__ void too_many_kernel(const std::int64_t* halvings, std::int64_t count, std::int64_t* state) {
  for (std::int64_t m = global_thread(); m < count; m += grid_threads())
    state[m] = halvings[m] > kRecordedDoublings ? halvings[m] : -1;
}

// How often to double: the most of the batch, for which the host waits, or all that a graph does.
std::int64_t doublings_for(const Tensor& halvings, MatrixFn fn) {
  const Device device = halvings.device();
  const std::int64_t count = halvings.numel();
  const auto* const each = engine::ptr<std::int64_t>(halvings);
  if (!is_recording(current_stream(device))) {
    std::vector<std::int64_t> on_host(static_cast<std::size_t>(count));
    copy_to_host(on_host.data(), each, on_host.size() * sizeof(std::int64_t), device);
    return std::max<std::int64_t>(*std::max_element(on_host.begin(), on_host.end()), 0);
  }
  Tensor state = engine::empty({count}, DType::int64, device);
  launch(over_elements("expm", count, device), too_many_kernel, each, count, engine::mutable_ptr<std::int64_t>(state));
  check_states(state, count, 1, [fn, count](std::int64_t needed, std::int64_t matrix) {
    detail::throw_too_many_doublings(fn == MatrixFn::exp ? "expm" : "phi1", matrix, count, needed, kRecordedDoublings);
  });
  return kRecordedDoublings;
}

// f of matrices in p.x, whose memory is scaled in place.
template <class T>
Jet evaluate(const Batch<T>& batch, MatrixFn fn, std::int64_t n, std::int64_t count, double theta, Powers p) {
  const Device device = p.x.value.device();
  Tensor norms = engine::empty({count}, DType::float64, device);
  Tensor most = engine::empty({count}, DType::int64, device);
  Tensor halvings = engine::empty({count}, DType::int64, device);
  launch(over_blocks("expm", count, device, threads_for(n)), norms_kernel<T>, engine::ptr<T>(p.x.value), n, count,
         theta, engine::mutable_ptr<double>(norms), engine::mutable_ptr<std::int64_t>(most));
  Tensor none = zeros({count}, {DType::int64, device});
  batch.scale(none, &most, 1, p.x);  // x 2^-most
  batch.scale(most, &most, 1, p.x);  // NaN where the norm is not finite
  p.x2 = batch.product(p.x, p.x);
  p.x4 = batch.product(p.x2, p.x2);
  p.x6 = batch.product(p.x4, p.x2);
  const auto shared = static_cast<std::size_t>(2 * n) * sizeof(double);
  if (shared <= shared_limit(device)) {
    Launch where = over_blocks("expm", count, device, threads_for(n));
    where.shared_bytes = shared;
    launch(where, refine_kernel<T>, engine::ptr<T>(p.x.value), engine::ptr<T>(p.x4.value), engine::ptr<T>(p.x6.value),
           n, count, theta, engine::ptr<double>(norms), engine::ptr<std::int64_t>(most),
           engine::mutable_ptr<std::int64_t>(halvings));
  } else {
    engine::copy_into(most, halvings);
  }
  const std::int64_t doublings = doublings_for(halvings, fn);
  Jet* const scaled[] = {&p.x, &p.x2, &p.x4, &p.x6};
  for (int i = 0; i < 4; ++i) batch.scale(most, &halvings, i == 0 ? 1 : 2 * i, *scaled[i]);
  Jet odd;
  Jet even;
  pade_polynomials(batch, p, odd, even);
  const Jet u = batch.product(p.x, odd);
  Jet denominator = batch.combine(0.0, {{1.0, &even}, {-1.0, &u}});
  Jet r = fn == MatrixFn::exp ? batch.combine(0.0, {{1.0, &even}, {1.0, &u}}) : batch.combine(0.0, {{2.0, &odd}});
  r = batch.solve(denominator, r);
  return doubled(batch, fn, p.x, std::move(r), halvings, doublings);
}

// (count, D, n, n) over memory in the order (count, n, D, n).
Tensor by_direction(const Tensor& t) {
  const Shape& s = t.shape();
  return engine::view(t, {s[0], s[2], s[1], s[3]}, {t.strides()[0], t.strides()[2], t.strides()[1], t.strides()[3]},
                      t.impl()->offset);
}

// Derivatives at a (count, n, n) in directions e (count, D, n, n), both dense.
template <class T>
void derivatives(MatrixFn fn, const Tensor& a, const Tensor& e, Tensor& out) {
  const std::int64_t count = e.shape()[0];
  const std::int64_t all = e.shape()[1];
  const std::int64_t n = e.shape()[2];
  const std::int64_t at_once = std::clamp<std::int64_t>(kMostElements / (count * n * n), 1, all);
  for (std::int64_t first = 0; first < all; first += at_once) {
    const std::int64_t directions = std::min(at_once, all - first);
    const Batch<T> batch(n, count, directions, a.device());
    Powers p;
    p.x = batch.make();
    engine::copy_into(a, p.x.value);
    const Shape shape{count, directions, n, n};
    Tensor tangents = by_direction(p.x.tangents);
    engine::copy_into(engine::view(e, shape, e.strides(), e.impl()->offset + first * n * n), tangents);
    const Jet r = evaluate(batch, fn, n, count, Choice<T>::kThetaDerivative, std::move(p));
    Tensor to = engine::view(out, shape, out.strides(), out.impl()->offset + first * n * n);
    engine::copy_into(by_direction(r.tangents), to);
  }
}

}  // namespace

Tensor matrix_function(MatrixFn fn, const Tensor& a) {
  if (a.numel() == 0) return engine::empty(a.shape(), a.dtype(), a.device());
  const std::int64_t n = a.size(-1);
  const std::int64_t count = a.numel() / (n * n);
  Tensor copy = engine::empty(a.shape(), a.dtype(), a.device());
  engine::copy_into(a, copy);
  Tensor result;
  dispatch_float(a.dtype(), "expm", [&](auto tag) {
    using T = typename decltype(tag)::type;
    Powers p;
    p.x.value = engine::view(copy, {count, n, n}, contiguous_strides({count, n, n}), copy.impl()->offset);
    const Batch<T> batch(n, count, 0, a.device());
    result = evaluate(batch, fn, n, count, Choice<T>::kTheta, std::move(p)).value;
  });
  return engine::view(result, a.shape(), contiguous_strides(a.shape()), result.impl()->offset);
}

Tensor matrix_function_derivative(MatrixFn fn, const Tensor& a, const Tensor& e) {
  if (e.numel() == 0) return engine::empty(e.shape(), e.dtype(), e.device());
  const cpu::ExponentialOrder order = cpu::order_axes(a, e);
  const std::int64_t n = e.size(-1);
  const std::int64_t count = order.a.numel() / (n * n);
  const Shape e_shape{count, e.numel() / (count * n * n), n, n};
  const auto dense = [](const Tensor& t, const Shape& shape) {
    return engine::view(t, shape, contiguous_strides(shape), t.impl()->offset);
  };
  Tensor out = engine::empty(order.e.shape(), e.dtype(), e.device());
  dispatch_float(e.dtype(), "expm", [&](auto tag) {
    Tensor to = dense(out, e_shape);
    derivatives<typename decltype(tag)::type>(fn, dense(order.a, {count, n, n}), dense(order.e, e_shape), to);
  });
  return cpu::restore_axes(order, out, e.shape());
}

}  // namespace solvent::cuda
