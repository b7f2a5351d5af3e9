#pragma once
/// Softmax and its relatives on a GPU, for one floating type: included by softmax_f32.cu and softmax_f64.cu.
///
/// The design is that of core/cuda/rows.h, and so is what bounds them: memory, in double also the exponentials (one per
/// element). The summary of a part of a row is its largest element m and the sum of e^(x - m); summaries are merged as in
/// Milakov & Gimelshein 2018 ("Online normalizer calculation for softmax"), sums in double.
///
/// Limits as on the CPU: NaN anywhere makes the whole row NaN, and so do +inf or a row of -inf, but for logsumexp, which
/// then is that infinity. To tell them apart, an element equal to m counts as 1 even if m is infinite: the sum is NaN only
/// if an element is.

#include <cmath>
#include <cstdint>
#include <limits>

#include "solvent/core/cuda/rows.h"
#include "solvent/ops/cuda/row_kernels.h"

namespace solvent::cuda {
namespace {

struct Largest {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return std::fmax(a, b);
  }
};

template <class T>
struct ExpSum {
  T largest;
  double sum;
};

/// What the functions below share. kReplace: the elements held become e^(x - m).
template <class T, bool kReplace>
struct ExpSumRow {
  using Element = T;
  using Summary = ExpSum<T>;
  using Parameters = NoParameters;
  static constexpr int kInputs = 1;
  NoParameters parameters;
  T lowest = -std::numeric_limits<T>::infinity();  // device code has no numeric_limits

  __device__ static T term(T x, T largest) { return x == largest ? T{1} : std::exp(x - largest); }

  template <class Team, class Columns, int kHeld>
  __device__ Summary summarise(const Team& team, T (&x)[1][kHeld], int count, const Columns&) const {
    T largest = lowest;
    for (int e = 0; e < kHeld; ++e)
      if (e < count) largest = std::fmax(largest, x[0][e]);
    largest = team.fold(largest, lowest, Largest{});
    T sum = 0;
    for (int e = 0; e < kHeld; ++e) {
      if (e >= count) continue;
      const T value = term(x[0][e], largest);
      if constexpr (kReplace) x[0][e] = value;
      sum += value;
    }
    return {largest, team.fold(static_cast<double>(sum), 0.0, Plus{})};
  }
  __device__ Summary neutral() const { return {lowest, 0.0}; }
  __device__ Summary merge(const Summary& a, const Summary& b) const {
    const T largest = std::fmax(a.largest, b.largest);
    return {largest, scaled(a, largest) + scaled(b, largest)};
  }
  __device__ static double scaled(const Summary& a, T largest) {
    return a.largest == largest ? a.sum : a.sum * std::exp(static_cast<double>(a.largest - largest));
  }
  /// `value`, NaN if the largest element is infinite: then inf - inf decides on the CPU.
  __device__ static T unless_infinite(T value, const Summary& s) {
    const T zero_or_nan = s.largest - s.largest;
    return value + zero_or_nan;
  }
};

template <class T>
struct SoftmaxRow : ExpSumRow<T, true> {
  using Summary = ExpSum<T>;
  struct Factors {
    T largest;
    T factor;
  };
  static constexpr bool kWrites = true;
  __device__ Factors prepare(const Summary& s, std::int64_t, bool) const {
    return {s.largest, this->unless_infinite(static_cast<T>(1.0 / s.sum), s)};
  }
  template <bool kKept>
  __device__ T finish(const Factors& f, const T (&x)[1], NoParameters::Values, std::int64_t) const {
    return (kKept ? x[0] : std::exp(x[0] - f.largest)) * f.factor;
  }
};

template <class T>
struct LogSoftmaxRow : ExpSumRow<T, false> {
  using Summary = ExpSum<T>;
  struct Factors {
    T largest;
    T rest;
  };
  static constexpr bool kWrites = true;
  __device__ Factors prepare(const Summary& s, std::int64_t, bool) const {
    return {s.largest, this->unless_infinite(static_cast<T>(std::log(s.sum)), s)};
  }
  // One after the other: the sum of both would lose the digits of a dominant element.
  template <bool kKept>
  __device__ T finish(const Factors& f, const T (&x)[1], NoParameters::Values, std::int64_t) const {
    return x[0] - f.largest - f.rest;
  }
};

/// With labels: minus the element that the label names.
template <class T>
struct LogsumexpRow : ExpSumRow<T, false> {
  using Summary = ExpSum<T>;
  struct Factors {};
  static constexpr bool kWrites = false;
  const T* x;
  const std::int64_t* label;  // or null
  std::int64_t columns;
  T* y;
  __device__ Factors prepare(const Summary& s, std::int64_t row, bool is_first) const {
    if (!is_first) return {};
    T value = s.largest + static_cast<T>(std::log(s.sum));
    if (label != nullptr) {
      const std::int64_t j = label[row];
      value -= j >= 0 && j < columns ? x[row * columns + j] : this->lowest - this->lowest;
    }
    y[row] = value;
    return {};
  }
  template <bool kKept>
  __device__ T finish(const Factors&, const T (&)[1], NoParameters::Values, std::int64_t) const {
    return T{0};
  }
};

template <class T>
struct CrossEntropyGradRow : ExpSumRow<T, true> {
  using Summary = ExpSum<T>;
  struct Factors {
    T largest;
    T factor;
    std::int64_t label;
  };
  static constexpr bool kWrites = true;
  const std::int64_t* label;
  std::int64_t columns;
  T share;
  __device__ Factors prepare(const Summary& s, std::int64_t row, bool) const {
    const std::int64_t j = label[row];
    T factor = this->unless_infinite(static_cast<T>(1.0 / s.sum) * share, s);
    if (j < 0 || j >= columns) factor = this->lowest - this->lowest;
    return {s.largest, factor, j};
  }
  template <bool kKept>
  __device__ T finish(const Factors& f, const T (&x)[1], NoParameters::Values, std::int64_t column) const {
    const T value = (kKept ? x[0] : std::exp(x[0] - f.largest)) * f.factor;
    return column == f.label ? value - share : value;
  }
};

/// g, y -> y (g - sum(g y))
template <class T>
struct SoftmaxGradRow {
  using Element = T;
  using Summary = double;
  using Factors = T;
  using Parameters = NoParameters;
  static constexpr int kInputs = 2;
  static constexpr bool kWrites = true;
  NoParameters parameters;
  template <class Team, class Columns, int kHeld>
  __device__ Summary summarise(const Team& team, T (&x)[2][kHeld], int count, const Columns&) const {
    T sum = 0;
    for (int e = 0; e < kHeld; ++e)
      if (e < count) sum += x[0][e] * x[1][e];
    return team.fold(static_cast<double>(sum), 0.0, Plus{});
  }
  __device__ Summary neutral() const { return 0.0; }
  __device__ Summary merge(const Summary& a, const Summary& b) const { return a + b; }
  __device__ Factors prepare(const Summary& s, std::int64_t, bool) const { return static_cast<T>(s); }
  template <bool kKept>
  __device__ T finish(const Factors& sum, const T (&x)[2], NoParameters::Values, std::int64_t) const {
    return x[1] * (x[0] - sum);
  }
};

}  // namespace

template <class T>
void softmax(const Rows& r, const T* x, T* y) {
  map_rows("softmax", r.device, SoftmaxRow<T>{}, {x}, y, r.rows, r.columns);
}

template <class T>
void log_softmax(const Rows& r, const T* x, T* y) {
  map_rows("log_softmax", r.device, LogSoftmaxRow<T>{}, {x}, y, r.rows, r.columns);
}

template <class T>
void logsumexp(const Rows& r, const T* x, T* y) {
  cross_entropy<T>(r, x, nullptr, y);
}

template <class T>
void softmax_backward(const Rows& r, const T* g, const T* y, T* gx) {
  map_rows("softmax_grad", r.device, SoftmaxGradRow<T>{}, {g, y}, gx, r.rows, r.columns);
}

template <class T>
void cross_entropy(const Rows& r, const T* x, const std::int64_t* label, T* loss) {
  LogsumexpRow<T> f{};
  f.x = x;
  f.label = label;
  f.columns = r.columns;
  f.y = loss;
  T* const none = nullptr;
  map_rows(label == nullptr ? "logsumexp" : "cross_entropy", r.device, f, {x}, none, r.rows, r.columns);
}

template <class T>
void cross_entropy_backward(const Rows& r, T share, const T* x, const std::int64_t* label, T* gx) {
  CrossEntropyGradRow<T> f{};
  f.label = label;
  f.columns = r.columns;
  f.share = share;
  map_rows("cross_entropy_grad", r.device, f, {x}, gx, r.rows, r.columns);
}

}  // namespace solvent::cuda
